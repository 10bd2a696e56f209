"""What of an example is trained on, shown token by token."""

from collections.abc import Iterator
from typing import Any

from rich.style import Style
from rich.text import Text

from hone.models.decoding.detokenizing import piece_bytes
from hone.training.generation.encoding import TrainedText

_TRAINED = Style(color="black", bgcolor="green")
_PARTLY = Style(color="black", bgcolor="yellow")
_READ = Style(dim=True)


def marked(text: TrainedText, tokenizer: Any) -> str:  # noqa: ANN401 - transformers has no types
    """Return an example with each run of trained tokens in brackets, tokens parted by `|`.

    A weight other than 1 stands behind the bracket: `[|Yes|]*0.5`. Line breaks are shown as `⏎`.
    """
    parts = []
    for weight, pieces in _runs(text, tokenizer):
        joined = "|".join(pieces)
        if weight == 0:
            parts.append(joined)
        else:
            parts.append(f"[{joined}]" if weight == 1 else f"[{joined}]*{weight:g}")
    return " ".join(parts)


def coloured(text: TrainedText, tokenizer: Any) -> Text:  # noqa: ANN401
    """Return the same for a terminal with colours: trained green, with less weight yellow."""
    shown = Text()
    for weight, pieces in _runs(text, tokenizer):
        style = _READ if weight == 0 else _TRAINED if weight == 1 else _PARTLY
        for piece in pieces:
            shown.append(piece, style)
            shown.append("|", _READ)
    return shown


def _runs(text: TrainedText, tokenizer: Any) -> Iterator[tuple[float, list[str]]]:  # noqa: ANN401
    """Yield runs of tokens of one weight. The first token is never predicted, so never trained."""
    run: list[str] = []
    before: float | None = None
    for place, (token, weight) in enumerate(zip(text.ids, text.weights, strict=True)):
        own = 0.0 if place == 0 else weight
        if before is not None and own != before:
            yield before, run
            run = []
        run.append(_piece(token, tokenizer))
        before = own
    if before is not None:
        yield before, run


def _piece(token: int, tokenizer: Any) -> str:  # noqa: ANN401
    """Return a token as it reads: its bytes as text, where they are some, and visible breaks.

    Bytes of a part of a character are shown as `\\xe4`, or as the vocabulary has them: `<0xE4>`.
    """
    whole = tokenizer.convert_ids_to_tokens(token)
    read = tokenizer.decode([token], skip_special_tokens=False)
    shown = read if read and "\ufffd" not in read else str(whole)
    if "\ufffd" in read and not shown.startswith("<0x"):
        shown = piece_bytes(shown, byte_level=True).decode("utf-8", errors="backslashreplace")
    if str(whole).startswith(("▁", "Ġ")) and not shown.startswith(" "):
        shown = f" {shown}"
    return shown.replace("\n", "⏎").replace("\t", "⇥")
