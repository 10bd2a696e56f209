"""What a client is told about each kind of error."""

import pytest

from hone.models.errors import BundleCorrupt, Conflict, HoneError, NotFound
from hone.service.errors import ModelNotFound, answer_for
from hone.service.jobs.errors import DiskFull, IdempotencyReused, LeaseLost, StoreFailed

ANSWERS: list[tuple[HoneError, int, str, str | None]] = [
    (ModelNotFound("x"), 404, "model_not_found", "model"),
    (NotFound("x"), 404, "not_found", None),
    (Conflict("x"), 409, "conflict", None),
    (LeaseLost("x"), 409, "lease_lost", None),
    (IdempotencyReused("x"), 422, "idempotency_key_reused", None),
    (DiskFull("x"), 507, "disk_full", None),
]


@pytest.mark.parametrize(("error", "status", "code", "param"), ANSWERS)
def test_an_error_has_its_status_and_its_own_words(
    error: HoneError, status: int, code: str, param: str | None
) -> None:
    answer = answer_for(error)
    assert (answer.status, answer.code, answer.param, answer.message) == (status, code, param, "x")
    kind = "server_error" if status >= 500 else "invalid_request_error"
    assert answer.type == kind


def test_a_param_of_its_own_is_told() -> None:
    error = NotFound("there is no such file")
    error.param = "training_file"  # type: ignore[attr-defined]
    assert answer_for(error).param == "training_file"


@pytest.mark.parametrize("error", [BundleCorrupt("/a/path"), StoreFailed("/a/path"), OSError("/a")])
def test_what_may_hold_a_path_stays_in_the_log(error: BaseException) -> None:
    answer = answer_for(error)
    assert (answer.status, answer.code) == (500, "internal_error")
    assert "/a" not in answer.message
