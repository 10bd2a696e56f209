"""What the documents say of experiments is what the schema says."""

import re
from pathlib import Path

from hone.comparison.experiment import billing_of
from hone.comparison.experiment_file import load_experiment, read_experiment
from hone.comparison.experiment_reference import reference

ROOT = Path(__file__).resolve().parents[2]


def test_the_reference_of_experiments_is_what_the_schema_says() -> None:
    assert (ROOT / "docs" / "experiments.md").read_text(encoding="utf-8") == reference()


def test_the_experiment_in_the_documents_can_be_read() -> None:
    text = (ROOT / "docs" / "comparison.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```toml\n(.*?)```", text, flags=re.DOTALL)
    file = read_experiment(block.encode(), "docs/comparison.md")
    assert [one.kind for one in file.experiment.contenders] == ["bundle", "prompt"]


def test_the_shipped_example_can_be_read_without_a_warning() -> None:
    file = load_experiment(ROOT / "examples" / "support" / "compare.toml")
    assert file.warnings == ()
    kinds = {one.kind for one in file.experiment.contenders}
    assert kinds == {"bundle", "prompt", "embedded", "majority"}
    asked = [one for one in file.experiment.contenders if one.kind == "prompt"]
    assert {billing_of(one) for one in asked} == {"tokens"}
