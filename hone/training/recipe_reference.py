"""The reference of recipes, written from their schema: `python -m hone.training.recipe_reference`.

`docs/recipes.md` is its output; a test compares the two.
"""

from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from hone.training.generation.generation_recipe import GenerationRecipe
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

With `model.task = "image-classification"` ([images.md](images.md)) a recipe has the groups below,
and those above that are not repeated.
"""

_GENERATION = """# Recipes of causal language models

With `model.task = "text-generation"` ([generation.md](generation.md)) a recipe has the groups
below; all others are refused.
"""

_ORDER = (
    "model",
    "optimizer",
    "dataset",
    "augmentation",
    "training",
    "sample_prompts",
    "saving",
    "baseline",
)


def reference() -> str:
    """Return the page as Markdown."""
    shipped = "\n".join(
        f"- `{path.stem}`: `{_command(path.read_text(encoding='utf-8'))}`"
        for path in sorted(RECIPES_FOLDER.glob("*.toml"))
    )
    texts = _groups(ClassifierRecipe)
    pictures = _groups(ImageRecipe, besides=ClassifierRecipe)
    causal = _groups(GenerationRecipe, besides=ClassifierRecipe)
    return (
        f"{_INTRODUCTION}\n{shipped}\n\n{texts}\n{_PICTURES}\n{pictures}\n{_GENERATION}\n{causal}"
    )


def _groups(kind: type[Recipe], *, besides: type[Recipe] | None = None) -> str:
    """Return the tables of a recipe's groups; those that another recipe has too are left out."""
    fields, known = kind.model_fields, {} if besides is None else besides.model_fields
    names = sorted(fields, key=_ORDER.index)
    return "\n".join(
        _group(name, fields[name])
        for name in names
        if name not in known or known[name].annotation is not fields[name].annotation
    )


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
