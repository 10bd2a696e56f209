"""The comparison as a check of CI: exit codes and JUnit."""

import xml.etree.ElementTree as ET
from collections.abc import Collection
from pathlib import Path

import pytest

from benchmarks.comparison import made_up_run
from hone.comparison.gate import REPLACEMENTS, checks, exit_code, junit
from hone.comparison.judgement import Judgement
from hone.comparison.judging import judge
from hone.comparison.verdict import Word


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("made-up")
    made_up_run.make_run(made, 900)
    return made


def judged(folder: Path, **changed: object) -> Judgement:
    return judge(folder, made_up_run.question(**changed))


def failures(found: Judgement, *, accepted: Collection[Word] = REPLACEMENTS) -> list[str]:
    """Return the names of the test cases that failed, by the XML."""
    suite = ET.fromstring(junit(found, accepted=accepted))
    names = [
        case.get("name", "") for case in suite.iter("testcase") if case.find("failure") is not None
    ]
    assert suite.get("failures") == str(len(names))
    return names


def test_a_replacement_with_fallback_passes_by_its_cascade(folder: Path) -> None:
    changes = {"baseline": "large prompt", "margin": 0.01, "max_error": 0.03}
    found = judged(folder, **changes)
    assert found.verdict.word == "REPLACE WITH FALLBACK"
    assert exit_code(found) == 0
    assert failures(found) == []
    states = {check.name: (check.state, check.said) for check in checks(found)}
    state, said = states["non-inferior where both answered"]
    assert state == "skipped"
    assert said.startswith("does not hold, nor need to: the lower bound is")
    cascade = [name for name in states if name.startswith("fallback")]
    assert len(cascade) == 5
    assert {states[name][0] for name in cascade} == {"passed"}


def test_a_replacement_passes(folder: Path) -> None:
    found = judged(folder)
    assert found.verdict.word == "REPLACE"
    assert exit_code(found) == 0
    suite = ET.fromstring(junit(found))
    assert suite.get("failures") == "0"
    assert len(suite.findall("testsuite/testcase")) == int(suite.get("tests", "0")) == 10


def test_keeping_the_prompt_fails_and_says_where(folder: Path) -> None:
    found = judged(folder, candidate="embedded base")
    assert found.verdict.word == "KEEP THE PROMPT"
    assert exit_code(found) == 4  # not 1, which is any fault
    failed = failures(found)
    assert "verdict" in failed
    assert "non-inferior where both answered" in failed


def test_too_little_data_has_a_code_of_its_own(tmp_path: Path) -> None:
    made_up_run.make_run(tmp_path, 30)
    found = judged(tmp_path)
    assert found.verdict.word == "NOT ENOUGH DATA"
    assert exit_code(found) == 3


def test_what_is_unknown_is_skipped_and_not_passed(folder: Path) -> None:
    found = judged(folder, requests_per_month=None, max_error=None)
    states = {check.name: check.state for check in checks(found)}
    assert states["saving"] == "skipped"
    assert states["fallback holds its bound"] == "skipped"


def test_a_gate_may_accept_less(folder: Path) -> None:
    found = judged(folder)
    only: list[Word] = ["REPLACE WITH FALLBACK"]
    assert exit_code(found, accepted=only) == 4
    assert failures(found, accepted=only) == ["verdict"]
    assert next(iter(checks(found, accepted=()))).state == "failed"


def test_a_title_that_xml_cannot_hold_is_mended(folder: Path) -> None:
    found = judged(folder, title="a\x00b\uffff<&>")
    case = next(ET.fromstring(junit(found)).iter("testcase"))
    assert case.get("classname") == "a\ufffdb\ufffd<&>"
