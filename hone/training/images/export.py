"""A trained picture classifier as ONNX: fp32, fp16, and int8 with static quantization."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from hone.models.engines import FloatArray, OnnxPictureEngine
from hone.training.export import quiet
from hone.training.images.backbones import ImageClassifier

_OPSET = 18
_BATCH = 16
_ENOUGH_AGREEMENT = 0.995
_MOST_NOISE = 0.05
"""Of int8's logits, as a share of what the logits themselves vary by."""
_WEIGHTED = ("Conv", "MatMul", "Gemm")


def export_picture_fp32(model: ImageClassifier, path: Path, *, height: int, width: int) -> None:
    """Write `model` as one ONNX file with a free number of pictures.

    Input `pixel_values`, float32 (pictures, 3, height, width); output `logits`, float32
    (pictures, labels). The model must be on the CPU, in fp32, with LoRA merged.
    """
    model.eval()
    with quiet():
        program = torch.onnx.export(
            model,
            (torch.zeros(2, 3, height, width),),
            dynamo=True,
            opset_version=_OPSET,
            input_names=["pixel_values"],
            output_names=["logits"],
            dynamic_shapes={"pixel_values": {0: "pictures"}},
        )
        if program is None:
            raise RuntimeError("the exporter returned no program")
        graph = program.model_proto
    onnx.save(graph, path)


def quantize_picture_int8(fp32: Path, path: Path, pictures: FloatArray) -> str:
    """Write the statically quantized variant, and return which layers were left in fp32.

    `pictures` are training pictures as the model reads them, float32 (pictures, 3, height, width):
    the ranges of activations are taken from them. Weights have a scale for each channel and seven
    bits, because processors without VNNI add pairs of 8-bit products in 16 bits and would
    saturate. Layers whose quantization hurts are left in fp32: what is tried first leaves only the
    head, then also the first and the depthwise layers, then also the first half, which has few
    weights and large maps. The first whose logits are near enough on the pictures is taken, else
    the nearest.
    """
    prepared = path.with_name(f"{path.stem}.prepared.onnx")
    with quiet():
        quant_pre_process(fp32, prepared, skip_symbolic_shape=True)
    wanted = _logits(fp32, pictures)
    best: tuple[float, str, bytes] | None = None
    try:
        for name, left_out in _choices(onnx.load(prepared)):
            _quantize(prepared, path, pictures, left_out)
            found = _logits(path, pictures)
            noise = relative_noise(found, wanted)
            if best is None or noise < best[0]:
                best = noise, name, path.read_bytes()
            agreement = float((found.argmax(1) == wanted.argmax(1)).mean())
            if agreement >= _ENOUGH_AGREEMENT and noise <= _MOST_NOISE:
                break
    finally:
        prepared.unlink(missing_ok=True)
    if best is None:
        raise RuntimeError("nothing was quantized")
    path.write_bytes(best[2])
    return best[1]


def relative_noise(found: FloatArray, wanted: FloatArray) -> float:
    """Return how much some logits (rows, labels) differ from others, as a share of their spread.

    Root mean squares of what is left when each row's mean is taken off: a softmax does not see it.
    """
    difference = found - wanted
    spread = wanted - wanted.mean(axis=1, keepdims=True)
    noise = difference - difference.mean(axis=1, keepdims=True)
    return float(np.sqrt((noise**2).mean() / max(float((spread**2).mean()), 1e-12)))


def _quantize(prepared: Path, path: Path, pictures: FloatArray, left_out: Sequence[str]) -> None:
    with quiet():
        quantize_static(
            prepared,
            path,
            _Pictures(pictures),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(_WEIGHTED),
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=list(left_out),
        )


class _Pictures(CalibrationDataReader):  # type: ignore[misc]
    """Gives the calibration its pictures in batches."""

    def __init__(self, pictures: FloatArray) -> None:
        self._batches: Iterator[dict[str, FloatArray]] = iter(
            {"pixel_values": pictures[start : start + _BATCH]}
            for start in range(0, len(pictures), _BATCH)
        )

    def get_next(self) -> dict[str, FloatArray] | None:
        """Return the next batch, None behind the last."""
        return next(self._batches, None)


def _choices(model: onnx.ModelProto) -> Iterator[tuple[str, list[str]]]:
    """Yield what may be left in fp32: a name, and the nodes."""
    weighted = [node for node in model.graph.node if node.op_type in _WEIGHTED]
    head, first = weighted[-1].name, weighted[0].name
    depthwise = [node.name for node in weighted if _is_depthwise(node)]
    half = [node.name for node in weighted[: len(weighted) // 2]]
    yield "the head", [head]
    if depthwise:
        yield "the head, the first and the depthwise layers", [head, first, *depthwise]
    yield "the head, the first half and depthwise layers", [head, *half, *depthwise]


def _is_depthwise(node: onnx.NodeProto) -> bool:
    return any(a.name == "group" and a.i > 1 for a in node.attribute)


def _logits(path: Path, pictures: FloatArray) -> FloatArray:
    engine = OnnxPictureEngine(path, intra_threads=torch.get_num_threads(), device="cpu")
    starts = range(0, len(pictures), _BATCH)
    return np.concatenate([engine.run(pictures[start : start + _BATCH]) for start in starts])
