"""One run of `hone train`, in this process or in several that this one starts and watches."""

import json
import logging
import shlex
import signal
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import typer
from rich.console import Console
from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from hone.models import leash
from hone.models.errors import HoneError
from hone.models.manifest import Manifest
from hone.training.events import Events, Listener, Screen, writers
from hone.training.failures import failure_code, told_by_status
from hone.training.hyperparameters import choose_device
from hone.training.loop import Interrupted
from hone.training.recipe_groups import Recipe
from hone.training.run import run_recipe
from hone.training.run_context import join_processes

EXIT_INTERRUPTED = 75
"""sysexits' EX_TEMPFAIL: nothing is wrong, run the same command again."""


@dataclass
class _StopRequest:
    """Set by SIGTERM or Ctrl-C; the loop writes a checkpoint at the next step and stops."""

    asked: bool = False

    def __call__(self) -> bool:
        return self.asked

    @contextmanager
    def listening(self) -> Iterator[None]:
        def ask(*_: object) -> None:
            self.asked = True

        before = {s: signal.signal(s, ask) for s in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def train(
    path: Path,
    recipe: Recipe,
    overrides: list[str],
    events: str | None,
    *,
    fresh: bool,
    processes: int | None,
) -> None:
    """Train as the recipe says, which was loaded from `path` with `overrides`.

    typer.Exit with the status of an interrupted run, or of what started processes ended with;
    otherwise raises as `run_recipe` does.
    """
    wanted = processes or _usable_devices(recipe)
    if wanted > 1 and not torch.distributed.is_torchelastic_launched():
        raise typer.Exit(_launch(wanted, path, overrides, events, fresh=fresh))
    is_main = join_processes(recipe).is_main_process
    with told_by_status(), ExitStack() as stack:
        stop = _StopRequest()
        stack.enter_context(stop.listening())
        sink = Events(*(_listeners(stack, events) if is_main else ()))
        try:
            manifest = run_recipe(recipe, events=sink, stop_requested=stop, fresh=fresh)
        except Interrupted:
            raise typer.Exit(EXIT_INTERRUPTED) from None
        except Exception as error:
            # Whatever it was, a program that follows the events is told; then it goes on its way.
            with suppress(OSError):
                sink.emit("failed", code=failure_code(error), message=str(error))
            if is_main or not isinstance(error, HoneError):
                raise
            raise typer.Exit(1) from None  # the main process says it
    if manifest is not None and events != "-":
        _say_next(manifest, recipe.saving.store)


def _listeners(stack: ExitStack, events: str | None) -> Iterator[Listener]:
    """Yield a writer of JSON lines where one was asked for, and a screen for people."""
    yield from writers(stack, events)
    if events != "-":
        yield stack.enter_context(Screen(Console(stderr=True)).shown())


def _usable_devices(recipe: Recipe) -> int:
    """Return how many GPUs there are to train on; 1 on a CPU, which is one device."""
    on_gpu = choose_device(recipe.training.device) == "cuda"
    return torch.cuda.device_count() if on_gpu else 1


def _launch(
    processes: int, recipe: Path, overrides: list[str], events: str | None, *, fresh: bool
) -> int:
    """Run this command again in several processes; return the exit code of the first that failed.

    Signals are passed on to them, and none is left behind, however this process ends: the
    launcher gives each a session of its own, so a kill of the group would not reach it.
    """
    options = [*(["--events", events] if events else []), *(["--fresh"] if fresh else [])]
    train = [sys.executable, "-m", "hone", "train", str(recipe), *overrides, *options]
    program, *command = leash.command(signal.SIGKILL, program=train)
    for module in ("agent.server.api", "multiprocessing.api"):  # what they say is said below
        logging.getLogger(f"torch.distributed.elastic.{module}").setLevel(logging.CRITICAL)
    try:
        with TemporaryDirectory(prefix="hone-") as logs:
            elastic_launch(_launcher(processes, logs), program)(*command)
    except SignalException:
        return EXIT_INTERRUPTED
    except ChildFailedError as error:
        code: int = error.get_first_failure()[1].exitcode
        return code if code > 0 else 128 - code  # as a shell says it of a signal
    return 0


def _launcher(processes: int, logs: str) -> LaunchConfig:
    """Return how torch's launcher starts processes on this machine alone, once."""
    return LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(log_dir=logs),
    )


def _say_next(manifest: Manifest, store: str) -> None:
    """Print how to serve and ask the new model."""
    reference = f"{manifest.model}@{manifest.version}"
    route, question = _question(manifest)
    body = json.dumps({"model": manifest.model, **question})
    asked = f"-H 'content-type: application/json' -d '{body}'"
    if manifest.preprocessing is not None:
        asked = f"-F model={manifest.model} -F image=@PICTURE"
    print(f"""
{reference} is published. To serve it and ask it:

  hone serve {manifest.model} --store {shlex.quote(store)}
  curl -s localhost:8000/v1/{route} {asked}
""")


def _question(manifest: Manifest) -> tuple[str, dict[str, object]]:
    """Return where a model is asked, and what its request has besides the model's name."""
    if manifest.generation is None:
        return "classify", {"input": "..."}
    if manifest.generation.trained_on_chats:
        return "chat/completions", {"messages": [{"role": "user", "content": "..."}]}
    return "completions", {"prompt": "..."}
