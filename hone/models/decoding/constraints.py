"""Completions that follow a JSON schema: which tokens may come next.

The grammar engine is llguidance, which works on the bytes of the tokens; a schema's features that
it does not know are refused, not ignored.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson
from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

from hone.models.decoding.chat_messages import MOST_NESTED, nested_too_deep
from hone.models.decoding.detokenizing import CausalTokenizer
from hone.models.decoding.sampling import BoolArray
from hone.models.decoding.tool_calls import Tool, ToolForm
from hone.models.decoding.tool_grammars import ANY_OBJECT, NO_ARGUMENTS, calls_grammar
from hone.models.errors import InvalidInput

logger = logging.getLogger(__name__)

_LONGEST_SCHEMA_BYTES = 64 * 2**10
_FORCED_TRIES = 16
"""How many times a new grammar is followed through what it forces, to see that it goes on."""

_BOUNDED_SPACE: Mapping[str, Any] = {"whitespace_pattern": "[ ]?"}
"""JSON allows any white space between its parts; a small model would go on with it for ever."""


class UnsupportedSchema(InvalidInput):
    """A JSON schema that is malformed or asks for what constrained decoding does not know.

    Some are found out only while they are followed.
    """

    code = "unsupported_schema"


class UnsatisfiableSchema(UnsupportedSchema):
    """A JSON schema that no value satisfies."""


class UnsupportedTool(UnsupportedSchema):
    """A tool, by its place, whose arguments cannot be held to its schema."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.number = number


class Constraint:
    """Follows one completion. One thread at a time."""

    def __init__(self, matcher: LLMatcher, vocabulary_size: int) -> None:
        self._matcher = matcher
        self._vocabulary_size = vocabulary_size
        self._allowed: BoolArray | None = None

    def allowed(self) -> BoolArray:
        """Return which tokens (vocabulary,) may come next, at least one.

        UnsupportedSchema when the schema turns out to be one that cannot be followed.
        """
        mask = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        bits = np.unpackbits(mask, bitorder="little")[: self._vocabulary_size].astype(bool)
        if self._matcher.is_error():
            raise _unsupported(self._matcher.get_error())
        self._allowed = np.pad(bits, (0, self._vocabulary_size - len(bits)))
        return self._allowed

    def follow(self, token: int) -> None:
        """Take the token that was chosen.

        UnsupportedSchema as above; ValueError for a token that was not allowed.
        """
        if self._matcher.consume_token(token):
            return
        message = self._matcher.get_error()
        if self._allowed is None or not self._allowed[token]:
            raise ValueError(f"the constraint failed: {message}")
        raise _unsupported(message)

    @property
    def complete(self) -> bool:
        """Whether nothing can come any more."""
        return bool(self._matcher.is_stopped())


class _Tokens:
    """A tokenizer as the library wants it, of a kind whose file it cannot read."""

    bos_token_id = None

    def __init__(self, tokenizer: CausalTokenizer) -> None:
        self._tokenizer = tokenizer
        self.tokens = [tokenizer.token_bytes(token) for token in range(tokenizer.vocabulary_size)]
        self.special_token_ids = tokenizer.special_ids
        self.eos_token_id = min(tokenizer.eos_ids)

    def __call__(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, special=False)


class ConstraintFactory:
    """Makes constraints for one tokenizer. `vocabulary_size` is the number of logits."""

    def __init__(self, tokenizer: CausalTokenizer, vocabulary_size: int) -> None:
        self._vocabulary_size = vocabulary_size
        known = max(vocabulary_size, tokenizer.vocabulary_size)
        ends = sorted(tokenizer.eos_ids)
        self._added_tokens = tokenizer.added_tokens
        self._tokenizer = _known_to_library(tokenizer, known, ends)

    def grammar(self, schema: Mapping[str, Any] | None) -> str:
        """Return the grammar of a JSON schema, None for any object; UnsupportedSchema if none."""
        wanted = ANY_OBJECT if schema is None else schema
        if nested_too_deep(wanted):
            raise UnsupportedSchema(f"the schema is nested more than {MOST_NESTED} deep")
        if len(orjson.dumps(wanted)) > _LONGEST_SCHEMA_BYTES:
            raise UnsupportedSchema("the schema is too long")
        try:
            grammar = str(
                LLMatcher.grammar_from_json_schema(dict(wanted), overrides={**_BOUNDED_SPACE})
            )
        except ValueError as error:
            raise UnsupportedSchema(f"the schema cannot be followed: {error}") from None
        problem = self._problem(grammar)
        if problem:
            raise _unsupported(problem)
        return grammar

    def _problem(self, grammar: str) -> str:
        """Return why a grammar cannot be followed, as far as its forced beginning tells."""
        matcher = LLMatcher(self._tokenizer, grammar, log_level=0)
        for _ in range(_FORCED_TRIES):
            if not matcher.is_error():
                matcher.compute_bitmask()
            forced = [] if matcher.is_error() else matcher.compute_ff_tokens()
            if not forced or not matcher.consume_tokens(forced):
                break
        return str(matcher.get_error())

    def tool_grammar(
        self, form: ToolForm, tools: Sequence[Tool], *, needed: bool, several: bool
    ) -> str:
        """Return the grammar of an answer that may or (`needed`) must call some of these tools.

        UnsupportedTool for one that is to be followed strictly and cannot, and, where a call is
        needed, for one with arguments that nothing can satisfy. The arguments of the
        others follow their schemas where a call is needed and the library knows all of it.
        """
        grammar = calls_grammar(
            form,
            [(tool, self._arguments(number, tool, needed)) for number, tool in enumerate(tools)],
            tokens=self._added_tokens,
            needed=needed,
            several=several,
        )
        found = str(LLMatcher.grammar_from_lark(grammar))
        problem = self._problem(found)
        if problem:
            raise UnsupportedSchema(f"the tools cannot be followed: {_said(problem)}")
        return found

    def _arguments(self, number: int, tool: Tool, needed: bool) -> Mapping[str, Any]:
        if not (tool.strict or needed):
            return ANY_OBJECT
        schema = {**(tool.parameters or NO_ARGUMENTS), "type": "object"}
        try:
            self.grammar(schema)
        except UnsupportedSchema as error:
            if tool.strict or isinstance(error, UnsatisfiableSchema):
                raise UnsupportedTool(number, str(error)) from None
            return ANY_OBJECT
        return schema

    def follow(self, grammar: str) -> Constraint:
        """Return a constraint at the beginning of a completion."""
        matcher = LLMatcher(self._tokenizer, grammar, log_level=0)
        return Constraint(matcher, self._vocabulary_size)


def _said(message: str) -> str:
    """Return what the library says of a grammar, without the state that it was in."""
    return (message.splitlines() or [""])[0]


def _unsupported(message: str) -> UnsupportedSchema:
    """Return the error of a grammar, by what the library says of it."""
    said = _said(message)
    if said.startswith("NoExtension"):
        return UnsatisfiableSchema("the schema cannot be followed: nothing satisfies it")
    if said.startswith("Unsatisfiable"):
        return UnsatisfiableSchema(f"the schema cannot be followed: {said}")
    if "TooComplex" in said or "lexer error" in said:
        return UnsupportedSchema("the schema cannot be followed: it is too complex")
    return UnsupportedSchema(f"the schema cannot be followed: {said}")


def _known_to_library(tokenizer: CausalTokenizer, known: int, ends: list[int]) -> LLTokenizer:
    """Return the library's own reading of the tokenizer, or ours where it knows no such kind."""
    try:
        return LLTokenizer(tokenizer.to_json(), n_vocab=known, eos_token=ends)
    except Exception as error:  # noqa: BLE001 - the library raises whatever its Rust part does
        logger.debug("the tokenizer goes by its tokens alone", extra={"reason": str(error)})
    try:
        return LLTokenizer(TokenizerWrapper(_Tokens(tokenizer)), n_vocab=known, eos_token=ends)
    except Exception as error:  # the same
        raise InvalidInput("constrained decoding does not know this tokenizer") from error
