"""A comparison as a check of CI: an exit code, and JUnit's XML, which CI systems show.

The checks are those that the verdict rests on, one test case each, so that a failed build says
which of them it failed.
"""

import xml.etree.ElementTree as ET
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Literal

from hone.comparison.figures import Reading
from hone.comparison.judgement import Judgement
from hone.comparison.verdict import Word, worth_it
from hone.comparison.wording import dollars, points
from hone.models.page import visible

REPLACEMENTS: tuple[Word, ...] = ("REPLACE", "REPLACE WITH FALLBACK")
PASSED, FAILED, UNDECIDED = 0, 1, 3
"""Exit codes; 2 is left to wrong usage."""

State = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True, slots=True)
class Check:
    """One test case: whether it passed, and a sentence with its numbers."""

    name: str
    state: State
    said: str


def exit_code(judgement: Judgement, *, accepted: Collection[Word] = REPLACEMENTS) -> int:
    """Return 0 for an accepted verdict, 3 where the data do not decide, and 1 otherwise."""
    word = judgement.verdict.word
    if word in accepted:
        return PASSED
    return UNDECIDED if word == "NOT ENOUGH DATA" else FAILED


def checks(judgement: Judgement, *, accepted: Collection[Word] = REPLACEMENTS) -> Iterator[Check]:
    """Yield the verdict and what it rests on."""
    verdict, pair = judgement.verdict, judgement.pair
    said = f"{verdict.word}: {verdict.sentence}"
    yield Check("verdict", "passed" if verdict.word in accepted else "failed", said)
    yield _noninferior("non-inferior where both answered", pair.answered)
    yield _noninferior("non-inferior counting calls without an answer", pair.strict)
    yield _failed_calls(judgement)
    yield _saves(judgement)
    yield _fallback(judgement)


def _noninferior(name: str, reading: Reading | None) -> Check:
    if reading is None:
        return Check(name, "skipped", "there are no such items")
    test = reading.noninferior
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


def _saves(judgement: Judgement) -> Check:
    saving = judgement.savings[0]
    if judgement.verdict.word == "REPLACE WITH FALLBACK" and judgement.fallback_savings:
        saving = judgement.fallback_savings[0]
    if saving.saved_month is None:
        return Check("saving", "skipped", saving.unknown)
    state: State = "passed" if worth_it(saving, judgement.question) else "failed"
    return Check("saving", state, f"{dollars(saving.saved_month)} a month")


def _fallback(judgement: Judgement) -> Check:
    name, found = "fallback holds its bound", judgement.fallback
    if found is None:
        return Check(name, "skipped", "no bound was asked for")
    if found.choice.threshold is None:
        # Only a failure where the verdict needs it; a replacement without one does not.
        state: State = "skipped" if judgement.verdict.word == "REPLACE" else "failed"
        return Check(name, state, f"infeasible: {found.choice.reason}")
    return Check(
        name, "passed", f"answers with a confidence of at least {found.choice.threshold:.4g}"
    )


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
