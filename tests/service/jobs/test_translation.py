"""What a training process tells, as the API says it; and each end with its own code."""

from typing import Any

import pytest

from hone.service.jobs.database import Database
from hone.service.jobs.events import NewEvent
from hone.service.jobs.records import Job, Records
from hone.service.jobs.tasks.kinds import KINDS
from hone.service.jobs.translation import MOST_METRICS, Ending, Translator
from tests.service.jobs.jobs import new_job

KIND = KINDS["text-classification"]
SETTLED = {"event": "settled", "epochs": 10.0, "batch_size": 8, "steps_per_epoch": 100}


@pytest.fixture
def job(database: Database) -> Job:
    return Records(database).create(new_job())


def step(number: int, total: int = 1000) -> dict[str, Any]:
    return {"event": "step", "step": number, "total": total, "time": 1000.4, "seconds_left": 9.0,
            "series": [[number, 0.5, 0.75, number * 8, number * 100]]}  # fmt: skip


def evaluated(number: int) -> dict[str, Any]:
    return {"event": "evaluated", "step": number, "epoch": number / 100, "loss": 0.25,
            "accuracy": 0.9, "series": []}  # fmt: skip


def messages(translator: Translator) -> list[str]:
    return [event.message for event in translator.take().events]


def test_a_long_training_is_told_in_some_hundred_steps(job: Job) -> None:
    translator = Translator(job, "ft:a", KIND)
    translator.feed([SETTLED, *(step(n, 10_000) for n in range(1, 10_001))])
    told = [e for e in translator.take().events if e.type == "metrics"]
    assert MOST_METRICS <= len(told) <= MOST_METRICS + 2
    assert told[-1].message == "Step 10000/10000: training loss=0.50"
    assert told[-1].data == {
        "step": 10_000, "total_steps": 10_000, "train_loss": 0.5,
        "train_mean_token_accuracy": 0.75,
    }  # fmt: skip
    assert len(translator.found.rows) == 10_000
    assert translator.trained_tokens == 1_000_000


def test_an_evaluation_is_a_checkpoint_with_its_metrics(job: Job) -> None:
    translator = Translator(job, "ft:a", KIND)
    translator.feed([SETTLED, step(100), evaluated(100)])
    progress = translator.take()
    (kept,) = progress.checkpoints
    assert (kept.step, kept.model) == (100, "ft:a:ckpt-step-100")
    assert kept.metrics["full_valid_loss"] == 0.25
    assert kept.metrics["valid_mean_token_accuracy"] == 0.9
    assert progress.estimated_finish == 1009
    assert progress.settled is not None
    assert progress.events[-1].message == (
        "Step 100/1000: training loss=0.50, validation loss=0.25"
    )


def test_a_resumed_run_tells_nothing_twice(job: Job) -> None:
    before = Translator(job, "ft:a", KIND)
    before.feed([SETTLED, step(100), evaluated(100), step(150)], told_before=True)
    assert messages(before) == []
    before.feed([{"event": "run_started"}, SETTLED, step(100), evaluated(100), step(200)])
    assert messages(before)[1:] == ["Step 200/1000: training loss=0.50"]


def test_what_could_not_be_told_is_told_the_next_time_in_order(job: Job) -> None:
    translator = Translator(job, "ft:a", KIND)
    translator.feed([SETTLED, step(5)])
    first = translator.take()
    translator.say([NewEvent("later")])
    translator.put_back(first)
    again = translator.take()
    assert [*again.events[:-1]] == [*first.events]
    assert again.events[-1].message == "later"
    assert again.settled == first.settled


def test_few_steps_that_were_asked_for_are_warned_of(database: Database) -> None:
    job = Records(database).create(new_job(given={"n_epochs": 1}))
    translator = Translator(job, "ft:a", KIND)
    translator.feed([{**SETTLED, "epochs": 1.0}])
    assert translator.take().events[-1].level == "warn"


def test_a_loss_that_is_no_number_breaks_nothing(job: Job) -> None:
    translator = Translator(job, "ft:a", KIND)
    event = step(1000)
    event["series"][0][1] = None
    translator.feed([SETTLED, event])
    assert messages(translator)[-1] == "Step 1000/1000: training loss=none"


def end(job: Job, status: int, errors: str = "", *events: dict[str, Any]) -> str:
    translator = Translator(job, "ft:a", KIND)
    translator.feed([{"event": "run_started"}, *events])
    return translator.failure(Ending("train", status, errors)).code


FAILED = {"event": "failed", "message": "/a/path: a library's words"}
ENDS: list[tuple[tuple[Any, ...], str]] = [
    ((71,), "out_of_memory"),
    ((74,), "disk_full"),
    ((-9,), "out_of_memory"),
    ((137,), "out_of_memory"),
    ((-6, "terminate called after throwing an instance of 'std::bad_alloc'"), "out_of_memory"),
    ((1, "ImportError: failed to map segment from shared object"), "out_of_memory"),
    ((1, "OSError: [Errno 28] No space left on device"), "disk_full"),
    ((1, "", {**FAILED, "code": "out_of_memory"}), "out_of_memory"),
    ((1, "", {**FAILED, "code": "parity_failed"}), "parity_failed"),
    ((1, "", {**FAILED, "code": "invalid_recipe"}), "invalid_hyperparameters"),
    ((1, "", SETTLED, {**FAILED, "code": "invalid_input"}), "training_diverged"),
    ((1, "", {**FAILED, "code": "invalid_input"}), "training_crashed"),
    ((1, "", SETTLED, {"event": "model_saved"}, {**FAILED, "code": "invalid_input"}),
     "export_failed"),
    ((1, "", {**FAILED, "code": "invalid_examples"}), "invalid_training_file"),
    ((1, "", {**FAILED, "code": "missing_dependency"}), "training_not_installed"),
    ((-11, "Segmentation fault"), "training_crashed"),
    ((1, "Traceback (most recent call last): KeyError"), "training_crashed"),
]  # fmt: skip


@pytest.mark.parametrize(("how", "code"), ENDS)
def test_each_end_has_its_code(job: Job, how: tuple[Any, ...], code: str) -> None:
    assert end(job, *how) == code


def test_an_earlier_failure_is_forgotten_when_the_training_begins_again(job: Job) -> None:
    translator = Translator(job, "ft:a", KIND)
    translator.feed([{**FAILED, "code": "parity_failed"}, {"event": "run_started"}])
    assert translator.failure(Ending("train", 1, "Traceback")).code == "training_crashed"


def test_a_refusal_of_the_preparation_is_a_bad_file_and_a_crash_is_not(job: Job) -> None:
    translator = Translator(job, "ft:a", KIND)
    assert translator.failure(Ending("prepare", 1, "error: /a/b.jsonl has")).code == (
        "invalid_training_file"
    )
    crash = Ending("prepare", 1, "Traceback (most recent call last):\nKeyError")
    assert translator.failure(crash).code == "training_crashed"
    words = translator.failure(Ending("prepare", 1, "error: /a/b.jsonl has")).message
    assert "/" not in words
