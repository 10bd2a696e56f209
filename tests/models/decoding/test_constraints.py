"""Completions that follow a schema are JSON of that schema, whatever the model would rather say."""

import json
from typing import Any

import numpy as np
import pytest

from hone.models.decoding.constraints import ConstraintFactory, UnsupportedSchema
from hone.models.decoding.detokenizing import CausalTokenizer
from hone.models.decoding.sampling import Sampler, SamplingParameters
from tests.bases import base_folder

EOS = 2
COLOURS = ["red", "blue"]
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "n": {"type": "integer", "minimum": 0, "maximum": 99},
        "colour": {"enum": COLOURS},
        "names": {"type": "array", "items": {"type": "string", "maxLength": 6}, "maxItems": 3},
    },
    "required": ["n", "colour", "names"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def tokenizer() -> CausalTokenizer:
    path = base_folder("stories260K") / "tokenizer.json"
    return CausalTokenizer.from_file(path, eos_ids=[EOS])


@pytest.fixture(scope="module")
def factory(tokenizer: CausalTokenizer) -> ConstraintFactory:
    return ConstraintFactory(tokenizer, 512)


def said(factory: ConstraintFactory, tokenizer: CausalTokenizer, seed: int) -> str:
    """Return what a model that says anything at random says under the schema."""
    constraint = factory.follow(factory.grammar(SCHEMA))
    sampler = Sampler(SamplingParameters(seed=seed))
    noise = np.random.default_rng(seed)
    found = b""
    for _ in range(400):
        logits = noise.normal(size=512).astype(np.float32)
        token = sampler.choose(logits, allowed=constraint.allowed())
        if token == EOS:
            return found.decode()
        found += tokenizer.token_bytes(token)
        constraint.follow(token)
        if constraint.complete:
            return found.decode()
    raise AssertionError("it never ended")


@pytest.mark.parametrize("seed", range(20))
def test_random_logits_under_a_schema_make_json_of_that_schema(
    factory: ConstraintFactory, tokenizer: CausalTokenizer, seed: int
) -> None:
    found = json.loads(said(factory, tokenizer, seed))
    assert set(found) == {"n", "colour", "names"}
    assert found["n"] in range(100)
    assert found["colour"] in COLOURS
    assert len(found["names"]) <= 3
    assert all(len(name) <= 6 for name in found["names"])


def test_a_token_that_is_not_allowed_is_an_error(factory: ConstraintFactory) -> None:
    constraint = factory.follow(factory.grammar(None))
    forbidden = int(np.flatnonzero(~constraint.allowed())[0])
    with pytest.raises(ValueError, match="constraint failed"):
        constraint.follow(forbidden)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "nonsense"},
        {"type": "object", "properties": []},
        {"not": {"type": "string"}},
        {"enum": ["x" * 70_000]},
    ],
)
def test_a_schema_that_cannot_be_followed_is_refused(
    factory: ConstraintFactory, schema: dict[str, Any]
) -> None:
    with pytest.raises(UnsupportedSchema):
        factory.grammar(schema)


def test_a_schema_that_breaks_off_is_told_from_a_token_that_is_wrong(
    factory: ConstraintFactory, tokenizer: CausalTokenizer
) -> None:
    pattern = {"type": "string", "pattern": "^(a{1,1000}){1,1000}$"}
    constraint = factory.follow(factory.grammar(pattern))
    [quote, letter] = (
        [i for i in range(3, 512) if tokenizer.token_bytes(i) == b][-1] for b in (b'"', b"a")
    )
    assert constraint.allowed()[quote]
    constraint.follow(quote)

    def go_on() -> None:
        for _ in range(400):
            assert constraint.allowed()[letter]
            constraint.follow(letter)

    with pytest.raises(UnsupportedSchema, match="too complex"):
        go_on()
