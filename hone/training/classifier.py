"""The trained model: an encoder, a pooling of its last layer, and a linear head."""

import hashlib
import warnings
from pathlib import Path
from typing import Any

import orjson
import torch
from huggingface_hub.errors import StrictDataclassError
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel

from hone.models.catalogue import Base, longest_text
from hone.models.errors import InvalidInput
from hone.models.tokenizer import TokenizedText, pad
from hone.training.dropout import cheapen_dropout
from hone.training.recipe import ModelGroup

_INDEX_FILE = "model.safetensors.index.json"
_CHUNK = 1 << 20
LOADING_ERRORS = (OSError, ValueError, RuntimeError, SafetensorError, StrictDataclassError)
"""What transformers raises for a base that is damaged, or of an architecture it does not know."""
_ATTENTION_DROPOUTS = ("attention_probs_dropout_prob", "attention_dropout")
"""What the configurations of encoders call it: BERT's family; DistilBERT and ModernBERT."""


class TextClassifier(nn.Module):
    """Encoder, pooling, dropout and a linear head.

    `forward` takes int64 ids and mask of shape (texts, tokens) and returns logits of shape
    (texts, labels). With mean pooling it is the sentence-transformers form, whose embedding the
    base was trained for; a head on `[CLS]` would begin from an untrained vector.
    """

    def __init__(self, encoder: nn.Module, *, labels: int, pooling: str, dropout: float) -> None:
        super().__init__()
        self.encoder = encoder
        self.pooling = pooling
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(_hidden_size(encoder), labels)

    def embed(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return text embeddings of shape (texts, hidden)."""
        hidden: Tensor = self.encoder(
            input_ids=input_ids, attention_mask=attention_mask
        ).last_hidden_state
        if self.pooling == "cls":
            return hidden[:, 0]
        weights = attention_mask.unsqueeze(-1).to(hidden.dtype)
        return (hidden * weights).sum(dim=1) / weights.sum(dim=1)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return logits of shape (texts, labels)."""
        logits: Tensor = self.head(self.dropout(self.embed(input_ids, attention_mask)))
        return logits


def build_classifier(
    base: Base, group: ModelGroup, *, labels: int, train_embeddings: bool
) -> TextClassifier:
    """Load the base's encoder and put a fresh head on it; LoRA matrices are added if asked for."""
    encoder = _load_encoder(base, attention_dropout=group.attention_dropout)
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None  # never read: it would get no gradient and stand in the way of DDP
    if not train_embeddings:
        encoder.get_input_embeddings().weight.requires_grad_(False)
    if group.method == "lora":
        encoder = with_lora(encoder, lora_config(group))
    model = TextClassifier(
        encoder, labels=labels, pooling=_pooling(base, group), dropout=group.dropout
    )
    cheapen_dropout(model)
    return model


def _load_encoder(base: Base, *, attention_dropout: float) -> Any:  # noqa: ANN401 - a class of transformers, which has no types
    """Return the pretrained encoder; InvalidInput unless the base's files are one whole model."""
    weights_file(base)
    try:
        config = AutoConfig.from_pretrained(base.folder, trust_remote_code=False)
        for name in _ATTENTION_DROPOUTS:
            if hasattr(config, name):
                setattr(config, name, attention_dropout)
        encoder, report = AutoModel.from_pretrained(
            base.folder,
            config=config,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except LOADING_ERRORS as error:
        raise InvalidInput(f"the base {base.id}: its weights do not fit its config.json") from error
    # What is missing would silently be random. Poolers are not read.
    missing = sorted(name for name in report["missing_keys"] if "pooler" not in name)
    if missing:
        raise InvalidInput(f"the base {base.id} lacks {len(missing)} weights, as {missing[0]}")
    return encoder


def with_lora(net: Any, config: LoraConfig) -> PeftModel:  # noqa: ANN401 - a class of transformers
    """Add LoRA matrices to a model of transformers."""
    with warnings.catch_warnings():  # peft asks transformers in a way that it will soon drop
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        adapted: PeftModel = get_peft_model(net, config)
    return adapted


def lora_config(group: ModelGroup) -> LoraConfig:
    """Return LoRA on every linear layer (Hu et al. 2021; all layers as in Dettmers et al. 2023)."""
    return LoraConfig(
        r=group.lora_rank,
        lora_alpha=group.lora_alpha,
        lora_dropout=group.lora_dropout,
        target_modules="all-linear",
    )


def merge_lora(model: TextClassifier) -> None:
    """Fold LoRA matrices into the weights that they adapt; nothing to do for full fine-tuning."""
    if isinstance(model.encoder, PeftModel):
        model.encoder = model.encoder.merge_and_unload()


def trained_parameters(model: nn.Module) -> tuple[int, int]:
    """Return how many parameters are trained, and how many there are."""
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return sum(n for n, trained in sizes if trained), sum(n for n, _ in sizes)


def token_limit(base: Base) -> int:
    """Return the most tokens that the base's positions allow, special ones included."""
    try:
        config = AutoConfig.from_pretrained(base.folder, trust_remote_code=False)
    except LOADING_ERRORS as error:
        raise InvalidInput(
            f"the base {base.id}: its config.json is of no model that transformers knows"
        ) from error
    positions = getattr(config, "max_position_embeddings", None)
    pad_id = getattr(config, "pad_token_id", None)
    return longest_text(positions, config.model_type, pad_id) or base.max_tokens


def collate(texts: list[TokenizedText], pad_id: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return padded ids and mask as int64 tensors of shape (texts, tokens) on the device."""
    input_ids, attention_mask = pad([text.ids for text in texts], pad_id)
    return torch.from_numpy(input_ids).to(device), torch.from_numpy(attention_mask).to(device)


def _hidden_size(encoder: nn.Module) -> int:
    config: Any = encoder.config
    return int(config.hidden_size)


def _pooling(base: Base, group: ModelGroup) -> str:
    """Return the recipe's pooling, or the one that the base's own files state, else the mean."""
    if group.pooling != "auto":
        return group.pooling
    stated = base.folder / "1_Pooling" / "config.json"
    if not stated.is_file():
        return "mean"
    config = orjson.loads(stated.read_bytes())
    if config.get("pooling_mode_cls_token"):
        return "cls"
    if config.get("pooling_mode_mean_tokens", True):
        return "mean"
    raise InvalidInput(f"the base {base.id} pools in a way that is not known: set model.pooling")


def weights_file(base: Base) -> Path:
    """Return the base's safetensors file; InvalidInput when it has only pickles."""
    single = base.folder / "model.safetensors"
    if single.is_file():
        return single
    index = base.folder / _INDEX_FILE
    if index.is_file():
        return index
    raise InvalidInput(f"the base {base.id} has no safetensors weights; pickles are not loaded")


def weights_revision(base: Base) -> str:
    """Return the SHA-256 of the base's weights: of one file's bytes, or of all its shards'.

    Those are read one after another in the order in which the index first names them.
    InvalidInput when one is missing, or the index is none.
    """
    file = weights_file(base)
    shards = _shards(base, file) if file.name == _INDEX_FILE else [file]
    digest = hashlib.sha256()
    for shard in shards:
        try:
            with shard.open("rb") as content:
                while chunk := content.read(_CHUNK):
                    digest.update(chunk)
        except OSError:
            raise InvalidInput(f"the base {base.id} lacks its weights {shard.name}") from None
    return digest.hexdigest()


def _shards(base: Base, index: Path) -> list[Path]:
    try:
        names = orjson.loads(index.read_bytes())["weight_map"].values()
        return [base.folder / name for name in dict.fromkeys(names)]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InvalidInput(f"the base {base.id}: its {index.name} is no index of weights") from None
