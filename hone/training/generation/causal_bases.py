"""Bases of generation: local folders, hub ids, and those made from the data alone."""

from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from hone.models.catalogue import Base, longest_text
from hone.models.errors import InvalidInput
from hone.training.bases import obtain_base
from hone.training.classifier import LOADING_ERRORS, weights_file, weights_revision

_UNBOUNDED = 1 << 30
"""Tokenizers that know no longest text state a number far beyond this."""


@dataclass(frozen=True, slots=True)
class CausalBase:
    """A causal language model in a folder, with its tokenizer (transformers')."""

    base: Base
    tokenizer: Any
    max_tokens: int
    pad_id: int

    @property
    def revision(self) -> str:
        """The SHA-256 of its weights."""
        return weights_revision(self.base)


def obtain_causal_base(name: str) -> CausalBase:
    """Return the base called `name`: a folder, or `hub:owner/name[@revision]`, fetched first.

    NotFound for an unknown name, InvalidInput for a folder that is no causal language model.
    """
    return open_causal_base(obtain_base(name, "text-generation"))


def open_causal_base(base: Base) -> CausalBase:
    """Read a base's configuration and tokenizer; InvalidInput unless both can be."""
    weights_file(base)
    try:
        config = AutoConfig.from_pretrained(base.folder, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(base.folder, trust_remote_code=False)
    except LOADING_ERRORS as error:
        raise InvalidInput(
            f"the base {base.id}: its config.json or tokenizer is of no model that transformers "
            "knows"
        ) from error
    if type(config) not in AutoModelForCausalLM._model_mapping:  # noqa: SLF001 - it has no public name
        raise InvalidInput(f"the base {base.id} ({config.model_type}) does not write text")
    if tokenizer.eos_token_id is None:
        raise InvalidInput(f"the base {base.id}: its tokenizer names no end-of-text token")
    stated = longest_text(
        getattr(config, "max_position_embeddings", None), config.model_type, config.pad_token_id
    )
    limits = [n for n in (stated, tokenizer.model_max_length) if n is not None and n < _UNBOUNDED]
    pad_id = tokenizer.pad_token_id
    longest = min(limits, default=base.max_tokens)
    return CausalBase(
        Base(base.id, base.folder, base.licence, "text-generation", longest),
        tokenizer,
        longest,
        tokenizer.eos_token_id if pad_id is None else pad_id,
    )


def load_causal_model(base: CausalBase, **options: Any) -> Any:  # noqa: ANN401 - transformers has no types
    """Return the base's model with fp32 weights unless `options` say otherwise.

    InvalidInput unless the weights are one whole model.
    """
    chosen = {"dtype": torch.float32, **options}
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            base.base.folder,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
            **chosen,
        )
    except LOADING_ERRORS as error:
        raise InvalidInput(
            f"the base {base.base.id}: its weights do not fit its config.json"
        ) from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise InvalidInput(f"the base {base.base.id} lacks {len(missing)} weights, as {missing[0]}")
    return model
