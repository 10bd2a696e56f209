"""Tokens that a baseline prompt would have cost for the same answer.

The baseline is the prompt whose work the model took over: an instruction, k examples and the
input. Its static part is counted once, when the bundle is made; the input for each request.
"""

import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence

from pydantic import BaseModel, ConfigDict, Field

from hone.models.examples import Example

ESTIMATED = "estimated:characters"
"""The counting method when the baseline's tokenizer is not at hand."""


TokenCounter = Callable[[str], int]


class BaselineExample(BaseModel):
    """One few-shot example of the baseline prompt."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    text: str
    label: str


class BaselinePrompt(BaseModel):
    """The prompt whose tokens are being saved.

    `static_tokens` counts everything but the input, which is `render("")`; `separator` is set
    where the training data's own prompts are known: they had the instruction before the input,
    on a line of its own, and the separator after it; `output_tokens` is the mean length of a
    label; `method` says how both were counted (`exact:NAME` or `estimated:characters`).
    `price_model` names the hosted model for prices, in LiteLLM's keys.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    instruction: str
    examples: list[BaselineExample] = []
    static_tokens: int = Field(ge=0)
    output_tokens: float = Field(ge=0)
    method: str
    tokenizer_file: str | None = None
    price_model: str | None = None
    separator: str | None = None

    def render(self, text: str) -> str:
        """Return the whole prompt for one input."""
        if self.separator is not None:
            return f"{self.instruction}\n{text}{self.separator}"
        return render_prompt(self.instruction, self.examples, text)


def render_prompt(instruction: str, examples: Sequence[BaselineExample], text: str) -> str:
    """Return instruction, examples and input as one plain prompt."""
    shots = "".join(f"Text: {shot.text}\nLabel: {shot.label}\n\n" for shot in examples)
    return f"{instruction}\n\n{shots}Text: {text}\nLabel:"


def default_instruction(labels: Sequence[str]) -> str:
    """Return the instruction that a person would write for this task."""
    return (
        f"Classify the text into exactly one of these {len(labels)} labels: "
        f"{', '.join(labels)}. Answer with the label only."
    )


def default_examples(
    examples: Sequence[Example], labels: Sequence[str], count: int
) -> list[BaselineExample]:
    """Pick `count` examples, going round the labels; of each the text of median length first."""
    by_label: dict[str, list[Example]] = {label: [] for label in labels}
    for example in examples:
        by_label[example.label].append(example)
    ranked = {label: _median_first(rows) for label, rows in by_label.items()}
    longest = max((len(rows) for rows in ranked.values()), default=0)
    turns = [rows[turn] for turn in range(longest) for rows in ranked.values() if turn < len(rows)]
    return [BaselineExample(text=row.text, label=row.label) for row in turns[:count]]


def _median_first(rows: list[Example]) -> list[Example]:
    middle = sorted(len(row.text) for row in rows)[len(rows) // 2] if rows else 0
    return sorted(rows, key=lambda row: (abs(len(row.text) - middle), row.text))


def estimate_tokens(text: str) -> int:
    """Estimate the tokens of a text for a current large model's tokenizer.

    About four characters a token for alphabets; about 0.8 tokens for each wide (Chinese,
    Japanese, Korean) character. An estimate, and always labelled as one.
    """
    wide = 0
    if not text.isascii():
        wide = sum(
            count
            for character, count in Counter(text).items()
            if unicodedata.east_asian_width(character) in "WF"
        )
    twentieths = 5 * (len(text) - wide) + 16 * wide  # of a token; whole numbers do not drift
    return -(-twentieths // 20)
