"""LitServe around the very ONNX session that Hone runs: a worker for each core.

BENCH_MODEL=model.json BENCH_VARIANT=int8 BENCH_WORKERS=2 \
    python -m benchmarks.peers.litserve_onnx PORT

Half of 32 connections is the most that each of two workers can find waiting.
"""

import sys
from typing import Any

import litserve

from benchmarks.session import classifier_from_environment, workers_from_environment


class Classifier(litserve.LitAPI):  # type: ignore[misc] # the library is not typed
    """Runs a batch of texts."""

    def setup(self, device: str) -> None:
        """Load the session; called in each worker."""
        del device
        self.classifier = classifier_from_environment()

    def decode_request(self, request: dict[str, Any]) -> str:
        """Return the text of a request."""
        return str(request["input"])

    def batch(self, inputs: list[str]) -> list[str]:
        """Return the texts as they are."""
        return inputs

    def predict(self, inputs: list[str]) -> list[dict[str, Any]]:
        """Return the best label and its score for each text."""
        return self.classifier.classify(inputs)

    def unbatch(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the answers one by one."""
        return output

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        """Return the body of an answer."""
        return output


if __name__ == "__main__":
    server = litserve.LitServer(
        Classifier(max_batch_size=32 // workers_from_environment(), batch_timeout=0.01),
        accelerator="cpu",
        workers_per_device=workers_from_environment(),
    )
    server.run(
        host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", generate_client_file=False
    )
