"""A run that is killed, at any point, goes on without paying twice for an answer that arrived."""

import os
import random
import signal
from collections import Counter
from pathlib import Path

import pytest

from hone.comparison.cache import ANSWERS_FILE, open_cache
from tests.comparison.experiments import experiment_text, prompt, run, write_data
from tests.comparison.killing import answered, start, wait_for
from tests.comparison.upstream import Behaviour, upstream

ITEMS, WORKERS = 60, 4


@pytest.mark.slow
def test_kills_at_random_points_lose_no_answer_that_arrived(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", test=ITEMS)
    drawn = random.Random(7)
    with upstream(Behaviour(delay_s=0.04)) as server:
        text = experiment_text(data, prompt(server.address), limits={"dollars": 5.0})
        kept = 0
        for _ in range(4):
            process = start(text, tmp_path)
            wait_for(server, len(server.served) + drawn.randrange(1, 12), process)
            process.send_signal(signal.SIGKILL)
            process.communicate()
            server.settle()
            assert kept <= answered(tmp_path)
            kept = answered(tmp_path)
        assert 0 < kept < ITEMS
        before = len(server.served)
        finished = run(text, tmp_path / "out")
        assert len(server.served) - before == ITEMS - kept
    assert {outcome.kind for outcome in finished.outcomes} == {"answered"}
    asked = Counter(str(one.body) for one in server.served)
    assert len(asked) == ITEMS
    # Only what was under way when a run was killed was asked again.
    assert sum(count - 1 for count in asked.values()) <= 4 * WORKERS
    with open_cache(tmp_path / "out") as cache:
        rows = list(cache.rows())
        assert Counter(row["state"] for row in rows)["answered"] == ITEMS
        lost = sum(row["most_usd"] for row in rows if row["state"] == "sent")
        assert cache.sums().unclear_usd == lost > 0  # and it counts against the budget


def test_a_kill_leaves_the_whole_run_before_as_it_was(tmp_path: Path) -> None:
    data, out = write_data(tmp_path / "data", test=ITEMS), tmp_path / "out"
    with upstream(Behaviour(delay_s=0.02)) as server:
        run(experiment_text(data, prompt(server.address)), out)
        names = ("experiment.toml", "items.jsonl", "outcomes.jsonl", "question.json", "run.json")
        before = {name: (out / name).read_bytes() for name in names}
        changed = experiment_text(data, prompt(server.address, k=4))
        process = start(changed, tmp_path)
        wait_for(server, ITEMS + 20, process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        server.settle()
        assert {name: (out / name).read_bytes() for name in names} == before
        assert (out / "unfinished" / "experiment.toml").read_text() == changed
        kept, asked = answered(tmp_path), len(server.served)
        run(changed, out)
        assert len(server.served) - asked == 2 * ITEMS - kept
    assert (out / "experiment.toml").read_text() == changed
    assert not (out / "unfinished").exists()


def test_a_file_of_answers_cut_by_a_power_failure_is_read_to_its_last_whole_answer(
    tmp_path: Path,
) -> None:
    data, out = write_data(tmp_path / "data"), tmp_path / "out"
    with upstream() as server:
        text = experiment_text(data, prompt(server.address))
        process = start(text, tmp_path)
        wait_for(server, 8, process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        log = out / f"{ANSWERS_FILE}-wal"
        if log.exists() and log.stat().st_size > 5000:
            os.truncate(log, log.stat().st_size - 100)
        finished = run(text, out)
    assert len(finished.outcomes) == 24
    assert {outcome.kind for outcome in finished.outcomes} == {"answered"}


def test_an_interrupted_run_ends_its_calls_and_says_how_to_go_on(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", test=ITEMS)
    with upstream(Behaviour(delay_s=0.02)) as server:
        text = experiment_text(data, prompt(server.address))
        for number in (signal.SIGINT, signal.SIGTERM):
            path = tmp_path / "experiment.toml"
            command = ("-m", "hone", "compare", str(path), "--out", str(tmp_path / "out"))
            process = start(text, tmp_path, *command)
            wait_for(server, len(server.served) + 10, process)
            process.send_signal(number)
            said, _ = process.communicate(timeout=60)
            assert process.returncode == 75, said
            assert "run the same command again" in " ".join(said.split())
            assert "Traceback" not in said
            assert len(server.served) == answered(tmp_path)  # none that was under way is lost
        assert len(server.served) < ITEMS
        run(text, tmp_path / "out")
        assert len(server.served) == ITEMS
