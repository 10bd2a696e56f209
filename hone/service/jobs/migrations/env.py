"""What Alembic runs: the revisions, on the connection and in the transaction that were given."""

from alembic import context

from hone.service.jobs.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
)
context.run_migrations()
