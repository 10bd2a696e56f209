"""Holding numpy's matrix products to one thread.

The products of one short text are so small that threads soon wait for each other. On two idle cores
a question took 8 ms with two threads and 10 ms with one; beside three busy processes 144 and 42.
"""

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import ThreadpoolController

_ONE_AT_A_TIME = threading.RLock()
"""The number of threads is the process's: who left while another is inside would leave it at one,
for good (threadpoolctl 3.8)."""


@functools.cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Compute matrix products on one thread meanwhile; other threads wait for their turn."""
    with _ONE_AT_A_TIME, _controller().limit(limits=1, user_api="blas"):
        yield
