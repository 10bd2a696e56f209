"""The reference of recipes, written from their schema: `python -m hone.training.recipe_reference`.

`docs/recipes.md` is its output; a test compares the two.
"""

from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from hone.training.images.recipe import ImageRecipe
from hone.training.recipe import ClassifierRecipe
from hone.training.recipe_files import RECIPES_FOLDER
from hone.training.recipe_groups import Recipe

_INTRODUCTION = """# Recipes

A recipe is a TOML file with one level of groups. `hone train RECIPE [group.key=value …]` takes a
file or the name of one that ships, and each key can be overridden on the line: strings need no
quotes, lists are written as in TOML (`'saving.variants=["fp32"]'`). Unknown keys and bad values
are refused, all of them at once.

Those that ship, with the command that runs each:
"""


_PICTURES = """# Recipes for pictures

Those with `model.task = "image-classification"` ([docs/images.md](images.md)).
"""

_ORDER = ("model", "optimizer", "dataset", "augmentation", "training", "saving", "baseline")


def reference() -> str:
    """Return the page as Markdown."""
    shipped = "\n".join(
        f"- `{path.stem}`: `{_command(path.read_text(encoding='utf-8'))}`"
        for path in sorted(RECIPES_FOLDER.glob("*.toml"))
    )
    texts, pictures = _groups(ClassifierRecipe), _groups(ImageRecipe)
    return f"{_INTRODUCTION}\n{shipped}\n\n{texts}\n{_PICTURES}\n{pictures}"


def _groups(kind: type[Recipe]) -> str:
    fields = kind.model_fields
    return "\n".join(_group(name, fields[name]) for name in _ORDER if name in fields)


def _command(recipe: str) -> str:
    return recipe.splitlines()[0].removeprefix("# ")


def _group(name: str, field: FieldInfo) -> str:
    model: Any = field.annotation
    rows = "\n".join(
        f"| `{key}` | {_default(inner)} | {' '.join((inner.description or '').split())} |"
        for key, inner in model.model_fields.items()
    )
    head = "| key | default | what it does |\n|---|---|---|"
    return f"## [{name}]\n\n{model.__doc__}\n\n{head}\n{rows}\n"


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "(needed)"
    if field.default is None:
        return ""
    return f"`{str(field.default).lower() if isinstance(field.default, bool) else field.default}`"


if __name__ == "__main__":
    print(reference(), end="")
