"""The comparison as a check of CI: exit codes and JUnit."""

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from benchmarks.comparison import made_up_run
from hone.comparison.gate import checks, exit_code, junit
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


def test_a_replacement_passes(folder: Path) -> None:
    found = judged(folder)
    assert found.verdict.word == "REPLACE"
    assert exit_code(found) == 0
    suite = ET.fromstring(junit(found))
    assert suite.get("failures") == "0"
    assert len(suite.findall("testsuite/testcase")) == int(suite.get("tests", "0")) == 6


def test_keeping_the_prompt_fails_and_says_where(folder: Path) -> None:
    found = judged(folder, candidate="embedded base")
    assert found.verdict.word == "KEEP THE PROMPT"
    assert exit_code(found) == 1
    failed = [
        case.get("name")
        for case in ET.fromstring(junit(found)).iter("testcase")
        if case.find("failure") is not None
    ]
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
    assert exit_code(found, accepted=only) == 1
    assert next(iter(checks(found, accepted=()))).state == "failed"


def test_a_title_that_xml_cannot_hold_is_mended(folder: Path) -> None:
    found = judged(folder, title="a\x00b\uffff<&>")
    case = next(ET.fromstring(junit(found)).iter("testcase"))
    assert case.get("classname") == "a\ufffdb\ufffd<&>"
