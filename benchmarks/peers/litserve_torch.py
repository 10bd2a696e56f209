"""LitServe in the form of its own BERT benchmark: transformers, batches of 8, 10 ms to fill one.

BENCH_MODEL=model.json python -m benchmarks.peers.litserve_torch PORT
"""

import sys
from typing import Any

import litserve
import torch

from benchmarks.peers.pooled import load_pooled
from benchmarks.session import model_from_environment


class Classifier(litserve.LitAPI):  # type: ignore[misc] # the library is not typed
    """Tokenizes a batch together and runs it."""

    def setup(self, device: str) -> None:
        """Load the model; called in each worker."""
        model, self.tokenizer = load_pooled(model_from_environment())
        self.model = model.to(device)

    def decode_request(self, request: dict[str, Any]) -> str:
        """Return the text of a request."""
        return str(request["input"])

    def batch(self, inputs: list[str]) -> Any:  # noqa: ANN401 - the tokenizer's own type
        """Return the texts' ids, padded to the longest."""
        return self.tokenizer(inputs, return_tensors="pt", padding=True, truncation=True)

    def predict(self, inputs: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - as above
        """Return the best label and its score for each text."""
        with torch.inference_mode():
            scores, places = self.model(**inputs).logits.softmax(dim=1).max(dim=1)
        names = self.model.config.id2label
        pairs = zip(places.tolist(), scores.tolist(), strict=True)
        return [{"label": names[place], "score": score} for place, score in pairs]

    def unbatch(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the answers one by one."""
        return output

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        """Return the body of an answer."""
        return output


if __name__ == "__main__":
    server = litserve.LitServer(Classifier(max_batch_size=8, batch_timeout=0.01), accelerator="cpu")
    server.run(
        host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", generate_client_file=False
    )
