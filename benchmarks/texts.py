"""The texts of a benchmark: a file's, in one random order that is the same for everybody."""

import csv
import json
import random
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
_DEFAULTS = (
    _ROOT.parent / "shared" / "data" / "banking77" / "test.csv",
    _ROOT / "examples" / "support" / "support.csv",
)


def default_texts() -> Path:
    """Return the Banking77 test file where there is one, else the example that ships."""
    return next(path for path in _DEFAULTS if path.exists())


def read_texts(path: Path, *, seed: int = 0) -> list[str]:
    """Return the `text` fields of a CSV or JSONL file, shuffled."""
    with path.open(encoding="utf-8", newline="") as lines:
        rows = map(json.loads, lines) if path.suffix == ".jsonl" else csv.DictReader(lines)
        texts = [row["text"] for row in rows if row.get("text")]
    if not texts:
        raise SystemExit(f"{path} has no texts in a column or field 'text'")
    return random.Random(seed).sample(texts, len(texts))
