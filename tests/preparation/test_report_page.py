"""`report.json` and `report.html`."""

import hashlib
import json
from html.parser import HTMLParser
from pathlib import Path

import hone
from hone.training.preparation.page import page
from tests.preparation.running import plain_rows, run, write_lines

SCRIPT = "<script>alert('x')</script>"
VOID = {"meta", "br", "link", "img", "input"}


class Balanced(HTMLParser):
    """Fails on tags that do not close in order; collects tags and attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def parsed(html: str) -> Balanced:
    parser = Balanced()
    parser.feed(html)
    parser.close()
    assert parser.open == []
    return parser


def hostile_file(tmp_path: Path) -> Path:
    labels = (f"{SCRIPT}'\"&", "plain")
    rows = [{"text": f'{SCRIPT} " onload="x {n}', "label": labels[n % 2]} for n in range(40)]
    rows += [dict(rows[0]), {"text": rows[1]["text"], "label": labels[0]}]
    rows += [{"text": "", "label": SCRIPT}]
    return write_lines(tmp_path / "<b>rows.jsonl", rows)


def test_everything_from_the_data_is_escaped(tmp_path: Path) -> None:
    outcome = run(hostile_file(tmp_path))
    html = (outcome.report.folder / "report.html").read_text(encoding="utf-8")
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    found = parsed(html)
    assert "script" not in found.tags
    assert "b" in found.tags  # the tiles' own; the file name's is text
    assert not any(name.startswith("on") for name in found.attributes)


def test_the_page_needs_no_network_and_no_script(tmp_path: Path) -> None:
    outcome = run(write_lines(tmp_path / "rows.jsonl", plain_rows(60)))
    html = (outcome.report.folder / "report.html").read_text(encoding="utf-8")
    found = parsed(html)
    assert not found.tags & {"script", "link", "img", "iframe", "object"}
    assert not found.attributes & {"src", "href"}
    assert "http:" not in html
    assert "https:" not in html
    assert "url(" not in html
    assert "prefers-color-scheme: dark" in html
    assert "default-src 'none'" in html


def test_the_page_shows_every_class_and_what_was_found(tmp_path: Path) -> None:
    labels = [f"class_{n}" for n in range(30)]
    rows = [*plain_rows(300, labels), plain_rows(1, labels)[0]]
    outcome = run(write_lines(tmp_path / "rows.jsonl", rows), max_tokens=3)
    html = (outcome.report.folder / "report.html").read_text(encoding="utf-8")
    for label in labels:
        assert f'title="{label}: train 8, validation 1, test 1"' in html
    assert "1 row repeats an earlier one" in html
    assert "300 texts longer" in html


def test_a_waiting_report_says_so(tmp_path: Path) -> None:
    rows = [*plain_rows(60), plain_rows(1)[0]]
    report = run(write_lines(tmp_path / "rows.jsonl", rows), answer=None).report
    assert "--yes" in page(report)
    assert "not mended" in page(report)
    assert report.as_json()["status"] == "waiting for a yes"


def test_the_json_report_says_how_the_files_came_about(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    lines = [f"text {n},{'ab'[n % 2]}" for n in range(50)]
    path.write_bytes(
        "\n".join(["Text,Label", *lines, "text 0,a", "x,y,z", ",a"]).encode("utf-8-sig")
    )
    outcome = run(path, seed=7)
    report = json.loads((outcome.report.folder / "report.json").read_bytes())
    assert report == json.loads(json.dumps(outcome.report.as_json()))
    assert report["kind"] == "hone-preparation"
    assert report["format_version"] == 1
    assert report["hone_version"] == hone.__version__
    assert report["seed"] == 7
    assert report["form"] == "text/label"
    assert report["columns"] == ["Text", "Label"]
    assert report["options"]["min_per_class"] == 5
    assert report["sources"] == [
        {
            "role": "file",
            "name": "rows.csv",
            "bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "format": "csv",
            "line_means": "line",
            "encoding": "utf-8-sig",
            "sheet": None,
            "rows": 53,
            "kept": 50,
        }
    ]
    dropped = {"duplicate": 1, "unreadable": 1, "missing_text": 1}
    assert report["counts"] == {"read": 53, "dropped": dropped, "kept": 50}
    for label in report["labels"]:
        assert label["total"] == 25
        assert label["train"] + label["validation"] + label["test"] == 25
    for name, split in report["splits"].items():
        content = (outcome.report.folder / f"{name}.jsonl").read_bytes()
        assert split == {
            "rows": len(content.splitlines()),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
    codes = [(p["code"], p["severity"], p["mended"]) for p in report["problems"]]
    assert codes == [
        ("byte_order_mark", "necessary", True),
        ("unreadable", "necessary", True),
        ("missing_text", "necessary", True),
        ("duplicates", "recommended", True),
        ("few_rows", "advice", False),
    ]


def test_two_runs_write_the_same_bytes(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "rows.jsonl", plain_rows(100))
    first, second = (run(path, out=tmp_path / name).report.folder for name in ("one", "two"))
    for file in first.iterdir():
        assert file.read_bytes() == (second / file.name).read_bytes()
