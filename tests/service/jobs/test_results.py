"""The result files have one row for each step, in the columns that clients read."""

import csv
import io

from hone.service.jobs.results import (
    MODERN_COLUMNS,
    Measurements,
    StepRow,
    legacy_csv,
    modern_csv,
)


def score(value: float) -> dict[str, float]:
    return {"value": value, "low": 0, "high": 1, "n": 5}


def measured(*, binary: bool = False) -> Measurements:
    found = Measurements()
    found.take({"event": "step", "series": [[1, 0.5, 0.25, 8, 90], [2, 0.25, 0.5, 16, 170]]})
    scores = {"accuracy": 0.75, "weighted_f1": 0.65} | ({"precision": 0.5} if binary else {})
    found.take({"event": "evaluated", "step": 2, "loss": 0.3, "accuracy": 0.75, "scores": scores})
    found.take({"event": "step", "series": [[3, None, 1.0, 24, 260]]})
    named = {"accuracy": score(0.8), "weighted_f1": score(0.7)}
    if binary:
        named |= {name: score(0.6) for name in ("precision", "recall", "auroc", "auprc", "f1")}
    found.take({"event": "scored", "split": "test", "variant": "fp32", "accuracy": score(0.1)})
    found.take({"event": "scored", "split": "validation", "variant": "fp32", **named})
    found.take({"event": "scored", "split": "validation", "variant": "int8", "accuracy": score(0)})
    return found


def rows(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode())))


def test_the_modern_file_has_every_step_and_blanks_where_nothing_was_measured() -> None:
    first, second, third = rows(modern_csv(measured()))
    assert tuple(first) == MODERN_COLUMNS
    assert first == {
        "step": "1", "train_loss": "0.5", "train_accuracy": "0.25", "valid_loss": "",
        "valid_mean_token_accuracy": "",
    }  # fmt: skip
    assert second["valid_loss"] == "0.3"
    assert (third["train_loss"], third["train_accuracy"]) == ("", "1")


def test_the_legacy_file_counts_what_was_read() -> None:
    first, second, _ = rows(legacy_csv(measured(), classes=False))
    assert (first["elapsed_tokens"], first["elapsed_examples"]) == ("90", "8")
    assert second["training_sequence_accuracy"] == second["training_token_accuracy"] == "0.5"
    assert second["validation_sequence_accuracy"] == "0.75"
    assert not any(name.startswith("classification/") for name in first)


def test_the_scores_of_several_classes_stand_where_they_were_measured_and_in_the_end() -> None:
    first, second, last = rows(legacy_csv(measured(), classes=True, betas=[1]))
    assert [name for name in first if "/" in name] == [
        "classification/accuracy", "classification/weighted_f1_score",
    ]  # fmt: skip
    assert first["classification/accuracy"] == ""
    assert second["classification/accuracy"] == "0.75"
    assert second["classification/weighted_f1_score"] == "0.65"
    assert last["classification/accuracy"] == "0.8"
    assert last["classification/weighted_f1_score"] == "0.7"


def test_two_classes_have_the_binary_scores() -> None:
    _, second, last = rows(legacy_csv(measured(binary=True), classes=True, betas=[1.0]))
    assert (second["classification/precision"], second["classification/auroc"]) == ("0.5", "")
    assert [name for name in last if "/" in name] == [
        "classification/accuracy", "classification/precision", "classification/recall",
        "classification/auroc", "classification/auprc", "classification/f1",
    ]  # fmt: skip
    assert last["classification/auprc"] == "0.6"


def test_a_step_that_was_done_again_counts_once() -> None:
    found = measured()
    found.take({"event": "step", "series": [[2, 0.2, 0.9, 16, 170]]})
    assert [row["step"] for row in rows(modern_csv(found))] == ["1", "2", "3"]
    assert found.rows[2].loss == 0.2


def test_a_job_without_a_step_has_the_head_alone() -> None:
    assert modern_csv(Measurements()) == (",".join(MODERN_COLUMNS) + "\n").encode()
    assert Measurements().last() == (0, StepRow())


def test_of_a_model_that_writes_text_sequences_are_counted_only_where_they_were_decoded() -> None:
    found = Measurements()
    found.take({"event": "step", "series": [[1, 2.0, 0.25, 8, 90], [2, 1.5, 0.5, 16, 170]]})
    scores = {"token_accuracy": 0.5, "perplexity": 4.0, "exact_match": 0.125}
    found.take({"event": "evaluated", "step": 2, "loss": 1.4, "accuracy": 0.5, "scores": scores})
    first, second = rows(legacy_csv(found, classes=False, one_token=False))
    assert (first["training_token_accuracy"], first["training_sequence_accuracy"]) == ("0.25", "")
    assert first["validation_sequence_accuracy"] == ""
    assert second["validation_token_accuracy"] == "0.5"
    assert second["validation_sequence_accuracy"] == "0.125"


def test_a_head_that_is_fitted_without_steps_has_one_row_of_its_best_fit() -> None:
    found = Measurements()
    for penalty, loss in ((0.1, 0.5), (1.0, 0.3), (10.0, 0.4)):
        scores = {"accuracy": 1 - loss}
        found.take({"event": "probed", "penalty": penalty, "loss": loss, "scores": scores})
    (row,) = rows(modern_csv(found))
    assert (row["step"], row["train_loss"], row["valid_loss"]) == ("1", "", "0.3")
    assert row["valid_mean_token_accuracy"] == "0.7"
