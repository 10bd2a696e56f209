"""`hone prepare --show`: training examples as a base reads them, with what is trained on marked."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import transformers
from rich.console import Console
from rich.text import Text

from hone.models.catalogue import Base
from hone.training.generation.causal_bases import (
    CausalBase,
    obtain_causal_base,
    open_causal_base,
)
from hone.training.generation.causal_data import encode_all, refuse_unknown_tools
from hone.training.generation.conversations import Example
from hone.training.generation.encoding import ConversationEncoder, TrainedText, template_for
from hone.training.generation.generation_recipe import SCRATCH_PREFIX
from hone.training.generation.scratch import (
    DEFAULT_POSITIONS,
    SMALLEST_VOCABULARY,
    make_base,
)
from hone.training.generation.showing import coloured, marked

_SIDES = ("chosen", "rejected")


def show_examples(examples: Sequence[Example], base: str, count: int, console: Console) -> None:
    """Print the first examples token by token: in colours at a terminal, else in brackets."""
    transformers.utils.logging.disable_progress_bar()
    tokenizer = _base(base, examples).tokenizer
    encoder = ConversationEncoder(tokenizer, template=template_for("auto", examples))
    refuse_unknown_tools(examples, encoder, "line")
    for number, sides in enumerate(encode_all(examples[:count], encoder), start=1):
        for place, text in enumerate(sides):
            side = f", {_SIDES[place]}" if len(sides) > 1 else ""
            console.print(_heading(number, side, text), highlight=False, markup=False)
            console.print(_shown(text, tokenizer, console), soft_wrap=True)


def _heading(number: int, side: str, text: TrainedText) -> str:
    return f"\nexample {number}{side}: {len(text.ids)} tokens, trained on {text.trained} of them"


def _shown(text: TrainedText, tokenizer: object, console: Console) -> Text:
    if console.is_terminal and not console.no_color:
        return coloured(text, tokenizer)
    return Text(marked(text, tokenizer))


def _base(name: str, examples: Sequence[Example]) -> CausalBase:
    if not name.startswith(SCRATCH_PREFIX):
        return obtain_causal_base(name)
    with TemporaryDirectory(prefix="hone-base-") as scratch:
        folder = Path(scratch)
        make_base(
            folder,
            name,
            examples,
            vocabulary=SMALLEST_VOCABULARY,
            positions=DEFAULT_POSITIONS,
            seed=0,
        )
        return open_causal_base(Base(name, folder, "none", "text-generation", DEFAULT_POSITIONS))
