"""Which columns are the text and the label."""

from collections.abc import Sequence

import pytest

from hone.models.errors import InvalidExamples
from hone.training.preparation.columns import Columns, find_columns
from hone.training.preparation.delimited import looks_like_header


def sample(names: Sequence[str], rows: Sequence[Sequence[object]]) -> list[dict[str, object]]:
    return [dict(zip(names, row, strict=True)) for row in rows]


@pytest.mark.parametrize(
    ("names", "text", "label"),
    [
        (["text", "label"], "text", "label"),
        (["Category", "Utterance"], "Utterance", "Category"),
        (["id", "TEXT", "Label"], "TEXT", "Label"),
        (["text", "label", "label_text"], "text", "label"),
        (["text", "title", "intent"], "text", "intent"),
        (["text", "emotion"], "text", "emotion"),
        (["headline", "sentiment"], "headline", "sentiment"),
        (["", "text", "mood"], "text", "mood"),
        (["input", "output"], "input", "output"),
        (["question", "answer", "note"], "question", "answer"),
        (["prompt", "class"], "prompt", "class"),
        (["text", "label", "category"], "text", "label"),
        (["text", "review", "label"], "text", "label"),
    ],
)
def test_usual_names_are_found_in_any_case(names: list[str], text: str, label: str) -> None:
    found = find_columns(names, [])
    assert (found.text, found.label) == (text, label)
    assert set(found.ignored) == set(names) - {text, label}


def test_of_two_unknown_columns_the_label_has_fewer_values() -> None:
    names = ["a", "b"]
    rows = [["x", 1], ["x", 2], ["y", 3]]
    assert find_columns(names, sample(names, rows)) == Columns("b", "a")


@pytest.mark.parametrize(
    "names", [["a", "b"], ["a", "b", "c"], ["text", "category", "intent"], ["review", "query", "x"]]
)
def test_an_unclear_choice_lists_columns_and_options(names: list[str]) -> None:
    with pytest.raises(InvalidExamples, match=rf"'{names[0]}'.*--text-column and --label-column"):
        find_columns(names, sample(names, [["x"] * len(names)]))


def test_named_columns_win_by_name_other_case_or_number() -> None:
    names = ["text", "label", "Note"]
    assert find_columns(names, [], text="note") == Columns("Note", "label", ("text",))
    assert find_columns(names, [], text="3", label="1") == Columns("Note", "text", ("label",))
    with pytest.raises(InvalidExamples, match="no column 'nope' for --label-column"):
        find_columns(names, [], label="nope")
    with pytest.raises(InvalidExamples, match="cannot both"):
        find_columns(names, [], text="label", label="label")


@pytest.mark.parametrize(
    ("first", "rest", "expected"),
    [
        (["text", "label"], [["text", "x"]], True),
        (["wanted", "y"], [["a", "y"]], True),
        (["headline", "mood"], [["a", "x"], ["b", "x"]], True),
        (["nice", "x"], [["a", "x"], ["b", "y"]], False),
        (["nice", "1"], [["a", "0"]], False),
        (["name", ""], [["a", ""]], True),
        (["name", None], [["a", None]], True),
    ],
)
def test_headers_are_told_from_rows(
    first: list[object], rest: list[list[object]], expected: bool
) -> None:
    assert looks_like_header(first, rest, wanted=["wanted"]) is expected
