"""A decoder's graph that takes LoRA adapters of its linear layers as inputs.

Beside each product of a layer stands what the adapters add (`hone.models.decoding.adapters`):

    y = x W + sum over units of where(mask, x A^T, 0) B

A and B hold units of several adapters, and the mask lets each row use those of its own alone. It is
`where` and no product with zeros, as another adapter may overflow on a row that is not its own, and
zero times infinity is no number. Queries, keys and values that the builder has packed into one
product get three pairs, joined as that product's parts are.

Beside weights of few bits A and B are inputs in half precision, made wide before their products:
their rounding is far below that of the weights, and ten adapters take half the memory. All adapters
lie in tables of one type, so that where one layer's weights are of few bits, it is so for all.

The two products are doubled and halved, which is exact: ONNX Runtime sums a product of one row in
another order than that of many, but only if it has no factor. So a row is the same alone and
beside others.
"""

import re
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from hone.models.decoding.adapters import ADAPTER_MASK, ADAPTER_PREFIX, ADAPTER_SHAPE, UNIT
from hone.models.errors import InvalidInput

_LINEAR = re.compile(r"/model/(layers\.\d+)/(attn|mlp)/(\w+_proj)/MatMul\w*")
_ZERO, _FIRST = "adapter_zero", "adapter_first_axis"


@dataclass(frozen=True, slots=True)
class _Linear:
    """A product: the block it is in, its widths, and the layers of the model that are in it."""

    block: str
    width: int
    layers: dict[str, int]
    """Each layer's name and how wide its output is, in order."""


def take_adapters(model: onnx.ModelProto) -> None:
    """Let a graph of the model builder take adapters of its attentions' and MLPs' linear layers.

    Inputs `adapter.layers.N.attn.q_proj.A`, (units, 16, in), and `.B`, (units, 16, out), the same
    of each layer, float32 or, beside weights of few bits, float16; `adapter_mask`, bool (units,
    rows or 1, 1); `adapter_shape`, int64 (3,).
    With no units the graph says what it said before. InvalidInput for a graph without such layers,
    and with the name of one whose sums are not float32.
    """
    graph = model.graph
    linear = {node.name: found for node in graph.node if (found := _linear_of(node, graph))}
    if not linear:
        raise InvalidInput("the graph has no linear layer that an adapter could change")
    half = any(node.op_type == "MatMulNBits" for node in graph.node if node.name in linear)
    nodes, inputs = [], []
    flat: dict[str, str] = {}
    for node in graph.node:
        nodes.append(node)
        if node.name in linear:
            nodes += _beside(node, linear[node.name], flat, half=half)
            inputs += _inputs(linear[node.name], half=half)
    del graph.node[:]
    graph.node.extend(nodes)
    graph.input.extend(inputs)
    mask = helper.make_tensor_value_info(ADAPTER_MASK, TensorProto.BOOL, ["units", "masked", 1])
    graph.input.extend([mask, helper.make_tensor_value_info(ADAPTER_SHAPE, TensorProto.INT64, [3])])
    constants = {_ZERO: np.zeros(1, dtype=np.float32), _FIRST: np.zeros(1, dtype=np.int64)}
    graph.initializer.extend(numpy_helper.from_array(v, name) for name, v in constants.items())


def _linear_of(node: onnx.NodeProto, graph: onnx.GraphProto) -> _Linear | None:
    found = _LINEAR.fullmatch(node.name)
    if found is None or node.op_type not in {"MatMul", "MatMulNBits"}:
        return None
    if node.op_type == "MatMulNBits":
        width, out = _attribute(node, "K"), _attribute(node, "N")
        weights = next(t for t in graph.initializer if t.name == node.input[2])  # its scales
    else:
        weights = next(t for t in graph.initializer if t.name == node.input[1])
        width, out = weights.dims
    if weights.data_type != TensorProto.FLOAT:
        kind = TensorProto.DataType.Name(weights.data_type).lower()
        raise InvalidInput(f"{node.name} computes in {kind}: adapters are added in float32 alone")
    block, name = f"{found[1]}.{found[2]}", found[3]
    if name != "qkv_proj":
        return _Linear(block, width, {name: out})
    attention = next(n for n in graph.node if n.op_type == "GroupQueryAttention")
    heads, shared = _attribute(attention, "num_heads"), _attribute(attention, "kv_num_heads")
    head = out // (heads + 2 * shared)
    sizes = {"q_proj": heads * head, "k_proj": shared * head, "v_proj": shared * head}
    return _Linear(block, width, sizes)


def _attribute(node: onnx.NodeProto, name: str) -> int:
    return next(int(a.i) for a in node.attribute if a.name == name)


def _inputs(linear: _Linear, *, half: bool) -> list[onnx.ValueInfoProto]:
    return [
        helper.make_tensor_value_info(
            f"{ADAPTER_PREFIX}{linear.block}.{layer}.{part}",
            TensorProto.FLOAT16 if half else TensorProto.FLOAT,
            ["units", UNIT, width],
        )
        for layer, out in linear.layers.items()
        for part, width in (("A", linear.width), ("B", out))
    ]


def _beside(
    node: onnx.NodeProto, linear: _Linear, flat: dict[str, str], *, half: bool
) -> list[onnx.NodeProto]:
    """Return the nodes beside a product, whose output goes through the last of them from now on.

    `flat` has for each input that was met before the name of its form (1, rows x tokens, in).
    """
    x, whole = node.input[0], node.output[0]
    plain = f"{whole}_plain"
    node.output[0] = plain
    nodes, added = [], []
    if x not in flat:
        flat[x] = f"{x}_flat"
        nodes += _reshape(x, flat[x], linear.width)
    for layer in linear.layers:
        name = f"{ADAPTER_PREFIX}{linear.block}.{layer}"
        inner, own, out = f"{name}/inner", f"{name}/own", f"{name}/out"
        first, second = f"{name}.A", f"{name}.B"
        if half:
            nodes += [_wide(first), _wide(second)]
            first, second = f"{first}/wide", f"{second}/wide"
        nodes += [
            _product(flat[x], first, inner, alpha=2.0, transB=1),
            helper.make_node("Where", [ADAPTER_MASK, inner, _ZERO], [own], f"{own}/Where"),
            _product(own, second, out, alpha=0.5),
        ]
        added.append(out)
    if len(added) > 1:
        joined = f"{plain}_added"
        nodes.append(helper.make_node("Concat", added, [joined], f"{joined}/Concat", axis=-1))
        added = [joined]
    summed, shaped = f"{plain}_summed", f"{plain}_shaped"
    nodes += [
        helper.make_node("ReduceSum", [*added, _FIRST], [summed], f"{summed}/Sum", keepdims=0),
        helper.make_node("Reshape", [summed, ADAPTER_SHAPE], [shaped], f"{shaped}/Reshape"),
        helper.make_node("Add", [plain, shaped], [whole], f"{whole}_adapted/Add"),
    ]
    return nodes


def _product(x: str, matrix: str, out: str, **how: float) -> onnx.NodeProto:
    return helper.make_node(
        "FusedMatMul", [x, matrix], [out], f"{out}/MatMul", domain="com.microsoft", **how
    )


def _wide(matrix: str) -> onnx.NodeProto:
    wide = f"{matrix}/wide"
    return helper.make_node("Cast", [matrix], [wide], f"{wide}/Cast", to=TensorProto.FLOAT)


def _reshape(x: str, out: str, width: int) -> list[onnx.NodeProto]:
    shape = numpy_helper.from_array(np.array([1, -1, width], dtype=np.int64))
    return [
        helper.make_node("Constant", [], [f"{out}/shape"], f"{out}/Constant", value=shape),
        helper.make_node("Reshape", [x, f"{out}/shape"], [out], f"{out}/Reshape"),
    ]
