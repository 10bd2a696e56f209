"""Answers held to the grammar of tool calls are calls, by whatever tokens the marks are written."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from hone.models.decoding.constraints import ConstraintFactory, UnsupportedTool
from hone.models.decoding.detokenizing import CausalTokenizer
from hone.models.decoding.sampling import Sampler, SamplingParameters
from hone.models.decoding.tool_calls import (
    CallPiece,
    Said,
    Tool,
    ToolCallReader,
    ToolForm,
    marks,
)
from hone.models.errors import InvalidInput

FORMS: tuple[ToolForm, ...] = ("hermes", "llama", "mistral")
COLOUR = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "blue"]}, "deep": {"type": "boolean"}},
    "required": ["colour", "deep"],
    "additionalProperties": False,
}
TOOLS = [Tool("paint", COLOUR, strict=True), Tool("stop")]


def tokenizer_of(form: ToolForm, folder: Path, kind: str) -> CausalTokenizer:
    """Make a tokenizer of single bytes; the marks of a form are text, tokens or special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({sign: n for n, sign in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken("</s>", special=True)])
    if kind != "text":
        added = [AddedToken(mark, special=kind == "special") for mark in marks(form)]
        tokenizer.add_tokens(added)
    tokenizer.save(str(folder / "tokenizer.json"))
    end = int(tokenizer.token_to_id("</s>") or 0)
    path = folder / "tokenizer.json"
    return CausalTokenizer.from_file(path, eos_ids=[end], shown=marks(form))


def said(
    tokenizer: CausalTokenizer,
    factory: ConstraintFactory,
    grammar: str,
    wished: str = "",
    *,
    seed: int = 0,
) -> str:
    """Return what a model says that would like to say `wished`, and then anything, or the end."""
    constraint = factory.follow(grammar)
    sampler = Sampler(SamplingParameters(seed=seed))
    noise = np.random.default_rng(seed)
    wishes = [*tokenizer.encode(wished, special=False), *tokenizer.eos_ids]
    ids: list[int] = []
    while len(ids) < 2000:
        logits = noise.normal(size=tokenizer.vocabulary_size).astype(np.float32)
        logits[wishes[min(len(ids), len(wishes) - 1)]] += 60
        token = sampler.choose(logits, allowed=constraint.allowed())
        if token in tokenizer.eos_ids:
            break
        ids.append(token)
        constraint.follow(token)
        if constraint.complete:
            break
    return tokenizer.decode(ids)


def read(form: ToolForm, text: str, *, sure: bool) -> tuple[str, list[tuple[str, Any]]]:
    reader = ToolCallReader(form, {"paint", "stop"}, sure=sure)
    found = [*reader.push(text), *reader.finish()]
    names = [piece.name for piece in found if isinstance(piece, CallPiece) and piece.name]
    arguments = [""] * len(names)
    for piece in found:
        if isinstance(piece, CallPiece):
            arguments[piece.number] += piece.arguments
    words = "".join(piece.text for piece in found if isinstance(piece, Said))
    return words, list(zip(names, map(json.loads, arguments), strict=True))


def written(form: ToolForm, arguments: str, name: str = "paint") -> str:
    key = "parameters" if form == "llama" else "arguments"
    one = f'{{"name": "{name}", "{key}": {arguments}}}'
    texts = {"hermes": f"<tool_call>\n{one}\n</tool_call>", "mistral": f"[TOOL_CALLS] [{one}]"}
    return texts.get(form, one)


every_form = pytest.mark.parametrize("form", FORMS)
every_kind = pytest.mark.parametrize("kind", ["text", "token", "special"])


@every_form
@every_kind
def test_a_needed_call_is_made_whatever_the_model_wants(
    form: ToolForm, kind: str, tmp_path: Path
) -> None:
    tokenizer = tokenizer_of(form, tmp_path, kind)
    factory = ConstraintFactory(tokenizer, tokenizer.vocabulary_size)
    grammar = factory.tool_grammar(form, TOOLS, needed=True, several=True)
    for seed in range(12):
        text = said(tokenizer, factory, grammar, "I will not." * (seed % 2), seed=seed)
        for sure in (True, False):
            words, calls = read(form, text, sure=sure)
            assert words == ""
            assert 1 <= len(calls) <= 128
            for name, arguments in calls:
                if name == "paint":
                    assert arguments["colour"] in {"red", "blue"}
                    assert isinstance(arguments["deep"], bool)
                else:
                    assert arguments == {}


@every_form
@every_kind
def test_words_are_free_and_a_call_behind_them_is_not(
    form: ToolForm, kind: str, tmp_path: Path
) -> None:
    tokenizer = tokenizer_of(form, tmp_path, kind)
    factory = ConstraintFactory(tokenizer, tokenizer.vocabulary_size)
    grammar = factory.tool_grammar(form, TOOLS, needed=False, several=False)
    for words in ("", "Hello <tool> [TOOL] é😀 {}", "a\n\n b"):
        assert said(tokenizer, factory, grammar, words) == words
    right = '{"colour": "blue", "deep": true}'
    assert said(tokenizer, factory, grammar, written(form, right)) == written(form, right)
    for before in ("", "Well. ") if form != "llama" else ("",):
        text = said(tokenizer, factory, grammar, before + written(form, '{"colour": "green"}'))
        found, ((name, arguments),) = read(form, text, sure=False)
        assert (found, name) == (before.strip(), "paint")
        assert arguments["colour"] in {"red", "blue"}


@every_form
def test_only_a_strict_tool_is_refused_for_its_schema(form: ToolForm, tmp_path: Path) -> None:
    tokenizer = tokenizer_of(form, tmp_path, "token")
    factory = ConstraintFactory(tokenizer, tokenizer.vocabulary_size)
    odd = {"properties": {"a": {"$ref": "http://x/y"}}, "required": ["a"]}
    grammar = factory.tool_grammar(form, [Tool("paint", odd)], needed=True, several=False)
    assert read(form, said(tokenizer, factory, grammar), sure=True)[1][0][0] == "paint"
    tools = [TOOLS[0], Tool("stop", odd, strict=True)]
    with pytest.raises(UnsupportedTool) as refused:
        factory.tool_grammar(form, tools, needed=False, several=True)
    assert refused.value.number == 1


def test_special_tokens_are_text_only_if_they_are_shown(tmp_path: Path) -> None:
    shown = tokenizer_of("mistral", tmp_path, "special")
    ids = shown.encode("[TOOL_CALLS] x", special=False)
    assert len(ids) == 3
    assert shown.decode(ids) == "[TOOL_CALLS] x"
    hidden = CausalTokenizer.from_file(tmp_path / "tokenizer.json", eos_ids=[256])
    assert hidden.encode("[TOOL_CALLS] x", special=False) == ids
    assert hidden.decode(ids) == " x"
    (tmp_path / "bad.json").write_text("[1]")
    with pytest.raises(InvalidInput):
        CausalTokenizer.from_file(tmp_path / "bad.json", shown=["x"])
