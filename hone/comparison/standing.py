"""Whether a run's folder still holds what was judged, and its report what a judge finds in it.

A threshold is adopted after a person has read the report. So the results have to be those of the
run, by their hashes in its record, and the report has to say what judging them says.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from hone.comparison.held_folder import QUESTION_FILE, REPORT_FILES
from hone.comparison.judgement import Judgement
from hone.comparison.question import ITEMS_FILE, OUTCOMES_FILE
from hone.comparison.report import report_json
from hone.models.errors import Conflict, NotFound
from hone.models.examples import sha256_of_file

_REPORT = REPORT_FILES[-1]
_AGAIN = "run the same `hone compare` once more (no answer is paid twice) and read its report"
_DECISIVE = (
    ("verdict", "word"),
    *(("fallback", "choice", key) for key in ("threshold", "n", "kept", "wrong")),
    ("fallback", "cascade", "kept", "value"),
)
"""What a threshold's adoption rests on, by the keys of report.json; other figures may be new."""


def check_results(folder: Path, record: Mapping[str, Any]) -> None:
    """Raise Conflict unless items, outcomes and question are those that the run wrote."""
    hashes = record.get("results_sha256")
    if not isinstance(hashes, dict):
        raise Conflict(f"the record of {folder} has no hashes of its results: {_AGAIN}")
    for name in (ITEMS_FILE, OUTCOMES_FILE, QUESTION_FILE):
        path = folder / name
        if not path.is_file():
            raise NotFound(f"there is no {path}")
        if sha256_of_file(path) != hashes.get(name):
            raise Conflict(f"{path} was changed after the run: {_AGAIN}")


def check_report(folder: Path, judgement: Judgement) -> str:
    """Return the SHA-256 of report.json; NotFound or Conflict unless it says what is judged now.

    The report may be of another version of Hone; what the adoption rests on has to be the same.
    """
    path = folder / _REPORT
    try:
        written = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        raise NotFound(f"there is no {path}: {_AGAIN}") from None
    except orjson.JSONDecodeError:
        raise Conflict(f"{path} is no report: {_AGAIN}") from None
    judged = orjson.loads(report_json(judgement))
    for keys in _DECISIVE:
        if not _same(_at(written, keys), _at(judged, keys)):
            place = ".".join(keys)
            raise Conflict(f"{path} says another {place} than judging the run does: {_AGAIN}")
    return sha256_of_file(path)


def _at(content: Any, keys: tuple[str, ...]) -> Any:  # noqa: ANN401 - any JSON
    for key in keys:
        content = content.get(key) if isinstance(content, dict) else None
    return content


def _same(one: object, other: object) -> bool:
    """Whether two values are the same, but for the last digits of a number."""
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9)
    return one == other
