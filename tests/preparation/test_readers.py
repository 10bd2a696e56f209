"""Reading: every format gives the same rows, and hostile bytes cost no more than their line."""

import csv
import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openpyxl
import polars as pl
import pytest

from hone.models.errors import InvalidExamples, InvalidInput, NotFound
from hone.training.preparation.readers import ReadOptions, open_source
from hone.training.preparation.rows import LONGEST_LINE, BadLine, RawRow, Source

ROWS = [
    ("I lost my card, help!", "lost card"),
    ('He said "hi" and left', "other"),
    ("two\nlines", "other"),
    ("Größe 👍 卡片", "lost card"),
    ("  spaces around  ", "other"),
    ("semi;colon\tand tab", "lost card"),
]


def source_of(path: Path, **options: Any) -> Source:
    return open_source(path, ReadOptions(**options))


def pairs(source: Source) -> list[tuple[object, ...]]:
    records = list(source.records())
    assert all(isinstance(record, RawRow) for record in records), records
    return [tuple(r.fields.values())[:2] for r in records if isinstance(r, RawRow)]


def bad(source: Source) -> dict[int, str]:
    return {r.number: r.reason for r in source.records() if isinstance(r, BadLine)}


def good(source: Source) -> list[int]:
    return [r.number for r in source.records() if isinstance(r, RawRow)]


def write_bytes(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def _csv(path: Path, delimiter: str) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerows([("text", "label"), *ROWS])


def _xlsx(path: Path) -> None:
    workbook = openpyxl.Workbook()
    for row in [("text", "label"), *ROWS]:
        workbook.active.append(row)
    workbook.save(path)


def _objects() -> list[dict[str, str]]:
    return [{"text": text, "label": label} for text, label in ROWS]


WRITERS: dict[str, Callable[[Path], object]] = {
    "comma.csv": lambda path: _csv(path, ","),
    "semicolon.csv": lambda path: _csv(path, ";"),
    "bar.csv": lambda path: _csv(path, "|"),
    "tab.csv": lambda path: _csv(path, "\t"),
    "plain.tsv": lambda path: _csv(path, "\t"),
    "sheet.xlsx": _xlsx,
    "list.json": lambda path: path.write_text(json.dumps(_objects())),
    "pretty.json": lambda path: path.write_text(json.dumps(_objects(), indent=2)),
    "lines.jsonl": lambda path: path.write_text("\n".join(map(json.dumps, _objects()))),
    "lines.json": lambda path: path.write_text("\r\n\r\n".join(map(json.dumps, _objects()))),
    "list.jsonl": lambda path: path.write_text(json.dumps(_objects())),
    "table.parquet": lambda path: pl.DataFrame(_objects()).write_parquet(path),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    WRITERS[name](path)
    assert pairs(source_of(path)) == ROWS


def test_records_can_be_read_again_from_the_top(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    _csv(path, ",")
    source = source_of(path)
    assert pairs(source) == pairs(source)


def test_bad_csv_rows_are_named_by_their_line_and_cost_no_others(tmp_path: Path) -> None:
    lines = [
        "text,label",  # 1
        "fine,a",
        "too,many,fields",  # 3
        '"two',
        'lines",a',
        "alone",  # 6
        'a "quote" inside is fine,b',
        '"not "doubled" quotes",a',  # 8
        "still fine,b",
        '"never closed,a',  # 10
        "fine again,b",
        "and again,a",
    ]
    path = write_bytes(tmp_path / "rows.csv", "\r\n".join(lines).encode())
    source = source_of(path)
    assert good(source) == [2, 4, 7, 9, 11, 12]
    assert list(bad(source)) == [3, 6, 8, 10]
    assert bad(source)[3] == "has 3 fields where 2 are expected"
    assert "quote" in bad(source)[10]


def test_tables_with_tabs_may_have_lone_quotes(tmp_path: Path) -> None:
    content = b'"I like it\tgood\nit is "so so"\tbad\nand "that" too"\tgood\n"quoted"\tbad\n'
    source = source_of(write_bytes(tmp_path / "rows.tsv", content))
    assert [text for text, _ in pairs(source)] == [
        '"I like it', 'it is "so so"', 'and "that" too"', '"quoted"',
    ]  # fmt: skip


def test_bad_json_lines_are_all_reported_with_their_reasons(tmp_path: Path) -> None:
    lines = [
        b'{"text": "a", "label": "x"}',
        b'{"text": "broken", "label": ',  # 2
        b"",
        b"[1, 2]",  # 4
        b'{"text": "a", "text": "b", "label": "x"}',  # 5
        b'{"text": "a", "label": NaN}',  # 6
        b'{"text": "half \\ud83d a pair", "label": "x"}',  # 7
        b'{"text": "nul \\u0000", "label": "x"}',  # 8
        b'{"text": "raw \xff byte", "label": "x"}',  # 9
        b'{"text": "nul \x00", "label": "x"}',  # 10
        b"[" * 100_000,  # 11
        b'{"text": ' + b"9" * 5000 + b"}",  # 12
        b'{"text": "same", "text": "same", "label": "x"}',
        b'"just a string"',  # 14
    ] + [b'{"text": "fine", "label": "x"}'] * 200
    source = source_of(write_bytes(tmp_path / "rows.jsonl", b"\n".join(lines)))
    reasons = bad(source)
    assert list(reasons) == [2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14]
    assert reasons[4] == "is not a JSON object"
    assert "'text' twice" in reasons[5]
    assert "NaN" in reasons[6]
    assert "surrogate" in reasons[7]
    assert "NUL" in reasons[8]
    assert reasons[9] == "holds bytes that are not UTF-8"
    assert "nested" in reasons[11]
    assert "digits" in reasons[12]
    assert good(source)[:2] == [1, 13]


def test_an_overlong_line_is_skipped(tmp_path: Path) -> None:
    row = b'{"text": "fine", "label": "x"}\n'
    long = b'{"text": "' + b"a" * (LONGEST_LINE + 5) + b'", "label": "x"}\n'
    for name, content in (("rows.jsonl", row + long + row), ("rows.csv", b"a,b\n" + long + b"c,d")):
        source = source_of(write_bytes(tmp_path / name, content))
        assert list(bad(source)) == [2]
        assert "longer than" in bad(source)[2]
        assert good(source)[-1] == 3


def test_a_broken_item_of_a_json_list_costs_only_itself(tmp_path: Path) -> None:
    items = [
        '{"text": "one, [two] {three}", "label": "x\\"]"}',
        '{"text": "extra bracket"}}',
        '{"text": "missing value", "label": }',
        "",
        "3",
        '{"text": "unclosed string,\n "label": "x"}',
        '{"text": [1, 2}, "label": "y"}',
        '{"text": "last", "label": "x"}',
    ]
    source = source_of(write_bytes(tmp_path / "rows.json", f"[{','.join(items)}]".encode()))
    # The item with mixed-up brackets counts as two.
    assert good(source) == [1, 9]
    assert list(bad(source)) == [2, 3, 4, 5, 6, 7, 8]


@pytest.mark.parametrize(
    ("content", "numbers", "reason"),
    [
        (b'[{"a": 1}, {"a": 2}', [1], "is not closed"),
        (b'[{"a": 1}] {"a": 2}', [1], "after the end"),
        (b'[{"a": 1},]', [1], ""),
        (b"[]", [], ""),
    ],
)
def test_the_end_of_a_json_list(
    tmp_path: Path, content: bytes, numbers: list[int], reason: str
) -> None:
    source = source_of(write_bytes(tmp_path / "rows.json", content))
    assert good(source) == numbers
    assert any(reason in found for found in bad(source).values()) or not reason


def test_a_json_object_over_several_lines_is_refused_with_advice(tmp_path: Path) -> None:
    path = write_bytes(tmp_path / "rows.json", json.dumps({"a": 1}, indent=1).encode())
    with pytest.raises(InvalidExamples, match="list of objects"):
        source_of(path)


def test_lists_and_lines_of_json_are_told_apart_against_the_name(tmp_path: Path) -> None:
    source = source_of(write_bytes(tmp_path / "rows.jsonl", b'[{"text": "a"}]'))
    assert [problem.code for problem in source.problems] == ["json_form"]
    assert source.unit == "item"


def test_a_sheet_gives_numbers_dates_and_truth_values_as_they_are(tmp_path: Path) -> None:
    workbook = openpyxl.Workbook()
    sheet = workbook.active
    sheet.append(["text", "label", None])
    sheet.append(["a", 1.0, None])
    sheet.append([None, None, None])
    sheet.append(["b", dt.datetime(2024, 5, 1)])
    sheet.append(["c", "#N/A"])
    sheet.append(["d", "x", "a cell too many"])
    sheet.append(["e", True])
    workbook.create_sheet("Second").append(["text", "label"])
    path = tmp_path / "book.xlsx"
    workbook.save(path)
    source = source_of(path)
    rows = {r.number: r.fields.get("label") for r in source.records() if isinstance(r, RawRow)}
    assert rows == {2: 1.0, 4: dt.datetime(2024, 5, 1), 5: None, 7: True}
    assert bad(source) == {6: "has more than the 2 cells of the first row"}
    assert [problem.code for problem in source.problems] == ["other_sheets"]
    assert "'Second'" in source.problems[0].message


def test_a_sheet_is_chosen_by_name(tmp_path: Path) -> None:
    workbook = openpyxl.Workbook()
    workbook.create_sheet("Data").append(["text", "label"])
    workbook["Data"].append(["hello", "x"])
    path = tmp_path / "book.xlsx"
    workbook.save(path)
    assert pairs(source_of(path, sheet="Data")) == [("hello", "x")]
    with pytest.raises(InvalidExamples, match="'Sheet', 'Data'"):
        source_of(path, sheet="Nope")
    with pytest.raises(InvalidExamples, match="is empty"):
        source_of(path)


def test_plain_text_with_tabs_has_the_label_where_fewer_values_are(tmp_path: Path) -> None:
    first = write_bytes(tmp_path / "first.txt", b"x\ta b\ny\tc d\nx\te f\nno tab\na\tb\tc\n")
    last = write_bytes(tmp_path / "last.txt", b"a b\tx\nc d\ty\ne f\tx\n")
    source = source_of(first)
    rows = [r.fields for r in source.records() if isinstance(r, RawRow)]
    assert rows[0] == {"text": "a b", "label": "x"}
    assert list(bad(source)) == [4, 5]
    rows = [r.fields for r in source_of(last).records() if isinstance(r, RawRow)]
    assert rows[2] == {"text": "e f", "label": "x"}


def test_fasttext_lines(tmp_path: Path) -> None:
    content = b"__label__x a b\n\n__label__y\tc d\n__label__x __label__y two\nnone\n__label__x e\n"
    source = source_of(write_bytes(tmp_path / "rows.txt", content))
    rows = [r.fields for r in source.records() if isinstance(r, RawRow)]
    assert rows == [
        {"text": "a b", "label": "x"},
        {"text": "c d", "label": "y"},
        {"text": "e", "label": "x"},
    ]
    assert list(bad(source)) == [4, 5]


def test_plain_text_without_labels_is_refused_with_what_is_known(tmp_path: Path) -> None:
    path = write_bytes(tmp_path / "rows.txt", b"just\nlines\n")
    with pytest.raises(InvalidExamples, match=r"__label__.*tsv, xlsx"):
        source_of(path)


def test_parquet_reads_only_the_columns_that_are_used(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    frame = pl.DataFrame({"text": ["a", "nul \x00"], "label": [1.0, 2.0], "vector": [[1.0], [2.0]]})
    frame.write_parquet(path)
    source = source_of(path).with_columns(["text", "label"])
    records = list(source.records())
    assert records[0] == RawRow(1, {"text": "a", "label": 1.0})
    assert records[1] == BadLine(2, "holds a NUL character")


def test_parquet_is_read_slice_by_slice_in_order(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pl.DataFrame({"n": range(40_000)}).write_parquet(path, row_group_size=7000)
    records = list(source_of(path).records())
    assert [(r.number, r.fields["n"]) for r in records if isinstance(r, RawRow)] == [
        (n + 1, n) for n in range(40_000)
    ]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("book.csv", b"PK\x03\x04rest", "--format xlsx"),
        ("table.jsonl", b"PAR1rest", "--format parquet"),
        ("old.xls", b"\xd0\xcf\x11\xe0rest", "save it as .xlsx"),
        ("rows.csv.gz", b"\x1f\x8brest", "unpack it first"),
        ("rows.dat", b"text,label", "--format"),
        ("empty.csv", b"", "is empty"),
        ("one.csv", b"text\na\nb", "only one column"),
        ("twice.csv", b"text,text,label\na,b,c", "'text' twice"),
        ("broken.xlsx", b"PK\x03\x04broken", "not an Excel workbook"),
        ("broken.parquet", b"PAR1 broken PAR1", "cannot be opened"),
        ("text.xlsx", b"text,label", "not an Excel workbook"),
    ],
)
def test_files_that_are_not_what_they_are_called(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    with pytest.raises(InvalidExamples, match=said):
        source_of(write_bytes(tmp_path / name, content))


def test_missing_files_folders_and_unknown_words(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there is no file"):
        source_of(tmp_path / "none.csv")
    with pytest.raises(InvalidExamples, match="is a folder"):
        source_of(tmp_path)
    path = write_bytes(tmp_path / "rows.dat", b"text,label\na,b\n")
    with pytest.raises(InvalidInput, match="csv, tsv"):
        source_of(path, format="doc")
    with pytest.raises(InvalidInput, match="no encoding"):
        source_of(path, format="csv", encoding="klingon")
    assert pairs(source_of(path, format="csv")) == [("a", "b")]


def test_a_damaged_sheet_inside_a_sound_zip(tmp_path: Path) -> None:
    import zipfile  # noqa: PLC0415

    whole, damaged = tmp_path / "whole.xlsx", tmp_path / "damaged.xlsx"
    _xlsx(whole)
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(damaged, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, content[:400] if "sheet1" in name else content)
    with pytest.raises(InvalidExamples, match="damaged workbook"):
        source_of(damaged)


def test_a_table_without_a_header_is_seen(tmp_path: Path) -> None:
    by_label = write_bytes(tmp_path / "by_label.csv", b"great film,good\nawful,bad\nnice,good\n")
    by_number = write_bytes(tmp_path / "by_number.csv", b"0,great film\n1,awful\n")
    by_option = write_bytes(tmp_path / "by_option.csv", b"text,label\na,b\n")
    for path, header in ((by_label, None), (by_number, None), (by_option, False)):
        source = source_of(path, header=header)
        first = next(iter(source.records()))
        assert isinstance(first, RawRow)
        assert first.number == 1
        assert list(first.fields) == ["column_1", "column_2"]
        assert "no_header" in [problem.code for problem in source.problems]


def test_a_header_is_not_lost_behind_a_broken_first_line(tmp_path: Path) -> None:
    source = source_of(write_bytes(tmp_path / "rows.csv", b'"a"b,c\ntext,label\nx,y\n'))
    assert bad(source).keys() == {1}
    assert [r.fields for r in source.records() if isinstance(r, RawRow)] == [
        {"text": "x", "label": "y"}
    ]
