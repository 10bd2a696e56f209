"""The report of a comparison: one document, written as HTML and Markdown, and all of it as JSON."""

import math
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import orjson
from pydantic import BaseModel

import hone
from hone.comparison import report_answers, report_contenders, report_money
from hone.comparison.judgement import Judgement
from hone.comparison.statistics import paired_difference
from hone.comparison.wording import (
    counted,
    difference,
    dollars,
    percent,
    seconds,
    share,
    spelt,
    words,
)
from hone.models.cells import Ranged
from hone.models.document import Banner, Block, Bullets, Document, Fact, Heading, Section, Tone
from hone.models.imaging.pictures import PictureFile

_TONES: dict[str, Tone] = {
    "REPLACE": "good",
    "REPLACE WITH FALLBACK": "good",
    "KEEP THE PROMPT": "bad",
    "NOT ENOUGH DATA": "neutral",
}
FORMAT_VERSION = 3


def report(judgement: Judgement) -> Document:
    """Return the report as a document."""
    question, verdict = judgement.question, judgement.verdict
    sections = [
        Section("What the verdict rests on", list(_reasons(judgement))),
        Section("The contenders", list(report_contenders.contenders(judgement))),
        Section("Beside the baseline", list(report_contenders.beside(judgement))),
        Section("Costs and savings", list(report_money.money(judgement))),
        Section("Fallback", list(report_answers.fallback(judgement))),
        Section("Confidence", list(report_answers.confidence(judgement))),
        Section("Labels", list(report_answers.labels(judgement))),
        Section("Flipped items", list(report_answers.flipped(judgement))),
        Section("Calls without an answer", list(report_contenders.without_answer(judgement))),
        Section("How it was done", list(_method(judgement))),
    ]
    groups = f" in {judgement.groups:,} groups" if judgement.groups is not None else ""
    return Document(
        title=question.title,
        lead=(
            f"May {question.candidate} replace {question.baseline}? Judged on {judgement.items:,} "
            f"items{groups}, all contenders on the same ones."
        ),
        banner=Banner(verdict.word, verdict.sentence, _TONES[verdict.word]),
        facts=list(_facts(judgement)),
        sections=[section for section in sections if section.blocks],
    )


def _facts(judgement: Judgement) -> Iterator[Fact]:
    if judgement.verdict.word == "REPLACE WITH FALLBACK":
        yield from _cascade_facts(judgement)
    else:
        yield from _alone_facts(judgement)
    yield from _money_facts(judgement)


def _alone_facts(judgement: Judgement) -> Iterator[Fact]:
    pair, measure = judgement.pair, words(judgement.question).measure
    found = (pair.answered or pair.strict).difference
    for arm in (judgement.candidate, judgement.baseline):
        yield _fact(f"{measure} of {arm.name}", share(arm.accuracy))
    yield _fact("Difference in points", difference(found), note=_margin(judgement))
    ours, theirs = judgement.candidate.latency["p50"], judgement.baseline.latency["p50"]
    if ours.n and theirs.n:
        yield Fact("Median delay", seconds(ours.value), f"baseline {seconds(theirs.value)}")


def _cascade_facts(judgement: Judgement) -> Iterator[Fact]:
    """Yield what candidate and fallback do together, on the half of the items that judges them."""
    cascade = judgement.fallback.cascade if judgement.fallback is not None else None
    if cascade is None:
        return
    right = words(judgement.question).right.capitalize()
    yield _fact(f"{right} of all, with fallback", share(cascade.right))
    yield _fact(
        f"{right} of all, {judgement.baseline.name}", share(judgement.baseline.right_of_all)
    )
    found = difference(paired_difference(cascade.answered))
    yield _fact("Difference in points", found, note=_margin(judgement))
    yield _fact(f"Kept by {judgement.candidate.name}", share(cascade.kept))


def _margin(judgement: Judgement) -> str:
    return f"margin {-100 * judgement.question.margin:g}"


def _money_facts(judgement: Judgement) -> Iterator[Fact]:
    """Yield what the replacement costs and saves: with its fallback, where that is the verdict."""
    saving = judgement.savings[0]
    if judgement.verdict.word == "REPLACE WITH FALLBACK" and judgement.fallback_savings:
        saving = judgement.fallback_savings[0]
    cost = "unknown" if saving.replacement_1000 is None else dollars(saving.replacement_1000)
    old = judgement.baseline.request_usd
    note = "baseline unknown" if old is None else f"baseline {dollars(1000 * old)}"
    yield Fact("1,000 requests, replaced", cost, note)
    if saving.saved_month is None:
        yield Fact("Saved a month", "unknown", saving.unknown)
        return
    volume = f"at {judgement.question.requests_per_month or 0:,.0f} requests"
    if saving.saved_month < 0:
        yield Fact("Costs more a month", dollars(-saving.saved_month), volume, tone="bad")
    else:
        yield Fact("Saved a month", dollars(saving.saved_month), volume)


def _fact(name: str, cell: Ranged | str, *, note: str = "") -> Fact:
    if isinstance(cell, str):
        return Fact(name, cell, note)
    return Fact(name, cell.value, f"{cell.range}; {note}" if note else cell.range)


def _reasons(judgement: Judgement) -> Iterator[Block]:
    for reasons in judgement.verdict.reasons:
        yield Heading(reasons.title)
        yield Bullets(reasons.said)
    warnings = list(_warnings(judgement))
    if warnings:
        yield Heading("The items and the run")
        yield Bullets(warnings)


def _warnings(judgement: Judgement) -> Iterator[str]:
    if judgement.question.labels_from == "model":
        yield (
            "The gold labels came from a model. All figures are of agreement with it, which is "
            "not accuracy: where it errs, a contender that errs likewise gains."
        )
    for reason, items in judgement.set_aside.items():
        stand = "stands" if len(items) == 1 else "stand"
        yield f"{counted(len(items), 'item')} {stand} in the {_where(reason)} too: left out."
    if judgement.with_set_aside is not None:
        found = spelt(difference(judgement.with_set_aside))
        yield f"With these counted as well, the difference would be {found} points."
    if not judgement.record.complete:
        yield "The run ended before every contender was asked every item."
    if judgement.absent:
        yield f"Without any outcome: {', '.join(judgement.absent)}."
    for arm in judgement.arms:
        if arm.asked < judgement.items:
            yield f"{arm.name} was asked {arm.asked:,} of the {judgement.items:,} items."
    if judgement.groups is not None and judgement.groups < 30:
        yield f"With {judgement.groups:,} groups only, all intervals are rough."
    yield from (_sentence(note) for note in judgement.record.notes if note)


def _sentence(note: str) -> str:
    return f"{note[0].upper()}{note[1:]}{'' if note.endswith('.') else '.'}"


def _where(reason: str) -> str:
    return "prompts" if reason == "prompt" else reason


def _method(judgement: Judgement) -> Iterator[Block]:
    question, record = judgement.question, judgement.record
    level = f"{1 - question.alpha:.0%}"
    lines = [
        (
            f"Written down before the run: the baseline, the candidate, a margin of "
            f"{100 * question.margin:g} points, a one-sided level of {percent(question.alpha)}, a "
            "power of "
            f"{question.power:.0%}, the seed {question.seed}."
        ),
        (
            "Shares have Wilson's interval, or Clopper and Pearson's with fewer than 200 items or "
            "fewer than 20 of either kind; differences of shares have Tango's score interval; "
            "macro F1 a BCa bootstrap over items, widened for small samples; delays the order "
            "statistics around the "
            f"quantile. All at 95%, but for the one-sided {level} bounds of the verdict."
        ),
        (
            "The test of non-inferiority is the score test that belongs to Tango's interval. The "
            "verdict's test concerns the one candidate named beforehand; p-values in the table are "
            "adjusted for all contenders by Holm's method."
        ),
        (
            "A call that failed, a refusal and an answer that names no label are no answers. They "
            "are left out of the first reading and count as not "
            f"{words(question).right} in the second; a replacement has to pass both."
        ),
    ]
    if judgement.groups is not None or any(arm.repeats > 1 for arm in judgement.arms):
        lines.append(
            "Groups and repeats change the effective number of items: intervals and tests use the "
            "variance between groups, or between items, over that of independent single answers."
        )
    if record.price_date or record.price_source:
        source = f" from {record.price_source}" if record.price_source else ""
        lines.append(f"Prices of {record.price_date or 'an unknown date'}{source}.")
    times = " to ".join(time for time in (record.started, record.finished) if time)
    versions = ", ".join(f"{name} {version}" for name, version in record.versions.items())
    lines.append(
        f"The run lasted from {times or 'an unknown time'}, with {versions or 'unknown versions'}; "
        "answers that it found on disk are older."
    )
    lines.append(f"Judged with hone {hone.__version__}.")
    yield Bullets(lines)


def report_json(judgement: Judgement) -> bytes:
    """Return the judgement as JSON: what is unknown is null, and an infinite figure "never"."""
    content = {"format_version": FORMAT_VERSION, "hone": hone.__version__, **_plain(judgement)}
    return orjson.dumps(content, option=orjson.OPT_INDENT_2) + b"\n"


def _plain(value: Any) -> Any:  # noqa: ANN401 - any part of a judgement, any JSON
    if isinstance(value, PictureFile):  # where it lies on this machine is nobody else's business
        return value.written or value.name
    if isinstance(value, BaseModel):
        value = value.model_dump()
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float | np.floating):
        number = float(value)
        return number if math.isfinite(number) else ("never" if number > 0 else None)
    return value
