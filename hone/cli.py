"""The command line. Thin: a room is imported only when its command is called."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import typer
from rich.console import Console

import hone
from hone.models.errors import HoneError, MissingDependency

_ROOMS = {
    "prepare": ("hone.training.preparation.command", "prepare_command", "train"),
    "train": ("hone.training.command", "train_command", "train"),
    "serve": ("hone.service.command", "serve_command", None),
    "models": ("hone.models.command", "app", None),
    "compare": ("hone.comparison.command", "compare_command", None),
    "fallback": ("hone.comparison.fallback_command", "app", None),
    "keys": ("hone.service.keys_command", "app", None),
    "jobs": ("hone.service.jobs_command", "app", None),
}
_HELP = {
    "prepare": "Check, mend and split a file of examples.",
    "train": "Fine-tune a model as a recipe says, check it, and publish it.",
    "serve": "Serve published models over HTTP.",
    "models": "List, show, verify, promote and remove published models.",
    "compare": "Ask a fine-tuned model and prompts the same, and judge whether to replace.",
    "fallback": "Let a model's least confident answers go to the prompt as well, or no more.",
    "keys": "Make, list and revoke the keys of the API.",
    "jobs": "List, show, follow and cancel fine-tuning jobs.",
}
_EXIT_ERROR = 1


def _load(command: str) -> Any:  # noqa: ANN401 - a function or a Typer
    """Import what a command calls; MissingDependency when its extra is not installed."""
    module, attribute, extra = _ROOMS[command]
    try:
        return getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        if extra is None or (error.name or "").startswith("hone"):
            raise
        raise MissingDependency(f"hone {command}", extra) from error


def _version(wanted: bool) -> None:
    if wanted:
        print(hone.__version__)
        raise typer.Exit


def build_app(command: str | None = None) -> typer.Typer:
    """Return the command line with `command`'s room loaded and the others only named."""
    app = typer.Typer(
        name="hone",
        help=hone.__doc__,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # brackets in the help are brackets
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback()
    def root(
        version: bool = typer.Option(
            False, "--version", callback=_version, is_eager=True, help="Print the version."
        ),
    ) -> None:
        pass

    for name, summary in _HELP.items():
        if name != command:
            app.command(name, help=summary)(_placeholder)
        elif isinstance(loaded := _load(name), typer.Typer):
            app.add_typer(loaded, name=name, help=summary)
        else:
            app.command(name)(loaded)
    return app


def _placeholder() -> None:
    """Stand in the list of commands for a room that is not loaded."""


def main() -> None:
    """Run the command line; an expected error is one sentence on stderr and exit code 1."""
    arguments = [word for word in sys.argv[1:] if not word.startswith("-")]
    command = arguments[0] if arguments and arguments[0] in _ROOMS else None
    try:
        with _no_collections():
            app = build_app(command)
        app()
    except HoneError as error:
        Console(stderr=True).print(f"[bold red]error:[/] {_escaped(error)}", highlight=False)
        sys.exit(_EXIT_ERROR)


@contextmanager
def _no_collections() -> Iterator[None]:
    """Keep the garbage collector still: it takes a tenth of the imports, which leave no garbage."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _escaped(error: HoneError) -> str:
    return str(error).replace("[", r"\[")
