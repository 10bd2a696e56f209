"""The command line: thin, helpful, and with one sentence where something is wrong."""

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import hone
from hone.cli import build_app
from hone.models.manifest import CARD_FILE, Score
from hone.models.names import ModelReference
from hone.models.registry import Registry
from tests.tiny_bundle import publish_tiny, weights_file

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = ("prepare", "train", "serve", "models", "compare")
HEAVY = {"torch", "transformers", "peft", "accelerate", "onnx", "matplotlib", "scipy", "sklearn"}


def run(words: Sequence[str], *, before: str = "", after: str = "") -> tuple[int, str, str]:
    """Run `hone WORDS` in a process of its own; return exit status, output and errors.

    `before` and `after` are statements to run around it.
    """
    program = f"""
import sys
{before}
sys.argv = ["hone", *{list(words)!r}]
try:
    from hone.cli import main
    main()
finally:
    {after or "pass"}
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "200"},
        timeout=120,
    )
    return done.returncode, done.stdout, done.stderr


def imported(words: Sequence[str]) -> set[str]:
    """Return the libraries that a command imports."""
    names = "print('|', *{name.partition('.')[0] for name in sys.modules})"
    status, out, err = run(words, after=names)
    assert status == 0, err
    return set(out.rpartition("|")[2].split())


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Return a store with two versions of `support` and one of `plain`."""
    registry = Registry(tmp_path / "store")
    for seed in (1, 2):
        publish_tiny(registry, seed=seed)
    publish_tiny(registry, "plain", labels=("a", "b"), baseline=None)
    return registry.store


def models(store: Path, *words: str) -> tuple[int, str, str]:
    return run(["models", *words, "--store", str(store)])


def test_without_a_command_it_lists_them_all() -> None:
    for words in ([], ["--help"], ["-h"]):
        status, out, err = run(words)
        assert status == (0 if words else 2), err
        listed = re.findall(r"^  (\w+)  ", out + err, flags=re.MULTILINE)
        assert set(COMMANDS) <= set(listed)


def test_the_module_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hone", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{hone.__version__}\n"
    assert run(["--version"]) == (0, f"{hone.__version__}\n", "")


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_explains_all_its_options(command: str) -> None:
    app = build_app(command)
    shown = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "100"})
    assert shown.exit_code == 0
    found = typer.main.get_command(app).commands[command]  # type: ignore[attr-defined]
    assert found.help
    assert found.help.splitlines()[0] in shown.output
    for parameter in found.params:
        for name in parameter.opts:
            assert not name.startswith("--") or name in shown.output
        assert getattr(parameter, "help", "help"), parameter.name


@pytest.mark.parametrize("command", ["list", "show", "verify", "promote", "remove"])
def test_every_command_of_the_store_takes_its_folder(command: str) -> None:
    shown = CliRunner().invoke(build_app("models"), ["models", command, "--help"])
    assert shown.exit_code == 0
    assert "--store" in shown.output
    assert "HONE_STORE" in shown.output


def test_starting_and_looking_at_the_store_need_none_of_what_training_needs(store: Path) -> None:
    for words in (
        ["--help"],
        ["models", "list", "--store", str(store)],
        ["serve", "--help"],
        ["train", "--help"],
        ["compare", "--help"],
    ):
        assert imported(words) & HEAVY == set(), words
    assert "fastapi" not in imported(["--help"])


def test_the_store_is_listed(store: Path) -> None:
    status, out, err = models(store, "list")
    assert (status, err) == (0, "")
    rows = [line.replace("│", " ").split() for line in out.splitlines() if "│" in line]
    assert [row[:2] for row in rows] == [["plain", "1"], ["support", "2"], ["support", "1"]]
    assert rows[1][2] == "latest"


def test_a_list_that_is_piped_cuts_no_name_and_names_each_score(tmp_path: Path) -> None:
    registry, name = Registry(tmp_path / "store"), "base-407a7c61f0d2"
    publish_tiny(registry, name, scores={})
    share = Score(value=0.875, low=0.7, high=0.95, n=88, interval="wilson")
    written = {"exact_match": share, "token_accuracy": share.model_copy(update={"value": 0.9})}
    publish_tiny(registry, "writer", scores={"test": written, "validation": written})
    publish_tiny(registry, "labels", scores={"test:int8": {"accuracy": share}})
    _, out, _ = models(registry.store, "list")
    rows = {row.split()[1]: row for row in out.splitlines() if "│" in row}
    assert rows.keys() == {name, "writer", "labels"}
    assert "exact match 0.8750, token accuracy 0.9000 (n=88)" in rows["writer"]
    assert "accuracy 0.8750 (0.7000 to 0.9500, n=88)" in rows["labels"]
    shown = " ".join(models(registry.store, "show", "writer")[1].split())
    assert "exact match test 0.8750 (0.7000 to 0.9500, n=88)" in shown


def test_an_empty_store_is_said_to_be_empty(tmp_path: Path) -> None:
    status, out, _ = models(tmp_path, "list")
    assert status == 0
    assert "There are no models in" in out


@pytest.mark.parametrize("command", ["list", "verify"])
def test_a_store_that_is_not_there_is_an_error_and_stays_away(tmp_path: Path, command: str) -> None:
    status, _, err = models(tmp_path / "none", command)
    assert status == 1
    assert "there is no store" in err
    assert not (tmp_path / "none").exists()


def test_a_corrupt_version_does_not_hide_the_others(store: Path) -> None:
    (store / "support" / "1" / "manifest.json").write_bytes(b"{}")
    status, out, _ = models(store, "list")
    assert status == 0
    assert "corrupt" in out
    assert "plain" in out


def test_a_version_is_shown_with_what_it_is(store: Path) -> None:
    status, out, _ = models(store, "show", "support")
    assert status == 0
    said = " ".join(out.split())
    for words in ("support@2", "4: card, transfer, refund, other", "64 tokens", "digest"):
        assert words in said
    assert CARD_FILE not in out
    (_, older, _) = models(store, "show", "support@1")
    assert "support@1" in older


def test_files_are_verified_again(store: Path) -> None:
    status, out, _ = models(store, "verify")
    assert status == 0
    assert out.count("files match their hashes") == 3
    damaged = weights_file(store / "support" / "1")
    content = bytearray(damaged.read_bytes())
    content[100] ^= 1
    damaged.write_bytes(content)
    for words in (["verify"], ["verify", "support"], ["verify", "support@1"]):
        status, out, err = models(store, *words)
        assert status == 1
        assert "does not match its hash" in out
        assert "Traceback" not in err
    assert models(store, "verify", "support@2")[0] == 0


def test_promoting_moves_an_alias(store: Path) -> None:
    status, out, _ = models(store, "promote", "support@1")
    assert (status, out) == (0, "support@production is now version 1\n")
    status, out, _ = models(store, "promote", "support", "--alias", "canary")
    assert (status, out) == (0, "support@canary is now version 1\n")
    assert Registry(store).listing("support").aliases == {"production": 1, "canary": 1, "latest": 2}
    assert "canary, production" in " ".join(models(store, "list")[1].split())


def test_removing_asks_first_and_never_gives_a_number_again(store: Path) -> None:
    status, out, _ = models(store, "remove", "support@2")
    assert status == 1
    assert "Remove support@2 from" in out
    assert Registry(store).listing("support").versions == [1, 2]
    status, out, _ = models(store, "remove", "support@2", "--yes")
    assert (status, out) == (0, "removed support@2\n")
    assert publish_tiny(Registry(store)).version == 3


def test_the_store_may_be_named_in_the_environment(store: Path) -> None:
    environment = f"import os; os.environ['HONE_STORE'] = {str(store)!r}"
    status, out, _ = run(["models", "list"], before=environment)
    assert status == 0
    assert "plain" in out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["show", "other"], "there is no model 'other'"),
        (["show", "support@9"], "there is no version support@9"),
        (["show", "support@canary"], "there is no alias support@canary"),
        (["show", "../../etc"], "'../../etc' is not a model name"),
        (["show", "[bold]x"], "'[bold]x' is not a model name"),
        (["show", "support@[red]"], "'[red]' is not an alias"),
        (["verify", "other"], "there is no model 'other'"),
        (["promote", "support", "--alias", "latest"], "'latest' is not an alias"),
        (["promote", "broken"], "does not match its hash"),
        (["remove", "support"], "name the version to remove, such as support@3"),
        (["remove", "support@7", "-y"], "there is no version support@7"),
        (["remove", "promoted@1", "-y"], "promoted@1 is production: promote another"),
    ],
)
def test_an_error_is_one_sentence_and_status_1(
    store: Path, words: list[str], sentence: str
) -> None:
    registry = Registry(store)
    for name in ("promoted", "broken"):
        publish_tiny(registry, name)
    registry.promote(ModelReference("promoted"))
    weights_file(store / "broken" / "1").write_bytes(b"")
    status, out, err = models(store, *words)
    assert (status, out) == (1, "")
    said = " ".join(err.split())
    assert said.startswith("error: ")
    assert sentence in said
    assert "Traceback" not in err


@pytest.mark.parametrize("words", [["nonsense"], ["models"], ["models", "show"], ["--nonsense"]])
def test_a_command_that_is_none_gets_the_usage_and_status_2(words: list[str]) -> None:
    status, out, err = run(words)
    assert status == 2
    assert "Usage: hone" in out + err
    assert "Traceback" not in err


def without(*libraries: str) -> str:
    return f"sys.modules.update(dict.fromkeys({libraries!r}))"


@pytest.mark.parametrize("library", ["torch", "peft"])
def test_without_the_extra_training_says_how_to_install_it(library: str) -> None:
    words = ["train", "classifier", "dataset.path=data", "saving.name=x"]
    status, out, err = run(words, before=without(library))
    assert (status, out) == (1, "")
    said = " ".join(err.split())
    assert said == "error: hone train needs the extra 'train': pip install 'hone[train]'"


def test_a_recipe_with_a_mistake_is_refused_before_anything_large_is_imported() -> None:
    words = ["train", "classifier", "training.epoch=3"]
    status, _, err = run(words, before=without(*HEAVY))
    assert status == 1
    assert "training.epoch: unknown key; did you mean 'epochs'?" in err


def test_without_any_of_the_extras_the_store_can_be_looked_at(store: Path) -> None:
    words = ["models", "list", "--store", str(store)]
    assert run(words, before=without(*HEAVY, "peft", "polars", "huggingface_hub"))[0] == 0


def test_a_fault_in_a_room_is_not_taken_for_a_missing_extra(tmp_path: Path) -> None:
    block = "sys.modules['hone.training.events'] = None"
    status, _, err = run(["train", "classifier"], before=block)
    assert status == 1
    assert "ModuleNotFoundError" in err
    assert "pip install" not in err
