"""Classifiers of pictures: a label for each, from folders, a table of paths, or embedded ones."""

from collections.abc import Iterator, Sequence
from typing import Any

from hone.service.jobs.events import NewEvent
from hone.service.jobs.hyperparameters import number
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

_OF_STEPS = ("n_epochs", "batch_size", "learning_rate_multiplier")


class PictureClassification:
    """The task, as jobs see it."""

    name = "images"
    sampled_checkpoints = False
    unprepared = unprepared(
        "it needs pictures of at least two classes that do not look alike, and a validation file "
        "must hold pictures that the training file does not."
    )

    def method_refusal(self, method: str, origin: Origin) -> Failure | None:
        """Refuse all but the one method for labels."""
        return other_method(method, origin)

    def refusal(
        self, job: Job, origin: Origin, training: FileReport, validation: FileReport | None
    ) -> Failure | None:
        """Refuse texts, and pictures of fewer than two classes."""
        del validation
        if not training.of_pictures:
            reason = f"its examples are texts, and the base `{origin.name}` sees pictures."
            return invalid_file("training_file", reason)
        other = self.method_refusal(job.method, origin)
        if other is not None:
            return other
        in_a_table = training.form == "archive of pictures" and not training.labels
        if in_a_table:
            return None  # which classes it names is seen when the job is prepared
        if not training.is_classification:
            reason = "its labels are too many to be classes: at most one for three pictures."
            return invalid_file("training_file", reason)
        if len(training.labels) < 2:
            return invalid_file(
                "training_file", "all pictures have the same label; it needs two labels."
            )
        return None

    def recipe(self, origin: Origin) -> str:
        """Take a head on a trained base's features; a new base is trained whole by itself."""
        del origin
        return "images"

    def preparation(self, origin: Origin) -> Sequence[str]:
        """Leave out no class for being rare: the labels are the client's choice."""
        del origin
        return ["--min-per-class", "1"]

    def overrides(self, job: Job, origin: Origin, report: PreparedReport) -> dict[str, Any]:
        """Return what the client said of the classes."""
        del origin
        return label_overrides(job, report)

    def notes(self, job: Job, origin: Origin, report: PreparedReport) -> Iterator[NewEvent]:
        """Say what is trained, and on how much."""
        del origin
        yield NewEvent(
            f"The pictures have {label_count(report)} distinct labels: a classifier is trained, "
            "which answers with one of them"
        )
        yield from kept_notes(report)
        yield from epochs_note(job, "this base")
        yield from weight_note(job)

    def told(self, job: Job, event: TrainingEvent) -> Iterator[NewEvent]:
        """Tell that a head on fixed features knows no steps, where the client chose some."""
        if event["event"] != "probing":
            return
        yield NewEvent("A head is fitted on the base's features, which stay as they are")
        given = [name for name in _OF_STEPS if number(job.given, name) is not None]
        if given:
            message = f"{', '.join(given)}: no effect on a head that is fitted without steps"
            yield NewEvent(message, level="warn")
