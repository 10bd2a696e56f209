"""The model of a benchmark: one published bundle that everybody serves."""

import contextlib
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hone.models.bundle import Bundle
from hone.models.catalogue import find_base
from hone.models.errors import HoneError
from hone.models.manifest import TOKENIZER_FILE, Manifest, ManifestBody, Variant
from hone.models.names import parse_reference
from hone.models.predictor import load_tokenizer
from hone.models.registry import Registry

BUILD = Path("build/bench").absolute()
_WEIGHTS_FILE = "weights.safetensors"
_PREFERRED = "banking77"
_MADE = "support"
_INT8_FILE = "model.int8.onnx"


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A bundle, where it was found, and the file that describes it to the peers."""

    store: Path
    name: str
    bundle: Bundle
    description: Path

    @property
    def variants(self) -> list[Variant]:
        """The variants to measure, the quantized one first."""
        order: tuple[Variant, ...] = ("int8", "fp32")
        return [variant for variant in order if variant in self.bundle.manifest.variants]

    @property
    def runs_in_torch(self) -> bool:
        """Whether there are trained weights, and a base whose configuration says their form."""
        kept = any(entry.path == _WEIGHTS_FILE for entry in self.bundle.manifest.files)
        return kept and _base_folder(self.bundle.manifest) is not None

    def facts(self) -> dict[str, Any]:
        """Return what the report says about the model."""
        manifest = self.bundle.manifest
        return {
            "name": f"{manifest.model}@{manifest.version}",
            "base": manifest.base.id,
            "labels": len(manifest.labels),
            "token_lengths": manifest.text_lengths.model_dump(),
            "variants": self.variants,
            "digest": manifest.digest[:12],
        }


def find_model(store: Path | None, name: str | None, folder: Path) -> ServedModel:
    """Return the model asked for, else `banking77` of ./store, else one that is made here.

    `folder` takes the file that describes it.
    """
    if store is None and name is None:
        store, name = _default()
    store = (store or Path("store")).absolute()
    name = name or Registry(store).models()[0]
    bundle = Registry(store).open(parse_reference(name))
    return ServedModel(store, name, bundle, write_model(bundle, folder / "model.json"))


def write_model(bundle: Bundle, path: Path) -> Path:
    """Write what the bare loop and the peers need to know, as JSON; return the path."""
    manifest = bundle.manifest
    weights = bundle.folder / _WEIGHTS_FILE
    model = {
        "onnx": {name: str(bundle.variant_file(name)) for name in manifest.variants},
        "tokenizer": str(bundle.file(TOKENIZER_FILE)),
        "labels": manifest.labels,
        "max_tokens": manifest.text_limits.max_tokens,
        "temperature": manifest.calibration.temperature,
        "pad_id": load_tokenizer(bundle).pad_id,
        "weights": str(weights) if weights.exists() else None,
        "base_folder": str(_base_folder(manifest) or "") or None,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(model))
    return path


def _base_folder(manifest: Manifest) -> Path | None:
    name = manifest.recipe.content.get("model", {}).get("base", "minilm")
    with contextlib.suppress(HoneError):
        return find_base(name).folder
    return None


def _default() -> tuple[Path, str]:
    local = Path("store")
    if _PREFERRED in Registry(local).models():
        return local, _PREFERRED
    made = BUILD / "store"
    if _MADE not in Registry(made).models():
        _train(made)
    return made, _MADE


def _train(store: Path) -> None:
    """Publish a model that was trained for one epoch: quick, and as slow to run as a good one."""
    print("no model is published yet: training one for this benchmark", file=sys.stderr)
    data, draft = BUILD / "data", BUILD / "draft"
    _hone("prepare", "examples/support/support.csv", "--yes", "--out", str(data))
    places = [f"dataset.path={data}", f"saving.store={draft}", f"saving.runs={BUILD / 'runs'}"]
    _hone("train", "classifier", "training.epochs=1", f"saving.name={_MADE}", *places)
    _publish_with_int8(Registry(draft).open(parse_reference(_MADE)), Registry(store))


def _publish_with_int8(bundle: Bundle, registry: Registry) -> None:
    """Publish a copy that has an int8 variant even if it did not pass the parity gate.

    After one epoch many texts stand between two labels, so it may well not pass; how fast it
    runs does not depend on that. The copy is for this benchmark's own store alone.
    """
    from hone.training.export import quantize_int8  # noqa: PLC0415 - torch takes seconds

    with registry.staging() as staged:
        for entry in bundle.manifest.files:
            shutil.copyfile(bundle.file(entry.path), staged / entry.path)
        if "int8" not in bundle.manifest.variants:
            quantize_int8(bundle.variant_file("fp32"), staged / _INT8_FILE)
        fields = {name: getattr(bundle.manifest, name) for name in ManifestBody.model_fields}
        fields["variants"] = {"int8": _INT8_FILE, **bundle.manifest.variants}
        registry.publish(_MADE, staged, ManifestBody(**fields))


def _hone(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "hone", *arguments], check=True, stdout=sys.stderr)
