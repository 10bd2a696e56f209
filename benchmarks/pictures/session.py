"""The least that classifies pictures with an ONNX file: Pillow, numpy, ONNX Runtime, a softmax.

It imports nothing of Hone.
"""

import io
import os
from collections.abc import Sequence
from typing import Any

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from PIL import Image

MODEL_VARIABLE = "BENCH_PICTURE_MODEL"
"""Names the environment variable with the path of the file that `model.describe` wrote."""

Floats = npt.NDArray[np.float32]


class OnnxPictures:
    """A session with its preprocessing. `threads` is how many one run may use. Thread-safe."""

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
        rule = model["preprocessing"]
        self._rule = rule
        std = np.array(rule["std"], dtype=np.float32)
        self._scale = (rule["rescale"] / std)[:, None, None].astype(np.float32)
        self._shift = (np.array(rule["mean"], dtype=np.float32) / std)[:, None, None]
        self.labels: list[str] = model["labels"]

    def decoded(self, content: bytes) -> Floats:
        """Return a file's picture as the model reads it, float32 (3, height, width)."""
        picture = Image.open(io.BytesIO(content)).convert("RGB")
        height, width, shortest = (self._rule[n] for n in ("height", "width", "shortest_edge"))
        filter_ = Image.Resampling[self._rule["resample"].upper()]
        if shortest is None:
            pixels = np.asarray(picture.resize((width, height), filter_))
        else:
            share = shortest / min(picture.size)
            size = round(picture.width * share), round(picture.height * share)
            resized = picture.resize(size, filter_)
            left, top = (resized.width - width) // 2, (resized.height - height) // 2
            pixels = np.asarray(resized.crop((left, top, left + width, top + height)))
        if self._rule["channels"] == "BGR":
            pixels = pixels[..., ::-1]
        found: Floats = pixels.transpose(2, 0, 1) * self._scale - self._shift
        return found

    def classify(self, contents: Sequence[bytes]) -> list[str]:
        """Return the best label of each picture; the pictures are run as one batch."""
        pixels = np.stack([self.decoded(content) for content in contents])
        logits = self._session.run(["logits"], {"pixel_values": pixels})[0]
        exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
        scores = exponents / exponents.sum(axis=1, keepdims=True)
        return [self.labels[place] for place in scores.argmax(axis=1).tolist()]
