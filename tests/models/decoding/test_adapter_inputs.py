"""A graph whose inputs no table of adapters could be given to is refused by the input's name."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hone.models.decoding.adapters import UNIT
from hone.models.decoding.engine import _tables
from hone.models.errors import BundleCorrupt


def inputs(kind: str = "tensor(float)", **changes: Any) -> list[Any]:
    """Return a decoder's inputs of one layer; `changes` are those of its matrix B."""
    shapes: dict[str, list[Any]] = {"A": ["units", UNIT, 8], "B": ["units", UNIT, 4]}
    found = [
        SimpleNamespace(name=f"adapter.layers.0.mlp.up_proj.{part}", type=kind, shape=shape)
        for part, shape in shapes.items()
    ]
    for name, value in changes.items():
        setattr(found[1], name, value)
    ids = SimpleNamespace(name="input_ids", type="tensor(int64)", shape=["rows", "tokens"])
    return [ids, *found]


@pytest.mark.parametrize(
    ("kind", "dtype"), [("tensor(float)", np.float32), ("tensor(float16)", np.float16)]
)
def test_all_adapters_beside_a_base_have_the_type_that_its_graph_takes(
    kind: str, dtype: Any
) -> None:
    tables = _tables(inputs(kind))
    assert tables is not None
    assert tables.dtype == dtype
    assert _tables(inputs()[:1]) is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"type": "tensor(float16)"}, r"as tensor\(float16\) and .*up_proj\.A as tensor\(float\)"),
        ({"type": "tensor(double)"}, r"as tensor\(double\)"),
        ({"shape": ["units", 8, 4]}, "and adapters come in units of 16 ranks"),
        ({"shape": ["units", "ranks", 4]}, "and adapters come in units of 16 ranks"),
        ({"shape": ["units", UNIT, "width"]}, "and a known width"),
        ({"shape": [UNIT, 4]}, "and a known width"),
    ],
)
def test_types_and_ranks_that_no_table_has_are_refused_by_name(
    changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(BundleCorrupt, match=f"takes adapter.layers.0.mlp.up_proj.B .*{said}"):
        _tables(inputs(**changes))


def test_a_type_that_is_none_of_the_two_is_refused_also_where_all_have_it() -> None:
    with pytest.raises(BundleCorrupt, match="one type, float or float16"):
        _tables(inputs("tensor(double)"))
