"""Workers that are killed or stopped past their lease lose no job and finish none twice."""

from pathlib import Path

import pytest

from benchmarks.jobs.nemesis import OWNER, Broken, check_events, experiment
from hone.service.jobs.database import Database
from hone.service.jobs.events import Events, NewEvent
from hone.service.jobs.records import Records
from tests.service.jobs.jobs import new_job

pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]

JOBS, ATTACKS = 100, 12


def test_no_job_is_lost_and_none_is_done_twice(
    database: Database, url: str, tmp_path: Path
) -> None:
    outcome = experiment(database, url, tmp_path, jobs=JOBS, attacks=ATTACKS)
    assert outcome.kills > 0
    assert outcome.stops > 0
    assert outcome.claimed_again > 0


@pytest.mark.parametrize(
    "messages",
    [
        ["1 step 0"],
        ["1 step 0", "succeeded", "1 step 1"],
        ["1 step 0", "succeeded", "succeeded"],
        ["2 step 0", "1 step 1", "succeeded"],
    ],
)
def test_the_experiment_sees_what_it_looks_for(database: Database, messages: list[str]) -> None:
    job, events = Records(database).create(new_job(owner=OWNER)), Events(database)
    events.add(job.id, [NewEvent(message) for message in messages])
    with pytest.raises(Broken):
        check_events(events, job.id)
