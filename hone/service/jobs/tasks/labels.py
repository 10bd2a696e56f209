"""What classifiers of texts and of pictures share: their labels, and what is asked about them."""

from collections.abc import Iterator
from typing import Any

from hone.service.jobs.events import NewEvent
from hone.service.jobs.hyperparameters import betas, number
from hone.service.jobs.origins import Origin, Refused
from hone.service.jobs.records import Failure, Job
from hone.service.jobs.tasks.contract import PreparedReport, label_count


def other_method(method: str, origin: Origin) -> Failure | None:
    """Return the failure of a job whose method no classifier is trained with."""
    if method == "supervised":
        return None
    message = f"The method `{method}` is for bases that write text, not `{origin.name}`."
    return Failure("method_not_supported", message, "method")


def label_overrides(job: Job, report: PreparedReport) -> dict[str, Any]:
    """Return the recipe's keys of what the client said of the classes, which must be true."""
    _check_classes(job, report)
    return {
        "dataset.positive_label": _positive_label(job, report),
        "dataset.betas": betas(job) or None,
    }


def weight_note(job: Job) -> Iterator[NewEvent]:
    """Yield that a prompt's weight means nothing here."""
    if number(job.given, "prompt_loss_weight") is not None:
        yield NewEvent("prompt_loss_weight has no effect on a classifier, which writes no text")


def _check_classes(job: Job, report: PreparedReport) -> None:
    """Refuse what the client said of the classes and the files do not hold."""
    wanted, found = number(job.given, "classification_n_classes"), label_count(report)
    if wanted is not None and wanted != found:
        message = (
            f"The number of classes in {job.training_file} ({found}) does not match the number of "
            f"classes specified in the hyperparameters ({wanted:g})."
        )
        raise Refused(Failure("invalid_n_classes", message, "classification_n_classes"))
    unknown = [p for p in report["problems"] if p["code"] == "unknown_labels"]
    if unknown:
        shown = ", ".join(f"`{one['label']}`" for one in unknown[0]["examples"][:5])
        message = (
            "The job failed due to an invalid validation file. It has labels that the training "
            f"file does not have: {shown}."
        )
        raise Refused(Failure("invalid_validation_file", message[:500], "validation_file"))


def _positive_label(job: Job, report: PreparedReport) -> str | None:
    """Return the positive class as the prepared data spell it; Refused if no class is called so."""
    wanted = job.given.get("classification_positive_class")
    if wanted is None:
        return None
    labels = {_bare(label, report): label for label in _labels(report)}
    found = labels.get(_bare(str(wanted), report))
    if found is None:
        message = (
            f"The positive class specified `{str(wanted)[:100]}` is not found among the classes "
            f"in the validation file {job.validation_file or job.training_file}."
        )
        param = "classification_positive_class"
        raise Refused(Failure("invalid_positive_class", message, param))
    return found


def _labels(report: PreparedReport) -> list[str]:
    return [str(row["label"]) for row in report["labels"]]


def _bare(label: str, report: PreparedReport) -> str:
    stop = str((report.get("prompt_form") or {}).get("stop", "")).strip()
    return label.strip().removesuffix(stop).strip().casefold()
