"""What `auto` becomes, and what is refused before any work is done."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hone.models.errors import InvalidInput
from hone.training.hyperparameters import (
    Hyperparameters,
    choose_device,
    choose_precision,
    settle,
)
from hone.training.recipe import ClassifierRecipe

AUTO = {"dataset": {"path": "data"}, "saving": {"name": "a"}}


def settled(rows: int, longest: int = 20, limit: int = 512, **groups: object) -> Hyperparameters:
    recipe = ClassifierRecipe.model_validate({**AUTO, "training": {"device": "cpu"}, **groups})
    return settle(recipe, rows=rows, longest=longest, token_limit=limit)


@given(rows=st.integers(2, 10**6))
def test_small_data_gets_enough_steps_and_large_data_no_more_than_a_few_epochs(rows: int) -> None:
    found = settled(rows)
    assert 8 <= found.epochs <= 30
    assert found.schedule(rows).total_steps >= min(600, 30 * -(-rows // found.batch_size))
    if rows > 10_000:
        assert found.epochs == 8


@given(rows=st.integers(2, 10**6), longest=st.integers(1, 10_000), limit=st.integers(4, 8192))
def test_the_token_limit_never_exceeds_what_the_base_can_read(
    rows: int, longest: int, limit: int
) -> None:
    found = settled(rows, longest, limit)
    assert found.max_tokens <= limit
    assert found.max_tokens >= min(longest, limit)


def test_what_the_recipe_says_is_taken() -> None:
    found = settled(
        1000,
        dataset={"path": "data", "max_tokens": 40},
        optimizer={"learning_rate": 3e-5},
        training={"epochs": 2.5, "batch_size": 10, "precision": "bf16", "device": "cpu"},
    )
    assert found == Hyperparameters(2.5, 10, 3e-5, "bf16", "cpu", 40)
    assert found.schedule(1000).total_steps == 250


def test_lora_learns_at_a_higher_rate() -> None:
    full, lora = settled(5000), settled(5000, model={"method": "lora"})
    assert lora.learning_rate == pytest.approx(5 * full.learning_rate)


def test_a_fraction_of_an_epoch_is_at_least_one_step() -> None:
    training = {"epochs": 0.001, "batch_size": 8, "device": "cpu"}
    assert settled(96, training=training).schedule(96).total_steps == 1


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert choose_device("auto") == "cpu"
    with pytest.raises(InvalidInput, match=r"training\.device: there is no usable GPU"):
        choose_device("cuda")


def test_a_gpu_that_is_there_is_taken_unless_the_recipe_says_cpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert [choose_device(wanted) for wanted in ("auto", "cuda", "cpu")] == ["cuda", "cuda", "cpu"]


def test_half_precision_on_a_processor_is_refused() -> None:
    with pytest.raises(InvalidInput, match="fp16 is for GPUs"):
        choose_precision("fp16", "cpu")


@pytest.mark.parametrize(
    ("capability", "has_bf16", "precision"),
    [("AVX512", True, "bf16"), ("AVX512", False, "fp32"), ("AVX2", True, "fp32")],
)
def test_bf16_is_taken_where_the_processor_has_it(
    monkeypatch: pytest.MonkeyPatch, capability: str, has_bf16: bool, precision: str
) -> None:
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: capability)
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: has_bf16)
    assert choose_precision("auto", "cpu") == precision


def test_the_multiplier_applies_to_a_settled_rate_and_to_a_given_one() -> None:
    auto = settled(1000).learning_rate
    assert settled(1000, optimizer={"learning_rate_multiplier": 2.0}).learning_rate == 2 * auto
    given = {"learning_rate": 1e-4, "learning_rate_multiplier": 0.5}
    assert settled(1000, optimizer=given).learning_rate == 5e-5
