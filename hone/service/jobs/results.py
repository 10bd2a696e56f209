"""The result files of a job: one row for each step, blank where a metric was not measured.

A classifier answers with one label, which stands for the one token, or the one sequence, that the
columns' names mean. Of a causal model, the sequences that greedy decoding repeats to the letter are
counted on the validation file alone. The losses are cross-entropies in nats.
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

MODERN_NAME, LEGACY_NAME = "step_metrics.csv", "compiled_results.csv"
MODERN_COLUMNS = (
    "step", "train_loss", "train_accuracy", "valid_loss", "valid_mean_token_accuracy",
)  # fmt: skip
_LEGACY_COLUMNS = (
    "step", "elapsed_tokens", "elapsed_examples",
    "training_loss", "training_sequence_accuracy", "training_token_accuracy",
    "validation_loss", "validation_sequence_accuracy", "validation_token_accuracy",
)  # fmt: skip
_SCORED = ("validation", "fp32")
_MULTICLASS = ("accuracy", "weighted_f1")
_BINARY = ("accuracy", "precision", "recall", "auroc", "auprc")
_COLUMN_OF = {"weighted_f1": "weighted_f1_score"}


@dataclass(slots=True)
class StepRow:
    """What is known of one step; None where it was not measured."""

    loss: float | None = None
    accuracy: float | None = None
    examples: int | None = None
    tokens: int | None = None
    valid_loss: float | None = None
    valid_accuracy: float | None = None
    scores: Mapping[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Measurements:
    """What a job's events have told, over all its processes: a step done again counts once.

    `scores` are those of the published model on the validation examples, by name.
    """

    rows: dict[int, StepRow] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)

    def take(self, event: dict[str, Any]) -> None:
        """Take in one event of the training."""
        for step, loss, accuracy, examples, tokens in event.get("series", ()):
            row = self._row(step)
            row.loss, row.accuracy, row.examples, row.tokens = loss, accuracy, examples, tokens
        if event["event"] == "evaluated":
            row = self._row(event["step"])
            row.valid_loss, row.valid_accuracy = event["loss"], event["accuracy"]
            row.scores = event.get("scores", {})
        if event["event"] == "probed":
            self._take_probe(event)
        if event["event"] == "scored" and (event["split"], event["variant"]) == _SCORED:
            self.scores = {n: v["value"] for n, v in event.items() if isinstance(v, dict)}

    def _take_probe(self, event: dict[str, Any]) -> None:
        """Keep the best of a head's fits as the one step that there is."""
        row = self._row(1)
        if row.valid_loss is None or event["loss"] < row.valid_loss:
            row.valid_loss, row.scores = event["loss"], event["scores"]
            row.valid_accuracy = row.scores["accuracy"]

    def last(self) -> tuple[int, StepRow]:
        """Return the highest step with its row; step 0 before the first."""
        step = max(self.rows, default=0)
        return step, self.rows.get(step, StepRow())

    def _row(self, step: int) -> StepRow:
        return self.rows.setdefault(int(step), StepRow())


def modern_csv(found: Measurements) -> bytes:
    """Return the file that the modern API gives."""
    rows = (
        (step, row.loss, row.accuracy, row.valid_loss, row.valid_accuracy)
        for step, row in sorted(found.rows.items())
    )
    return _csv(MODERN_COLUMNS, rows)


def legacy_csv(
    found: Measurements, *, classes: bool, betas: Sequence[float] = (), one_token: bool = True
) -> bytes:
    """Return the file that the legacy API gave; with `classes`, the scores of the classification.

    Where the answers have `one_token`, that is the whole sequence, too. Scores are measured at each
    evaluation; those in the last row are the published model's, which has the weights of the best.
    """
    names = _score_names(found, betas) if classes else []
    columns = [*_LEGACY_COLUMNS, *(f"classification/{_COLUMN_OF.get(n, n)}" for n in names)]
    last, _ = found.last()
    rows = (
        (
            *_legacy_row(step, row, one_token=one_token),
            *(map((found.scores if step == last else row.scores).get, names)),
        )
        for step, row in sorted(found.rows.items())
    )
    return _csv(columns, rows)


def _score_names(found: Measurements, betas: Sequence[float]) -> list[str]:
    if "precision" not in found.scores:
        return [*_MULTICLASS]
    return [*_BINARY, *(f"f{beta:g}" for beta in betas)]


def _legacy_row(step: int, row: StepRow, *, one_token: bool) -> tuple[float | None, ...]:
    exact = row.valid_accuracy if one_token else row.scores.get("exact_match")
    trained = (row.loss, row.accuracy if one_token else None, row.accuracy)
    validated = (row.valid_loss, exact, row.valid_accuracy)
    return (step, row.tokens, row.examples, *trained, *validated)


def _csv(columns: Sequence[str], rows: Iterable[Sequence[float | None]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow(["" if value is None else _short(value) for value in row])
    return text.getvalue().encode()


def _short(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.6g}"
