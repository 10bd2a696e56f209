"""Recipes: every problem at once, no surprise in an override, and a hash that means the same."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hone.models.errors import InvalidRecipe, NotFound
from hone.training.recipe import ClassifierRecipe
from hone.training.recipe_files import RECIPES_FOLDER, find_recipe, load_recipe, load_recipe_of
from tests.training.runs import ROOT

SHIPPED = sorted(RECIPES_FOLDER.glob("*.toml"))
LEAST = '[dataset]\npath = "data"\n[saving]\nname = "support"\n'

Loader = Callable[..., ClassifierRecipe]


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Loader:
    """Return what loads a recipe from its text."""
    path = tmp_path_factory.mktemp("recipe") / "recipe.toml"

    def load(content: str | bytes, *overrides: str) -> ClassifierRecipe:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return load_recipe_of(ClassifierRecipe, path, overrides)

    return load


def problems(load: Loader, content: str | bytes, *overrides: str) -> tuple[str, ...]:
    with pytest.raises(InvalidRecipe) as refused:
        load(content, *overrides)
    return refused.value.problems


def test_every_problem_is_named_at_once(load: Loader) -> None:
    found = problems(
        load,
        """
        surprise = 1
        [model]
        bas = "minilm"
        dropout = 1.0
        [optimizer]
        learning_rate = "fast"
        [dataset]
        path = "data"
        test = "test.jsonl"
        [training]
        batch_size = 1.5
        device = "tpu"
        [saving]
        variants = ["int8"]
        """,
        "training.seed=-1",
        "nonsense",
        "training=5",
    )
    expected = [
        "'nonsense' is not of the form group.key=value",
        "'training=5' is not of the form group.key=value",
        "model.dropout: should be less than 1 (it is 1.0)",
        "model.bas: unknown key; did you mean 'base'?",
        "optimizer.learning_rate: should be 'auto' or should be a valid number (it is 'fast')",
        "dataset: give either 'path' or the files, not both",
        "training.batch_size: should be 'auto' or should be a valid integer (it is 1.5)",
        "training.seed: should be greater than or equal to 0 (it is -1)",
        "training.device: should be 'auto', 'cpu' or 'cuda' (it is 'tpu')",
        "saving.name: missing",
        "surprise: unknown key",
    ]
    assert sorted(found) == sorted(expected)


def test_the_message_lists_the_problems_one_a_line(load: Loader) -> None:
    with pytest.raises(InvalidRecipe) as refused:
        load("", "training.epochs=0")
    first, *rest = str(refused.value).splitlines()
    assert first == "the recipe has 3 problems:"
    assert all(line.startswith("  - ") for line in rest)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_first_line_of_a_shipped_recipe_is_a_command_that_loads_it(path: Path) -> None:
    first = path.read_text(encoding="utf-8").splitlines()[0]
    hone, train, name, *overrides = shlex.split(first.removeprefix("# "))
    assert (hone, train, name) == ("hone", "train", path.stem)
    assert find_recipe(name) == path
    recipe: Any = load_recipe(path, overrides)
    assert recipe.dataset.path is not None


def test_a_task_that_is_no_name_is_refused_by_its_key(load: Loader) -> None:
    (found,) = problems(load, LEAST, "model.task=[]")
    assert found.startswith("model.task: should be one of text-classification, text-generation")


def test_every_toml_file_of_the_package_is_a_shipped_recipe() -> None:
    found = set((ROOT / "hone").rglob("*.toml"))
    assert found == set(SHIPPED)
    assert {path.stem for path in SHIPPED} >= {"classifier", "classifier_lora", "long_texts"}


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("model.bases=x", "model.bases: unknown key; did you mean 'base'?"),
        ("training.epoch=3", "training.epoch: unknown key; did you mean 'epochs'?"),
        ("trainin.epochs=3", "trainin: unknown key; did you mean 'training'?"),
        ("saving.zzzzzz=3", "saving.zzzzzz: unknown key"),
    ],
)
def test_an_unknown_key_gets_the_nearest_known_one(
    load: Loader, override: str, problem: str
) -> None:
    assert problems(load, LEAST, override) == (problem,)


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("optimizer.learning_rate=2e-5", 2e-5),
        ("optimizer.learning_rate=auto", "auto"),
        ('optimizer.learning_rate="auto"', "auto"),
        ("training.epochs=3", 3),
        ("training.epochs=0.5", 0.5),
        ("training.batch_size=64", 64),
        ("training.train_embeddings=true", True),
        ("saving.promote=false", False),
        ('saving.variants=["fp32"]', ["fp32"]),
        ("model.base=hub:owner/name@main", "hub:owner/name@main"),
        ("dataset.path=/a folder/with = signs", "/a folder/with = signs"),
        ("dataset.long_texts=reject", "reject"),
        ("baseline.instruction=Say: card, fee or refund.", "Say: card, fee or refund."),
        ("baseline.instruction=", ""),
        ("baseline.instruction=1\ntwo = 3", "1\ntwo = 3"),
        ("dataset.positive_label=1", "1"),
        ("dataset.positive_label='1'", "1"),
        ("dataset.positive_label=true", "true"),
        ("saving.name=2026-11-01", "2026-11-01"),
        ("saving.licence=" + "9" * 5000, "9" * 5000),
        ("saving.licence=" + "[" * 5000, "[" * 5000),
    ],
)
def test_an_override_may_be_of_any_type_and_strings_need_no_quotes(
    load: Loader, override: str, value: Any
) -> None:
    recipe = load(LEAST, override)
    group, _, name = override.partition("=")[0].partition(".")
    found = getattr(getattr(recipe, group), name)
    assert found == value
    assert type(found) in {type(value), float}


@pytest.mark.parametrize(
    "written",
    ['["fp32", "int8"]', "[fp32, int8]", "[fp32,int8]", " [ fp32 ,int8 ] ", "['fp32','int8']"],
)
def test_quotes_may_be_left_out_in_a_list(load: Loader, written: str) -> None:
    assert list(load(LEAST, f"saving.variants={written}").saving.variants) == ["fp32", "int8"]
    assert list(load(LEAST, "saving.variants=[fp32]").saving.variants) == ["fp32"]


@pytest.mark.parametrize("written", ["[fp32", "[fp32,]", "[,]", "[[fp32]]", "[fp31]", "[1]"])
def test_what_is_no_list_of_variants_is_still_refused(load: Loader, written: str) -> None:
    with pytest.raises(InvalidRecipe, match=r"saving\.variants"):
        load(LEAST, f"saving.variants={written}")


def test_a_name_in_brackets_stays_a_text(load: Loader) -> None:
    recipe = load(LEAST, "dataset.path=[a]")
    assert str(recipe.dataset.path) == "[a]"


def test_an_override_goes_before_the_file_and_a_later_one_before_an_earlier(load: Loader) -> None:
    content = LEAST + "[training]\nepochs = 2\nseed = 5\n"
    recipe = load(content, "training.epochs=3", "training.epochs=4")
    assert (recipe.training.epochs, recipe.training.seed) == (4, 5)


@pytest.mark.parametrize(
    "line",
    [
        'training.batch_size="8"',
        "training.batch_size=8.0",
        "training.batch_size=true",
        "training.train_embeddings=1",
        'training.train_embeddings="true"',
        "training.seed=1.0",
        "model.dropout=nan",
        "model.lora_alpha=inf",
        "training.checkpoint_every_s=inf",
        "saving.variants=fp32",
        'saving.variants=["fp32", "fp8"]',
        "saving.variants=[]",
        "saving.name=Not A Name",
        'saving.name=".."',
        "model.method=LORA",
    ],
)
def test_a_value_of_the_wrong_kind_is_not_converted(load: Loader, line: str) -> None:
    (problem,) = problems(load, LEAST, line)
    assert problem.startswith(line.partition("=")[0])


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"\xff", "is not UTF-8 text"),
        (b"a = ", "is not TOML: Invalid value"),
        (b"a = " + b"[" * 5000, "is not TOML that can be read"),
        (b"a = " + b"1" * 5000, "is not TOML that can be read"),
        (b"a = " + b"{a=" * 5000, "is not TOML that can be read"),
    ],
)
def test_what_is_no_toml_is_said_to_be_none(load: Loader, content: bytes, problem: str) -> None:
    (found,) = problems(load, content)
    assert problem in found


def test_a_byte_order_mark_is_no_part_of_the_recipe(load: Loader) -> None:
    assert load(b"\xef\xbb\xbf" + LEAST.encode()) == load(LEAST)


def test_examples_come_from_a_folder_or_from_files(load: Loader, tmp_path: Path) -> None:
    files = '[saving]\nname = "a"\n[dataset]\ntrain = "a.jsonl"\nvalidation = "b.jsonl"\n'
    dataset = load(files).dataset
    assert (dataset.file("train"), dataset.file("test")) == (Path("a.jsonl"), None)
    dataset = load(LEAST, f"dataset.path={tmp_path}").dataset
    assert dataset.file("test") is None
    (tmp_path / "test.jsonl").touch()
    assert dataset.file("test") == tmp_path / "test.jsonl"


def test_the_hash_is_of_what_the_recipe_says_and_not_of_how_or_where(load: Loader) -> None:
    first = load(LEAST, "training.seed=1")
    again = load("saving={name='support'}\ndataset.path='data'\ntraining.seed=0x1\n# a comment")
    assert first.sha256() == again.sha256()
    elsewhere = load(
        LEAST, "training.seed=1", "saving.store=/s", "saving.runs=/r", "saving.promote=true"
    )
    assert elsewhere.sha256() == first.sha256()


@pytest.mark.parametrize(
    "override",
    ["saving.name=b", "training.seed=1", "dataset.path=b", 'saving.variants=["fp32"]'],
)
def test_the_hash_changes_with_what_makes_another_model(load: Loader, override: str) -> None:
    assert load(LEAST, override).sha256() != load(LEAST).sha256()


def test_a_hash_survives_being_written_down_and_read_again(load: Loader) -> None:
    recipe = load(LEAST, "optimizer.learning_rate=3e-5", "training.epochs=2.5")
    again = ClassifierRecipe.model_validate_json(recipe.model_dump_json())
    assert again.sha256() == recipe.sha256()


def test_an_unknown_recipe_is_answered_with_those_there_are() -> None:
    with pytest.raises(NotFound, match="one of classifier, classifier_lora"):
        find_recipe("clasifier")


def test_a_file_of_ones_own_is_found_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(LEAST, encoding="utf-8")
    assert find_recipe(str(path)) == path


KEYS = st.sampled_from(
    [f"{group}.{key}" for group, field in ClassifierRecipe.model_fields.items()
     for key in getattr(field.annotation, "model_fields", {})]
)  # fmt: skip
VALUES = st.one_of(
    st.integers().map(str),
    st.floats().map(str),
    st.text(max_size=20),
    st.sampled_from(["true", "auto", "[]", "{}", "[[1]]", '"', "'''", "1979-05-27", "\x00"]),
)
LINES = st.one_of(
    st.builds("{} = {}".format, KEYS, VALUES),
    st.builds(
        "[{}]".format, st.sampled_from([*ClassifierRecipe.model_fields, "other", "[saving]"])
    ),
    st.text(max_size=30),
)


@given(content=st.one_of(st.binary(max_size=60), st.text(max_size=60)))
def test_no_garbage_raises_anything_but_invalid_recipe(load: Loader, content: str | bytes) -> None:
    if isinstance(content, str):
        content = content.encode("utf-8", "surrogatepass")
    assert problems(load, content)


def try_to_load(
    load: Loader, content: str | bytes, overrides: list[str]
) -> tuple[ClassifierRecipe | None, tuple[str, ...]]:
    """Return the recipe, or the problems of it; any other error is the test's failure."""
    try:
        return load(content, *overrides), ()
    except InvalidRecipe as refused:
        return None, refused.problems


@given(lines=st.lists(LINES, max_size=8), overrides=st.lists(LINES, max_size=4))
def test_no_near_recipe_raises_anything_but_invalid_recipe(
    load: Loader, lines: list[str], overrides: list[str]
) -> None:
    content = "\n".join([LEAST, *lines]).encode("utf-8", "surrogatepass")
    recipe, found = try_to_load(load, content, overrides)
    assert (recipe is None) == bool(found)
    assert recipe is None or ClassifierRecipe.model_validate(recipe.model_dump()) == recipe


@given(overrides=st.lists(st.builds("{}={}".format, KEYS, VALUES), max_size=4))
def test_any_override_is_taken_or_refused_by_name(load: Loader, overrides: list[str]) -> None:
    _, found = try_to_load(load, LEAST, overrides)
    places = {override.partition("=")[0] for override in overrides} | {"dataset", "saving"}
    assert {problem.partition(":")[0] for problem in found} <= places
