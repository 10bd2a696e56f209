"""The model of the benchmark, its description for the bare loop and the peer, and its pictures."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper
from PIL import Image

from benchmarks.served import BUILD
from hone.models.bundle import Bundle
from hone.models.catalogue import find_base
from hone.models.errors import HoneError
from hone.models.imaging.files import read_picture_file
from hone.models.names import parse_reference
from hone.models.registry import Registry

_CATS_DOGS = BUILD / "cats_dogs"
_DRAWN = BUILD / "drawn_pictures"
_MOST = 400
_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


@dataclass(frozen=True, slots=True)
class PictureModel:
    """A published bundle, and the folder of the pictures that it is asked about."""

    store: Path
    bundle: Bundle
    pictures: Path

    @property
    def name(self) -> str:
        """The model's name in its store."""
        return self.bundle.manifest.model


def find_picture_model(
    store: Path | None, model: str | None, pictures: Path | None
) -> PictureModel:
    """Return what was asked for, else what `benchmarks.cats_dogs` left, else a drawn one."""
    if store is None:
        probed = _CATS_DOGS / "store"
        known = Registry(probed).models() if probed.exists() else []
        if known:
            store, model = probed, model or known[0]
            pictures = pictures or _CATS_DOGS / "data" / "pictures"
        else:
            store, model, pictures = _DRAWN / "store", "drawn", _DRAWN / "data" / "pictures"
            if not store.exists():
                _train_drawn()
    registry = Registry(store.absolute())
    bundle = registry.open(parse_reference(model or registry.models()[0]))
    if pictures is None:
        raise SystemExit("--pictures FOLDER: what to ask a model of your own about?")
    return PictureModel(store.absolute(), bundle, pictures)


def read_pictures(folder: Path) -> list[bytes]:
    """Return the bytes of a folder's pictures, at most 400, in an order that says nothing."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES)
    if not files:
        raise SystemExit(f"{folder} has no pictures")
    chosen = np.random.default_rng(0).permutation(len(files))[:_MOST]
    return [read_picture_file(files[place]) for place in chosen]


def describe(model: PictureModel, folder: Path, base: Path | None) -> Path:
    """Write what the bare loop and the peer need to know, as JSON; return the path.

    `base` is where a probe's base lies, for a bundle does not say where it was found.
    """
    manifest = model.bundle.manifest
    fp32 = model.bundle.variant_file("fp32")
    description: dict[str, Any] = {
        "onnx": {name: str(model.bundle.variant_file(name)) for name in manifest.variants},
        "labels": manifest.labels,
        "preprocessing": manifest.picture_rule.model_dump(),
        "base_folder": _base_folder(manifest.recipe.content, base),
        "head": None,
    }
    if description["base_folder"] is not None:
        weight, bias = _head(fp32, labels=len(manifest.labels))
        np.savez(folder / "head.npz", weight=weight, bias=bias)
        description["head"] = str(folder / "head.npz")
    path = folder / "model.json"
    path.write_text(json.dumps(description))
    return path


def _base_folder(recipe: dict[str, Any], base: Path | None) -> str | None:
    """Return the folder of a probe's base; None where the base's weights are not the model's."""
    group = recipe.get("model", {})
    if group.get("method") not in ("probe", "auto"):
        return None
    try:
        return str(find_base(str(base or group.get("base", "")), "image-classification").folder)
    except HoneError as error:
        if base is not None:
            raise SystemExit(f"--base: {error}") from error
        print(f"the hand-written server is left out: {error}", file=sys.stderr)
        return None


def _head(file: Path, *, labels: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return weight (labels, features) and bias (labels,) of an exported model's last layer."""
    graph = onnx.load(file).graph
    last = next(node for node in reversed(graph.node) if node.op_type == "Gemm")
    stored = {tensor.name: tensor for tensor in graph.initializer}
    weight, bias = (numpy_helper.to_array(stored[name]) for name in last.input[1:3])
    return (weight if weight.shape[0] == labels else weight.T), bias


def _train_drawn() -> None:
    """Publish a small network, trained for one epoch on drawn pictures of photos' size."""
    print("no model of pictures is published yet: drawing and training one", file=sys.stderr)
    generator = np.random.default_rng(0)
    for label, colour in (("warm", (190, 120, 90)), ("cold", (90, 120, 190))):
        folder = _DRAWN / "raw" / label
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(60):
            rough = generator.normal(colour, 40, (30, 40, 3)).clip(0, 255).astype(np.uint8)
            picture = Image.fromarray(rough).resize((500, 375), Image.Resampling.BICUBIC)
            picture.save(folder / f"{number}.jpg", quality=90)
    _hone("prepare", str(_DRAWN / "raw"), "--yes", "--out", str(_DRAWN / "data"))
    places = [f"dataset.path={_DRAWN / 'data'}", f"saving.store={_DRAWN / 'store'}"]
    places += [f"saving.runs={_DRAWN / 'runs'}", "saving.variants=['fp32']", "training.epochs=2"]
    _hone("train", "images", "saving.name=drawn", *places)


def _hone(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "hone", *arguments], check=True, stdout=sys.stderr)
