"""Real files, where they are at hand."""

from collections import Counter
from pathlib import Path

import pytest

from hone.models.errors import InvalidExamples
from hone.models.examples import words_key
from tests.preparation.running import SHARED, run, word_tokenizer

BANKING = SHARED / "data" / "banking77"
COOKBOOK = SHARED / "data" / "openai_cookbook" / "examples" / "data"


def needed(path: Path) -> Path:
    if not path.exists():
        pytest.skip(f"{path.name} is not at hand")
    return path


def test_banking77_keeps_its_test_set_but_for_what_stands_in_train(tmp_path: Path) -> None:
    outcome = run(
        needed(BANKING / "train.csv"),
        test=BANKING / "test.csv",
        out=tmp_path / "out",
        tokenizer=word_tokenizer(tmp_path),
    )
    assert len(outcome.splits["test"]) == 3055
    assert outcome.report.dropped == {
        "conflicting_labels": 2,
        "duplicate": 30,
        "stands_elsewhere": 25,
    }
    assert all(len({row.label for row in rows}) == 77 for rows in outcome.splits.values())
    where = Counter(
        key for rows in outcome.splits.values() for key in {words_key(r.text) for r in rows}
    )
    assert set(where.values()) == {1}


def test_the_cookbooks_samples(tmp_path: Path) -> None:
    outcome = run(
        needed(COOKBOOK / "dbpedia_samples.jsonl"),
        out=tmp_path / "out",
        tokenizer=word_tokenizer(tmp_path),
    )
    assert outcome.report.kept == 200
    assert len(outcome.report.labels) == 14


def test_the_cookbooks_samples_as_prompts(tmp_path: Path) -> None:
    lines = needed(COOKBOOK / "dbpedia_samples.jsonl").read_text(encoding="utf-8").splitlines()
    path = tmp_path / "prompts.jsonl"
    path.write_text(
        "\n".join(lines).replace('"text":', '"prompt":').replace('"category":', '"completion":')
    )
    outcome = run(path)
    assert outcome.report.form == "prompt/completion"
    assert outcome.report.kept == 200


def test_the_cookbooks_chats_are_generation(tmp_path: Path) -> None:
    path = needed(COOKBOOK / "toy_chat_fine_tuning.jsonl")
    with pytest.raises(InvalidExamples, match="4 different texts in 4 rows"):
        run(path, out=tmp_path / "out", tokenizer=word_tokenizer(tmp_path))


def test_a_public_table_with_unclear_columns_asks_for_options(tmp_path: Path) -> None:
    path = needed(COOKBOOK / "AG_news_samples.csv")
    with pytest.raises(InvalidExamples, match="--text-column"):
        run(path, out=tmp_path / "out", tokenizer=word_tokenizer(tmp_path))
    outcome = run(
        path, out=tmp_path / "out", tokenizer=word_tokenizer(tmp_path), text_column="description"
    )
    assert outcome.report.kept == 2000
