"""Decoders that several models share: loaded once, and without keeping others waiting."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from hone.service.decoders import Decoder, SharedDecoders

WAIT_S = 30


class Closable:
    """Stands for a decoder; its scheduler is itself."""

    def __init__(self) -> None:
        self.scheduler = self
        self.closed = 0

    def close(self, *, timeout_s: float | None = None) -> None:
        self.closed += 1


def made() -> Any:
    return Closable()


def test_who_shares_a_base_waits_for_one_load_and_nobody_else_does() -> None:
    shared = SharedDecoders()
    begun, over = threading.Event(), threading.Event()
    loads: list[Decoder] = []

    def slowly() -> Decoder:
        begun.set()
        assert over.wait(WAIT_S)
        loads.append(made())
        return loads[-1]

    old = shared.borrow("old", made)
    with ThreadPoolExecutor(4) as threads:
        try:
            sharing = [threads.submit(shared.borrow, "base", slowly) for _ in range(2)]
            assert begun.wait(WAIT_S)
            threads.submit(shared.borrow, "another", made).result(WAIT_S)
            threads.submit(shared.borrow, None, made).result(WAIT_S)
            threads.submit(shared.give_back, old).result(WAIT_S)
        finally:
            over.set()
        found = {one.result(WAIT_S) for one in sharing}
    assert found == set(loads)
    [decoder] = loads
    shared.give_back(decoder)
    assert decoder.closed == 0  # type: ignore[attr-defined]
    shared.give_back(decoder)
    assert decoder.closed == 1  # type: ignore[attr-defined]
    assert shared.borrow("base", made) is not decoder


def test_a_load_that_fails_lets_the_next_one_try() -> None:
    shared = SharedDecoders()

    def fail() -> Decoder:
        raise OSError("no memory")

    with pytest.raises(OSError, match="no memory"):
        shared.borrow("base", fail)
    assert isinstance(shared.borrow("base", made), Closable)
