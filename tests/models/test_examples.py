"""Prepared examples: what is written is read back, and what is broken is named by its line."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hone.models.errors import InvalidExamples
from hone.models.examples import Example, read_examples, sha256_of_file, words_key, write_examples

visible = st.text(min_size=1).filter(lambda text: bool(text.strip()))


@given(rows=st.lists(st.builds(Example, visible, visible), min_size=1, max_size=5))
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Example]
) -> None:
    path = tmp_path_factory.mktemp("rows") / "train.jsonl"
    assert write_examples(path, rows) == len(rows)
    assert read_examples(path) == rows


def test_line_breaks_of_every_kind_stay_inside_a_row(tmp_path: Path) -> None:
    rows = [Example("a\nb\r\nc\u2028d\x85e\x0bf", "x"), Example("g", "y")]
    write_examples(tmp_path / "train.jsonl", rows)
    assert read_examples(tmp_path / "train.jsonl") == rows


def test_every_bad_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    lines = [
        b'{"text": "fine", "label": "x"}',
        b"",
        b"not json",
        b"[1]",
        b'{"text": "", "label": "x"}',
        b'{"text": " \\u3000", "label": "x"}',
        b'{"text": "t", "label": 3}',
        b'{"text": "t"}',
        b'{"text": "\\ud800", "label": "x"}',
        b'{"text": "\xff", "label": "x"}',
    ]
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(InvalidExamples) as caught:
        read_examples(path)
    message = str(caught.value)
    assert "8 unusable lines" in message
    for number in (3, 4, 5, 6, 7, 8, 9, 10):
        assert f"line {number}:" in message
    for number in (1, 2):
        assert f"line {number}:" not in message
    assert message.count("is not JSON") == 3


def test_a_report_of_many_bad_lines_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes(b"x\n" * 5000)
    with pytest.raises(InvalidExamples, match="5,000 unusable lines") as caught:
        read_examples(path)
    assert len(str(caught.value)) < 20_000


def test_files_that_cannot_be_read_are_an_error_of_our_own(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_bytes(b"\n\n")
    for path in (tmp_path / "empty.jsonl", tmp_path / "nothing.jsonl", tmp_path):
        with pytest.raises(InvalidExamples):
            read_examples(path)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("Hello, World!", "hello world"),
        ("  spaced\tout ", "Spaced out"),
        ("ＦＵＬＬ　ｗｉｄｔｈ", "full width"),
        ("STRASSE", "straße"),
        ("snake_case", "snake case"),
        ("我的，订单。", "我的 订单"),
    ],
)
def test_texts_that_differ_only_in_form_share_a_key(left: str, right: str) -> None:
    assert words_key(left) == words_key(right)


@pytest.mark.parametrize(
    ("left", "right"),
    [("a", "b"), ("ab", "a b"), (":)", ":("), ("我的订单", "我的退款"), ("1", "2")],
)
def test_texts_that_differ_in_words_do_not(left: str, right: str) -> None:
    assert words_key(left) != words_key(right)


@given(st.text())
def test_a_key_is_its_own_key(text: str) -> None:
    assert words_key(words_key(text)) == words_key(text)


def test_the_hash_is_of_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    assert sha256_of_file(path).startswith("ba7816bf8f01cfea414140de5dae2223")
