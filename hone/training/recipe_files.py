"""Recipes: TOML files with one level of groups; every problem is named at once.

`model.task` decides which recipe a file is, a text classifier's where it is not said.
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from hone.models.catalogue import Task
from hone.models.errors import InvalidRecipe, NotFound
from hone.models.toml_files import complaints, parse_toml
from hone.training.generation.generation_recipe import GenerationRecipe
from hone.training.images.recipe import ImageRecipe
from hone.training.recipe import ClassifierRecipe
from hone.training.recipe_groups import Recipe

RECIPES_FOLDER = Path(__file__).parent / "recipes"
"""The recipes that ship; `hone train NAME` finds them by their stem."""

KINDS: Mapping[Task, type[Recipe]] = {
    "text-classification": ClassifierRecipe,
    "text-generation": GenerationRecipe,
    "image-classification": ImageRecipe,
}
"""Which recipe each task has."""

_DEFAULT: Task = "text-classification"

Kind = TypeVar("Kind", bound=Recipe)

_LIST = re.compile(r"\[([^\[\]{}\"',\n]+(?:,[^\[\]{}\"',\n]+)*)\]")
"""A list of words without quotes."""

_GROUP_KEY = re.compile(r"[a-z_]+\.[a-z0-9_]+")


def find_recipe(name: str) -> Path:
    """Return the file of a recipe: a path, or the name of one that ships."""
    for candidate in (Path(name), RECIPES_FOLDER / f"{name}.toml"):
        if candidate.is_file():
            return candidate
    shipped = ", ".join(sorted(path.stem for path in RECIPES_FOLDER.glob("*.toml")))
    raise NotFound(f"there is no recipe {name!r}: give a TOML file or one of {shipped}")


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply `group.key=value` overrides; InvalidRecipe names every problem."""
    try:
        content = parse_toml(path.read_bytes(), str(path))
    except ValueError as error:
        raise InvalidRecipe([str(error)]) from None
    kind = _kind(content, overrides)
    problems = [problem for text in overrides if (problem := _override(content, text, kind))]
    try:
        recipe = kind.model_validate(content)
    except ValidationError as error:
        raise InvalidRecipe([*problems, *_describe(error, kind)]) from None
    if problems:
        raise InvalidRecipe(problems)
    return recipe


def load_recipe_of(kind: type[Kind], path: Path, overrides: Sequence[str] = ()) -> Kind:
    """Read a recipe that is for one task; InvalidRecipe if it is for another."""
    recipe = load_recipe(path, overrides)
    if not isinstance(recipe, kind):
        raise InvalidRecipe([f"{path} is a recipe for another task"])
    return recipe


def _kind(content: Mapping[str, Any], overrides: Sequence[str]) -> type[Recipe]:
    """Return which recipe this is; InvalidRecipe for a task that there is not."""
    group = content.get("model")
    task = group.get("task", _DEFAULT) if isinstance(group, dict) else _DEFAULT
    for text in overrides:
        if text.startswith("model.task="):
            task = _toml_value(text.partition("=")[2])
    found = next((kind for name, kind in KINDS.items() if name == task), None)
    if found is None:
        known = ", ".join(KINDS)
        raise InvalidRecipe([f"model.task: should be one of {known} (it is {task!r:.80})"])
    return found


def _override(content: dict[str, Any], text: str, kind: type[Recipe]) -> str | None:
    """Put one `group.key=value` into the content; return what is wrong with it, if anything."""
    key, separator, value = text.partition("=")
    if not separator or not _GROUP_KEY.fullmatch(key):
        return f"{text!r} is not of the form group.key=value"
    group, _, name = key.partition(".")
    target = content.setdefault(group, {})
    if not isinstance(target, dict):
        return f"{group!r} is a value in the recipe, not a group"
    found = _toml_value(value)
    # Quotes may be left out: a text is a text even where it looks like a number or a date.
    target[name] = found if isinstance(found, str) or not _is_text(kind, group, name) else value
    return None


def _toml_value(text: str) -> Any:  # noqa: ANN401 - any TOML value
    """Read a value as TOML would; what is no TOML value is a string, so quotes may be left out.

    They may be left out in a list, too: a shell takes those away that nobody escapes.
    """
    try:
        found = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        words = _LIST.fullmatch(text.strip())
        return [_toml_value(word.strip()) for word in words[1].split(",")] if words else text
    return found["value"] if len(found) == 1 else text


def _is_text(kind: type[Recipe], group: str, name: str) -> bool:
    """Whether a key can only have a string."""
    groups: dict[str, Any] = kind.model_fields
    fields = groups[group].annotation.model_fields if group in groups else {}
    return name in fields and fields[name].annotation in {str, str | None}


def _describe(error: ValidationError, kind: type[Recipe]) -> list[str]:
    """Say each wrong place once, in the recipe's own terms."""

    def place(found: ErrorDetails) -> str:
        return ".".join(str(part) for part in found["loc"][:2])

    def known_keys(found: ErrorDetails) -> list[str]:
        group: Any = kind
        for part in found["loc"][:2][:-1]:
            group = group.model_fields[str(part)].annotation
        return list(group.model_fields)

    return complaints(error, place=place, known_keys=known_keys)
