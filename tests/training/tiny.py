"""A base and a data set of a few kilobytes, on which a whole run takes seconds.

The base is a small BERT whose words of one label lie close to each other, as after pretraining.
The label of a text is told by one to three of its words.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel

from hone.models.examples import Example, read_examples, write_examples
from hone.training.recipe import ClassifierRecipe
from hone.training.recipe_files import RECIPES_FOLDER, load_recipe_of

LABELS = ("card", "fee", "refund", "transfer")
ROWS = {"train": 96, "validation": 60, "test": 40}
MAX_POSITIONS = 64
EPOCHS = 6
STEPS_PER_EPOCH = ROWS["train"] // 8
STEPS = EPOCHS * STEPS_PER_EPOCH

_KEYWORDS = {label: [f"{label}{number}" for number in range(6)] for label in LABELS}
_FILLERS = [f"word{number}" for number in range(160)]
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


@dataclass(frozen=True)
class Task:
    """A base and the folder of its data."""

    base: Path
    data: Path

    def overrides(self, folder: Path, *more: str) -> list[str]:
        """Return what a shipped recipe needs to be run on this task within `folder`."""
        return [
            f"model.base={self.base}",
            f"dataset.path={self.data}",
            f"saving.store={folder / 'store'}",
            f"saving.runs={folder / 'runs'}",
            "saving.name=tiny",
            "optimizer.learning_rate=1e-3",
            f"training.epochs={EPOCHS}",
            "training.batch_size=8",
            "training.precision=fp32",
            "training.early_stopping_patience=0",
            *more,
        ]

    def recipe(self, folder: Path, *more: str) -> ClassifierRecipe:
        """Return the default recipe for this task."""
        return load_recipe_of(
            ClassifierRecipe, RECIPES_FOLDER / "classifier.toml", self.overrides(folder, *more)
        )


def make_task(folder: Path, *, dropout: float = 0.1) -> Task:
    """Write base and data."""
    return Task(make_base(folder / "tiny-bert", dropout=dropout), make_data(folder / "data"))


def make_base(folder: Path, *, dropout: float = 0.1, positions: int = MAX_POSITIONS) -> Path:
    """Write a base: two layers, 32 wide, with a word tokenizer."""
    torch.manual_seed(0)
    tokenizer = word_tokenizer()
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=positions,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    model = BertModel(config)
    _bring_words_of_a_label_together(model.embeddings.word_embeddings.weight)
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@torch.no_grad()
def _bring_words_of_a_label_together(embeddings: torch.Tensor) -> None:
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
    rows: int, *, seed: int, labels: Sequence[str] = LABELS, fillers: tuple[int, int] = (2, 16)
) -> list[Example]:
    """Return examples, the labels taking turns; `fillers` bounds the words that tell nothing."""
    generator = np.random.default_rng(seed)
    return [_example(labels[row % len(labels)], generator, fillers) for row in range(rows)]


def _example(label: str, generator: np.random.Generator, fillers: tuple[int, int]) -> Example:
    keywords = generator.choice(_KEYWORDS[label], generator.integers(1, 4))
    others = generator.choice(_FILLERS, generator.integers(*fillers))
    return Example(" ".join(generator.permutation([*keywords, *others])), label)


def make_data(folder: Path) -> Path:
    """Write the three splits as `hone prepare` would."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (split, rows) in enumerate(ROWS.items()):
        write_examples(folder / f"{split}.jsonl", make_examples(rows, seed=seed))
    return folder


def with_rare_label(task: Task, folder: Path) -> Task:
    """Return the task with most of one label's training rows left out."""
    folder.mkdir()
    for split in ROWS:
        rows = read_examples(task.data / f"{split}.jsonl")
        if split == "train":
            rows = [row for number, row in enumerate(rows) if row.label != "fee" or number < 20]
        write_examples(folder / f"{split}.jsonl", rows)
    return Task(task.base, folder)
