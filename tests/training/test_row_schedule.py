"""Which rows an epoch has: all of them, or the hard ones and half of the easy ones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hone.training.row_schedule import FloatRows, RowLosses, RowSchedule

SCHEDULES = st.builds(
    RowSchedule,
    rows=st.integers(1, 400),
    batch_size=st.integers(1, 40),
    epochs=st.floats(0.05, 20),
    easy_share=st.floats(0, 1),
)


@given(schedule=SCHEDULES, seed=st.integers(0, 2**31 - 1), epoch=st.integers(0, 25))
def test_an_epoch_has_the_announced_size_and_the_weight_of_all_rows(
    schedule: RowSchedule, seed: int, epoch: int
) -> None:
    losses = np.random.default_rng(seed).random(schedule.rows).astype(np.float32)
    rows, weights = schedule.choose(epoch, losses, seed=seed)
    assert len(rows) == schedule.size(epoch) > 0
    assert np.array_equal(rows, np.flatnonzero(weights))
    assert weights.sum() == pytest.approx(schedule.rows, rel=1e-4)
    if schedule.is_full(epoch):
        assert (weights == 1).all()


@given(schedule=SCHEDULES, step=st.integers(0, 3000))
def test_a_step_is_found_again_from_its_epoch_and_place(schedule: RowSchedule, step: int) -> None:
    epoch, place = schedule.locate(step)
    assert 0 <= place < schedule.steps(epoch)
    assert sum(schedule.steps(before) for before in range(epoch)) + place == step


@given(schedule=SCHEDULES)
def test_the_last_step_is_in_the_last_epoch(schedule: RowSchedule) -> None:
    epoch, _ = schedule.locate(schedule.total_steps - 1)
    assert epoch == max(0, int(np.ceil(schedule.epochs)) - 1)
    assert schedule.epochs_done(schedule.total_steps) >= schedule.epochs - 1e-9


def test_hard_rows_never_sit_out_and_easy_ones_do_in_turn() -> None:
    schedule = RowSchedule(rows=100, batch_size=10, epochs=50, easy_share=0.6)
    losses = np.linspace(0, 1, 100, dtype=np.float32)
    taken = np.zeros(100)
    for epoch in range(1, 40):
        rows, weights = schedule.choose(epoch, losses, seed=3)
        taken[rows] += 1
        assert set(weights.tolist()) == {0.0, 1.0, 2.0}
    assert (taken[60:] == 39).all()
    assert (taken[:60] > 8).all()
    assert (taken[:60] < 32).all()


def test_the_first_epoch_and_the_last_eighth_have_every_row() -> None:
    schedule = RowSchedule(rows=10, batch_size=1, epochs=16, easy_share=0.6)
    assert [e for e in range(16) if schedule.is_full(e)] == [0, 14, 15]
    assert schedule.total_steps == 3 * 10 + 13 * 7


def test_a_row_without_a_loss_counts_as_hard() -> None:
    schedule = RowSchedule(rows=4, batch_size=1, epochs=9, easy_share=0.5)
    losses = np.array([np.nan, 0.1, 0.2, np.nan], dtype=np.float32)
    rows, _ = schedule.choose(1, losses, seed=0)
    assert {0, 3} <= set(rows.tolist())


def test_an_epochs_losses_decide_from_its_end_on() -> None:
    losses = RowLosses(3)
    losses.note(np.array([2, 0]), np.array([0.5, 0.25], dtype=np.float32))
    assert np.isnan(losses.known).all()
    losses.end_epoch(lambda values: values)
    assert losses.known.tolist()[::2] == [0.25, 0.5]
    assert np.isnan(losses.known[1])
    assert np.isnan(losses.fresh).all()


def test_what_processes_share_before_the_end_of_an_epoch_counts_once() -> None:
    losses = RowLosses(3)
    losses.note(np.array([0, 1]), np.array([1.0, 2.0], dtype=np.float32))
    other = np.array([[0.0, 4.0, 3.0], [0.0, 1.0, 1.0]], dtype=np.float32)
    losses.share(lambda values: values + other)
    assert losses.fresh.tolist() == [1.0, 3.0, 3.0]
    assert np.isnan(losses.known).all()
    losses.end_epoch(lambda values: 2 * values)  # now both have them
    assert losses.known.tolist() == [1.0, 3.0, 3.0]


def test_processes_that_saw_different_rows_come_to_know_the_same() -> None:
    first, second = RowLosses(3), RowLosses(3)
    first.note(np.array([0, 1]), np.array([1.0, 2.0], dtype=np.float32))
    second.note(np.array([1, 2]), np.array([4.0, 3.0], dtype=np.float32))
    told: list[FloatRows] = []

    def tell(values: FloatRows) -> FloatRows:
        told.append(values.copy())
        return values

    second.end_epoch(tell)
    first.end_epoch(lambda values: values + told[0])
    assert first.known.tolist() == [1.0, 3.0, 3.0]
