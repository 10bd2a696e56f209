"""The model card: what a bundle is, how it was made, and how well it answers, in numbers.

Everything in it is drawn from what the run knows. What was not measured is named as such.
"""

from dataclasses import dataclass
from typing import Any

from hone.models.cells import Cell
from hone.models.document import Block, Bullets, Document, Fact, Section, Table
from hone.models.manifest import ManifestBody, Score
from hone.models.scoring import Evaluation
from hone.training import card_scores, card_training
from hone.training.card_scores import Served
from hone.training.events import duration
from hone.training.progress import Progress

_LONG_TEXTS = {
    "head": "A longer text is cut: its beginning is read, the rest is not.",
    "head_tail": (
        "A longer text is cut in the middle: the first quarter of what fits is taken from its "
        "beginning, the rest from its end."
    ),
    "reject": "A longer text is refused with an error.",
}


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What a finished run knows of itself.

    `settled` holds the hyperparameters after `auto`; `evaluations` has keys such as `test:int8`
    and at least one entry.
    """

    name: str
    body: ManifestBody
    settled: dict[str, Any]
    progress: Progress
    evaluations: dict[str, Evaluation]
    more_mistakes: tuple[Block, ...] = ()
    """What the task has to show of its mistakes besides the confusions."""


def card_markdown(summary: RunSummary) -> str:
    """Return the model card as Markdown, with its pictures inside."""
    return _card(summary).markdown()


def card_html(summary: RunSummary) -> str:
    """Return the model card as one HTML page, with its pictures inside, light and dark."""
    return _card(summary).html()


def _card(summary: RunSummary) -> Document:
    body = summary.body
    noun = "picture" if body.preprocessing is not None else "text"
    served = card_scores.served_evaluation(summary.evaluations, noun)
    rows = body.data["train"].rows if "train" in body.data else 0
    chosen = "penalty" if summary.settled["epochs"] == 0 else "epoch"
    training = list(card_training.training(body, summary.settled, summary.progress))
    return Document(
        title=summary.name,
        lead=(
            f"Gives a {noun} one of {len(body.labels)} labels. Made by Hone from {body.base.id}, "
            f"fine-tuned on {rows:,} labelled {noun}s."
        ),
        facts=_facts(summary, served),
        sections=[
            Section("What it is", _identity(body)),
            Section("Intended use and limits", _use(body, served, chosen)),
            Section("Scores", list(card_scores.scores(summary.evaluations, body, chosen=chosen))),
            Section("Labels", card_scores.labels(served)),
            Section("Mistakes", [*card_scores.mistakes(served), *summary.more_mistakes]),
            Section("Confidence", card_scores.confidence(body.calibration, served)),
            Section("Data", card_training.data(body)),
            Section("Training", training),
            Section("Exported variants", list(card_training.variants(body))),
            Section("The prompt it replaces", list(card_training.prompt(body.baseline))),
            Section("Libraries", [card_training.libraries(body)]),
        ],
    )


def _facts(summary: RunSummary, served: Served) -> list[Fact]:
    accuracy = served.evaluation.scores["accuracy"]
    f1 = served.evaluation.scores["macro_f1"]
    where = f"{served.split}, {served.variant}"
    facts = [
        Fact(f"Accuracy ({where})", f"{accuracy.value:.3f}", _range(accuracy)),
        Fact(f"Macro F1 ({where})", f"{f1.value:.3f}", _range(f1)),
        Fact("Training", duration(summary.progress.seconds), f"on {summary.settled['device']}"),
    ]
    return [*facts, *card_training.tokens_saved(summary.body.baseline)]


def _range(score: Score) -> str:
    counted = f"n = {score.n:,}".replace(" ", "\N{NO-BREAK SPACE}")
    return f"95 %: {score.low:.3f} to {score.high:.3f}, {counted}"


def _identity(body: ManifestBody) -> list[Block]:
    model = body.recipe.content.get("model", {})
    method = {
        "full": "all weights",
        "lora": "LoRA adapters, merged into the weights",
        "probe": "a linear head on the base's frozen features",
    }
    rows: list[tuple[Cell, ...]] = [
        ("Task", body.task),
        ("Labels", len(body.labels)),
        ("Base", body.base.id),
        ("Licence of the base", _licence(body.base.licence)),
        ("SHA-256 of the base's weights", body.base.revision),
        ("Licence of this model", _licence(body.licence)),
        ("Files", ", ".join(f"{file} ({name})" for name, file in body.variants.items())),
        ("SHA-256 of the recipe", body.recipe.sha256),
    ]
    if model.get("method") in method:
        rows.insert(5, ("Trained", method[model["method"]]))
    return [Table(("", ""), rows, "ll")]


def _licence(name: str) -> str:
    return "not stated" if name == "unknown" else name


def _use(body: ManifestBody, served: Served, chosen: str) -> list[Block]:
    n, noun = served.evaluation.scores["accuracy"].n, served.noun
    sentences = [
        (
            f"For giving one of {len(body.labels)} labels to {noun}s like those it was trained "
            f"on. Every {noun} gets exactly one of them, also a {noun} that none of them fits."
        ),
        _reading(body),
        (
            f"Its scores are those of {n:,} {served.split} {noun}s. Not measured: {noun}s from "
            f"another source, {'language' if noun == 'text' else 'camera'} or time than these, "
            f"{noun}s meant to mislead it, and differences between groups of people."
        ),
    ]
    if served.split != "test":
        sentences.append(
            f"There was no test split. The scores are of the validation {noun}s, which also chose "
            f"the {chosen} and the temperature, so they are likely to be too high."
        )
    sentences += card_scores.weak_labels(served)
    return [Bullets(sentences)]


def _reading(body: ManifestBody) -> str:
    """Say how much of an input the model sees."""
    if body.preprocessing is not None:
        rule = body.preprocessing
        how = "the centre of it is read" if rule.shortest_edge else "it is stretched to that"
        return (
            f"It sees {rule.width} x {rule.height} pixels of a picture: the picture is made "
            f"smaller or larger, and {how}. What stands at the edge or is tiny may be lost."
        )
    limits = body.text_limits
    return (
        f"It reads at most {limits.max_tokens:,} tokens, special ones included. "
        f"{_LONG_TEXTS[limits.long_texts]}"
    )
