"""Legacy jobs, and their stream of events: whole, live, kept alive, resumed."""

import http.client
import json
import threading
from typing import Any

import pytest

from hone.service.jobs.claims import Claims
from hone.service.jobs.events import NewEvent
from hone.service.jobs.messages import given_up
from tests.service.openai_jobs.conftest import Workbench
from tests.service.openai_jobs.streams import TUNES, Stream


@pytest.fixture(scope="module")
def training_file(workbench: Workbench) -> str:
    return workbench.upload("legacy.jsonl")


def test_a_fine_tune_names_its_files_whole_and_shows_null_for_what_is_not_settled(
    workbench: Workbench, training_file: str
) -> None:
    made = workbench.made(TUNES, training_file=training_file, suffix="mine", n_epochs=4)
    assert (made["object"], made["status"], made["model"]) == ("fine-tune", "pending", "curie")
    assert [file["id"] for file in made["training_files"]] == [training_file]
    assert made["hyperparams"] == {
        "n_epochs": 4,
        "batch_size": None,
        "learning_rate_multiplier": None,
    }
    found = workbench.ask("GET", f"{TUNES}/{made['id']}").json()
    assert [event["message"] for event in found["events"]] == [f"Created fine-tune: {made['id']}"]
    listed = workbench.ask("GET", TUNES).json()["data"]
    assert listed[-1]["id"] == made["id"]
    assert workbench.ask("GET", f"/v1/fine_tuning/jobs/{made['id']}").status == 404
    assert workbench.ask("DELETE", f"{TUNES}/{made['id']}").error()["code"] == "invalid_state"
    cancelled = workbench.ask("POST", f"{TUNES}/{made['id']}/cancel").json()
    assert cancelled["status"] == "cancelled"
    assert cancelled["events"][-1]["message"] == "Fine-tune cancelled"
    gone = workbench.ask("DELETE", f"{TUNES}/{made['id']}").json()
    assert gone == {"id": made["id"], "object": "fine-tune", "deleted": True}
    assert workbench.ask("GET", f"{TUNES}/{made['id']}").status == 404


def test_a_fine_tune_that_runs_is_cancelled_for_its_owner_at_once(
    workbench: Workbench, training_file: str
) -> None:
    id_ = workbench.made(TUNES, training_file=training_file)["id"]
    claim = workbench.claim(id_)
    cancelled = workbench.ask("POST", f"{TUNES}/{id_}/cancel").json()
    assert cancelled["status"] == "cancelled"
    assert workbench.ask("GET", f"{TUNES}/{id_}").json()["status"] == "cancelled"
    still = workbench.ask("DELETE", f"{TUNES}/{id_}").error()
    assert "still being cancelled" in still["message"]
    Claims(workbench.state.database, "a test").put_back(claim, events=given_up)
    ended = workbench.ask("GET", f"{TUNES}/{id_}").json()
    assert (ended["status"], ended["events"][-1]["message"]) == ("cancelled", "Fine-tune cancelled")
    assert workbench.ask("DELETE", f"{TUNES}/{id_}").json()["deleted"] is True


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"training_file": None}, "training_file"),
    ({"n_epochs": "auto"}, "n_epochs"),
    ({"batch_size": 300}, "batch_size"),
    ({"learning_rate_multiplier": -1}, "learning_rate_multiplier"),
    ({"prompt_loss_weight": 2}, "prompt_loss_weight"),
    ({"suffix": "x" * 41}, "suffix"),
    ({"classification_n_classes": 1}, "classification_n_classes"),
    ({"classification_positive_class": 1}, "classification_positive_class"),
    ({"classification_betas": [0]}, "classification_betas"),
    ({"classification_betas": "1"}, "classification_betas"),
    ({"compute_classification_metrics": True}, "validation_file"),
    ({"compute_classification_metrics": "yes"}, "compute_classification_metrics"),
    ({"seed": 3}, "seed"),
]


@pytest.mark.parametrize(("changes", "param"), WRONG)
def test_a_wrong_field_is_named(
    workbench: Workbench, training_file: str, changes: dict[str, Any], param: str
) -> None:
    answer = workbench.ask("POST", TUNES, {"training_file": training_file, **changes})
    assert (answer.status, answer.error()["param"]) == (400, param)


def test_classification_metrics_need_classes(workbench: Workbench, training_file: str) -> None:
    body = {
        "training_file": training_file,
        "validation_file": training_file,
        "compute_classification_metrics": True,
    }
    assert workbench.ask("POST", TUNES, body).error()["param"] == "classification_n_classes"
    assert workbench.ask("POST", TUNES, body | {"classification_n_classes": 2}).status == 200
    binary = {"classification_positive_class": " yes", "classification_betas": [0.5, 2]}
    assert workbench.ask("POST", TUNES, body | binary).status == 200


def test_a_stream_replays_goes_on_live_is_kept_alive_and_ends(
    workbench: Workbench, training_file: str
) -> None:
    id_ = workbench.made(TUNES, training_file=training_file, model="ada")["id"]
    stream = Stream(workbench, id_)
    assert stream.kind.startswith("text/event-stream")
    stream.wait(lambda s: s.pings() >= 2)
    claim = workbench.claim(id_)
    workbench.state.events.add(id_, [NewEvent("Fine-tune started")])
    stream.wait(lambda s: len(s.messages()) >= 2)
    done = workbench.succeed(claim, "Fine-tune succeeded")
    said = [f"Created fine-tune: {id_}", "Fine-tune started", "Fine-tune succeeded", "[DONE]"]
    assert stream.finish() == said
    assert Stream(workbench, id_).finish() == said
    assert Stream(workbench, id_, last=2).finish() == said[2:]
    assert workbench.ask("GET", f"{TUNES}/{id_}").json()["fine_tuned_model"] == (
        done.fine_tuned_model
    )


class Returning(threading.Thread):
    """A follower that loses its connection after every 70 events, and goes on where it was."""

    def __init__(self, workbench: Workbench, id_: str) -> None:
        super().__init__(daemon=True)
        self._workbench, self._id = workbench, id_
        self.said: list[str] = []
        self.connections = 0
        self.start()

    def run(self) -> None:
        last = 0
        while self.said[-1:] != ["[DONE]"]:
            self.connections += 1
            last = self._follow(last)

    def _follow(self, last: int) -> int:
        port = self._workbench.service.port
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        headers = {"Last-Event-ID": str(last)} if last else {}
        connection.request("GET", f"{TUNES}/{self._id}/events?stream=true", headers=headers)
        heard = 0
        for line in connection.getresponse():
            if line.startswith(b"id: "):
                last = int(line[4:])
            elif line.startswith(b"data: "):
                data = line[6:].decode().rstrip("\n")
                self.said.append(data if data == "[DONE]" else json.loads(data)["message"])
                heard += 1
                if heard == 70:
                    break
        connection.close()
        return last


def test_a_hundred_followers_that_come_late_or_return_miss_nothing_of_a_long_job(
    workbench: Workbench, training_file: str
) -> None:
    id_ = workbench.made(TUNES, training_file=training_file)["id"]
    claim = workbench.claim(id_)
    followers = [Stream(workbench, id_) for _ in range(85)]
    returning = [Returning(workbench, id_) for _ in range(10)]
    for block in range(5):
        told = [NewEvent(f"Step {block * 300 + n}") for n in range(300)]
        workbench.state.events.add(id_, told)
        followers.append(Stream(workbench, id_))
    workbench.succeed(claim)
    said = [f"Created fine-tune: {id_}", *(f"Step {n}" for n in range(1500)), "[DONE]"]
    assert all(stream.finish() == said for stream in followers)
    for follower in returning:
        follower.join(60)
        assert follower.said == said
        assert follower.connections > 20
    assert Stream(workbench, id_, last=700).finish() == said[700:]


def test_a_stream_of_a_job_that_is_not_there_is_a_404(workbench: Workbench) -> None:
    assert workbench.ask("GET", f"{TUNES}/ft-none/events?stream=true").status == 404
    made = workbench.ask("GET", TUNES).json()["data"][0]["id"]
    assert workbench.ask("GET", f"{TUNES}/{made}/events?stream=maybe").error()["param"] == "stream"
