"""Lines of progress, for logs."""

import io

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from hone.comparison.progress import ProgressBars, ProgressLines, progress_on


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
