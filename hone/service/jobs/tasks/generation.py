"""Causal language models: they learn to write completions, or which of two answers is better."""

from collections.abc import Iterator, Sequence
from typing import Any

from hone.models.catalogue import folder_of_base
from hone.models.decoding.model_folder import read_template
from hone.models.errors import InvalidInput
from hone.service.jobs.events import NewEvent
from hone.service.jobs.hyperparameters import number, prompt_loss_weight
from hone.service.jobs.origins import Origin
from hone.service.jobs.records import Failure, Job
from hone.service.jobs.tasks.contract import PreparedReport, invalid_file, unprepared
from hone.service.jobs.tasks.notes import epochs_note, kept_notes
from hone.service.jobs.trainer import TrainingEvent
from hone.service.jobs.validation import FileField, FileReport

_SCRATCH = "scratch:"
_LINES_SHOWN = 20
_OF_CLASSES = (
    "compute_classification_metrics",
    "classification_n_classes",
    "classification_positive_class",
    "classification_betas",
)


class TextGeneration:
    """The task, as jobs see it."""

    name = "generation"
    sampled_checkpoints = True
    unprepared = unprepared(
        "it needs prompts that differ, and a validation file must hold prompts that the training "
        "file does not."
    )

    def method_refusal(self, method: str, origin: Origin) -> Failure | None:
        """Refuse preferences for a base that is made anew."""
        if method != "dpo" or not origin.base.startswith(_SCRATCH):
            return None
        message = (
            f"`{origin.name}` knows nothing yet that preferences could change: `dpo` needs a "
            "base that was trained."
        )
        return Failure("method_not_supported", message, "model")

    def refusal(
        self, job: Job, origin: Origin, training: FileReport, validation: FileReport | None
    ) -> Failure | None:
        """Refuse what cannot be learned from, and what is asked of classifiers."""
        if training.of_pictures:
            reason = f"its examples are pictures, and the base `{origin.name}` reads texts."
            return invalid_file("training_file", reason)
        asked = next((name for name in _OF_CLASSES if job.given.get(name) is not None), None)
        if asked is not None:
            message = f"`{asked}` is for bases that classify; `{origin.name}` writes text."
            return Failure("invalid_hyperparameters", message, asked)
        prefers = training.form == "preference"
        if prefers != (job.method == "dpo"):
            holds = "preferences, which are" if prefers else f"of the form {training.form}, not"
            wanted = "for the method `dpo`." if prefers else "preferences, which `dpo` learns from."
            return invalid_file("training_file", f"its examples are {holds} {wanted}")
        found = self.method_refusal(job.method, origin)
        if found is None:
            found = _refused_tools(origin, training, "training_file")
        if found is None and validation is not None:
            found = _refused_tools(origin, validation, "validation_file")
        return found

    def recipe(self, origin: Origin) -> str:
        """Give a new model on small data dropout and other rates than a trained one."""
        return "completions_scratch" if origin.base.startswith(_SCRATCH) else "completions"

    def preparation(self, origin: Origin) -> Sequence[str]:
        """Keep completions as they are."""
        del origin
        return ["--task", "text-generation"]

    def overrides(self, job: Job, origin: Origin, report: PreparedReport) -> dict[str, Any]:
        """Return the objective, and what prompts weigh."""
        del origin, report
        return {
            "training.objective": job.method,
            "training.dpo_beta": number(job.given, "beta"),
            "dataset.prompt_loss_weight": prompt_loss_weight(job),
        }

    def notes(self, job: Job, origin: Origin, report: PreparedReport) -> Iterator[NewEvent]:
        """Say what is trained, and on how much."""
        yield NewEvent(
            f"The examples are of the form {report['form']}: the base {origin.name} is trained "
            "to write text"
        )
        yield from kept_notes(report)
        yield from _tool_notes(report)
        yield from epochs_note(job, "this base")

    def told(self, job: Job, event: TrainingEvent) -> Iterator[NewEvent]:
        """Tell of examples that are too long for the base, and of checkpoints left out."""
        del job
        match event["event"]:
            case "conversations_loaded":
                limit = f"of more than {event['max_tokens']} tokens"
                for count, done in ((event["left_out"], "left out"), (event["truncated"], "cut")):
                    if count:
                        message = (
                            f"{count} examples {limit}, which the base cannot read, are {done}"
                        )
                        yield NewEvent(message, level="warn")
            case "checkpoint_left_out":
                unlike = event.get("code") in (None, "parity_failed")
                why = "its export does not answer as it does" if unlike else "it cannot be written"
                message = f"The checkpoint of step {event['step']} is not kept: {why}"
                yield NewEvent(message, level="warn")


def _refused_tools(origin: Origin, file: FileReport, field: FileField) -> Failure | None:
    """Return why the tools in a file cannot be learned by this base, or None."""
    problem = file.tool_problem(field)
    if problem is not None or not file.tool_line_count or _may_know_tools(origin.base):
        return problem
    shown = ", ".join(map(str, file.tool_lines[:_LINES_SHOWN]))
    more = file.tool_line_count - len(file.tool_lines[:_LINES_SHOWN])
    many = file.tool_line_count > 1
    message = (
        f"The chat template of the base `{origin.name}` does not know tools, or not in a form that "
        f"can be served, and line{'s' * many} {shown}{f' and {more} more' if more else ''} of the "
        f"{field.replace('_', ' ')} {'have' if many else 'has'} some. Take a base whose template "
        "knows them, such as `scratch:llama-3m`, or leave these lines out."
    )
    return Failure("tools_not_supported", message, field)


def _may_know_tools(base: str) -> bool:
    """Whether a base's chat template knows tools; a hub's is only known once it was fetched."""
    folder = folder_of_base(base)
    if folder is None:
        return True
    try:
        return read_template(folder).tool_form is not None
    except InvalidInput:
        return False


def _tool_notes(report: PreparedReport) -> Iterator[NewEvent]:
    """Yield what of the chats with tools is trained on."""
    tools = report.get("tools") or {"examples": 0}
    if tools["examples"]:
        yield NewEvent(
            f"{tools['examples']} of the chats have tools. Trained on are the assistant's messages "
            f"whose weight is not 0, {tools['calls_trained']} tool calls among them; "
            f"{tools['calls_read']} calls of weight 0, and what tools answered, are only read"
        )
