"""The report: whole, escaped, the same in three forms, and openable without a network."""

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from benchmarks.comparison import made_up_run
from benchmarks.comparison.made_up_run import write_run
from hone.comparison import drawings
from hone.comparison.axes import fitted
from hone.comparison.judgement import Judgement
from hone.comparison.judging import judge, weigh
from hone.comparison.monthly import HOURS_A_MONTH
from hone.comparison.outcomes import Item, Outcome
from hone.comparison.prices import Price
from hone.comparison.question import Arm, ArmCosts, Question, Serving
from hone.comparison.report import report
from hone.comparison.run_folder import read_run
from hone.comparison.wording import dollars
from hone.models.cells import inline
from hone.models.prompting.usage import Usage

HOSTILE = "<script>alert(1)</script>\"'&|`[x](javascript:y)\x00\u202e"
ASKED = made_up_run.question()
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
    reasons = [said for each in judgement.verdict.reasons for said in (each.title, *each.said)]
    for said in (judgement.verdict.sentence, *reasons):
        assert said in page
        assert said in markdown
    accuracy = f"{100 * written['arms'][1]['accuracy']['value']:.1f}%"
    assert accuracy in page
    assert accuracy in markdown


def test_the_json_has_no_number_that_json_lacks(folder: Path, judgement: Judgement) -> None:
    assert judgement.items

    def refuse(word: str) -> Any:
        raise AssertionError(word)

    written = json.loads((folder / "report.json").read_bytes(), parse_constant=refuse)
    assert written["format_version"] == 3
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
    for place, kind in ((0, "failed"), (1, "unparsable"), (2, "refused")):
        told = {"kind": kind, "label": None, "confidence": None, "error": HOSTILE}
        outcomes[place] = outcomes[place].model_copy(update=told)
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


def test_one_cost_of_a_request_stands_everywhere(folder: Path) -> None:
    for volume in (20_000.0, 400_000.0):
        found = weigh(read_run(folder, ASKED), made_up_run.question(requests_per_month=volume))
        machine = 0.04 * HOURS_A_MONTH
        cost = 1000 * machine / volume
        assert found.candidate.request_usd == pytest.approx(cost / 1000)
        page, markdown = report(found).html(), report(found).markdown()
        shown = dollars(cost)
        (tile,) = re.findall(r"1,000 requests, replaced</dt><dd[^>]*>([^<]+)<", page)
        with_shadow = found.savings[0].replacement_1000
        assert with_shadow is not None
        assert tile == dollars(with_shadow)
        rows = [r for r in markdown.splitlines() if "fine-tuned" in r and inline(shown) in r]
        rows = [row for row in rows if row.startswith("|")]
        assert len(rows) == 2  # of contenders, and of costs
        assert f"cost {inline(dollars(with_shadow))} in place of" in markdown
        at = trade_place(page, shown_usd=cost)
        assert at == pytest.approx(cost, rel=0.02)


def trade_place(page: str, *, shown_usd: float) -> float:
    """Return the dollars at which the candidate's dot is drawn, read off the drawing's ticks."""
    drawing = page[page.index("Accuracy against dollars for 1,000 requests") :]
    drawing = drawing[: drawing.index("</svg>")]
    (dot,) = re.findall(r'<circle cx="([\d.]+)" cy="[\d.]+" r="4" fill="var\(--accent', drawing)
    ticks = re.findall(r'x="([\d.]+)" y="[\d.]+" text-anchor="middle">\$([\d.]+)</text>', drawing)
    assert len(ticks) >= 2, shown_usd
    (x0, v0), (x1, v1) = [(float(x), math.log(float(v))) for x, v in (ticks[0], ticks[-1])]
    return math.exp(v0 + (float(dot) - x0) * (v1 - v0) / (x1 - x0))


def test_a_loss_is_called_a_loss(folder: Path) -> None:
    asked = made_up_run.question(requests_per_month=20_000, must_save=False)
    found = weigh(read_run(folder, asked), asked)
    page = report(found).html()
    saved = found.savings[0].saved_month
    assert saved is not None
    assert saved < 0
    tile = f'Costs more a month</dt><dd class="value bad">{dollars(-saved)}</dd>'
    assert tile in page
    assert f"costs {dollars(-saved)} more a month" in found.verdict.sentence
    assert "<dt>Saved a month" not in page


def test_where_nothing_was_paid_once_nothing_is_paid_back(folder: Path) -> None:
    arms = dict(ASKED.arms)
    arms["fine-tuned"] = Arm(costs=ArmCosts(serving=Serving(usd_per_hour=0.04)))
    asked = made_up_run.question(arms=arms)
    found = weigh(read_run(folder, asked), asked)
    text = report(found).markdown().replace("\\", "")
    assert "Paid back after" not in text
    assert "0.0 months" not in text
    assert "one-off costs" not in text
    assert "Nothing was paid once, as far as was said" in text
    assert {saving.payback_months for saving in found.savings} == {None}
    paid = report(weigh(read_run(folder, ASKED), ASKED)).markdown()
    assert "Paid back after" in paid
    assert "Nothing was paid once" not in paid


def test_a_threshold_that_keeps_all_has_no_second_table_of_savings(folder: Path) -> None:
    heading = "What a replacement with fallback saves"
    for bound, kept_all in ((0.5, True), (0.03, False)):
        asked = made_up_run.question(max_error=bound)
        found = weigh(read_run(folder, asked), asked)
        assert found.fallback is not None
        assert found.fallback.cascade is not None
        assert (found.fallback.cascade.kept.value == 1) == kept_all
        text = report(found).markdown()
        section = text[text.index(heading) : text.index("Costs against volume")]
        assert ("keeps all answers" in section) == kept_all
        assert ("| If |" in section) != kept_all


def test_one_of_a_thing_is_not_several(tmp_path: Path) -> None:
    items = [Item(id=str(k), text="t", label="x" if k else "y") for k in range(60)]
    usage = Usage(prompt_tokens=10, completion_tokens=1, counting="measured")
    outcomes = [
        Outcome(
            contender=name,
            item=item.id,
            kind="answered",
            label=item.label if name == "a" else "x",
            usage=usage if item.id != "7" else Usage(),
            spent=usage if item.id != "7" else Usage(),
        )
        for name in ("a", "b")
        for item in items
    ]
    price = Price(1e-5, 1e-5)
    arms = {name: Arm(costs=ArmCosts(price_name="p", price=price)) for name in ("a", "b")}
    asked = Question(baseline="a", candidate="b", arms=arms, margin=0.05)
    write_run(tmp_path, items, outcomes, record={})
    text = report(weigh(read_run(tmp_path, asked), asked)).markdown().replace("\\", "")
    assert "1 call of b reported no tokens. It is in no sum" in text
    assert "What b broke: 1 item (a is right)" in text
    assert "b mends 0 items" in text


def test_the_area_of_risk_and_coverage_does_not_hang_on_the_order_of_equals(
    tmp_path: Path,
) -> None:
    """Forty sure and right, twenty of one confidence of which half err, in two orders."""
    areas = set()
    for wrong_first in (True, False):
        outcomes, items = [], [Item(id=str(k), text="t", label="x") for k in range(60)]
        for k, item in enumerate(items):
            errs = 40 <= k < 50 if wrong_first else k >= 50
            label = "y" if errs else "x"
            for name in ("a", "b"):
                outcomes.append(
                    Outcome(
                        contender=name,
                        item=item.id,
                        kind="answered",
                        label=label,
                        confidence=0.9 if k < 40 else 0.5,
                    )
                )
        folder = tmp_path / str(wrong_first)
        folder.mkdir()
        write_run(folder, items, outcomes, record={})
        asked = Question(baseline="a", candidate="b", arms={"a": Arm(), "b": Arm()}, margin=0.05)
        found = weigh(read_run(folder, asked), asked).candidate.calibration
        assert found is not None
        areas.add(round(found.area, 12))
    # Of the 40 sure ones none errs; of the k-th beyond, half of k in 40 + k on average.
    expected = sum(k / 2 / (40 + k) for k in range(1, 21)) / 60
    assert areas == {round(expected, 12)}


def test_who_has_no_price_is_told_which_setting_gives_one(folder: Path) -> None:
    arms = dict(ASKED.arms)
    arms["fine-tuned"] = Arm()
    arms["embedded base"] = Arm(costs=ArmCosts(serving=Serving(usd_per_hour=1)))
    arms["majority class"] = Arm()
    asked = made_up_run.question(arms=arms)
    text = report(weigh(read_run(folder, asked), asked)).markdown().replace("\\", "")
    assert "fine-tuned: no price was given. serving_usd_per_hour in [costs] gives" in text
    own = "the [contenders.costs] of majority class"
    assert f"majority class: no price was given. serving_usd_per_hour in {own} gives" in text
    assert "retrieved examples: the price of not-in-the-table is unknown. costs.prices" in text


@pytest.mark.parametrize("candidate", ["embedded base", "majority class", "large prompt"])
def test_the_candidate_is_always_on_the_scale_and_no_line_runs_through_a_name(
    folder: Path, candidate: str
) -> None:
    asked = made_up_run.question(candidate=candidate)
    found = weigh(read_run(folder, asked), asked)
    drawing = drawings.forest(found.pairs, asked).svg
    assert '"var(--accent)"' in drawing
    assert not re.findall(r'<path [^>]*fill="var\(--accent\)"', drawing)  # an arrow
    assert len(re.findall(r'<circle [^>]*fill="var\(--accent\)"', drawing)) == 1
    names = [float(y) for y in re.findall(r'<text class="ink" x="14" y="([\d.]+)"', drawing)]
    uprights = re.findall(r'<line x1="([\d.]+)" x2="\1" y1="([\d.]+)" y2="([\d.]+)"', drawing)
    assert len(names) == len(found.pairs)
    assert len(uprights) == 2 * len(names)
    for _, top, bottom in uprights:
        assert not [y for y in names if y - 10 < float(bottom) and y + 4 > float(top)]


def test_long_names_are_cut_to_the_room_there_is() -> None:
    assert fitted("short", 100) == "short"
    for name in ("m" * 90, "i" * 90, "語" * 90):
        cut = fitted(name, 200)
        assert cut.endswith("…")
        assert 0 < len(cut) < 60
    assert len(fitted("語" * 90, 200)) < len(fitted("i" * 90, 200))


def test_a_row_of_many_cells_can_become_a_list_on_a_phone(folder: Path) -> None:
    page = report(weigh(read_run(folder, ASKED), ASKED)).html()
    for table in re.findall(r"<table.*?</table>", page, flags=re.DOTALL):
        head = re.findall(r"<th [^>]*>([^<]*)</th>", table)
        for row in re.findall(r"<tr><td.*?</tr>", table):
            named = re.findall(r'<td[^>]* data-label="([^"]*)"', row)
            assert named == (head if len(head) > 3 else [])


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
