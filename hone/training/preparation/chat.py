"""Chats: the turns before the last answer are the text, the last answer is the label."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from hone.models.prompt_form import (
    INSTRUCTING_ROLES,
    FormName,
    PromptForm,
    Turn,
    joined,
    read_chat,
)
from hone.training.preparation.problems import Problem
from hone.training.preparation.rows import UnusableField
from hone.training.preparation.shared import SharedInstruction, shared_start


@dataclass(frozen=True, slots=True)
class Chat:
    """`system` is the one system message of all chats, `opening` the turns all of them begin
    with, which are examples in the prompt. Neither belongs to the text.
    """

    column: str
    system: str = ""
    opening: tuple[Turn, ...] = ()
    rows_with_other_system: int = 0

    name: ClassVar[FormName] = "chat"

    @classmethod
    def found_in(cls, rows: Iterable[Mapping[str, object]], column: str) -> "Chat":
        """Find the instruction that chats share, in one pass."""
        shared = _SharedTurns()
        for fields in rows:
            try:
                shared.add(*_system_turns_label(fields.get(column))[:2])
            except UnusableField:
                continue
        return cls(column, shared.system(), shared.opening(), shared.rows_with_other_system())

    @property
    def columns(self) -> tuple[str, ...]:
        """The one with the messages."""
        return (self.column,)

    @property
    def shared_instruction(self) -> SharedInstruction | None:
        """The system message and the turns that all chats begin with."""
        turns = (Turn("system", self.system), *self.opening) if self.system else self.opening
        if not turns:
            return None
        text = self.system if not self.opening else joined(turns)
        messages = tuple({"role": role, "content": content} for role, content in turns)
        return SharedInstruction("chat", text, messages)

    @property
    def prompt_form(self) -> PromptForm:
        """What serving must know."""
        return PromptForm(kind=self.name, system=self.system, opening=self.opening)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is taken off, and what is left out though it differs."""
        found = []
        if self.shared_instruction is not None:
            message = (
                "the chats share an instruction (system message or opening turns): "
                "the fine-tuned model does not need it"
            )
            mend = "take it off"
            found.append(Problem("shared_instruction", "necessary", 1, message, mend, mended=True))
        if self.rows_with_other_system:
            count = self.rows_with_other_system
            message = (
                f"{count:,} chats have system messages that differ between chats: they are left "
                "out of the texts; if they matter, write them into the user's turn"
            )
            found.append(Problem("differing_system_messages", "advice", count, message))
        return tuple(found)

    def pair(self, fields: Mapping[str, object]) -> tuple[str | None, str | None]:
        """Return the user's one turn, or all turns joined, and the last answer."""
        _, turns, label = _system_turns_label(fields.get(self.column))
        return read_chat(turns, self.opening).text or None, label.strip() or None


class _SharedTurns:
    """What a stream of chats has in common; keeps one chat's turns at most."""

    def __init__(self) -> None:
        self._rows = 0
        self._with_system = 0
        self._system: str | None = None
        self._systems_differ = False
        self._opening: tuple[Turn, ...] | None = None

    def add(self, system: str, turns: tuple[Turn, ...]) -> None:
        self._rows += 1
        if system:
            self._with_system += 1
            self._system = self._system or system
            self._systems_differ = self._systems_differ or system != self._system
        last_user = max(i for i, (role, _) in enumerate(turns) if role == "user")
        before = turns[:last_user]
        self._opening = before if self._opening is None else shared_start(self._opening, before)

    def system(self) -> str:
        """Return the one system message, if at least half of the chats have it and none another."""
        if self._systems_differ or self._system is None or 2 * self._with_system < self._rows:
            return ""
        return self._system

    def rows_with_other_system(self) -> int:
        return 0 if self.system() else self._with_system

    def opening(self) -> tuple[Turn, ...]:
        """Return the turns before the last user's with which every chat begins, up to an answer."""
        turns = self._opening or ()
        while turns and turns[-1][0] == "user":
            turns = turns[:-1]
        return turns if self._rows > 1 else ()


def _system_turns_label(value: object) -> tuple[str, tuple[Turn, ...], str]:
    """Take a chat apart; raise UnusableField saying what it lacks."""
    messages = _messages(value)
    answers = [i for i, message in enumerate(messages) if _is_answer(message)]
    if not answers:
        raise UnusableField("has no assistant turn to learn from")
    before = [(_role(message), message) for message in messages[: answers[-1]]]
    system = [_content(message) for role, message in before if role in INSTRUCTING_ROLES]
    turns = tuple(
        Turn(role, _content(message)) for role, message in before if role not in INSTRUCTING_ROLES
    )
    if not any(role == "user" and content.strip() for role, content in turns):
        raise UnusableField("has no user turn before the assistant's")
    label = _content(messages[answers[-1]])
    if not label.strip() and messages[answers[-1]].get("tool_calls"):
        raise UnusableField("has a tool call for an answer, and no text")
    return "\n\n".join(system), turns, label


def _messages(value: object) -> list[Mapping[str, object]]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            value = None
    if not isinstance(value, list) or not value:
        raise UnusableField("has no list of messages")
    if not all(isinstance(message, dict) and "role" in message for message in value):
        raise UnusableField("has a message without a role")
    return value


def _role(message: Mapping[str, object]) -> str:
    return str(message["role"])


def _is_answer(message: Mapping[str, object]) -> bool:
    """Tell answers to learn: a weight of 0 says that a turn is context."""
    weight = message.get("weight")
    return _role(message) == "assistant" and (weight is None or weight != 0)


def _content(message: Mapping[str, object]) -> str:
    """Return a message's text, whether it is one string or a list of parts."""
    content = message.get("content")
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise UnusableField("has a message whose content is not text")
    pieces = []
    for part in content:
        if not isinstance(part, dict) or not isinstance(part.get("text"), str):
            raise UnusableField("has a message with a part that is not text, such as an image")
        pieces.append(part["text"])
    return "".join(pieces)
