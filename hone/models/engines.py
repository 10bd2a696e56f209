"""Engines: padded token ids, or pictures, in; logits out.

The contracts are `Engine` and `PictureEngine`, one method each. A new runtime is added by writing
one class of each here; nothing above this module knows which runtime it has.
"""

import os
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import numpy.typing as npt

# ONNX Runtime's official builds report usage to their makers unless told not to before import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime as ort

from hone.models.errors import BundleCorrupt, InvalidInput
from hone.models.tokenizer import IntArray

FloatArray = npt.NDArray[np.float32]
Device = Literal["auto", "cpu", "cuda"]
ONNXRUNTIME_VERSION: str = ort.__version__


class Engine(Protocol):
    """Runs a classifier. `run` may be called from several threads at once."""

    @property
    def device(self) -> str:
        """`cpu` or `cuda`."""

    def run(self, input_ids: IntArray, attention_mask: IntArray) -> FloatArray:
        """Return float32 logits of shape (texts, labels) for int64 ids and mask (texts, tokens)."""


class PictureEngine(Protocol):
    """Runs a classifier of pictures. `run` may be called from several threads at once."""

    @property
    def device(self) -> str:
        """`cpu` or `cuda`."""

    def run(self, pixels: FloatArray) -> FloatArray:
        """Return float32 logits (pictures, labels) for float32 (pictures, 3, height, width)."""


class _Session:
    """A model in ONNX Runtime that takes these inputs and gives `logits`.

    `intra_threads` is how many threads one run may use. With one thread a run stays on its
    caller's thread, so several callers run side by side on one session and share its weights.
    """

    inputs: ClassVar[frozenset[str]]

    def __init__(self, model: Path, *, intra_threads: int = 1, device: Device = "auto") -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = intra_threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 3
        # Threads of one run wait for each other actively: a fifth faster than being woken each
        # time. But a pool that spins on after a run would burn a core while the service is idle.
        options.add_session_config_entry("session.intra_op.allow_spinning", "1")
        options.add_session_config_entry("session.force_spinning_stop", "1")
        # Shapes differ from batch to batch; a memory plan for each shape is kept for ever.
        options.enable_mem_pattern = False
        providers = ["CPUExecutionProvider"]
        if choose_device(device) == "cuda":
            providers.insert(0, "CUDAExecutionProvider")
        try:
            self._session = ort.InferenceSession(str(model), options, providers=providers)
        except Exception as error:  # the library's errors share no class but Exception
            raise BundleCorrupt(f"ONNX Runtime cannot load {model.name}") from error
        # Without a usable GPU the library falls back to the CPU and only logs it.
        on_gpu = "CUDAExecutionProvider" in self._session.get_providers()
        if device == "cuda" and not on_gpu:
            raise InvalidInput("there is no usable GPU here: use cpu")
        self._device = "cuda" if on_gpu else "cpu"
        names = {value.name for value in self._session.get_inputs()}
        if names != self.inputs:
            raise BundleCorrupt(f"{model.name} takes {sorted(names)}, not {sorted(self.inputs)}")
        if "logits" not in {value.name for value in self._session.get_outputs()}:
            raise BundleCorrupt(f"{model.name} gives no logits")

    @property
    def device(self) -> str:
        """`cpu` or `cuda`."""
        return self._device

    def _logits(self, feed: dict[str, Any]) -> FloatArray:
        logits: FloatArray = self._session.run(["logits"], feed)[0]
        return logits.astype(np.float32, copy=False)


class OnnxEngine(_Session):
    """A classifier of texts in ONNX Runtime."""

    inputs = frozenset({"input_ids", "attention_mask"})

    def run(self, input_ids: IntArray, attention_mask: IntArray) -> FloatArray:
        """Return float32 logits of shape (texts, labels) for int64 ids and mask (texts, tokens)."""
        return self._logits({"input_ids": input_ids, "attention_mask": attention_mask})


class OnnxPictureEngine(_Session):
    """A classifier of pictures in ONNX Runtime."""

    inputs = frozenset({"pixel_values"})

    def run(self, pixels: FloatArray) -> FloatArray:
        """Return float32 logits (pictures, labels) for float32 (pictures, 3, height, width)."""
        return self._logits({"pixel_values": pixels})


class FakeEngine:
    """Answers without weights: a text's logits follow from the sum of its ids.

    For trying the API and for tests. `poison` is an id that makes the run fail, as a text that
    breaks a real model would.
    """

    def __init__(self, labels: int, *, poison: int | None = None) -> None:
        self.labels = labels
        self.poison = poison
        self.batch_shapes: list[tuple[int, ...]] = []

    @property
    def device(self) -> str:
        """Always `cpu`."""
        return "cpu"

    def run(self, input_ids: IntArray, attention_mask: IntArray) -> FloatArray:
        """Return logits that favour label `sum(ids) % labels`."""
        self.batch_shapes.append(input_ids.shape)
        if self.poison is not None and (input_ids == self.poison).any():
            raise RuntimeError("poisoned")
        favoured = (input_ids * attention_mask).sum(axis=1) % self.labels
        logits = np.zeros((len(input_ids), self.labels), dtype=np.float32)
        logits[np.arange(len(input_ids)), favoured] = 4.0
        return logits


def choose_device(device: Device) -> Literal["cpu", "cuda"]:
    """Turn `auto` into what this machine has; InvalidInput if `cuda` was asked for in vain."""
    has_cuda = "CUDAExecutionProvider" in ort.get_available_providers()
    if device == "cuda" and not has_cuda:
        raise InvalidInput("there is no CUDA provider here: install onnxruntime-gpu, or use cpu")
    return "cuda" if has_cuda and device != "cpu" else "cpu"
