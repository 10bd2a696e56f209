"""Encodings: marks, UTF-8 by trying, guesses, and bytes that fit none."""

import codecs
from pathlib import Path

import pytest

from hone.training.preparation.encoding import find_encoding
from hone.training.preparation.readers import ReadOptions, open_source
from hone.training.preparation.rows import BadLine, RawRow

GERMAN = "Ich möchte meine Karte sperren – wo finde ich das Menü?"
TEXTS = {
    "cp1252": GERMAN,
    "cp1250": "Gdzie jest moja karta? Chciałbym zablokować konto, proszę pomóc.",
    "cp1251": "Где моя карта? Я хочу её заблокировать.",
    "cp932": "私のカードはどこですか。ブロックしたいです。",
    "gb18030": "我的银行卡在哪里？我想冻结账户。",
    "cp949": "내 카드는 어디에 있나요? 카드를 정지하고 싶어요.",
}


def table(text: str) -> str:
    return f'text,label\n"{text}",a\n' + "".join(f'"{text} {n}",b\n' for n in range(5))


@pytest.mark.parametrize(
    "codec", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]
)
@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_unicode_in_every_dress_is_read(tmp_path: Path, codec: str, suffix: str) -> None:
    path = tmp_path / f"rows.{suffix}"
    whole = table(GERMAN) if suffix == "csv" else f'{{"text": "{GERMAN}", "label": "a"}}\n' * 3
    path.write_bytes(whole.encode(codec))
    source = open_source(path, ReadOptions())
    first = next(iter(source.records()))
    assert isinstance(first, RawRow)
    assert first.fields == {"text": GERMAN, "label": "a"}
    told = [problem.code for problem in source.problems]
    marked = codec in {"utf-8-sig", "utf-16", "utf-32"}
    assert told == (["byte_order_mark"] if marked else [] if codec == "utf-8" else ["encoding"])


def test_big_endian_with_a_mark(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(codecs.BOM_UTF16_BE + table(GERMAN).encode("utf-16-be"))
    assert find_encoding(path).codec == "utf-16"


@pytest.mark.parametrize("codec", TEXTS)
def test_other_encodings_are_guessed_and_told(tmp_path: Path, codec: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(table(TEXTS[codec]).encode(codec))
    source = open_source(path, ReadOptions())
    first = next(iter(source.records()))
    assert isinstance(first, RawRow)
    assert first.fields["text"] == TEXTS[codec]
    assert [problem.code for problem in source.problems] == ["encoding"]
    assert "--encoding" in source.problems[0].message


def test_a_given_encoding_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(table("naïve café").encode("mac_roman"))
    first = next(iter(open_source(path, ReadOptions(encoding="mac_roman")).records()))
    assert isinstance(first, RawRow)
    assert first.fields["text"] == "naïve café"


def test_some_broken_bytes_do_not_make_a_file_foreign(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    lines = [f"größe äöü {n},a".encode() for n in range(20)]
    lines[7] = b"cut \xc3,a"
    path.write_bytes(b"text,label\n" + b"\n".join(lines))
    source = open_source(path, ReadOptions())
    bad = [record for record in source.records() if isinstance(record, BadLine)]
    assert bad == [BadLine(9, "holds bytes that are not UTF-8")]


def test_a_lone_broken_byte_in_json_is_a_broken_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"text": "a", "label": "x"}\n' * 300 + b'{"text": "\xe9", "label": "x"}\n')
    assert find_encoding(path, is_json=True).codec == "utf-8"
