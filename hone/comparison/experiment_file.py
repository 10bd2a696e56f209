"""Reading an experiment file: TOML; every problem is named at once, by the key's path."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from hone.comparison.experiment import (
    AnyContender,
    EmbeddedContender,
    Experiment,
    PromptContender,
    Prompted,
    ServedContender,
)
from hone.comparison.experiment_draft import draft_of
from hone.comparison.prompts import Findings, check_embedded, check_unread
from hone.models.errors import InvalidInput, NotFound
from hone.models.toml_files import parse_toml

TEMPLATE_KEYS = ("prompt", "k", "system", "template", "example", "examples_as", "api")
"""What the check of a contender's templates rests on."""


class InvalidExperiment(InvalidInput):
    """An experiment file that cannot be used; `problems` holds all of them, not the first."""

    code = "invalid_experiment"

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        head = f"the experiment has {count} problem{'s' if count != 1 else ''}"
        said = (problem.replace("\n", "\n  ") for problem in self.problems)
        super().__init__("\n  - ".join([head + ":", *said]))


@dataclass(frozen=True, slots=True)
class ExperimentFile:
    """An experiment as it was read: its bytes, their SHA-256, and what is odd but allowed.

    Where there are `problems`, the experiment is only what is sound of it (see `Draft`), and is
    there to be looked at further; nothing may be asked by it. `places` is what messages call each
    of its contenders, which may have the same name.
    """

    content: bytes
    sha256: str
    experiment: Experiment
    places: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    unsound: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What the comparison is called; empty where the file does not say it well."""
        group = self.experiment.experiment
        return group.name if self.is_sound("experiment", "name") else ""

    @property
    def contenders(self) -> Iterator[tuple[str, AnyContender]]:
        """The contenders, each with what messages call it."""
        return zip(self.places, self.experiment.contenders, strict=True)

    def is_sound(self, place: str, *keys: str) -> bool:
        """Whether the file says nothing wrong in these keys of a group or a contender."""
        return not self.unsound.get(place, frozenset()) & set(keys)


def load_experiment(path: Path) -> ExperimentFile:
    """Read and check an experiment; NotFound, or InvalidExperiment with every problem."""
    return _whole(look_at_file(path))


def read_experiment(content: bytes, name: str) -> ExperimentFile:
    """Read and check an experiment's bytes; `name` is what messages call it."""
    return _whole(look_at(content, name))


def look_at_file(path: Path) -> ExperimentFile:
    """Read an experiment's file, as `look_at` does; NotFound without one."""
    try:
        content = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError):
        raise NotFound(f"there is no experiment file {path.absolute()}") from None
    return look_at(content, str(path))


def look_at(content: bytes, name: str) -> ExperimentFile:
    """Read an experiment with all its problems, so that what it names can be looked at as well.

    InvalidExperiment where it is not TOML.
    """
    try:
        table = parse_toml(content, name)
    except ValueError as error:
        raise InvalidExperiment([str(error)]) from None
    draft = draft_of(table)
    digest = hashlib.sha256(content).hexdigest()
    file = ExperimentFile(
        content,
        digest,
        draft.experiment,
        draft.places,
        problems=draft.problems,
        unsound=draft.unsound,
    )
    problems, warnings = list(draft.problems), []
    for place, contender in file.contenders:
        found = _templates(file, place, contender)
        problems += [f"{place}: {text}" for text in found.errors]
        said = [*found.warnings, *_unencrypted(file, place, contender)]
        warnings += [f"{contender.name}: {text}" for text in said]
    problems += _missing_training(file)
    return replace(file, problems=tuple(problems), warnings=tuple(warnings))


def _whole(file: ExperimentFile) -> ExperimentFile:
    if file.problems:
        raise InvalidExperiment(file.problems)
    return file


def _templates(file: ExperimentFile, place: str, contender: AnyContender) -> Findings:
    """Look at a contender's templates, if what they rest on is sound."""
    if file.is_sound(place, *TEMPLATE_KEYS):
        if isinstance(contender, Prompted | ServedContender):
            return check_unread(contender)
        if isinstance(contender, EmbeddedContender):
            return check_embedded(contender)
    return Findings(())


def _unencrypted(file: ExperimentFile, place: str, contender: AnyContender) -> list[str]:
    """Warn of a key that would cross a network in the open."""
    if not isinstance(contender, PromptContender | ServedContender):
        return []
    if not file.is_sound(place, "address", "api_key_env"):
        return []
    parts = urlsplit(contender.address)
    at_home = parts.hostname in {"localhost", "127.0.0.1", "::1"}
    if contender.api_key_env is None or parts.scheme == "https" or at_home:
        return []
    return ["the key goes over the network unencrypted: use https"]


def _missing_training(file: ExperimentFile) -> list[str]:
    """Name contenders that need training examples where the file names none."""
    group = file.experiment.experiment
    if not file.is_sound("experiment", "path", "train"):
        return []
    if group.path is not None or group.train is not None:
        return []
    return [
        f"{place}: needs training examples: give experiment.train"
        for place, contender in file.contenders
        if file.is_sound(place, "prompt", "k")
        and (contender.kind == "majority" or (isinstance(contender, Prompted) and contender.shots))
    ]
