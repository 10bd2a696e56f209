"""Settings of the runner come from the environment, and leave a core to serving."""

import json
from pathlib import Path

import pytest

from hone.models.errors import InvalidInput
from hone.service.jobs import settings
from hone.service.jobs.settings import RunnerSettings, load_runner_settings, trainer_environment


def test_they_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HONE_JOBS_AT_ONCE", "3")
    monkeypatch.setenv("HONE_JOBS_BASES", json.dumps({"house": "/models/house"}))
    found = RunnerSettings()
    assert (found.at_once, found.bases) == (3, {"house": "/models/house"})


def test_each_one_that_cannot_be_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HONE_JOBS_AT_ONCE", "0")
    monkeypatch.setenv("HONE_JOBS_NICE", "much")
    with pytest.raises(InvalidInput) as refused:
        load_runner_settings()
    assert "HONE_JOBS_AT_ONCE: Input should be greater" in str(refused.value)
    assert "HONE_JOBS_NICE: Input should be a valid integer" in str(refused.value)


def test_what_is_wrong_with_all_of_them_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HONE_JOBS_LEASE_S", "1")
    with pytest.raises(InvalidInput, match="- settings: Value error, lease_s must be"):
        load_runner_settings()


@pytest.mark.parametrize(
    ("cores", "at_once", "threads", "expected"),
    [(1, 1, None, 1), (2, 1, None, 2), (8, 1, None, 7), (8, 3, None, 2), (8, 1, 4, 4)],
)
def test_a_core_is_left_to_serving_where_there_are_more_than_two(
    monkeypatch: pytest.MonkeyPatch, cores: int, at_once: int, threads: int | None, expected: int
) -> None:
    monkeypatch.setattr(settings, "usable_cores", lambda: cores)
    assert RunnerSettings(at_once=at_once, threads=threads).trainer_threads == expected


def test_a_training_gets_no_setting_of_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HONE_DATABASE", "postgresql://hone:pa55@host/hone")
    monkeypatch.setenv("PGPASSWORD", "pa55")
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    found = trainer_environment(2, Path("/scratch"))
    assert "pa55" not in str(found)
    assert found["OMP_NUM_THREADS"] == "2"
    assert found["TMPDIR"] == "/scratch"


def test_a_lease_that_no_heartbeat_could_keep_is_refused() -> None:
    with pytest.raises(ValueError, match="lease_s must be at least three times heartbeat_s"):
        RunnerSettings(heartbeat_s=60)
