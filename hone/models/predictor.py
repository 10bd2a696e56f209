"""From texts to labels with calibrated confidence: tokenizer, engine and labels together."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hone.models.bundle import Bundle
from hone.models.engines import Device, Engine, FloatArray, OnnxEngine, choose_device
from hone.models.errors import BundleCorrupt, InvalidInput
from hone.models.manifest import TOKENIZER_FILE, Variant
from hone.models.tokenizer import TextTokenizer, TokenizedText


@dataclass(frozen=True, slots=True)
class Predictor:
    """A loaded classifier. Thread-safe.

    `lone_engine`, the same model, may use all cores: it is for texts that have the machine for
    themselves.
    """

    tokenizer: TextTokenizer
    engine: Engine
    labels: tuple[str, ...]
    temperature: float
    lone_engine: Engine | None = None

    def encode(self, texts: Sequence[str]) -> list[TokenizedText]:
        """Return the ids of each text, cut to the model's limit."""
        return self.tokenizer.encode(texts)

    def logits(self, texts: Sequence[TokenizedText], *, alone: bool = False) -> FloatArray:
        """Return float32 logits of shape (texts, labels); the texts are run as one batch.

        `alone` says that nothing else runs meanwhile.
        """
        engine = (self.lone_engine if alone else None) or self.engine
        return engine.run(*self.tokenizer.pad(texts))

    def probabilities(self, texts: Sequence[TokenizedText], *, alone: bool = False) -> FloatArray:
        """Return calibrated probabilities, float32 of shape (texts, labels)."""
        return softmax(self.logits(texts, alone=alone), self.temperature)


def softmax(logits: npt.NDArray[np.floating], temperature: float = 1.0) -> FloatArray:
    """Turn logits into probabilities over the last axis, float32: the softmax at a temperature.

    The largest logit of each row is subtracted first, so no row can overflow.
    """
    wide = logits.astype(np.float64)
    exponents = np.exp((wide - wide.max(axis=-1, keepdims=True)) / temperature)
    probabilities: FloatArray = (exponents / exponents.sum(axis=-1, keepdims=True)).astype(
        np.float32
    )
    return probabilities


def choose_variant(bundle: Bundle, wanted: Variant | None, device: Device) -> Variant:
    """Return the variant to load: the one asked for, else the fastest that passed for the device.

    On a GPU fp16 is passed over where it was judged on a CPU alone, whose arithmetic is another.
    InvalidInput when the bundle does not hold the one asked for.
    """
    present = bundle.manifest.variants
    if wanted is not None:
        if wanted not in present:
            why = bundle.manifest.left_out.get(wanted, "it was not exported")
            raise InvalidInput(f"the bundle has no {wanted} variant: {why}")
        return wanted
    order: tuple[Variant, ...] = ("int8", "fp32", "fp16", "int4")
    if choose_device(device) == "cuda":
        judged = bundle.manifest.parity.get("fp16")
        on_gpu = judged is not None and judged.device == "cuda"
        order = ("fp16", "fp32", "int8") if on_gpu else ("fp32", "fp16", "int8")
    return next(variant for variant in order if variant in present)


def load_tokenizer(bundle: Bundle) -> TextTokenizer:
    """Return the tokenizer of a verified bundle."""
    limits = bundle.manifest.text_limits
    return TextTokenizer.from_file(
        bundle.file(TOKENIZER_FILE), max_tokens=limits.max_tokens, long_texts=limits.long_texts
    )


def load_predictor(
    bundle: Bundle,
    *,
    variant: Variant | None = None,
    device: Device = "auto",
    intra_threads: int = 1,
) -> Predictor:
    """Load a verified text classifier onto a device.

    BundleCorrupt unless a first text gets one logit for each label.
    """
    chosen = choose_variant(bundle, variant, device)
    engine = OnnxEngine(bundle.variant_file(chosen), intra_threads=intra_threads, device=device)
    predictor = Predictor(
        load_tokenizer(bundle),
        engine,
        tuple(bundle.manifest.labels),
        bundle.manifest.calibration.temperature,
    )
    shape = predictor.logits(predictor.encode(["a"])).shape
    if shape != (1, len(predictor.labels)):
        raise BundleCorrupt(
            f"{bundle.folder} has {len(predictor.labels)} labels and a model that answers {shape}"
        )
    return predictor
