"""The gate lets a faithful export through and stops one that is not, with the reason."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from hone.models.decoding.engine import OnnxDecoder
from hone.models.decoding.fake import FakeDecoder
from hone.models.engines import FloatArray
from hone.models.errors import InvalidInput
from hone.training.causal.export import DecoderVariant, export_decoder
from hone.training.causal.parity import EXACT, bounds_for, check_decoder
from hone.training.causal.trained import TorchModel
from tests.training.causal import reference


class FakeTrained:
    """A trained model that the fake decoder equals; `off` is added to each logit of id 3."""

    def __init__(self, vocabulary_size: int, off: float = 0.0) -> None:
        self._fake = FakeDecoder(vocabulary_size, slots=1, longest=512)
        self._off = off

    def logits(self, ids: Sequence[int]) -> FloatArray:
        found = self._fake.prefill(0, ids, 0, every=True)
        found[:, 3] += self._off
        return found

    def greedy(self, prompt: Sequence[int], count: int) -> list[int]:
        ids = list(prompt)
        for _ in range(count):
            ids.append(int(self.logits(ids)[-1].argmax()))
        return ids[len(prompt) :]


PROMPTS = [[1, 2, 3], [4], [5, 6] * 20, [7, 7, 9]]


@pytest.fixture(scope="module")
def trained(stories: Path) -> TorchModel:
    return TorchModel(stories)


def test_the_fp32_export_passes(stories: Path, stories_fp32: Path, trained: TorchModel) -> None:
    engine = OnnxDecoder(stories_fp32, slots=4, longest=256, intra_threads=1)
    record = check_decoder(engine, trained, reference.prompts(stories, 10), EXACT)
    assert record.passed, record.reasons
    assert record.equal_continuations + record.tied_continuations == 1
    assert record.loss_exported == pytest.approx(record.loss_trained, abs=1e-5)
    assert 0 < record.largest_logit_difference < 1e-4


def test_int8_passes_and_int4_of_so_small_a_model_does_not(
    stories: Path, trained: TorchModel, tmp_path: Path
) -> None:
    prompts = reference.prompts(stories, 6)
    found = {}
    variants: list[DecoderVariant] = ["int8", "int4"]
    for variant in variants:
        export_decoder(stories, variant, tmp_path / f"{variant}.onnx")
        engine = OnnxDecoder(tmp_path / f"{variant}.onnx", slots=3, longest=256, intra_threads=1)
        found[variant] = check_decoder(engine, trained, prompts, bounds_for(variant))
    assert found["int8"].passed, found["int8"].reasons
    assert not found["int4"].passed
    assert any("loss" in reason for reason in found["int4"].reasons)


def test_a_weight_that_changed_on_the_way_is_found_out(
    stories: Path, stories_fp32: Path, trained: TorchModel, tmp_path: Path
) -> None:
    model = onnx.load(str(stories_fp32))
    tensor = next(t for t in model.graph.initializer if "layers.2.mlp.down_proj" in t.name)
    weight = numpy_helper.to_array(tensor).copy()
    weight[:, 5] *= 1.01
    tensor.CopyFrom(numpy_helper.from_array(weight, tensor.name))
    onnx.save(model, str(tmp_path / "model.onnx"))
    engine = OnnxDecoder(tmp_path / "model.onnx", slots=4, longest=256, intra_threads=1)
    record = check_decoder(engine, trained, reference.prompts(stories, 4), EXACT)
    assert not record.passed
    assert any("logit differs" in reason for reason in record.reasons)


def test_other_continuations_are_refused_unless_they_part_at_a_tie() -> None:
    engine = FakeDecoder(50, slots=2, longest=256)
    assert check_decoder(engine, FakeTrained(50), PROMPTS, EXACT).passed
    # Another best token everywhere, by a clear margin.
    other = check_decoder(engine, FakeTrained(50, off=9.0), PROMPTS, EXACT)
    assert not other.passed
    assert other.equal_continuations == other.tied_continuations == 0
    # The trained model has id 3 ahead by a thousandth: no more than arithmetic may decide.
    tied = check_decoder(engine, FakeTrained(50, off=4.0005), PROMPTS, EXACT)
    assert tied.tied_continuations == 1
    assert not any("continuations" in reason for reason in tied.reasons)


def test_what_depends_on_its_neighbours_is_refused() -> None:
    class Leaky(FakeDecoder):
        def step(self, first: int, ids: np.ndarray, *more: Any) -> FloatArray:
            return np.roll(super().step(first, ids, *more), len(ids) - 1, axis=1)

    record = check_decoder(Leaky(50, slots=2, longest=256), FakeTrained(50), PROMPTS, EXACT)
    assert record.alone_and_in_company_equal == 0
    assert any("beside others" in reason for reason in record.reasons)


def test_answers_that_are_no_numbers_are_refused() -> None:
    class Broken(FakeDecoder):
        def prefill(self, *about: Any, **more: Any) -> FloatArray:
            found = super().prefill(*about, **more)
            found[:, 0] = np.nan
            return found

    record = check_decoder(Broken(50, slots=2, longest=256), FakeTrained(50), PROMPTS, EXACT)
    assert record.reasons == ["some of its answers are not numbers"]
    assert record.model_dump_json()


def test_the_gate_cannot_pass_without_prompts() -> None:
    engine = FakeDecoder(50, slots=2, longest=64)
    refused: list[list[list[int]]] = [[], [[]], [[1] * 40]]
    for prompts in refused:
        with pytest.raises(InvalidInput):
            check_decoder(engine, FakeTrained(50), prompts, EXACT)
