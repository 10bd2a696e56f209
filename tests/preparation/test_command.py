"""The command line, without the front door."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from hone.models.errors import InvalidInput, MissingDependency, NotFound
from hone.training.preparation import command, lengths
from hone.training.preparation.command import prepare_command
from tests.preparation.running import plain_rows, run, word_tokenizer, write_lines

app = typer.Typer()
app.command()(prepare_command)


def arguments(tmp_path: Path, *more: str, repeat: bool = True) -> list[str]:
    rows = plain_rows(60) + (plain_rows(1) if repeat else [])
    path = write_lines(tmp_path / "rows.jsonl", rows)
    out = ["--out", str(tmp_path / "out"), "--tokenizer", str(word_tokenizer(tmp_path))]
    return [str(path), *out, *more]


def test_yes_mends_and_writes(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, arguments(tmp_path, "--yes"))
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out" / "report.html").exists()
    assert "61 rows read, 60 kept, 1 dropped" in result.stdout
    assert "praise" in result.stdout


def test_the_terminal_says_why_lines_could_not_be_read(tmp_path: Path) -> None:
    given = arguments(tmp_path, "--yes")
    path = Path(given[0])
    path.write_text("{broken\n" + path.read_text())
    result = CliRunner().invoke(app, given)
    assert result.exit_code == 0, result.output
    assert "line 1:" in result.stdout
    assert "JSON" in result.stdout


def test_with_nobody_to_ask_nothing_is_written_and_the_status_is_2(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, arguments(tmp_path))
    assert result.exit_code == 2
    assert "run again with --yes to mend" in result.stderr
    assert "duplicates" not in result.stderr
    assert not (tmp_path / "out").exists()


def test_with_nothing_to_mend_nobody_is_needed(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, arguments(tmp_path, repeat=False))
    assert result.exit_code == 0
    assert (tmp_path / "out" / "train.jsonl").exists()


@pytest.mark.parametrize(("more", "status"), [(["-y"], 0), ([], 2)])
def test_json_is_all_that_stands_on_standard_output(
    tmp_path: Path, more: list[str], status: int
) -> None:
    result = CliRunner().invoke(app, arguments(tmp_path, "--json", *more))
    assert result.exit_code == status
    report = json.loads(result.stdout)
    assert report["counts"]["read"] == 61
    assert report["status"] == ("written" if status == 0 else "waiting for a yes")


@pytest.mark.parametrize(("answer", "kept"), [("y\n", 60), ("n\n", 61), ("\n", 60)])
def test_an_answer_at_the_prompt_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, kept: int
) -> None:
    class Terminal:
        @staticmethod
        def isatty() -> bool:
            return True

    class System:
        stdin = Terminal

    monkeypatch.setattr(command, "sys", System)
    result = CliRunner().invoke(app, arguments(tmp_path), input=answer)
    assert result.exit_code == 0, result.output
    assert "Mend: keep the first of each?" in result.stdout
    assert f"{kept} kept" in result.stdout


def test_the_default_folder_is_named_for_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_lines(Path("support.jsonl"), plain_rows(60))
    tokenizer = str(word_tokenizer(tmp_path))
    result = CliRunner().invoke(app, ["support.jsonl", "--tokenizer", tokenizer])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "build" / "support" / "report.json").exists()


def test_options_reach_the_run(tmp_path: Path) -> None:
    path = tmp_path / "rows.dat"
    path.write_bytes("\n".join(f"{'äb'[n % 2]};text {n};x" for n in range(60)).encode("cp1252"))
    options = (
        "--format csv --encoding cp1252 --no-header --text-column 2 --label-column column_1 "
        "--validation-share 0.2 --test-share 0.3 --seed 4 --max-tokens 1 --min-per-class 2"
    )
    tokenizer = str(word_tokenizer(tmp_path))
    out = str(tmp_path / "out")
    line = [str(path), *options.split(), "--json", "--tokenizer", tokenizer, "--out", out]
    result = CliRunner().invoke(app, line)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert {name: split["rows"] for name, split in report["splits"].items()} == {
        "train": 30,
        "validation": 12,
        "test": 18,
    }
    assert {label["label"] for label in report["labels"]} == {"ä", "b"}
    assert report["tokens"]["over_limit"] == 60


def test_errors_are_left_to_the_front_door(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [str(tmp_path / "none.csv")])
    assert isinstance(result.exception, NotFound)


def test_without_the_default_base_lengths_are_not_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(_name: str) -> None:
        raise MissingDependency("the base", "minilm")

    monkeypatch.setattr(lengths, "find_base", missing)
    path = write_lines(tmp_path / "rows.jsonl", plain_rows(60))
    outcome = run(path, tokenizer=None)
    assert outcome.problem("lengths_not_counted").severity == "advice"
    assert outcome.report.lengths is None
    with pytest.raises(MissingDependency):
        run(path, tokenizer=None, base="minilm")


def test_tokenizers_that_are_none_are_refused(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "rows.jsonl", plain_rows(60))
    with pytest.raises(NotFound, match="no tokenizer"):
        run(path, tokenizer=tmp_path / "none.json")
    with pytest.raises(InvalidInput, match="not a tokenizer file"):
        run(path, tokenizer=path)
    with pytest.raises(InvalidInput, match="at least 1"):
        run(path, max_tokens=0)
