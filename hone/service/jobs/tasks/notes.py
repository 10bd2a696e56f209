"""What the client of any job is told of it before it begins."""

from collections.abc import Iterator

from hone.service.jobs.events import NewEvent
from hone.service.jobs.hyperparameters import LEGACY_EPOCHS, number
from hone.service.jobs.records import Job
from hone.service.jobs.tasks.contract import PreparedReport


def kept_notes(report: PreparedReport) -> Iterator[NewEvent]:
    """Yield how many examples are used, and for what."""
    counts, splits = report["counts"], report["splits"]
    if counts["dropped"]:
        reasons = ", ".join(
            f"{count} {reason.replace('_', ' ')}" for reason, count in counts["dropped"].items()
        )
        yield NewEvent(
            f"{counts['kept']} of {counts['read']} examples are used; left out: {reasons}"
        )
    yield NewEvent(
        f"{splits['train']['rows']} examples are trained on, {splits['validation']['rows']} "
        f"choose the weights, {splits['test']['rows']} test them"
    )


def epochs_note(job: Job, model: str) -> Iterator[NewEvent]:
    """Yield that legacy's own number of epochs is not taken; `model` is what is trained."""
    if job.flavour == "legacy" and number(job.given, "n_epochs") is None:
        yield NewEvent(
            f"n_epochs was not given: instead of {LEGACY_EPOCHS}, which is for larger models, as "
            f"many are trained as {model} needs on this much data"
        )
