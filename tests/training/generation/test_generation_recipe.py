"""What a causal model's recipe cannot mean is told by key, all of it at once."""

from typing import Any

import pytest

from hone.models.errors import InvalidRecipe
from hone.training.recipe_files import find_recipe, load_recipe


def problems(*overrides: str) -> list[str]:
    given = ["dataset.path=data", "model.base=base", "saving.name=x", *overrides]
    with pytest.raises(InvalidRecipe) as refused:
        load_recipe(find_recipe("completions"), given)
    return list(refused.value.problems)


@pytest.mark.parametrize(
    ("name", "key", "own"),
    [
        ("adamw", "momentum", "beta1, beta2, epsilon"),
        ("lion", "epsilon", "beta1, beta2"),
        ("adafactor", "beta1", "decay_rate, clip_threshold"),
        ("sgd", "beta2", "momentum"),
        ("prodigy", "decay_rate", "beta1, beta2, epsilon, d_coefficient"),
        ("adamw_8bit", "clip_threshold", "beta1, beta2, epsilon"),
        ("paged_adamw", "d_coefficient", "beta1, beta2, epsilon"),
    ],
)
def test_an_argument_of_another_optimizer_is_refused_by_its_key(
    name: str, key: str, own: str
) -> None:
    value = -0.5 if key == "decay_rate" else 0.5
    (problem,) = problems(f"optimizer.name={name}", f"optimizer.{key}={value}")
    expected = f"optimizer.{key}: is not of {name}, whose arguments are {own} (it is {value})"
    assert problem == expected


def test_foreign_arguments_are_told_beside_bad_values() -> None:
    found = problems("optimizer.beta1=1.5", "optimizer.momentum=0.5", "optimizer.d_coefficient=2")
    assert [problem.split(":")[0] for problem in found] == [
        "optimizer.beta1",
        "optimizer.momentum",
        "optimizer.d_coefficient",
    ]


def test_arguments_of_no_optimizer_there_is_are_not_told_of() -> None:
    (problem,) = problems("optimizer.name=adam", "optimizer.momentum=0.5")
    assert problem.startswith("optimizer.name: should be 'adamw'")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.name=adamw_8bit", "optimizer.name: adamw_8bit needs a GPU; take adamw"),
        ("optimizer.name=paged_adamw", "optimizer.name: paged_adamw needs a GPU; take adamw"),
        ("model.method=qlora", "model.method: qlora holds the base in four bits, which needs a "),
    ],
)
def test_what_needs_a_gpu_is_refused_with_the_recipe_where_that_says_cpu(
    override: str, message: str
) -> None:
    (problem,) = problems(override, "training.device=cpu")
    assert problem.startswith(message)
    assert problem.endswith("(training.device is cpu)")


def test_each_optimizer_takes_its_own_arguments() -> None:
    given = ["dataset.path=data", "model.base=base", "saving.name=x"]
    own = {"lion": "beta2", "sgd": "momentum", "prodigy": "d_coefficient", "adamw": "epsilon"}
    for name, key in own.items():
        recipe: Any = load_recipe(
            find_recipe("completions"), [*given, f"optimizer.name={name}", f"optimizer.{key}=0.5"]
        )
        assert recipe.optimizer.arguments()[key] == 0.5
