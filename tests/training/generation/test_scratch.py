"""Bases made from the data: the same data gives the same base, and any text survives its tokens."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hone.models.errors import InvalidInput, NotFound
from hone.training.generation.scratch import SHAPES, shape_of, train_tokenizer
from tests.training.generation.tiny import byte_tokenizer, tiny_base


@given(st.text())
def test_any_text_is_the_same_after_its_tokens(text: str) -> None:
    ids = byte_tokenizer().encode(text)
    assert byte_tokenizer().decode(ids, skip_special_tokens=True) == text


def test_names_of_programs_are_one_token() -> None:
    texts = ["SELECT CITYalias0.CITY_NAME FROM CITY AS CITYalias0 ;"] * 4
    tokenizer = train_tokenizer(texts, vocabulary=400, positions=64)
    assert "ĠCITYalias0.CITY_NAME" in tokenizer.tokenize(texts[0])


def test_the_same_data_gives_the_same_base(tmp_path: Path) -> None:
    one, other = tiny_base(tmp_path / "one"), tiny_base(tmp_path / "other")
    assert one.revision == other.revision
    assert tiny_base(tmp_path / "third", seed=1).revision != one.revision
    files = ("tokenizer.json", "config.json")
    assert all(
        (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()
        for name in files
    )


def test_an_unknown_shape_is_named_with_those_there_are() -> None:
    with pytest.raises(NotFound, match="scratch:llama-3m"):
        shape_of("scratch:llama-7b")
    assert shape_of("scratch:llama-3m") == SHAPES["llama-3m"]


def test_a_vocabulary_smaller_than_all_bytes_is_refused() -> None:
    with pytest.raises(InvalidInput, match="260 tokens are the least"):
        train_tokenizer(["a"], vocabulary=100, positions=8)
