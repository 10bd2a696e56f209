"""The tables. Times are Unix seconds; `number` counts up and is never given twice.

Lists are ordered by `number`, not by time: a clock that jumps changes no order and no page.
Deleted rows stay, with `deleted_at`, so that a cursor to one of them still works.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Float,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.schema import SchemaItem

from hone.models.errors import InvalidInput

Json = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
Seconds = BigInteger
Count = BigInteger


class Words(TypeDecorator[str]):
    """Text that every database can hold; InvalidInput for NUL and half surrogate pairs."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Check a value on its way in."""
        return None if value is None else storable(value)


def storable(text: str) -> str:
    """Return the text; InvalidInput if a database would refuse or cut it."""
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise InvalidInput("a text holds a character that cannot be stored")
    return text


metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)


def _number() -> Column[int]:
    kind = BigInteger().with_variant(Integer(), "sqlite")
    return Column("number", kind, Identity(), primary_key=True, autoincrement=True)


def _numbered(name: str, *columns: SchemaItem) -> Table:
    """Make a table whose rows are listed in the order in which they came."""
    return Table(name, metadata, _number(), *columns, sqlite_autoincrement=True)


def _id() -> Column[str]:
    return Column("id", Words, nullable=False, unique=True)


def _owner() -> Column[str]:
    return Column("owner", Words, nullable=False)


def _time(name: str, *, required: bool = False) -> Column[int]:
    return Column(name, Seconds, nullable=not required)


api_keys = _numbered(
    "api_keys",
    _id(),
    _owner(),
    Column("name", Words),
    Column("digest", Words, nullable=False),
    Column("scopes", Json, nullable=False),
    Column("models", Json),
    Column("requests_per_minute", Count),
    Column("tokens_per_minute", Count),
    Column("queued_jobs", Count),
    _time("created_at", required=True),
    _time("expires_at"),
    _time("revoked_at"),
    _time("last_used_at"),
)

files = _numbered(
    "files",
    _id(),
    _owner(),
    Column("purpose", Words, nullable=False),
    Column("filename", Words, nullable=False),
    Column("bytes", Count, nullable=False),
    Column("sha256", Words, nullable=False),
    Column("status", Words, nullable=False),
    Column("status_details", Words),
    _time("created_at", required=True),
    _time("expires_at"),
    _time("deleted_at"),
    Index("ix_files_owner_number", "owner", "number"),
    Index("ix_files_sha256", "sha256"),
)

uploads = _numbered(
    "uploads",
    _id(),
    _owner(),
    Column("filename", Words, nullable=False),
    Column("bytes", Count, nullable=False),
    Column("mime_type", Words, nullable=False),
    Column("purpose", Words, nullable=False),
    Column("status", Words, nullable=False),
    Column("file_expires_after_s", Count),
    Column("file_id", Words),
    _time("created_at", required=True),
    _time("expires_at", required=True),
)

upload_parts = _numbered(
    "upload_parts",
    _id(),
    Column("upload_id", Words, ForeignKey("uploads.id"), nullable=False, index=True),
    Column("bytes", Count, nullable=False),
    _time("created_at", required=True),
)

jobs = _numbered(
    "jobs",
    _id(),
    _owner(),
    Column("flavour", Words, nullable=False),
    Column("model", Words, nullable=False),
    Column("training_file", Words, nullable=False),
    Column("validation_file", Words),
    Column("method", Words, nullable=False),
    Column("given", Json, nullable=False),
    Column("settled", Json),
    Column("integrations", Json),
    Column("seed", Count, nullable=False),
    Column("suffix", Words),
    Column("metadata", Json),
    Column("status", Words, nullable=False),
    Column("wish", Words),
    Column("error_code", Words),
    Column("error_message", Words),
    Column("error_param", Words),
    Column("store_model", Words, nullable=False),
    Column("fine_tuned_model", Words),
    Column("result_files", Json, nullable=False),
    Column("trained_tokens", Count),
    Column("token", Count, nullable=False),
    Column("worker", Words),
    Column("heartbeat", Count, nullable=False),
    Column("attempts", Count, nullable=False),
    Column("last_event", Count, nullable=False),
    _time("created_at", required=True),
    _time("updated_at", required=True),
    _time("started_at"),
    _time("finished_at"),
    _time("estimated_finish"),
    _time("deleted_at"),
    Index("ix_jobs_owner_number", "owner", "number"),
    Index("ix_jobs_status_number", "status", "number"),
)

job_events = Table(
    "job_events",
    metadata,
    Column("job_id", Words, ForeignKey("jobs.id"), primary_key=True),
    Column("number", Count, primary_key=True, autoincrement=False),
    _id(),
    Column("level", Words, nullable=False),
    Column("type", Words, nullable=False),
    Column("message", Words, nullable=False),
    Column("data", Json),
    _time("created_at", required=True),
)

job_checkpoints = _numbered(
    "job_checkpoints",
    _id(),
    Column("job_id", Words, ForeignKey("jobs.id"), nullable=False),
    Column("step", Count, nullable=False),
    Column("model", Words, nullable=False),
    Column("metrics", Json, nullable=False),
    _time("created_at", required=True),
    UniqueConstraint("job_id", "step"),
)

fine_tuned_models = _numbered(
    "fine_tuned_models",
    _id(),
    _owner(),
    Column("store_model", Words, nullable=False),
    Column("store_version", Count, nullable=False),
    Column("base", Words, nullable=False),
    Column("job_id", Words, ForeignKey("jobs.id"), nullable=False, unique=True),
    _time("created_at", required=True),
    _time("deleted_at"),
    Index("ix_fine_tuned_models_owner_number", "owner", "number"),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("owner", Words, primary_key=True),
    Column("route", Words, primary_key=True),
    Column("key", Words, primary_key=True),
    Column("body_sha256", Words, nullable=False),
    Column("token", Words, nullable=False),
    Column("done", Boolean, nullable=False),
    Column("status", Integer),
    Column("answer", LargeBinary),
    Column("created_at", Float, nullable=False),
)

audit = _numbered(
    "audit",
    _owner(),
    Column("key_id", Words),
    Column("action", Words, nullable=False),
    Column("target", Words),
    Column("outcome", Words, nullable=False),
    _time("created_at", required=True),
)
