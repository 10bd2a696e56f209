"""mosec in the form of its own DistilBERT example: a stage that tokenizes, a stage that runs torch.

BENCH_MODEL=model.json python -m benchmarks.peers.mosec_torch --address 127.0.0.1 --port PORT
"""

from typing import Any

import torch
from mosec import Server, Worker

from benchmarks.peers.pooled import load_pooled
from benchmarks.session import model_from_environment

_BATCH = 32


class Preprocess(Worker):  # type: ignore[misc] # the library is not typed
    """From the request to token ids."""

    def __init__(self) -> None:
        super().__init__()
        _, self.tokenizer = load_pooled(model_from_environment())

    def forward(self, data: dict[str, Any]) -> list[int]:
        """Return the ids of one text."""
        ids: list[int] = self.tokenizer(data["input"], truncation=True).input_ids
        return ids


class Inference(Worker):  # type: ignore[misc] # the library is not typed
    """From token ids to the best label."""

    def __init__(self) -> None:
        super().__init__()
        self.model, self.tokenizer = load_pooled(model_from_environment())
        self.example = [[101, 102] * 20] * _BATCH

    def forward(self, data: list[list[int]]) -> list[dict[str, Any]]:
        """Return the best label and its score for each text."""
        inputs = self.tokenizer.pad({"input_ids": data}, return_tensors="pt")
        with torch.no_grad():
            scores, places = self.model(**inputs).logits.softmax(dim=1).max(dim=1)
        names = self.model.config.id2label
        pairs = zip(places.tolist(), scores.tolist(), strict=True)
        return [{"label": names[place], "score": score} for place, score in pairs]


if __name__ == "__main__":
    server = Server()
    server.append_worker(Preprocess)
    server.append_worker(Inference, max_batch_size=_BATCH)
    server.run()
