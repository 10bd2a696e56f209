"""Splits: stratified, seeded, and with nothing on both sides."""

import random
from collections import Counter
from pathlib import Path

import pytest

from hone.models.errors import InvalidExamples, InvalidInput
from hone.models.examples import words_key
from hone.training.preparation.splitting import quota
from tests.preparation.running import plain_rows, run, write_lines

SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}


@pytest.mark.parametrize("count", range(1, 60))
def test_quotas_sum_up_and_no_class_is_left_out(count: int) -> None:
    for tie in (b"a", b"b", b"c"):
        cut = quota(count, SHARES, tie=tie)
        assert sum(cut.values()) == count
        assert cut["train"] >= 1
        assert all(cut.values()) == (count >= 3)
        assert abs(cut["train"] - 0.8 * count) < 2


def test_a_class_of_two_is_in_train_and_test() -> None:
    uneven = {"train": 0.5, "validation": 0.4, "test": 0.1}
    for shares in (SHARES, uneven, {"train": 0.2, "validation": 0.4, "test": 0.4}):
        cut = quota(2, shares, tie=b"")
        assert cut["train"] >= 1
        assert cut["validation"] == 0


def test_ties_favour_no_split_in_all_classes() -> None:
    cuts = [quota(14, SHARES, tie=bytes([n])) for n in range(60)]
    assert 15 < sum(cut["validation"] == 2 for cut in cuts) < 45


def test_splits_are_stratified(tmp_path: Path) -> None:
    labels = ["a"] * 10 + ["b"] * 5 + ["c"]
    outcome = run(write_lines(tmp_path / "rows.jsonl", plain_rows(1600, labels)))
    counts = {s: Counter(row.label for row in rows) for s, rows in outcome.splits.items()}
    assert counts["train"] == {"a": 800, "b": 400, "c": 80}
    assert counts["validation"] == counts["test"] == {"a": 100, "b": 50, "c": 10}


def test_rows_keep_the_order_of_the_file(tmp_path: Path) -> None:
    outcome = run(write_lines(tmp_path / "rows.jsonl", plain_rows(300)))
    numbers = [int(row.text.split()[2]) for row in outcome.splits["train"]]
    assert numbers == sorted(numbers)


def test_the_cut_depends_on_the_seed_and_not_on_the_order(tmp_path: Path) -> None:
    rows = plain_rows(300, labels=("a", "b", "c"))
    path = write_lines(tmp_path / "rows.jsonl", rows)
    mixed = write_lines(tmp_path / "mixed.jsonl", random.Random(1).sample(rows, len(rows)))

    def cut(path: Path, seed: int) -> set[str]:
        return {row.text for row in run(path, seed=seed).splits["test"]}

    assert cut(path, 0) == cut(mixed, 0)
    assert len(cut(path, 0) & cut(path, 1)) < 15


def test_the_same_words_in_another_order_stay_in_one_split(tmp_path: Path) -> None:
    rows = []
    for n in range(60):
        rows.append({"text": f"my card number {n} is lost", "label": "ab"[n % 2]})
        rows.append({"text": f"lost is my card, number {n} (lost)", "label": "ab"[n % 2]})
    outcome = run(write_lines(tmp_path / "rows.jsonl", rows))
    assert outcome.report.kept == 120
    assert "near_duplicates" not in outcome.codes
    bags = [
        {frozenset(words_key(row.text).split()) for row in rows} for rows in outcome.splits.values()
    ]
    assert sum(map(len, bags)) == len(bags[0] | bags[1] | bags[2])


def test_the_same_words_with_other_labels_are_told_across_splits(tmp_path: Path) -> None:
    rows = []
    for n in range(40):
        rows.append({"text": f"dog {n} bites man", "label": "a"})
        rows.append({"text": f"man bites dog {n}", "label": "b"})
    outcome = run(write_lines(tmp_path / "rows.jsonl", rows))
    found = [p for p in outcome.report.problems if p.code == "near_duplicates"]
    assert found
    assert found[0].severity == "advice"
    assert {"text", "label", "train", "line", "file"} == set(found[0].examples[0])


def test_a_class_of_one_set_of_words_is_still_in_all_splits(tmp_path: Path) -> None:
    orders = ["red green blue", "green red blue", "blue red green", "blue green red"]
    rows = [*plain_rows(40), *({"text": text, "label": "colour"} for text in orders)]
    outcome = run(write_lines(tmp_path / "rows.jsonl", rows), min_per_class=3)
    assert all("colour" in {row.label for row in rows} for rows in outcome.splits.values())


def test_only_missing_splits_are_cut(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "rows.jsonl", plain_rows(200))
    other = [{"text": f"new {n}", "label": ("bug", "praise")[n % 2]} for n in range(20)]
    given = write_lines(tmp_path / "given.jsonl", other)
    test = run(path, test=given)
    assert {s: len(rows) for s, rows in test.splits.items()} == {
        "train": 180,
        "validation": 20,
        "test": 20,
    }
    assert [row.text for row in test.splits["test"]] == [row["text"] for row in other]
    third = [{"text": f"third {n}", "label": "bug"} for n in range(5)]
    both = run(path, test=given, validation=write_lines(tmp_path / "v.jsonl", third))
    assert len(both.splits["train"]) == 200
    assert len(both.splits["validation"]) == 5


def test_rows_of_given_splits_that_stand_in_the_file_are_dropped(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "rows.jsonl", plain_rows(60))
    test = [
        {"text": "TEXT NUMBER 3 says so", "label": "praise"},
        {"text": "new one", "label": "bug"},
        {"text": "new one", "label": "bug"},
        {"text": "new two", "label": "bug"},
        {"text": "new two", "label": "praise"},
        {"text": "strange", "label": "idea"},
    ]
    validation = [
        {"text": "text number 4 says so?", "label": "praise"},
        {"text": "new, one!", "label": "bug"},
        {"text": "text number 3, says so", "label": "bug"},
        {"text": "another", "label": "bug"},
    ]
    outcome = run(
        path,
        test=write_lines(tmp_path / "test.jsonl", test),
        validation=write_lines(tmp_path / "validation.jsonl", validation),
    )
    assert len(outcome.splits["train"]) == 60
    assert [row.text for row in outcome.splits["test"]] == [row["text"] for row in test[1:]]
    assert [row.text for row in outcome.splits["validation"]] == ["another"]
    assert outcome.report.dropped == {"stands_elsewhere": 4}
    leaks = [p for p in outcome.report.problems if p.code == "leakage"]
    assert [p.count for p in leaks] == [1, 2, 1]
    assert leaks[0].examples[0]["also"] == {"file": "rows.jsonl", "line": 4, "label": "praise"}
    assert outcome.problem("given_duplicates").count == 1
    assert outcome.problem("given_conflicts").count == 1
    assert outcome.problem("unknown_labels").examples == ({"label": "idea", "rows": 1},)


def test_labels_of_given_splits_follow_the_spelling_of_the_file(tmp_path: Path) -> None:
    test = [{"text": f"new {n}", "label": "BUG"} for n in range(90)]
    outcome = run(
        write_lines(tmp_path / "rows.jsonl", plain_rows(60)),
        test=write_lines(tmp_path / "test.jsonl", test),
    )
    assert {row.label for row in outcome.splits["test"]} == {"bug"}


def test_shares_and_files_must_make_sense(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "rows.jsonl", plain_rows(60))
    for validation, test in ((0.1, 0.0), (0.1, 0.95), (-0.1, 0.1)):
        with pytest.raises(InvalidInput, match="shares"):
            run(path, validation_share=validation, test_share=test)
    with pytest.raises(InvalidInput, match="different files"):
        run(path, test=path)


def test_too_few_texts_to_cut_are_refused(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "rows.jsonl", plain_rows(4))
    with pytest.raises(InvalidExamples, match="split would be empty"):
        run(path, min_per_class=1)
