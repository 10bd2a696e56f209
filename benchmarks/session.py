"""The least that classifies texts with an ONNX file: `tokenizers`, ONNX Runtime, a softmax.

The bare loop and the peers that were given the ONNX session run this same code. It imports
nothing of Hone.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from tokenizers import Tokenizer

MODEL_VARIABLE = "BENCH_MODEL"
"""Names the environment variable with the path of the file that `served.write_model` wrote."""
VARIANT_VARIABLE = "BENCH_VARIANT"
WORKERS_VARIABLE = "BENCH_WORKERS"

Rows = Sequence[Sequence[int]]


class OnnxClassifier:
    """A session with its tokenizer. `threads` is how many one run may use. Thread-safe."""

    def __init__(
        self, model: dict[str, Any], variant: str, *, threads: int, spinning: bool = False
    ) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
        self._session = ort.InferenceSession(
            model["onnx"][variant], options, providers=["CPUExecutionProvider"]
        )
        self._tokenizer = Tokenizer.from_file(model["tokenizer"])
        self._tokenizer.enable_truncation(model["max_tokens"])
        self._tokenizer.no_padding()
        self._pad_id: int = model["pad_id"]
        self._temperature: float = model["temperature"]
        self.labels: list[str] = model["labels"]

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return each text's ids, special ones included."""
        return [found.ids for found in self._tokenizer.encode_batch_fast(list(texts))]

    def probabilities(self, rows: Rows) -> npt.NDArray[np.float32]:
        """Run id rows as one batch; return float32 probabilities of shape (rows, labels)."""
        longest = max(map(len, rows))
        ids = np.full((len(rows), longest), self._pad_id, dtype=np.int64)
        mask = np.zeros((len(rows), longest), dtype=np.int64)
        for index, row in enumerate(rows):
            ids[index, : len(row)] = row
            mask[index, : len(row)] = 1
        logits = self._session.run(["logits"], {"input_ids": ids, "attention_mask": mask})[0]
        scaled = (logits - logits.max(axis=1, keepdims=True)) / self._temperature
        exponents = np.exp(scaled)
        result: npt.NDArray[np.float32] = exponents / exponents.sum(axis=1, keepdims=True)
        return result

    def classify(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        """Return the best label and its score for each text; the texts are run as one batch."""
        scores = self.probabilities(self.encode(texts))
        best = scores.argmax(axis=1)
        return [
            {"label": self.labels[place], "score": float(row[place])}
            for place, row in zip(best.tolist(), scores, strict=True)
        ]


def model_from_environment() -> dict[str, Any]:
    """Return the description of the model that a peer is to serve."""
    model: dict[str, Any] = json.loads(Path(os.environ[MODEL_VARIABLE]).read_text())
    return model


def classifier_from_environment() -> OnnxClassifier:
    """Return a one-threaded classifier: the peers' workers are the parallelism."""
    return OnnxClassifier(model_from_environment(), os.environ[VARIANT_VARIABLE], threads=1)


def workers_from_environment() -> int:
    """Return how many workers a peer should start."""
    return int(os.environ[WORKERS_VARIABLE])
