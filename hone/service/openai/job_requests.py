"""What a client asks for when it creates a job, old or new: each field checked by name."""

import secrets
from collections.abc import Callable
from typing import Any, NamedTuple

from hone.service.errors import InvalidRequest
from hone.service.jobs.records import NewJob
from hone.service.jobs.tasks.kinds import TASK_NAMES
from hone.service.openai.bodies import needed_word, take_pairs
from hone.service.openai.fields import Fields

MOST_SEED = 2**31 - 1
MOST_EPOCHS, MOST_BATCH, MOST_MULTIPLIER = 50, 256, 100.0
LONGEST_SUFFIX, LONGEST_LEGACY_SUFFIX = 64, 40

TASKS = ("auto", *TASK_NAMES)
"""What a job's `task` may be, which the hosted API has not. `auto` is what its base is for."""

MOST_BETA = 2.0
_METHODS = ("supervised", "dpo", "reinforcement")
_UNSUPPORTED_METHOD = "reinforcement"
_MOST_CLASSES = 10_000
_MOST_BETAS = 16


def read_job(fields: Fields, owner: str) -> NewJob:
    """Return a modern job; InvalidRequest with the field that is wrong or not supported."""
    model = needed_word(fields, "model")
    training_file = needed_word(fields, "training_file")
    task = _task(fields)
    method, given = _method(fields)
    new = NewJob(
        owner=owner,
        flavour="modern",
        model=model,
        method=method,
        training_file=training_file,
        validation_file=fields.word("validation_file"),
        suffix=_suffix(fields, LONGEST_SUFFIX),
        seed=fields.whole("seed", secrets.randbelow(MOST_SEED), low=0, high=MOST_SEED),
        metadata=take_pairs(fields, "metadata"),
        given=task | given,
        status="validating_files",
    )
    fields.none_of(["integrations"])
    fields.end()
    return new


def read_fine_tune(fields: Fields, owner: str) -> NewJob:
    """Return a legacy job; InvalidRequest with the field that is wrong."""
    training_file = needed_word(fields, "training_file")
    validation_file = fields.word("validation_file")
    new = NewJob(
        owner=owner,
        flavour="legacy",
        model=fields.word("model") or "curie",
        training_file=training_file,
        validation_file=validation_file,
        suffix=_suffix(fields, LONGEST_LEGACY_SUFFIX),
        seed=secrets.randbelow(MOST_SEED),
        given=_task(fields) | _legacy_given(fields, has_validation=validation_file is not None),
        status="validating_files",
    )
    fields.end()
    return new


def _suffix(fields: Fields, longest: int) -> str | None:
    suffix = fields.word("suffix")
    if suffix is not None and not 0 < len(suffix) <= longest:
        raise fields.wrong("suffix", f"must have 1 to {longest} characters")
    return suffix


def _task(fields: Fields) -> dict[str, Any]:
    task = fields.word("task")
    if task is not None and task not in TASKS:
        raise fields.wrong("task", f"must be one of {', '.join(TASKS)}")
    return {} if task in {None, "auto"} else {"task": task}


def _method(fields: Fields) -> tuple[str, dict[str, Any]]:
    """Return the method, and its hyperparameters or those of the deprecated field beside it."""
    method, old = _object(fields, "method"), _object(fields, "hyperparameters")
    kind, chosen = "supervised", None
    if method is not None:
        kind, chosen = _of_method(method)
    if chosen is None:
        chosen = None if old is None else Fields(old, "hyperparameters.")
    return kind, {} if chosen is None else _hyperparameters(chosen, preferences=kind == "dpo")


def _of_method(method: dict[str, Any]) -> tuple[str, Fields | None]:
    """Return a method's name, and the fields of its hyperparameters if it has any."""
    kind = method.pop("type", None)
    if kind not in _METHODS:
        message = f"'method.type' must be one of {', '.join(_METHODS)}."
        raise InvalidRequest(message, param="method.type")
    if kind == _UNSUPPORTED_METHOD:
        message = f"The method {kind!r} is not supported; 'supervised' and 'dpo' are."
        raise InvalidRequest(message, param="method", code="unsupported_method")
    inside = Fields(method, "method.")
    options = _object(inside, kind) or {}
    inside.end()
    place = f"method.{kind}."
    of_method = Fields(options, place)
    chosen = _object(of_method, "hyperparameters")
    of_method.end()
    return kind, None if chosen is None else Fields(chosen, f"{place}hyperparameters.")


def _hyperparameters(fields: Fields, *, preferences: bool) -> dict[str, Any]:
    found = {
        "n_epochs": _auto_or(fields, "n_epochs", _whole(MOST_EPOCHS)),
        "batch_size": _auto_or(fields, "batch_size", _whole(MOST_BATCH)),
        "learning_rate_multiplier": _auto_or(fields, "learning_rate_multiplier", _POSITIVE),
    }
    if preferences:
        found["beta"] = _auto_or(fields, "beta", _BETA)
    fields.end()
    return {name: value for name, value in found.items() if value is not None}


def _legacy_given(fields: Fields, *, has_validation: bool) -> dict[str, Any]:
    metrics = fields.flag("compute_classification_metrics")
    found = {
        "n_epochs": _number_or_none(fields, "n_epochs", _whole(MOST_EPOCHS)),
        "batch_size": _number_or_none(fields, "batch_size", _whole(MOST_BATCH)),
        "learning_rate_multiplier": _number_or_none(fields, "learning_rate_multiplier", _POSITIVE),
        "prompt_loss_weight": _number_or_none(fields, "prompt_loss_weight", _SHARE),
        "compute_classification_metrics": metrics or None,
        "classification_n_classes": _number_or_none(
            fields, "classification_n_classes", _whole(_MOST_CLASSES, low=2)
        ),
        "classification_positive_class": fields.word("classification_positive_class"),
        "classification_betas": _betas(fields),
    }
    given = {name: value for name, value in found.items() if value is not None}
    if metrics:
        _check_metrics(given, has_validation=has_validation)
    return given


def _check_metrics(given: dict[str, Any], *, has_validation: bool) -> None:
    if not has_validation:
        message = "'compute_classification_metrics' needs a 'validation_file'."
        raise InvalidRequest(message, param="validation_file")
    if not given.keys() & {"classification_n_classes", "classification_positive_class"}:
        message = (
            "'compute_classification_metrics' needs 'classification_n_classes', or for two classes "
            "'classification_positive_class'."
        )
        raise InvalidRequest(message, param="classification_n_classes")
    if "classification_betas" in given and "classification_positive_class" not in given:
        message = "'classification_betas' need a 'classification_positive_class'."
        raise InvalidRequest(message, param="classification_betas")


def _betas(fields: Fields) -> list[float] | None:
    found = fields.take("classification_betas")
    if found is None:
        return None
    if type(found) is not list or len(found) > _MOST_BETAS or not all(map(_is_positive, found)):
        raise fields.wrong("classification_betas", f"must be up to {_MOST_BETAS} numbers above 0")
    return [float(beta) for beta in found]


def _object(fields: Fields, name: str) -> dict[str, Any] | None:
    found = fields.take(name)
    if found is not None and type(found) is not dict:
        raise fields.wrong(name, "must be an object")
    return None if found is None else dict(found)


class Bound(NamedTuple):
    """What a number must be, and how that is said."""

    allows: Callable[[object], bool]
    words: str


def _auto_or(fields: Fields, name: str, bound: Bound) -> Any:  # noqa: ANN401 - a number or "auto"
    value = fields.take(name)
    if value is None or value == "auto" or bound.allows(value):
        return value
    raise fields.wrong(name, f"must be 'auto' or {bound.words}")


def _number_or_none(fields: Fields, name: str, bound: Bound) -> Any:  # noqa: ANN401 - a number
    value = fields.take(name)
    if value is None or bound.allows(value):
        return value
    raise fields.wrong(name, f"must be {bound.words}")


def _whole(high: int, *, low: int = 1) -> Bound:
    return Bound(
        lambda value: type(value) is int and low <= value <= high,
        f"a whole number from {low} to {high}",
    )


def _is_positive(value: object) -> bool:
    return type(value) in {int, float} and 0 < value <= MOST_MULTIPLIER  # type: ignore[operator]


def _is_share(value: object) -> bool:
    return type(value) in {int, float} and 0 <= value <= 1  # type: ignore[operator]


_POSITIVE = Bound(_is_positive, f"a number above 0, at most {MOST_MULTIPLIER:g}")
_BETA = Bound(
    lambda value: _is_positive(value) and value <= MOST_BETA,  # type: ignore[operator]
    f"a number above 0, at most {MOST_BETA:g}",
)
_SHARE = Bound(_is_share, "a number from 0 to 1")
