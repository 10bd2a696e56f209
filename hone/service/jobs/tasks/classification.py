"""Classifiers of texts: an encoder that answers with one of the labels of its training file."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from hone.service.jobs.events import NewEvent
from hone.service.jobs.origins import Origin
from hone.service.jobs.records import Failure, Job
from hone.service.jobs.tasks.contract import (
    PreparedReport,
    invalid_file,
    label_count,
    unprepared,
)
from hone.service.jobs.tasks.labels import label_overrides, other_method, weight_note
from hone.service.jobs.tasks.notes import epochs_note, kept_notes
from hone.service.jobs.trainer import TrainingEvent
from hone.service.jobs.validation import FileReport

_FEW_STEPS = 200
_FEW_LABELS = "few distinct labels, at most one for three examples"


class TextClassification:
    """The task, as jobs see it."""

    name = "classification"
    sampled_checkpoints = False
    unprepared = unprepared(
        "it needs at least two labels, on texts that differ, and a validation file must hold "
        "texts that the training file does not."
    )

    def method_refusal(self, method: str, origin: Origin) -> Failure | None:
        """Refuse all but the one method for labels."""
        return other_method(method, origin)

    def refusal(
        self, job: Job, origin: Origin, training: FileReport, validation: FileReport | None
    ) -> Failure | None:
        """Refuse pictures, preferences, and completions that are no labels."""
        del validation
        if training.of_pictures:
            reason = f"its examples are pictures, and the base `{origin.name}` reads texts."
            return invalid_file("training_file", reason)
        other = self.method_refusal(job.method, origin)
        if other is not None:
            return other
        if training.form == "preference":
            return invalid_file("training_file", "preferences are for the method `dpo`.")
        if not training.is_classification:
            return self._open_ended(job, origin)
        if len(training.labels) < 2:
            return invalid_file(
                "training_file", "all completions are the same; it needs two labels."
            )
        return None

    def _open_ended(self, job: Job, origin: Origin) -> Failure:
        if job.given.get("task") == self.name:
            return invalid_file("training_file", f"its completions are not {_FEW_LABELS}.")
        message = (
            f"The completions are open-ended text, and the base `{origin.name}` only learns to "
            f"classify. Take a base that writes text, such as `scratch:llama-3m`, or completions "
            f"that are {_FEW_LABELS}."
        )
        return Failure("generation_not_supported", message, "training_file")

    def recipe(self, origin: Origin) -> str:
        """Train all but the word embeddings."""
        del origin
        return "classifier"

    def preparation(self, origin: Origin) -> Sequence[str]:
        """Leave out no class for being rare: the labels are the client's choice.

        Texts stay texts: one that is a path must not make the service open what lies there.
        """
        return ["--min-per-class", "1", "--base", origin.base, "--no-pictures"]

    def overrides(self, job: Job, origin: Origin, report: PreparedReport) -> dict[str, Any]:
        """Return what the client said of the classes, and the version to go on from."""
        return {"model.continue_from": origin.continue_from, **label_overrides(job, report)}

    def notes(self, job: Job, origin: Origin, report: PreparedReport) -> Iterator[NewEvent]:
        """Say what is trained, and on how much."""
        del origin
        yield NewEvent(
            f"The completions are {label_count(report)} distinct labels: an encoder classifier is "
            "trained, which answers with one of them"
        )
        yield from kept_notes(report)
        if report.get("shared_instruction"):
            yield NewEvent(
                "All prompts begin with the same instruction: it is taken off, and requests need "
                "not send it any more"
            )
        yield from epochs_note(job, "an encoder")
        yield from weight_note(job)

    def told(self, job: Job, event: TrainingEvent) -> Iterator[NewEvent]:
        """Warn of few steps where the client chose how many."""
        if event["event"] != "settled":
            return
        steps = max(1, math.ceil(event["epochs"] * event["steps_per_epoch"]))
        if steps < _FEW_STEPS and job.given.get("n_epochs") not in (None, "auto"):
            message = f"{steps} steps are few for an encoder: consider n_epochs 'auto'"
            yield NewEvent(message, level="warn")
