"""Examples as token ids, and the order in which they are batched."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hone.models.errors import InvalidExamples
from hone.models.examples import Example
from hone.models.manifest import TokenLengths
from hone.models.tokenizer import TextTokenizer, TokenizedText

_BATCHES_SORTED_TOGETHER = 50


@dataclass(frozen=True, slots=True)
class EncodedSplit:
    """A split ready for the model: tokens of each text, and int64 class indices (rows,)."""

    texts: list[TokenizedText]
    classes: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each text as the model reads it, int64 (rows,)."""
        return np.array([len(text.ids) for text in self.texts], dtype=np.int64)

    @property
    def truncated(self) -> int:
        """How many texts were longer than the model reads."""
        return sum(text.full_length > len(text.ids) for text in self.texts)


def label_order(examples: Sequence[Example]) -> list[str]:
    """Return the distinct labels in the order in which the model will know them: sorted."""
    labels = sorted({example.label for example in examples})
    if len(labels) < 2:
        raise InvalidExamples(f"a classifier needs two labels or more; the data has {labels}")
    return labels


def encode_split(
    examples: Sequence[Example], labels: Sequence[str], tokenizer: TextTokenizer, *, split: str
) -> EncodedSplit:
    """Tokenize a split; InvalidExamples when it has labels that training data does not."""
    index = {label: position for position, label in enumerate(labels)}
    unknown = sorted({example.label for example in examples} - index.keys())
    if unknown:
        raise InvalidExamples(
            f"the {split} split has {len(unknown)} labels that the training split lacks: "
            + ", ".join(unknown[:20])
        )
    classes = np.array([index[example.label] for example in examples], dtype=np.int64)
    return EncodedSplit(tokenizer.encode([example.text for example in examples]), classes)


def token_lengths(split: EncodedSplit) -> TokenLengths:
    """Return percentiles of the lengths in tokens."""
    p50, p90, p99, longest = np.percentile(split.lengths, [50, 90, 99, 100], method="higher")
    return TokenLengths(p50=int(p50), p90=int(p90), p99=int(p99), longest=int(longest))


def class_weights(classes: npt.NDArray[np.int64], labels: int) -> npt.NDArray[np.float32]:
    """Return weights inverse to class frequency with mean 1 over the rows, float32 (labels,)."""
    counts = np.bincount(classes, minlength=labels)
    weights = len(classes) / (labels * np.maximum(counts, 1))
    return np.asarray(weights, dtype=np.float32)


def share_of_batch(
    rows: list[int], weights: npt.NDArray[np.float32], *, process: int, processes: int
) -> tuple[list[int], float]:
    """Return a process's rows of a batch, and what the sum of their weighted losses is scaled by.

    `weights`, float32, are those of `rows`. DDP takes the mean of the processes' gradients: with
    this scale it is the gradient of the batch's weighted mean, however unequal the shares. A
    process without a row of its own runs the first one, which all must wait for, at a scale of 0.
    """
    mine = rows[process::processes]
    return (mine, processes / float(weights.sum())) if mine else (rows[:1], 0.0)


def bucketed_batches(
    lengths: npt.NDArray[np.int64],
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    among: npt.NDArray[np.int64] | None = None,
) -> list[npt.NDArray[np.int64]]:
    """Return one epoch's batches of row numbers, random but with little padding.

    `among` are the rows that take part, by default all. They are shuffled, sorted by length
    within windows of 50 batches, cut into batches, and the batches are shuffled. The order
    follows from the arguments alone, so that a resumed run goes on exactly where it was.
    """
    generator = np.random.default_rng([seed, epoch])
    order = generator.permutation(np.arange(len(lengths)) if among is None else among)
    window = batch_size * _BATCHES_SORTED_TOGETHER
    batches: list[npt.NDArray[np.int64]] = []
    for start in range(0, len(order), window):
        rows = order[start : start + window]
        rows = rows[np.argsort(lengths[rows], kind="stable")]
        batches += [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
    generator.shuffle(batches)
    return batches


def length_sorted_batches(
    lengths: npt.NDArray[np.int64], batch_size: int
) -> Iterator[npt.NDArray[np.int64]]:
    """Yield all rows in batches of similar length, longest first, for running without training."""
    order = np.argsort(-lengths, kind="stable")
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]
