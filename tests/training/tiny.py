"""A base and a data set of a few kilobytes, on which a whole run takes seconds.

The base is a BERT with random weights. The label of a text is told by a few of its words, so that
even such a base learns it.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel

from hone.models.examples import Example, write_examples
from hone.training.recipe import Recipe

LABELS = ("card", "fee", "refund", "transfer")
MAX_POSITIONS = 64

_KEYWORDS = {label: [f"{label}{number}" for number in range(6)] for label in LABELS}
_FILLERS = [f"word{number}" for number in range(160)]
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
_ROWS = {"train": 96, "validation": 60, "test": 40}


def make_base(folder: Path, *, seed: int = 0) -> Path:
    """Write a base: two layers, 32 wide, with a word tokenizer."""
    torch.manual_seed(seed)
    tokenizer = word_tokenizer()
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=MAX_POSITIONS,
    )
    model = BertModel(config)
    _make_words_of_a_label_alike(model.embeddings.word_embeddings.weight)
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@torch.no_grad()
def _make_words_of_a_label_alike(embeddings: torch.Tensor) -> None:
    """Stand in for pretraining: words that are used alike lie close to each other."""
    for number, words in enumerate(_KEYWORDS.values()):
        first = len(_SPECIAL) + number * len(words)
        embeddings[first : first + len(words)] += torch.randn(embeddings.shape[1]) * 0.05


def word_tokenizer() -> Tokenizer:
    """Return a tokenizer that knows the data's words and adds [CLS] and [SEP]."""
    words = [*_SPECIAL, *(word for group in _KEYWORDS.values() for word in group), *_FILLERS]
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


def make_examples(
    rows: int, *, seed: int, labels: Sequence[str] = LABELS, words: tuple[int, int] = (2, 16)
) -> list[Example]:
    """Return texts of some fillers and one to three keywords of their label, labels in turn."""
    generator = np.random.default_rng(seed)
    return [_example(labels[row % len(labels)], generator, words) for row in range(rows)]


def _example(label: str, generator: np.random.Generator, words: tuple[int, int]) -> Example:
    keywords = generator.choice(_KEYWORDS[label], generator.integers(1, 4))
    fillers = generator.choice(_FILLERS, generator.integers(*words))
    return Example(" ".join(generator.permutation([*keywords, *fillers])), label)


def make_data(folder: Path) -> Path:
    """Write the three splits as `hone prepare` would."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (split, rows) in enumerate(_ROWS.items()):
        write_examples(folder / f"{split}.jsonl", make_examples(rows, seed=seed))
    return folder
