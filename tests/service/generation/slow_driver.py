"""Run the service with the built-in causal model, each step of which takes some time.

    python -m tests.service.generation.slow_driver SECONDS_FOR_A_STEP

The prompt's character `~` breaks the engine's run.
"""

import sys
import time
from collections.abc import Sequence

from hone.models.decoding import fake
from hone.models.engines import FloatArray
from hone.models.tokenizer import IntArray
from hone.service.command import settings_from
from hone.service.server import run

POISON = 95
"""The id of `~`."""


def main(seconds: float) -> None:
    step, prefill = fake.FakeDecoder.step, fake.FakeDecoder.prefill

    def slow_step(
        self: fake.FakeDecoder,
        first: int,
        ids: IntArray,
        lengths: IntArray,
        adapters: Sequence[int] | None = None,
    ) -> FloatArray:
        time.sleep(seconds)
        logits = step(self, first, ids, lengths, adapters)
        logits[:, POISON + 1] = -50.0  # it never ends by itself
        return logits

    def brittle_prefill(
        self: fake.FakeDecoder,
        slot: int,
        ids: Sequence[int],
        start: int,
        *,
        every: bool,
        adapter: int = 0,
    ) -> FloatArray:
        if POISON in ids:
            raise RuntimeError("poisoned")
        logits = prefill(self, slot, ids, start, every=every, adapter=adapter)
        logits[:, POISON + 1] = -50.0
        return logits

    fake.FakeDecoder.step = slow_step  # type: ignore[method-assign]
    fake.FakeDecoder.prefill = brittle_prefill  # type: ignore[method-assign]
    run(settings_from(fake=True))


if __name__ == "__main__":
    main(float(sys.argv[1]))
