"""What of a run's data is learned and what is judged, and what its settings cannot mean."""

from pathlib import Path
from typing import Any

import pytest

from hone.models.errors import InvalidExamples, InvalidInput
from hone.training.generation.causal_data import encode_splits, read_splits
from hone.training.generation.conversations import Conversation, Message, Preference
from tests.training.generation.running import recipe_for, write_splits
from tests.training.generation.tiny import tiny_base


def preferences(count: int, first: int) -> list[Any]:
    return [Preference(f"{n} ->", " yes", " no") for n in range(first, first + count)]


def test_prompts_that_are_learned_a_little_are_not_asked_back(tmp_path: Path) -> None:
    recipe = recipe_for(
        tmp_path, write_splits(tmp_path / "data"), dataset={"prompt_loss_weight": 0.25}
    )
    data, _ = encode_splits(read_splits(recipe), recipe, tiny_base(tmp_path / "base"))
    weights = {
        split: {weight for text in data.encoded[split].texts for weight in text.weights}
        for split in ("train", "validation", "test")
    }
    assert weights == {"train": {0.25, 1.0}, "validation": {0.0, 1.0}, "test": {0.0, 1.0}}


@pytest.mark.parametrize(
    ("group", "name"), [("dataset", "prompt_loss_weight"), ("training", "label_smoothing")]
)
def test_preferences_refuse_what_is_for_completions(tmp_path: Path, group: str, name: str) -> None:
    data = write_splits(tmp_path / "data", preferences)
    recipe = recipe_for(tmp_path, data, **{group: {name: 0.1}})
    with pytest.raises(InvalidInput, match=rf"{group}\.{name} is for completions"):
        encode_splits(read_splits(recipe), recipe, tiny_base(tmp_path / "base"))


def greeted(count: int, first: int) -> list[Any]:
    """Return chats of which the third begins with the assistant."""
    asked = Message("user", "q"), Message("assistant", "a")
    return [
        Conversation((Message("assistant", "hello"), *asked) if n == 2 else asked)
        for n in range(first, first + count)
    ]


def test_chats_that_the_template_does_not_take_are_named_by_line(tmp_path: Path) -> None:
    recipe = recipe_for(tmp_path, write_splits(tmp_path / "data", greeted))
    base = tiny_base(tmp_path / "base")
    base.tokenizer.chat_template = (
        "{% if messages and messages[0].role == 'assistant' %}{{ raise_exception('no') }}"
        "{% endif %}{% for m in messages %}{{ m.role }} {{ m.content }}|{% endfor %}"
        "{% if add_generation_prompt %}assistant {% endif %}"
    )
    with pytest.raises(
        InvalidExamples, match=r"^the train file's line 3: the base's chat template does not take"
    ):
        encode_splits(read_splits(recipe), recipe, base)
