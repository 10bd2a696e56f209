"""The pictures of a model card: who is mistaken for whom, and how the training went."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure

from hone.models.document import Png
from hone.models.scoring import Evaluation
from hone.training.drawing import (
    BLACK,
    DARK,
    LIGHT,
    WHITE,
    Floats,
    Theme,
    can_be_drawn,
    drawn_in,
    to_png,
)
from hone.training.events import duration
from hone.training.progress import Progress

_NUMBERED_CELLS = 20
"""With more classes than this, counts in the cells could not be read."""
_LONGEST_NAME = 36
_LEAST_SHADE = 0.14
_LEGEND = (0.01, 0.05, 0.2, 0.5, 1.0)


def confusion_picture(evaluation: Evaluation, *, dark: bool, dpi: int) -> Png:
    """Draw the confusion matrix: a row for each true label, shaded by its share of the row.

    Up to 20 classes the cells hold counts. With more, the columns are named by class number only.
    """
    theme = DARK if dark else LIGHT
    counts = np.array(evaluation.confusion, dtype=np.float64)
    classes = len(counts)
    inches = _side(classes)
    with drawn_in(theme):
        figure = Figure(figsize=(inches, inches))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.imshow(_shades(counts, theme), interpolation="nearest", aspect="equal")
        _rule(axes, classes, theme)
        _name_axes(axes, evaluation.labels, inches)
        if classes <= _NUMBERED_CELLS:
            _write_counts(axes, counts, theme, inches)
        else:
            _draw_legend(figure, theme, inches)
        return to_png(figure, dpi=dpi, theme=theme)


def curves_picture(progress: Progress, *, dark: bool, dpi: int) -> Png:
    """Draw the losses and the validation accuracy over optimizer steps and training time."""
    theme = DARK if dark else LIGHT
    with drawn_in(theme):
        figure = Figure(figsize=(8.8, 3.1))
        left, right = figure.subplots(1, 2)
        figure.subplots_adjust(wspace=0.22)
        _draw_losses(left, progress, theme)
        _draw_accuracy(right, progress, theme)
        for axes in (left, right):
            axes.set_xlabel("optimizer step")
            axes.locator_params(axis="x", integer=True)
            axes.set_xlim(0, max(progress.step, 1) * 1.02)
            axes.grid(axis="y")
            _mark_times(axes, progress)
        # Under the plots, where no curve can run through it.
        figure.legend(
            *left.get_legend_handles_labels(),
            loc="upper left",
            bbox_to_anchor=(0.11, -0.03),
            ncols=3,
        )
        return to_png(figure, dpi=dpi, theme=theme)


def _side(classes: int) -> float:
    """Return the length of the matrix's side in inches."""
    if classes > _NUMBERED_CELLS:
        return min(8.0, max(5.0, 0.2 * classes))
    return max(2.2, 0.4 * classes)


def _shades(counts: Floats, theme: Theme) -> Floats:
    """Return colours (classes, classes, 3): blue on the diagonal, orange off it.

    The shade follows the square root of a cell's share of its row, or else the few mistakes of
    a good model would be too pale to see.
    """
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    diagonal = np.eye(len(counts), dtype=bool)
    colours = np.where(diagonal[..., None], _ramp(share, theme.right), _ramp(share, theme.wrong))
    return np.where((counts > 0)[..., None], colours, to_rgb(theme.surface))


def _ramp(share: Floats, ends: tuple[str, str]) -> Floats:
    colours = LinearSegmentedColormap.from_list("", ends)
    strength = _LEAST_SHADE + (1 - _LEAST_SHADE) * np.sqrt(share)
    return np.asarray(colours(strength), dtype=np.float64)[..., :3]


def _name_axes(axes: Any, labels: Sequence[str], inches: float) -> None:  # noqa: ANN401 - untyped
    classes = len(labels)
    names = [_shortened(label) for label in labels]
    readable = can_be_drawn(names)
    numbers = [str(index) for index in range(classes)]
    room = 72 * inches / classes  # points from one row to the next
    size = min(9.0, max(4.5, 0.82 * room))
    step = math.ceil(size / room)
    if classes > _NUMBERED_CELLS and readable:
        names = [f"{name}  {number}" for name, number in zip(names, numbers, strict=True)]
    shown = range(0, classes, step)
    axes.set_yticks(shown, [(names if readable else numbers)[i] for i in shown], fontsize=size)
    if classes > _NUMBERED_CELLS or not readable:
        step = max(step, math.ceil(1.6 * size / room))
        shown = range(0, classes, step)
        axes.set_xticks(shown, [numbers[i] for i in shown], fontsize=size)
    else:
        narrow = max(map(len, names)) * 0.6 * size > room
        axes.set_xticks(range(classes), names, fontsize=size, rotation=90 if narrow else 0)
    by_number = "" if readable and classes <= _NUMBERED_CELLS else " (class number)"
    axes.set_xlabel(f"answered{by_number}")
    axes.set_ylabel("truth" if readable else f"truth{by_number}")
    axes.tick_params(length=0)


def _rule(axes: Any, classes: int, theme: Theme) -> None:  # noqa: ANN401 - untyped
    """Draw lines between the cells, or after every fifth where they are many."""
    every = 1 if classes <= _NUMBERED_CELLS else 5
    between = np.arange(every, classes, every) - 0.5
    axes.hlines(between, -0.5, classes - 0.5, color=theme.line, linewidth=0.6)
    axes.vlines(between, -0.5, classes - 0.5, color=theme.line, linewidth=0.6)
    for side in ("top", "right"):
        axes.spines[side].set_visible(True)


def _shortened(label: str) -> str:
    """Keep both ends of a long name: names that begin alike often differ at the end."""
    label = " ".join(label.split())
    if len(label) <= _LONGEST_NAME:
        return label
    return f"{label[: _LONGEST_NAME - 12]}…{label[-11:]}"


def _write_counts(axes: Any, counts: Floats, theme: Theme, inches: float) -> None:  # noqa: ANN401
    digits = len(str(int(counts.max())))
    room = 72 * inches / len(counts)
    size = min(10.0, 0.9 * room / (0.65 * digits))
    colours = _shades(counts, theme)
    for truth, answered in np.argwhere(counts > 0):
        axes.text(
            answered,
            truth,
            str(int(counts[truth, answered])),
            ha="center",
            va="center",
            fontsize=size,
            color=_ink_on(colours[truth, answered]),
        )


def _ink_on(colour: Floats) -> str:
    """Return the ink, dark or white, that stands out more (WCAG's contrast ratio)."""
    linear = np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
    luminance = float(linear @ np.array([0.2126, 0.7152, 0.0722]))
    return BLACK if (luminance + 0.05) ** 2 > 0.056 * 1.05 else WHITE


def _draw_legend(figure: Figure, theme: Theme, inches: float) -> None:
    """Draw two rows of patches under the matrix, for those shares that are easy to name."""
    cells, share = len(_LEGEND), np.array(_LEGEND)
    width, height = 2.4 / inches, 0.36 / inches
    axes = figure.add_axes((1 - width, -0.85 / inches, width, height))
    axes.imshow([_ramp(share, theme.right), _ramp(share, theme.wrong)], aspect="auto")
    axes.set_xticks(range(cells), [f"{100 * part:g} %" for part in share], fontsize=7)
    axes.set_yticks([0, 1], ["right", "wrong"], fontsize=7)
    axes.set_xlabel("share of the true label's rows", fontsize=7)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _draw_losses(axes: Any, progress: Progress, theme: Theme) -> None:  # noqa: ANN401 - untyped
    axes.set_title("Loss")
    steps, losses = _finite(progress.losses)
    if len(steps):
        axes.plot(steps, losses, color=theme.right[1], alpha=0.35, linewidth=0.8)
        mark = "." if len(steps) < 20 else None
        axes.plot(
            *_smoothed(steps, losses),
            color=theme.right[1],
            marker=mark,
            label="training, smoothed",
        )
    steps, losses = _finite([(e["step"], e["loss"]) for e in progress.evaluations])
    axes.plot(steps, losses, color=theme.wrong[1], marker="o", markersize=3.5, label="validation")
    best = progress.kept_evaluation()
    if best is not None:
        _ring(axes, best["step"], best["loss"], theme)
    axes.set_ylim(bottom=0)


def _ring(axes: Any, step: float, value: float, theme: Theme) -> None:  # noqa: ANN401 - untyped
    """Mark the evaluation whose weights were kept."""
    axes.plot(
        [step],
        [value],
        "o",
        markersize=9,
        fillstyle="none",
        color=theme.ink,
        label="weights kept",
    )


def _draw_accuracy(axes: Any, progress: Progress, theme: Theme) -> None:  # noqa: ANN401 - untyped
    axes.set_title("Validation accuracy")
    evaluations = progress.evaluations
    steps = [e["step"] for e in evaluations]
    accuracies = [e["accuracy"] for e in evaluations]
    axes.plot(steps, accuracies, color=theme.wrong[1], marker="o", markersize=3.5)
    best = progress.kept_evaluation()
    if best is None:
        return
    _ring(axes, best["step"], best["accuracy"], theme)
    spread = max(max(accuracies) - min(accuracies), 0.05)
    lowest = min(accuracies) - 0.3 * spread
    axes.set_ylim(lowest, min(max(accuracies) + 0.15 * spread, 1.01))
    # The room above 1 is for a mark that stands there; no accuracy is more.
    axes.set_yticks([tick for tick in axes.get_yticks() if lowest <= tick < 1 + 1e-9])


def _mark_times(axes: Any, progress: Progress) -> None:  # noqa: ANN401 - untyped
    """Write the training time over some of the evaluations."""
    evaluations = progress.evaluations
    every = math.ceil(len(evaluations) / 4) if evaluations else 1
    marked = evaluations[::-1][::every]
    above = axes.secondary_xaxis("top")
    above.set_xticks(
        [e["step"] for e in marked], [duration(e["seconds"]) for e in marked], fontsize=7
    )
    above.tick_params(length=2, pad=1)
    above.spines["top"].set_visible(False)
    axes.title.set_position((0, 1.1))


def _finite(points: Sequence[Sequence[float]]) -> tuple[Floats, Floats]:
    """Return xs and ys without the points that are not a number, as of a loss that ran away."""
    found = np.array(points, dtype=np.float64).reshape(-1, 2)
    found = found[np.isfinite(found).all(axis=1)]
    return found[:, 0], found[:, 1]


def _smoothed(xs: Floats, ys: Floats) -> tuple[Floats, Floats]:
    """Return a running mean over about a fifteenth of the points, of fewer at the ends."""
    half = max(2, len(ys) // 30)
    sums = np.concatenate([[0.0], np.cumsum(ys)])
    positions = np.arange(len(ys))
    first = np.maximum(positions - half, 0)
    end = np.minimum(positions + half + 1, len(ys))
    return xs, (sums[end] - sums[first]) / (end - first)
