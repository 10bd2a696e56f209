"""Run the service with the built-in fake model, made slow or brittle for a test.

    python -m tests.service.fake_driver SECONDS_FOR_A_TEXT POISON

A text that contains the one-letter word POISON breaks the engine's run.
"""

import sys
import time

from hone.models import engines
from hone.models.engines import FloatArray
from hone.models.tokenizer import IntArray
from hone.service.command import settings_from
from hone.service.fake import fake_predictor
from hone.service.server import run


def main(seconds: float, poison: str) -> None:
    real_run = engines.FakeEngine.run
    (poison_id,) = fake_predictor().encode([poison])[0].ids

    def slow_run(
        self: engines.FakeEngine, input_ids: IntArray, attention_mask: IntArray
    ) -> FloatArray:
        time.sleep(seconds * len(input_ids))
        self.poison = poison_id
        return real_run(self, input_ids, attention_mask)

    engines.FakeEngine.run = slow_run  # type: ignore[method-assign]
    run(settings_from(fake=True))


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2])
