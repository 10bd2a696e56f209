"""The prompt that a causal model replaces: made from the recipe and the training examples."""

from pathlib import Path

import pytest

from hone.models.savings import ESTIMATED, estimate_tokens
from hone.training.generation.causal_baseline import build_causal_baseline
from hone.training.generation.conversations import Completion, Example, parse_example
from hone.training.generation.generation_recipe import CausalBaselineGroup
from tests.training.generation.tiny import byte_tokenizer

TRAIN: list[Example] = [
    Completion("short ->", " a"),
    Completion("of middle length ->", " bb"),
    Completion("much longer than the others are ->", " ccc"),
]


def test_without_an_instruction_and_examples_there_is_none() -> None:
    assert build_causal_baseline(CausalBaselineGroup(), TRAIN, "plain") is None


def test_an_instruction_and_examples_stand_before_the_input() -> None:
    group = CausalBaselineGroup(instruction="Say it.", examples=1, price_model="some/model")
    found = build_causal_baseline(group, TRAIN, "plain")
    assert found is not None
    expected = "Say it.\n\nof middle length -> bb\n\n"
    assert found.render("") == expected
    assert (found.static_tokens, found.method) == (estimate_tokens(expected), ESTIMATED)
    assert found.output_tokens == pytest.approx(1)
    assert found.price_model == "some/model"


def test_a_chats_examples_are_turns_and_its_system_message_is_not_one(tmp_path: Path) -> None:
    chat = parse_example(
        {
            "messages": [
                {"role": "system", "content": "Never shown."},
                {"role": "user", "content": "q"},
                {"role": "assistant", "content": "a"},
            ]
        }
    )
    byte_tokenizer().save_pretrained(tmp_path / "large")
    group = CausalBaselineGroup(
        instruction="Be kind.", examples=3, tokenizer=str(tmp_path / "large" / "tokenizer.json")
    )
    found = build_causal_baseline(group, [chat], "chat")
    assert found is not None
    assert found.render("x") == "system: Be kind.\nuser: q\nassistant: a\nuser: x"
    assert found.static_tokens == len(found.render("")), "a token for each byte"
    assert found.method == "exact:large"
