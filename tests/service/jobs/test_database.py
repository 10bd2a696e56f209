"""The database opens from any state, in several processes at once, and says what is wrong."""

import concurrent.futures
import multiprocessing
import os
import resource
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, insert, inspect, select, text

from hone.models.errors import Conflict, HoneError, InvalidInput
from hone.service.jobs.database import Database, open_database
from hone.service.jobs.errors import DiskFull, StoreBusy, StoreFailed, StoreUnreachable
from hone.service.jobs.revisions import LATEST, migrate
from hone.service.jobs.tables import audit, metadata, upload_parts
from tests.service.jobs.postgres import Postgres, postgres_server, why_not

ROW = {"owner": "a", "action": "x", "outcome": "done", "created_at": 1}


def count(database: Database) -> int:
    with database.reading() as connection:
        return len(connection.execute(select(audit.c.number)).all())


def shape(connection: Connection) -> dict[str, Any]:
    """Return all that a database says of its tables, in an order of our own."""
    found = inspect(connection)
    return {
        table: {
            "columns": [
                {**column, "type": str(column["type"])} for column in found.get_columns(table)
            ],
            "primary key": found.get_pk_constraint(table),
            "indexes": sorted(found.get_indexes(table), key=lambda index: str(index["name"])),
            "unique": sorted(found.get_unique_constraints(table), key=lambda u: str(u["name"])),
            "foreign keys": sorted(found.get_foreign_keys(table), key=lambda k: str(k["name"])),
            "checks": sorted(found.get_check_constraints(table), key=lambda c: str(c["name"])),
        }
        for table in sorted(found.get_table_names())
    }


def test_the_migrations_make_what_an_empty_database_gets(empty_url: str) -> None:
    database = open_database(empty_url)
    with database.writing() as connection:
        made = shape(connection)
        assert connection.scalar(text("SELECT version_num FROM alembic_version")) == LATEST
        metadata.drop_all(connection)
        connection.execute(text("DROP TABLE alembic_version"))
        migrate(connection, None)
        assert shape(connection) == made
        assert connection.scalar(text("SELECT version_num FROM alembic_version")) == LATEST
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
    database.close()


def test_a_database_that_is_empty_or_current_needs_no_alembic(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom hone.service.jobs.database import open_database\n"
        f"for _ in range(2): open_database('sqlite:///{tmp_path}/hone.db').close()\n"
        "assert 'alembic' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


def test_an_old_database_is_migrated(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/hone.db"
    database = open_database(url)
    with database.writing() as connection:
        metadata.drop_all(connection)
        connection.execute(text("DELETE FROM alembic_version"))
        # The first table of the first revision is there: neither empty nor known.
        metadata.tables["audit"].create(connection)
    with pytest.raises(StoreFailed):
        open_database(url)
    with database.writing() as connection:
        metadata.tables["audit"].drop(connection)
    database.close()
    database = open_database(url)
    assert count(database) == 0
    database.close()


def test_opening_again_keeps_what_is_there(database: Database, url: str) -> None:
    with database.writing() as connection:
        connection.execute(insert(audit).values(**ROW))
    again = open_database(url)
    assert count(again) == 1
    again.close()


def open_and_write(url: str) -> int:
    database = open_database(url)
    with database.writing() as connection:
        connection.execute(insert(audit).values(**ROW))
    database.close()
    return os.getpid()


def test_many_processes_open_an_empty_database_at_once(empty_url: str) -> None:
    url = empty_url
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(4, mp_context=spawn) as pool:
        processes = set(pool.map(open_and_write, [url] * 8))
    assert len(processes) > 1
    database = open_database(url)
    assert count(database) == 8
    database.close()


def test_a_database_of_a_newer_version_is_left_alone(empty_url: str) -> None:
    database = open_database(empty_url)
    with database.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreFailed, match="newer version"):
        open_database(empty_url)
    database.close()


def test_a_block_that_raises_changes_nothing(database: Database) -> None:
    def write_and_break() -> None:
        with database.writing() as connection:
            connection.execute(insert(audit).values(**ROW))
            raise KeyError

    with pytest.raises(KeyError):
        write_and_break()
    assert count(database) == 0


def test_a_reader_sees_one_state_while_others_write(database: Database) -> None:
    with database.reading() as connection:
        before = connection.execute(select(audit.c.number)).all()
        with database.writing() as writer:
            writer.execute(insert(audit).values(**ROW))
        assert connection.execute(select(audit.c.number)).all() == before
    assert count(database) == 1


def test_a_reader_cannot_write_on_postgres(postgres: Postgres) -> None:
    database = open_database(postgres.create())
    with pytest.raises(HoneError), database.reading() as connection:
        connection.execute(insert(audit).values(**ROW))
    database.close()


def test_threads_that_write_at_once_all_succeed(database: Database) -> None:
    def write(_: int) -> None:
        with database.writing() as connection:
            connection.execute(insert(audit).values(**ROW))

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(write, range(200)))
    assert count(database) == 200


def test_a_writer_that_waits_too_long_is_told_so(url: str) -> None:
    first, second = open_database(url), open_database(url, wait_s=0.2)
    held = "LOCK TABLE audit" if not first.is_sqlite else "DELETE FROM audit"
    with first.writing() as connection:
        connection.execute(text(held))
        with pytest.raises(StoreBusy) as caught, second.writing() as other:
            other.execute(insert(audit).values(**ROW))
    assert caught.value.retry_after_s > 0
    first.close()
    second.close()


def test_a_broken_constraint_is_a_conflict(database: Database) -> None:
    part = {"id": "part_1", "upload_id": "upload_none", "bytes": 1, "created_at": 1}
    with pytest.raises(Conflict), database.writing() as connection:
        connection.execute(insert(upload_parts).values(**part))


@pytest.mark.parametrize("value", ["a\0b", "\ud800"])
def test_text_that_no_database_holds_is_the_callers_fault(database: Database, value: str) -> None:
    with pytest.raises(InvalidInput), database.writing() as connection:
        connection.execute(insert(audit).values(**{**ROW, "target": value}))


def test_a_number_beyond_64_bits_is_an_error_of_ours(database: Database) -> None:
    with pytest.raises((HoneError, OverflowError)), database.writing() as connection:
        connection.execute(insert(audit).values(**{**ROW, "created_at": 2**70}))


@pytest.mark.parametrize(
    "url",
    ["", "nonsense", "mysql://localhost/x", "sqlite://", "sqlite:///:memory:",
     "sqlite:////tmp/x.db?mode=ro"],
)  # fmt: skip
def test_a_url_of_another_kind_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput):
        open_database(url)


def test_a_server_that_is_not_there_is_unreachable(tmp_path: Path) -> None:
    with pytest.raises(StoreUnreachable):
        open_database(f"postgresql://nobody@/none?host={tmp_path}", wait_s=1)


def test_a_server_that_restarts_is_found_again() -> None:
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    with postgres_server() as server:
        database = open_database(server.create(), wait_s=2)
        server.stop()
        with pytest.raises(StoreUnreachable):
            count(database)
        server.start()
        assert count(database) == 0
        database.close()


class TestSqliteFile:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        return tmp_path / "hone.db"

    def test_every_commit_is_flushed_and_only_the_owner_reads(self, file: Path) -> None:
        database = open_database(f"sqlite:///{file}")
        with database.writing() as connection:
            connection.execute(insert(audit).values(**ROW))
            found = [
                connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
            ]
        assert found == ["wal", 2, 1, 10_000]
        modes = {stat.S_IMODE(path.stat().st_mode) for path in file.parent.iterdir()}
        assert modes == {0o600}
        database.close()

    def test_a_file_that_is_no_database_is_left_as_it_is(self, file: Path) -> None:
        file.write_bytes(b"this is not a database" * 100)
        with pytest.raises(StoreFailed):
            open_database(f"sqlite:///{file}")
        assert file.read_bytes().startswith(b"this is not")

    def test_a_folder_in_its_place_is_refused(self, file: Path) -> None:
        file.mkdir()
        with pytest.raises((StoreFailed, StoreUnreachable)):
            open_database(f"sqlite:///{file}")

    def test_a_full_disk_loses_nothing_that_was_acknowledged(self, file: Path) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "tests.service.jobs.test_database", str(file)],
            stdout=subprocess.PIPE, text=True, check=True, timeout=100,
        )  # fmt: skip
        acknowledged = int(done.stdout)
        assert acknowledged > 10
        with sqlite3.connect(file) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        connection.close()
        database = open_database(f"sqlite:///{file}")
        assert count(database) == acknowledged
        database.close()

    def test_a_write_waits_for_its_turn_and_not_for_luck(self, file: Path) -> None:
        database = open_database(f"sqlite:///{file}", wait_s=0.3)
        inside, leave = threading.Event(), threading.Event()

        def hold() -> None:
            with database.writing():
                inside.set()
                leave.wait(5)

        holder = threading.Thread(target=hold)
        holder.start()
        inside.wait(5)
        threading.Timer(1.0, leave.set).start()  # longer than SQLite itself would wait
        with database.writing() as connection:
            connection.execute(insert(audit).values(**ROW))
        holder.join()
        assert count(database) == 1
        database.close()


def fill(file: Path, report: Callable[[str], object] = print) -> None:
    """Write rows until the disk refuses, and say how many were acknowledged."""
    database = open_database(f"sqlite:///{file}")
    size = 2**20
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    written = 0
    try:
        while True:
            with database.writing() as connection:
                connection.execute(insert(audit).values(**{**ROW, "target": "x" * 10_000}))
            written += 1
    except DiskFull:
        pass
    assert count(database) == written
    report(str(written))


if __name__ == "__main__":
    fill(Path(sys.argv[1]))
