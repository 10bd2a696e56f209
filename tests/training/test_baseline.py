"""The baseline prompt: what it holds, and whether its tokens are counted or estimated."""

from pathlib import Path
from typing import Any

import pytest

from hone.models.errors import InvalidInput
from hone.models.examples import Example, sha256_of_file
from hone.models.manifest import Variant
from hone.models.names import ModelReference
from hone.models.prompt_form import PromptForm, Turn
from hone.models.registry import Registry
from hone.models.savings import ESTIMATED, estimate_tokens
from hone.training.baseline import build_baseline
from hone.training.recipe_groups import BaselineGroup
from tests.training.runs import Sabotage, Trained
from tests.training.tiny import LABELS, make_examples, word_tokenizer

TRAIN = make_examples(40, seed=0)


def group(**values: Any) -> BaselineGroup:
    return BaselineGroup.model_validate(values)


def test_by_default_the_prompt_is_made_from_labels_and_training_texts() -> None:
    found = build_baseline(group(), TRAIN, list(LABELS))
    assert found.instruction == (
        "Classify the text into exactly one of these 4 labels: card, fee, refund, transfer. "
        "Answer with the label only."
    )
    assert [shot.label for shot in found.examples] == list(LABELS) * 4
    assert {(shot.text, shot.label) for shot in found.examples} <= {
        (row.text, row.label) for row in TRAIN
    }
    assert found.method == ESTIMATED
    assert found.tokenizer_file is None
    assert found.static_tokens == estimate_tokens(found.render(""))
    assert found.output_tokens == pytest.approx(
        sum(estimate_tokens(row.label) for row in TRAIN) / len(TRAIN)
    )


def test_the_recipes_own_words_and_number_of_examples_are_taken() -> None:
    values = group(instruction="Sort this.", examples=2, price_model="some/model")
    found = build_baseline(values, TRAIN, list(LABELS))
    assert found.render("Where is it?").startswith("Sort this.\n\nText: ")
    assert found.render("Where is it?").endswith("\n\nText: Where is it?\nLabel:")
    assert len(found.examples) == 2
    assert found.price_model == "some/model"
    assert build_baseline(group(examples=0), TRAIN, list(LABELS)).examples == []


def test_more_examples_than_there_are_are_all_there_are() -> None:
    rows = [Example("a", "x"), Example("b", "y"), Example("c", "x")]
    found = build_baseline(group(examples=1000), rows, ["x", "y"])
    assert len(found.examples) == 3


def test_with_the_prompted_models_tokenizer_tokens_are_counted_exactly(tmp_path: Path) -> None:
    folder = tmp_path / "some-model"
    folder.mkdir()
    tokenizer = word_tokenizer()
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=50)
    tokenizer.save(str(folder / "tokenizer.json"))
    values = group(tokenizer=str(folder / "tokenizer.json"))
    found = build_baseline(values, TRAIN, list(LABELS))
    words = found.render("").replace(":", " : ").replace(",", " , ").replace(".", " . ").split()
    assert found.static_tokens == len(words)
    assert found.method == "exact:some-model"
    assert found.tokenizer_file == "baseline_tokenizer.json"
    assert found.output_tokens == 1.0


SHARED = PromptForm(kind="prompt/completion", instruction="Sort the message.\n", separator=" ->")


def test_the_instruction_that_the_data_shared_is_the_baseline_prompt() -> None:
    found = build_baseline(group(), TRAIN, list(LABELS), SHARED)
    assert found.instruction == "Sort the message."
    assert found.examples == []
    assert found.render("It broke") == "Sort the message.\nIt broke ->"
    assert found.static_tokens == estimate_tokens(found.render(""))


def test_a_chats_shared_turns_are_the_baseline_prompt() -> None:
    chat = PromptForm(kind="chat", system="Sort.", opening=(Turn("user", "Hi"),))
    found = build_baseline(group(), TRAIN, list(LABELS), chat)
    assert found.render("It broke") == "system: Sort.\nuser: Hi\nIt broke"
    assert found.static_tokens == estimate_tokens(found.render(""))


def test_the_recipe_goes_before_what_the_data_shared() -> None:
    own = build_baseline(group(instruction="Another."), TRAIN, list(LABELS), SHARED)
    assert own == build_baseline(group(instruction="Another."), TRAIN, list(LABELS))
    more = build_baseline(group(examples=2), TRAIN, list(LABELS), SHARED)
    assert (more.instruction, len(more.examples)) == ("Sort the message.", 2)
    assert more.static_tokens == estimate_tokens(more.render(""))
    nothing = build_baseline(group(), TRAIN, list(LABELS), PromptForm())
    assert nothing == build_baseline(group(), TRAIN, list(LABELS))


@pytest.mark.parametrize("content", [None, "{}", "not JSON"])
def test_what_is_no_tokenizer_is_refused(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(InvalidInput, match="is not a tokenizer file"):
        build_baseline(group(tokenizer=str(path)), TRAIN, list(LABELS))


def test_the_tokenizer_goes_into_the_bundle_byte_for_byte(
    trained: Trained, ready: dict[Variant, Sabotage], train: Any, tmp_path: Path
) -> None:
    path = Path(trained.recipe.model.base) / "tokenizer.json"
    assert train(f"baseline.tokenizer={path}").status == 0
    bundle = Registry(tmp_path / "store").open(ModelReference("tiny"))
    assert sha256_of_file(bundle.file("baseline_tokenizer.json")) == sha256_of_file(path)
    assert bundle.manifest.baseline is not None
    assert bundle.manifest.baseline.method == "exact:tiny-bert"
    estimated = trained.manifest.baseline
    assert estimated is not None
    assert estimated.method == ESTIMATED
