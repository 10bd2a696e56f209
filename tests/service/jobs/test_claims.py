"""One worker at a time works on a job, and whoever was too slow changes nothing."""

import concurrent.futures

import pytest

from hone.models.errors import Conflict, NotFound
from hone.service.jobs.claims import Claim, Claims, NewModel, Progress, Reaper
from hone.service.jobs.database import Database
from hone.service.jobs.errors import CancelWished, LeaseLost, NameTaken
from hone.service.jobs.events import Events, NewEvent
from hone.service.jobs.fine_tuned import FineTunedModels
from hone.service.jobs.records import Failure, Job, Records
from tests.service.jobs.clock import SetClock
from tests.service.jobs.jobs import model_for, new_job

BROKEN = Failure("broken", "it broke")


@pytest.fixture
def records(database: Database) -> Records:
    return Records(database)


@pytest.fixture
def claims(database: Database) -> Claims:
    return Claims(database, "worker-1")


def take(claims: Claims, *, most_running: int | None = None) -> Claim:
    claim = claims.claim(most_running=most_running)
    assert claim is not None
    return claim


def everything_refused(claims: Claims, claim: Claim) -> None:
    """Try all that a holder can do with a claim that no longer holds."""
    told = Progress(events=[NewEvent("a ghost")], trained_tokens=666)
    with pytest.raises(LeaseLost):
        claims.heartbeat(claim, told)
    with pytest.raises(LeaseLost):
        claims.succeed(claim, NewModel("ft:ghost", "ada", 9), progress=told)
    with pytest.raises(LeaseLost):
        claims.fail(claim, BROKEN, events=lambda _: told.events)
    with pytest.raises(LeaseLost):
        claims.put_back(claim)


def test_jobs_are_taken_in_the_order_in_which_they_came(database: Database, claims: Claims) -> None:
    clock = SetClock(1000)
    records = Records(database, clock=clock)
    made = []
    for jump in (0, -500, 900):
        clock.time += jump
        made.append(records.create(new_job()).id)
    assert [take(claims).job.id for _ in range(3)] == made
    assert claims.claim() is None


def test_a_claim_says_who_works_since_when(records: Records, claims: Claims) -> None:
    job = records.create(new_job())
    claim = take(claims)
    found = records.find(job.id)
    assert found == claim.job
    assert (found.status, found.worker, found.token, found.attempts) == (
        "running",
        "worker-1",
        1,
        1,
    )
    assert found.started_at is not None


@pytest.mark.parametrize("status", ["paused", "cancelled", "validating_files"])
def test_only_queued_jobs_are_taken(records: Records, claims: Claims, status: str) -> None:
    validating = status == "validating_files"
    job = records.create(new_job(status="validating_files" if validating else "queued"))
    if status == "paused":
        records.pause("acme", job.id)
    if status == "cancelled":
        records.cancel("acme", job.id)
    assert claims.claim() is None


def test_many_threads_take_each_job_once(database: Database, records: Records) -> None:
    made = {records.create(new_job()).id for _ in range(40)}

    def work(number: int) -> list[str]:
        claims = Claims(database, f"worker-{number}")
        found = []
        while (claim := claims.claim()) is not None:
            found.append(claim.job.id)
        return found

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        taken = [id_ for found in pool.map(work, range(8)) for id_ in found]
    assert len(taken) == 40
    assert set(taken) == made


def test_no_more_run_than_may(database: Database, records: Records) -> None:
    for _ in range(20):
        records.create(new_job())

    def work(number: int) -> int:
        claims = Claims(database, f"worker-{number}")
        return sum(claims.claim(most_running=3) is not None for _ in range(5))

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(work, range(8))) <= 3
    claims = Claims(database, "last")
    while claims.claim(most_running=3) is not None:
        pass
    assert len(records.list_all(statuses=["running"]).items) == 3


class TestHeartbeat:
    def test_it_carries_what_there_is_to_tell(self, database: Database, claims: Claims) -> None:
        records = Records(database)
        job = records.create(new_job())
        claim = take(claims)
        settled = {"n_epochs": 3}
        claims.heartbeat(claim, Progress([NewEvent("one")], (), 10, 99, settled))
        claims.heartbeat(claim)
        found = records.find(job.id)
        assert (found.trained_tokens, found.estimated_finish, found.settled) == (10, 99, settled)
        assert found.heartbeat == claim.job.heartbeat + 2
        assert [e.message for e in Events(database).after("acme", job.id, 0)] == ["one"]

    def test_it_brings_wishes(self, records: Records, claims: Claims) -> None:
        job = records.create(new_job())
        claim = take(claims)
        assert claims.heartbeat(claim) is None
        records.pause("acme", job.id)
        assert claims.heartbeat(claim) == "pause"
        records.resume("acme", job.id)
        assert claims.heartbeat(claim) is None
        records.cancel("acme", job.id)
        assert claims.heartbeat(claim) == "cancel"

    def test_a_wish_ends_with_the_claim(self, records: Records, claims: Claims) -> None:
        job = records.create(new_job())
        claim = take(claims)
        records.pause("acme", job.id)
        assert claims.put_back(claim).status == "paused"
        records.resume("acme", job.id)
        assert claims.heartbeat(take(claims)) is None


class TestTheEnd:
    @pytest.mark.parametrize(
        ("wish", "status"), [(None, "queued"), ("pause", "paused"), ("cancel", "cancelled")]
    )
    def test_a_job_put_back_is_what_was_wished(
        self, database: Database, claims: Claims, wish: str | None, status: str
    ) -> None:
        records = Records(database)
        job = records.create(new_job())
        claim = take(claims)
        if wish:
            getattr(records, wish)("acme", job.id)
        put = claims.put_back(claim, events=lambda now: [NewEvent(f"it is {now.status}")])
        assert put == records.find(job.id)
        assert (put.status, put.wish, put.worker, put.attempts) == (status, None, None, 0)
        assert (put.finished_at is not None) == (wish == "cancel")
        [event] = Events(database).after("acme", job.id, 0)
        assert event.message == f"it is {status}"
        everything_refused(claims, claim)

    def test_success_comes_with_its_model_and_files_or_not_at_all(
        self, database: Database, claims: Claims
    ) -> None:
        records, models = Records(database), FineTunedModels(database)
        job = records.create(new_job())
        claim = take(claims)

        def break_off(_: object) -> list[str]:
            raise Conflict("broken off")

        told = Progress(events=[NewEvent("done")], trained_tokens=7)
        with pytest.raises(Conflict):
            claims.succeed(claim, model_for(job), result_files=break_off, progress=told)
        assert records.find(job.id) == claim.job
        assert FineTunedModels(database).all() == []
        done = claims.succeed(
            claim, model_for(job), result_files=lambda _: ["file-r"], progress=told
        )
        assert done == records.find(job.id)
        assert (done.status, done.result_files, done.trained_tokens) == ("succeeded", ["file-r"], 7)
        model = models.get("acme", str(done.fine_tuned_model))
        assert (model.store_model, model.store_version, model.job_id) == (
            job.store_model,
            1,
            job.id,
        )
        everything_refused(claims, claim)
        assert records.find(job.id) == done
        assert len(models.all()) == 1

    def test_success_outdoes_a_wish_to_pause_that_came_too_late(
        self, records: Records, claims: Claims
    ) -> None:
        job = records.create(new_job())
        claim = take(claims)
        records.pause("acme", job.id)
        done = claims.succeed(claim, model_for(job))
        assert (done.status, done.wish) == ("succeeded", None)

    def test_a_cancel_that_was_accepted_forbids_success(
        self, database: Database, records: Records, claims: Claims
    ) -> None:
        job = records.create(new_job())
        claim = take(claims)
        records.cancel("acme", job.id)
        with pytest.raises(CancelWished):
            claims.succeed(claim, model_for(job))
        assert FineTunedModels(database).all() == []
        assert claims.put_back(claim).status == "cancelled"

    def test_a_cancel_that_was_accepted_outdoes_a_failure(
        self, database: Database, records: Records, claims: Claims
    ) -> None:
        job = records.create(new_job())
        claim = take(claims)
        records.cancel("acme", job.id)
        ended = claims.fail(claim, BROKEN, events=lambda job: [NewEvent(f"it is {job.status}")])
        assert (ended.status, ended.wish, ended.error) == ("cancelled", None, None)
        last = Events(database).after("acme", job.id, 0)[-1]
        assert last.message == "it is cancelled"
        assert ended.finished_at is not None

    def test_a_models_name_is_given_once(self, records: Records, claims: Claims) -> None:
        first, second = (records.create(new_job(owner)) for owner in ("acme", "other"))
        claims.succeed(take(claims), model_for(first))
        claim = take(claims)
        with pytest.raises(NameTaken):
            claims.succeed(claim, model_for(first))
        assert claims.succeed(claim, model_for(second)).status == "succeeded"

    def test_failure_says_why(self, records: Records, claims: Claims) -> None:
        job = records.create(new_job())
        claim = take(claims)
        failed = claims.fail(claim, Failure("bad", "it is bad", "training_file"))
        assert (
            records.find(job.id).error
            == failed.error
            == Failure("bad", "it is bad", "training_file")
        )
        everything_refused(claims, claim)


def test_models_are_their_owners(database: Database, claims: Claims) -> None:
    job, models = Records(database).create(new_job()), FineTunedModels(database)
    name = str(claims.succeed(take(claims), model_for(job)).fine_tuned_model)
    for attempt in (models.get, models.delete):
        with pytest.raises(NotFound):
            attempt("other", name)
    assert models.list("other").items == ()
    assert [model.id for model in models.list("acme").items] == [name]
    assert models.delete("acme", name).id == name
    with pytest.raises(NotFound):
        models.delete("acme", name)
    assert models.all() == []


class TestReaper:
    def test_a_counter_that_does_not_move_for_the_lease_ends_it(
        self, database: Database, claims: Claims
    ) -> None:
        records, mono = Records(database), SetClock(0)
        reaper = Reaper(database, 10, monotonic=mono)
        job = records.create(new_job())
        claim = take(claims)
        for mono.time in (0, 5, 9.9):
            assert reaper.reap() == []
        mono.time = 10
        assert reaper.reap() == [job.id]
        assert reaper.reap() == []
        everything_refused(claims, claim)
        again = take(Claims(database, "worker-2"))
        assert (again.token, again.job.attempts) == (2, 2)
        everything_refused(claims, claim)
        assert records.find(job.id) == again.job

    def test_a_heartbeat_begins_the_lease_anew(self, database: Database, claims: Claims) -> None:
        mono = SetClock(0)
        reaper = Reaper(database, 10, monotonic=mono)
        Records(database).create(new_job())
        claim = take(claims)
        for step in range(20):
            mono.time = step * 6
            claims.heartbeat(claim)
            assert reaper.reap() == []

    def test_wall_clocks_that_jump_end_no_lease(self, database: Database) -> None:
        mono, wall = SetClock(0), SetClock(1_000_000)
        reaper = Reaper(database, 10, monotonic=mono, clock=wall)
        Records(database, clock=wall).create(new_job())
        claims = Claims(database, "w", clock=wall)
        claim = take(claims)
        for step, jump in enumerate([10**6, -(2 * 10**6), 10**9, -(10**9)]):
            wall.time += jump
            mono.time = step * 6
            assert reaper.reap() == []
            claims.heartbeat(claim)
        assert claims.succeed(claim, model_for(claim.job)).status == "succeeded"

    def test_a_reaper_that_slept_itself_judges_nobody(
        self, database: Database, claims: Claims
    ) -> None:
        mono = SetClock(0)
        reaper = Reaper(database, 10, monotonic=mono)
        job = Records(database).create(new_job())
        take(claims)
        reaper.reap()
        mono.time = 1000
        assert reaper.reap() == []
        mono.time = 1009
        assert reaper.reap() == []
        mono.time = 1010
        assert reaper.reap() == [job.id]

    def test_a_new_claim_of_the_same_job_is_watched_from_its_start(
        self, database: Database, claims: Claims
    ) -> None:
        mono = SetClock(0)
        reaper = Reaper(database, 10, monotonic=mono)
        Records(database).create(new_job())
        reaper.reap()
        claims.put_back(take(claims))
        mono.time = 8
        reaper.reap()
        take(claims)
        mono.time = 16
        assert reaper.reap() == []

    @pytest.mark.parametrize(("wish", "status"), [("pause", "paused"), ("cancel", "cancelled")])
    def test_a_wish_is_granted_when_the_worker_is_dead(
        self, database: Database, claims: Claims, wish: str, status: str
    ) -> None:
        records, mono = Records(database), SetClock(0)
        reaper = Reaper(database, 10, monotonic=mono)
        job = records.create(new_job())
        take(claims)
        getattr(records, wish)("acme", job.id)
        reaper.reap()
        mono.time = 10
        assert reaper.reap() == [job.id]
        assert records.find(job.id).status == status

    def test_two_reapers_give_a_job_up_once(self, database: Database, claims: Claims) -> None:
        mono = SetClock(0)
        reapers = [Reaper(database, 10, monotonic=mono) for _ in range(2)]
        Records(database).create(new_job())
        take(claims)
        for reaper in reapers:
            reaper.reap()
        mono.time = 10
        assert sum(len(reaper.reap()) for reaper in reapers) == 1


def test_the_jobs_of_a_dead_worker_can_be_given_up_at_once(
    database: Database, claims: Claims
) -> None:
    records = Records(database)
    mine: list[Job] = [records.create(new_job()) for _ in range(2)]
    claim = take(claims)
    take(claims)
    records.create(new_job())
    other = take(Claims(database, "worker-2"))
    assert set(claims.requeue_all_of("worker-1")) == {job.id for job in mine}
    everything_refused(claims, claim)
    assert records.find(other.job.id).status == "running"
    assert take(claims).job.id == mine[0].id
