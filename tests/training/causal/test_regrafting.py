"""A graph that was exported once takes other weights of the same model, or none at all."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from hone.training.causal.export import export_decoder
from hone.training.causal.regrafting import find_weights
from hone.training.generation.causal_bases import load_causal_model
from tests.training.generation.tiny import tiny_base


def weights_of(model: Any) -> dict[str, Any]:
    return {name: p.detach().numpy().copy() for name, p in model.named_parameters()}


def initializers(path: Path) -> dict[str, Any]:
    graph = onnx.load(str(path)).graph
    return {one.name: numpy_helper.to_array(one) for one in graph.initializer}


def disturb(model: Any, seed: int) -> None:
    """Change every weight, norms included, as a training does."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)


@pytest.mark.slow
def test_with_other_weights_it_is_what_the_exporter_would_write(tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base")
    model = load_causal_model(base)
    folders = [tmp_path / "first", tmp_path / "second"]
    for seed, folder in enumerate(folders):
        disturb(model, seed)
        model.save_pretrained(folder)
        base.tokenizer.save_pretrained(folder)
        export_decoder(folder, "fp32", folder / "model.onnx")
        if seed == 0:
            found = find_weights(folder / "model.onnx", weights_of(model))
    assert found is not None
    found.write(folders[0] / "model.onnx", weights_of(model), tmp_path / "grafted.onnx")
    wanted, grafted = (
        initializers(folders[1] / "model.onnx"),
        initializers(tmp_path / "grafted.onnx"),
    )
    assert wanted.keys() == grafted.keys()
    for name, value in wanted.items():
        np.testing.assert_array_equal(value, grafted[name], err_msg=name)


def graph(path: Path, **values: Any) -> Path:
    tensors = [numpy_helper.from_array(value, name) for name, value in values.items()]
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
    made = helper.make_graph([], "tiny", [], [out], tensors)
    onnx.save(helper.make_model(made), str(path))
    return path


A = np.arange(6, dtype=np.float32).reshape(2, 3)
B = A + 10
NORM = np.array([1, 2, 3], np.float32)


def test_weights_are_found_transposed_and_side_by_side(tmp_path: Path) -> None:
    both = np.concatenate([A.T, B.T], axis=1)
    path = graph(tmp_path / "a.onnx", qkv=both, norm=NORM, table=np.ones(4, np.float32))
    found = find_weights(path, {"a": A, "b": B, "norm": NORM})
    assert found is not None
    changed = {"a": A * 2, "b": B * 3, "norm": NORM * 4}
    found.write(path, changed, tmp_path / "b.onnx")
    written = initializers(tmp_path / "b.onnx")
    np.testing.assert_array_equal(written["qkv"], np.concatenate([A.T * 2, B.T * 3], axis=1))
    np.testing.assert_array_equal(written["norm"], NORM * 4)
    np.testing.assert_array_equal(written["table"], np.ones(4))


@pytest.mark.parametrize(
    "weights",
    [{"a": A, "b": B}, {"a": A, "again": A}, {"a": A, "turned": np.ascontiguousarray(A.T)}],
    ids=["one is folded into another", "two are alike", "one is the other's transpose"],
)
def test_where_a_weight_cannot_be_told_there_is_nothing(tmp_path: Path, weights: Any) -> None:
    assert find_weights(graph(tmp_path / "a.onnx", w=A, folded=B * 2), weights) is None
