"""What a client sent is shown at the terminal and does nothing there."""

import io

from rich.console import Console

from hone.service.terminal import plain


def test_markup_and_escape_sequences_are_shown_and_not_obeyed() -> None:
    said = io.StringIO()
    console = Console(file=said, force_terminal=True, width=200)
    console.print(plain("[red]\x1b[2J\x07 [link=http://x]日本語 é\n\\[b]"), highlight=False)
    assert said.getvalue() == "[red]\ufffd[2J\ufffd [link=http://x]日本語 é\ufffd\\[b]\n"
