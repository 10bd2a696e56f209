"""The drawings of a comparison's report."""

import math
from collections.abc import Iterator, Sequence

from hone.comparison.axes import WIDTH, Axes, Scale, fitted, linear, logarithmic, svg
from hone.comparison.fallback import Fallback
from hone.comparison.figures import ArmFigures, Calibration, Versus
from hone.comparison.monthly import Part, month
from hone.comparison.question import Question
from hone.comparison.statistics import Estimate
from hone.comparison.wording import count, dollar_tick, percent, seconds, words
from hone.models.document import Drawing
from hone.models.page import escape

_MOST_LABELS = 120
_FAR_BELOW = 0.2
_NEAR = 24
_FOREST_LEFT, _FOREST_STEP = 14, 46


def trade(
    arms: Sequence[ArmFigures],
    numbers: dict[str, int],
    across: dict[str, float],
    question: Question,
    *,
    name: str,
    dollars_across: bool,
) -> Drawing:
    """Draw the arms' share of right answers against what they take, on a logarithmic scale."""
    base = next(arm.right_of_all.value for arm in arms if arm.name == question.baseline)
    placed = [arm for arm in arms if across.get(arm.name, 0) > 0 and arm.right_of_all.n]
    shown = [arm for arm in placed if arm.right_of_all.value > base - _FAR_BELOW]
    reads = dollar_tick if dollars_across else seconds
    ends = [
        end
        for arm in shown
        for end in (arm.right_of_all.low, arm.right_of_all.high)
        if end is not None
    ]
    axes = Axes(
        logarithmic(name, [across[arm.name] for arm in shown], reads),
        linear(f"{words(question).right}, of all", ends, percent),
    )
    marks = []
    for arm in shown:
        x, right, colour = across[arm.name], arm.right_of_all, _colour(arm.name, question)
        if right.low is not None and right.high is not None:
            marks.append(axes.whisker(x, right.low, right.high, colour))
        marks.append(axes.dot(x, right.value, colour))
    # Last, so that no other contender's interval is drawn over a number.
    marks += [
        axes.words(
            across[a.name],
            a.right_of_all.value,
            str(numbers[a.name]),
            left=_crowded(a, shown, across, axes),
        )
        for a in shown
    ]
    left = [arm.name for arm in arms if arm not in placed]
    far = [arm.name for arm in placed if arm not in shown]
    caption = f"Share {words(question).right}, of all, against {name}; with 95% intervals."
    if left:
        caption += f" Zero or unknown, and so not drawn: {', '.join(left)}."
    if far:
        caption += f" Far below: {', '.join(far)}."
    return Drawing(f"{words(question).measure} against {name}", caption, axes.svg(marks))


def _crowded(
    arm: ArmFigures, arms: Sequence[ArmFigures], across: dict[str, float], axes: Axes
) -> bool | None:
    """Tell whether the room left of an arm's dot is freer than the right; None for either."""
    own = axes.at(across[arm.name], arm.right_of_all.value)
    near = []
    for other in arms:
        x, y = axes.at(across[other.name], other.right_of_all.value)
        if other is not arm and abs(x - own[0]) < _NEAR and abs(y - own[1]) < 2 * _NEAR:
            near.append(x - own[0])
    if not near:
        return None
    return min(near, key=abs) >= 0


def _colour(name: str, question: Question) -> str:
    if name == question.candidate:
        return "accent"
    return "warn" if name == question.baseline else "muted"


def forest(pairs: Sequence[Versus], question: Question) -> Drawing:
    """Draw each contender's difference from the baseline, with the margin.

    The candidate is always on the scale; of the others, who is far off it has an arrow at its edge.
    """
    rows = [(pair.name, (pair.answered or pair.strict).difference) for pair in pairs]
    scale = _difference_scale(rows, question)
    pieces = [
        piece
        for index, (name, found) in enumerate(rows)
        for piece in _forest_row(index, name, found, scale, question)
    ]
    below = _FOREST_STEP * len(rows) + 16
    pieces += [
        f'<text x="{_across(scale, value):.1f}" y="{below}" text-anchor="middle">'
        f"{_signed(value)}</text>"
        for value in scale.ticks()
    ]
    caption = (
        f"Points of difference from {question.baseline}, with 95% intervals. The dashed line is "
        f"the margin, {-100 * question.margin:g} points."
    )
    if any(not scale.low <= found.value <= scale.high for _, found in rows):
        caption += " An arrow points to what lies off the scale."
    return Drawing("Differences from the baseline", caption, svg(WIDTH, below + 8, pieces))


def _difference_scale(rows: Sequence[tuple[str, Estimate]], question: Question) -> Scale:
    own = max((abs(found.value) for name, found in rows if name == question.candidate), default=0)
    near = [found for _, found in rows if abs(found.value) <= max(own, _FAR_BELOW / 2)]
    ends = [end for f in near for end in (f.low, f.value, f.high) if end is not None]
    return linear("", [*ends, -2 * question.margin, question.margin], percent)


def _across(scale: Scale, value: float) -> float:
    return _FOREST_LEFT + scale.place(value) * (WIDTH - 2 * _FOREST_LEFT)


def _forest_row(
    index: int, name: str, found: Estimate, scale: Scale, question: Question
) -> Iterator[str]:
    """Yield a row: a name and a number, and under them a band with the interval."""
    top, colour = _FOREST_STEP * index, _colour(name, question)
    band, middle, bottom = top + 18, top + 28, top + 38
    number = f"{100 * found.value:+.2f}" if found.n else "–"
    room = WIDTH - 2 * _FOREST_LEFT - 56
    yield f'<text class="ink" x="{_FOREST_LEFT}" y="{top + 12}">{escape(fitted(name, room))}</text>'
    yield (
        f'<text class="ink" x="{WIDTH - _FOREST_LEFT}" y="{top + 12}" text-anchor="end">'
        f"{number}</text>"
    )
    yield f'<rect x="0" y="{band}" width="{WIDTH}" height="20" rx="3" fill="var(--sunken)"/>'
    yield _upright(_across(scale, 0.0), band, bottom, "muted", dashed=False)
    yield _upright(_across(scale, -question.margin), band, bottom, "warn", dashed=True)
    if not found.n:
        return
    at = _across(scale, found.value)
    if not scale.low <= found.value <= scale.high:
        tip = -7 if found.value < scale.low else 7
        yield (
            f'<path d="M{at + tip:.1f},{middle} L{at:.1f},{middle - 5} L{at:.1f},{middle + 5} Z" '
            f'fill="var(--{colour})"/>'
        )
        return
    if found.low is not None and found.high is not None:
        yield (
            f'<line x1="{_across(scale, found.low):.1f}" x2="{_across(scale, found.high):.1f}" '
            f'y1="{middle}" y2="{middle}" stroke="var(--{colour})" stroke-width="3"/>'
        )
    yield f'<circle cx="{at:.1f}" cy="{middle}" r="4" fill="var(--{colour})"/>'


def _signed(value: float) -> str:
    return f"{100 * value:+.3g}" if round(value, 9) else "0"


def _upright(x: float, top: float, bottom: float, colour: str, *, dashed: bool) -> str:
    dashes = ' stroke-dasharray="4 3"' if dashed else ""
    return (
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}" '
        f'stroke="var(--{colour})" stroke-width="1.5"{dashes}/>'
    )


def reliability(found: Calibration, name: str) -> Drawing:
    """Draw the share of right answers against confidence."""
    axes = Axes(Scale("confidence", 0, 1, reads=percent), Scale("right", 0, 1, reads=percent))
    marks = [axes.line([(0, 0), (1, 1)], "muted", dashed=True)]
    for one in found.bins:
        if one.right.low is not None and one.right.high is not None:
            marks.append(axes.whisker(one.confidence, one.right.low, one.right.high, "accent"))
        radius = 2.5 + 5 * math.sqrt(one.right.n / found.n)
        marks.append(axes.dot(one.confidence, one.right.value, "accent", radius=radius))
    caption = (
        f"{name}: answers by their confidence, and how many were right, with 95% intervals. On "
        "the dashed line confidence is what it says. Larger dots are more answers."
    )
    return Drawing("Calibration", caption, axes.svg(marks))


def risk_coverage(found: Calibration, name: str, fallback: Fallback | None) -> Drawing:
    """Draw the error among the answers kept, against the share kept."""
    every = max(1, len(found.risk) // 300)
    curve = [*found.risk[::every], found.risk[-1]]
    steady = [point for point in curve if point[0] >= 0.02] or curve
    axes = Axes(
        Scale("share kept, most confident first", 0, 1, reads=percent),
        linear("error among those kept", [0.0, *(error for _, error in steady)], percent),
    )
    marks = [axes.line(steady, "accent")]
    cascade = fallback.cascade if fallback is not None else None
    if cascade is not None and cascade.error_kept.n:
        x, error = cascade.kept.value, cascade.error_kept
        if error.low is not None and error.high is not None:
            marks.append(axes.whisker(x, error.low, min(error.high, axes.y.high), "good"))
        marks += [axes.dot(x, error.value, "good"), axes.words(x, error.value, "chosen", above=14)]
    caption = (
        f"{name}: the error among its most confident answers; the first 2% of them are not drawn."
    )
    return Drawing("Risk against coverage", caption, axes.svg(marks))


def frontier(fallback: Fallback, baseline: ArmFigures) -> Drawing:
    """Draw what the cascade gets right against the share that the candidate answers."""
    points = [(point.kept, point.right) for point in fallback.frontier]
    base = baseline.right_of_all.value
    axes = Axes(
        Scale("share that the candidate answers", 0, 1, reads=percent),
        linear("right, of all", [base, *(right for _, right in points)], percent),
    )
    marks = [axes.line([(0, base), (1, base)], "warn", dashed=True), axes.line(points, "accent")]
    cascade = fallback.cascade
    if cascade is not None:
        at = cascade.kept.value, cascade.right.value
        marks += [axes.dot(*at, "good", radius=5), axes.words(*at, "chosen")]
    caption = (
        "What candidate and fallback get right together, by the share that the candidate answers, "
        "on the half of the items that did not choose. The dashed line is the baseline alone."
    )
    return Drawing("The frontier of a fallback", caption, axes.svg(marks))


def monthly_costs(
    ways: Sequence[tuple[str, str, Sequence[Part]]], volumes: Sequence[float]
) -> Drawing:
    """Draw what a month costs against the number of requests; `ways` are (name, colour, parts)."""
    low, high = min(volumes) / 20, max(volumes) * 5
    grid = [low * (high / low) ** (step / 240) for step in range(241)]
    curves = [
        (name, colour, [(v, cost) for v in grid if (cost := month(parts, v)) > 0])
        for name, colour, parts in ways
    ]
    every = [cost for _, _, curve in curves for _, cost in curve]
    axes = Axes(
        Scale("requests a month", low, high, logarithmic=True, reads=count),
        logarithmic("dollars a month", every, dollar_tick),
    )
    marks = [axes.line(curve, colour) for _, colour, curve in curves if curve]
    caption = (
        "What a month costs by the number of requests, machines included. Where lines cross, it "
        "breaks even."
    )
    key = [(name, colour) for name, colour, _ in curves]
    return Drawing("Costs against volume", caption, axes.svg(marks, key))


def confusion(arm: ArmFigures, labels: Sequence[str]) -> Drawing | None:
    """Draw who is taken for whom; None with more labels than can be told apart."""
    if len(labels) > _MOST_LABELS:
        return None
    cell = max(3.0, 320 / len(labels))
    side = cell * len(labels)
    pieces = [f'<rect x="20" y="20" width="{side:.1f}" height="{side:.1f}" fill="var(--sunken)"/>']
    for row, line in enumerate(arm.confusion):
        total = sum(line) or 1
        for column, value in enumerate(line):
            if value:
                colour = "accent" if row == column else "warn"
                shade = 0.3 + 0.7 * min(1.0, value / total)
                pieces.append(
                    f'<rect x="{20 + column * cell:.2f}" y="{20 + row * cell:.2f}" '
                    f'width="{cell:.2f}" height="{cell:.2f}" fill="var(--{colour})" '
                    f'fill-opacity="{shade:.2f}"/>'
                )
    pieces.append('<text x="20" y="13">answered →</text>')
    pieces.append('<text x="13" y="20" transform="rotate(90 8 22)">gold →</text>')
    caption = (
        f"{arm.name}: rows are gold labels, columns answers, both in the order of the table of "
        "labels. Blue is right, orange is wrong; a stronger shade is a larger share of the row."
    )
    return Drawing("Confusion", caption, svg(side + 40, side + 30, pieces))
