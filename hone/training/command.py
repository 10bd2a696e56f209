"""`hone train`: the recipe is read, and refused, before what training needs is imported."""

from contextlib import ExitStack
from typing import Annotated

import typer

from hone.models.errors import InvalidRecipe, MissingDependency
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
) -> None:
    """Fine-tune a model as a recipe says, check it, and publish it as a new version."""
    path = find_recipe(recipe)
    try:
        loaded = load_recipe(path, overrides or [])
    except InvalidRecipe as error:
        with ExitStack() as stack:
            Events(*writers(stack, events)).emit("failed", code=error.code, message=str(error))
        raise
    try:
        from hone.training.process import train  # noqa: PLC0415 - it takes seconds
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("hone"):
            raise
        raise MissingDependency("hone train", "train") from error
    train(path, loaded, overrides or [], events, fresh=fresh, processes=processes)
