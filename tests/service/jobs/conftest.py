"""Every test of the job store runs on SQLite and on PostgreSQL."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from hone.service.jobs.database import Database, open_database
from hone.service.jobs.tables import metadata
from tests.service.jobs.postgres import Postgres, postgres_server, why_not

KINDS = ["sqlite", "postgres"]


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    with postgres_server() as server:
        yield server


@pytest.fixture(params=KINDS)
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of a database that nobody has opened yet."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'state' / 'hone.db'}"
    server: Postgres = request.getfixturevalue("postgres")
    return server.create()


@pytest.fixture(scope="session")
def sqlite_made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an SQLite file with its tables, to be copied: that is quicker than making one."""
    path = tmp_path_factory.mktemp("made") / "hone.db"
    open_database(f"sqlite:///{path}").close()
    return path


@pytest.fixture(scope="session")
def postgres_made(postgres: Postgres) -> str:
    """Make a database with its tables, to be emptied: that is quicker than making one."""
    url = postgres.create()
    open_database(url).close()
    return url


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of a database with its tables and no rows."""
    if request.param == "postgres":
        made: str = request.getfixturevalue("postgres_made")
        _empty(made)
        return made
    path = tmp_path / "hone.db"
    shutil.copyfile(request.getfixturevalue("sqlite_made"), path)
    return f"sqlite:///{path}"


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    opened = open_database(url)
    yield opened
    opened.close()


def _empty(url: str) -> None:
    tables = ", ".join(table.name for table in metadata.sorted_tables)
    database = open_database(url)
    with database.writing() as connection:
        connection.execute(text(f"TRUNCATE {tables} RESTART IDENTITY CASCADE"))
    database.close()
