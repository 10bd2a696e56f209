"""Bases that have to be fetched: hub ids, only where a user names one."""

import re
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from hone.models.catalogue import HUB_PREFIX, Base, Task, find_base
from hone.models.errors import InvalidInput, NotFound

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_REVISION = re.compile(r"(\w[\w.-]*(/\w[\w.-]*)*)?", re.ASCII)
_NEEDED = ["*.json", "*.safetensors", "*.txt", "*.model"]
"""Configuration, tokenizer and weights; never Python files or pickles."""


def obtain_base(name: str, task: Task = "text-classification") -> Base:
    """Return a task's base, fetching it first if it is a `hub:owner/name[@revision]`."""
    if not name.startswith(HUB_PREFIX):
        return find_base(name, task)
    repository, at, revision = name.removeprefix(HUB_PREFIX).partition("@")
    wrong = InvalidInput(f"{name!r} is not of the form {HUB_PREFIX}owner/name[@revision]")
    if not (_HUB_ID.fullmatch(repository) and _REVISION.fullmatch(revision)) or (
        at and not revision
    ):
        raise wrong
    try:
        folder = snapshot_download(repository, revision=revision or None, allow_patterns=_NEEDED)
    except HFValidationError:
        raise wrong from None
    except RepositoryNotFoundError:
        raise NotFound(f"the hub has no model {repository!r}, or it is not open to you") from None
    except RevisionNotFoundError:
        raise NotFound(f"the hub has no revision {revision!r} of {repository!r}") from None
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError):
        raise NotFound(f"the hub cannot be reached, and {repository!r} was not fetched") from None
    base = find_base(folder, task)
    # A snapshot's folder is named for its commit, which is the revision that was fetched.
    return Base(
        f"{repository}@{Path(folder).name}",
        base.folder,
        base.licence,
        base.task,
        base.max_tokens,
    )
