"""From a job to the commands that a person would type."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from hone.models.registry import Registry
from hone.service.jobs.claims import Claims
from hone.service.jobs.database import Database
from hone.service.jobs.fine_tuned import FineTunedModels
from hone.service.jobs.hyperparameters import (
    batch_size,
    settled_hyperparameters,
    usual_multiplier,
)
from hone.service.jobs.naming import model_name
from hone.service.jobs.origins import Origin, Refused, Store, find_origin
from hone.service.jobs.plan import notes, prepare_command, train_command
from hone.service.jobs.records import Job, Records
from hone.service.jobs.settings import RunnerSettings
from hone.service.jobs.workplace import Workplace
from hone.training.recipe_files import find_recipe, load_recipe
from tests.pictures import encoded, picture
from tests.preparation.running import word_tokenizer
from tests.service.jobs.jobs import claim_only, model_for, new_job
from tests.tiny_bundle import publish_tiny

ORIGIN = Origin("curie", "curie")


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    place = Workplace(tmp_path / "work")
    place.data.mkdir(parents=True)
    write_report(place)
    return place


@pytest.fixture
def store(tmp_path: Path, database: Database) -> Store:
    settings = RunnerSettings(bases={"mine": "/a/base"}, licence="CC0-1.0")
    return Store(Registry(tmp_path / "store"), FineTunedModels(database), settings)


def write_report(place: Workplace, rows: int = 400, **changes: Any) -> None:
    report = {
        "counts": {"read": 500, "dropped": {}, "kept": 500},
        "splits": {"train": {"rows": rows}, "validation": {"rows": 50}, "test": {"rows": 50}},
        "labels": [{"label": "Yes"}, {"label": "no"}],
        "problems": [],
        "prompt_form": {"stop": " END"},
        "shared_instruction": None,
        **changes,
    }
    (place.data / "report.json").write_text(json.dumps(report))


def make(database: Database, **values: Any) -> Job:
    return Records(database).create(new_job(model="curie", **values))


def recipe_of(job: Job, place: Workplace, store: Store, origin: Origin = ORIGIN) -> Any:
    argv = [*train_command(job, origin, place, store)]
    assert argv[1:5] == ["-m", "hone", "train", "classifier"]
    assert argv[-2:] == ["--events", str(place.events)]
    return load_recipe(find_recipe("classifier"), argv[5:-2])


def test_what_is_left_to_auto_is_left_to_the_recipe(
    database: Database, place: Workplace, store: Store
) -> None:
    job = make(database, given={"n_epochs": "auto", "batch_size": None}, seed=42)
    recipe = recipe_of(job, place, store)
    assert recipe.model.base == "curie"
    assert (recipe.training.epochs, recipe.training.batch_size) == ("auto", "auto")
    assert (recipe.optimizer.learning_rate, recipe.optimizer.learning_rate_multiplier) == (
        "auto",
        1.0,
    )
    assert recipe.training.seed == 42
    assert recipe.saving.name == job.store_model == job.id
    assert recipe.saving.licence == "CC0-1.0"
    assert Path(recipe.saving.store) == store.registry.store
    assert Path(recipe.dataset.path) == place.data
    assert recipe.dataset.betas == [0.5, 2.0]


def test_what_is_given_is_taken(database: Database, place: Workplace, store: Store) -> None:
    given = {
        "n_epochs": 3, "batch_size": 12, "learning_rate_multiplier": 1.8,
        "classification_positive_class": " yes END", "classification_betas": [1, 1.5],
    }  # fmt: skip
    recipe = recipe_of(make(database, given=given), place, store)
    assert (recipe.training.epochs, recipe.training.batch_size) == (3, 12)
    assert recipe.optimizer.learning_rate_multiplier == 1.8
    assert recipe.dataset.positive_label == "Yes"
    assert recipe.dataset.betas == [1.0, 1.5]


@pytest.mark.parametrize(
    ("examples", "given", "expected"),
    [(500, None, None), (16_000, None, None), (20_000, None, 40), (500_000, None, 256),
     (500, 4, 4), (500_000, 4, 4)],
)  # fmt: skip
def test_the_legacy_batch_is_a_share_of_the_examples_where_that_is_wise(
    database: Database, examples: int, given: int | None, expected: int | None
) -> None:
    job = make(database, flavour="legacy", given={"batch_size": given})
    assert batch_size(job, examples) == expected
    assert batch_size(make(database), examples) is None


@pytest.mark.parametrize(
    ("rows", "given", "factor"),
    [(400, {}, 1), (400, {"learning_rate_multiplier": 0.05}, 1),
     (400, {"learning_rate_multiplier": 0.2}, 4), (100_000, {"learning_rate_multiplier": 0.2}, 1),
     (400, {"learning_rate_multiplier": 0.1, "batch_size": 64}, 1)],
)  # fmt: skip
def test_the_legacy_multiplier_counts_in_units_of_the_usual_one(
    database: Database, place: Workplace, store: Store, rows: int, given: Any, factor: float
) -> None:
    write_report(place, rows=rows)
    job = make(database, flavour="legacy", given=given)
    found = recipe_of(job, place, store).optimizer.learning_rate_multiplier
    assert found == pytest.approx(factor)


def test_the_usual_multiplier_grows_with_the_batch() -> None:
    assert [usual_multiplier(size) for size in (1, 32, 33, 128, 129, 256)] == [
        0.05, 0.05, 0.1, 0.1, 0.2, 0.2,
    ]  # fmt: skip


def test_settled_values_are_those_the_clients_know(database: Database) -> None:
    legacy = make(database, flavour="legacy")
    assert settled_hyperparameters(legacy, epochs=12.0, batch=16) == {
        "n_epochs": 12, "batch_size": 16, "learning_rate_multiplier": 0.05,
        "prompt_loss_weight": 0.01,
    }  # fmt: skip
    modern = make(database, given={"learning_rate_multiplier": 2})
    assert settled_hyperparameters(modern, epochs=1.5, batch=8) == {
        "n_epochs": 2, "batch_size": 8, "learning_rate_multiplier": 2,
    }  # fmt: skip


def test_files_are_prepared_for_the_base_and_with_the_jobs_seed(
    database: Database, place: Workplace
) -> None:
    job = make(database, seed=5)
    argv = [*prepare_command(job, Origin("mine", "/a/base"), place)]
    assert argv[1:5] == ["-m", "hone", "prepare", str(place.training)]
    assert argv[argv.index("--seed") + 1] == "5"
    assert argv[argv.index("--base") + 1] == "/a/base"
    assert "--validation" not in argv
    place.validation.touch()
    argv = [*prepare_command(job, ORIGIN, place)]
    assert argv[argv.index("--validation") + 1] == str(place.validation)


def test_a_base_is_a_name_that_is_known_and_never_a_path(database: Database, store: Store) -> None:
    assert find_origin(make(database), store) == Origin("curie", "curie")
    records = Records(database)
    mine = records.create(new_job(model="mine"))
    assert find_origin(mine, store) == Origin("mine", "/a/base")
    for model in ("/a/base", ".", "hub:owner/name", "gpt-4o-mini", ""):
        with pytest.raises(Refused) as refused:
            find_origin(records.create(new_job(model=model)), store)
        assert refused.value.failure.code == "model_not_found"


def test_a_fine_tuned_model_is_continued_from_with_its_own_base(
    database: Database, store: Store, place: Workplace
) -> None:
    first = make(database)
    recipe = {"sha256": "1" * 64, "content": {"model": {"base": "minilm"}}}
    publish_tiny(store.registry, first.id, recipe=recipe)
    model = model_for(first)
    from_first = claim_only(database, first)
    _succeed(database, from_first, model)
    second = Records(database).create(new_job(model=model.id))
    origin = find_origin(second, store)
    assert origin == Origin("ada", "minilm", continue_from=f"{first.id}@1")
    assert recipe_of(second, place, store, origin).model.continue_from == f"{first.id}@1"
    with pytest.raises(Refused):
        find_origin(Records(database).create(new_job("stranger", model=model.id)), store)


def _succeed(database: Database, claim: Any, model: Any) -> None:
    Claims(database, "worker").succeed(claim, model)


def test_classes_that_are_not_in_the_data_are_refused(
    database: Database, place: Workplace, store: Store
) -> None:
    def refusal(**given: Any) -> tuple[str, str | None]:
        with pytest.raises(Refused) as refused:
            train_command(make(database, given=given), ORIGIN, place, store)
        return refused.value.failure.code, refused.value.failure.param

    assert refusal(classification_n_classes=5) == (
        "invalid_n_classes", "classification_n_classes",
    )  # fmt: skip
    assert refusal(classification_positive_class="Sarcastic") == (
        "invalid_positive_class", "classification_positive_class",
    )  # fmt: skip


def test_a_text_that_is_the_path_of_a_picture_stays_a_text(
    database: Database, place: Workplace, tmp_path: Path
) -> None:
    shutil.rmtree(place.data)
    private = tmp_path / "private"
    private.mkdir()
    pairs = []
    for number in range(60):
        shown = private / f"holiday number {number}.png"
        shown.write_bytes(encoded(picture((190, 40, 40), seed=number), "PNG"))
        pairs.append({"prompt": str(shown), "completion": "odd" if number % 2 else "even"})
    place.training.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    argv = [*prepare_command(make(database), ORIGIN, place)]
    argv += ["--tokenizer", str(word_tokenizer(tmp_path))]
    done = subprocess.run(argv, check=False, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert place.report()["task"] == "text-classification"
    train = (place.data / "train.jsonl").read_text()
    assert json.loads(train.splitlines()[0])["text"].endswith(".png")
    assert not [*tmp_path.glob("work/**/*.png")]


def test_the_client_is_told_how_the_job_is_done(database: Database, place: Workplace) -> None:
    write_report(place, shared_instruction={"text": "Say which."})
    legacy = make(database, flavour="legacy", given={"prompt_loss_weight": 0.1})
    said = " / ".join(event.message for event in notes(legacy, ORIGIN, place.report()))
    assert "n_epochs was not given: instead of 4" in said
    assert "prompt_loss_weight has no effect" in said
    assert "All prompts begin with the same instruction" in said
    assert "left out" not in said
    assert len(notes(make(database), ORIGIN, {**place.report(), "shared_instruction": None})) == 2


def test_names_are_formed_as_the_hosted_ones(database: Database) -> None:
    modern = make(database, suffix="My  Model!")
    short = modern.id[6:14]
    assert model_name(modern, "curie", 0) == f"ft:curie:acme:my-model:{short}"
    assert model_name(modern, "curie", 0, taken=1) == f"ft:curie:acme:my-model:{modern.id[6:15]}"
    assert model_name(make(database), "ada", 0).startswith("ft:ada:acme::")
    legacy = make(database, flavour="legacy")
    assert model_name(legacy, "curie", 1614807864.7) == "curie:ft-acme-2021-03-03-21-44-24"
    assert model_name(legacy, "curie", 1614807864.7, taken=1).endswith("21-44-25")
    suffixed = make(database, flavour="legacy", suffix="x", owner="Acme & Co")
    assert model_name(suffixed, "ada", 0) == "ada:ft-acme-co:x-1970-01-01-00-00-00"
