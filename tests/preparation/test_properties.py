"""What holds for any rows whatever."""

import json
import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from hone.models.errors import InvalidExamples
from hone.models.examples import words_key
from tests.preparation.running import Outcome, run, write_lines

texts = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["a b", "A, b!", "b a", "a b c", "c b a", "", " ", "?!", "日本", "ａ Ｂ"]),
    st.integers(0, 30).map(lambda n: f"text {n}"),
)
labels = st.sampled_from(["x", "x", "y", "y", "z", "X", " y", "", "w"])
rows = st.lists(
    st.one_of(
        st.fixed_dictionaries({"text": texts, "label": labels}),
        st.fixed_dictionaries({"text": st.none() | texts, "label": st.none() | labels}),
        st.sampled_from(["broken", 3]),
    ),
    max_size=80,
)
# Enough sound rows that most drawn files can be prepared at all.
SOUND = [{"text": f"sound {n} row", "label": "xyz"[n % 3]} for n in range(15)]
REFUSALS = st.sets(st.sampled_from(["duplicates", "conflicting_labels", "label_spellings"]))


def prepared(drawn: list[object], folder: str, refuse: set[str], seed: int = 0) -> Outcome | None:
    path = write_lines(Path(folder) / "rows.jsonl", [*SOUND, *drawn])
    try:
        return run(path, refuse=sorted(refuse), min_per_class=2, seed=seed)
    except InvalidExamples:
        return None


@settings(max_examples=60)
@given(drawn=rows, refuse=REFUSALS, seed=st.integers(0, 3))
def test_every_row_is_kept_or_dropped_once_and_no_text_is_in_two_splits(
    drawn: list[object], refuse: set[str], seed: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        outcome = prepared(drawn, folder, refuse, seed)
    if outcome is None:
        return
    report = outcome.report
    assert report.rows == len(SOUND) + len(drawn)
    assert report.kept + sum(report.dropped.values()) == report.rows
    assert report.kept == len(outcome.rows) == sum(label.total for label in report.labels)
    given_rows = Counter(
        row["text"] for row in [*SOUND, *drawn] if isinstance(row, dict) and row["text"]
    )
    assert Counter(row.text for row in outcome.rows) <= given_rows
    where = Counter(
        key for split in outcome.splits.values() for key in {words_key(r.text) for r in split}
    )
    assert set(where.values()) == {1}


@settings(max_examples=40)
@given(drawn=rows, seed=st.integers(0, 3))
def test_every_class_of_three_or_more_is_in_all_splits(drawn: list[object], seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        outcome = prepared(drawn, folder, set(), seed)
    if outcome is None:
        return
    for label in outcome.report.labels:
        assert label.train >= 1
        if label.total >= 3:
            assert label.validation >= 1
            assert label.test >= 1
    keys = [words_key(row.text) for row in outcome.rows]
    assert len(keys) == len(set(keys))


@settings(max_examples=60)
@given(
    content=st.binary(max_size=300), suffix=st.sampled_from(["csv", "tsv", "json", "jsonl", "txt"])
)
def test_any_bytes_are_prepared_or_refused(content: bytes, suffix: str) -> None:
    good = {
        "csv": b"text,label\n" + b"".join(b"row %d,%d\n" % (n, n % 2) for n in range(30)),
        "tsv": b"text\tlabel\n" + b"".join(b"row %d\t%d\n" % (n, n % 2) for n in range(30)),
        "json": b"[" + b",".join(b'{"text":"row %d","label":%d}' % (n, n % 2) for n in range(30)),
        "jsonl": b"".join(b'{"text":"row %d","label":%d}\n' % (n, n % 2) for n in range(30)),
        "txt": b"".join(b"%d\trow %d\n" % (n % 2, n) for n in range(30)),
    }[suffix]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"rows.{suffix}"
        path.write_bytes(good + content)
        try:
            outcome = run(path)
        except InvalidExamples:
            return
        report = json.loads((outcome.report.folder / "report.json").read_bytes())
        assert report["counts"]["kept"] == len(outcome.rows)
