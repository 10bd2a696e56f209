"""What is exported answers as the trained model, and its attention is taken apart without loss."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from transformers import DistilBertConfig, DistilBertModel, RobertaConfig, RobertaModel

from hone.models.catalogue import find_base
from hone.models.engines import OnnxEngine
from hone.models.predictor import load_predictor
from hone.models.tokenizer import TokenizedText
from hone.training.classifier import TextClassifier, build_classifier
from hone.training.export import convert_fp16, export_fp32, unpack_attention
from hone.training.loading import Data
from hone.training.parity import QUANTIZED, Reference, check_parity
from hone.training.recipe import ModelGroup
from tests.training.runs import Trained
from tests.training.tiny import LABELS, MAX_POSITIONS, word_tokenizer

LAYERS = 2
WIDTH, HEADS = 8, 2
INT8 = TensorProto.INT8


def ops(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


def test_the_exported_model_answers_every_row_as_the_trained_one(
    trained: Trained, data: Data, model: TextClassifier
) -> None:
    predictor = load_predictor(trained.bundle, variant="fp32")
    for split in data.encoded.values():
        logits = np.concatenate([predictor.logits([text]) for text in split.texts])
        with torch.no_grad():
            expected = torch.cat(
                [model(*map(torch.from_numpy, predictor.tokenizer.pad([t]))) for t in split.texts]
            ).numpy()
        assert np.abs(logits - expected).max() < 1e-5
        assert (logits.argmax(axis=1) == expected.argmax(axis=1)).all()


@pytest.mark.parametrize(("texts", "tokens"), [(1, 3), (1, MAX_POSITIONS), (7, 20), (33, 2)])
def test_batch_and_length_are_free(trained: Trained, texts: int, tokens: int) -> None:
    predictor = load_predictor(trained.bundle, variant="fp32")
    rows = [TokenizedText([2, *[9] * (tokens - 2), 3], tokens) for _ in range(texts)]
    logits = predictor.logits(rows)
    assert logits.shape == (texts, len(LABELS))
    assert np.abs(logits - logits[0]).max() < 1e-5


def test_every_layers_attention_was_taken_apart(trained: Trained) -> None:
    found = ops(trained.bundle.variant_file("fp32"))
    assert found.count("MultiHeadAttention") == LAYERS
    assert "Attention" not in found


def test_int8_is_smaller_and_its_head_and_embeddings_are_not_quantized(trained: Trained) -> None:
    fp32, int8 = trained.bundle.variant_file("fp32"), trained.bundle.variant_file("int8")
    assert int8.stat().st_size < 0.8 * fp32.stat().st_size
    graph = onnx.load(int8).graph
    products = [node for node in graph.node if node.op_type == "MatMulInteger"]
    assert len(products) == 4 * LAYERS
    plain = [node for node in graph.node if node.op_type in {"MatMul", "Gemm"}]
    assert [node.name for node in plain] == ["classification_head_MatMul"]
    kinds = {tensor.name: tensor.data_type for tensor in graph.initializer}
    embeddings = [kind for name, kind in kinds.items() if name.endswith("embeddings.weight")]
    assert embeddings == [TensorProto.FLOAT] * 3
    weights = [numpy_helper.to_array(t) for t in graph.initializer if t.data_type == INT8]
    assert len([array for array in weights if array.ndim == 2]) == 4 * LAYERS
    # Seven bits: processors without VNNI add pairs of 8-bit products in 16.
    assert all(np.abs(array.astype(int)).max() <= 64 for array in weights)


def test_half_precision_takes_and_gives_what_full_precision_does(
    trained: Trained, reference: Reference, tmp_path: Path
) -> None:
    convert_fp16(trained.bundle.variant_file("fp32"), tmp_path / "half.onnx")
    served = load_predictor(trained.bundle, variant="fp32")
    engine = OnnxEngine(tmp_path / "half.onnx", device="cpu")
    record = check_parity(
        type(served)(served.tokenizer, engine, served.labels, 1.0), reference, QUANTIZED
    )
    assert record.passed
    assert 0 < record.largest_logit_difference < 0.1


def attention_model(
    *, bias: bool = True, mask: bool = True, scale: float | None = None, **attributes: Any
) -> onnx.ModelProto:
    """Return x -> packed attention -> y, with the packed weight still in three parts."""
    generator = np.random.default_rng(0)
    parts = {f"w{part}": generator.normal(size=(WIDTH, WIDTH)) for part in "qkv"}
    constants = {**parts, "b": generator.normal(size=3 * WIDTH)}
    inputs = ["x", "w", "b" if bias else "", "", "", "mask" if mask else ""]
    if scale is not None:
        attributes["scale"] = scale
    nodes = [
        helper.make_node("Concat", list(parts), ["w"], axis=1),
        helper.make_node(
            "Attention", inputs, ["y"], domain="com.microsoft", num_heads=HEADS, **attributes
        ),
    ]
    sizes = {"x": ["texts", "tokens", WIDTH], "mask": ["texts", HEADS, "tokens", "tokens"]}
    given = ["x", "mask"] if mask else ["x"]
    graph = helper.make_graph(
        nodes,
        "attention",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes[name]) for name in given],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, sizes["x"])],
        [numpy_helper.from_array(v.astype(np.float32), name) for name, v in constants.items()],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def run(model: onnx.ModelProto, lengths: Sequence[int]) -> np.ndarray[Any, Any]:
    """Run on random vectors, those after each text's length hidden by the mask."""
    generator = np.random.default_rng(1)
    texts, tokens = len(lengths), max(lengths)
    feed = {"x": generator.normal(size=(texts, tokens, WIDTH)).astype(np.float32)}
    hidden = np.arange(tokens) >= np.array(lengths)[:, None]
    bias = np.where(hidden, -1e9, 0.0)[:, None, None].repeat(HEADS, 1).repeat(tokens, 2)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = {value.name for value in session.get_inputs()}
    feed["mask"] = bias.astype(np.float32)
    result: np.ndarray[Any, Any] = session.run(
        None, {name: value for name, value in feed.items() if name in names}
    )[0]
    return result


@pytest.mark.parametrize(
    "options",
    [{}, {"mask": False}, {"scale": 0.1}, {"qkv_hidden_sizes": [WIDTH] * 3}],
    ids=["mask", "no mask", "scale", "sizes"],
)
def test_attention_taken_apart_gives_the_same_numbers(options: dict[str, Any]) -> None:
    model = attention_model(**options)
    before = [run(model, lengths) for lengths in ((5, 3, 1), (1,), (9, 9))]
    assert unpack_attention(model) == 1
    found = [node.op_type for node in model.graph.node]
    assert found == ["MatMul", "Split", "MultiHeadAttention"]
    after = [run(model, lengths) for lengths in ((5, 3, 1), (1,), (9, 9))]
    for one, other in zip(before, after, strict=True):
        assert np.abs(one - other).max() < 1e-5


@pytest.mark.parametrize(
    "options",
    [{"unidirectional": 1, "mask": False}, {"bias": False}, {"qkv_hidden_sizes": [8, 8, 16]}],
    ids=["causal", "no bias", "other sizes"],
)
def test_attention_of_another_kind_is_left_alone(options: dict[str, Any]) -> None:
    model = attention_model(**options)
    assert unpack_attention(model) == 0
    assert "Attention" in [node.op_type for node in model.graph.node]


def distilbert() -> DistilBertModel:
    return DistilBertModel(
        DistilBertConfig(
            vocab_size=200, dim=32, n_layers=2, n_heads=4, hidden_dim=64, max_position_embeddings=64
        )
    )


def roberta() -> RobertaModel:
    return RobertaModel(
        RobertaConfig(
            vocab_size=200,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=64,
            max_position_embeddings=66,
            type_vocab_size=1,
            pad_token_id=0,
        )
    )


@pytest.mark.parametrize(
    ("encoder", "pooling"), [(distilbert, "mean"), (roberta, "cls")], ids=["distilbert", "roberta"]
)
def test_other_architectures_pass_the_gate_too(
    tmp_path: Path, trained: Trained, data: Data, encoder: Any, pooling: str
) -> None:
    torch.manual_seed(0)
    encoder().save_pretrained(tmp_path / "base")
    word_tokenizer().save(str(tmp_path / "base" / "tokenizer.json"))
    base = find_base(str(tmp_path / "base"))
    group = ModelGroup(pooling=pooling)  # type: ignore[arg-type]
    model = build_classifier(base, group, labels=len(LABELS), train_embeddings=False)
    export_fp32(model, tmp_path / "model.onnx")
    served = load_predictor(trained.bundle, variant="fp32")
    engine = OnnxEngine(tmp_path / "model.onnx", device="cpu")
    for text in data.encoded["test"].texts:
        ids, mask = served.tokenizer.pad([text, data.encoded["test"].texts[0]])
        with torch.no_grad():
            expected = model(torch.from_numpy(ids), torch.from_numpy(mask)).numpy()
        assert np.abs(engine.run(ids, mask) - expected).max() < 1e-4
