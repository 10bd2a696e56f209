"""Uploads: the parts in the order given make the file, once, or nothing does."""

import concurrent.futures
import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hone.models.errors import Conflict, HoneError, InvalidInput, NotFound
from hone.service.errors import TooLarge
from hone.service.jobs.database import Database
from hone.service.jobs.files import Files
from hone.service.jobs.uploads import LIFETIME_S, NewUpload, Part, Uploads
from tests.service.jobs.clock import SetClock


class Store:
    """Uploads and files with one clock."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.clock = SetClock()
        self.files = Files(database, folder / "files", clock=self.clock)
        self.uploads = Uploads(database, self.files, folder / "uploads", clock=self.clock)

    def begin(self, size: int, owner: str = "acme") -> str:
        new = NewUpload(owner, "/x/big.jsonl", size, "text/jsonl", "fine-tune")
        return self.uploads.create(new).id

    def add(self, upload: str, content: bytes, owner: str = "acme") -> Part:
        with self.uploads.incoming() as part:
            part.write(content)
            return self.uploads.add_part(owner, upload, part)

    def parts(self) -> list[str]:
        folder = self.uploads.folder
        return (
            [path.name for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []
        )


@pytest.fixture
def store(database: Database, tmp_path: Path) -> Store:
    return Store(database, tmp_path)


def test_parts_are_joined_in_the_order_given(store: Store) -> None:
    upload = store.begin(9)
    one, two, three = (store.add(upload, text) for text in (b"one", b"two", b"333"))
    ids = [three.id, one.id, two.id]
    md5 = hashlib.md5(b"333onetwo").hexdigest().upper()
    done, stored = store.uploads.complete("acme", upload, ids, md5=md5)
    assert (done.status, done.file_id) == ("completed", stored.id)
    assert store.uploads.get("acme", upload) == done
    assert stored.filename == "big.jsonl"
    assert store.files.path("acme", stored.id).read_bytes() == b"333onetwo"
    assert store.parts() == []


@given(cuts=st.lists(st.integers(1, 5), min_size=1, max_size=6), seed=st.randoms())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=10)
def test_any_cutting_gives_the_same_file(store: Store, cuts: list[int], seed: object) -> None:
    pieces = [bytes([65 + n]) * size for n, size in enumerate(cuts)]
    upload = store.begin(sum(cuts))
    order = list(range(len(pieces)))
    seed.shuffle(order)  # type: ignore[attr-defined]
    ids = {n: store.add(upload, pieces[n]).id for n in order}
    _, stored = store.uploads.complete("acme", upload, [ids[n] for n in range(len(pieces))])
    assert store.files.path("acme", stored.id).read_bytes() == b"".join(pieces)


def test_what_does_not_fit_is_refused_and_can_be_put_right(store: Store) -> None:
    upload, other = store.begin(4), store.begin(4)
    one, two, foreign = store.add(upload, b"ab"), store.add(upload, b"cd"), store.add(other, b"xyz")
    wrong = [[], [one.id], [one.id, one.id], [one.id, foreign.id], [one.id, "part_never"],
             [one.id, two.id, one.id], ["../../etc/passwd"]]  # fmt: skip
    for ids in wrong:
        with pytest.raises(InvalidInput):
            store.uploads.complete("acme", upload, ids)
    with pytest.raises(InvalidInput, match="MD5"):
        store.uploads.complete("acme", upload, [one.id, two.id], md5="0" * 32)
    assert store.files.list("acme").items == ()
    _, stored = store.uploads.complete("acme", upload, [one.id, two.id])
    assert stored.bytes == 4


def test_more_than_announced_is_refused(store: Store) -> None:
    upload = store.begin(5)
    store.add(upload, b"abc")
    with pytest.raises(InvalidInput):
        store.add(upload, b"def")
    with pytest.raises(InvalidInput):
        store.add(upload, b"")
    with pytest.raises(TooLarge), store.uploads.incoming(most_bytes=2) as part:
        part.write(b"abc")
    assert len(store.parts()) == 1


@pytest.mark.parametrize(
    ("size", "error"), [(0, InvalidInput), (-1, InvalidInput), (2**40, TooLarge)]
)
def test_a_size_that_cannot_be_is_refused(store: Store, size: int, error: type[HoneError]) -> None:
    with pytest.raises(error):
        store.begin(size)


@pytest.mark.parametrize("end", ["completed", "cancelled", "expired"])
def test_what_is_over_stays_over(store: Store, end: str) -> None:
    upload = store.begin(3)
    part = store.add(upload, b"abc")
    if end == "completed":
        store.uploads.complete("acme", upload, [part.id])
    elif end == "cancelled":
        assert store.uploads.cancel("acme", upload).status == "cancelled"
    else:
        store.clock.time += LIFETIME_S
    assert store.uploads.get("acme", upload).status == end
    attempts: list[Callable[[], object]] = [
        lambda: store.add(upload, b"x"),
        lambda: store.uploads.cancel("acme", upload),
    ]
    if end != "completed":
        attempts.append(lambda: store.uploads.complete("acme", upload, [part.id]))
    for attempt in attempts:
        with pytest.raises(Conflict, match=end):
            attempt()
    assert store.uploads.expire() == (end == "expired")
    assert store.uploads.get("acme", upload).status == end
    assert store.parts() == []


def test_completing_again_gives_the_same_file(store: Store) -> None:
    upload = store.begin(3)
    part = store.add(upload, b"abc")
    first = store.uploads.complete("acme", upload, [part.id])
    assert store.uploads.complete("acme", upload, [part.id]) == first
    with pytest.raises(NotFound):
        store.uploads.complete("other", upload, [part.id])


def test_another_owners_upload_is_one_that_never_was(store: Store) -> None:
    upload = store.begin(3)
    part = store.add(upload, b"abc")
    attempts: list[Callable[[], object]] = [
        lambda: store.uploads.get("other", upload),
        lambda: store.add(upload, b"x", "other"),
        lambda: store.uploads.complete("other", upload, [part.id]),
        lambda: store.uploads.cancel("other", upload),
        lambda: store.uploads.get("other", "upload_never"),
    ]
    for attempt in attempts:
        with pytest.raises(NotFound, match="there is no upload with this id"):
            attempt()
    assert store.uploads.complete("acme", upload, [part.id])[0].status == "completed"


def test_many_that_complete_at_once_make_one_file(store: Store) -> None:
    upload = store.begin(3)
    part = store.add(upload, b"abc")

    def complete(_: int) -> str | None:
        try:
            return store.uploads.complete("acme", upload, [part.id])[1].id
        except Conflict:
            return None

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        made = {id_ for id_ in pool.map(complete, range(12)) if id_ is not None}
    assert len(made) == 1
    [stored] = store.files.list("acme").items
    assert store.files.path("acme", stored.id).read_bytes() == b"abc"


def test_many_parts_at_once_never_exceed_what_was_announced(store: Store) -> None:
    upload = store.begin(10)

    def add(_: int) -> bool:
        try:
            store.add(upload, b"abc")
        except InvalidInput:
            return False
        return True

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(add, range(12))) == 3


def test_a_sweep_removes_what_kills_have_left(store: Store) -> None:
    upload = store.begin(6)
    kept = store.add(upload, b"abc")
    (store.uploads.folder / "part_lost").write_bytes(b"x")
    (store.uploads.folder / ".incoming" / "dead").write_bytes(b"x")
    assert store.uploads.sweep() == 2
    assert store.parts() == [kept.id]
