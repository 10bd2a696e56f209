"""What every run has, whatever its task: its folder, its listeners, its other processes."""

import fcntl
import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from accelerate import PartialState

from hone.models.errors import Conflict, InvalidInput
from hone.models.manifest import SplitRecord
from hone.models.registry import Registry
from hone.training.baseline import token_counter
from hone.training.events import Events
from hone.training.hyperparameters import choose_device
from hone.training.recipe_groups import Recipe


@dataclass(frozen=True, slots=True)
class RunContext:
    """One run's surroundings. With `fresh`, what an earlier one left is thrown away."""

    events: Events
    stop_requested: Callable[[], bool]
    processes: PartialState
    fresh: bool = False

    @contextmanager
    def claimed(self, folder: Path) -> Iterator[None]:
        """Hold a run's folder while the block runs; Conflict when another process is at it.

        The block begins when the main process has cleared the folder.
        """
        with _claimed(folder, self.processes, fresh=self.fresh):
            self.processes.wait_for_everyone()
            yield


def join_processes(recipe: Recipe) -> PartialState:
    """Return this process's place among those that train together.

    The first call settles for the whole process whether it trains on a GPU.
    """
    return PartialState(cpu=choose_device(recipe.training.device) == "cpu")


def run_folder(recipe: Recipe, records: Mapping[str, SplitRecord]) -> Path:
    """Return the folder of a run: the same recipe and data meet the same folder again."""
    content = recipe.sha256() + "".join(record.sha256 for record in records.values())
    digest = hashlib.sha256(content.encode()).hexdigest()
    return Path(recipe.saving.runs) / f"{recipe.saving.name}-{digest[:8]}"


def refuse_early(recipe: Recipe) -> None:
    """Find out before the training what would keep its model from being published after it."""
    token_counter(recipe.baseline)
    try:
        with Registry(Path(recipe.saving.store)).staging():
            pass
    except OSError:
        raise InvalidInput(f"the store {recipe.saving.store} cannot be written to") from None


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
