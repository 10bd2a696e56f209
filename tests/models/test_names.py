"""Names that are a path, a flag, an alias of another kind or not printable are refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hone.models.errors import InvalidName
from hone.models.names import (
    ModelReference,
    check_alias_name,
    check_model_name,
    is_model_name,
    parse_reference,
)

GOOD_NAMES = ["support", "a", "0", "support-v2", "a.b_c-d", "x" * 64, "a.", "a-"]
BAD_NAMES = [
    "",
    "x" * 65,
    ".a",
    "-a",
    "_a",
    "A",
    "a..b",
    "a/b",
    "a b",
    "a@b",
    "a\n",
    "é",
    "１",
    "a\0",
]


@pytest.mark.parametrize("name", GOOD_NAMES)
def test_a_good_name_is_returned(name: str) -> None:
    assert check_model_name(name) == name
    assert is_model_name(name)


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_bad_name_is_refused(name: str) -> None:
    assert not is_model_name(name)
    with pytest.raises(InvalidName):
        check_model_name(name)
    with pytest.raises(InvalidName):
        parse_reference(f"{name}@1")


@given(st.text())
def test_a_refusal_is_short_and_printable(name: str) -> None:
    for check in (check_model_name, check_alias_name, parse_reference):
        with pytest.raises(InvalidName) as caught:
            check(name + "/")
        assert len(str(caught.value)) < 1200
        assert str(caught.value).isprintable()


@pytest.mark.parametrize("alias", ["production", "canary", "a", "blue-green_2", "x" * 32])
def test_a_good_alias_is_returned(alias: str) -> None:
    assert check_alias_name(alias) == alias


@pytest.mark.parametrize("alias", ["latest", "", "1", "-a", "A", "a.b", "a/b", "x" * 33, "a\n"])
def test_a_bad_alias_is_refused(alias: str) -> None:
    with pytest.raises(InvalidName):
        check_alias_name(alias)


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("support", ModelReference("support")),
        ("support@3", ModelReference("support", version=3)),
        ("support@999999999", ModelReference("support", version=999_999_999)),
        ("support@production", ModelReference("support", alias="production")),
        ("support@latest", ModelReference("support", alias="latest")),
    ],
)
def test_a_reference_is_read_and_written_back(text: str, reference: ModelReference) -> None:
    assert parse_reference(text) == reference
    assert str(reference) == text


@pytest.mark.parametrize(
    "tail",
    ["", "0", "03", "-1", "+1", "1.0", "1 ", " 1", "1e3", "١", "1_0", "1000000000", "2@3", "@"],
)
def test_a_strange_version_is_refused(tail: str) -> None:
    with pytest.raises(InvalidName):
        parse_reference(f"support@{tail}")


@given(st.text() | st.from_regex(r"[a-z0-9.@-]{1,12}", fullmatch=True))
def test_a_text_is_a_reference_that_prints_as_it_was_or_is_refused(text: str) -> None:
    try:
        reference = parse_reference(text)
    except InvalidName:
        return
    assert str(reference) == text
    assert reference.version is None or reference.alias is None
