"""The table and the plot of several methods: `methods.html`, `methods.md`, `methods.json`."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from hone.models.cells import Cell, Interval
from hone.models.document import Block, Document, Fact, Picture, Png, Section
from hone.models.document import Table as DocumentTable
from hone.models.document import Text as Paragraph
from hone.training.drawing import DARK, LIGHT, Theme, drawn_in, to_png
from hone.training.events import duration
from hone.training.generation.generation_recipe import GenerationRecipe
from hone.training.methods.pace import BATCH, ROUNDS, Pace
from hone.training.methods.trial import Trial
from hone.training.recipe_groups import Recipe


def write_comparison(
    folder: Path, recipe: Recipe, trials: Sequence[Trial], paces: Sequence[Pace]
) -> None:
    """Write the page, the Markdown and the JSON into a folder."""
    document = _document(recipe, trials, paces)
    (folder / "methods.html").write_text(document.html(), encoding="utf-8")
    (folder / "methods.md").write_text(document.markdown(), encoding="utf-8")
    content = [
        {**trial.model_dump(mode="json"), "pace": asdict(pace)}
        for trial, pace in zip(trials, paces, strict=True)
    ]
    (folder / "methods.json").write_text(json.dumps(content, indent=2), encoding="utf-8")


def columns_of(
    trials: Sequence[Trial], paces: Sequence[Pace]
) -> tuple[list[str], list[list[Cell]]]:
    """Return the table's head, a column for each method, and its rows."""
    first = trials[0]
    rows: list[list[Cell]] = [
        [f"{first.measure.capitalize()} ({first.split})", *map(_quality, trials)],
        ["Training time", *(duration(t.training_s) for t in trials)],
        ["Peak memory", *(f"{t.peak_bytes / 1e6:,.0f} MB" for t in trials)],
        ["Parameters trained", *map(_trained, trials)],
        ["Served as", *(f"{t.variant}, {t.served_bytes / 1e6:,.1f} MB" for t in trials)],
        ["Bundle on disk", *(f"{t.bundle_bytes / 1e6:,.1f} MB" for t in trials)],
    ]
    for name in paces[0].per_s:
        unit = paces[0].unit.capitalize()
        rows.append([f"{unit} a second, {name}", *(f"{p.per_s[name]:,.0f}" for p in paces)])
    return ["", *(trial.method for trial in trials)], rows


def _quality(trial: Trial) -> Interval:
    return Interval(trial.quality.value, trial.quality.low, trial.quality.high, trial.quality.n)


def _trained(trial: Trial) -> str:
    share = trial.trained_parameters / trial.all_parameters
    return f"{trial.trained_parameters:,} ({100 * share:.1f} %)"


def show_table(trials: Sequence[Trial], paces: Sequence[Pace], console: Console) -> None:
    """Print the table for a terminal."""
    head, rows = columns_of(trials, paces)
    table = Table(*head)
    for row in rows:
        table.add_row(*map(_words, row))
    console.print(table)


def _words(cell: Cell) -> str:
    return f"{cell.value:.3f} ({cell.range()})" if isinstance(cell, Interval) else str(cell)


def _document(recipe: Recipe, trials: Sequence[Trial], paces: Sequence[Pace]) -> Document:
    head, rows = columns_of(trials, paces)
    names = " and ".join(trial.method for trial in trials)
    seed = recipe.training.seed
    models = ", ".join(f"{t.model}@{t.version}" for t in trials)
    blocks: list[Block] = [
        DocumentTable(head, rows, "l" + "r" * len(trials)),
        Paragraph(_how(recipe, trials, paces)),
        Picture(
            "Quality against training time, and the validation curves, of each method",
            "Left: the score with its 95 % interval over the time of training. Right: accuracy "
            "on validation while training; of a causal model that of single tokens, or of pairs "
            "where it learns preferences.",
            partial(trials_picture, trials),
        ),
    ]
    return Document(
        title=f"{names}, side by side",
        lead=f"The same recipe, data and seed ({seed}). Published: {models}.",
        facts=[_fact(trial) for trial in trials],
        sections=[Section("Methods", blocks)],
    )


def _fact(trial: Trial) -> Fact:
    score = trial.quality
    return Fact(
        trial.method,
        f"{score.value:.3f}",
        f"95 %: {score.low:.3f} to {score.high:.3f}; {duration(trial.training_s)}",
    )


def _how(recipe: Recipe, trials: Sequence[Trial], paces: Sequence[Pace]) -> str:
    overlap = _overlapping(trials)
    verdict = (
        "The intervals of the scores overlap: on this data the methods cannot be told apart by one."
        if overlap
        else "The intervals of the scores do not all overlap."
    )
    work = (
        "greedy answers of equal length after a short prompt"
        if isinstance(recipe, GenerationRecipe)
        else f"in batches of {BATCH}"
    )
    return (
        f"{verdict} Times are those of the loop alone, on this machine. Peak memory is that of the "
        "training, on a GPU the GPU's; a classifier's has its scoring and exporting in it. "
        f"{paces[0].unit.capitalize()} a second: {work}, all cores, the models in turns, the "
        f"median of {ROUNDS} rounds, without HTTP."
    )


def _overlapping(trials: Sequence[Trial]) -> bool:
    lowest = max(trial.quality.low for trial in trials)
    return all(trial.quality.high >= lowest for trial in trials)


def trials_picture(trials: Sequence[Trial], *, dark: bool, dpi: int) -> Png:
    """Draw scores with intervals over training time, and each method's validation curve."""
    theme = DARK if dark else LIGHT
    with drawn_in(theme):
        figure = Figure(figsize=(8.8, 3.1))
        left, right = figure.subplots(1, 2)
        figure.subplots_adjust(wspace=0.26)
        for trial, colour, mark in zip(trials, _colours(theme), "osD^v", strict=False):
            _draw(left, right, trial, colour, mark)
        left.set_title(f"{trials[0].measure.capitalize()} ({trials[0].split})")
        right.set_title("Validation accuracy")
        longest = max(trial.training_s for trial in trials)
        for axes in (left, right):
            axes.set_xlabel("seconds of training")
            axes.set_xlim(0, longest * 1.12)
            axes.grid(axis="y")
        figure.legend(
            *left.get_legend_handles_labels(),
            loc="upper left",
            bbox_to_anchor=(0.11, -0.03),
            ncols=len(trials),
        )
        return to_png(figure, dpi=dpi, theme=theme)


def _colours(theme: Theme) -> list[str]:
    return [theme.right[1], theme.wrong[1], theme.ink, theme.muted, theme.line]


def _draw(left: Any, right: Any, trial: Trial, colour: str, mark: str) -> None:  # noqa: ANN401
    score = trial.quality
    left.errorbar(
        [trial.training_s],
        [score.value],
        yerr=[[max(0.0, score.value - score.low)], [max(0.0, score.high - score.value)]],
        marker=mark,
        color=colour,
        capsize=4,
        linestyle="none",
        label=trial.method,
    )
    seconds = [point.seconds for point in trial.curve]
    right.plot(
        seconds, [p.accuracy for p in trial.curve], color=colour, marker=mark, markersize=3.5
    )
