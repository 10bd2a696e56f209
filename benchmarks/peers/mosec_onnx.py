"""mosec around the very ONNX session that Hone runs: a worker for each core.

BENCH_MODEL=model.json BENCH_VARIANT=int8 BENCH_WORKERS=2 \
    python -m benchmarks.peers.mosec_onnx --address 127.0.0.1 --port PORT

Half of 32 connections is the most that each of two workers can find waiting.
"""

from typing import Any

from mosec import Server, Worker

from benchmarks.session import classifier_from_environment, workers_from_environment

_BATCH = 32 // workers_from_environment()
_WAIT_MS = 10


class Classifier(Worker):  # type: ignore[misc] # the library is not typed
    """Runs a batch of texts."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = classifier_from_environment()
        self.example = [{"input": "a text to warm up with"}] * _BATCH

    def forward(self, data: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the best label and its score for each text."""
        return self.classifier.classify([query["input"] for query in data])


if __name__ == "__main__":
    server = Server()
    server.append_worker(
        Classifier, num=workers_from_environment(), max_batch_size=_BATCH, max_wait_time=_WAIT_MS
    )
    server.run()
