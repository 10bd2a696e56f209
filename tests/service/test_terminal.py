"""What a client sent is shown at the terminal and does nothing there."""

import io

from rich.console import Console

from hone.models.tables import console, id_table
from hone.models.terminal import plain


def test_markup_and_escape_sequences_are_shown_and_not_obeyed() -> None:
    said = io.StringIO()
    console = Console(file=said, force_terminal=True, width=200)
    console.print(plain("[red]\x1b[2J\x07 [link=http://x]日本語 é\n\\[b]"), highlight=False)
    assert said.getvalue() == "[red]\ufffd[2J\ufffd [link=http://x]日本語 é\ufffd\\[b]\n"


def test_ids_are_never_cut_however_narrow_the_terminal_is() -> None:
    said = io.StringIO()
    table = id_table("id", "owner", "what")
    table.add_row("ftjob-abcdefghijklmnopqrstuvwx", "an owner with a long name", "many words " * 5)
    Console(file=said, width=60).print(table)
    assert "ftjob-abcdefghijklmnopqrstuvwx" in said.getvalue()
    assert "…" not in said.getvalue()


def test_where_nobody_looks_the_output_is_wide() -> None:
    assert console().width >= 240
