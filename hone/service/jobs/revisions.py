"""Brings a database's tables up to date: Alembic, run from the program and not from a shell."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from hone.service.jobs.errors import StoreFailed

FOLDER = Path(__file__).parent / "migrations"


def upgrade(connection: Connection) -> None:
    """Run what is missing inside the caller's transaction.

    StoreFailed if the database was made by a newer Hone than this one.
    """
    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    script = ScriptDirectory.from_config(config)
    current = MigrationContext.configure(connection).get_current_revision()
    if current == script.get_current_head():
        return
    if current is not None and current not in {entry.revision for entry in script.walk_revisions()}:
        raise StoreFailed("the job store was made by a newer version of Hone; update this one")
    command.upgrade(config, "head")
