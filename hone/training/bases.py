"""Bases that have to be fetched: hub ids, only where a user names one."""

import re
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

from hone.models.catalogue import HUB_PREFIX, Base, find_base
from hone.models.errors import InvalidInput, NotFound

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_NEEDED = ["*.json", "*.safetensors", "*.txt", "*.model"]
"""Configuration, tokenizer and weights; never Python files or pickles."""


def obtain_base(name: str) -> Base:
    """Return the base called `name`, fetching it first if it is a `hub:owner/name[@revision]`."""
    if not name.startswith(HUB_PREFIX):
        return find_base(name)
    repository, _, revision = name.removeprefix(HUB_PREFIX).partition("@")
    if not _HUB_ID.fullmatch(repository):
        raise InvalidInput(f"{name!r} is not of the form {HUB_PREFIX}owner/name[@revision]")
    try:
        folder = snapshot_download(repository, revision=revision or None, allow_patterns=_NEEDED)
    except RepositoryNotFoundError:
        raise NotFound(f"the hub has no model {repository!r}") from None
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError):
        raise NotFound(f"the hub cannot be reached, and {repository!r} was not fetched") from None
    base = find_base(folder)
    # A snapshot's folder is named for its commit, which is the revision that was fetched.
    return Base(
        f"{repository}@{Path(folder).name}",
        base.folder,
        base.licence,
        base.task,
        base.max_tokens,
    )
