"""Tokens that a baseline prompt would have cost for the same answer.

The baseline is the prompt whose work the model took over: an instruction, k examples and the
input. Its static part is counted once, when the bundle is made; the input for each request.
"""

import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from hone.models.examples import Example
from hone.models.prompt_form import INSTRUCTING_ROLES, Turn, joined, read_prompt

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

    `form` says how it is put together: a classifier's (`labels`), or that of a causal model, whose
    examples are prompts with completions as they are (`plain`) or turns behind a system message
    (`chat`). Such a model reads whatever is sent to it, so that `unsaid` tells what of a request
    the baseline prompt would have held besides its static part.
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
    form: Literal["labels", "plain", "chat"] = "labels"

    def render(self, text: str) -> str:
        """Return the whole prompt for one input; of a chat, each turn behind its role."""
        if self.form == "plain":
            shots = "".join(f"{_shot(example)}\n\n" for example in self.examples)
            return "\n\n".join([*([self.instruction] if self.instruction else []), shots + text])
        if self.form == "chat":
            system = [Turn("system", self.instruction)] if self.instruction else []
            return joined([*system, *self._shot_turns(), Turn("user", text)])
        if self.separator is not None:
            return f"{self.instruction}\n{text}{self.separator}"
        return render_prompt(self.instruction, self.examples, text)

    def unsaid(self, prompt: str | Sequence[Turn]) -> list[str]:
        """Return the texts of a prompt or a chat without what of the static part they begin with.

        A client may go on sending the instruction, and as many of the examples as it likes.
        """
        if isinstance(prompt, str):
            return [self._after_start(prompt)]
        system = [turn for turn in prompt if turn.role in INSTRUCTING_ROLES]
        turns = [turn for turn in prompt if turn.role not in INSTRUCTING_ROLES]
        shots = self._shot_turns()
        known = 0
        while known < len(shots) and _alike(turns[known : known + 2], shots[known : known + 2]):
            known += 2
        texts = [turn.content for turn in (*system, *turns[known:])]
        return [self._after_start(text) for text in texts[:1]] + texts[1:]

    def _shot_turns(self) -> list[Turn]:
        pairs = ((Turn("user", e.text), Turn("assistant", e.label)) for e in self.examples)
        return [turn for pair in pairs for turn in pair]

    def _after_start(self, text: str) -> str:
        reading = read_prompt(text, instruction=self.instruction, separator="")
        if self.instruction and not reading.taken_off:
            return text
        rest = reading.text
        for shot in map(_shot, self.examples):
            if not rest.startswith(shot.strip()):
                break
            rest = rest[len(shot.strip()) :].lstrip()
        return rest


def _shot(example: BaselineExample) -> str:
    return example.text + example.label


def _alike(turns: Sequence[Turn], shots: Sequence[Turn]) -> bool:
    return [(t.role, t.content.strip()) for t in turns] == [
        (s.role, s.content.strip()) for s in shots
    ]


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
    ranked = {label: median_first(rows) for label, rows in by_label.items()}
    longest = max((len(rows) for rows in ranked.values()), default=0)
    turns = [rows[turn] for turn in range(longest) for rows in ranked.values() if turn < len(rows)]
    return [BaselineExample(text=row.text, label=row.label) for row in turns[:count]]


def median_first(rows: Sequence[Example]) -> list[Example]:
    """Return examples by how far the length of their text is from the middle one."""
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
