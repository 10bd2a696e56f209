"""What the prompts of the training data share, and the text that is left without it.

`hone prepare` takes off what a prompt repeats (instruction, separator, system message, opening
turns); the classifier was trained on the rest. Clients go on sending whole prompts, or leave the
shared part away. Both are read by the functions that the preparation itself uses, so that a
prompt gives the very text that its training row gave, whichever way it is sent.
"""

import functools
import re
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

FormName = Literal["text/label", "prompt/completion", "chat"]

INSTRUCTING_ROLES = frozenset({"system", "developer"})


class Turn(NamedTuple):
    """One message of a chat."""

    role: str
    content: str


class Reading(NamedTuple):
    """A prompt taken apart: the classifier's text, and what was sent beside it."""

    text: str
    taken_off: str


NOTHING_READ = Reading("", "")


class PromptForm(BaseModel):
    """The form of the training data, as `hone prepare` found it; empty where there is nothing.

    `instruction` stands before every prompt and `separator` after it; completions begin with a
    space if `leading_space` is set and end with `stop`; `system` is the one system message of all
    chats and `opening` the turns that all of them begin with.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    kind: FormName = "text/label"
    instruction: str = ""
    separator: str = ""
    leading_space: bool = False
    stop: str = ""
    system: str = ""
    opening: tuple[Turn, ...] = ()

    @property
    def shared_text(self) -> str:
        """Return what every request said over again, as one text; empty if that is nothing."""
        if not self.opening:
            return self.instruction.strip() or self.system
        system = [Turn("system", self.system)] if self.system else []
        return joined([*system, *self.opening])

    def bare_text(self, prompt: str | Sequence[Turn]) -> str:
        """Return the classifier's text of a prompt or of a chat's messages; may be empty."""
        return self.read(prompt).text

    def read(self, prompt: str | Sequence[Turn]) -> Reading:
        """Take a prompt, or a chat's messages, apart.

        A classifier that was trained on single texts reads the last user's turn: the turns before
        it are examples in the prompt. One that was trained on chats reads them as its data had
        them.
        """
        if isinstance(prompt, str):
            instruction = self.system if self.kind == "chat" else self.instruction
            return read_prompt(prompt, instruction=instruction, separator=self.separator)
        if self.kind == "chat":
            return read_chat(prompt, self.opening)
        return self._read_last_turn(prompt)

    def completion(self, label: str) -> str:
        """Return a label as the training data had it after a prompt, its stop left out."""
        return f" {label}" if self.leading_space else label

    def _read_last_turn(self, turns: Sequence[Turn]) -> Reading:
        last = max((i for i, turn in enumerate(turns) if turn.role == "user"), default=None)
        if last is None:
            return Reading("", _contents(turns))
        text, beside = self.read(turns[last].content)
        others = _contents([*turns[:last], *turns[last + 1 :]])
        return Reading(text, _sum(others, beside))


def read_prompt(prompt: str, *, instruction: str, separator: str) -> Reading:
    """Take instruction and separator off a prompt, each as often as it is there, and spaces.

    White space within the instruction and before the separator may be any. Linear in time.
    """
    end = len(prompt) - _prefix_length(_reversed_separators(separator), prompt[::-1])
    start = _prefix_length(_instructions(instruction.strip()), prompt[:end])
    return Reading(prompt[start:end], _sum(prompt[:start].strip(), prompt[end:].strip()))


def read_chat(messages: Sequence[Turn], opening: Sequence[Turn]) -> Reading:
    """Take system messages and opening turns off a chat.

    One turn that is left is the text; several are joined with their roles.
    """
    system = [turn for turn in messages if turn.role in INSTRUCTING_ROLES]
    turns = [turn for turn in messages if turn.role not in INSTRUCTING_ROLES]
    start, wanted = 0, _compared(opening)
    while wanted and _compared(turns[start : start + len(wanted)]) == wanted:
        start += len(wanted)
    left = turns[start:]
    text = left[0].content.strip() if len(left) == 1 else joined(left)
    return Reading(text, _contents([*system, *turns[:start]]))


def joined(turns: Iterable[Turn]) -> str:
    """Return turns as one text, each with its role on a line of its own."""
    return "\n".join(f"{role}: {content.strip()}" for role, content in turns)


def _compared(turns: Iterable[Turn]) -> list[Turn]:
    return [Turn(role, content.strip()) for role, content in turns]


def _contents(turns: Iterable[Turn]) -> str:
    return _sum(*(turn.content.strip() for turn in turns))


def _sum(*parts: str) -> str:
    return "\n".join(part for part in parts if part)


def _prefix_length(pattern: re.Pattern[str], text: str) -> int:
    found = pattern.match(text)
    return found.end() if found else 0


# The repeats are possessive (they never give back what they took), so that no text, however
# hostile, takes more than one pass.


@functools.lru_cache(maxsize=256)
def _instructions(instruction: str) -> re.Pattern[str]:
    """Return what matches spaces and repeats of an instruction at the beginning of a text."""
    words = r"\s++".join(re.escape(word) for word in instruction.split())
    repeats = rf"(?:{words}(?:\s++|\Z))*+" if words else ""
    return re.compile(rf"\s*+{repeats}")


@functools.lru_cache(maxsize=256)
def _reversed_separators(separator: str) -> re.Pattern[str]:
    """Return what matches spaces and repeats of a separator at the end of a text, read backwards.

    A separator that begins with white space is none where it sticks to a word.
    """
    signs = re.escape(separator.strip()[::-1])
    before = r"(?:\s++|\Z)" if separator[:1].isspace() else r"\s*+"
    repeats = f"(?:{signs}{before})*+" if signs else ""
    return re.compile(rf"\s*+{repeats}")
