"""Continuing from a published version: its weights are where the training begins."""

import pytest
import torch
from safetensors.torch import load_file

from hone.models.catalogue import find_base
from hone.models.errors import BundleCorrupt, InvalidInput, NotFound
from hone.training.classifier import TextClassifier, build_classifier, merge_lora
from hone.training.continuing import WEIGHTS_FILE, begin_from, find_earlier
from hone.training.recipe import ClassifierRecipe
from tests.training.runs import Trained
from tests.training.tiny import LABELS, Task


def continuing(task: Task, trained: Trained, *more: str) -> ClassifierRecipe:
    folder = trained.store.parent
    return task.recipe(folder, "model.continue_from=tiny@1", *more)


def fresh(recipe: ClassifierRecipe, labels: int = len(LABELS)) -> TextClassifier:
    torch.manual_seed(1)
    return build_classifier(
        find_base(recipe.model.base), recipe.model, labels=labels, train_embeddings=False
    )


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_model_that_continues_answers_as_the_earlier_one_did(
    task: Task, trained: Trained, model: TextClassifier, method: str
) -> None:
    recipe = continuing(task, trained, f"model.method={method}")
    bundle = find_earlier(recipe, find_base(recipe.model.base))
    assert bundle is not None
    begun = fresh(recipe)
    begin_from(bundle, begun, LABELS)
    merge_lora(begun)
    ids, mask = torch.tensor([[2, 5, 9, 30, 3]]), torch.ones((1, 5), dtype=torch.int64)
    with torch.inference_mode():
        assert torch.allclose(begun.eval()(ids, mask), model(ids, mask), atol=1e-6)


def test_the_head_keeps_the_labels_it_knew_and_begins_anew_for_others(
    task: Task, trained: Trained
) -> None:
    recipe = continuing(task, trained)
    bundle = find_earlier(recipe, find_base(recipe.model.base))
    assert bundle is not None
    begun, labels = fresh(recipe, labels=3), ["card", "news", "transfer"]
    before = begun.head.weight.detach().clone()
    begin_from(bundle, begun, labels)
    known = load_file(bundle.file(WEIGHTS_FILE))["head.weight"]
    assert torch.equal(begun.head.weight[0], known[LABELS.index("card")])
    assert torch.equal(begun.head.weight[1], before[1])
    assert torch.equal(begun.head.weight[2], known[LABELS.index("transfer")])


def test_a_recipe_that_continues_from_nothing_finds_nothing(task: Task, trained: Trained) -> None:
    recipe = task.recipe(trained.store.parent)
    assert find_earlier(recipe, find_base(recipe.model.base)) is None


def test_a_version_that_is_not_there_or_of_another_base_is_refused(
    task: Task, trained: Trained
) -> None:
    base = find_base(str(task.base))
    with pytest.raises(NotFound, match="tiny@7"):
        find_earlier(continuing(task, trained, "model.continue_from=tiny@7"), base)
    with pytest.raises(InvalidInput, match="made from the base"):
        find_earlier(continuing(task, trained), find_base("minilm"))


def test_weights_of_another_encoder_are_refused(task: Task, trained: Trained) -> None:
    recipe = continuing(task, trained)
    bundle = find_earlier(recipe, find_base(recipe.model.base))
    assert bundle is not None
    with pytest.raises(BundleCorrupt, match="do not fit"):
        begin_from(bundle, TextClassifier(Wider(), labels=4, pooling="mean", dropout=0), LABELS)


class Wider(torch.nn.Module):
    class config:  # noqa: N801 - as transformers names it
        hidden_size = 48

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(48, 48)
