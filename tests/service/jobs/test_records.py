"""Jobs: whose they are, what may follow what, and that no page loses or repeats one."""

import concurrent.futures
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hone.models.errors import Conflict, InvalidInput, NotFound, Overloaded
from hone.models.names import is_model_name
from hone.service.jobs.checkpoints import Checkpoints, NewCheckpoint
from hone.service.jobs.claims import Claims, Progress
from hone.service.jobs.database import Database
from hone.service.jobs.events import Events, NewEvent
from hone.service.jobs.pages import Cursor
from hone.service.jobs.records import Failure, Job, NewJob, Records, Status
from tests.service.jobs.clock import SetClock
from tests.service.jobs.jobs import new_job, put_into

FINISHED: list[Status] = ["succeeded", "failed", "cancelled"]


@pytest.fixture
def records(database: Database) -> Records:
    return Records(database)


def ids(jobs: Any) -> list[str]:
    return [item.id for item in jobs.items]


def walk(read: Callable[[Cursor], Any], limit: int, *, oldest_first: bool = False) -> list[str]:
    """Follow `has_more` as a client does."""
    found: list[str] = []
    after = None
    while True:
        page = read(Cursor(after, limit, oldest_first))
        assert len(page.items) <= limit
        found += ids(page)
        if not page.has_more:
            return found
        after = page.items[-1].id


def test_a_job_comes_back_as_it_was_given(database: Database) -> None:
    records = Records(database, clock=SetClock(1_700_000_000.9))
    given_values = {"n_epochs": "auto", "nested": {"a": [1, 2.5, None, "é\U0001f600"]}}
    job = records.create(
        NewJob(
            "acme", "modern", "gpt", "file-1", 2**31 - 1, validation_file="file-2",
            given=given_values, suffix="s", metadata={"k": "v"}, integrations=[{"type": "wandb"}],
        )
    )  # fmt: skip
    assert records.get("acme", job.id) == job == records.find(job.id)
    assert job.given == given_values
    assert (job.created_at, job.seed, job.status) == (1_700_000_000, 2**31 - 1, "queued")
    assert job.id.startswith("ftjob-")
    assert is_model_name(job.store_model)
    assert job.error is None


def test_a_legacy_job_has_a_legacy_id(records: Records) -> None:
    job = records.create(new_job(flavour="legacy"))
    assert job.id.startswith("ft-")
    assert is_model_name(job.store_model)


def test_another_owners_job_is_one_that_never_was(database: Database, records: Records) -> None:
    job = records.create(new_job("acme"))
    events, checkpoints = Events(database), Checkpoints(database)
    attempts: list[Callable[[], object]] = [
        lambda: records.get("other", job.id),
        lambda: records.cancel("other", job.id),
        lambda: records.pause("other", job.id),
        lambda: records.resume("other", job.id),
        lambda: records.delete("other", job.id),
        lambda: events.list("other", job.id),
        lambda: events.after("other", job.id, 0),
        lambda: checkpoints.list("other", job.id),
        lambda: records.list("other", cursor=Cursor(after=job.id)),
    ]
    words = set()
    for attempt in attempts[:-1]:
        with pytest.raises(NotFound) as caught:
            attempt()
        words.add(str(caught.value).replace(job.id, ""))
    with pytest.raises(NotFound):
        attempts[-1]()
    with pytest.raises(NotFound) as never:
        records.get("other", "ftjob-never")
    assert words == {str(never.value)}
    assert records.list("other").items == ()
    assert records.get("acme", job.id) == job


@pytest.mark.parametrize("wrong", ["' OR 1=1 --", "%", "_", "*", "", "é"])
def test_an_id_is_compared_and_nothing_else(records: Records, wrong: str) -> None:
    records.create(new_job())
    with pytest.raises(NotFound):
        records.get("acme", wrong)
    with pytest.raises(NotFound):
        records.get(wrong, "ftjob-x")


class TestTransitions:
    @pytest.mark.parametrize(
        ("before", "act", "after", "wish"),
        [
            ("validating_files", "cancel", "cancelled", None),
            ("queued", "cancel", "cancelled", None),
            ("paused", "cancel", "cancelled", None),
            ("running", "cancel", "running", "cancel"),
            ("queued", "pause", "paused", None),
            ("running", "pause", "running", "pause"),
            ("paused", "resume", "queued", None),
        ],
    )  # fmt: skip
    def test_what_is_allowed(
        self, database: Database, before: Status, act: str, after: Status, wish: str | None
    ) -> None:
        records = Records(database)
        job = put_into(database, before)
        event = NewEvent("it changed")
        changed: Job = getattr(records, act)("acme", job.id, events=[event])
        assert (changed.status, changed.wish) == (after, wish)
        assert records.get("acme", job.id) == changed
        assert (changed.finished_at is not None) == (after == "cancelled")
        told = [e.message for e in Events(database).after("acme", job.id, 0)]
        assert told == (["it changed"] if before != after else [])

    @pytest.mark.parametrize(
        ("before", "act"),
        [
            *[(status, act) for status in FINISHED for act in ("cancel", "pause", "resume")],
            ("validating_files", "pause"), ("paused", "pause"), ("queued", "resume"),
            ("running", "resume"), ("validating_files", "resume"),
            ("queued", "delete"), ("running", "delete"), ("paused", "delete"),
        ],
    )  # fmt: skip
    def test_what_is_not_allowed_changes_nothing(
        self, database: Database, before: Status, act: str
    ) -> None:
        records = Records(database)
        job = put_into(database, before)
        with pytest.raises(Conflict):
            getattr(records, act)("acme", job.id)
        assert records.get("acme", job.id) == job

    def test_a_wish_to_cancel_stays_and_outdoes_one_to_pause(self, database: Database) -> None:
        records = Records(database)
        job = put_into(database, "running")
        records.pause("acme", job.id)
        assert records.pause("acme", job.id).wish == "pause"
        assert records.cancel("acme", job.id).wish == "cancel"
        assert records.cancel("acme", job.id).wish == "cancel"
        for act in (records.pause, records.resume):
            with pytest.raises(Conflict):
                act("acme", job.id)

    def test_a_wish_to_pause_can_be_taken_back(self, database: Database) -> None:
        records = Records(database)
        job = put_into(database, "running")
        records.pause("acme", job.id)
        assert records.resume("acme", job.id).wish is None

    def test_validation_ends_one_way_or_the_other_and_once(self, records: Records) -> None:
        good, bad = (records.create(new_job(status="validating_files")) for _ in range(2))
        failure = Failure("invalid_n_examples", "too few", "training_file")
        assert records.admit(good.id).status == "queued"
        refused = records.refuse(bad.id, failure, events=[NewEvent("no", "error")])
        assert (refused.status, refused.error) == ("failed", failure)
        assert refused.finished_at is not None
        for id_ in (good.id, bad.id):
            with pytest.raises(Conflict):
                records.admit(id_)
            with pytest.raises(Conflict):
                records.refuse(id_, failure)

    def test_what_is_deleted_is_gone_and_a_cursor_to_it_still_works(
        self, database: Database
    ) -> None:
        records = Records(database)
        older = put_into(database, "cancelled")
        job = put_into(database, "failed")
        records.delete("acme", job.id)
        for attempt in (records.get, records.delete):
            with pytest.raises(NotFound):
                attempt("acme", job.id)
        with pytest.raises(NotFound):
            Events(database).list("acme", job.id)
        assert ids(records.list("acme", cursor=Cursor(after=job.id))) == [older.id]


class TestPaging:
    @given(count=st.integers(0, 7), limit=st.integers(1, 9), jump=st.integers(-5000, 5000))
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=10)
    def test_pages_are_the_list_in_order_whatever_the_clock_does(
        self, database: Database, count: int, limit: int, jump: int
    ) -> None:
        clock = SetClock(100_000)
        records = Records(database, clock=clock)
        owner = f"{count}-{limit}-{jump}-{id(clock)}"
        made = []
        for _ in range(count):
            made.append(records.create(new_job(owner)).id)
            records.create(new_job("somebody else"))
            clock.time += jump
        before = ids(records.list(owner, cursor=Cursor(limit=100)))
        assert before == made[::-1]
        assert walk(lambda c: records.list(owner, cursor=c), limit) == made[::-1]
        forward = walk(lambda c: records.list(owner, cursor=c), limit, oldest_first=True)
        assert forward == made

    def test_jobs_that_come_between_two_pages_move_nothing(self, records: Records) -> None:
        made = [records.create(new_job()).id for _ in range(6)]
        first = records.list("acme", cursor=Cursor(limit=3))
        records.create(new_job())
        second = records.list("acme", cursor=Cursor(first.items[-1].id, 3))
        assert ids(first) + ids(second) == made[::-1]
        assert not second.has_more

    @pytest.mark.parametrize("limit", [0, -1])
    def test_a_limit_below_one_is_refused(self, records: Records, limit: int) -> None:
        with pytest.raises(InvalidInput):
            records.list("acme", cursor=Cursor(limit=limit))

    def test_a_limit_beyond_all_numbers_is_cut(self, records: Records) -> None:
        job = records.create(new_job())
        assert ids(records.list("acme", cursor=Cursor(limit=10**40))) == [job.id]

    def test_flavours_can_be_told_apart(self, records: Records) -> None:
        modern, legacy = (records.create(new_job(flavour=f)) for f in ("modern", "legacy"))
        assert ids(records.list("acme", flavour="legacy")) == [legacy.id]
        assert ids(records.list("acme")) == [legacy.id, modern.id]
        assert ids(records.list_all(statuses=["queued"])) == [legacy.id, modern.id]
        assert ids(records.list_all(statuses=["running"])) == []

    @given(
        wanted=st.dictionaries(st.text("ab\"'.$%_\\é 0", max_size=4), st.text("xy\"1é", max_size=3),
                               max_size=3),
        other=st.dictionaries(st.text("ab\"'.$%_\\é 0", max_size=4), st.text("xy\"1é", max_size=3),
                              max_size=3),
    )  # fmt: skip
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
    def test_metadata_is_matched_exactly(
        self, database: Database, wanted: dict[str, str], other: dict[str, str]
    ) -> None:
        records = Records(database)
        owner = str(id(wanted))
        made = [records.create(new_job(owner, metadata=m)) for m in (wanted, other, None)]
        found = set(ids(records.list(owner, metadata=wanted, cursor=Cursor(limit=1000))))
        for job in made:
            holds = wanted.items() <= (job.metadata or {}).items()
            assert (job.id in found) == holds

    @pytest.mark.parametrize("bad", [{"a\0": "x"}, {"a": "x\0"}, {"\ud800": "x"}])
    def test_metadata_that_cannot_be_stored_is_refused(
        self, records: Records, bad: dict[str, str]
    ) -> None:
        with pytest.raises(InvalidInput):
            records.create(new_job(metadata=bad))
        with pytest.raises(InvalidInput):
            records.list("acme", metadata=bad)
        assert records.list("acme").items == ()

    def test_a_backslash_u0000_that_is_no_nul_is_kept(self, records: Records) -> None:
        job = records.create(new_job(metadata={"a": r"\u0000"}))
        assert ids(records.list("acme", metadata={"a": r"\u0000"})) == [job.id]


class TestQueue:
    def test_the_position_counts_whoever_comes_first(self, database: Database) -> None:
        records = Records(database)
        first, second, third = (records.create(new_job(o)) for o in ("acme", "other", "acme"))
        assert [records.queue_position(j.id) for j in (first, second, third)] == [0, 1, 2]
        Claims(database, "w").claim()
        assert [records.queue_position(j.id) for j in (first, second, third)] == [0, 0, 1]
        with pytest.raises(NotFound):
            records.queue_position("ftjob-never")

    def test_an_owner_has_only_so_many_unfinished_jobs(self, database: Database) -> None:
        records = Records(database)
        for status in ("queued", "running", "paused", "succeeded", "failed", "cancelled"):
            put_into(database, status)
        with pytest.raises(Overloaded) as caught:
            records.create(new_job(), most_unfinished=3)
        assert caught.value.retry_after_s > 0
        records.create(new_job(), most_unfinished=4)
        records.create(new_job("other"), most_unfinished=1)

    def test_the_bound_holds_when_many_ask_at_once(self, database: Database) -> None:
        records = Records(database)

        def create(_: int) -> bool:
            try:
                records.create(new_job(), most_unfinished=5)
            except Overloaded:
                return False
            return True

        with concurrent.futures.ThreadPoolExecutor(10) as pool:
            assert sum(pool.map(create, range(30))) == 5

    def test_what_fails_in_the_transaction_leaves_no_job(self, records: Records) -> None:
        def refuse(*_: object) -> None:
            raise Conflict("no")

        with pytest.raises(Conflict):
            records.create(new_job(), also=refuse, events=[NewEvent("made")])
        assert records.list("acme").items == ()


class TestEvents:
    def test_they_are_numbered_without_a_gap_by_many_writers(self, database: Database) -> None:
        job, events = Records(database).create(new_job()), Events(database)

        def add(writer: int) -> None:
            for n in range(5):
                events.add(job.id, [NewEvent(f"{writer} {n} {part}") for part in range(2)])

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(add, range(8)))
        found = events.after("acme", job.id, 0)
        assert [event.number for event in found] == list(range(1, 81))
        for writer in range(8):
            own = [e.message for e in found if e.message.startswith(f"{writer} ")]
            assert own == [f"{writer} {n} {part}" for n in range(5) for part in range(2)]

    def test_a_stream_that_reads_while_others_write_misses_nothing(
        self, database: Database
    ) -> None:
        job, events = Records(database).create(new_job()), Events(database)

        def write() -> None:
            for _ in range(20):
                events.add(job.id, [NewEvent("x")])

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            writers = [pool.submit(write) for _ in range(4)]
            seen: list[int] = []
            while len(seen) < 80:
                seen += [e.number for e in events.after("acme", job.id, len(seen), limit=7)]
                assert not any(w.done() and w.exception() for w in writers)
        assert seen == list(range(1, 81))

    @pytest.mark.parametrize("limit", [1, 3, 100])
    def test_pages_are_newest_first(self, database: Database, limit: int) -> None:
        job, events = Records(database).create(new_job()), Events(database)
        events.add(job.id, [NewEvent(str(n)) for n in range(10)])
        events.add(Records(database).create(new_job()).id, [NewEvent("of another job")])
        found = walk(lambda c: events.list("acme", job.id, c), limit)
        assert found == [e.id for e in events.after("acme", job.id, 0)][::-1]

    def test_a_cursor_of_another_job_is_not_found(self, database: Database) -> None:
        job, other = (Records(database).create(new_job()) for _ in range(2))
        events = Events(database)
        events.add(other.id, [NewEvent("x")])
        [event] = events.after("acme", other.id, 0)
        with pytest.raises(NotFound):
            events.list("acme", job.id, Cursor(after=event.id))

    def test_no_event_is_added_to_nothing(self, database: Database) -> None:
        with pytest.raises(NotFound):
            Events(database).add("ftjob-never", [NewEvent("x")])

    def test_metrics_come_back(self, database: Database) -> None:
        job, events = Records(database).create(new_job()), Events(database)
        data = {"step": 1, "train_loss": 0.25}
        events.add(job.id, [NewEvent("m", "warn", "metrics", data)])
        [event] = events.after("acme", job.id, 0)
        assert (event.level, event.type, event.data) == ("warn", "metrics", data)


def test_a_step_has_one_checkpoint_however_often_it_is_passed(database: Database) -> None:
    job = Records(database).create(new_job())
    claims = Claims(database, "w")
    claim = claims.claim()
    assert claim is not None
    for steps in ([1, 2, 2], [2, 3]):
        kept = [NewCheckpoint(step, f"m:ckpt-step-{step}", {"step": step}) for step in steps]
        claims.heartbeat(claim, Progress(checkpoints=kept))
    page = Checkpoints(database).list("acme", job.id)
    assert [checkpoint.step for checkpoint in page.items] == [3, 2, 1]
    assert page.items[0].metrics == {"step": 3}
    assert walk(lambda c: Checkpoints(database).list("acme", job.id, c), 2) == ids(page)
