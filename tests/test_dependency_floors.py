"""No installed library, and no lower bound of ours, is below a version with a known hole."""

import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

FLOORS = {
    "onnx": "1.21.0",
    "pillow": "12.3.0",
    "python-multipart": "0.0.30",
    "starlette": "1.3.1",
    "torch": "2.10.0",
    "transformers": "5.3.0",
}
"""The lowest version of each that has no hole that was known in November 2026."""

PROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"


def requirements() -> list[Requirement]:
    """Return every requirement of the core and of all extras."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    return [Requirement(entry) for group in groups for entry in group]


def lower_bound(requirement: Requirement) -> Version:
    """Return the lowest version that a requirement lets in; 0 if it names none."""
    bounds = [
        Version(part.version.removesuffix(".*"))
        for part in requirement.specifier
        if part.operator in {">=", "==", "~=", "===", ">"}
    ]
    return max(bounds, default=Version("0"))


@pytest.mark.parametrize(("name", "floor"), FLOORS.items())
def test_what_is_installed_is_not_below_its_floor(name: str, floor: str) -> None:
    try:
        installed = metadata.version(name)
    except metadata.PackageNotFoundError:
        pytest.skip(f"{name} is not installed")
    assert Version(installed) >= Version(floor)


def test_no_lower_bound_of_ours_is_below_a_floor() -> None:
    named = [requirement for requirement in requirements() if requirement.name in FLOORS]
    assert {"onnx", "starlette", "torch", "transformers"} <= {named.name for named in named}
    low = [str(r) for r in named if lower_bound(r) < Version(FLOORS[r.name])]
    assert low == []


def test_everything_that_is_required_has_a_lower_bound() -> None:
    assert [str(r) for r in requirements() if lower_bound(r) == Version("0")] == []


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        ("starlette", "0"),
        ("starlette<2", "0"),
        ("starlette>=1.0,<2", "1.0"),
        ("starlette==1.*", "1"),
        ("starlette~=1.3.1", "1.3.1"),
        ("starlette[full]>1.2; sys_platform != 'win32'", "1.2"),
    ],
)
def test_a_lower_bound_is_read_as_pip_reads_it(text: str, bound: str) -> None:
    assert lower_bound(Requirement(text)) == Version(bound)
