"""Prompts: templates with named placeholders, filled for each input.

`{text}` is the input, `{labels}` the list of labels, `{examples}` the few-shot examples. Anything
else in braces that looks like a name is a mistake; `{{name}}` is shown as `{name}`; other braces,
such as JSON's, are only braces. What is filled in is never read as a template again.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hone.models.examples import Example
from hone.models.prompt_form import Turn

_PLACEHOLDER = re.compile(r"\{\{([A-Za-z_]\w*)\}\}|\{([A-Za-z_]\w*)\}")


@dataclass(frozen=True, slots=True)
class Prompt:
    """One rendered prompt: the system message, if any, and the turns; the last is the user's."""

    system: str
    turns: tuple[Turn, ...]

    @property
    def messages(self) -> list[Turn]:
        """Return all messages of the chat."""
        return [*([Turn("system", self.system)] if self.system else []), *self.turns]

    @property
    def text(self) -> str:
        """Return it as one text, for an API that knows no turns."""
        return "\n\n".join(turn.content for turn in self.messages)


@dataclass(frozen=True, slots=True)
class Templates:
    """A prompt's templates: system message, user's message, and one example."""

    system: str
    user: str
    example: str
    as_turns: bool

    def render(self, text: str, *, labels: str, examples: Sequence[Example]) -> Prompt:
        """Return the prompt for one input."""
        shown = "" if self.as_turns else self._examples(examples)
        values = {"text": text, "labels": labels, "examples": shown}
        turns: list[Turn] = []
        if self.as_turns:
            for example in examples:
                asked = fill(self.user, values | {"text": example.text})
                turns += [Turn("user", asked), Turn("assistant", example.label)]
        turns.append(Turn("user", fill(self.user, values)))
        return Prompt(fill(self.system, values), tuple(turns))

    def _examples(self, examples: Sequence[Example]) -> str:
        filled = (fill(self.example, {"text": e.text, "label": e.label}) for e in examples)
        return "\n\n".join(filled)


def placeholders(template: str) -> list[str]:
    """Return the names in single braces."""
    return [found[2] for found in _PLACEHOLDER.finditer(template) if found[2]]


def fill(template: str, values: Mapping[str, str]) -> str:
    """Put values in the place of their names, in one pass."""

    def value(found: re.Match[str]) -> str:
        return f"{{{found[1]}}}" if found[1] else values.get(found[2], found[0])

    return _PLACEHOLDER.sub(value, template)


def labels_list(labels: Sequence[str], descriptions: Mapping[str, str]) -> str:
    """Return the labels as a prompt lists them: one a line, with what they mean if that is said."""
    lines = (f"- {name}: {descriptions[name]}" if name in descriptions else f"- {name}"
             for name in labels)  # fmt: skip
    return "\n".join(lines)


def nearest_last(examples: Sequence[Example], places: Sequence[int]) -> list[Example]:
    """Return retrieved examples as a prompt has them: given the nearest first, it stands last."""
    return [examples[place] for place in reversed(places)]
