"""Adapters in one table: each stays whole whatever comes and goes; what is unsound is refused."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from hone.models.decoding.adapters import (
    BARE,
    UNIT,
    AdapterTables,
    AdapterWeights,
    Matrices,
    read_adapter,
)
from hone.models.engines import FloatArray
from hone.models.errors import BundleCorrupt

WIDTHS = {"one.A": 5, "one.B": 3, "two.A": 700, "two.B": 2}


def weights(rank: int, seed: int = 0, names: Mapping[str, int] = WIDTHS) -> AdapterWeights:
    random = np.random.default_rng(seed)
    found = {n: random.standard_normal((rank, w)).astype(np.float32) for n, w in names.items()}
    return AdapterWeights(rank, found)


def held(tables: AdapterTables, adapter: int) -> dict[str, Matrices]:
    """Return what a run over all units would use of one adapter: its ranks, one below another."""
    mask = tables.mask([adapter], 0, tables.units)[:, 0, 0]
    matrices = tables.matrices(0, tables.units)
    return {name: units[mask].reshape(-1, units.shape[2]) for name, units in matrices}


steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(1, 40)),
        st.tuples(st.just("remove"), st.integers(0, 20)),
        st.tuples(st.just("run"), st.sets(st.integers(0, 20), max_size=4)),
    ),
    min_size=1,
    max_size=25,
)


@given(steps)
def test_each_adapter_stays_whole_whatever_comes_goes_and_moves(
    asked: list[tuple[str, int | set[int]]],
) -> None:
    tables = AdapterTables(WIDTHS)
    loaded: dict[int, AdapterWeights] = {}
    for number, (what, about) in enumerate(asked):
        names = sorted(loaded)
        if what == "add":
            assert isinstance(about, int)
            made = weights(about, number)
            loaded[tables.add(made)] = made
        elif what == "remove" and isinstance(about, int) and about < len(names):
            tables.remove(names[about])
            del loaded[names[about]]
        elif isinstance(about, set):
            wanted = {names[place] for place in about if place < len(names)}
            start, end = tables.range_of([*wanted, BARE])
            needed = sum(-(-loaded[adapter].rank // UNIT) for adapter in wanted)
            assert needed <= end - start <= 2 * needed
            mask = tables.mask(sorted(wanted), start, end)
            assert mask.sum() == needed, "a run has all units of those that it needs"
            assert not tables.mask([BARE], start, end).any()
        for adapter, made in loaded.items():
            for name, matrix in held(tables, adapter).items():
                np.testing.assert_array_equal(matrix[: made.rank], made.matrices[name])
                assert not matrix[made.rank :].any()
    units = sum(-(-made.rank // UNIT) for made in loaded.values())
    assert tables.units == units
    assert tables.bytes == units * UNIT * 4 * sum(WIDTHS.values())


def test_a_layer_that_an_adapter_does_not_name_stays_the_bases() -> None:
    tables = AdapterTables(WIDTHS)
    first = tables.add(weights(3))
    tables.remove(first)  # its numbers still lie there
    second = tables.add(weights(3, 1, {"two.A": 700, "two.B": 2}))
    assert second != first
    assert not held(tables, second)["one.A"].any()
    assert held(tables, second)["two.A"].any()


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ({**WIDTHS, "three.A": 5, "three.B": 5}, "three.A, which its base does not take"),
        ({**WIDTHS, "one.A": 6}, r"one.A has the shape \(4, 6\), and its base takes \(4, 5\)"),
        ({"one.A": 5}, "one of the two matrices of one"),
    ],
)
def test_an_adapter_of_another_base_is_refused_with_the_name(
    names: dict[str, int], reason: str
) -> None:
    tables = AdapterTables(WIDTHS)
    kept = weights(2)
    number = tables.add(kept)
    with pytest.raises(BundleCorrupt, match=reason):
        tables.add(weights(4, 1, names))
    np.testing.assert_array_equal(held(tables, number)["one.A"][:2], kept.matrices["one.A"])


def test_half_precision_takes_half_the_memory_and_no_number_that_it_does_not_know() -> None:
    whole, half = AdapterTables(WIDTHS), AdapterTables(WIDTHS, np.float16)
    given = weights(20)
    number = half.add(given)
    whole.add(given)
    assert 2 * half.bytes == whole.bytes
    for name, matrix in held(half, number).items():
        assert matrix.dtype == np.float16
        np.testing.assert_array_equal(matrix[:20], given.matrices[name].astype(np.float16))
    large = AdapterWeights(1, {n: np.full((1, w), 7e4, np.float32) for n, w in WIDTHS.items()})
    whole.add(large)
    with pytest.raises(BundleCorrupt, match=r"one\.A holds a number above 65504"):
        half.add(large)
    assert half.units == 2


def changed(name: str, change: Callable[[FloatArray], object]) -> dict[str, FloatArray]:
    matrices = dict(weights(4).matrices)
    matrices[name] = np.ascontiguousarray(change(matrices[name].copy()))
    return matrices


def not_a_number(matrix: FloatArray) -> FloatArray:
    matrix[1, 1] = np.nan
    return matrix


def infinite(matrix: FloatArray) -> FloatArray:
    matrix[0, 0] = -np.inf
    return matrix


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (not_a_number, "two.B holds what is not a finite number"),
        (infinite, "two.B holds what is not a finite number"),
        (lambda m: m.astype(np.float16), "two.B is no matrix of float32"),
        (lambda m: m[0], "two.B is no matrix of float32"),
        (lambda m: m[:0], "two.B is no matrix of float32"),
        (lambda m: m[:3], "two.B has rank 3, others 4"),
    ],
)
def test_unsound_matrices_are_refused_by_name(
    change: Callable[[FloatArray], object], reason: str, tmp_path: Path
) -> None:
    file = tmp_path / "adapter.safetensors"
    save_file(changed("two.B", change), file)
    with pytest.raises(BundleCorrupt, match=reason):
        read_adapter(file)


def test_a_file_that_is_no_safetensors_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "adapter.safetensors"
    save_file(dict(weights(4).matrices), file)
    whole = file.read_bytes()
    assert read_adapter(file).rank == 4
    for content in (b"", whole[:-1], whole[:40], b"\x80\x04K\x01.", b"\xff" * 64):
        file.write_bytes(content)
        with pytest.raises(BundleCorrupt):
            read_adapter(file)
    save_file({}, file)
    with pytest.raises(BundleCorrupt, match="no matrices"):
        read_adapter(file)
    with pytest.raises(BundleCorrupt):
        read_adapter(tmp_path / "absent.safetensors")
