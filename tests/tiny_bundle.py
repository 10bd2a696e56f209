"""A real bundle of a few kilobytes, made in milliseconds and without torch.

The model is a mean of word embeddings and one matrix: `logits = mean(E[ids]) @ W`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from hone.models.manifest import TOKENIZER_FILE, Manifest, ManifestBody
from hone.models.registry import Registry

LABELS = ("card", "transfer", "refund", "other")
_SENTENCE = "where is my card the money i sent back please help not here yet when will"
WORDS = tuple(_SENTENCE.split())
BASELINE = {
    "instruction": "Say which it is.",
    "static_tokens": 120,
    "output_tokens": 2.0,
    "method": "estimated:characters",
    "price_model": "gpt-4o-mini",
}

_MODEL_FILE = "model.fp32.onnx"
_WIDTH = 16


def publish_tiny(
    registry: Registry,
    model: str = "support",
    *,
    labels: Sequence[str] = LABELS,
    seed: int = 0,
    max_tokens: int = 64,
    **changes: Any,
) -> Manifest:
    """Publish one more version of a tiny classifier; `changes` replace fields of the manifest."""
    with registry.staging() as staged:
        onnx.save(tiny_model(labels=len(labels), seed=seed), staged / _MODEL_FILE)
        tiny_tokenizer().save(str(staged / TOKENIZER_FILE))
        return registry.publish(model, staged, _body(labels, max_tokens, changes))


def tiny_tokenizer() -> Tokenizer:
    """Return a word tokenizer that adds [CLS] and [SEP]."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS]
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


def tiny_model(*, labels: int, seed: int) -> onnx.ModelProto:
    """Return the graph, with random weights."""
    generator = np.random.default_rng(seed)
    embedding = generator.normal(size=(len(WORDS) + 4, _WIDTH)).astype(np.float32)
    weight = generator.normal(size=(_WIDTH, labels)).astype(np.float32)
    nodes = [
        helper.make_node("Gather", ["embedding", "input_ids"], ["vectors"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["wide_mask"]),
        helper.make_node("Mul", ["vectors", "wide_mask"], ["masked"]),
        helper.make_node("ReduceSum", ["masked", "tokens"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["wide_mask", "tokens"], ["count"], keepdims=0),
        helper.make_node("Div", ["sum", "count"], ["mean"]),
        helper.make_node("MatMul", ["mean", "weight"], ["logits"]),
    ]
    constants = {
        "embedding": embedding,
        "weight": weight,
        "last": np.array([2], dtype=np.int64),
        "tokens": np.array([1], dtype=np.int64),
    }
    shape = ["texts", "tokens_in_text"]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, shape)
            for name in ("input_ids", "attention_mask")
        ],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["texts", labels])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def _body(labels: Sequence[str], max_tokens: int, changes: dict[str, Any]) -> ManifestBody:
    fields: dict[str, Any] = {
        "task": "text-classification",
        "labels": list(labels),
        "limits": {"max_tokens": max_tokens},
        "base": {"id": "tiny", "licence": "MIT", "revision": "0" * 64},
        "recipe": {"sha256": "1" * 64, "content": {}},
        "data": {"train": {"rows": 10, "sha256": "2" * 64}},
        "scores": {},
        "calibration": {"temperature": 1.5, "ece_before": 0.1, "ece_after": 0.05, "n": 10},
        "variants": {"fp32": _MODEL_FILE},
        "parity": {},
        "baseline": BASELINE,
        "token_lengths": {"p50": 5, "p90": 9, "p99": 12, "longest": 13},
    }
    return ManifestBody.model_validate(fields | changes)


def weights_file(folder: Path) -> Path:
    """Return the model's file in a bundle's folder."""
    return folder / _MODEL_FILE
