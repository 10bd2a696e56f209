"""Names of models, versions and aliases, and references such as `support@3`."""

import re
from dataclasses import dataclass

from hone.models.errors import InvalidName

MODEL_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
ALIAS_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")
VERSION_NUMBER = re.compile(r"[1-9][0-9]{0,8}")

LATEST = "latest"
"""The alias that always means the highest version; it cannot be set by hand."""

PRODUCTION = "production"
"""The alias that `hone models promote` moves and that the service prefers."""

_CHECKPOINTS = "-ckpt"


@dataclass(frozen=True, slots=True)
class ModelReference:
    """A model and, optionally, which version of it.

    `version` is a number; `alias` a moving name. At most one of the two is set; with neither
    the reference means the version that the service would choose.
    """

    model: str
    version: int | None = None
    alias: str | None = None

    def __str__(self) -> str:
        tail = self.version if self.version is not None else self.alias
        return self.model if tail is None else f"{self.model}@{tail}"


def checkpoints_of(model: str) -> str:
    """Return the name under which a model's checkpoints are published, each by its step."""
    return f"{model}{_CHECKPOINTS}"


def is_of_checkpoints(model: str) -> bool:
    """Say whether a model's name is one under which checkpoints are published."""
    return model.endswith(_CHECKPOINTS)


def is_model_name(name: str) -> bool:
    """Say whether a model may be called so."""
    return MODEL_NAME.fullmatch(name) is not None and ".." not in name


def check_model_name(name: str) -> str:
    """Return `name` if it is a legal model name, else raise InvalidName."""
    if not is_model_name(name):
        raise InvalidName(
            f"{name[:80]!r} is not a model name: up to 64 of a-z, 0-9, '.', '_' and '-', "
            "beginning with a letter or a digit, without '..'"
        )
    return name


def check_alias_name(name: str) -> str:
    """Return `name` if an alias may be called so, else raise InvalidName."""
    if not ALIAS_NAME.fullmatch(name) or name == LATEST:
        raise InvalidName(
            f"{name[:80]!r} is not an alias: up to 32 of a-z, 0-9, '_' and '-', beginning with "
            f"a letter; {LATEST!r} is kept for the highest version"
        )
    return name


def parse_reference(text: str) -> ModelReference:
    """Read `support`, `support@3` or `support@production`; raise InvalidName for the rest."""
    model, separator, tail = text.partition("@")
    check_model_name(model)
    if not separator:
        return ModelReference(model)
    if VERSION_NUMBER.fullmatch(tail):
        return ModelReference(model, version=int(tail))
    if tail != LATEST:
        check_alias_name(tail)
    return ModelReference(model, alias=tail)
