"""`hone train`, killed when it is about to export a variant.

python -m tests.training.kill_driver int8 train classifier ...
"""

import os
import signal
import sys
from pathlib import Path

from hone import cli
from hone.models.manifest import Variant
from hone.training import delivery
from hone.training.classifier import TextClassifier

write_variant = delivery.write_variant


def kill_before(last: str) -> None:
    """Let the export of that variant be the last thing that happens."""

    def killed(model: TextClassifier, variant: Variant, file: Path, *, fp32: Path) -> None:
        if variant == last:
            os.kill(os.getpid(), signal.SIGKILL)
        write_variant(model, variant, file, fp32=fp32)

    delivery.write_variant = killed


if __name__ == "__main__":
    kill_before(sys.argv.pop(1))
    cli.main()
