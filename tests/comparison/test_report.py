"""The report: whole, escaped, the same in three forms, and openable without a network."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from benchmarks.comparison import made_up_run
from benchmarks.comparison.made_up_run import write_run
from hone.comparison.judgement import Judgement
from hone.comparison.judging import judge
from hone.comparison.outcomes import Item, Outcome
from hone.comparison.question import Arm, Question

HOSTILE = "<script>alert(1)</script>\"'&|`[x](javascript:y)\x00\u202e"
VOID = {"meta", "br", "rect", "circle", "line", "polyline", "img", "source"}


class Parsed(HTMLParser):
    """Which elements and attributes a page has, and whether every element is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.links: list[str] = []
        self.handlers: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.links += [value or "" for name, value in attrs if name in {"href", "src", "srcset"}]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("made-up")
    made_up_run.make_run(made, 900)
    return made


@pytest.fixture(scope="module")
def judgement(folder: Path) -> Judgement:
    return judge(folder, made_up_run.question())


def test_the_page_is_whole_and_needs_nothing_else(judgement: Judgement, folder: Path) -> None:
    page = (folder / "report.html").read_text()
    parsed = Parsed(page)
    assert parsed.open == []
    assert not parsed.elements & {"script", "link", "iframe", "object", "img"}
    assert parsed.links == []
    assert "default-src 'none'" in page
    assert parsed.text.index(judgement.verdict.word) < parsed.text.index(
        "What the verdict rests on"
    )


def test_every_drawing_and_section_is_there(judgement: Judgement, folder: Path) -> None:
    page = (folder / "report.html").read_text()
    for alt in (
        "Accuracy against dollars for 1,000 requests",
        "Accuracy against median delay",
        "Differences from the baseline",
        "Costs against volume",
        "The frontier of a fallback",
        "Calibration",
        "Risk against coverage",
        "Confusion",
    ):
        assert f'aria-label="{alt}"' in page
    assert f"mends {len(judgement.mended)} items" in page


def test_drawings_keep_to_their_frame(folder: Path, judgement: Judgement) -> None:
    assert judgement.items
    for drawing in re.findall(r"<svg viewBox.*?</svg>", (folder / "report.html").read_text()):
        box = re.match(r'<svg viewBox="0 0 (\S+) (\S+)"', drawing)
        assert box is not None
        width, height = float(box[1]), float(box[2])
        for x, y in re.findall(r'c?x="(-?[\d.]+)" c?y="(-?[\d.]+)"', drawing):
            assert 0 <= float(x) <= width
            assert 0 <= float(y) <= height
        assert "nan" not in drawing
        assert "inf" not in drawing


def test_the_three_forms_say_the_same(judgement: Judgement, folder: Path) -> None:
    written = json.loads((folder / "report.json").read_bytes())
    page = Parsed((folder / "report.html").read_text()).text
    markdown = (folder / "report.md").read_text().replace("\\", "")
    assert written["verdict"]["word"] == judgement.verdict.word
    for said in (judgement.verdict.sentence, *judgement.verdict.reasons):
        assert said in page
        assert said in markdown
    accuracy = f"{100 * written['arms'][1]['accuracy']['value']:.1f} %"
    assert accuracy in page
    assert accuracy in markdown


def test_the_json_has_no_number_that_json_lacks(folder: Path, judgement: Judgement) -> None:
    assert judgement.items

    def refuse(word: str) -> Any:
        raise AssertionError(word)

    written = json.loads((folder / "report.json").read_bytes(), parse_constant=refuse)
    assert written["format_version"] == 1
    assert written["savings"][1]["payback_months"] == "never"


def test_hostile_names_texts_and_labels_are_only_text(tmp_path: Path) -> None:
    baseline, candidate = f"a{HOSTILE}", f"b{HOSTILE}"
    items = [
        Item(id=f"{k}{HOSTILE}", text=HOSTILE * 3, label=f"{k % 3}{HOSTILE}") for k in range(90)
    ]
    outcomes = [
        Outcome(
            contender=name,
            item=item.id,
            kind="answered",
            label=items[(k + (k % 7 == shift)) % 90].label,
            confidence=0.9,
            seconds=0.1,
            raw=HOSTILE,
        )
        for shift, name in enumerate((baseline, candidate))
        for k, item in enumerate(items)
    ]
    question = Question(
        title=HOSTILE,
        baseline=baseline,
        candidate=candidate,
        arms={baseline: Arm(note=HOSTILE), candidate: Arm(note=HOSTILE)},
        margin=0.05,
        max_error=0.2,
    )
    record: dict[str, object] = {"notes": [HOSTILE], "versions": {HOSTILE: HOSTILE}}
    write_run(tmp_path, items, outcomes, record=record)
    judge(tmp_path, question)
    page = (tmp_path / "report.html").read_text()
    parsed = Parsed(page)
    assert not parsed.elements & {"script", "a", "img"}
    assert parsed.handlers == []
    assert parsed.open == []
    assert "\x00" not in page
    assert "<script>" in parsed.text  # shown, not obeyed
    markdown = (tmp_path / "report.md").read_text()
    assert "<script>" not in markdown
    assert not re.search(r"(?<!\\)\[x\]", markdown)
    columns = {
        len(re.findall(r"(?<!\\)\|", line))
        for line in markdown.splitlines()
        if line.startswith("|") and "Gold label" in line
    }
    assert columns <= {5, 6}


@pytest.mark.parametrize("name", ["none", "one label", "no costs"])
def test_thin_runs_have_a_report_too(tmp_path: Path, name: str) -> None:
    items = [Item(id=str(k), text="t", label="x") for k in range(2 if name == "none" else 60)]
    kind = "refused" if name == "none" else "answered"
    outcomes = [
        Outcome(contender=arm, item=item.id, kind=kind, label=None if kind == "refused" else "x")
        for arm in ("a", "b")
        for item in items
    ]
    question = Question(
        baseline="a", candidate="b", arms={"a": Arm(), "b": Arm()}, margin=0.05, max_error=0.1
    )
    write_run(tmp_path, items, outcomes, record={})
    found = judge(tmp_path, question)
    assert found.verdict.word == ("REPLACE" if name != "none" else "NOT ENOUGH DATA")
    assert Parsed((tmp_path / "report.html").read_text()).open == []
    json.loads((tmp_path / "report.json").read_bytes())
