"""Prompts and completions as the legacy fine-tuning format had them.

What the format added for the model's sake is taken off again: a separator at the end of prompts,
a space before and a stop sequence behind completions, and an instruction before every prompt.
Letters are never taken off labels, and beginnings of prompts only if they are an instruction.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from hone.models.prompt_form import FormName, PromptForm, read_prompt
from hone.training.preparation.problems import Problem, counted
from hone.training.preparation.rows import UnusableField, field_text
from hone.training.preparation.shared import SharedInstruction, shared_start

SEPARATORS = (
    "\n\n###", "\n\n===", "\n\n---", "\n\n===>", "\n\n--->", "\n\n### =>", " ->", " =>",
)  # fmt: skip
STOPS = (
    " END", " [END]", "###", "***", "+++", "&&&", "$$$", "@@@", "%%%", "<|endoftext|>", "</s>",
)  # fmt: skip
SHORTEST_INSTRUCTION = 20
"""Characters. A shorter common beginning is not taken for an instruction."""

_SHARE_WITH_KNOWN_ENDING = 0.9
_SENTENCE_ENDS = frozenset(".?!,;:'\")]}»”’…。？！：；，）」』%")


@dataclass(frozen=True, slots=True)
class PromptCompletion:
    """`separator`, `stop` and `instruction` are what is taken off; empty when there is none.

    `leading_space` tells whether nearly all completions begin with a space.
    """

    prompt: str
    completion: str
    separator: str = ""
    stop: str = ""
    instruction: str = ""
    rows_without_separator: int = 0
    leading_space: bool = False

    name: ClassVar[FormName] = "prompt/completion"

    @classmethod
    def found_in(
        cls, rows: Iterable[Mapping[str, object]], prompt: str, completion: str
    ) -> "PromptCompletion":
        """Find what prompts and completions have in common, in one pass."""
        prompts, completions = _Ends(SEPARATORS), _Ends(STOPS)
        for fields in rows:
            try:
                pair = field_text(fields.get(prompt)), field_text(fields.get(completion))
            except UnusableField:
                continue
            if pair[0] is not None and pair[1] is not None:
                prompts.add(pair[0])
                completions.add(pair[1])
        separator = prompts.known_ending() or prompts.separator()
        return cls(
            prompt,
            completion,
            separator,
            completions.known_ending() or completions.stop(),
            prompts.instruction(),
            prompts.without(separator),
            completions.begin_with_space(),
        )

    @property
    def columns(self) -> tuple[str, ...]:
        """The prompt's and the completion's."""
        return (self.prompt, self.completion)

    @property
    def shared_instruction(self) -> SharedInstruction | None:
        """The beginning of every prompt."""
        text = self.instruction.strip()
        return SharedInstruction("prompt_prefix", text) if text else None

    @property
    def prompt_form(self) -> PromptForm:
        """What serving must know."""
        return PromptForm(
            kind=self.name,
            instruction=self.instruction,
            separator=self.separator,
            leading_space=self.leading_space,
            stop=self.stop,
        )

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is taken off."""
        found = []
        if self.separator or self.stop:
            parts = [f"the separator {self.separator!r} after prompts"] if self.separator else []
            parts += [f"the stop {self.stop!r} after completions"] if self.stop else []
            message = f"the file has {' and '.join(parts)}, which no classifier needs"
            found.append(_taken_off("separators", 1, message))
        if self.rows_without_separator:
            have = counted(self.rows_without_separator, "prompt has", "prompts have")
            message = f"{have} no {self.separator!r} at the end"
            found.append(Problem("no_separator", "advice", self.rows_without_separator, message))
        if self.instruction:
            message = (
                f"every prompt begins with the same instruction ({len(self.instruction):,} "
                "characters): the fine-tuned model does not need it"
            )
            found.append(_taken_off("shared_instruction", 1, message))
        return tuple(found)

    def pair(self, fields: Mapping[str, object]) -> tuple[str | None, str | None]:
        """Return prompt and completion without what was added; raise UnusableField."""
        prompt, completion = _named(fields, self.prompt), _named(fields, self.completion)
        if prompt is not None:
            prompt = read_prompt(
                prompt, instruction=self.instruction, separator=self.separator
            ).text
        if completion is not None:
            completion = completion.rstrip().removesuffix(self.stop).strip()
        return prompt or None, completion or None


def _named(fields: Mapping[str, object], column: str) -> str | None:
    try:
        return field_text(fields.get(column))
    except UnusableField as error:
        raise UnusableField(f"has a {column!r} that {error}") from None


def _taken_off(code: str, count: int, message: str) -> Problem:
    return Problem(code, "necessary", count, message, "take it off", mended=True)


@dataclass(slots=True)
class _Ends:
    """How a stream of texts begins and ends. Keeps no more than the common parts."""

    known: tuple[str, ...]
    count: int = 0
    first: str = ""
    differ: bool = False
    spaced: int = 0
    prefix: str = ""
    reversed_suffix: str = ""
    endings: Counter[str] = field(default_factory=Counter)

    def add(self, text: str) -> None:
        bare = text.rstrip()
        if not self.count:
            self.first = self.prefix = text
            self.reversed_suffix = bare[::-1]
        self.count += 1
        self.spaced += text.startswith(" ")
        self.differ = self.differ or text != self.first
        if not text.startswith(self.prefix):
            self.prefix = shared_start(self.prefix, text)
        backwards = bare[: -len(self.reversed_suffix) - 1 : -1]
        if backwards != self.reversed_suffix:
            self.reversed_suffix = shared_start(self.reversed_suffix, backwards)
        self.endings.update(ending for ending in self.known if bare.endswith(ending))

    def begin_with_space(self) -> bool:
        """Tell whether nearly all texts do."""
        return 0 < self.count * _SHARE_WITH_KNOWN_ENDING <= self.spaced

    def known_ending(self) -> str:
        """Return the longest of the known endings that nearly all texts have."""
        enough = _SHARE_WITH_KNOWN_ENDING * self.count
        common = [ending for ending, count in self.endings.items() if count >= enough]
        return max(common, key=len, default="") if self.differ else ""

    def without(self, ending: str) -> int:
        """Count the texts that do not have a known ending."""
        return self.count - self.endings[ending] if ending in self.endings else 0

    def separator(self) -> str:
        """Return the common end after the last letter and sentence mark, if it has a sign."""
        run = self._signs_at_end()
        while run and run[0] in _SENTENCE_ENDS:
            run = run[1:]
        return run if run.strip() and not set(run.strip()) <= _SENTENCE_ENDS else ""

    def stop(self) -> str:
        """Return a common end of completions that no label has of its own: one sign repeated, signs
        after a space, or a full stop.
        """
        run = self._signs_at_end()
        signs = run.strip()
        repeated = len(signs) > 1 and len(set(signs)) == 1 and run == signs
        apart = run[:1].isspace() and bool(signs) and not set(signs) <= _SENTENCE_ENDS
        return run if repeated or apart or run == "." else ""

    def _signs_at_end(self) -> str:
        if not self.differ:
            return ""
        length = 0
        while length < len(self.reversed_suffix) and not self.reversed_suffix[length].isalnum():
            length += 1
        return self.reversed_suffix[:length][::-1]

    def instruction(self) -> str:
        """Return the whole lines with which every text begins, if they are long enough."""
        if not self.differ:
            return ""
        lines = self.prefix[: self.prefix.rfind("\n") + 1]
        return lines if len(lines.strip()) >= SHORTEST_INSTRUCTION else ""
