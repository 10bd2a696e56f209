"""The reference of experiments, written from their schema.

`docs/experiments.md` is the output of `python -m hone.comparison.experiment_reference`; a test
compares the two.
"""

from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from hone.comparison.experiment import (
    CONTENDERS,
    Contender,
    CostsGroup,
    DecisionGroup,
    ExperimentGroup,
    LimitsGroup,
    RemoteContender,
    ServingCosts,
)
from hone.models.toml_files import Group

_INTRODUCTION = """# Experiments

An experiment is a TOML file for `hone compare`; [comparison.md](comparison.md) says what is done
with it. Unknown keys and bad values are refused, all of them at once. Paths are as seen from the
folder that the command is called in.
"""

_GROUPS: dict[str, type[Group]] = {
    "[experiment]": ExperimentGroup,
    "[decision]": DecisionGroup,
    "[costs]": CostsGroup,
    "[limits]": LimitsGroup,
}


def reference() -> str:
    """Return the page as Markdown."""
    sections = [
        _section(title, group, list(group.model_fields)) for title, group in _GROUPS.items()
    ]
    every, remote = list(Contender.model_fields), list(RemoteContender.model_fields)
    own_remote = [key for key in remote if key not in every]
    sections += [
        _section("[[contenders]]", Contender, every),
        _section("[contenders.costs]", ServingCosts, list(ServingCosts.model_fields)),
        _section("Contenders that are asked over HTTP", RemoteContender, own_remote),
    ]
    for kind, model in CONTENDERS.items():
        shared = remote if issubclass(model, RemoteContender) else every
        own = [key for key in model.model_fields if key not in shared and key != "kind"]
        sections.append(_section(f'kind = "{kind}"', model, own))
    return "\n".join([_INTRODUCTION, *sections])


def _section(title: str, model: type[Group], keys: list[str]) -> str:
    said = " ".join((model.__doc__ or "").split())
    if not keys:
        return f"## {title}\n\n{said}\n"
    rows = "\n".join(_row(key, model.model_fields[key]) for key in keys)
    head = "| key | default | what it does |\n|---|---|---|"
    return f"## {title}\n\n{said}\n\n{head}\n{rows}\n"


def _row(key: str, field: FieldInfo) -> str:
    said = " ".join((field.description or "").split()).replace("|", "\\|")
    return f"| `{key}` | {_default(field)} | {said} |"


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "(needed)"
    value: Any = field.default
    if value is None or value == {}:
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value!r}`".replace("'", '"') if isinstance(value, str) else f"`{value}`"


if __name__ == "__main__":
    print(reference(), end="")
