"""A file's row never lacks its content, and no content outlives its rows for long."""

import concurrent.futures
import hashlib
import resource
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hone.models.errors import InvalidInput, NotFound
from hone.service.errors import TooLarge
from hone.service.jobs.database import Database
from hone.service.jobs.errors import DiskFull
from hone.service.jobs.files import Files, NewFile, base_name
from hone.service.jobs.pages import Cursor
from tests.service.jobs.clock import SetClock


def new_file(owner: str = "acme", **values: object) -> NewFile:
    return NewFile(**{"purpose": "fine-tune", "filename": "a.jsonl", **values}, owner=owner)  # type: ignore[arg-type]


@pytest.fixture
def files(database: Database, tmp_path: Path) -> Files:
    return Files(database, tmp_path / "files")


def contents(files: Files) -> list[str]:
    return sorted(path.name for path in files.folder.glob("[!.]*"))


def left_over(files: Files) -> list[str]:
    return [path.name for path in (files.folder / ".incoming").iterdir()]


def test_a_file_comes_back_as_it_was_sent(files: Files) -> None:
    stored = files.create([b"one ", b"", b"two"], new_file(filename="/home/x/train.jsonl"))
    assert files.get("acme", stored.id) == stored
    assert files.path("acme", stored.id).read_bytes() == b"one two"
    assert (stored.filename, stored.bytes, stored.status) == ("train.jsonl", 7, "uploaded")
    assert stored.sha256 == hashlib.sha256(b"one two").hexdigest()
    assert files.path("acme", stored.id).stat().st_mode & 0o777 == 0o600
    assert left_over(files) == []


def test_an_empty_file_is_a_file(files: Files) -> None:
    stored = files.create([], new_file())
    assert files.path("acme", stored.id).read_bytes() == b""


@pytest.mark.parametrize(
    ("given", "kept"),
    [("a.jsonl", "a.jsonl"), ("../../etc/passwd", "passwd"), ("C:\\x\\y.csv", "y.csv"),
     ("/a/b/é \U0001f600.txt", "é \U0001f600.txt"), ("x" * 300, "x" * 255)],
)  # fmt: skip
def test_only_the_last_part_of_a_name_is_kept(given: str, kept: str) -> None:
    assert base_name(given) == kept


@pytest.mark.parametrize("name", ["", "/", "..", ".", "a/", "  ", "a\0b", "\ud800"])
def test_a_file_without_a_usable_name_is_refused_whole(files: Files, name: str) -> None:
    with pytest.raises(InvalidInput):
        files.create([b"x"], new_file(filename=name))
    assert contents(files) == left_over(files) == []
    assert files.list("acme").items == ()


def test_more_than_the_limit_is_refused_while_it_comes(files: Files) -> None:
    sent = []

    def chunks() -> Iterator[bytes]:
        for _ in range(100):
            sent.append(1)
            yield b"x" * 10

    def write_all() -> None:
        with files.incoming(most_bytes=35) as content:
            for chunk in chunks():
                content.write(chunk)

    with pytest.raises(TooLarge):
        write_all()
    assert len(sent) == 4
    assert contents(files) == left_over(files) == []


def test_a_client_that_goes_away_leaves_nothing(files: Files) -> None:
    def go_away() -> None:
        with files.incoming() as content:
            content.write(b"half")
            raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        go_away()
    assert contents(files) == left_over(files) == []


def test_memory_does_not_grow_with_the_file(files: Files) -> None:
    chunk = b"x" * 2**16
    files.create([chunk], new_file())
    tracemalloc.start()
    files.create((chunk for _ in range(500)), new_file())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * 2**20


def test_another_owners_file_is_one_that_never_was(files: Files) -> None:
    stored = files.create([b"x"], new_file())
    attempts: list[Callable[[str, str], object]] = [files.get, files.path, files.delete]
    for attempt in attempts:
        with pytest.raises(NotFound) as caught:
            attempt("other", stored.id)
        with pytest.raises(NotFound, match=str(caught.value)):
            attempt("other", "file-never")
    assert files.described("other", [stored.id]) == {}
    assert files.list("other").items == ()
    with pytest.raises(NotFound):
        files.list("other", cursor=Cursor(after=stored.id))
    assert files.get("acme", stored.id) == stored


def test_the_same_content_lies_there_once_until_nobody_has_it(files: Files) -> None:
    first, second = (files.create([b"same"], new_file(owner)) for owner in ("acme", "other"))
    assert len(contents(files)) == 1
    files.delete("acme", first.id)
    assert files.path("other", second.id).read_bytes() == b"same"
    files.delete("other", second.id)
    assert contents(files) == []
    with pytest.raises(NotFound):
        files.delete("other", second.id)


def test_a_deleted_file_is_only_described(files: Files) -> None:
    older, stored = (files.create([b"x"], new_file()) for _ in range(2))
    files.delete("acme", stored.id)
    with pytest.raises(NotFound):
        files.get("acme", stored.id)
    assert files.described("acme", [stored.id])[stored.id].deleted_at is not None
    page = files.list("acme", cursor=Cursor(after=stored.id))
    assert [file.id for file in page.items] == [older.id]


def test_files_end_when_their_time_has_come(database: Database, tmp_path: Path) -> None:
    clock = SetClock(1000)
    files = Files(database, tmp_path / "files", clock=clock)
    short = files.create([b"short"], new_file(expires_after_s=10))
    long = files.create([b"long"], new_file())
    clock.time = 1009
    assert files.expire() == 0
    clock.time = 1010
    with pytest.raises(NotFound):
        files.get("acme", short.id)
    assert [file.id for file in files.list("acme").items] == [long.id]
    assert files.expire() == 1
    assert contents(files) == [long.sha256]


def test_purposes_can_be_told_apart_and_validation_is_recorded(files: Files) -> None:
    result = files.create([b"r"], new_file(purpose="fine-tune-results", status="processed"))
    train = files.create([b"t"], new_file())
    assert [f.id for f in files.list("acme", purpose="fine-tune-results").items] == [result.id]
    files.mark(train.id, "error", "line 1 is no dictionary")
    found = files.get("acme", train.id)
    assert (found.status, found.status_details) == ("error", "line 1 is no dictionary")
    files.delete("acme", train.id)
    with pytest.raises(NotFound):
        files.mark(train.id, "processed")


def test_a_full_disk_has_its_own_error_and_leaves_nothing(files: Files) -> None:
    files.create([b"x"], new_file())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        with pytest.raises(DiskFull):
            files.create((b"x" * 2**16 for _ in range(20)), new_file())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(contents(files)) == 1
    assert left_over(files) == []
    assert len(files.list("acme").items) == 1


class TestSweep:
    def test_what_nobody_has_is_removed_and_the_rest_is_not(self, files: Files) -> None:
        kept, gone = files.create([b"kept"], new_file()), hashlib.sha256(b"gone").hexdigest()
        (files.folder / gone).write_bytes(b"gone")
        (files.folder / ".incoming" / "dead").write_bytes(b"half")
        (files.folder / "notes.txt").write_bytes(b"not ours")
        assert files.sweep() == 2
        assert contents(files) == sorted([kept.sha256, "notes.txt"])
        assert files.sweep() == 0

    def test_what_is_being_written_is_left_alone(self, files: Files) -> None:
        with files.incoming() as content:
            content.write(b"still ")
            assert files.sweep() == 0
            content.write(b"writing")
            stored = files.add(content, new_file())
        assert files.path("acme", stored.id).read_bytes() == b"still writing"

    def test_a_folder_that_is_not_there_is_no_problem(self, files: Files) -> None:
        assert files.sweep() == 0


def test_no_row_lacks_its_content_while_many_add_delete_and_sweep(files: Files) -> None:
    def work(number: int) -> None:
        for step in range(6):
            stored = files.create([b"%d" % (step % 2)], new_file(str(number)))
            assert files.path(str(number), stored.id).read_bytes() == b"%d" % (step % 2)
            if step:
                files.delete(str(number), stored.id)
            if step == 4:
                files.sweep()

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    for number in range(6):
        for stored in files.list(str(number)).items:
            found = files.path(str(number), stored.id).read_bytes()
            assert hashlib.sha256(found).hexdigest() == stored.sha256
    files.sweep()
    assert contents(files) == [hashlib.sha256(b"0").hexdigest()]
