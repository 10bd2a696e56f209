"""Lines of progress, for logs."""

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from hone.comparison.budget import Spending
from hone.comparison.progress import ProgressBars, ProgressLines, progress_on
from tests.comparison.experiments import Silent, experiment_text, prompt, run, write_data
from tests.comparison.upstream import upstream


def told(steps: int, advances: list[tuple[int, float]]) -> list[str]:
    """Return the lines for advances, each after so many seconds."""
    now, file = [0.0], io.StringIO()
    lines = ProgressLines(Console(file=file), lambda: now[0])
    with lines.shown() as listener:
        listener.begun("few", steps, "items")
        for count, seconds in advances:
            now[0] += seconds
            listener.advanced("few", count)
    return file.getvalue().splitlines()


def test_a_line_at_each_tenth() -> None:
    found = told(200, [(1, 0.5)] * 200)
    assert len(found) == 11
    assert found[0] == "few: 200 items to do"
    assert found[1] == "few: 20 of 200 items, about 90 s left"
    assert found[-1] == "few: 200 of 200 items"


def test_a_line_tells_this_runs_dollars_and_the_folders_where_they_differ() -> None:
    file = io.StringIO()
    lines = ProgressLines(Console(file=file))
    lines.begun("few", 2, "items")
    lines.advanced("few", 1, Spending(0.12, 0.12))
    lines.advanced("few", 1, Spending(0.12, 0.4))
    _, first, second = file.getvalue().splitlines()
    assert "1 of 2 items, $0.1200 so far" in first
    assert second == "few: 2 of 2 items, $0.1200 in this run, $0.4000 in all"


def test_answers_found_on_disk_cost_this_run_nothing(tmp_path: Path) -> None:
    data, first, more = write_data(tmp_path / "data"), Silent(), Silent()
    with upstream() as server:
        run(experiment_text(data, prompt(server.address)), tmp_path / "out", listener=first)
        added = experiment_text(data, prompt(server.address), prompt(server.address, "two", k=4))
        run(added, tmp_path / "out", listener=more)
    last = first.spent[-1]
    assert last.run == last.folder > 0
    known = more.spent[11]  # the twelve of the first contender, added up in any order
    assert known.run == 0.0
    assert known.folder == pytest.approx(last.folder)
    assert 0 < more.spent[-1].run < last.folder < more.spent[-1].folder


def test_a_line_after_half_a_minute_of_silence() -> None:
    found = told(1000, [(1, 31.0)] * 3 + [(1, 1.0)] * 20)
    assert [line.partition(",")[0] for line in found[1:]] == [
        f"few: {n} of 1" for n in (1, 2, 3)
    ]  # the thousands' comma ends the part


@given(st.integers(1, 300), st.lists(st.floats(0, 29), min_size=1, max_size=300))
def test_there_are_never_many_lines_and_the_last_tells_the_end(
    steps: int, waits: list[float]
) -> None:
    advances = [(1, wait) for wait in waits[:steps]]
    found = told(steps, advances)
    assert len(found) <= 1 + 10 + sum(waits) / 30
    if len(advances) == steps:
        assert found[-1].startswith(f"few: {steps} of {steps} items")


def test_bars_are_for_terminals_and_names_cannot_colour_a_log() -> None:
    assert isinstance(progress_on(Console(force_terminal=True)), ProgressBars)
    file = io.StringIO()
    lines = progress_on(Console(file=file))
    assert isinstance(lines, ProgressLines)
    lines.begun("[red]\x1b[2Jx", 3, "items")
    assert file.getvalue() == "[red]\N{REPLACEMENT CHARACTER}[2Jx: 3 items to do\n"
