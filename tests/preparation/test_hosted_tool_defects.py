"""What the hosted service's own preparation got wrong, each done right here.

They were seen by running `openai tools fine_tunes.prepare_data` of openai 0.28.1.
"""

import random
from collections import Counter
from pathlib import Path

from hone.models.examples import words_key
from tests.preparation.running import plain_rows, run, write_lines


def prompts(tmp_path: Path, rows: list[tuple[str, str]]) -> Path:
    lines = [{"prompt": prompt, "completion": completion} for prompt, completion in rows]
    return write_lines(tmp_path / "rows.jsonl", lines)


def test_the_right_row_is_dropped_when_a_repeat_stands_before_a_long_text(tmp_path: Path) -> None:
    rows = plain_rows(40)
    rows.insert(1, dict(rows[0]))
    rows.insert(3, {"text": "long " * 2200, "label": "bug"})
    outcome = run(write_lines(tmp_path / "rows.jsonl", rows))
    assert outcome.report.dropped == {"duplicate": 1}
    assert [e["line"] for e in outcome.problem("duplicates").examples] == [2]
    assert [e["line"] for e in outcome.problem("long_texts").examples] == [4]
    wanted = sorted((row["text"], row["label"]) for n, row in enumerate(rows) if n != 1)
    assert outcome.pairs == wanted


def test_letters_that_labels_share_are_never_taken_for_a_stop_sequence(tmp_path: Path) -> None:
    rows = [(f"text {n} ->", (" positive", " negative")[n % 2]) for n in range(40)]
    outcome = run(prompts(tmp_path, rows))
    assert {row.label for row in outcome.rows} == {"positive", "negative"}


def test_no_class_is_favoured_for_being_the_commonest(tmp_path: Path) -> None:
    """The hosted tool named the majority as the positive class; here no class is positive."""
    labels = ("negative", "negative", "positive")
    outcome = run(write_lines(tmp_path / "rows.jsonl", plain_rows(60, labels)))
    report = outcome.report.as_json()
    assert not any("positive_class" in key for key in report)
    assert {label.label for label in outcome.report.labels} == {"negative", "positive"}


def test_a_beginning_that_all_prompts_share_is_kept_unless_it_is_an_instruction(
    tmp_path: Path,
) -> None:
    rows = [(f"Review number {n}: it is fine ->", f" {'ab'[n % 2]}") for n in range(40)]
    outcome = run(prompts(tmp_path, rows))
    assert all(row.text.startswith("Review number ") for row in outcome.rows)
    assert outcome.report.shared_instruction is None


def test_a_beginning_that_all_labels_share_is_kept(tmp_path: Path) -> None:
    labels = ("category: billing", "category: delivery")
    rows = [(f"text {n} ->", f" {labels[n % 2]}") for n in range(40)]
    outcome = run(prompts(tmp_path, rows))
    assert {row.label for row in outcome.rows} == set(labels)


def test_no_split_loses_a_class(tmp_path: Path) -> None:
    labels = ["common"] * 97 + ["rare", "rarer", "rarest"]
    outcome = run(write_lines(tmp_path / "rows.jsonl", plain_rows(500, labels)))
    for rows in outcome.splits.values():
        assert {row.label for row in rows} == {"common", "rare", "rarer", "rarest"}


def test_one_text_with_two_labels_is_reported(tmp_path: Path) -> None:
    rows = [*plain_rows(40), {"text": "text number 0, says so", "label": "praise"}]
    problem = run(write_lines(tmp_path / "rows.jsonl", rows)).problem("conflicting_labels")
    assert problem.count == 2
    assert problem.examples[0]["rows"] == [
        {"file": "rows.jsonl", "line": 1, "label": "bug"},
        {"file": "rows.jsonl", "line": 41, "label": "praise"},
    ]


def test_no_text_is_in_two_splits(tmp_path: Path) -> None:
    random_ = random.Random(0)
    rows = []
    for row in plain_rows(120):
        shouted = {"text": f"  {row['text'].upper()} !", "label": row["label"]}
        rows += [row, shouted]
    random_.shuffle(rows)
    path = write_lines(tmp_path / "rows.jsonl", rows)
    for refuse in ([], ["duplicates"]):
        outcome = run(path, refuse=refuse)
        where = Counter(
            key
            for split in outcome.splits.values()
            for key in {words_key(row.text) for row in split}
        )
        assert set(where.values()) == {1}


def test_one_long_shouted_row_changes_no_other_and_letters_keep_their_case(tmp_path: Path) -> None:
    rows = [*plain_rows(40), {"text": "SHOUTED " * 5000, "label": "bug"}]
    outcome = run(write_lines(tmp_path / "rows.jsonl", rows))
    assert outcome.pairs == sorted((row["text"], row["label"]) for row in rows)


def test_lengths_are_counted_in_tokens(tmp_path: Path) -> None:
    rows = [*plain_rows(40), {"text": "x" * 12_000, "label": "bug"}]
    rows.append({"text": "a " * 300, "label": "bug"})
    problem = run(write_lines(tmp_path / "rows.jsonl", rows), max_tokens=256).problem("long_texts")
    assert [(e["line"], e["tokens"]) for e in problem.examples] == [(42, 300)]


def test_chats_are_understood(tmp_path: Path) -> None:
    chats = [
        {
            "messages": [
                {"role": "system", "content": "Sort the message."},
                {"role": "user", "content": f"text {n}"},
                {"role": "assistant", "content": "ab"[n % 2]},
            ]
        }
        for n in range(40)
    ]
    outcome = run(write_lines(tmp_path / "rows.jsonl", chats))
    assert outcome.pairs == sorted((f"text {n}", "ab"[n % 2]) for n in range(40))


def test_the_tokens_of_data_and_instruction_are_told(tmp_path: Path) -> None:
    instruction = "Say whether the message is a or b.\n\n"
    rows = [(f"{instruction}text {n} ->", f" {'ab'[n % 2]}") for n in range(40)]
    report = run(prompts(tmp_path, rows)).report
    assert report.lengths is not None
    assert report.lengths.total == 80
    assert report.shared_instruction_tokens == 8
