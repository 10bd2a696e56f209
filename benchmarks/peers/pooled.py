"""The trained weights as a Transformers model, for the servers that run torch.

The published head stands on the mean of the encoder's last layer, which no stock
`...ForSequenceClassification` has; so the class is written here, and gives the same logits.
"""

from typing import Any

import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModel, PreTrainedModel, PreTrainedTokenizerFast
from transformers.modeling_outputs import SequenceClassifierOutput


class PooledClassifier(PreTrainedModel):  # type: ignore[misc] # the library is not typed
    """Encoder, mean of its last layer over the tokens, and a linear head."""

    def __init__(self, config: Any) -> None:  # noqa: ANN401 - any model's configuration
        super().__init__(config)
        self.encoder = AutoModel.from_config(config, add_pooling_layer=False)
        self.head = torch.nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **_: object
    ) -> SequenceClassifierOutput:
        """Take int64 (texts, tokens) and give logits, float32 (texts, labels)."""
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        weights = attention_mask.unsqueeze(-1).to(hidden.dtype)
        return SequenceClassifierOutput(
            logits=self.head((hidden * weights).sum(dim=1) / weights.sum(dim=1))
        )


def load_pooled(model: dict[str, Any]) -> tuple[PooledClassifier, PreTrainedTokenizerFast]:
    """Return the model in fp32, ready to run, and its tokenizer."""
    labels = dict(enumerate(model["labels"]))
    config = AutoConfig.from_pretrained(model["base_folder"], num_labels=len(labels))
    config.id2label = labels
    classifier = PooledClassifier(config)
    classifier.load_state_dict(load_file(model["weights"]))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=model["tokenizer"],
        model_max_length=model["max_tokens"],
        pad_token="[PAD]",
        model_input_names=["input_ids", "attention_mask"],
    )
    return classifier.eval(), tokenizer
