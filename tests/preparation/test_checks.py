"""What is found in rows, and what a yes, a no and silence do."""

from pathlib import Path

import pytest

from hone.models.errors import InvalidExamples
from tests.preparation.running import plain_rows, run, write_lines


def rows_file(tmp_path: Path, *extra: dict[str, object], count: int = 40) -> Path:
    return write_lines(tmp_path / "rows.jsonl", [*plain_rows(count), *extra])


def test_missing_and_blank_fields_are_dropped_with_their_lines(tmp_path: Path) -> None:
    outcome = run(
        rows_file(
            tmp_path,
            {"text": "", "label": "bug"},
            {"text": " \n\t", "label": "bug"},
            {"label": "bug"},
            {"text": "no label", "label": None},
            {"text": "a list", "label": ["bug"]},
            {"text": {"a": 1}, "label": "bug"},
        )
    )
    assert outcome.report.dropped == {"missing_text": 3, "missing_label": 1, "unreadable": 2}
    assert [e["line"] for e in outcome.problem("missing_text").examples] == [41, 42, 43]
    assert [e["reason"] for e in outcome.problem("unreadable").examples] == [
        "has a 'label' that is a list where text is expected",
        "has a 'text' that is an object where text is expected",
    ]
    assert outcome.problem("missing_label").mended


def test_a_hundred_bad_lines_are_shown_of_all(tmp_path: Path) -> None:
    path = rows_file(tmp_path)
    with path.open("a") as file:
        file.write("broken\n" * 150)
    problem = run(path).problem("unreadable")
    assert problem.count == 150
    assert [example["line"] for example in problem.examples] == list(range(41, 141))


def test_spellings_are_merged_into_the_commonest(tmp_path: Path) -> None:
    outcome = run(
        rows_file(
            tmp_path,
            {"text": "one", "label": "Bug"},
            {"text": "two", "label": " bug "},
            {"text": "three", "label": "ＢＵＧ"},
            {"text": "four", "label": "PRAISE"},
        )
    )
    problem = outcome.problem("label_spellings")
    assert problem.count == 4
    assert {str(e["label"]) for e in problem.examples} == {"Bug", " bug ", "ＢＵＧ", "PRAISE"}
    assert {label.label for label in outcome.report.labels} == {"bug", "praise"}
    assert outcome.report.kept == 44


def test_spaces_around_all_labels_are_taken_off(tmp_path: Path) -> None:
    rows = plain_rows(30, labels=(" bug", " praise"))
    outcome = run(write_lines(tmp_path / "rows.jsonl", rows))
    assert {row.label for row in outcome.rows} == {"bug", "praise"}


def test_a_no_leaves_labels_as_they_are(tmp_path: Path) -> None:
    extra: list[dict[str, object]] = [{"text": f"new {n}", "label": "Bug"} for n in range(6)]
    outcome = run(rows_file(tmp_path, *extra), refuse=["label_spellings"])
    assert {row.label for row in outcome.rows} == {"bug", "Bug", "praise"}
    assert not outcome.problem("label_spellings").mended


def test_repeats_keep_the_first_whatever_their_case_and_punctuation(tmp_path: Path) -> None:
    outcome = run(
        rows_file(
            tmp_path,
            {"text": "Text number 0 says so.", "label": "bug"},
            {"text": "TEXT number 0 - says so!!", "label": "bug"},
        )
    )
    problem = outcome.problem("duplicates")
    assert problem.count == 2
    assert "1 exactly, 1 but for case" in problem.message
    assert [(e["line"], e["repeats"]) for e in problem.examples] == [(41, 1), (42, 1)]
    assert outcome.report.dropped == {"duplicate": 2}
    assert ("Text number 0 says so.", "bug") in outcome.pairs


def test_refused_repeats_stay_and_stay_together(tmp_path: Path) -> None:
    rows = plain_rows(30) * 3
    outcome = run(write_lines(tmp_path / "rows.jsonl", rows), refuse=["duplicates"])
    assert outcome.report.kept == 90
    splits = [{row.text for row in rows} for rows in outcome.splits.values()]
    assert not splits[0] & splits[1]
    assert not splits[0] & splits[2]
    assert not splits[1] & splits[2]


def test_conflicts_go_to_the_strict_majority_or_are_dropped(tmp_path: Path) -> None:
    outcome = run(
        rows_file(
            tmp_path,
            {"text": "Two to one", "label": "bug"},
            {"text": "two to one!", "label": "praise"},
            {"text": "TWO TO ONE", "label": "praise"},
            {"text": "one to one", "label": "bug"},
            {"text": "one to one", "label": "praise"},
            {"text": "two of four", "label": "bug"},
            {"text": "two of four", "label": "bug"},
            {"text": "two of four", "label": "praise"},
            {"text": "two of four", "label": "idea"},
        )
    )
    problem = outcome.problem("conflicting_labels")
    assert problem.count == 9
    assert problem.message == "3 texts stand with different labels, in 9 rows"
    assert "majority's label of 1 text" in problem.mend
    assert [e["keeps"] for e in problem.examples] == ["praise", None, None]
    first = problem.examples[0]["rows"]
    assert first == [
        {"file": "rows.jsonl", "line": 41, "label": "bug"},
        {"file": "rows.jsonl", "line": 42, "label": "praise"},
        {"file": "rows.jsonl", "line": 43, "label": "praise"},
    ]
    assert outcome.report.dropped == {"conflicting_labels": 7, "duplicate": 1}
    kept = [pair for pair in outcome.pairs if not pair[0].startswith("Text")]
    assert kept == [("two to one!", "praise")]


def test_spellings_are_no_conflict(tmp_path: Path) -> None:
    outcome = run(
        rows_file(tmp_path, {"text": "same", "label": "bug"}, {"text": "same", "label": "Bug"})
    )
    assert "conflicting_labels" not in outcome.codes


def test_rare_classes_are_dropped_or_kept(tmp_path: Path) -> None:
    extra: list[dict[str, object]] = [{"text": f"rare {n}", "label": "idea"} for n in range(4)]
    path = rows_file(tmp_path, *extra)
    outcome = run(path)
    assert outcome.problem("rare_classes").examples == ({"label": "idea", "rows": 4},)
    assert outcome.problem("rare_classes").message.endswith("and to test: idea")
    assert outcome.report.dropped == {"rare_class": 4}
    kept = run(path, refuse=["rare_classes"])
    assert sum(row.label == "idea" for row in kept.rows) == 4
    assert "rare_classes" not in run(path, min_per_class=4).codes


def test_labels_that_look_misspelt_are_told_before_they_go_as_rare(tmp_path: Path) -> None:
    extra: list[dict[str, object]] = [{"text": "rare one", "label": "praize"}]
    outcome = run(rows_file(tmp_path, *extra))
    problem = outcome.problem("label_misspellings")
    assert problem.message.endswith("a commoner one: 'praize' ('praise'?)")
    assert problem.examples == ({"label": "praize", "rows": 1, "looks_like": "praise"},)
    assert (problem.severity, problem.mended) == ("advice", False)
    assert outcome.codes.index("label_misspellings") < outcome.codes.index("rare_classes")


@pytest.mark.parametrize("label", ["tier 2", "complaint"])
def test_labels_that_differ_by_digits_or_more_are_not_taken_for_misspelt(
    tmp_path: Path, label: str
) -> None:
    rows = [*plain_rows(60, labels=("tier 1", "praise")), {"text": "odd", "label": label}]
    outcome = run(write_lines(tmp_path / "rows.jsonl", rows))
    assert "label_misspellings" not in outcome.codes


def test_labels_that_are_both_common_are_not_taken_for_misspelt(tmp_path: Path) -> None:
    rows = plain_rows(60, labels=("refund", "refunds"))
    assert "label_misspellings" not in run(write_lines(tmp_path / "rows.jsonl", rows)).codes


def test_a_lone_long_text_leaves_the_histogram_of_lengths_readable(tmp_path: Path) -> None:
    rows = [*plain_rows(200), {"text": "word " * 5000, "label": "bug"}]
    lengths = run(write_lines(tmp_path / "rows.jsonl", rows)).report.lengths
    assert lengths is not None
    low, high, count = lengths.histogram[-1]
    assert (low < 40, high >= 5000, count) == (True, True, 1)
    assert sum(count for *_, count in lengths.histogram) == 201
    borders = [bin_[0] for bin_ in lengths.histogram[1:]]
    assert borders == [bin_[1] + 1 for bin_ in lengths.histogram[:-1]]


def test_fewer_than_two_classes_are_refused(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "rows.jsonl", plain_rows(30, labels=("bug",)))
    with pytest.raises(InvalidExamples, match="only the class 'bug' is left"):
        run(path)
    path = write_lines(tmp_path / "few.jsonl", plain_rows(6))
    with pytest.raises(InvalidExamples, match=r"no class is left.*6 rare_class.*--min-per-class"):
        run(path)


def test_files_without_a_usable_row_say_what_is_wrong(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "rows.jsonl", [{"text": "", "label": "a"}] * 3)
    with pytest.raises(InvalidExamples, match="3 missing_text"):
        run(path)
    path.write_text("broken\nbroken too\n")
    with pytest.raises(InvalidExamples, match=r"(?s)line 1 is not valid JSON.*line 2"):
        run(path)


def test_long_texts_are_told_in_tokens_and_stay(tmp_path: Path) -> None:
    long = "word " * 300
    outcome = run(rows_file(tmp_path, {"text": long, "label": "bug"}), max_tokens=256)
    problem = outcome.problem("long_texts")
    assert (problem.count, problem.severity, problem.mended) == (1, "advice", False)
    assert problem.examples[0]["tokens"] == 300
    assert problem.examples[0]["line"] == 41
    assert str(problem.examples[0]["text"]).endswith("…")
    lengths = outcome.report.lengths
    assert lengths is not None
    assert lengths.percentiles == {"p50": 5, "p90": 5, "p95": 5, "p99": 300}
    assert (lengths.longest, lengths.over_limit, lengths.total) == (300, 1, 500)
    assert sum(rows for _, _, rows in lengths.histogram) == 41
    assert (long, "bug") in outcome.pairs


def test_nothing_is_written_while_mends_wait(tmp_path: Path) -> None:
    path = rows_file(tmp_path, {"text": "text NUMBER 0 says so", "label": "bug"})
    outcome = run(path, answer=None)
    assert [problem.code for problem in outcome.report.pending] == ["duplicates"]
    assert not outcome.report.written
    assert not outcome.report.folder.exists()
    agreed = run(path)
    assert agreed.report.written
    assert {n: s.rows for n, s in agreed.report.splits.items()} == {
        n: s.rows for n, s in outcome.report.splits.items()
    }


def test_a_sound_file_is_written_without_a_question(tmp_path: Path) -> None:
    outcome = run(write_lines(tmp_path / "rows.jsonl", plain_rows(200)), answer=None)
    assert outcome.report.written
    assert outcome.report.problems == ()


def test_few_rows_and_unused_columns_are_told(tmp_path: Path) -> None:
    rows = [{**row, "note": 1, "id": n} for n, row in enumerate(plain_rows(40))]
    outcome = run(write_lines(tmp_path / "rows.jsonl", rows))
    assert outcome.problem("few_rows").count == 40
    assert "'note', 'id'" in outcome.problem("unused_columns").message
