"""`hone train`: one run from the terminal or from another program."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer
from accelerate import PartialState
from rich.console import Console

from hone.models.errors import HoneError
from hone.models.manifest import Manifest
from hone.training.events import Events, Listener, Screen, json_lines
from hone.training.finetune import Interrupted
from hone.training.recipe import find_recipe, load_recipe
from hone.training.run import run_recipe

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


def train_command(
    recipe: Annotated[str, typer.Argument(help="A recipe's TOML file, or a shipped one's name.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[GROUP.KEY=VALUE]...", help="Values that replace the recipe's."),
    ] = None,
    events: Annotated[
        str | None,
        typer.Option(help="Also write JSON-lines events to this file; '-' is standard output."),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start anew even where a checkpoint could be resumed.")
    ] = False,
    processes: Annotated[
        int | None,
        typer.Option(min=1, help="Processes that train together; default: one for each GPU."),
    ] = None,
) -> None:
    """Fine-tune a model as a recipe says, check it, and publish it as a new version."""
    path = find_recipe(recipe)
    loaded = load_recipe(path, overrides or [])
    wanted = processes or max(1, torch.cuda.device_count())
    if wanted > 1 and not torch.distributed.is_torchelastic_launched():
        raise typer.Exit(_launch(wanted, path, overrides or [], events, fresh=fresh))
    with ExitStack() as stack:
        stop = _StopRequest()
        stack.enter_context(stop.listening())
        sink = Events(*_listeners(stack, events))
        try:
            manifest = run_recipe(loaded, events=sink, stop_requested=stop, fresh=fresh)
        except Interrupted:
            raise typer.Exit(EXIT_INTERRUPTED) from None
        except HoneError as error:
            sink.emit("failed", code=error.code, message=str(error))
            raise
    if manifest is not None and events != "-":
        _say_next(manifest)


def _listeners(stack: ExitStack, events: str | None) -> Iterator[Listener]:
    """Yield a writer of JSON lines where one was asked for, and a screen for people."""
    if not PartialState().is_main_process:
        return
    if events == "-":
        yield json_lines(sys.stdout.buffer)
        return
    if events is not None:
        file = Path(events).open("ab")  # noqa: SIM115 - closed by the stack
        yield json_lines(stack.enter_context(file))
    yield stack.enter_context(Screen(Console(stderr=True)).shown())


def _launch(
    processes: int, recipe: Path, overrides: list[str], events: str | None, *, fresh: bool
) -> int:
    """Run this command again under torch's launcher, in several processes."""
    options = [*(["--events", events] if events else []), *(["--fresh"] if fresh else [])]
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [sys.executable, *launcher, "-m", "hone", "train", str(recipe)]
    return subprocess.run([*command, *overrides, *options], check=False).returncode  # noqa: S603


def _say_next(manifest: Manifest) -> None:
    """Print how to serve and ask the new model."""
    reference = f"{manifest.model}@{manifest.version}"
    question = json.dumps({"model": manifest.model, "input": "..."})
    print(f"""
{reference} is published. To serve it and ask it:

  hone serve {manifest.model}
  curl -s localhost:8000/v1/classify -H 'content-type: application/json' -d '{question}'
""")
