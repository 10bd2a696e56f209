"""Reading an experiment file: TOML; every problem is named at once, by the key's path."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import ValidationError

from hone.comparison.experiment import (
    CONTENDERS,
    Experiment,
    PromptContender,
    Prompted,
    ServedContender,
)
from hone.comparison.prompts import check_prompt, check_served
from hone.models.errors import InvalidInput, NotFound
from hone.models.toml_files import complaints, parse_toml


class InvalidExperiment(InvalidInput):
    """An experiment file that cannot be used; `problems` holds all of them, not the first."""

    code = "invalid_experiment"

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        head = f"the experiment has {count} problem{'s' if count != 1 else ''}"
        super().__init__("\n  - ".join([head + ":", *self.problems]))


@dataclass(frozen=True, slots=True)
class ExperimentFile:
    """An experiment as it was read: its bytes, their SHA-256, and what is odd but allowed."""

    content: bytes
    sha256: str
    experiment: Experiment
    warnings: tuple[str, ...]


def load_experiment(path: Path) -> ExperimentFile:
    """Read and check an experiment; NotFound, or InvalidExperiment with every problem."""
    try:
        content = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError):
        raise NotFound(f"there is no experiment file {path.absolute()}") from None
    return read_experiment(content, str(path))


def read_experiment(content: bytes, name: str) -> ExperimentFile:
    """Read and check an experiment's bytes; `name` is what messages call it."""
    try:
        table = parse_toml(content, name)
    except ValueError as error:
        raise InvalidExperiment([str(error)]) from None
    try:
        experiment = Experiment.model_validate(table)
    except ValidationError as error:
        raise InvalidExperiment(_describe(error, table)) from None
    problems: list[str] = []
    warnings: list[str] = []
    for contender in experiment.contenders:
        if isinstance(contender, Prompted):
            found = check_prompt(contender)
        elif isinstance(contender, ServedContender):
            found = check_served(contender)
        else:
            continue
        problems += [f"{place_of(contender.name)}: {text}" for text in found.errors]
        said = list(found.warnings)
        if isinstance(contender, PromptContender | ServedContender):
            said += _unencrypted(contender)
        warnings += [f"{contender.name}: {text}" for text in said]
    problems += _missing_training(experiment)
    if problems:
        raise InvalidExperiment(problems)
    digest = hashlib.sha256(content).hexdigest()
    return ExperimentFile(content, digest, experiment, tuple(warnings))


def _unencrypted(contender: PromptContender | ServedContender) -> list[str]:
    """Warn of a key that would cross a network in the open."""
    parts = urlsplit(contender.address)
    at_home = parts.hostname in {"localhost", "127.0.0.1", "::1"}
    if contender.api_key_env is None or parts.scheme == "https" or at_home:
        return []
    return ["the key goes over the network unencrypted: use https"]


def _missing_training(experiment: Experiment) -> list[str]:
    """Name contenders that need training examples where the file names none."""
    group = experiment.experiment
    if group.path is not None or group.train is not None:
        return []
    return [
        f"{place_of(contender.name)}: needs training examples: give experiment.train"
        for contender in experiment.contenders
        if contender.kind == "majority" or (isinstance(contender, Prompted) and contender.shots)
    ]


def _describe(error: ValidationError, table: Mapping[str, Any]) -> list[str]:
    """Say each wrong place once, in the file's own terms."""
    kinds = ", ".join(CONTENDERS)
    words = {
        "union_tag_not_found": f"'kind' is missing: one of {kinds}",
        "union_tag_invalid": f"'kind' should be one of {kinds}",
    }
    return complaints(
        error,
        place=lambda found: _place(_without_kind(found["loc"]), table),
        known_keys=lambda found: _known_keys(_without_kind(found["loc"])[:-1], table),
        own_words=lambda found: words.get(found["type"]),
    )


def _without_kind(location: Sequence[str | int]) -> list[str | int]:
    """Leave out the kind that stands within a contender's location, and what follows a union."""
    parts = list(location)
    if parts[:1] == ["contenders"] and len(parts) > 2:
        return [*parts[:2], *parts[3:4]]
    return parts[:2]


def _place(location: Sequence[str | int], table: Mapping[str, Any]) -> str:
    """Return where something stands: a contender by its name, or by its number if it has none."""
    if location[:1] == ["contenders"] and len(location) > 1:
        number = int(location[1])
        contender = table["contenders"][number]
        name = contender.get("name") if isinstance(contender, dict) else None
        place = place_of(name) if isinstance(name, str) else f"contender number {number + 1}"
        return ": ".join([place, *map(str, location[2:])])
    return ".".join(map(str, location))


def place_of(contender: str) -> str:
    """Return what messages call the contender of this name."""
    return f"contender {contender!r:.80}"


def _known_keys(above: Sequence[str | int], table: Mapping[str, Any]) -> list[str]:
    if not above:
        return list(Experiment.model_fields)
    if above[0] == "contenders" and len(above) > 1 and isinstance(above[1], int):
        kind = table["contenders"][above[1]].get("kind")
        return list(CONTENDERS[kind].model_fields)
    group: Any = Experiment.model_fields[str(above[0])].annotation
    return list(getattr(group, "model_fields", ()))
