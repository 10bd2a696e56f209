"""From a Hugging Face folder of a causal language model to ONNX with a key/value cache.

The graph comes from the model builder of onnxruntime-genai, whose `GroupQueryAttention` takes a
length for each row. It runs as a process of its own: it prints a line for each weight, and what it
holds in memory goes with it. These things are changed afterwards:

- the input `logit_positions`: which places of each row get logits. Reading a prompt needs the last
  place's alone, and over a large vocabulary the others cost as much as several layers;
- the head size stands in the cache's shape, so that an engine learns all it needs from the graph;
- if asked for, each linear layer of the blocks takes adapters (`adapter_graph.py`);
- the weights lie inside the one file, as everything in a bundle has its own hash in the manifest.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Literal

import onnx
from onnx import TensorProto, helper

from hone.models.errors import InvalidInput
from hone.training.causal.adapter_graph import take_adapters
from hone.training.causal.head_padding import Heads, keep_narrow, widen_heads

DecoderVariant = Literal["fp32", "int8", "int4", "fp16"]

LOGIT_POSITIONS = "logit_positions"
_LARGEST_FILE_BYTES = 2**31 - 2**20
"""A protobuf message cannot be larger, and a bundle's model is one file."""
_TOLD = 2000


def export_decoder(
    folder: Path, variant: DecoderVariant, path: Path, *, adapters: bool = False
) -> None:
    """Write the model in `folder` (Llama, Qwen2, Qwen3 and other shapes of the builder) to `path`.

    Inputs `input_ids` and `attention_mask`, int64 (rows, tokens) and (rows, places);
    `logit_positions`, int64 (wanted,); `past_key_values.N.key` and `.value`, (rows, key/value
    heads, places, head size). Outputs `logits` (rows, wanted, vocabulary) and `present.N.*`, which
    may be the same memory as the past. fp16 is for a GPU; the others run on the CPU. With
    `adapters` the graph takes what `take_adapters` says.

    InvalidInput when the builder does not know the model, or when it is too large for one file.
    """
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as scratch:
        heads = Heads.of(folder)
        source = folder
        if heads.needed:
            source = Path(scratch) / "widened"
            widen_heads(folder, heads, source)
        built = Path(scratch) / "built"
        _build(source, variant, built)
        model = onnx.load(str(built / "model.onnx"))
        if heads.needed:
            keep_narrow(model, heads)
        choose_logits(model)
        state_head_size(model)
        if adapters:
            take_adapters(model)
        if model.ByteSize() > _LARGEST_FILE_BYTES:
            raise InvalidInput(f"the {variant} model is larger than 2 GB, the most for one file")
        onnx.save(model, str(path))


def _build(folder: Path, variant: DecoderVariant, out: Path) -> None:
    provider = "cuda" if variant == "fp16" else "cpu"
    command = [sys.executable, "-m", "onnxruntime_genai.models.builder"]
    command += ["-i", str(folder.resolve()), "-o", str(out.resolve()), "-p", variant]
    command += ["-e", provider, "-c", str(out.resolve() / "cache")]
    command += ["--extra_options", "hf_token=false"]
    quiet = {"ORT_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
    done = subprocess.run(  # noqa: S603 - our own interpreter and a module of ours to depend on
        ["/usr/bin/env", *(f"{name}={value}" for name, value in quiet.items()), *command],
        capture_output=True,
        text=True,
        check=False,
        cwd=os.sep,
    )
    if done.returncode or not (out / "model.onnx").is_file():
        raise InvalidInput(
            f"the model builder cannot export {folder}: {done.stderr.strip()[-_TOLD:]}"
        )


def choose_logits(model: onnx.ModelProto) -> None:
    """Give the graph the input `logit_positions` (wanted,) and gather before the last product."""
    head = next(node for node in model.graph.node if "logits" in node.output)
    if head.op_type not in {"MatMul", "MatMulNBits"}:
        raise InvalidInput(f"the graph's logits come from {head.op_type}, not from a product")
    gathered = f"{head.input[0]}_wanted"
    gather = helper.make_node(
        "Gather", [head.input[0], LOGIT_POSITIONS], [gathered], name="/lm_head/Gather", axis=1
    )
    head.input[0] = gathered
    model.graph.node.insert(list(model.graph.node).index(head), gather)
    model.graph.input.append(
        helper.make_tensor_value_info(LOGIT_POSITIONS, TensorProto.INT64, ["wanted"])
    )
    logits = next(value for value in model.graph.output if value.name == "logits")
    logits.type.tensor_type.shape.dim[1].dim_param = "wanted"
    _forget_shapes(model, gathered, head)


def _forget_shapes(model: onnx.ModelProto, gathered: str, head: onnx.NodeProto) -> None:
    """Drop what was noted of tensors whose shape is another now."""
    changed = {gathered, *head.output}
    kept = [value for value in model.graph.value_info if value.name not in changed]
    del model.graph.value_info[:]
    model.graph.value_info.extend(kept)


def state_head_size(model: onnx.ModelProto) -> None:
    """Write the head size into the cache's shapes; the rotary table has half as many columns."""
    tables = [t for t in model.graph.initializer if t.name == "cos_cache"]
    if not tables:
        raise InvalidInput("the graph has no rotary table: only rotary positions are served")
    head_size = 2 * tables[0].dims[1]
    for value in [*model.graph.input, *model.graph.output]:
        if value.name.startswith(("past_key_values.", "present.")):
            dim = value.type.tensor_type.shape.dim[3]
            dim.Clear()
            dim.dim_value = head_size
