"""From the trained model to ONNX: fp32, int8 and fp16.

The dynamo exporter's graph is fused for ONNX Runtime by onnxscript, and its packed attention is
then taken apart again into one matrix product and `MultiHeadAttention`. The product is a quarter
of the encoder's work, and only outside the fused operator can it be quantized: ONNX Runtime's
quantized attention takes no additive mask, so its quantizer leaves `Attention` in fp32.
"""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxscript.rewriter.ort_fusions import optimize_for_ort

from hone.training.classifier import TextClassifier

_OPSET = 18
_HEAD = "classification_head"


def export_fp32(model: TextClassifier, path: Path) -> None:
    """Write `model` as one ONNX file with free batch and sequence sizes.

    Inputs `input_ids` and `attention_mask`, int64 (texts, tokens); output `logits`, float32
    (texts, labels). The model must be on the CPU, in fp32, with LoRA merged.
    """
    model.eval()
    sample_ids = torch.tensor([[1, 2, 3, 4, 5], [1, 2, 3, 0, 0]])
    sample_mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    free = {0: "texts", 1: "tokens"}
    with quiet():
        program = torch.onnx.export(
            model,
            (sample_ids, sample_mask),
            dynamo=True,
            opset_version=_OPSET,
            input_names=["input_ids", "attention_mask"],
            output_names=["logits"],
            dynamic_shapes={"input_ids": free, "attention_mask": free},
        )
        if program is None:
            raise RuntimeError("the exporter returned no program")
        optimize_for_ort(program.model, clear_metadata=True)
        graph = program.model_proto
    unpack_attention(graph)
    _name_head(graph)
    del graph.graph.value_info[:]  # stale after the rewriting, and the quantizer trusts it
    onnx.save(graph, path)


def quantize_int8(fp32: Path, path: Path) -> None:
    """Write the dynamically quantized variant: int8 weights by channel, activations at run time.

    Weights keep seven bits, because processors without VNNI add pairs of 8-bit products in 16
    bits and would saturate. Embeddings and the small head stay in fp32.
    """
    with quiet():
        quantize_dynamic(
            onnx.load(fp32),
            path,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=[_HEAD, f"{_HEAD}_MatMul"],  # as the quantizer renames a Gemm
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
        )


def convert_fp16(fp32: Path, path: Path) -> None:
    """Write the half-precision variant, for GPUs; inputs and outputs stay as they are."""
    with quiet():
        onnx.save(convert_float_to_float16(onnx.load(fp32), keep_io_types=True), path)


def unpack_attention(model: onnx.ModelProto) -> int:
    """Replace each packed `com.microsoft.Attention` by MatMul, Split and MultiHeadAttention.

    Only where queries, keys and values have one size and there is no past. Changes `model` in
    place and returns how many were replaced.
    """
    _fold_constant_concats(model.graph)
    nodes = list(model.graph.node)
    replaced = 0
    del model.graph.node[:]
    for node in nodes:
        if node.op_type == "Attention" and node.domain == "com.microsoft" and _is_plain(node):
            model.graph.node.extend(_unpacked(node))
            replaced += 1
        else:
            model.graph.node.append(node)
    return replaced


def _is_plain(node: onnx.NodeProto) -> bool:
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    sizes = attributes.get("qkv_hidden_sizes", [1, 1, 1])
    inputs = [*node.input, *[""] * 7]
    has_past = bool(inputs[4] or inputs[6]) or bool(attributes.get("unidirectional", 0))
    return len(set(sizes)) == 1 and not has_past and not inputs[3] and bool(inputs[2])


def _unpacked(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    attributes: dict[str, Any] = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    kept = {name: attributes[name] for name in ("num_heads", "scale") if name in attributes}
    names: list[str] = [*node.input, *[""] * 6]
    x, weight, bias, attention_bias = *names[:3], names[5]
    out = node.output[0]
    packed, parts = f"{out}_qkv", [f"{out}_{part}" for part in ("query", "key", "value")]
    return [
        helper.make_node("MatMul", [x, weight], [packed], name=f"{packed}_product"),
        helper.make_node("Split", [packed], parts, name=f"{packed}_split", axis=-1, num_outputs=3),
        helper.make_node(
            "MultiHeadAttention",
            [*parts, bias, "", attention_bias],
            [out],
            name=f"{out}_attention",
            domain="com.microsoft",
            **kept,
        ),
    ]


def _fold_constant_concats(graph: onnx.GraphProto) -> None:
    """Turn concatenations of weights, which the fusion leaves behind, into weights."""
    weights = {tensor.name: tensor for tensor in graph.initializer}
    nodes = list(graph.node)
    del graph.node[:]
    for node in nodes:
        if node.op_type != "Concat" or not all(name in weights for name in node.input):
            graph.node.append(node)
            continue
        axis = helper.get_attribute_value(node.attribute[0])
        joined = np.concatenate([numpy_helper.to_array(weights[n]) for n in node.input], axis=axis)
        weights[node.output[0]] = numpy_helper.from_array(joined, node.output[0])
    used = {name for node in graph.node for name in node.input}
    del graph.initializer[:]
    graph.initializer.extend(tensor for name, tensor in weights.items() if name in used)


def _name_head(model: onnx.ModelProto) -> None:
    """Name the last matrix product, so that quantization can leave it out."""
    makers = {output: node for node in model.graph.node for output in node.output}
    node = makers.get("logits")
    while node is not None and node.op_type not in {"MatMul", "Gemm"}:
        node = next((makers[name] for name in node.input if name in makers), None)
    if node is not None:
        node.name = _HEAD


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the exporter's progress, its deprecation warnings and the quantizer's advice."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "root", None)]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
