"""Brings a database's tables up to date: Alembic, run from the program and not from a shell.

An empty database is made as the tables are now, and one that is up to date is left alone; neither
needs Alembic, whose import would be a good part of a service's start.
"""

from pathlib import Path

from sqlalchemy import (
    Column,
    Connection,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    inspect,
    select,
)

from hone.service.jobs.errors import StoreFailed
from hone.service.jobs.tables import metadata

FOLDER = Path(__file__).parent / "migrations"
LATEST = "0001"
"""The newest revision; the tables are what it makes."""

_version = Table(
    "alembic_version",
    MetaData(),
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)


def upgrade(connection: Connection) -> None:
    """Do what is missing inside the caller's transaction.

    StoreFailed if the database was made by a newer Hone than this one.
    """
    there = set(inspect(connection).get_table_names())
    current = connection.scalar(select(_version.c.version_num)) if _version.name in there else None
    if current == LATEST:
        return
    if current is None and not there & set(metadata.tables):
        _make(connection)
    else:
        migrate(connection, current)


def _make(connection: Connection) -> None:
    metadata.create_all(connection)
    _version.create(connection, checkfirst=True)
    connection.execute(_version.insert().values(version_num=LATEST))


def migrate(connection: Connection, current: str | None) -> None:
    """Run the revisions that come after the current one; StoreFailed if that is not known."""
    # Only where there is something to migrate.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    script = ScriptDirectory.from_config(config)
    if current is not None and current not in {entry.revision for entry in script.walk_revisions()}:
        raise StoreFailed("the job store was made by a newer version of Hone; update this one")
    command.upgrade(config, "head")
