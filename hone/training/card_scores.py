"""The sections of a card that say how well the model answers."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from hone.models.cells import Cell, Interval
from hone.models.document import Block, Heading, Picture, Table, Text
from hone.models.manifest import Calibration, ManifestBody, Score
from hone.models.scoring import ClassScore, Evaluation
from hone.training.pictures import confusion_picture

_FEW_ROWS = 30
_LARGEST_CONFUSIONS = 10
_NAMES_SHOWN = 8

_SCORE_NAMES = {
    "accuracy": "Accuracy",
    "macro_f1": "Macro F1",
    "weighted_f1": "Weighted F1",
    "expected_calibration_error": "Expected calibration error",
    "precision": "Precision",
    "recall": "Recall",
    "auroc": "AUROC",
    "auprc": "AUPRC (average precision)",
}


@dataclass(frozen=True, slots=True)
class Served:
    """The evaluation that the card tells of: of the variant that a server takes, on one split."""

    split: str
    variant: str
    evaluation: Evaluation
    noun: str = "text"
    """What is classified: a text or a picture."""


def served_evaluation(evaluations: Mapping[str, Evaluation], noun: str = "text") -> Served:
    """Choose test before validation, and int8, which a server takes, before fp32."""
    keys = [tuple(key.split(":", 1)) for key in evaluations]
    split = "test" if any(part[0] == "test" for part in keys) else keys[0][0]
    variants = [variant for part, variant in keys if part == split]
    variant = next((v for v in ("int8", "fp32") if v in variants), variants[0])
    return Served(split, variant, evaluations[f"{split}:{variant}"], noun)


def weak_labels(served: Served) -> Iterator[str]:
    """Yield sentences on the labels with few texts, and on the one found least often."""
    classes = served.evaluation.classes
    if few := sorted((c for c in classes if c.n < _FEW_ROWS), key=lambda c: c.n):
        named = _listed([f"{c.label} ({c.n})" for c in few])
        yield (
            f"With fewer than {_FEW_ROWS} {served.split} {served.noun}s, how well a label is found "
            f"is known only roughly. That is so of {len(few)} of the {len(classes)} labels: "
            f"{named}."
        )
    if missed := [c for c in classes if c.n and c.recall < 1]:
        worst = min(missed, key=lambda c: (c.recall, -c.n))
        yield (
            f"The label it finds least often is {worst.label}: its recall is {worst.recall:.3f} "
            f"(95 % interval {worst.recall_low:.3f} to {worst.recall_high:.3f}, n = {worst.n:,})."
        )


def _listed(names: list[str]) -> str:
    more = len(names) - _NAMES_SHOWN
    return ", ".join(names[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def scores(
    evaluations: Mapping[str, Evaluation], body: ManifestBody, *, chosen: str = "epoch"
) -> Iterator[Block]:
    """Yield a table for each split, test first, with a column for each variant.

    `chosen` is what validation rows chose besides the temperature.
    """
    yield Text("Every score has its 95 % interval and the number n of items that it rests on.")
    for split in sorted({key.split(":", 1)[0] for key in evaluations}):
        found = {
            key.split(":", 1)[1]: evaluation
            for key, evaluation in evaluations.items()
            if key.startswith(f"{split}:")
        }
        yield Heading(f"{split.capitalize()} split")
        yield _score_table({variant: each.scores for variant, each in found.items()})
        evaluation = next(iter(found.values()))
        if "recall" in evaluation.scores:
            label = _positive_label(body, evaluation)
            yield Text(f"Precision, recall, F-beta, AUROC and AUPRC are of the label {label}.")
        if split == "validation":
            yield Text(
                f"Validation rows chose the {chosen} and the temperature; test rows nothing."
            )


def _score_table(by_variant: Mapping[str, Mapping[str, Score]]) -> Table:
    names = list(dict.fromkeys(name for scores in by_variant.values() for name in scores))
    rows: list[list[Cell]] = []
    for name in names:
        cells = [scores.get(name) for scores in by_variant.values()]
        kinds = dict.fromkeys(score.interval for score in cells if score is not None)
        rows.append(
            [
                _SCORE_NAMES.get(name, name.upper() if name.startswith("f") else name),
                *("–" if s is None else Interval(s.value, s.low, s.high, s.n) for s in cells),
                ", ".join(kinds).capitalize(),
            ]
        )
    align = f"l{'r' * len(by_variant)}l"
    return Table(("Score", *by_variant, "Interval"), rows, align)


def _positive_label(body: ManifestBody, evaluation: Evaluation) -> str:
    """Return the recipe's positive label, or else the rarer one, as the scoring does."""
    named = body.recipe.content.get("dataset", {}).get("positive_label")
    if named is not None:
        return str(named)
    rows = [sum(row) for row in evaluation.confusion]
    return evaluation.labels[rows.index(min(rows))]


def labels(served: Served) -> list[Block]:
    """Return the table of all labels."""
    answered = [sum(column) for column in zip(*served.evaluation.confusion, strict=True)]
    classes = served.evaluation.classes
    rows = [_class_row(index, row, answered[index]) for index, row in enumerate(classes)]
    return [
        Text(
            f"On the {served.split} split, variant {served.variant}. Recall is the share of a "
            f"label's {served.noun}s that get it, with its 95 % Wilson interval; precision the "
            f"share of its answers that are right; n its {served.noun}s."
        ),
        Table(("#", "Label", "Recall", "Precision", "F1", "n"), rows, "rlrrrr"),
    ]


def _class_row(index: int, row: ClassScore, answered: int) -> list[Cell]:
    recall = Interval(row.recall, row.recall_low, row.recall_high, gauge=True)
    return [
        index,
        row.label,
        recall if row.n else "–",
        f"{row.precision:.3f}" if answered else "–",
        f"{row.f1:.3f}" if answered or row.n else "–",
        row.n,
    ]


def mistakes(served: Served) -> list[Block]:
    """Return the confusion matrix and its largest cells off the diagonal."""
    evaluation = served.evaluation
    picture = Picture(
        f"Confusion matrix of {len(evaluation.labels)} labels",
        f"Confusion on the {served.split} split, variant {served.variant}. Rows are the true "
        "labels, columns the answers; blue is right, orange is wrong, and a stronger shade is a "
        "larger share of the row. Class numbers are those of the table of labels.",
        partial(confusion_picture, evaluation),
    )
    return [picture, *_largest_confusions(evaluation, served.noun)]


def _largest_confusions(evaluation: Evaluation, noun: str) -> Iterator[Block]:
    pairs = sorted(
        (
            (count, truth, answer)
            for truth, row in enumerate(evaluation.confusion)
            for answer, count in enumerate(row)
            if count and truth != answer
        ),
        key=lambda pair: (-pair[0], pair[1:]),
    )
    wrong = sum(count for count, _, _ in pairs)
    yield Heading("Confusions" if len(pairs) <= _LARGEST_CONFUSIONS else "Largest confusions")
    yield Text(f"Wrong answers: {wrong:,}. Pairs of labels that they mix up: {len(pairs):,}.")
    rows: list[list[Cell]] = [
        [
            evaluation.labels[truth],
            evaluation.labels[answer],
            count,
            f"{100 * count / sum(evaluation.confusion[truth]):.1f} %",
        ]
        for count, truth, answer in pairs[:_LARGEST_CONFUSIONS]
    ]
    if rows:
        head = ("Truth", "Answered", f"{noun.capitalize()}s", f"Of the label's {noun}s")
        yield Table(head, rows, "llrr")


def confidence(found: Calibration, served: Served) -> list[Block]:
    """Return what calibration did, and how it holds on what it was not fitted on."""
    text = (
        f"Logits are divided by a temperature of {found.temperature:.3f} before the softmax, "
        f"which changes no answer. It was fitted on {found.n:,} validation {served.noun}s, "
        f"and on those the expected calibration error (15 bins) went from "
        f"{found.ece_before:.3f} to {found.ece_after:.3f}."
    )
    error = served.evaluation.scores.get("expected_calibration_error")
    if served.split == "test" and error is not None:
        text += (
            f" On the test split, variant {served.variant}, it is {error.value:.3f} (95 % interval "
            f"{error.low:.3f} to {error.high:.3f}, n = {error.n:,})."
        )
    return [Text(text)]
