"""A ring is heard at once, once, and also when it came before the waiting."""

import threading
import time

from hone.service.jobs.bell import Bell


def test_a_ring_ends_the_waiting_of_all() -> None:
    bell, heard = Bell(), []
    waiting = [
        threading.Thread(target=lambda: heard.append(bell.wait(0, 60)), daemon=True)
        for _ in range(3)
    ]
    for thread in waiting:
        thread.start()
    bell.ring()
    for thread in waiting:
        thread.join(30)
    assert heard == [1, 1, 1]


def test_a_ring_before_the_waiting_is_heard_once() -> None:
    bell = Bell()
    bell.ring()
    bell.ring()
    heard = bell.wait(0, 60)
    assert heard == 2
    before = time.monotonic()
    assert bell.wait(heard, 0.05) == 2
    assert time.monotonic() - before >= 0.04
