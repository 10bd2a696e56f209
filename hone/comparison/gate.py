"""A comparison as a check of CI: an exit code, and JUnit's XML, which CI systems show.

The checks are those that the verdict rests on, one test case each, so that a failed build says
which of them it failed. There is a failure among them exactly if the exit code is not 0.
"""

import xml.etree.ElementTree as ET
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from hone.comparison.economics import Saving
from hone.comparison.figures import Reading
from hone.comparison.judgement import Judgement
from hone.comparison.statistics import NonInferiority
from hone.comparison.verdict import Word, worth_it
from hone.comparison.wording import dollars, points
from hone.models.page import visible

REPLACEMENTS: tuple[Word, ...] = ("REPLACE", "REPLACE WITH FALLBACK")
PASSED, UNDECIDED, NOT_ACCEPTED = 0, 3, 4
"""Exit codes of verdicts. 1 is left to faults and 2 to wrong usage, as in all of the command line,
and so to whatever else ends a process: no verdict can be mistaken for one."""

State = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True, slots=True)
class Check:
    """One test case: whether it passed, and a sentence with its numbers."""

    name: str
    state: State
    said: str


def exit_code(judgement: Judgement, *, accepted: Collection[Word] = REPLACEMENTS) -> int:
    """Return 0 for an accepted verdict, 3 where the data do not decide, and 4 otherwise."""
    word = judgement.verdict.word
    if word in accepted:
        return PASSED
    return UNDECIDED if word == "NOT ENOUGH DATA" else NOT_ACCEPTED


def checks(judgement: Judgement, *, accepted: Collection[Word] = REPLACEMENTS) -> Iterator[Check]:
    """Yield the verdict and what it rests on.

    What an accepted verdict did not need is skipped where it does not hold: the candidate alone
    beside its fallback, or a fallback beside a candidate that will do.
    """
    verdict, pair = judgement.verdict, judgement.pair
    said = f"{verdict.word}: {verdict.sentence}"
    yield Check("verdict", "passed" if verdict.word in accepted else "failed", said)
    for check in (
        _answered(pair.answered),
        _noninferior("non-inferior counting calls without an answer", pair.strict.noninferior),
        _failed_calls(judgement),
        _saves("saving", judgement.savings, judgement),
        *_fallback(judgement),
    ):
        if check.state == "failed" and verdict.word in accepted:
            yield replace(check, state="skipped", said=f"does not hold, nor need to: {check.said}")
        else:
            yield check


def _answered(reading: Reading | None) -> Check:
    name = "non-inferior where both answered"
    if reading is None:
        return Check(name, "skipped", "there are no such items")
    return _noninferior(name, reading.noninferior)


def _noninferior(name: str, test: NonInferiority) -> Check:
    said = f"the lower bound is {points(test.lower)}, the margin {points(-test.margin)}"
    return Check(name, "passed" if test.shown else "failed", said)


def _failed_calls(judgement: Judgement) -> Check:
    most = judgement.question.most_failed
    shares = {
        arm.name: arm.kinds.get("failed", 0) / max(sum(arm.kinds.values()), 1)
        for arm in (judgement.baseline, judgement.candidate)
    }
    said = ", ".join(f"{name}: {share:.1%}" for name, share in shares.items())
    state: State = "passed" if max(shares.values()) <= most else "failed"
    return Check("calls that failed", state, f"{said}; at most {most:.1%} may")


def _saves(name: str, savings: Sequence[Saving], judgement: Judgement) -> Check:
    if not savings:
        return Check(name, "skipped", "there is no such replacement")
    saving = savings[0]
    if saving.saved_month is None:
        return Check(name, "skipped", saving.unknown)
    state: State = "passed" if worth_it(saving, judgement.question) else "failed"
    return Check(name, state, f"{dollars(saving.saved_month)} a month")


def _fallback(judgement: Judgement) -> Iterator[Check]:
    """Yield whether the fallback holds its bound, and what its cascade comes to."""
    name, found = "fallback holds its bound", judgement.fallback
    if found is None:
        yield Check(name, "skipped", "no bound was asked for")
        return
    threshold, cascade = found.choice.threshold, found.cascade
    if threshold is None or cascade is None:
        yield Check(name, "failed", f"infeasible: {found.choice.reason}")
        return
    yield Check(name, "passed", f"answers with a confidence of at least {threshold:.4g}")
    least, kept = judgement.question.least_kept, cascade.kept.value
    yield Check(
        "fallback keeps enough",
        "passed" if kept >= least else "failed",
        f"{kept:.1%} of the requests; at least {least:.1%} should be",
    )
    start = "fallback: the cascade is non-inferior"
    yield _noninferior(f"{start} where both answered", cascade.noninferior)
    yield _noninferior(f"{start} counting calls without an answer", cascade.noninferior_strict)
    yield _saves("fallback: saving", judgement.fallback_savings, judgement)


def junit(judgement: Judgement, *, accepted: Collection[Word] = REPLACEMENTS) -> bytes:
    """Return the checks as JUnit XML."""
    found = list(checks(judgement, accepted=accepted))
    counts = {
        "tests": str(len(found)),
        "failures": str(sum(check.state == "failed" for check in found)),
        "skipped": str(sum(check.state == "skipped" for check in found)),
        "errors": "0",
    }
    suites = ET.Element("testsuites", counts)
    suite = ET.SubElement(suites, "testsuite", {"name": "hone compare", **counts})
    for check in found:
        title = _text(judgement.question.title)
        case = ET.SubElement(suite, "testcase", {"classname": title, "name": check.name})
        said = _text(check.said)
        if check.state == "failed":
            ET.SubElement(case, "failure", {"message": said}).text = said
        elif check.state == "skipped":
            ET.SubElement(case, "skipped", {"message": said})
        else:
            ET.SubElement(case, "system-out").text = said
    ET.indent(suites)
    written: bytes = ET.tostring(suites, encoding="utf-8", xml_declaration=True)
    return written + b"\n"


def _text(text: str) -> str:
    """Return a text without what XML 1.0 cannot hold."""
    return visible(text).translate({0xFFFE: 0xFFFD, 0xFFFF: 0xFFFD})
