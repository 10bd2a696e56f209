"""`hone train RECIPE --methods full,lora`: each method in a process of its own, then one page.

A process of its own, because the most memory that a process ever held is known of whole processes
only, and because a method must not find the first one's leftovers warm. Each run is an ordinary
`hone train`: it is killed and resumed as one, and publishes its own model, NAME-METHOD.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import typer
from rich.console import Console

from hone.models import leash
from hone.models.bundle import Bundle
from hone.models.errors import HoneError, InvalidRecipe
from hone.models.examples import read_examples, sha256_of_file
from hone.models.manifest import Manifest, Variant
from hone.models.names import ModelReference
from hone.models.predictor import choose_variant
from hone.models.registry import Registry
from hone.training.events import read_events
from hone.training.generation.generation_recipe import GenerationRecipe
from hone.training.generation.settling import refuse_what_needs_a_gpu
from hone.training.hyperparameters import choose_device
from hone.training.methods.pace import measure_paces
from hone.training.methods.page import show_table, write_comparison
from hone.training.methods.trial import Trial, read_trial
from hone.training.recipe_files import load_recipe
from hone.training.recipe_groups import Recipe

_SERVED_DECODERS: tuple[Variant, ...] = ("int8", "int4", "fp32")


def parse_methods(value: str) -> list[str]:
    """Return the names of `full,lora`; InvalidRecipe unless they are two or more, each once."""
    names = [name.strip() for name in value.split(",")]
    if len(names) < 2 or len(set(names)) < len(names) or not all(names):
        raise InvalidRecipe([f"--methods: name two methods or more, each once (it is {value!r})"])
    return names


def compare_methods(
    path: Path,
    overrides: Sequence[str],
    methods: Sequence[str],
    *,
    fresh: bool,
    processes: int | None,
) -> Path:
    """Train the recipe with each method; return the folder of the table and the plot.

    A method that an earlier command finished, on the same recipe and data, is not trained again
    unless `fresh`. Before anything begins: InvalidRecipe if a method is none of the recipe's,
    InvalidInput if this machine cannot run it. typer.Exit with the status of a run that failed or
    was interrupted.
    """
    recipes = {method: _recipe_of(path, overrides, method) for method in methods}
    for recipe in recipes.values():
        if isinstance(recipe, GenerationRecipe):
            refuse_what_needs_a_gpu(recipe, choose_device(recipe.training.device))
    first = next(iter(recipes.values()))
    folder = Path(first.saving.runs) / f"{_base_name(path, overrides)}-methods"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    trials = []
    for method, recipe in recipes.items():
        found = None if fresh else _earlier(folder, method, recipe)
        if found is None:
            print(f"{method}: training", flush=True)
            given = [*overrides, *_overrides(path, overrides, method)]
            log = folder / f"{method}.events.jsonl"
            log.unlink(missing_ok=True)
            started = time.monotonic()
            peak_bytes = _run(path, given, log, fresh=fresh, processes=processes)
            wall_s = time.monotonic() - started
            found = _noted(folder, method, recipe, wall_s=wall_s, peak_bytes=peak_bytes)
        else:
            print(f"{method}: {found.model}@{found.version} is trained already")
        trials.append(found)
    registry = Registry(Path(first.saving.store))
    bundles = [(registry.open(_reference(trial)), trial.variant) for trial in trials]
    print("measuring how fast each answers", flush=True)
    paces = measure_paces(bundles, _texts(first))
    write_comparison(folder, first, trials, paces)
    show_table(trials, paces, Console())
    return folder


def _base_name(path: Path, overrides: Sequence[str]) -> str:
    return load_recipe(path, [*overrides]).saving.name


def _overrides(path: Path, overrides: Sequence[str], method: str) -> list[str]:
    name = f"{_base_name(path, overrides)}-{method}"
    return [f"model.method={method}", f"saving.name={name}"]


def _recipe_of(path: Path, overrides: Sequence[str], method: str) -> Recipe:
    return load_recipe(path, [*overrides, *_overrides(path, overrides, method)])


def _noted(folder: Path, method: str, recipe: Recipe, *, wall_s: float, peak_bytes: int) -> Trial:
    """Read the trial of a run that has ended, and note it in the folder."""
    events = list(read_events(folder / f"{method}.events.jsonl"))
    published = next(e for e in events if e["event"] == "published")
    reference = ModelReference(published["model"], version=published["version"])
    bundle = Registry(Path(recipe.saving.store)).open(reference)
    variant = served_variant(bundle)
    trial = read_trial(
        method, events, bundle, variant=variant, wall_s=wall_s, peak_bytes=peak_bytes
    )
    content = {"key": _key(recipe), "trial": trial.model_dump(mode="json")}
    (folder / f"{method}.json").write_text(json.dumps(content), encoding="utf-8")
    return trial


def _key(recipe: Recipe) -> list[str]:
    """Return what a trial belongs to: the recipe, and the bytes of its data's files."""
    files = [recipe.dataset.file(split) for split in ("train", "validation", "test")]  # type: ignore[attr-defined]
    return [recipe.sha256(), *(sha256_of_file(file) for file in files if file and file.is_file())]


def _earlier(folder: Path, method: str, recipe: Recipe) -> Trial | None:
    """Return the trial that was noted, if it is this one's and its model is still in the store."""
    try:
        content = json.loads((folder / f"{method}.json").read_text(encoding="utf-8"))
        trial = Trial(**content["trial"])
        Registry(Path(recipe.saving.store)).open(_reference(trial))
    except (OSError, ValueError, KeyError, TypeError, HoneError):
        return None
    return trial if content["key"] == _key(recipe) else None


def _reference(trial: Trial) -> ModelReference:
    return ModelReference(trial.model, version=trial.version)


def served_variant(bundle: Bundle) -> Variant:
    """Return the variant that the service would choose on a CPU."""
    manifest: Manifest = bundle.manifest
    if manifest.generation is None:
        return choose_variant(bundle, None, "cpu")
    return next(variant for variant in _SERVED_DECODERS if variant in manifest.variants)


def _run(
    path: Path, overrides: Sequence[str], log: Path, *, fresh: bool, processes: int | None
) -> int:
    """Run `hone train` to its end; return the most memory, bytes, that its process held.

    SIGINT and SIGTERM go on to it, so that it writes its checkpoint; typer.Exit with its status
    if that is not 0.
    """
    options = ["--events", str(log), *(["--fresh"] if fresh else [])]
    options += ["--processes", str(processes)] if processes else []
    program = [sys.executable, "-m", "hone", "train", str(path), *overrides, *options]
    command = leash.command(signal.SIGTERM, program=program)
    child = subprocess.Popen(command, start_new_session=True)  # noqa: S603 - our own program

    def pass_on(number: int, _: object) -> None:
        child.send_signal(number)

    before = {s: signal.signal(s, pass_on) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        _, status, usage = os.wait4(child.pid, 0)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        code = child.returncode
        raise typer.Exit(code if code > 0 else 128 - code)
    return usage.ru_maxrss * 1024


def _texts(recipe: Recipe) -> list[str]:
    """Return validation texts of a classifier of texts; nothing for the other tasks."""
    task = recipe.model.task  # type: ignore[attr-defined]
    file = recipe.dataset.file("validation")  # type: ignore[attr-defined]
    return [row.text for row in read_examples(file)] if task == "text-classification" else []
