"""What holds for all tests of the preparation."""

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="package", autouse=True)
def _no_waiting_for_the_disk() -> Iterator[None]:
    """Skip flushing: of the many small files written here, each waits on a busy disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hone.models.durable.os.fsync", lambda _descriptor: None)
        yield
