"""One table says what a causal language model is judged by, and in which words."""

from pathlib import Path

import pytest

import hone
from hone.models.measures import GENERATION_MEASURES, main_measure


def test_who_ranks_pairs_is_judged_by_that_and_others_by_exact_matches() -> None:
    assert main_measure({"loss", "exact_match", "reward_accuracy"})[0] == "reward_accuracy"
    assert main_measure({"token_accuracy", "exact_match"}) == ("exact_match", "exact match")
    with pytest.raises(ValueError, match="none of reward_accuracy"):
        main_measure({"loss"})


@pytest.mark.parametrize("words", GENERATION_MEASURES.values())
def test_no_other_module_has_the_words(words: str) -> None:
    written = [f'"{words}"', f'"{words.capitalize()}"']
    found = {
        path.name
        for path in Path(hone.__file__).parent.rglob("*.py")
        if any(text in path.read_text(encoding="utf-8") for text in written)
    }
    assert found == {"measures.py"}
