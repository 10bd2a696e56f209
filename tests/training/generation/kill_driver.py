"""Trainings of causal models that SIGKILL ends.

python -m tests.training.generation.kill_driver STEP RECIPE.json...

Each recipe has a process of its own, which kills itself while it writes the checkpoint of that
step: no handler runs, and what is half written stays so. The exit status is 0 if all were killed.
"""

import os
import signal
import sys
from pathlib import Path
from unittest.mock import patch

from safetensors.torch import save_file
from torch import Tensor

from hone.training import checkpoint
from hone.training.events import Events
from hone.training.generation.generation_recipe import GenerationRecipe
from hone.training.run import run_recipe


def kill_at(step: int) -> None:
    """Let the weights be the last thing that is written of that step's checkpoint."""

    def killed(tensors: dict[str, Tensor], file: Path, **more: dict[str, str]) -> None:
        save_file(tensors, file, **more)
        if file.parent.name == f".checkpoint-{step}.new":
            os.kill(os.getpid(), signal.SIGKILL)

    patch.object(checkpoint, "save_file", killed).start()
    patch("os.fsync").start()  # a killed process takes nothing of the kernel's with it


def train(file: Path) -> None:
    """Train as a recipe in JSON says."""
    recipe = GenerationRecipe.model_validate_json(file.read_bytes())
    run_recipe(recipe, events=Events(), stop_requested=lambda: False)


def killed_by_itself(step: int, file: Path) -> bool:
    """Train in a process of its own: a copy of this one, which has imported what that takes."""
    child = os.fork()
    if child == 0:
        kill_at(step)
        train(file)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


if __name__ == "__main__":
    ended = [killed_by_itself(int(sys.argv[1]), Path(name)) for name in sys.argv[2:]]
    sys.exit(0 if all(ended) else 1)
