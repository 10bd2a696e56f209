"""The order of training: every row once an epoch, the same again, and little padding."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hone.models.errors import InvalidExamples
from hone.models.examples import Example
from hone.models.tokenizer import TextTokenizer
from hone.training.dataset import (
    bucketed_batches,
    class_weights,
    encode_split,
    label_order,
    length_sorted_batches,
    share_of_batch,
    token_lengths,
)
from tests.training.tiny import word_tokenizer

LENGTHS = st.lists(st.integers(1, 512), min_size=1, max_size=700).map(np.array)


def padded_tokens(lengths: npt.NDArray[np.int64], batches: list[npt.NDArray[np.int64]]) -> int:
    return sum(int(lengths[rows].max()) * len(rows) for rows in batches)


@given(
    lengths=LENGTHS, size=st.integers(1, 40), seed=st.integers(0, 2**31), epoch=st.integers(0, 99)
)
def test_an_epoch_has_every_row_once_in_batches_of_the_asked_size(
    lengths: npt.NDArray[np.int64], size: int, seed: int, epoch: int
) -> None:
    batches = bucketed_batches(lengths, size, seed=seed, epoch=epoch)
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))
    assert len(batches) == -(-len(lengths) // size)
    assert sum(len(rows) != size for rows in batches) <= 1


@given(lengths=LENGTHS, size=st.integers(1, 40), seed=st.integers(0, 2**31))
def test_the_order_follows_from_seed_and_epoch(
    lengths: npt.NDArray[np.int64], size: int, seed: int
) -> None:
    first, again = (bucketed_batches(lengths, size, seed=seed, epoch=3) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


def test_no_two_epochs_and_no_two_seeds_have_the_same_order() -> None:
    lengths = np.random.default_rng(0).integers(3, 60, 500)
    orders = {
        np.concatenate(bucketed_batches(lengths, 16, seed=seed, epoch=epoch)).tobytes()
        for seed in range(5)
        for epoch in range(20)
    }
    assert len(orders) == 100


def test_batches_do_not_go_from_short_to_long() -> None:
    lengths = np.sort(np.random.default_rng(0).integers(3, 200, 2000))
    means = [lengths[rows].mean() for rows in bucketed_batches(lengths, 16, seed=0, epoch=0)]
    positions = np.arange(len(means))
    assert abs(np.corrcoef(positions, means)[0, 1]) < 0.3


def test_there_is_far_less_padding_than_in_random_batches() -> None:
    generator = np.random.default_rng(0)
    lengths = np.minimum(generator.geometric(0.03, 5000) + 3, 256)
    order = generator.permutation(len(lengths))
    random = [order[start : start + 16] for start in range(0, len(order), 16)]
    bucketed = bucketed_batches(lengths, 16, seed=0, epoch=0)
    needed = int(lengths.sum())
    assert padded_tokens(lengths, bucketed) < 1.1 * needed
    assert padded_tokens(lengths, random) > 2 * needed


@given(lengths=LENGTHS, size=st.integers(1, 40))
def test_without_training_the_longest_come_first_and_none_is_lost(
    lengths: npt.NDArray[np.int64], size: int
) -> None:
    batches = list(length_sorted_batches(lengths, size))
    order = np.concatenate(batches)
    assert sorted(order) == list(range(len(lengths)))
    assert (np.diff(lengths[order]) <= 0).all()
    assert all(len(rows) == size for rows in batches[:-1])


@given(classes=st.lists(st.integers(0, 5), min_size=1, max_size=200).map(np.array))
def test_balanced_weights_give_every_class_that_occurs_the_same_sum(
    classes: npt.NDArray[np.int64],
) -> None:
    weights = class_weights(classes, 6)
    sums = np.bincount(classes, weights=weights[classes], minlength=6)
    present = sums[np.unique(classes)]
    assert np.allclose(present, len(classes) / 6, rtol=1e-5)
    assert np.isfinite(weights).all()


def test_labels_are_in_the_order_of_their_names() -> None:
    examples = [Example("x", label) for label in ("b", "a", "b", "c")]
    assert label_order(examples) == ["a", "b", "c"]
    with pytest.raises(InvalidExamples, match="two labels or more"):
        label_order([Example("x", "a")])


def test_a_split_with_an_unknown_label_is_refused_by_its_name() -> None:
    tokenizer = TextTokenizer(word_tokenizer(), max_tokens=8)
    with pytest.raises(InvalidExamples, match=r"the test split has 1 labels .*: c"):
        encode_split([Example("x", "c")], ["a", "b"], tokenizer, split="test")


def test_a_split_knows_its_lengths_and_what_was_cut() -> None:
    tokenizer = TextTokenizer(word_tokenizer(), max_tokens=8)
    texts = ["word1", "word1 " * 6, "word1 " * 7]
    split = encode_split([Example(t, "a") for t in texts], ["a"], tokenizer, split="train")
    assert split.lengths.tolist() == [3, 8, 8]
    assert (len(split), split.truncated) == (3, 1)
    found = token_lengths(split)
    assert (found.p50, found.p99, found.longest) == (8, 8, 8)


@given(weights=st.lists(st.floats(0.125, 8), min_size=1, max_size=12), processes=st.integers(1, 5))
def test_the_mean_over_processes_is_the_batchs_weighted_mean(
    weights: list[float], processes: int
) -> None:
    rows = list(range(len(weights)))
    losses = np.array([float(1 + row * row) for row in rows])
    array = np.array(weights, dtype=np.float32)
    means = []
    for process in range(processes):
        mine, scale = share_of_batch(rows, array, process=process, processes=processes)
        assert mine
        means.append(scale * float((losses * array)[mine].sum()))
    expected = float((losses * array).sum() / array.sum())
    assert np.mean(means) == pytest.approx(expected, rel=1e-5)
