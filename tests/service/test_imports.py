"""Serving needs the core dependencies and nothing else."""

import subprocess
import sys

HEAVY = (
    "torch", "transformers", "sklearn", "scipy", "polars", "pandas", "onnx", "onnxscript",
    "matplotlib", "hone.training",
)  # fmt: skip

PROGRAM = """
import asyncio, sys
import hone.service.command, hone.service.server
from hone.service.fake import fake_model
from hone.service.metrics import Metrics
from hone.service.serving import Host
from hone.service.settings import Settings

async def main():
    host = Host(Settings(), Metrics(), {}, asyncio.get_running_loop())
    model = fake_model(host)
    await model.probe(10)
    await asyncio.to_thread(model.close)

asyncio.run(main())
print(sorted(name for name in sys.modules if name in set(sys.argv[1:])))
"""


def test_serving_imports_neither_torch_nor_its_like() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *HEAVY],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_nothing_happens_at_import() -> None:
    program = (
        "import threading, hone.service.command\nimport socket\nprint(threading.active_count())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.strip() == "1"
