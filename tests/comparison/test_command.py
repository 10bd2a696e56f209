"""`hone compare` at the command line."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hone.comparison.held_folder import check_place
from hone.models.errors import InvalidInput
from tests.comparison.experiments import experiment_text, prompt, rows, write_data, write_lines
from tests.comparison.upstream import Behaviour, upstream

ADDRESS = "http://127.0.0.1:9/v1"  # nobody is there, and nobody is to be asked
ROOT = Path(__file__).resolve().parents[2]


def hone(*words: str, folder: Path, before: str = "") -> tuple[int, str, str]:
    """Run `hone compare WORDS` in a folder; return status, output and errors."""
    program = f"""
import sys
{before}
sys.argv = ["hone", "compare", *{list(words)!r}]
from hone.cli import main
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        timeout=120,
    )
    return done.returncode, done.stdout, done.stderr


def test_a_dry_run_says_what_asking_would_cost_and_asks_nobody(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", test=60)
    with upstream() as server:
        text = experiment_text(
            data, prompt(server.address), prompt(server.address, "dear", model="unheard-of")
        )
        (tmp_path / "e.toml").write_text(text)
        status, out, err = hone("e.toml", "--dry-run", folder=tmp_path)
        assert server.served == []
    assert (status, err) == (0, "")
    assert "few" in out
    assert "unknown" in out
    assert "1 contender of unknown price" in out
    (tmp_path / "e.toml").write_text(experiment_text(data, prompt(ADDRESS, model="unheard-of")))
    status, out, _ = hone("e.toml", "--dry-run", folder=tmp_path)
    assert "what it costs is unknown" in out
    assert "$0.0000" not in out
    assert not (tmp_path / "comparisons").exists()


def test_a_dry_run_holds_the_estimate_against_the_limit_and_what_is_spent(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", test=60)
    with upstream() as server:

        def said(dollars: float, *words: str) -> str:
            text = experiment_text(data, prompt(server.address), limits={"dollars": dollars})
            (tmp_path / "e.toml").write_text(text)
            status, out, err = hone("e.toml", *words, folder=tmp_path)
            assert (status, err) == (0, ""), err
            return " ".join(out.split())

        assert "limits.dollars is $0.0100: the estimate is above it" in said(0.01, "--dry-run")
        assert said(5.0, "--dry-run").endswith("limits.dollars is $5.0000")
        assert server.served == []
        (tmp_path / "e.toml").write_text(experiment_text(data, prompt(server.address)))
        assert hone("e.toml", folder=tmp_path)[0] == 0
        asked = len(server.served)
        before = {path.name for path in (tmp_path / "comparisons" / "trial").iterdir()}
        found = said(0.15, "--dry-run")
        assert "limits.dollars is $0.1500, of which $0.0" in found
        assert "it may not do, unless what is spent was for the same calls" in found
        assert len(server.served) == asked
        assert before == {path.name for path in (tmp_path / "comparisons" / "trial").iterdir()}


def test_a_dry_run_finds_what_the_run_would_be_refused_for(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", test=60)
    ours = {"name": "ours", "kind": "bundle", "model": "suport", "store": "models"}
    read = {"name": "read", "kind": "recorded", "path": "answers.jsonl"}
    few = prompt("http://127.0.0.1:9/v1", api_key_env="HONE_TEST_NO_SUCH_KEY")
    (tmp_path / "e.toml").write_text(experiment_text(data, ours, read, few))
    status, out, err = hone("e.toml", "--dry-run", folder=tmp_path)
    said = " ".join(err.split())
    assert status == 1
    assert f"contender 'ours': there is no store {tmp_path / 'models'}" in said
    assert f"contender 'read': there is no file {tmp_path / 'answers.jsonl'}" in said
    assert "contender 'few': the environment variable HONE_TEST_NO_SUCH_KEY holds no key" in said
    assert "about $" in out  # the estimate is there all the same
    uncounted = {**few, "name": "uncounted", "tokenizer": "tokenizer.json"}
    (tmp_path / "e.toml").write_text(experiment_text(data, ours, few, uncounted))
    _, _, err = hone("e.toml", "--dry-run", folder=tmp_path)
    said = " ".join(err.split())
    assert f"contender 'ours': there is no store {tmp_path / 'models'}" in said
    assert "contender 'uncounted': there is no tokenizer file" in said
    write_lines(tmp_path / "answers.jsonl", [{"id": "line-1", "label": "refund"}])
    (tmp_path / "e.toml").write_text(experiment_text(data, read, few))
    status, _, err = hone("e.toml", "--dry-run", folder=tmp_path)
    assert status == 0
    assert "HONE_TEST_NO_SUCH_KEY holds no key; the run will need it" in " ".join(err.split())
    write_lines(data / "test.jsonl", rows(12))
    status, _, err = hone("e.toml", "--dry-run", folder=tmp_path)
    assert status == 1
    assert "every item stands in the training data (12 of 12)" in " ".join(err.split())


def test_a_dry_run_refuses_a_decision_that_was_changed_after_the_answers(tmp_path: Path) -> None:
    data, path = write_data(tmp_path / "data", test=12), tmp_path / "e.toml"
    with upstream() as server:
        path.write_text(experiment_text(data, prompt(server.address)))
        assert hone("e.toml", folder=tmp_path)[0] == 0
    path.write_text(experiment_text(data, prompt(server.address), decision={"margin": 0.2}))
    status, _, err = hone("e.toml", "--dry-run", folder=tmp_path)
    assert status == 1
    assert "[decision] is not what it was" in " ".join(err.split())
    assert hone("e.toml", "--dry-run", "--decision-changed", folder=tmp_path)[0] == 0


@pytest.mark.parametrize(
    "words",
    [
        ("a-file",),
        ("/proc/hone",),
        ("a-file/below", "--dry-run"),
        ("x" * 300,),
        ("x" * 300, "--dry-run"),
    ],
)
def test_a_folder_that_cannot_be_is_refused_before_anybody_is_asked(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    data = write_data(tmp_path / "data", test=12)
    (tmp_path / "a-file").touch()
    with upstream() as server:
        (tmp_path / "e.toml").write_text(experiment_text(data, prompt(server.address)))
        status, _, err = hone("e.toml", "--out", *words, folder=tmp_path)
        assert server.served == []
    assert status == 1
    said = "".join(err.split())  # a long name is told in lines
    assert "".join(f"error: {words[0]} cannot be a run's folder: ".split()) in said, err
    assert said.endswith("giveanother--out")


def test_a_folder_without_leave_to_write_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    with pytest.raises(InvalidInput, match="cannot be a run's folder: permission denied"):
        check_place(tmp_path / "a" / "b")
    assert not (tmp_path / "a").exists()


def test_where_nobody_watches_progress_is_told_in_lines(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", test=60)
    with upstream() as server:
        (tmp_path / "e.toml").write_text(experiment_text(data, prompt(server.address)))
        status, _, err = hone("e.toml", folder=tmp_path)
    assert status == 0
    lines = [line for line in err.splitlines() if line.startswith("few: ")]
    assert lines[0] == "few: 60 items to do"
    assert len(lines) == 11
    assert all(re.match(r"few: \d+ of 60 items, \$0\.\d{4} so far", line) for line in lines[1:])
    assert lines[-1].startswith("few: 60 of 60 items")
    assert "\x1b" not in err


def test_a_run_that_ends_early_says_that_the_one_before_is_still_there(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", test=12)
    with upstream() as server:
        (tmp_path / "e.toml").write_text(experiment_text(data, prompt(server.address)))
        assert hone("e.toml", folder=tmp_path)[0] == 0
        text = experiment_text(data, prompt(server.address, k=4), limits={"dollars": 0.001})
        (tmp_path / "e.toml").write_text(text)
        status, _, err = hone("e.toml", "--gate", folder=tmp_path)
    assert status == 1  # a fault, and no verdict
    said = " ".join(err.split())
    assert "comparisons/trial holds the whole run before" in said
    assert "this one's files are in comparisons/trial/unfinished" in said
    assert (tmp_path / "comparisons" / "trial" / "report.html").is_file()


def test_what_is_wrong_with_the_file_is_said_also_without_the_extra(tmp_path: Path) -> None:
    text = experiment_text(tmp_path, prompt("http://localhost/v1", temprature=1.0))
    (tmp_path / "e.toml").write_text(text)
    wrong = "contender 'few': temprature: unknown key; did you mean 'temperature'?"
    block = "sys.modules.update(dict.fromkeys(('aiohttp', 'scipy', 'safetensors', 'torch')))"
    status, out, err = hone("e.toml", folder=tmp_path, before=block)
    assert (status, out) == (1, "")
    assert wrong in err
    status, out, err = hone("e.toml", folder=tmp_path)
    assert (status, out) == (1, "")
    assert wrong in err
    assert f"there is no file {tmp_path / 'test.jsonl'}" in " ".join(err.split())


def test_without_the_extra_it_is_named(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    (tmp_path / "e.toml").write_text(experiment_text(data, prompt("http://localhost/v1")))
    status, _, err = hone("e.toml", folder=tmp_path, before="sys.modules['aiohttp'] = None")
    assert status == 1
    said = " ".join(err.split())
    assert said == "error: hone compare needs the extra 'compare': pip install 'hone[compare]'"


def test_a_budget_that_is_spent_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    with upstream() as server:
        text = experiment_text(data, prompt(server.address), limits={"dollars": 0.001})
        (tmp_path / "e.toml").write_text(text)
        status, _, err = hone("e.toml", folder=tmp_path)
    assert status == 1
    assert "raise it and run again" in " ".join(err.split())
    assert "Traceback" not in err


def test_no_key_is_ever_shown(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    key = "sk-shown-to-nobody"
    with upstream(Behaviour(key="another")) as server:
        text = experiment_text(data, prompt(server.address, api_key_env="UPSTREAM_KEY"))
        (tmp_path / "e.toml").write_text(text)
        setting = f"import os; os.environ['UPSTREAM_KEY'] = {key!r}"
        status, out, err = hone("e.toml", folder=tmp_path, before=setting)
        assert server.served[0].key == key
    assert status == 1
    assert "cannot be asked: status 401" in " ".join(err.split())
    assert key not in out + err
    assert str(server.port) not in out + err
    unfinished = tmp_path / "comparisons" / "trial" / "unfinished"
    record = json.loads((unfinished / "run.json").read_bytes())
    assert record["complete"] is False


def test_another_tools_file_becomes_an_experiment(tmp_path: Path) -> None:
    chats = [
        {"messages": [{"role": "user", "content": r["text"]},
                      {"role": "assistant", "content": r["label"]}]}
        for r in rows(8)
    ]  # fmt: skip
    write_lines(tmp_path / "chats.jsonl", chats)
    status, out, err = hone("chats.jsonl", "--from", "fine-tuning", folder=tmp_path)
    assert status == 1
    assert "--out" in err
    words = ("chats.jsonl", "--from", "fine-tuning", "--out", "taken")
    status, out, err = hone(*words, "--dry-run", folder=tmp_path)
    assert (status, out) == (2, "")
    assert "give it --out alone" in err
    status, _, err = hone("e.toml", "--dry-run", "--gate", folder=tmp_path)
    assert (status, "nothing for --gate" in err) == (2, True)
    assert not (tmp_path / "taken").exists()
    status, out, err = hone(*words, folder=tmp_path)
    assert (status, err) == (0, "")
    assert out.splitlines()[0] == "8 items in taken/items.jsonl"
    assert (tmp_path / "taken" / "experiment.toml").is_file()


def test_the_answers_are_judged_and_the_gate_says_the_verdict(tmp_path: Path) -> None:
    pytest.importorskip("hone.comparison.judging")
    data = write_data(tmp_path / "data", train=80, test=80)
    with upstream(Behaviour(wrong=0.3)) as server:
        ours = prompt(server.address, "ours", billing="hosting")
        theirs = prompt(server.address, "theirs", prompt="zero-shot", k=None)
        for candidate, baseline, wanted in (("majority", "theirs", 4), ("ours", "theirs", 0)):
            decision = {"candidate": candidate, "baseline": baseline}
            text = experiment_text(data, ours, theirs, decision=decision)
            (tmp_path / "e.toml").write_text(text)
            words = ("e.toml", "--gate", "--out", f"run-{wanted}")
            status, out, err = hone(*words, folder=tmp_path)
            assert status == wanted, err
            assert ("REPLACE:" if wanted == 0 else "KEEP THE PROMPT:") in out
            assert (tmp_path / f"run-{wanted}" / "report.html").is_file()
            assert (tmp_path / f"run-{wanted}" / "junit.xml").is_file()
