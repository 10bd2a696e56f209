"""`hone train`: the recipe is read, and refused, before what training needs is imported."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated

import typer

from hone.models.errors import InvalidInput, InvalidRecipe, MissingDependency
from hone.training.events import Events, writers
from hone.training.recipe_files import find_recipe, load_recipe


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
    methods: Annotated[
        str | None,
        typer.Option(help="Train with each of these, as full,lora, and set them side by side."),
    ] = None,
) -> None:
    """Fine-tune a model as a recipe says, check it, and publish it as a new version."""
    path = find_recipe(recipe)
    if methods is not None:
        if events is not None:
            raise InvalidInput("with --methods each run writes its own events: leave --events out")
        _train_each(path, overrides or [], methods, fresh=fresh, processes=processes)
        return
    try:
        loaded = load_recipe(path, overrides or [])
    except InvalidRecipe as error:
        with ExitStack() as stack:
            Events(*writers(stack, events)).emit("failed", code=error.code, message=str(error))
        raise
    with _needing_the_extra():
        from hone.training.process import train  # noqa: PLC0415 - it takes seconds
    train(path, loaded, overrides or [], events, fresh=fresh, processes=processes)


def _train_each(
    path: Path, overrides: list[str], methods: str, *, fresh: bool, processes: int | None
) -> None:
    """Train with each method, and say where the table and the plot are."""
    with _needing_the_extra():
        from hone.training.methods.run import (  # noqa: PLC0415 - it takes seconds
            compare_methods,
            parse_methods,
        )
    names = parse_methods(methods)
    folder = compare_methods(path, overrides, names, fresh=fresh, processes=processes)
    print(f"The table and the plot: {folder / 'methods.html'}")


@contextmanager
def _needing_the_extra() -> Iterator[None]:
    """Turn a missing library into what to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("hone"):
            raise
        raise MissingDependency("hone train", "train") from error
