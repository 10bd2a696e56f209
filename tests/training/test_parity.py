"""The gate: whatever an export may be spoilt by is found out, and nothing of it is published."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hone.models.engines import OnnxEngine
from hone.models.errors import InvalidInput, ParityFailed
from hone.models.manifest import ParityRecord, Variant
from hone.models.names import ModelReference
from hone.models.predictor import Predictor, choose_variant, load_tokenizer
from hone.models.registry import Registry
from hone.training import parity
from hone.training.loading import Data
from hone.training.parity import EXACT, QUANTIZED, Reference, bounds_for, check_parity
from tests.training.runs import (
    Outcome,
    Sabotage,
    Trained,
    as_it_is,
    named,
    spoil,
    staged,
    versions,
)
from tests.training.tiny import LABELS

Array = np.ndarray[Any, Any]


def labels_swapped(model: onnx.ModelProto) -> None:
    """Give the first label's logit to the second, and the other way round."""
    for name in ("head.weight", "head.bias"):
        _change(model, name, lambda array: array[[1, 0, 2, 3]])


def mask_ignored(model: onnx.ModelProto) -> None:
    """Let the model read its padding."""
    for node in model.graph.node:
        node.input[:] = ["ones" if name == "attention_mask" else name for name in node.input]
    one = helper.make_tensor("one", TensorProto.INT64, [1], [1])
    for node in (
        helper.make_node("ConstantOfShape", ["ids_shape"], ["ones"], value=one),
        helper.make_node("Shape", ["input_ids"], ["ids_shape"]),
    ):
        model.graph.node.insert(0, node)


def noise_added(model: onnx.ModelProto) -> None:
    """Add noise to one matrix of the first layer."""
    generator = np.random.default_rng(0)
    _change(model, _largest(model), lambda a: a + generator.normal(scale=0.5, size=a.shape))


def noise_of_one_weight(model: onnx.ModelProto) -> None:
    """Change a single number."""

    def change(array: Array) -> Array:
        array.flat[0] += 3.0
        return array

    _change(model, "head.weight", change)


def weights_not_numbers(model: onnx.ModelProto) -> None:
    """Let a weight of the encoder be NaN."""
    _change(model, _largest(model), lambda array: np.full_like(array, np.nan))


def one_logit_infinite(model: onnx.ModelProto) -> None:
    """Let the right answers stay right, with an infinite logit for another label."""
    _change(model, "head.bias", lambda array: np.where(np.arange(4) == 3, -np.inf, array))


def of_another_training(model: onnx.ModelProto) -> None:
    """Take the weights of a model that was never trained."""
    generator = np.random.default_rng(0)
    for tensor in list(model.graph.initializer):
        if tensor.data_type == TensorProto.FLOAT and len(tensor.dims) == 2:
            _change(model, tensor.name, lambda a: 0 * a + generator.normal(0, 0.02, a.shape))


def of_fewer_labels(model: onnx.ModelProto) -> None:
    """Answer with three logits where there are four labels."""
    for name in ("head.weight", "head.bias"):
        _change(model, name, lambda array: array[:3])


def of_one_label(model: onnx.ModelProto) -> None:
    """Answer with a number that numpy would gladly spread over all labels."""
    for name in ("head.weight", "head.bias"):
        _change(model, name, lambda array: array[:1])


def _change(
    model: onnx.ModelProto,
    name: str,
    change: Callable[[Array], Array],
) -> None:
    (tensor,) = [tensor for tensor in model.graph.initializer if tensor.name == name]
    array = change(numpy_helper.to_array(tensor).copy()).astype(np.float32)
    tensor.CopyFrom(numpy_helper.from_array(array, name))
    del model.graph.output[0].type.tensor_type.shape.dim[:]


def _largest(model: onnx.ModelProto) -> str:
    """Return the name of the first layer's packed matrix."""
    floats = [t for t in model.graph.initializer if list(t.dims) == [32, 96]]
    return str(floats[0].name)


SABOTAGES: dict[Sabotage, str] = {
    labels_swapped: "it agrees on",
    mask_ignored: "alone and in a batch",
    noise_added: "a logit differs by",
    noise_of_one_weight: "a logit differs by",
    weights_not_numbers: "some of its answers are not numbers",
    one_logit_infinite: "some of its answers are not numbers",
    of_another_training: "its accuracy is",
    of_fewer_labels: "has the shape (3,), and there are 4 labels",
    of_one_label: "has the shape (1,), and there are 4 labels",
}


@pytest.fixture
def judge(trained: Trained, reference: Reference, tmp_path: Path) -> Callable[..., ParityRecord]:
    """Return what holds a spoilt copy of a variant against the trained model."""

    def judge(
        sabotage: Sabotage,
        variant: Variant = "fp32",
        against: Reference = reference,
        **changes: object,
    ) -> ParityRecord:
        bundle = trained.bundle
        file = spoil(bundle.variant_file(variant), tmp_path / "spoilt.onnx", sabotage)
        engine = OnnxEngine(file, device="cpu")
        predictor = Predictor(load_tokenizer(bundle), engine, tuple(LABELS), 1.0)
        return check_parity(
            replace(predictor, **changes),  # type: ignore[arg-type]
            against,
            bounds_for(variant),
        )

    return judge


@pytest.mark.parametrize("variant", ["fp32", "int8"])
def test_an_honest_export_passes(judge: Callable[..., ParityRecord], variant: Variant) -> None:
    record = judge(as_it_is, variant)
    assert record.passed
    assert record.reasons == []
    assert record.rows == 60
    assert record.equal_predictions == 1.0 or variant == "int8"
    assert 0 < record.largest_logit_difference < (1e-4 if variant == "fp32" else 1.0)
    low, high = record.accuracy_change_low, record.accuracy_change_high
    assert low <= record.accuracy_exported - record.accuracy_trained <= high


@pytest.mark.parametrize(
    "sabotage",
    [s for s in SABOTAGES if not s.__name__.endswith("label") and "fewer" not in s.__name__],
    ids=lambda sabotage: sabotage.__name__,
)
def test_a_spoilt_export_is_refused_with_the_reason(
    judge: Callable[..., ParityRecord], sabotage: Sabotage
) -> None:
    record = judge(sabotage)
    assert not record.passed
    assert any(SABOTAGES[sabotage] in reason for reason in record.reasons), record.reasons


@pytest.mark.parametrize("sabotage", [of_fewer_labels, of_one_label])
def test_an_export_of_another_shape_cannot_even_be_compared(
    judge: Callable[..., ParityRecord], sabotage: Sabotage
) -> None:
    with pytest.raises(ParityFailed, match="there are 4 labels"):
        judge(sabotage)


def test_a_model_that_reads_its_padding_is_found_out_where_all_texts_are_equally_long(
    judge: Callable[..., ParityRecord], data: Data, reference: Reference
) -> None:
    lengths = data.encoded["validation"].lengths
    (rows,) = np.nonzero(lengths == np.bincount(lengths).argmax())
    assert len(rows) >= 4
    alike = Reference(
        reference.labels,
        [reference.texts[int(row)] for row in rows],
        reference.logits[rows],
        reference.truth[rows],
    )
    assert judge(as_it_is, against=alike).passed
    record = judge(mask_ignored, against=alike)
    assert record.largest_logit_difference < EXACT.most_logit_difference
    assert {reason[:27] for reason in record.reasons} == {"a text alone and in a batch"}


def test_labels_in_another_order_are_refused_although_every_logit_is_right(
    judge: Callable[..., ParityRecord],
) -> None:
    record = judge(as_it_is, labels=("fee", "card", "refund", "transfer"))
    assert record.largest_logit_difference < 1e-4
    assert not record.passed
    assert record.reasons[0].startswith("its labels are not those of the trained model")
    assert record.equal_predictions < 0.8


def test_another_tokenizer_is_refused(judge: Callable[..., ParityRecord], trained: Trained) -> None:
    tokenizer = load_tokenizer(trained.bundle)
    tokenizer._room = 4
    assert not judge(as_it_is, tokenizer=tokenizer).passed


@pytest.mark.parametrize("sabotage", [labels_swapped, of_another_training, weights_not_numbers])
def test_the_wider_bounds_of_fewer_bits_do_not_let_nonsense_through(
    judge: Callable[..., ParityRecord], sabotage: Sabotage
) -> None:
    assert parity._reasons(judge(sabotage), QUANTIZED, same_labels=True)


def test_full_precision_has_no_room_and_fewer_bits_have_a_little() -> None:
    assert bounds_for("fp32") is EXACT
    assert (EXACT.least_equal, EXACT.most_accuracy_lost) == (1.0, 0.0)
    assert bounds_for("int8") is bounds_for("fp16") is QUANTIZED
    assert QUANTIZED.least_equal >= 0.98
    assert QUANTIZED.most_accuracy_lost <= 0.005


# Through the whole command, with the training and the export taken from the finished run.


@pytest.mark.parametrize("sabotage", SABOTAGES, ids=lambda sabotage: sabotage.__name__)
def test_hone_train_publishes_nothing_of_a_spoilt_export(
    ready: dict[Variant, Sabotage],
    train: Callable[..., Outcome],
    tmp_path: Path,
    sabotage: Sabotage,
) -> None:
    ready["fp32"] = sabotage
    found = train()
    assert found.status == 1
    said = " ".join(found.errors.split())
    assert "error: the exported model is not the trained one: " in said
    assert SABOTAGES[sabotage] in said
    assert "Traceback" not in said
    assert versions(tmp_path / "store") == []
    assert staged(tmp_path / "store") == []
    assert [e["event"] for e in found.events[-2:]][-1] == "failed"
    assert found.events[-1]["code"] == "parity_failed"
    if "has the shape" not in SABOTAGES[sabotage]:
        (record,) = named(found.events, "parity")
        assert not record["passed"]
        assert any(SABOTAGES[sabotage] in reason for reason in record["reasons"])
        assert "parity fp32: " in said


def test_a_refused_export_leaves_the_versions_that_there_were(
    ready: dict[Variant, Sabotage], train: Callable[..., Outcome], tmp_path: Path
) -> None:
    assert train().status == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("*")}
    ready["fp32"] = noise_added
    assert train().status == 1
    assert versions(tmp_path / "store") == [1]
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("*")}
    del before[tmp_path / "store" / ".staging"], after[tmp_path / "store" / ".staging"]
    assert {p: t for p, t in after.items() if p.name != ".lock"} == {
        p: t for p, t in before.items() if p.name != ".lock"
    }


@pytest.mark.parametrize("sabotage", [labels_swapped, weights_not_numbers, of_fewer_labels])
def test_a_quantized_variant_that_is_worse_is_left_out_with_the_reason(
    ready: dict[Variant, Sabotage],
    train: Callable[..., Outcome],
    tmp_path: Path,
    sabotage: Sabotage,
) -> None:
    ready["int8"] = sabotage
    found = train()
    assert found.status == 0
    bundle = Registry(tmp_path / "store").open(ModelReference("tiny"))
    assert list(bundle.manifest.variants) == ["fp32"]
    assert not (bundle.folder / "model.int8.onnx").exists()
    assert SABOTAGES[sabotage] in bundle.manifest.left_out["int8"]
    assert SABOTAGES[sabotage] in named(found.events, "variant_left_out")[0]["reason"]
    assert "left out int8: " in found.errors
    with pytest.raises(InvalidInput, match="has no int8 variant: "):
        choose_variant(bundle, "int8", "cpu")
    assert choose_variant(bundle, None, "cpu") == "fp32"
    assert all(name.endswith(":fp32") for name in bundle.manifest.scores)


def test_a_variant_that_cannot_be_loaded_is_left_out(
    ready: dict[Variant, Sabotage], train: Callable[..., Outcome], tmp_path: Path
) -> None:
    def broken(model: onnx.ModelProto) -> None:
        model.graph.node[0].op_type = "NoSuchOperator"

    ready["int8"] = broken
    assert train().status == 0
    manifest = Registry(tmp_path / "store").manifest(ModelReference("tiny"))
    assert manifest.left_out == {"int8": "ONNX Runtime cannot load model.int8.onnx"}


def test_int8_went_through_or_was_left_out_with_a_reason(trained: Trained) -> None:
    manifest = trained.manifest
    assert ("int8" in manifest.variants) != bool(manifest.left_out.get("int8"))
    assert manifest.parity.keys() == manifest.variants.keys()
    assert all(record.passed for record in manifest.parity.values())
