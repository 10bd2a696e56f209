"""From logits to calibrated probabilities, and which variant a bundle is loaded as."""

import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hone.models.bundle import Bundle, open_bundle
from hone.models.engines import FakeEngine
from hone.models.errors import BundleCorrupt, InvalidInput
from hone.models.manifest import ParityRecord, Variant
from hone.models.predictor import Predictor, choose_variant, load_predictor, softmax
from hone.models.registry import Registry
from hone.models.tokenizer import TextTokenizer
from tests.models.bodies import publish
from tests.models.small_tokenizers import bert_like

PARITY = {
    "passed": True,
    "rows": 60,
    "equal_predictions": 1.0,
    "largest_logit_difference": 0.0,
    "accuracy_trained": 0.9,
    "accuracy_exported": 0.9,
    "accuracy_change_low": 0.0,
    "accuracy_change_high": 0.0,
    "alone_and_in_batch_difference": 0.0,
    "alone_and_in_batch_equal": 1.0,
}

logit_rows = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 5), st.integers(2, 9)),
    elements=st.floats(-(2.0**120), 2.0**120, width=32) | st.floats(-9, 9, width=32),
)
temperatures = st.floats(1e-6, 1e6)


@given(logits=logit_rows, temperature=temperatures)
def test_rows_are_probabilities_whatever_the_logits(
    logits: npt.NDArray[np.float32], temperature: float
) -> None:
    probabilities = softmax(logits, temperature)
    assert probabilities.dtype == np.float32
    assert probabilities.shape == logits.shape
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
    assert probabilities.sum(axis=-1) == pytest.approx(1, abs=1e-5)


@given(logits=logit_rows, temperature=temperatures)
def test_a_temperature_never_puts_another_label_first(
    logits: npt.NDArray[np.float32], temperature: float
) -> None:
    """The first label stays first, or ties with what float32 cannot tell from it."""
    probabilities = softmax(logits, temperature)
    first = logits.argmax(axis=1)
    assert (probabilities[np.arange(len(logits)), first] == probabilities.max(axis=1)).all()


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_ordinary_logits_give_the_textbook_softmax(kind: type[np.floating]) -> None:
    logits = np.array([[1.0, 2.0, -0.5]], dtype=kind)
    expected = np.exp([1 / 1.5, 2 / 1.5, -0.5 / 1.5])
    assert softmax(logits, 1.5)[0] == pytest.approx(expected / expected.sum(), rel=1e-6)


@pytest.mark.parametrize("huge", [1e30, -1e30, 3e38, 89.0, 710.0])
@pytest.mark.parametrize("temperature", [1e-6, 1.0, 1e300])
def test_nothing_overflows(huge: float, temperature: float) -> None:
    logits = np.array([[huge, 0.0, -huge], [huge, huge, huge]], dtype=np.float32)
    probabilities = softmax(logits, temperature)
    assert np.isfinite(probabilities).all()
    assert probabilities[1] == pytest.approx(1 / 3)


def test_a_higher_temperature_is_less_sure() -> None:
    logits = np.array([[3.0, 1.0, 0.0]], dtype=np.float32)
    tops = [float(softmax(logits, t).max()) for t in (0.5, 1.0, 2.0, 10.0)]
    assert tops == sorted(tops, reverse=True)


def test_a_predictor_gives_the_same_answer_alone_and_in_a_batch() -> None:
    tokenizer = TextTokenizer(bert_like(), max_tokens=16)
    predictor = Predictor(tokenizer, FakeEngine(3), ("a", "b", "c"), 2.0)
    texts = predictor.encode(["q", "it broke again", "", "中"])
    together = predictor.probabilities(texts)
    alone = np.concatenate([predictor.probabilities([text]) for text in texts])
    assert together.shape == (4, 3)
    assert (together == alone).all()


def bundle_with(folder: Path, *variants: Variant) -> Bundle:
    """Return a bundle that says it holds the given variants, of the same file."""
    registry = Registry(folder)
    publish(registry)
    opened = open_bundle(registry.folder("support", 1))
    present = dict.fromkeys(variants, opened.manifest.variants["fp32"])
    left_out = {"int8": "it changed 9 of 100 answers"}
    changes = {"variants": present, "left_out": left_out}
    return Bundle(opened.folder, opened.manifest.model_copy(update=changes))


@pytest.mark.parametrize(
    ("variants", "chosen"),
    [
        (("fp32",), "fp32"),
        (("fp32", "int8"), "int8"),
        (("fp16", "fp32"), "fp32"),
        (("fp16",), "fp16"),
    ],
)
def test_on_a_cpu_the_fastest_variant_is_chosen(
    tmp_path: Path, variants: tuple[Variant, ...], chosen: Variant
) -> None:
    assert choose_variant(bundle_with(tmp_path, *variants), None, "cpu") == chosen


@pytest.mark.parametrize(("judged_on", "chosen"), [("cuda", "fp16"), ("cpu", "fp32")])
def test_on_a_gpu_fp16_is_chosen_only_if_it_was_judged_on_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, judged_on: str, chosen: Variant
) -> None:
    monkeypatch.setattr("hone.models.predictor.choose_device", lambda _: "cuda")
    bundle = bundle_with(tmp_path, "int8", "fp32", "fp16")
    record = ParityRecord.model_validate({**PARITY, "device": judged_on})
    manifest = bundle.manifest.model_copy(update={"parity": {"fp16": record}})
    assert choose_variant(replace(bundle, manifest=manifest), None, "auto") == chosen
    assert choose_variant(bundle, None, "auto") == "fp32"  # not judged at all


def test_the_variant_asked_for_is_taken_or_its_absence_explained(tmp_path: Path) -> None:
    bundle = bundle_with(tmp_path, "fp32")
    assert choose_variant(bundle, "fp32", "cpu") == "fp32"
    with pytest.raises(InvalidInput, match="no int8 variant: it changed 9 of 100 answers"):
        choose_variant(bundle, "int8", "cpu")
    with pytest.raises(InvalidInput, match="no fp16 variant: it was not exported"):
        choose_variant(bundle, "fp16", "cpu")


@pytest.fixture
def tiny(tmp_path: Path) -> Bundle:
    """Publish a bundle with real weights, which needs the onnx library."""
    tiny_bundle = pytest.importorskip("tests.tiny_bundle")
    tiny_bundle.publish_tiny(Registry(tmp_path))
    return open_bundle(tmp_path / "support" / "1")


def test_a_bundle_answers_as_its_manifest_says(tiny: Bundle) -> None:
    predictor = load_predictor(tiny, device="cpu")
    assert predictor.engine.device == "cpu"
    assert predictor.labels == tuple(tiny.manifest.labels)
    assert predictor.temperature == tiny.manifest.calibration.temperature
    texts = predictor.encode(["where is my card", "", "please help", "unseen words 中"])
    logits, probabilities = predictor.logits(texts), predictor.probabilities(texts)
    assert probabilities == pytest.approx(softmax(logits, predictor.temperature))
    alone = np.concatenate([predictor.logits([text]) for text in texts])
    assert alone == pytest.approx(logits, abs=1e-5)


def test_threads_may_share_a_predictor(tiny: Bundle) -> None:
    predictor = load_predictor(tiny, device="cpu")
    texts = ["where is my card", "the money i sent back", "help"] * 20
    expected = [predictor.probabilities(predictor.encode([text])) for text in texts]
    with ThreadPoolExecutor(4) as threads:
        found = threads.map(lambda t: predictor.probabilities(predictor.encode([t])), texts)
        assert all((a == b).all() for a, b in zip(expected, found, strict=True))


def test_a_model_of_more_labels_than_the_manifest_is_refused(tiny: Bundle) -> None:
    fewer = tiny.manifest.model_copy(update={"labels": tiny.manifest.labels[:-1]})
    with pytest.raises(BundleCorrupt, match=r"3 labels and a model that answers \(1, 4\)"):
        load_predictor(Bundle(tiny.folder, fewer), device="cpu")


def test_a_bundle_without_a_tokenizer_is_refused(tiny: Bundle) -> None:
    files = [entry for entry in tiny.manifest.files if entry.path != "tokenizer.json"]
    without = tiny.manifest.model_copy(update={"files": files})
    with pytest.raises(BundleCorrupt, match="tokenizer"):
        load_predictor(Bundle(tiny.folder, without), device="cpu")


def test_no_flipped_bit_of_real_weights_is_served(tiny: Bundle) -> None:
    path = tiny.variant_file("fp32")
    original = path.read_bytes()
    for position in random.Random(3).sample(range(len(original)), 100):
        damaged = bytearray(original)
        damaged[position] ^= 1 << (position % 8)
        path.write_bytes(damaged)
        with pytest.raises(BundleCorrupt):
            open_bundle(tiny.folder)
