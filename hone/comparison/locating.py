"""Where an experiment's relative paths are, when it is read from another folder than it was run in.

They are from the folder that `hone compare` was called in. The record has that one as seen from
the run's folder, so that a project may be moved as a whole; where it is not there any more, the
present folder is tried.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hone.comparison.experiment import Experiment
from hone.models.catalogue import CATALOGUE, LEGACY_ALIASES
from hone.models.errors import NotFound
from hone.models.toml_files import Group

_GROUP_PATHS = {"experiment": ("path", "test", "train"), "costs": ("prices",)}
_CONTENDER_PATHS = ("store", "path", "tokenizer", "base")
_NAMED_BASES = {*CATALOGUE, *LEGACY_ALIASES}


def located(experiment: Experiment, run: Path, record: Mapping[str, Any]) -> Experiment:
    """Return an experiment whose paths are whole, for what was run in the folder `run`.

    NotFound, with every path that was tried, if its data or prices are in no such folder.
    """
    needed = [
        path
        for group, keys in _GROUP_PATHS.items()
        for path in (getattr(getattr(experiment, group), key) for key in keys)
        if path is not None
    ]
    folders = _folders(run, record)
    for folder in folders:
        if all((folder / path).exists() for path in needed):
            return _moved(experiment, folder)
    missing = next(path for path in needed if not (folders[0] / path).exists())
    tried = " or ".join(dict.fromkeys(str(folder / missing) for folder in folders))
    raise NotFound(f"there is no {tried}: the experiment in {run} needs it")


def _folders(run: Path, record: Mapping[str, Any]) -> list[Path]:
    """Return where relative paths may be from, the likeliest first."""
    called_in = record.get("called_in")
    if not isinstance(called_in, str):
        return [Path.cwd()]
    return [Path(os.path.normpath(run.resolve() / called_in)), Path.cwd()]


def _moved(experiment: Experiment, folder: Path) -> Experiment:
    groups: dict[str, Any] = {
        name: _with_paths(getattr(experiment, name), keys, folder)
        for name, keys in _GROUP_PATHS.items()
    }
    contenders = [_with_paths(one, _CONTENDER_PATHS, folder) for one in experiment.contenders]
    return experiment.model_copy(update={**groups, "contenders": contenders})


def _with_paths(group: Group, keys: tuple[str, ...], folder: Path) -> Group:
    """Return a group whose paths are whole; a base's name is a path only where such a one is."""
    found = {key: value for key in keys if isinstance(value := getattr(group, key, None), str)}
    whole = {
        key: str(folder / value)
        for key, value in found.items()
        if key != "base" or (value not in _NAMED_BASES and (folder / value).is_dir())
    }
    return group.model_copy(update=whole)
