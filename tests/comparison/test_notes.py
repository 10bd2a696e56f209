"""What a run notes beside its figures, in words that fit their number."""

from dataclasses import replace
from pathlib import Path

import pytest

from hone.comparison.cache import Sums
from hone.comparison.run import _notes
from tests.comparison.experiments import experiment_text, plan_of, prompt, write_data


@pytest.mark.parametrize(
    ("number", "left_out", "repeated", "unpriced"),
    [
        (1, "1 of 61 test items was left out", "1 item repeats another", "1 call without a known"),
        (
            2,
            "2 of 62 test items were left out",
            "2 items repeat another",
            "2 calls without a known",
        ),
    ],
)
def test_one_is_not_written_as_many(
    tmp_path: Path, number: int, left_out: str, repeated: str, unpriced: str
) -> None:
    data = write_data(tmp_path / "data", test=60)
    plan = plan_of(experiment_text(data, prompt("http://127.0.0.1:9/v1")))
    material = replace(plan.material, rows=60 + number, repeated=number)
    found = list(_notes(replace(plan, material=material), Sums(0.0, 0.0, 3, number)))
    for note, said in zip(found, (left_out, repeated, unpriced), strict=True):
        assert note.startswith(said)
