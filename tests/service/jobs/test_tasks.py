"""What each task's jobs refuse, and the recipes that they become."""

import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from hone.models.catalogue import SCRATCH_BASES, Task, task_of_base
from hone.models.imaging.archives import ArchiveBounds
from hone.models.registry import Registry
from hone.service.jobs.admission import refusal
from hone.service.jobs.database import Database
from hone.service.jobs.fine_tuned import FineTunedModels
from hone.service.jobs.origins import Origin, Store
from hone.service.jobs.plan import prepare_command, train_command
from hone.service.jobs.records import Job, Records
from hone.service.jobs.settings import RunnerSettings
from hone.service.jobs.tasks.kinds import KINDS
from hone.service.jobs.validation import FileReport, check_file
from hone.service.jobs.workplace import Workplace
from hone.training.generation.generation_recipe import SCRATCH_PREFIX, GenerationRecipe
from hone.training.generation.scratch import SHAPES
from hone.training.images.recipe import SCRATCH, ImageRecipe
from hone.training.recipe_files import find_recipe, load_recipe
from tests.models.decoding.chat_templates import HERMES
from tests.pictures import encoded, picture
from tests.service.jobs.jobs import new_job

TEXTS, WRITER = Origin("minilm", "minilm"), Origin("story", "/bases/story", "text-generation")
NEW_WRITER = Origin("scratch:llama-1m", "scratch:llama-1m", "text-generation")
PICTURES = Origin(SCRATCH, SCRATCH, "image-classification")

PAIRS = [{"prompt": f"p {n}", "completion": f"answer {n}"} for n in range(20)]
PREFERENCES = [{"prompt": f"p {n}", "chosen": "a", "rejected": "b"} for n in range(20)]
PAINT = {"type": "function", "function": {"name": "paint"}}


def called(name: str = "paint", arguments: str = "{}") -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"role": "assistant", "tool_calls": [{"id": "c", "type": "function",
                                                 "function": function}]}  # fmt: skip


ASKED = {"role": "user", "content": "paint it"}
TOLD = [{"role": "tool", "tool_call_id": "c", "content": "wet"},
        {"role": "assistant", "content": "done"}]  # fmt: skip
CALLING: dict[str, Any] = {"messages": [ASKED, called(), *TOLD], "tools": [PAINT]}
UNLISTED = {**CALLING, "tools": []}


def checked(folder: Path, lines: Sequence[Any] | bytes) -> FileReport:
    path = folder / "file"
    text = lines if isinstance(lines, bytes) else "\n".join(map(json.dumps, lines)).encode()
    path.write_bytes(text)
    return check_file(path)


def archive(*entries: tuple[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for name, data in entries:
            file.writestr(name, data)
    return content.getvalue()


def pictures(*labels: str, count: int = 6) -> list[tuple[str, bytes]]:
    return [
        (f"{label}/{n}.png", encoded(picture((n, n, n), seed=n), "PNG"))
        for label in labels
        for n in range(count)
    ]


def make(database: Database, **values: Any) -> Job:
    return Records(database).create(new_job(**values))


REFUSED: list[tuple[Origin, Sequence[Any] | bytes, dict[str, Any], str, str]] = [
    (TEXTS, PAIRS, {}, "generation_not_supported", "Take a base that writes text"),
    (TEXTS, PREFERENCES, {"method": "dpo"}, "method_not_supported", "`dpo`"),
    (TEXTS, archive(*pictures("cat", "dog")), {}, "invalid_training_file", "reads texts"),
    (WRITER, archive(*pictures("cat", "dog")), {}, "invalid_training_file", "reads texts"),
    (WRITER, PAIRS, {"method": "dpo"}, "invalid_training_file", "of the form prompt/completion"),
    (WRITER, PREFERENCES, {}, "invalid_training_file", "are for the method `dpo`"),
    (NEW_WRITER, PREFERENCES, {"method": "dpo"}, "method_not_supported", "knows nothing yet"),
    (WRITER, [CALLING, UNLISTED] * 6, {}, "invalid_training_file",
     "6 lines cannot be used.\nLine 2 calls 'paint', which is not among its 'tools'"),
    (WRITER, PAIRS, {"given": {"classification_n_classes": 2}}, "invalid_hyperparameters",
     "is for bases that classify"),
    (WRITER, PAIRS, {"given": {"task": "classification"}}, "classification_not_supported",
     "is for the task `generation`"),
    (PICTURES, PAIRS, {}, "invalid_training_file", "examples are texts"),
    (PICTURES, archive(*pictures("cat", count=12)), {}, "invalid_training_file",
     "no sub-folder for each class"),
    (PICTURES, archive(*pictures(*"abcdefgh", count=2)), {}, "invalid_training_file", "too many"),
]  # fmt: skip


@pytest.mark.parametrize(("origin", "lines", "values", "code", "message"), REFUSED)
def test_a_file_that_does_not_go_with_its_base_is_told_why(
    database: Database,
    tmp_path: Path,
    origin: Origin,
    lines: Sequence[Any] | bytes,
    values: dict[str, Any],
    code: str,
    message: str,
) -> None:
    failure = refusal(make(database, **values), origin, checked(tmp_path, lines), None)
    assert failure is not None
    assert failure.code == code
    assert message in failure.message


@pytest.mark.parametrize(
    ("origin", "lines", "method"),
    [(WRITER, PAIRS, "supervised"), (WRITER, [CALLING] * 12, "supervised"),
     (NEW_WRITER, [CALLING] * 12, "supervised"), (NEW_WRITER, PAIRS, "supervised"),
     (WRITER, PREFERENCES, "dpo"),
     (PICTURES, archive(*pictures("cat", "dog")), "supervised")],
)  # fmt: skip
def test_a_file_that_goes_with_its_base_is_taken(
    database: Database, tmp_path: Path, origin: Origin, lines: Any, method: str
) -> None:
    assert refusal(make(database, method=method), origin, checked(tmp_path, lines), None) is None


def folder_with(folder: Path, template: str | None) -> Origin:
    folder.mkdir()
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    return Origin("house", str(folder), "text-generation")


def test_tools_are_refused_by_line_where_the_bases_template_knows_none(
    database: Database, tmp_path: Path
) -> None:
    knowing = folder_with(tmp_path / "knowing", HERMES)
    deaf = folder_with(tmp_path / "deaf", "{% for m in messages %}{{ m.content }}{% endfor %}")
    broken = folder_with(tmp_path / "broken", "{% for %}")
    without = folder_with(tmp_path / "without", None)
    words = {"messages": [ASKED, {"role": "assistant", "content": "no"}]}
    job = make(database)
    report = checked(tmp_path, [words, CALLING, {**words, "tools": [PAINT]}, *[words] * 9])
    assert refusal(job, knowing, report, None) is None
    for origin in (deaf, broken, without):
        failure = refusal(job, origin, report, None)
        assert failure is not None
        assert (failure.code, failure.param) == ("tools_not_supported", "training_file")
        assert "lines 2, 3 of the training file have some" in failure.message
        assert refusal(job, origin, checked(tmp_path, [words] * 12), None) is None
    plain = checked(tmp_path, [words] * 12)
    found = refusal(job, deaf, plain, checked(tmp_path, [CALLING]))
    assert found is not None
    assert (found.code, found.param) == ("tools_not_supported", "validation_file")
    assert "line 1 of the validation file has some" in found.message


def test_all_lines_with_tools_are_counted_and_the_first_are_named(
    database: Database, tmp_path: Path
) -> None:
    deaf = folder_with(tmp_path / "deaf", "{{ messages }}")
    report = checked(tmp_path, [CALLING] * 250)
    assert (report.tool_line_count, report.tool_lines) == (250, tuple(range(1, 101)))
    failure = refusal(make(database), deaf, report, None)
    assert failure is not None
    assert "lines 1, 2, 3," in failure.message
    assert ", 20 and 230 more of" in failure.message


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    place = Workplace(tmp_path / "work")
    place.data.mkdir(parents=True)
    report = {
        "splits": {"train": {"rows": 400}}, "problems": [], "form": "chat",
        "labels": [{"label": "cat"}, {"label": "dog"}],
    }  # fmt: skip
    (place.data / "report.json").write_text(json.dumps(report))
    return place


def recipe_of(job: Job, origin: Origin, place: Workplace, database: Database) -> Any:
    settings = RunnerSettings(checkpoints=4)
    store = Store(Registry(place.folder / "store"), FineTunedModels(database), settings)
    argv = [*train_command(job, origin, place, store)]
    return load_recipe(find_recipe(argv[4]), argv[5:-2])


def test_a_causal_job_becomes_a_recipe_of_its_kind(database: Database, place: Workplace) -> None:
    given = {"n_epochs": 2, "batch_size": 4, "learning_rate_multiplier": 3, "beta": 0.3}
    job = make(database, method="dpo", given=given)
    recipe = recipe_of(job, WRITER, place, database)
    assert isinstance(recipe, GenerationRecipe)
    assert (recipe.training.objective, recipe.training.dpo_beta) == ("dpo", 0.3)
    assert (recipe.training.epochs, recipe.training.batch_size) == (2, 4)
    assert recipe.optimizer.learning_rate_multiplier == 3
    assert recipe.saving.checkpoints == 4
    assert recipe.dataset.prompt_loss_weight == 0
    assert recipe.model.dropout == 0
    legacy = recipe_of(make(database, flavour="legacy"), NEW_WRITER, place, database)
    assert legacy.saving.checkpoints == 0, "nobody could be told their names"
    assert legacy.dataset.prompt_loss_weight == 0.01
    assert legacy.model.dropout > 0
    weighed = make(database, flavour="legacy", given={"prompt_loss_weight": 0.5})
    assert recipe_of(weighed, NEW_WRITER, place, database).dataset.prompt_loss_weight == 0.5


def test_a_job_on_pictures_becomes_a_recipe_of_its_kind(
    database: Database, place: Workplace
) -> None:
    recipe = recipe_of(make(database, given={"n_epochs": 2}), PICTURES, place, database)
    assert isinstance(recipe, ImageRecipe)
    assert (recipe.model.base, recipe.training.epochs) == (SCRATCH, 2)


def test_an_operator_names_a_bases_task_and_recipe(database: Database, place: Workplace) -> None:
    offered = {
        "q": {"base": "hub:owner/name", "task": "text-generation", "recipe": "completions_lora"}
    }
    found = RunnerSettings.model_validate({"bases": offered}).all_bases["q"]
    assert found.settled_task == "text-generation"
    origin = Origin("q", found.base, found.settled_task, found.recipe)
    assert recipe_of(make(database), origin, place, database).model.method == "lora"


def test_archives_keep_their_name_and_are_prepared_as_such(
    database: Database, tmp_path: Path
) -> None:
    content = tmp_path / "content"
    content.write_bytes(archive(*pictures("cat", "dog")))
    place = Workplace(tmp_path / "place")
    place.make(content, None)
    assert place.training.name == "training.zip"
    argv = [*prepare_command(make(database), PICTURES, place)]
    assert argv[4].endswith("training.zip")
    assert "--base" not in argv


def test_every_task_of_a_bundle_has_its_jobs() -> None:
    assert {task_of_base(name) for name in SCRATCH_BASES} < set(KINDS)
    assert {SCRATCH_PREFIX + shape for shape in SHAPES} | {SCRATCH} == set(SCRATCH_BASES)


@pytest.mark.parametrize(
    ("classes", "task"),
    [(["LlamaForCausalLM"], "text-generation"), (["GPT2LMHeadModel"], "text-generation"),
     (["ViTForImageClassification"], "image-classification"),
     (["BertModel"], "text-classification"), (3, "text-classification")],
)  # fmt: skip
def test_a_folder_says_what_its_model_is_for(tmp_path: Path, classes: Any, task: Task) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": classes}))
    assert task_of_base(str(tmp_path)) == task


BROKEN: list[tuple[Sequence[tuple[str, bytes]], str]] = [
    ([*pictures("cat", "dog"), ("dog/x.jpg", b"no picture")],
     "Entry 'dog/x.jpg' cannot be used: it is no JPEG, PNG or WebP picture"),
    ([("../cat/1.png", b"x")], "leads out of it"),
    ([("1.png", b"x")], "no sub-folder for each class"),
    ([*pictures("cat"), ("labels.csv", b"file,label\ncat/0.png,cat\ncat/9.png,cat\n")],
     "Entry 'labels.csv' names in line 3 a picture that is not there: 'cat/9.png'"),
    ([*pictures("a"), ("x.jsonl", b'{"image": "a/7.png"}\n')], "names in line 1 a picture that"),
    ([("x.jsonl", b'{"image": "data:image/png;base64,iVBORw0K"}\n')],
     "pictures in them are sent as they are, in no archive"),
    ([("cat/1.png", b"0" * 5000)], "has 5,000 bytes; 4,096 are the most"),
    ([(f"cat/{n}.txt", b"") for n in range(60)], "has 60 entries; 50 fit"),
]  # fmt: skip


@pytest.mark.parametrize(("entries", "message"), BROKEN)
def test_what_is_wrong_with_an_archive_is_told_by_its_entry(
    tmp_path: Path, entries: Sequence[tuple[str, bytes]], message: str
) -> None:
    path = tmp_path / "file"
    path.write_bytes(archive(*entries))
    bounds = ArchiveBounds(entries=50, entry_bytes=2**20 if len(entries) > 1 else 4096)
    report = check_file(path, bounds)
    assert report.details is not None
    assert message in report.details
    assert str(tmp_path) not in report.details


def test_another_column_of_a_table_may_name_files_that_are_elsewhere(tmp_path: Path) -> None:
    table = b"file,label,source\ncat/0.png,cat,raw/IMG_1.png\ncat/1.png,cat,raw/IMG_2.png\n"
    report = checked(tmp_path, archive(*pictures("cat"), ("labels.csv", table)))
    assert report.details is None


def test_half_an_archive_is_no_archive(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(archive(*pictures("cat", "dog"))[:-40])
    assert "no zip archive, or is broken" in (check_file(path).details or "")


def test_a_broken_entry_is_told_by_its_name_and_not_by_where_the_file_lies(tmp_path: Path) -> None:
    path = tmp_path / "5f0e"
    (name, content), *others = pictures("cat", "dog")
    path.write_bytes(archive((name, content), *others).replace(content, bytes(len(content)), 1))
    details = check_file(path).details or ""
    assert f"Entry {name!r} cannot be unpacked: the archive's entry {name!r} is broken" in details
    assert "5f0e" not in details
