"""The model card of a causal language model."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from hone.models.catalogue import Base
from hone.models.cells import Interval
from hone.models.document import (
    Block,
    Bullets,
    Document,
    Fact,
    Picture,
    Section,
    Table,
    Text,
    Verbatim,
)
from hone.models.manifest import CARD_FILE, SplitRecord
from hone.models.measures import main_measure
from hone.models.savings import BaselinePrompt
from hone.training import card_training
from hone.training.causal.staging import StagedDecoder
from hone.training.events import HELD_BEFORE, duration
from hone.training.generation.causal_scores import Scores
from hone.training.generation.generation_recipe import GenerationRecipe
from hone.training.generation.memory import MemoryEstimate
from hone.training.generation.sampling import read_samples
from hone.training.generation.settling import CausalHyperparameters
from hone.training.pictures import curves_picture
from hone.training.progress import Progress

_METHODS = {
    "full": "all weights",
    "lora": "LoRA, merged into the weights",
    "qlora": "LoRA on a base in four bits, merged into the weights",
}
_KEPT_APART = {
    "lora": "LoRA, kept as an adapter beside the base",
    "qlora": "LoRA on a base in four bits, kept as an adapter beside the whole base",
}

_OF_TEXTS = (
    "The loss is in nats a trained token. An exact match is an example of which greedy decoding "
    "repeats every trained token; an answer that is right in other words is none."
)
_OF_PAIRS = (
    "Reward accuracy is the share of pairs that are ranked right: the answer that is wanted has "
    "gained more over the base than the other. The other scores are of the wanted answers alone."
)


@dataclass(frozen=True, slots=True)
class CausalSummary:
    """What a finished run knows of itself."""

    recipe: GenerationRecipe
    settled: CausalHyperparameters
    progress: Progress
    scores: Scores
    base: Base
    records: Mapping[str, SplitRecord]
    memory: MemoryEstimate
    left_out: int
    truncated: int
    trained_parameters: int
    all_parameters: int
    baseline: BaselinePrompt | None = None


def write_card(summary: CausalSummary, run: Path, decoder: StagedDecoder | None = None) -> str:
    """Write the card as a page into the run's folder; return it as Markdown.

    Of a `decoder` it says how each exported file answers beside the trained model, and why others
    were left out.
    """
    document = _card(summary, run, decoder)
    (run / "card.html").write_text(document.html(), encoding="utf-8")
    markdown = document.markdown()
    (run / CARD_FILE).write_text(markdown, encoding="utf-8")
    return markdown


def _card(summary: CausalSummary, run: Path, decoder: StagedDecoder | None) -> Document:
    rows = summary.records["train"].rows
    return Document(
        title=summary.recipe.saving.name,
        lead=(
            f"Goes on from a prompt. Made by Hone from {summary.base.id}, fine-tuned on "
            f"{rows:,} examples."
        ),
        facts=_facts(summary),
        sections=[
            Section("What it is", [_identity(summary)]),
            Section("Scores", _scores(summary)),
            Section("Data", _data(summary)),
            Section("Training", list(_training(summary))),
            Section("Memory", _memory(summary)),
            Section("Samples", list(_samples(run))),
            *([Section("Exported files", _parity(decoder))] if decoder else []),
            Section("The prompt it replaces", list(card_training.prompt(summary.baseline))),
            Section("Limits", _limits(summary)),
        ],
    )


def _facts(summary: CausalSummary) -> list[Fact]:
    split = "test" if "test" in summary.scores else "validation"
    scores = summary.scores[split]
    loss = scores["loss"]
    main, words = main_measure(scores)
    found = scores[main]
    return [
        Fact(
            f"{words.capitalize()} ({split})",
            f"{found.value:.3f}",
            _range(found.low, found.high),
        ),
        Fact(f"Loss ({split})", f"{loss.value:.3f}", _range(loss.low, loss.high)),
        Fact("Training", duration(summary.progress.seconds), f"on {summary.settled.device}"),
        Fact("Peak memory", f"{_megabytes(summary.progress.peak_bytes)} MB", _held_by(summary)),
        *card_training.tokens_saved(summary.baseline),
    ]


def _range(low: float, high: float) -> str:
    return f"95 %: {low:.3f} to {high:.3f}"


def _identity(summary: CausalSummary) -> Table:
    methods = _KEPT_APART if summary.recipe.saving.adapter else _METHODS
    rows = [
        ("Base", summary.base.id),
        ("Licence of the base", summary.base.licence),
        ("Trained", methods[summary.recipe.model.method]),
        ("Parameters", f"{summary.all_parameters:,}"),
        ("Parameters trained", f"{summary.trained_parameters:,}"),
        ("Licence of this model", summary.recipe.saving.licence),
        ("SHA-256 of the recipe", summary.recipe.sha256()),
    ]
    return Table(("", ""), rows, "ll")


def _scores(summary: CausalSummary) -> list[Block]:
    rows = [
        (split, name, Interval(s.value, s.low, s.high, s.n))
        for split, scores in summary.scores.items()
        for name, s in scores.items()
    ]
    told = f"{_OF_PAIRS} {_OF_TEXTS}" if _prefers(summary) else _OF_TEXTS
    return [
        Text(told),
        Table(("Split", "Score", "Value and 95 % interval"), rows, "llr"),
    ]


def _data(summary: CausalSummary) -> list[Block]:
    rows = [(split, record.rows, record.sha256) for split, record in summary.records.items()]
    left, cut, most = summary.left_out, summary.truncated, summary.settled.max_tokens
    return [
        Table(("Split", "Rows", "SHA-256 of the file"), rows, "lrl"),
        Text(f"Longer than {most:,} tokens: {left:,} examples left out, {cut:,} cut."),
    ]


def _training(summary: CausalSummary) -> Iterator[Block]:
    progress = summary.progress
    stop = "stopped early" if progress.stopped_early else "ran to its end"
    yield Text(
        f"{progress.step:,} optimizer steps in {duration(progress.seconds)}; it {stop}. The "
        f"weights kept are those after step {progress.kept_step:,}."
    )
    if progress.evaluations:
        yield Picture(*_curves(summary), partial(curves_picture, progress))
    optimizer = summary.recipe.optimizer
    values = {**asdict(summary.settled), "optimizer": optimizer.name, **optimizer.arguments()}
    if _prefers(summary):
        values["dpo_beta"] = summary.recipe.training.dpo_beta
    yield Table(("Name", "Value"), [(name, str(value)) for name, value in values.items()], "ll")


def _curves(summary: CausalSummary) -> tuple[str, str]:
    """Return what the curves' picture shows, and what its accuracy is of."""
    if _prefers(summary):
        accuracy = "accuracy is the share of pairs that are ranked right."
        caption = f"The loss is DPO's, which begins at 0.693; {accuracy}"
        return "Loss and accuracy of validation pairs during the training", caption
    caption = "Accuracy is that of single tokens, each given the right ones before it."
    return "Loss and accuracy of validation tokens during the training", caption


def _prefers(summary: CausalSummary) -> bool:
    return summary.settled.objective == "dpo"


def _memory(summary: CausalSummary) -> list[Block]:
    parts = asdict(summary.memory)
    names = {"before": HELD_BEFORE[summary.settled.device]}
    rows = [(names.get(name, name), _megabytes(size)) for name, size in parts.items()]
    rows += [("estimate", _megabytes(summary.memory.total))]
    rows += [("peak, measured", _megabytes(summary.progress.peak_bytes))]
    return [
        Text(
            f"Of the memory {_held_by(summary)}: the estimate before the training, for a batch of "
            "the longest examples, beside the peak that was measured until the last evaluation, "
            "the largest where a run was broken off and went on. What was held before is measured."
        ),
        Table(("", "MB"), rows, "lr"),
    ]


def _held_by(summary: CausalSummary) -> str:
    return "of the GPU" if summary.settled.device == "cuda" else "of the whole process"


def _samples(run: Path) -> Iterator[Block]:
    rows = list(read_samples(run))
    if not rows:
        yield Text(
            "None: the recipe asked for none, or no validation prompt leaves room to answer."
        )
    for row in [row for row in rows if row["step"] == rows[-1]["step"]]:
        yield Verbatim(f"{row['prompt']}\n---\n{row['completion']}")


def _parity(decoder: StagedDecoder) -> list[Block]:
    rows = [
        (
            name,
            f"{100 * r.equal_continuations:.1f} %",
            f"{100 * r.equal_tokens:.2f} %",
            f"{r.largest_logit_difference:.2g}",
            f"{r.loss_exported - r.loss_trained:+.2g}",
        )
        for name, r in decoder.record.parity.items()
    ]
    head = ("File", "Equal continuations", "Equal next tokens", "Logit difference", "Loss added")
    left = [Text(f"Left out: {name}, because {why}.") for name, why in decoder.left_out.items()]
    return [Table(head, rows, "lrrrr"), *left]


def _limits(summary: CausalSummary) -> list[Block]:
    sentences = [
        "It writes what is likely to follow, which may be wrong in any way that text can be.",
        (
            "Not measured: prompts of another source, language or time than these, prompts meant "
            "to mislead it, and differences between groups of people."
        ),
    ]
    if "test" not in summary.scores:
        sentences.append("There was no test split; the validation examples also chose the weights.")
    return [Bullets(sentences)]


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f}"
