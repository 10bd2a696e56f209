"""Safetensors without their library, against it."""

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from hone.models.errors import InvalidInput
from hone.models.prompting.tensors import Array, read_tensors, write_tensors


def test_what_the_library_writes_is_read(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    arrays: dict[str, Array] = {
        "a.weight": generator.normal(size=(3, 5)).astype(np.float32),
        "half": generator.normal(size=7).astype(np.float16),
        "double": generator.normal(size=(2, 1, 2)),
        "empty": np.zeros((0, 4), dtype=np.float32),
    }
    path = tmp_path / "x.safetensors"
    save_file({**arrays, "ids": np.arange(4)}, path, metadata={"format": "np"})
    found = read_tensors(path)
    assert set(found) == set(arrays)  # whole numbers are left out
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_the_library_reads_what_is_written(tmp_path: Path) -> None:
    arrays = {"embeddings": np.random.default_rng(1).normal(size=(4, 3)), "b": np.ones(2)}
    write_tensors(tmp_path / "x.safetensors", arrays)
    found = load_file(tmp_path / "x.safetensors")
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array.astype(np.float32))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(st.data())
def test_a_changed_or_cut_file_is_read_or_refused_and_nothing_else(
    tmp_path: Path, data: st.DataObject
) -> None:
    path = tmp_path / "x.safetensors"
    write_tensors(path, {"a": np.ones((2, 3)), "b": np.zeros(4)})
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    with suppress(InvalidInput):
        assert all(array.dtype.kind == "f" for array in read_tensors(path).values())


@pytest.mark.parametrize("content", [b"", b"\0" * 8, b"\xff" * 32, b"\x02" + b"\0" * 7 + b"[]x"])
def test_what_is_no_such_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match="safetensors"):
        read_tensors(path)
