"""A real bundle for pictures of a few kilobytes: the mean colour and one matrix."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from hone.models.manifest import Manifest, ManifestBody
from hone.models.registry import Registry

LABELS = ("blue", "green", "red")
SIDE = 16
BASELINE = {
    "instruction": "Say which colour.",
    "static_tokens": 30,
    "output_tokens": 1.0,
    "method": "estimated:gpt-4o-tiles",
    "separator": "",
}

_MODEL_FILE = "model.fp32.onnx"


def publish_tiny_pictures(registry: Registry, model: str = "colours", **changes: Any) -> Manifest:
    """Publish a classifier that answers with the strongest of the three colours."""
    with registry.staging() as staged:
        write_picture_model(staged / _MODEL_FILE)
        return registry.publish(model, staged, _body(changes))


def write_picture_model(path: Path) -> None:
    """Write `logits = mean(pixels) @ (mirrored identity)`: channels are red, green, blue."""
    weight = np.fliplr(np.eye(3)).astype(np.float32) * 8
    nodes = [
        helper.make_node("ReduceMean", ["pixel_values", "axes"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "weight"], ["logits"]),
    ]
    constants = {"weight": weight, "axes": np.array([2, 3], dtype=np.int64)}
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opset = helper.make_opsetid("", 18)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=10), path)


def _body(changes: dict[str, Any]) -> ManifestBody:
    fields: dict[str, Any] = {
        "task": "image-classification",
        "labels": list(LABELS),
        "base": {"id": "tiny", "licence": "MIT", "revision": "0" * 64},
        "recipe": {"sha256": "1" * 64, "content": {}},
        "data": {"train": {"rows": 10, "sha256": "2" * 64}},
        "scores": {},
        "calibration": {"temperature": 1.0, "ece_before": 0.1, "ece_after": 0.05, "n": 10},
        "variants": {"fp32": _MODEL_FILE},
        "parity": {},
        "baseline": BASELINE,
        "preprocessing": {"height": SIDE, "width": SIDE, "shortest_edge": SIDE},
    }
    return ManifestBody.model_validate(fields | changes)
