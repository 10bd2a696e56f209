"""`hone prepare --show`: training examples as a base reads them, with what is trained on marked."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import transformers
from rich.console import Console
from rich.text import Text

from hone.models.catalogue import Base
from hone.training.generation.causal_bases import (
    CausalBase,
    obtain_causal_base,
    open_causal_base,
)
from hone.training.generation.causal_data import (
    encode_all,
    refuse_unknown_tools,
    refuse_without_template,
)
from hone.training.generation.conversations import Example
from hone.training.generation.encoding import ConversationEncoder, TrainedText, template_for
from hone.training.generation.generation_recipe import SCRATCH_PREFIX
from hone.training.generation.scratch import (
    DEFAULT_POSITIONS,
    SMALLEST_VOCABULARY,
    make_base,
    shape_of,
)
from hone.training.generation.showing import coloured, marked

_SIDES = ("chosen", "rejected")


@dataclass(frozen=True, slots=True)
class ReadExamples:
    """Examples as a base reads them: the one text of each, or a preference's two."""

    tokenizer: Any
    texts: Sequence[tuple[TrainedText, ...]]

    def print(self, console: Console) -> None:
        """Print them token by token: in colours at a terminal, else in brackets."""
        for number, sides in enumerate(self.texts, start=1):
            for place, text in enumerate(sides):
                side = f", {_SIDES[place]}" if len(sides) > 1 else ""
                console.print(_heading(number, side, text), highlight=False, markup=False)
                console.print(_shown(text, self.tokenizer, console), soft_wrap=True)


def open_base(name: str) -> CausalBase | None:
    """Return the base, fetched where it must be; None for a `scratch:` base, made from examples.

    NotFound and InvalidInput as `hone train` would say it.
    """
    transformers.utils.logging.disable_progress_bar()
    if name.startswith(SCRATCH_PREFIX):
        shape_of(name)
        return None
    return obtain_causal_base(name)


def read_examples(examples: Sequence[Example], name: str, count: int) -> ReadExamples:
    """Return the first examples as the base called `name` reads them.

    InvalidInput, naming lines, if one of all examples cannot be written for it.
    """
    tokenizer = (open_base(name) or _made(name, examples)).tokenizer
    refuse_without_template(examples, tokenizer, "line")
    encoder = ConversationEncoder(tokenizer, template=template_for("auto", examples))
    refuse_unknown_tools(examples, encoder, "line")
    return ReadExamples(tokenizer, encode_all(examples[:count], encoder, "line"))


def _heading(number: int, side: str, text: TrainedText) -> str:
    return f"\nexample {number}{side}: {len(text.ids)} tokens, trained on {text.trained} of them"


def _shown(text: TrainedText, tokenizer: object, console: Console) -> Text:
    if console.is_terminal and not console.no_color:
        return coloured(text, tokenizer)
    return Text(marked(text, tokenizer))


def _made(name: str, examples: Sequence[Example]) -> CausalBase:
    """Return a `scratch:` base of these examples, whose folder is gone."""
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
