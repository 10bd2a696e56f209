"""Prompts: templates with named placeholders, filled for each input.

`{text}` is the input, or `{image}` where inputs are pictures; `{labels}` is the list of labels and
`{examples}` the few-shot examples. Anything else in braces that looks like a name is a mistake;
`{{name}}` is shown as `{name}`; other braces, such as JSON's, are only braces. What is filled in is
never read as a template again.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from hone.models.imaging.pictures import Picture
from hone.models.prompting.inputs import Input, Shot, kind_of, shown_as

_PLACEHOLDER = re.compile(r"\{\{([A-Za-z_]\w*)\}\}|\{([A-Za-z_]\w*)\}")

Content = str | tuple[str | Picture, ...]
"""What a message says: a text, or texts and pictures in their order."""


class Message(NamedTuple):
    """One message of a prompt."""

    role: str
    content: Content


@dataclass(frozen=True, slots=True)
class Prompt:
    """One rendered prompt: the system message, if any, and the turns; the last is the user's."""

    system: str
    turns: tuple[Message, ...]

    @property
    def messages(self) -> list[Message]:
        """Return all messages of the chat."""
        return [*([Message("system", self.system)] if self.system else []), *self.turns]

    @property
    def text(self) -> str:
        """Return it as one text, for an API that knows no turns; pictures stand by their names."""
        return "\n\n".join(in_words(message.content) for message in self.messages)

    @property
    def pictures(self) -> list[Picture]:
        """Return the pictures that it shows, in their order."""
        return [p for turn in self.turns for p in parts(turn.content) if not isinstance(p, str)]


@dataclass(frozen=True, slots=True)
class Templates:
    """A prompt's templates: system message, user's message, and one example."""

    system: str
    user: str
    example: str
    as_turns: bool

    def render(self, given: Input, *, labels: str, examples: Sequence[Shot]) -> Prompt:
        """Return the prompt for one input."""
        shown = "" if self.as_turns else self._examples(examples)
        values: dict[str, Content] = {"labels": labels, "examples": shown}
        turns: list[Message] = []
        if self.as_turns:
            for example in examples:
                asked = compose(self.user, values | _named(example.input))
                turns += [Message("user", asked), Message("assistant", example.label)]
        values |= _named(given)
        turns.append(Message("user", compose(self.user, values)))
        # Pictures have no place in a system message: there they would stand by their names.
        system = fill(self.system, {name: in_words(value) for name, value in values.items()})
        return Prompt(system, tuple(turns))

    def _examples(self, examples: Sequence[Shot]) -> Content:
        """Return all examples, an empty line between any two."""
        found: list[str | Picture] = []
        for example in examples:
            filled = compose(self.example, {**_named(example.input), "label": example.label})
            found += [*(["\n\n"] if found else []), *parts(filled)]
        return _joined(found)


def _named(given: Input) -> dict[str, Content]:
    """Return an input by the name of its placeholder."""
    return {kind_of(given): given if isinstance(given, str) else (given,)}


def parts(content: Content) -> tuple[str | Picture, ...]:
    """Return the texts and the pictures of a content."""
    return (content,) if isinstance(content, str) else content


def in_words(content: Content) -> str:
    """Return a content in words; pictures stand by their names, in brackets."""
    if isinstance(content, str):
        return content
    shown = (part if isinstance(part, str) else f"[{shown_as(part)}]" for part in content)
    return "\n".join(shown)


def compose(template: str, values: Mapping[str, Content]) -> Content:
    """Put values in the place of their names, in one pass; a text if no value has a picture."""
    found: list[str | Picture] = []
    at = 0
    for place in _PLACEHOLDER.finditer(template):
        found.append(template[at : place.start()])
        name = place[2]
        value = f"{{{place[1]}}}" if name is None else values.get(name, place[0])
        found += parts(value)
        at = place.end()
    return _joined([*found, template[at:]])


def _joined(found: Sequence[str | Picture]) -> Content:
    """Put texts that follow each other together; beside a picture no white space is kept."""
    together: list[str | Picture] = []
    for part in found:
        if isinstance(part, str) and together and isinstance(together[-1], str):
            together[-1] += part
        else:
            together.append(part)
    if all(isinstance(part, str) for part in together):
        return "".join(part for part in together if isinstance(part, str))
    stripped = [part.strip() if isinstance(part, str) else part for part in together]
    return tuple(part for part in stripped if part != "")


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


def nearest_last(examples: Sequence[Shot], places: Sequence[int]) -> list[Shot]:
    """Return retrieved examples as a prompt has them: given the nearest first, it stands last."""
    return [examples[place] for place in reversed(places)]
