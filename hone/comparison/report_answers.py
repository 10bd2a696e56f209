"""The sections of a report on the candidate's answers: fallback, confidence, labels and flips."""

from collections.abc import Iterator, Sequence

from hone.comparison import drawings
from hone.comparison.economics import replaced
from hone.comparison.fallback import Cascade, Choice, Point
from hone.comparison.figures import ClassFigures, Flip
from hone.comparison.judgement import Judgement
from hone.comparison.monthly import a_request
from hone.comparison.statistics import paired_difference
from hone.comparison.wording import (
    counted,
    difference,
    dollars,
    points,
    seconds,
    share,
    spelt,
    words,
)
from hone.models.cells import Cell, Thumbnail
from hone.models.document import (
    Block,
    Bullets,
    Drawing,
    Folded,
    Heading,
    Side,
    Table,
    Text,
    Verbatim,
)
from hone.models.imaging.thumbnails import thumbnail

_FLIPS_SHOWN = 60
_TEXT_SHOWN = 280
_CONFUSIONS_SHOWN = 15
_FRONTIER_SHOWN = 10
_LABELS_SHOWN = 200


def fallback(judgement: Judgement) -> Iterator[Block]:
    """Yield the threshold, what came of it, and the frontier."""
    found, question = judgement.fallback, judgement.question
    if found is None or question.max_error is None:
        return
    bound = f"at most {question.max_error:.1%} errors among the answers kept"
    if found.cascade is None:
        yield Text(
            f"Infeasible: no threshold was shown to hold {bound}. {_sentence(found.choice.reason)}"
        )
    else:
        yield Bullets(list(_chosen(judgement, found.choice, found.cascade, bound)))
    if judgement.verdict.word == "REPLACE WITH FALLBACK":
        yield Text(
            "With the folder of this report in the place of FOLDER, this publishes the model once "
            "more, with the threshold and the prompt; services then ask the prompt for the rest:"
        )
        yield Verbatim("hone fallback set FOLDER --promote")
    if found.frontier:
        yield Side([drawings.frontier(found, judgement.baseline)])
        yield Table(
            (
                "Confidence at least",
                "Share kept",
                "Errors among kept",
                "Right of all",
                "1,000 requests",
                "p50",
                "p95",
            ),
            [_frontier_row(point, judgement) for point in _some_points(found.frontier)],
            "rrrrrrr",
        )
        yield Text(
            "The frontier is of the half of the items that did not choose. A request that falls "
            "back "
            "takes both delays."
        )


def _sentence(reason: str) -> str:
    return f"{reason[0].upper()}{reason[1:]}." if reason else ""


def _chosen(judgement: Judgement, choice: Choice, cascade: Cascade, bound: str) -> Iterator[str]:
    question = judgement.question
    yield (
        f"Kept are answers with a confidence of at least {choice.threshold:.4g}: with a "
        "probability "
        f"of {question.confidence:.0%} that means {bound}, as long as requests are like these "
        "items."
    )
    yield (
        f"Chosen on {choice.n:,} items by Learn-then-Test: {choice.kept:,} were kept and "
        f"{choice.wrong:,.4g} of them wrong, so that the error is at most "
        f"{100 * (choice.upper or 0):.2f}%."
    )
    yield (
        f"On the other half {spelt(share(cascade.kept))} are kept, "
        f"{spelt(share(cascade.error_kept))} of them "
        f"wrong. Together with the fallback {spelt(share(cascade.right))} of all are "
        f"{words(question).right}."
    )
    yield (
        f"Against the baseline alone that is a difference of "
        f"{spelt(difference(paired_difference(cascade.answered)))} points where both answered, "
        "with a "
        "one-sided lower "
        f"bound of {points(cascade.noninferior.lower)}; of all, the bound is "
        f"{points(cascade.noninferior_strict.lower)}."
    )


def _some_points(frontier: Sequence[Point]) -> list[Point]:
    every = max(1, len(frontier) // _FRONTIER_SHOWN)
    return list(frontier[every - 1 :: every])


def _frontier_row(point: Point, judgement: Judgement) -> list[Cell]:
    cost = _frontier_cost(judgement, point.kept)
    return [
        f"{point.threshold:.4f}",
        f"{point.kept:.1%}",
        "–" if point.error_kept is None else f"{point.error_kept:.2%}",
        f"{point.right:.1%}",
        dollars(cost),
        "–" if point.p50 is None else seconds(point.p50),
        "–" if point.p95 is None else seconds(point.p95),
    ]


def _frontier_cost(judgement: Judgement, kept: float) -> float | None:
    """Return what 1,000 requests cost with that share kept, shadow calls included."""
    question = judgement.question
    costs = judgement.baseline.cost, judgement.candidate.cost
    parts = replaced(*costs, question, kept=kept)
    return None if parts is None else 1000 * a_request(parts, question.requests_per_month)


def confidence(judgement: Judgement) -> Iterator[Block]:
    """Yield how far the candidate's confidence can be trusted."""
    arm = judgement.candidate
    found = arm.calibration
    if found is None:
        yield Text(f"{arm.name} gives no confidence with its answers.")
        return
    yield Text(
        f"Of {found.n:,} answers of {arm.name}: the expected calibration error over ten bins is "
        f"{found.ece:.3f}, Brier's score {found.brier:.3f}, and the area under the curve of risk "
        "and "
        f"coverage {found.area:.4f}. No interval is given for these."
    )
    yield Side(
        [
            drawings.reliability(found, arm.name),
            drawings.risk_coverage(found, arm.name, judgement.fallback),
        ]
    )


def labels(judgement: Judgement) -> Iterator[Block]:
    """Yield the candidate's figures by label, and what it takes for what."""
    arm, baseline = judgement.candidate, judgement.baseline
    theirs = {found.label: found for found in baseline.classes}
    pictures = [drawings.confusion(each, judgement.labels) for each in (arm, baseline)]
    shown: list[Drawing] = [picture for picture in pictures if picture is not None]
    if shown:
        yield Side(shown)
    yield Heading("What is taken for what")
    yield from _confusions(judgement)
    rows = [_class_row(found, theirs[found.label]) for found in arm.classes[:_LABELS_SHOWN]]
    table = Table(
        (
            "Label",
            "Items",
            f"Recall of {arm.name}",
            "Precision",
            f"Recall of {baseline.name}",
            "Precision",
        ),
        rows,
        "lrllll",
    )
    said = f"Every label, {len(arm.classes):,} of them"
    if len(arm.classes) > len(rows):
        said += f"; the first {len(rows):,} are here, all are in report.json"
    yield Folded(said, [table])


def _class_row(ours: ClassFigures, theirs: ClassFigures) -> list[Cell]:
    return [
        ours.label,
        ours.recall.n,
        share(ours.recall),
        share(ours.precision),
        share(theirs.recall),
        share(theirs.precision),
    ]


def _confusions(judgement: Judgement) -> Iterator[Block]:
    ours, theirs = judgement.candidate.confusion, judgement.baseline.confusion
    pairs = sorted(
        (
            (ours[gold][said], theirs[gold][said], gold, said)
            for gold in range(len(ours))
            for said in range(len(ours))
            if gold != said and ours[gold][said]
        ),
        key=lambda pair: (-pair[0], pair[2:]),
    )
    if not pairs:
        yield Text("The candidate takes nothing for anything else.")
        return
    rows: list[list[Cell]] = [
        [judgement.labels[gold], judgement.labels[said], f"{count:,.4g}", f"{other:,.4g}"]
        for count, other, gold, said in pairs[:_CONFUSIONS_SHOWN]
    ]
    head = ("Gold label", "Answered", judgement.question.candidate, judgement.question.baseline)
    yield Table(head, rows, "llrr")
    if len(pairs) > len(rows):
        yield Text(f"The {len(rows)} most frequent of {len(pairs):,} such pairs of labels.")


def flipped(judgement: Judgement) -> Iterator[Block]:
    """Yield the items that candidate and baseline answer differently, one of them rightly."""
    said = words(judgement.question)
    both = (
        ("mended", judgement.mended, judgement.question.candidate),
        ("broke", judgement.broken, judgement.question.baseline),
    )
    yield Text(
        f"{judgement.question.candidate} mends {counted(len(judgement.mended), 'item')}, on which "
        f"the baseline is not {said.right}, and breaks {len(judgement.broken):,}, on which it is."
    )
    for verb, flips, right in both:
        if flips:
            summary = f"What {judgement.question.candidate} {verb}: {counted(len(flips), 'item')}"
            if len(flips) > _FLIPS_SHOWN:
                summary += f", {_FLIPS_SHOWN} of them here, all in report.json"
            if judgement.question.labels_from == "people":
                summary += f" ({right} is right)"
            yield Folded(summary, [_flip_table(flips[:_FLIPS_SHOWN], judgement)])


def _flip_table(flips: Sequence[Flip], judgement: Judgement) -> Table:
    rows: list[list[Cell]] = [
        [flip.item, _input(flip), flip.label, flip.candidate, flip.baseline] for flip in flips
    ]
    what = "Text" if all(flip.picture is None for flip in flips) else "Picture"
    head = ("Item", what, "Gold label", judgement.question.candidate, judgement.question.baseline)
    return Table(head, rows, "lllll")


def _input(flip: Flip) -> Cell:
    """Return a flip's text, or its picture made small."""
    if flip.picture is None:
        return shortened(flip.text)
    return Thumbnail(shortened(flip.text), thumbnail(flip.picture))


def shortened(text: str) -> str:
    """Return a text, or its beginning."""
    return text if len(text) <= _TEXT_SHOWN else f"{text[:_TEXT_SHOWN]}…"
