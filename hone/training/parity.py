"""The parity gate: an exported model must answer as the trained one does.

Both are run on the user's own validation texts: the trained model as torch left it, and the
exported one from the files that would be published, through the very code that serves them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from hone.models.engines import FloatArray
from hone.models.errors import ParityFailed
from hone.models.imaging.predictor import PicturePredictor, PreparedPicture
from hone.models.manifest import ParityRecord, Variant
from hone.models.predictor import Predictor
from hone.models.scoring import Labels, bootstrap
from hone.models.tokenizer import TokenizedText
from hone.training.dataset import length_sorted_batches

_BATCH = 16
_ROWS_ALONE = 200
_ROWS_PADDED = 50
_NOT_A_NUMBER = float(np.finfo(np.float32).max)
"""Stands for a difference that is no finite number, which JSON could not hold."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a variant may differ by. Accuracy in points of 1.0; differences in logits."""

    least_equal: float
    most_accuracy_lost: float
    most_logit_difference: float
    most_alone_difference: float


EXACT = Bounds(
    least_equal=1.0,
    most_accuracy_lost=0.0,
    most_logit_difference=1e-2,
    most_alone_difference=1e-2,
)
QUANTIZED = Bounds(
    least_equal=0.98,
    most_accuracy_lost=0.005,
    most_logit_difference=1e3,  # quantized logits are judged by their answers; NaN is refused
    most_alone_difference=1e3,
)


@dataclass(frozen=True, slots=True)
class Reference:
    """The trained model's answers: its labels in order, logits (rows, labels), and the truth.

    `texts` are the inputs as clients send them: texts, or the bytes of pictures' files.
    """

    labels: tuple[str, ...]
    texts: Sequence[Any]
    logits: npt.NDArray[np.float32]
    truth: Labels


def bounds_for(variant: Variant) -> Bounds:
    """Return fp32's strict bounds, or those of a variant with fewer bits."""
    return EXACT if variant == "fp32" else QUANTIZED


class Encoded(Protocol):
    """An input as the model reads it; `length` is what it costs in a batch."""

    @property
    def length(self) -> int:
        """Tokens of a text; 1 for a picture."""


AnyPredictor = Predictor | PicturePredictor


class _OnDemand(Sequence[PreparedPicture]):
    """Pictures that are decoded when they are asked for: all at once would fill the memory."""

    def __init__(self, predictor: PicturePredictor, files: Sequence[bytes]) -> None:
        self._predictor, self._files = predictor, files

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, at: Any) -> Any:  # noqa: ANN401 - a number or a slice
        if isinstance(at, slice):
            return [self[place] for place in range(*at.indices(len(self)))]
        return self._predictor.encode([self._files[at]])[0]


def encode_all(predictor: AnyPredictor, inputs: Sequence[Any]) -> Sequence[Any]:
    """Return all inputs as the predictor reads them; pictures are decoded one by one on demand."""
    if isinstance(predictor, PicturePredictor):
        return _OnDemand(predictor, inputs)
    return predictor.encode(inputs)


def check_parity(predictor: AnyPredictor, reference: Reference, bounds: Bounds) -> ParityRecord:
    """Compare an exported model with the trained one; the record says whether it may be published.

    Raises ParityFailed when its answers do not even have the trained model's shape.

    A quantized model scales activations by the whole batch, so a text's logits depend a little
    on its neighbours; alone and in a batch it must still give the same label as often as the
    bounds ask.
    """
    tokens = encode_all(predictor, reference.texts)
    logits = _in_batches(predictor, tokens)
    trained = reference.logits.argmax(axis=1)
    # Label names, not positions: a bundle whose labels are in another order answers wrongly
    # although every logit is right.
    position = {label: index for index, label in enumerate(reference.labels)}
    names = [position.get(label, -1) for label in predictor.labels]
    exported = np.array(names)[logits.argmax(axis=1)]
    alone_equal, alone_difference = _alone_and_in_batch(predictor, tokens, logits)
    right_before, right_after = trained == reference.truth, exported == reference.truth
    change = bootstrap(
        lambda rows: float(right_after[rows].mean() - right_before[rows].mean()), len(tokens)
    )
    record = ParityRecord(
        passed=True,
        rows=len(tokens),
        equal_predictions=float((exported == trained).mean()),
        largest_logit_difference=_largest_difference(logits, reference.logits),
        accuracy_trained=float(right_before.mean()),
        accuracy_exported=float(right_after.mean()),
        accuracy_change_low=change.low,
        accuracy_change_high=change.high,
        alone_and_in_batch_difference=alone_difference,
        alone_and_in_batch_equal=alone_equal,
        device=predictor.engine.device,
    )
    reasons = _reasons(record, bounds, same_labels=predictor.labels == reference.labels)
    return record.model_copy(update={"passed": not reasons, "reasons": reasons})


def _in_batches(predictor: AnyPredictor, tokens: Sequence[Encoded]) -> FloatArray:
    """Return logits (rows, labels), run in padded batches as the service would."""
    logits = np.empty((len(tokens), len(predictor.labels)), dtype=np.float32)
    alike = isinstance(predictor, PicturePredictor)  # and not to be decoded for their lengths
    lengths = np.array([1 if alike else tokens[i].length for i in range(len(tokens))])
    for rows in length_sorted_batches(lengths, _BATCH):
        found = predictor.logits([tokens[i] for i in rows])
        if found.shape != logits[rows].shape:
            raise ParityFailed(
                f"the exported model's answer to a text has the shape {found.shape[1:]}, "
                f"and there are {logits.shape[1]} labels"
            )
        logits[rows] = found
    return logits


def _alone_and_in_batch(
    predictor: AnyPredictor, tokens: Sequence[Any], together: FloatArray
) -> tuple[float, float]:
    """Run some rows alone and return (share with the same label, largest logit difference).

    Some texts are also run alone with as much padding again, so that a model that reads its
    padding is found out even where all texts are equally long.
    """
    rows = np.unique(np.linspace(0, len(tokens) - 1, min(_ROWS_ALONE, len(tokens))).astype(int))
    alone = np.concatenate([predictor.logits([tokens[i]]) for i in rows])
    if isinstance(predictor, PicturePredictor):
        equal = (alone.argmax(axis=1) == together[rows].argmax(axis=1)).mean()
        return float(equal), _largest_difference(alone, together[rows])
    padded = np.concatenate([_padded_twice(predictor, tokens[i]) for i in rows[:_ROWS_PADDED]])
    twice = np.concatenate([alone, alone[: len(padded)]])
    others = np.concatenate([together[rows], padded])
    equal = (twice.argmax(axis=1) == others.argmax(axis=1)).mean()
    return float(equal), _largest_difference(twice, others)


def _padded_twice(predictor: Predictor, text: TokenizedText) -> FloatArray:
    ids, mask = predictor.tokenizer.pad([text])
    room = min(ids.shape[1], predictor.tokenizer.max_tokens - ids.shape[1])
    ids = np.pad(ids, ((0, 0), (0, room)), constant_values=predictor.tokenizer.pad_id)
    return predictor.engine.run(ids, np.pad(mask, ((0, 0), (0, room))))


def _largest_difference(some: FloatArray, others: FloatArray) -> float:
    if not (np.isfinite(some).all() and np.isfinite(others).all()):
        return _NOT_A_NUMBER
    return float(np.abs(some.astype(np.float64) - others).max())


def _reasons(record: ParityRecord, bounds: Bounds, *, same_labels: bool) -> list[str]:
    lost = record.accuracy_trained - record.accuracy_exported
    found = []
    if not same_labels:
        found.append("its labels are not those of the trained model in the same order")
    if record.equal_predictions < bounds.least_equal:
        found.append(
            f"it agrees on {record.equal_predictions:.2%} of {record.rows} validation rows; "
            f"{bounds.least_equal:.0%} is the least"
        )
    if lost > bounds.most_accuracy_lost + 1e-9:
        found.append(
            f"its accuracy is {100 * lost:.2f} points lower; "
            f"{100 * bounds.most_accuracy_lost:g} is the most"
        )
    if record.largest_logit_difference == _NOT_A_NUMBER:
        found.append("some of its answers are not numbers")
    elif record.largest_logit_difference > bounds.most_logit_difference:
        found.append(
            f"a logit differs by {record.largest_logit_difference:.2g}; "
            f"{bounds.most_logit_difference:g} is the most"
        )
    if record.alone_and_in_batch_equal < bounds.least_equal:
        found.append(
            f"a text alone and in a batch gives the same label for only "
            f"{record.alone_and_in_batch_equal:.2%}"
        )
    if record.alone_and_in_batch_difference > bounds.most_alone_difference:
        found.append(
            f"a text alone and in a batch differs by {record.alone_and_in_batch_difference:.2g}"
        )
    return found
