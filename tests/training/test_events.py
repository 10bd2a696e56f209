"""Events: valid JSON lines whatever happens, and a screen that works where there is none."""

import io
import math
import os
from pathlib import Path

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from hone.models.errors import InvalidInput
from hone.training.events import (
    Event,
    Events,
    Screen,
    duration,
    json_lines,
    open_events,
    read_events,
)
from tests.training.runs import Trained, named


def shown(events: list[Event], *, terminal: bool = False) -> str:
    """Return what the screen prints of some events."""
    console = Console(file=io.StringIO(), force_terminal=terminal, width=400, color_system=None)
    with Screen(console).shown() as screen:
        for event in events:
            screen(event)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_every_line_of_the_file_is_one_event(trained: Trained, shared: Path) -> None:
    lines = (shared / "events.jsonl").read_bytes().splitlines()
    events = [orjson.loads(line) for line in lines]
    assert events == trained.events
    assert all(isinstance(event["time"], float) and event["event"] for event in events)


def test_an_event_is_in_the_file_when_it_was_told(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with open_events(path) as file:
        events = Events(json_lines(file))
        for step in range(3):
            events.emit("step", step=step, loss=np.float32(0.5), rate=math.nan)
            assert [event["step"] for event in read_events(path)] == list(range(step + 1))
    assert list(read_events(path))[-1]["loss"] == 0.5
    assert list(read_events(path))[-1]["rate"] is None


EVENT = st.fixed_dictionaries(
    {"event": st.text(max_size=10)},
    optional={"value": st.floats(allow_nan=False, allow_infinity=False)},
)


@given(first=st.lists(EVENT, max_size=5), second=st.lists(EVENT, max_size=5), data=st.data())
def test_a_file_that_was_cut_anywhere_loses_one_event_and_can_be_added_to(
    tmp_path_factory: pytest.TempPathFactory,
    first: list[Event],
    second: list[Event],
    data: st.DataObject,
) -> None:
    path = tmp_path_factory.getbasetemp() / "cut.jsonl"
    whole = b"".join(orjson.dumps(event) + b"\n" for event in first)
    cut = whole[: data.draw(st.integers(0, len(whole)))]
    path.write_bytes(cut)
    before = list(read_events(path))
    assert first[: len(before)] == before
    assert len(before) >= cut.count(b"\n")
    with open_events(path) as file:
        write = json_lines(file)
        for event in second:
            write(event)
    assert list(read_events(path)) == before + second


def test_events_go_to_a_pipe_as_well(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with open_events(path) as file:
        json_lines(file)({"event": "step"})
        assert os.read(reader, 100) == b'{"event":"step"}\n'
    os.close(reader)


@pytest.mark.parametrize("path", ["/nowhere/events.jsonl", "/dev", "/dev/null/events"])
def test_a_file_that_cannot_be_written_is_refused(path: str) -> None:
    with pytest.raises(InvalidInput, match="events cannot be written to /"):
        open_events(Path(path))


def test_without_a_terminal_the_screen_prints_one_line_an_event(trained: Trained) -> None:
    lines = [line for line in shown(trained.events).splitlines() if line.strip()]
    silent = {"step", "checkpoint_saved"}
    assert len(lines) == sum(event["event"] not in silent for event in trained.events)
    assert lines[1] == "data: train 96, validation 60, test 40 rows, 4 labels"
    assert lines[2].startswith("training: 6 epochs of 12 steps, batch 8, learning rate 1.0e-03")
    assert lines[-1].startswith("published tiny@1 in ")
    assert not any("\x1b" in line for line in lines)


def test_on_a_terminal_there_is_a_bar_with_loss_speed_and_time_left(trained: Trained) -> None:
    drawn = shown(trained.events, terminal=True)
    last = named(trained.events, "step")[-1]
    assert f"{last['step']}/{last['total']}" in drawn
    assert f"loss {last['loss']:.3f}" in drawn
    assert "examples/s" in drawn


def test_markup_in_an_event_is_printed_as_it_is() -> None:
    event = {"event": "variant_left_out", "variant": "int8", "reason": "[bold]no[/bold] [/x]"}
    assert "left out int8: [bold]no[/bold] [/x]" in shown([event])


def test_an_unknown_event_is_no_error() -> None:
    assert shown([{"event": "of a later version"}]).strip() == ""


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3599.6, "1 h 00 min"),
        (7800, "2 h 10 min"),
    ],
)
def test_durations_are_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_few_parameters_are_not_said_to_be_none() -> None:
    settled: Event = {
        "event": "settled",
        "epochs": 3,
        "steps_per_epoch": 10,
        "batch_size": 8,
        "learning_rate": 5e-4,
        "precision": "fp32",
        "device": "cpu",
        "trained_parameters": 1_123,
        "all_parameters": 22_700_000,
    }
    assert "1,123 of 22.7 M parameters" in shown([settled])
    probing: Event = {"event": "probing", "all_parameters": 27_043}
    assert "frozen features of 27,043 parameters" in shown([probing])


def test_the_estimate_and_the_peak_of_memory_are_told_in_the_same_terms(
    capsys: pytest.CaptureFixture[str],
) -> None:
    parts = {"before": 420, "weights": 4, "gradients": 4, "optimizer": 8, "activations": 76}
    told = {name: size * 10**6 for name, size in parts.items()} | {"kernels": 0}
    screen = Screen(Console(width=200))
    for device in ("cpu", "cuda"):
        screen({"event": "memory_estimated", **told, "total": 512 * 10**6, "device": device})
    screen({"event": "memory_measured", "peak": 540 * 10**6, "estimate": 512 * 10**6})
    said = capsys.readouterr().out
    assert "memory: about 512 MB (libraries and data 420, weights 4, gradients 4" in said
    assert "(on the GPU before 420, weights 4" in said
    assert "memory: 540 MB at the peak, 512 MB estimated" in said
