"""The documentation says what the code does."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
READMES = ("README.md", "README.zh-CN.md")


def blocks(name: str, language: str) -> list[str]:
    text = (ROOT / name).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def hone_commands(name: str) -> list[list[str]]:
    lines = "\n".join(blocks(name, "bash")).replace("\\\n", " ").splitlines()
    return [line.split() for line in lines if line.startswith("hone ")]


def test_both_readmes_show_the_same_commands() -> None:
    english, chinese = (blocks(name, "bash") for name in READMES)
    assert english == chinese
    assert blocks(READMES[0], "json") == blocks(READMES[1], "json")


def test_every_make_target_that_the_readme_names_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"make (\w+)", (ROOT / "README.md").read_text(encoding="utf-8")))
    assert {"demo", "test", "check", "bench", "build"} <= named
    for target in named:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


GROUPS = {"models", "keys", "jobs"}
"""Commands that have commands of their own."""


def command_of(words: list[str]) -> tuple[str, ...]:
    return tuple(words[1:3] if words[1] in GROUPS else words[1:2])


@pytest.mark.parametrize("command", sorted({command_of(c) for c in hone_commands("README.md")}))
def test_every_option_that_the_readme_uses_is_in_the_help(command: tuple[str, ...]) -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "hone", *command, "--help"],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    ).stdout
    for words in hone_commands("README.md"):
        if command_of(words) == command:
            for option in (word for word in words if word.startswith("--")):
                assert option in shown


def test_the_recipe_reference_is_what_the_schema_says() -> None:
    reference = pytest.importorskip("hone.training.recipe_reference").reference()
    assert (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8") == reference


def test_every_link_between_documents_leads_somewhere() -> None:
    pages = [ROOT / name for name in READMES] + sorted((ROOT / "docs").glob("*.md"))
    for page in pages:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_shipped_examples_have_as_many_rows_as_the_readme_says() -> None:
    rows = (ROOT / "examples/support/support.csv").read_text(encoding="utf-8").count("\n") - 1
    assert f"{rows} support messages" in (ROOT / "README.md").read_text(encoding="utf-8")
