"""The model that is trained: a base, LoRA matrices where asked for, dropout, checkpointing."""

import math
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from transformers import BitsAndBytesConfig

from hone.models.errors import MissingDependency
from hone.training.causal.adapter_file import LoraMatrices
from hone.training.generation.causal_bases import CausalBase, load_causal_model
from hone.training.generation.generation_recipe import CausalModelGroup

_ADDS_TO_THE_STREAM = ("o_proj", "down_proj", "c_proj", "dense_4h_to_h", "out_proj", "fc2")
"""What the last linear layer of an attention or MLP is called in the architectures of the hub."""


def build_causal_model(
    base: CausalBase, group: CausalModelGroup, *, gradient_checkpointing: bool = False
) -> Any:  # noqa: ANN401 - transformers has no types
    """Load the base's model and make it ready for the recipe's method.

    MissingDependency where four bits are asked for and bitsandbytes is not installed.
    """
    if group.method == "qlora":
        model = _in_four_bits(base, gradient_checkpointing=gradient_checkpointing)
    else:
        model = load_causal_model(base)
        if gradient_checkpointing:
            _recompute_activations(model)
    model.config.use_cache = False
    if group.method != "full":
        with warnings.catch_warnings():  # peft asks transformers in a way that it will soon drop
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
            if gradient_checkpointing:
                model.enable_input_require_grads()
            model = get_peft_model(model, _lora(group))
    if group.dropout:
        add_dropout(model, group.dropout)
    return model


def _recompute_activations(model: Any) -> None:  # noqa: ANN401
    """Switch gradient checkpointing on, by the name that this transformers has for it."""
    renamed = getattr(model, "activation_checkpointing_enable", None)
    (renamed or model.gradient_checkpointing_enable)({"use_reentrant": False})


def _in_four_bits(base: CausalBase, *, gradient_checkpointing: bool) -> Any:  # noqa: ANN401
    """Load the base in NF4, as Dettmers et al. 2023 have it."""
    four_bits = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    try:
        model = load_causal_model(base, quantization_config=four_bits, dtype=torch.bfloat16)
    except ImportError:
        raise MissingDependency("model.method=qlora", "gpu") from None
    return prepare_model_for_kbit_training(
        model,
        use_gradient_checkpointing=gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},
    )


def _lora(group: CausalModelGroup) -> LoraConfig:
    """Return LoRA on every linear layer but the one that gives the logits."""
    return LoraConfig(
        r=group.lora_rank,
        lora_alpha=group.lora_alpha,
        lora_dropout=group.lora_dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


def add_dropout(model: nn.Module, share: float) -> None:
    """Drop a share of the token embeddings and of what attentions and MLPs add to them.

    The architectures of today have no such dropout of their own. Hooks leave names and shapes of
    the weights as they are; in evaluation they do nothing.
    """

    def drop(module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        return nn.functional.dropout(output, share, module.training)

    for name, module in model.named_modules():
        last = name.rpartition(".")[2]
        if isinstance(module, nn.Embedding) or last in _ADDS_TO_THE_STREAM:
            module.register_forward_hook(drop)


def merged(model: Any) -> Any:  # noqa: ANN401
    """Return the model with LoRA folded into the weights that it adapts, in fp32 on the CPU."""
    if isinstance(model, PeftModel):
        model = model.merge_and_unload()
    model = model.to("cpu").float().eval()
    model.config.use_cache = True
    return model


def lora_matrices(model: Any) -> dict[str, LoraMatrices]:  # noqa: ANN401
    """Return what LoRA has learnt for each layer, by transformers' name of the layer."""
    found = {}
    for name, layer in model.get_base_model().named_modules():
        if isinstance(layer, LoraLayer):
            a, b = (
                m["default"].weight.detach().float().cpu() for m in (layer.lora_A, layer.lora_B)
            )
            found[name] = LoraMatrices(a.numpy(), (b * layer.scaling["default"]).numpy())
    return found


def save_trained(model: Any, base: CausalBase, folder: Path) -> None:  # noqa: ANN401
    """Write a Hugging Face folder: config.json, model.safetensors, tokenizer and template."""
    _end_as_trained(model, base.tokenizer.eos_token_id)
    model.save_pretrained(folder)
    base.tokenizer.save_pretrained(folder)


def _end_as_trained(model: Any, end: int) -> None:  # noqa: ANN401
    """Let the model stop at the token that ended its training texts, beside those it had."""
    stated = model.generation_config.eos_token_id
    ends = stated if isinstance(stated, list) else [] if stated is None else [stated]
    model.generation_config.eos_token_id = [*ends, *([] if end in ends else [end])]


def token_ids(
    texts: list[tuple[int, ...]], *, pad_id: int, left: bool = False, multiple: int = 1
) -> Tensor:
    """Return ids padded to the longest, and on to a `multiple`, int64 (texts, tokens)."""
    longest = multiple * math.ceil(max(map(len, texts)) / multiple)
    side = partial(_padded, longest=longest, pad_id=pad_id, left=left)
    return torch.tensor([side(ids) for ids in texts], dtype=torch.int64)


def _padded(ids: tuple[int, ...], *, longest: int, pad_id: int, left: bool) -> list[int]:
    padding = [pad_id] * (longest - len(ids))
    return [*padding, *ids] if left else [*ids, *padding]
