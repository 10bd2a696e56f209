"""One run: examples -> fine-tuned -> calibrated -> exported -> checked -> published."""

import fcntl
import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import transformers
from accelerate import PartialState
from accelerate.utils import set_seed

from hone.models.errors import Conflict, InvalidInput
from hone.models.manifest import Manifest
from hone.models.registry import Registry
from hone.training.baseline import token_counter
from hone.training.bases import obtain_base
from hone.training.checkpoint import remove_remains
from hone.training.classifier import build_classifier, merge_lora, weights_revision
from hone.training.continuing import begin_from, find_earlier
from hone.training.events import Events
from hone.training.finetune import Run, fine_tune
from hone.training.hyperparameters import Hyperparameters, choose_device
from hone.training.loading import Data, load_data
from hone.training.publishing import publish
from hone.training.recipe import Recipe


def run_recipe(
    recipe: Recipe, *, events: Events, stop_requested: Callable[[], bool], fresh: bool = False
) -> Manifest | None:
    """Train, check and publish; return the new version's manifest.

    Goes on from the last checkpoint of the same recipe and data unless `fresh`; BundleCorrupt if
    that was made with other weights of the base, another number of processes, or on a machine
    where `auto` meant something else. Raises ParityFailed when the exported model does not answer
    as the trained one, Interrupted when asked to stop, and the other HoneErrors for bad input.
    With several processes only the main one publishes; the others return None.
    """
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    processes = join_processes(recipe)
    base = obtain_base(recipe.model.base)
    earlier = find_earlier(recipe, base)
    data, settled = load_data(recipe, base)
    _refuse_early(recipe)
    folder = run_folder(recipe, data)
    with _claimed(folder, processes, fresh=fresh):
        processes.wait_for_everyone()  # until the main process has cleared the folder
        events.emit("run_started", folder=str(folder), model=recipe.saving.name)
        _tell_data(data, settled, events)
        set_seed(recipe.training.seed)
        model = build_classifier(
            base,
            recipe.model,
            labels=len(data.labels),
            train_embeddings=recipe.training.train_embeddings,
        )
        if earlier is not None:
            begin_from(earlier, model, data.labels)
        tokenizer = data.tokenizer
        run = Run(
            folder,
            recipe,
            settled,
            tokenizer.pad_id,
            events,
            stop_requested,
            weights_revision(base),
            data.labels,
            tokenizer.mask_id,
        )
        progress = fine_tune(model, data.encoded["train"], data.encoded["validation"], run)
        if not processes.is_main_process:
            return None
        merge_lora(model)
        model.to("cpu").float().eval()
        manifest = publish(model, base, data, run, progress)
        remove_remains(folder)
    return manifest


def join_processes(recipe: Recipe) -> PartialState:
    """Return this process's place among those that train together.

    The first call settles for the whole process whether it trains on a GPU.
    """
    return PartialState(cpu=choose_device(recipe.training.device) == "cpu")


def run_folder(recipe: Recipe, data: Data) -> Path:
    """Return the folder of a run: the same recipe and data meet the same folder again."""
    content = recipe.sha256() + "".join(record.sha256 for record in data.records.values())
    digest = hashlib.sha256(content.encode()).hexdigest()
    return Path(recipe.saving.runs) / f"{recipe.saving.name}-{digest[:8]}"


def _refuse_early(recipe: Recipe) -> None:
    """Find out before the training what would keep its model from being published after it."""
    token_counter(recipe.baseline)
    try:
        with Registry(Path(recipe.saving.store)).staging():
            pass
    except OSError:
        raise InvalidInput(f"the store {recipe.saving.store} cannot be written to") from None


def _tell_data(data: Data, settled: Hyperparameters, events: Events) -> None:
    events.emit(
        "data_loaded",
        rows={split: record.rows for split, record in data.records.items()},
        labels=len(data.labels),
        truncated=sum(split.truncated for split in data.encoded.values()),
        max_tokens=settled.max_tokens,
    )


@contextmanager
def _claimed(folder: Path, processes: PartialState, *, fresh: bool) -> Iterator[None]:
    """Hold a run's folder for this run; Conflict when another process is at it."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError:
        raise InvalidInput(f"the folder for runs {folder.parent} cannot be written to") from None
    if not processes.is_main_process:
        yield
        return
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(f"another process is training in {folder}") from None
        if fresh:
            for path in folder.iterdir():
                if path.is_dir():
                    shutil.rmtree(path)
                elif path.name != ".lock":
                    path.unlink()
        yield
