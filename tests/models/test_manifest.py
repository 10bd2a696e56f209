"""A manifest is canonical, complete and its own witness."""

import math
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from hone.models.errors import BundleCorrupt
from hone.models.manifest import (
    Manifest,
    Score,
    digest_of,
    sha256_of_json,
)
from tests.models.bodies import make_body, make_manifest

OLD = Path(__file__).parent / "manifests" / "first.json"
"""As it was written before manifests had `prompt_form` and baselines a `separator`."""

BASELINE = {"instruction": "a", "static_tokens": 1, "output_tokens": 1.0, "method": "b"}
CANONICAL = orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text()
    | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(labels=st.lists(st.text(), min_size=2, max_size=5, unique=True), licence=st.text())
def test_what_is_written_is_read_back(labels: list[str], licence: str) -> None:
    manifest = make_manifest(labels=labels, licence=licence)
    assert Manifest.from_bytes(manifest.to_bytes()) == manifest


@given(content=st.dictionaries(st.text(), json_values, max_size=4))
def test_any_resolved_recipe_can_be_recorded(content: dict[str, Any]) -> None:
    manifest = make_manifest(recipe={"sha256": sha256_of_json(content), "content": content})
    again = Manifest.from_bytes(manifest.to_bytes())
    assert again.to_bytes() == manifest.to_bytes()


@given(content=st.binary(max_size=200))
def test_noise_is_refused(content: bytes) -> None:
    with pytest.raises(BundleCorrupt):
        Manifest.from_bytes(content)


GOOD = make_manifest().to_bytes()


def test_the_sample_that_the_next_tests_damage_is_good() -> None:
    assert Manifest.from_bytes(GOOD).to_bytes() == GOOD


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"size": 1\n', b'"size": 36893488147419103232\n'),
        (b'"size": 1\n', b'"size": 1e25\n'),
        (b'"size": 1\n', b'"size": -1\n'),
        (b'"size": 1\n', b'"size": true\n'),
        (b'"size": 1\n', b'"size": "1"\n'),
        (b'"version": 1\n', b'"version": 0\n'),
        (b'"version": 1\n', b'"version": 1.0\n'),
        (b'"version": 1\n', b'"version": 2,\n  "version": 1\n'),
        (b'"format_version": 1,', b'"format_version": 2,'),
        (b'"format_version": 1,', b'"format_version": 1,\n  "extra": 1,'),
        (b'"temperature": 1.25', b'"temperature": 0'),
        (b'"temperature": 1.25', b'"temperature": NaN'),
        (b'"temperature": 1.25', b'"temperature": 1e999'),
        (b'"model": "support"', b'"model": "../support"'),
        (b'"model": "support"', b'"model": "support\\n"'),
        (b'"epochs": 3', b'"epochs": ' + b'{"a":' * 700 + b"1" + b"}" * 700),
        (b'"epochs": 3', b'"epochs": ' + b"[" * 1000 + b"]" * 1000),
        (b'"epochs": 3', b'"epochs": 36893488147419103232'),
        (b'"bug"', b'"praise"'),
        (b'"bug"', b'"\\ud800"'),
        (b'"bug"', b'"\\u0062ug"'),
        (b"{", b"\xef\xbb\xbf{"),
        (b"{", b"[{"),
        (b'"2', b'"99999'),
    ],
)
def test_a_hostile_manifest_is_refused_with_our_own_error(old: bytes, new: bytes) -> None:
    assert old in GOOD
    with pytest.raises(BundleCorrupt):
        Manifest.from_bytes(GOOD.replace(old, new, 1))


def test_a_manifest_from_before_fields_that_came_later_is_whole() -> None:
    old = OLD.read_bytes()
    for later in (b'"prompt_form"', b'"separator"'):
        assert later in make_manifest(baseline=BASELINE).to_bytes()
        assert later not in old
    manifest = Manifest.from_bytes(old)
    assert manifest.prompt_form is None
    assert manifest.baseline is not None
    assert manifest.baseline.separator is None
    assert manifest.parity["fp32"].passed


@pytest.mark.parametrize("place", range(0, 2400, 97))
def test_an_old_manifest_with_a_flipped_bit_is_refused(place: int) -> None:
    content = bytearray(OLD.read_bytes())
    content[place % len(content)] ^= 1
    with pytest.raises(BundleCorrupt):
        Manifest.from_bytes(bytes(content))


@pytest.mark.parametrize(("field", "value"), [("version", "1"), ("version", 1.0), ("labels", {})])
def test_a_right_digest_does_not_excuse_another_type(field: str, value: object) -> None:
    stated = {**orjson.loads(GOOD), field: value}
    del stated["digest"]
    stated["digest"] = sha256_of_json(stated)
    with pytest.raises(BundleCorrupt):
        Manifest.from_bytes(orjson.dumps(stated, option=CANONICAL) + b"\n")


def test_a_right_digest_does_not_excuse_another_form() -> None:
    compact = orjson.dumps(orjson.loads(GOOD), option=orjson.OPT_SORT_KEYS)
    with pytest.raises(BundleCorrupt):
        Manifest.from_bytes(compact)


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
@pytest.mark.parametrize("field", sorted(set(Manifest.model_fields) - {"digest"}))
def test_the_digest_covers_every_other_field(field: str) -> None:
    manifest = make_manifest()
    changed = manifest.model_copy(update={field: "something else"})
    assert digest_of(changed) != manifest.digest


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_has_not_is_refused_where_it_arises(value: float) -> None:
    with pytest.raises(ValidationError):
        Score(value=value, low=0.0, high=1.0, n=1)


@pytest.mark.parametrize("labels", [[], ["one"], ["same", "same"]])
def test_labels_are_two_or_more_and_distinct(labels: list[str]) -> None:
    with pytest.raises(ValidationError):
        make_body(labels=labels)


def test_key_order_does_not_change_a_hash() -> None:
    assert sha256_of_json({"a": 1, "b": [2, 3]}) == sha256_of_json({"b": [2, 3], "a": 1})
    assert sha256_of_json([1, 2]) != sha256_of_json([2, 1])
