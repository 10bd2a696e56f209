"""What can be wrong with the job store, and what a disk's refusal becomes.

HoneError
├── Conflict
│   ├── LeaseLost           somebody else works on the job now, or nobody should
│   ├── CancelWished        the owner wishes the job cancelled: it must not succeed
│   ├── NameTaken           another fine-tuned model has the id
│   └── InFlight            409: a request with the same Idempotency-Key is at work
├── InvalidRequest
│   └── IdempotencyReused   422: an Idempotency-Key that came with another body
├── NotReady                503, with Retry-After
│   ├── StoreBusy           another writer held the store too long
│   └── StoreUnreachable    no connection to the database
├── DiskFull                507
└── StoreFailed             the database or the disk is broken, or of another version
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from hone.models.errors import Conflict, HoneError
from hone.service.errors import InvalidRequest, NotReady

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class LeaseLost(Conflict):
    """The job is no longer this worker's: it must stop at once and write nothing more."""

    code = "lease_lost"


class CancelWished(Conflict):
    """The job's owner wishes it cancelled: it must not succeed any more."""

    code = "cancel_wished"


class NameTaken(Conflict):
    """Another fine-tuned model has the id; choose another one."""

    code = "name_taken"


class InFlight(Conflict):
    """A request with the same `Idempotency-Key` is at work: clients send this one again (409)."""

    code = "idempotency_key_in_flight"


class IdempotencyReused(InvalidRequest):
    """An `Idempotency-Key` that was used for a request with another body."""

    code = "idempotency_key_reused"
    status = 422


class StoreBusy(NotReady):
    """Another writer held the store for longer than the time to wait."""

    code = "store_busy"


class StoreUnreachable(NotReady):
    """The database does not answer."""

    code = "store_unreachable"
    retry_after_s = 5.0


class DiskFull(HoneError):
    """There is no room left for a file or a row; nothing was stored."""

    code = "disk_full"
    status = 507


class StoreFailed(HoneError):
    """The database or the state folder cannot be used as it is."""

    code = "store_failed"


@contextmanager
def disk_errors() -> Iterator[None]:
    """Turn a refused file operation into DiskFull or StoreFailed."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise DiskFull("the disk of the state folder is full") from error
        raise StoreFailed("the state folder cannot be read or written") from error
