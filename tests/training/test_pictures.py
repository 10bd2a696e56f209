"""Pictures are drawn for any number of classes, any names, and keep their colours."""

import io
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from hone.models.document import Png
from hone.training import drawing
from hone.training.drawing import DARK, LIGHT, Theme, can_be_drawn
from hone.training.pictures import _draw_accuracy, confusion_picture, curves_picture
from hone.training.progress import Progress
from tests.training.summaries import make_evaluation


def colours_of(png: Png) -> dict[tuple[int, int, int], int]:
    """Return how many pixels of each colour there are."""
    image = Image.open(io.BytesIO(png.content)).convert("RGB")
    colours, counts = np.unique(np.asarray(image).reshape(-1, 3), axis=0, return_counts=True)
    return {(int(r), int(g), int(b)): int(n) for (r, g, b), n in zip(colours, counts, strict=True)}


def rgb(colour: str) -> tuple[int, int, int]:
    red, green, blue = (round(255 * part) for part in to_rgb(colour))
    return red, green, blue


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_the_surface_and_a_full_cell_have_exactly_their_colours(theme: Theme) -> None:
    evaluation = make_evaluation(["a", "b"], rows=40, skill=60.0)
    found = colours_of(confusion_picture(evaluation, dark=theme is DARK, dpi=110))
    by_count = sorted(found, key=lambda colour: found[colour], reverse=True)
    assert {rgb(theme.surface), rgb(theme.right[1])} == set(by_count[:2])
    assert len(found) <= 256


def test_a_wrong_answer_is_orange_and_a_right_one_blue() -> None:
    evaluation = replace(make_evaluation(["a", "b"], rows=40), confusion=[[0, 20], [20, 0]])
    found = colours_of(confusion_picture(evaluation, dark=False, dpi=110))
    assert rgb(LIGHT.wrong[1]) in found
    assert rgb(LIGHT.right[1]) not in found


@pytest.mark.parametrize("classes", [2, 16, 20, 21, 77, 150])
def test_it_fits_the_page_with_any_number_of_classes(classes: int) -> None:
    labels = [f"a_label_whose_name_does_not_end_for_a_while_{index}" for index in range(classes)]
    picture = confusion_picture(make_evaluation(labels, rows=classes), dark=False, dpi=96)
    assert picture.width < 1100
    assert picture.height < 1100
    image = Image.open(io.BytesIO(picture.content))
    assert image.size == (picture.width, picture.height)


@pytest.mark.parametrize(
    "name", ["退款问题", "emoji 🎉", "$\\frac{$", "two\nlines", "tab\tbed", "\u200b", "x" * 5000]
)
def test_any_name_can_be_a_label(name: str) -> None:
    assert confusion_picture(make_evaluation([name, "b"]), dark=True, dpi=96).content


def test_names_that_the_fonts_lack_are_replaced_by_class_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(drawing, "_FONTS", ("DejaVu Sans",))
    assert can_be_drawn(["refund", "Rückgabe", "возврат"])
    assert not can_be_drawn(["refund", "退款"])
    numbered = make_evaluation(["0", "1", "2"])
    chinese = replace(numbered, labels=["退款", "物流", "其他"])
    narrow, wide = (confusion_picture(each, dark=False, dpi=96) for each in (chinese, numbered))
    assert abs(narrow.width - wide.width) < 30


@pytest.mark.parametrize(
    "progress",
    [
        Progress(),
        Progress(step=1, losses=[(1, float("nan"))]),
        Progress(
            step=1,
            best_loss=0.5,
            kept_step=1,
            losses=[(1, 2.0)],
            evaluations=[{"step": 1, "seconds": 0.0, "accuracy": 1.0, "loss": 0.5}],
        ),
    ],
    ids=["nothing", "not a number", "one step"],
)
def test_the_shortest_runs_have_curves(progress: Progress) -> None:
    assert curves_picture(progress, dark=False, dpi=96).content


@pytest.mark.parametrize("accuracies", [(1.0, 1.0), (0.2, 1.0), (0.97, 0.98)])
def test_no_accuracy_above_one_is_written_at_the_axis(accuracies: tuple[float, ...]) -> None:
    evaluations = [
        {"step": step, "seconds": 1.0, "accuracy": accuracy, "loss": 0.5}
        for step, accuracy in enumerate(accuracies, start=1)
    ]
    axes = Figure().subplots()
    _draw_accuracy(axes, Progress(step=2, kept_step=2, evaluations=evaluations), LIGHT)
    ticks = axes.get_yticks()
    assert len(ticks) >= 3
    assert max(ticks) <= 1 + 1e-9
