"""A picture that breaks inside is found before anybody is asked, and so is every other one."""

import json
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from hone.comparison import picture_check
from hone.comparison.asking import Stopped
from hone.comparison.budget import Spending
from hone.comparison.experiment_file import InvalidExperiment, read_experiment
from hone.comparison.judging import judge
from hone.comparison.process import ask
from hone.comparison.readiness import make_ready
from hone.models.imaging import decoding
from hone.models.imaging.decoding import check_picture
from hone.models.imaging.headers import Header
from tests.comparison.experiments import Silent, experiment_text, plan_of, prompt, run, write_lines
from tests.comparison.picture_runs import as_url, colour_file, write_picture_data
from tests.comparison.upstream import upstream


def broken(seed: int = 1) -> bytes:
    """Return a picture whose header is good and whose pixels are not there."""
    content = bytearray(colour_file("red", seed))
    content[len(content) // 2 : -2] = bytes(len(content) - len(content) // 2 - 2)
    return bytes(content)


def lines_of(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_all_that_break_are_named_by_line_and_path_before_anybody_is_asked(tmp_path: Path) -> None:
    data, out = write_picture_data(tmp_path / "data"), tmp_path / "out"
    (data / "pictures/1001.jpg").write_bytes(broken())
    (data / "pictures/2.jpg").write_bytes(broken(2))
    rows = lines_of(data / "test.jsonl")
    rows[4]["image"] = as_url(broken(3))
    write_lines(data / "test.jsonl", rows)
    with upstream() as server:
        text = experiment_text(data, prompt(server.address, k=12))
        for dry in (True, False):
            file = read_experiment(text.encode(), "experiment.toml")
            with pytest.raises(InvalidExperiment) as caught:
                ask(file, out, dry_run=dry, decision_changed=False, gate=False)
            said = str(caught.value)
            assert f"{data / 'test.jsonl'} has 2 unusable lines" in said
            assert "  line 2: pictures/1001.jpg: it is a JPEG picture that " in said
            assert "  line 5: it is a JPEG picture that " in said
            assert f"{data / 'train.jsonl'} has 1 unusable line:" in said
            assert "  line 3: pictures/2.jpg: it is a JPEG picture that " in said
        assert not server.served
    assert not out.exists()


def test_examples_that_nobody_is_shown_may_be_broken(tmp_path: Path) -> None:
    data = write_picture_data(tmp_path / "data", test=3)
    (data / "pictures/2.jpg").write_bytes(broken())
    with upstream() as server:
        zero = prompt(server.address, prompt="zero-shot", k=None)
        run(experiment_text(data, zero), tmp_path / "out")
        assert len(server.served) == 3


def test_a_list_of_broken_pictures_has_an_end(tmp_path: Path) -> None:
    data = write_picture_data(tmp_path / "data", test=3)
    rows = lines_of(data / "test.jsonl")
    (data / "broken.jpg").write_bytes(broken())
    more = [rows[0] | {"image": "broken.jpg"} for _ in range(130)]
    write_lines(data / "test.jsonl", rows + more)
    few = prompt("http://127.0.0.1:9/v1", prompt="zero-shot", k=None)
    with pytest.raises(InvalidExperiment) as caught:
        run(experiment_text(data, few), tmp_path / "out")
    assert "has 130 unusable lines" in str(caught.value)
    assert str(caught.value).count("broken.jpg: it is") == 100


def test_a_picture_that_went_since_it_was_read_has_its_place_said_once(tmp_path: Path) -> None:
    data = write_picture_data(tmp_path / "data", test=3)
    rows = lines_of(data / "test.jsonl")
    rows[2]["image"] = as_url(colour_file("red", 5))
    write_lines(data / "test.jsonl", rows)
    zero = prompt("http://127.0.0.1:9/v1", prompt="zero-shot", k=None)
    plan = plan_of(experiment_text(data, zero))
    (data / "pictures/1000.jpg").unlink()
    (data / "pictures/1001.jpg").write_bytes(colour_file("red", 99))
    (data / "test.jsonl").write_text("\n")
    with pytest.raises(InvalidExperiment) as caught:
        make_ready(plan)
    told = [line.lstrip(" -") for line in str(caught.value).splitlines() if "  line " in line]
    assert told == [
        "line 1: pictures/1000.jpg: there is no such file",
        "line 2: pictures/1001.jpg: it is not what it was",
        "line 3: it is not what it was",
    ]


def test_items_that_are_not_drawn_are_not_decoded(tmp_path: Path) -> None:
    data = write_picture_data(tmp_path / "data", test=12)
    one = {"most_items": 1}
    with upstream() as server:
        zero = prompt(server.address, prompt="zero-shot", k=None)
        plan = plan_of(experiment_text(data, zero, experiment=one))
        drawn = int(plan.material.items[0].id.removeprefix("line-"))
        for number in set(range(12)) - {drawn - 1}:
            (data / f"pictures/{1000 + number}.jpg").write_bytes(broken(number))
        run(experiment_text(data, zero, experiment=one), tmp_path / "out")
        assert len(server.served) == 1


def test_a_listener_is_told_of_the_pictures_that_are_looked_at(tmp_path: Path) -> None:
    data, told = write_picture_data(tmp_path / "data", test=6), Told()
    (data / "pictures/1001.jpg").write_bytes((data / "pictures/1000.jpg").read_bytes())
    few = prompt("http://127.0.0.1:9/v1", prompt="few-shot", k=3)
    make_ready(plan_of(experiment_text(data, few)), told)
    assert told.steps == [("test.jsonl", 5), ("train.jsonl", 3)]
    assert told.done == {"test.jsonl": 5, "train.jsonl": 3}


def test_a_dry_run_tells_how_far_the_look_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_picture_data(tmp_path / "data", test=3)
    few = prompt("http://127.0.0.1:9/v1", prompt="zero-shot", k=None)
    file = read_experiment(experiment_text(data, few).encode(), "experiment.toml")
    ask(file, tmp_path / "out", dry_run=True, decision_changed=False, gate=False)
    assert "test.jsonl: 3 of 3 pictures decoded" in capsys.readouterr().err


def test_a_listener_may_end_the_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[bool] = []

    class Pool(ThreadPoolExecutor):
        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            ended.append(cancel_futures)
            super().shutdown(wait, cancel_futures=cancel_futures)

    monkeypatch.setattr(picture_check, "ThreadPoolExecutor", Pool)
    data = write_picture_data(tmp_path / "data", test=6)
    few = prompt("http://127.0.0.1:9/v1", prompt="zero-shot", k=None)
    with pytest.raises(Stopped) as caught:  # kept, as a traceback is: it holds what was running
        make_ready(plan_of(experiment_text(data, few)), Stopping())
    assert ended == [True], caught


def test_where_no_contender_looks_at_pictures_none_is_decoded(tmp_path: Path) -> None:
    data, told = write_picture_data(tmp_path / "data", test=6), Told()
    (data / "pictures/1001.jpg").write_bytes(broken())
    answers = [{"id": f"line-{number}", "label": "red"} for number in range(1, 7)]
    path = write_lines(tmp_path / "answers.jsonl", answers)
    recorded = {"name": "earlier", "kind": "recorded", "path": str(path)}
    text = experiment_text(data, recorded)
    make_ready(plan_of(text), told)
    assert told.steps == []
    finished = run(text, tmp_path / "out")
    assert len(finished.outcomes) == 12
    assert judge(finished.folder, finished.question).verdict.word  # nor does a report need it


class Told(Silent):
    """Counts what is done."""

    def __init__(self) -> None:
        super().__init__()
        self.done = Counter[str]()

    def advanced(self, contender: str, steps: int, spent: Spending | None = None) -> None:
        super().advanced(contender, steps, spent)
        self.done[contender] += steps


class Stopping(Silent):
    """Wants no more after the first step."""

    def advanced(self, contender: str, steps: int, spent: Spending | None = None) -> None:
        raise Stopped


def test_each_picture_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_picture_data(tmp_path / "data", test=6)
    (data / "pictures/1001.jpg").write_bytes((data / "pictures/1000.jpg").read_bytes())
    counts, lock = Counter[bytes](), threading.Lock()

    def counted(content: bytes, **limits: Any) -> Header:
        with lock:
            counts[content] += 1
        return check_picture(content, **limits)

    # Within the decoder, which whoever decodes goes through, by whatever name it was imported.
    monkeypatch.setattr(decoding, "check_picture", counted)
    with upstream() as server:
        few = prompt(server.address, prompt="zero-shot", k=None)
        run(experiment_text(data, few, prompt(server.address, "b", k=1)), tmp_path / "out")
    assert set(counts.values()) == {1}
    assert len(counts) == 5 + 1
