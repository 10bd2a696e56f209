"""One type of adapters in a graph, also where only some of its layers have weights of few bits."""

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from hone.models.decoding.adapters import ADAPTER_MASK, ADAPTER_SHAPE, UNIT
from hone.models.errors import InvalidInput
from hone.training.causal.adapter_graph import take_adapters

WIDTH, OUT = 32, 4
BLOCK = "/model/layers.0/mlp"


def graph_of_both(weights: "npt.NDArray[np.floating]") -> onnx.ModelProto:
    """Return a graph x -> (gate, up) with one layer whole and one of four bits, which is zero."""
    tensors = {
        "gate.weight": weights,
        "up.weight": np.full((OUT, 1, WIDTH // 2), 0x88, dtype=np.uint8),  # 8 stands for zero
        "up.scales": np.ones((OUT, 1), dtype=weights.dtype),
    }
    bits = {"K": WIDTH, "N": OUT, "bits": 4, "block_size": WIDTH}
    nodes = [
        helper.make_node("MatMul", ["x", "gate.weight"], ["gate"], f"{BLOCK}/gate_proj/MatMul"),
        helper.make_node("MatMulNBits", ["x", "up.weight", "up.scales"], ["up"],
                         f"{BLOCK}/up_proj/MatMul_Q4", domain="com.microsoft", **bits),
    ]  # fmt: skip
    kind = helper.np_dtype_to_tensor_dtype(weights.dtype)
    graph = helper.make_graph(
        nodes,
        "both",
        [helper.make_tensor_value_info("x", kind, ["rows", "tokens", WIDTH])],
        [helper.make_tensor_value_info(n, kind, ["rows", "tokens", OUT]) for n in ("gate", "up")],
        [numpy_helper.from_array(tensor, name) for name, tensor in tensors.items()],
    )
    domains = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=domains, ir_version=9)


def test_a_graph_with_layers_of_few_bits_beside_whole_ones_takes_one_type_of_adapters() -> None:
    random = np.random.default_rng(0)
    weights = random.standard_normal((WIDTH, OUT)).astype(np.float32)
    model = graph_of_both(weights)
    take_adapters(model)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    types = {i.type for i in session.get_inputs() if i.name.startswith("adapter.")}
    assert types == {"tensor(float16)"}
    x = random.standard_normal((1, 3, WIDTH)).astype(np.float32)
    fed = {"x": x, ADAPTER_MASK: np.ones((1, 1, 1), bool), ADAPTER_SHAPE: np.array([1, 3, -1])}
    made = {}
    for layer in ("gate", "up"):
        a, b = (random.standard_normal((1, UNIT, w)).astype(np.float16) for w in (WIDTH, OUT))
        fed |= {f"adapter.layers.0.mlp.{layer}_proj.{n}": m for n, m in (("A", a), ("B", b))}
        made[layer] = x @ a[0].T.astype(np.float32) @ b[0].astype(np.float32)
    gate, up = session.run(["gate", "up"], fed)
    np.testing.assert_allclose(gate, x @ weights + made["gate"], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(up, made["up"], rtol=1e-4, atol=1e-4)


def test_a_layer_in_half_precision_takes_none_and_is_named() -> None:
    model = graph_of_both(np.zeros((WIDTH, OUT), dtype=np.float16))
    with pytest.raises(InvalidInput, match=f"{BLOCK}/gate_proj/MatMul computes in float16"):
        take_adapters(model)
    assert {value.name for value in model.graph.input} == {"x"}
    assert model.graph.initializer[0].data_type == TensorProto.FLOAT16
