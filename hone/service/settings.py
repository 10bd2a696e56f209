"""Settings of the service: the only place in this room that reads the environment.

Each field can be given as `HONE_<NAME>` (for example `HONE_PORT=9000`); the command line goes
before the environment, and the environment before the defaults.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from hone.models.engines import Device
from hone.models.errors import InvalidName
from hone.models.manifest import Variant
from hone.models.names import check_model_name


def _model_name(name: str) -> str:
    try:
        return check_model_name(name)
    except InvalidName as error:
        raise ValueError(str(error)) from None


def _separate(names: object) -> object:
    """Take `a,b` from the environment for the tuple ("a", "b")."""
    return [name for name in names.split(",") if name] if isinstance(names, str) else names


ModelNames = Annotated[
    tuple[Annotated[str, AfterValidator(_model_name)], ...], NoDecode, BeforeValidator(_separate)
]
Auto = Literal["auto"]


class Settings(BaseSettings):
    """What an operator may choose. Sizes are bytes, times are seconds."""

    model_config = SettingsConfigDict(env_prefix="HONE_", extra="ignore", frozen=True)

    store: Path = Path("store")
    models: ModelNames = ()
    """Which models to serve (`a,b`); none means every model of the store, also later ones."""
    fake: bool = False
    """Also serve the built-in model `fake`, which needs no weights."""

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    device: Device = "auto"
    variant: Variant | None = None

    workers: Annotated[int, Field(ge=1, le=256)] | Auto = "auto"
    threads: Annotated[int, Field(ge=1, le=256)] | Auto = "auto"
    batch_tokens: Annotated[int, Field(ge=1)] | Auto = "auto"
    state_dir: Path | None = None
    """Where measured session layouts are kept; `<store>/.layouts` if not given."""
    pinned_versions: int = Field(2, ge=0)
    """How many versions that are not current may be held in memory because somebody asked."""
    reload_interval_s: float = Field(1.0, gt=0)

    max_body_bytes: int = Field(2 * 2**20, ge=1024)
    max_items: int = Field(256, ge=1)
    max_characters: int = Field(100_000, ge=1)
    max_queue_items: int = Field(1024, ge=1)
    max_connections: int = Field(1000, ge=1)
    max_header_bytes: int = Field(32 * 2**10, ge=1024)
    header_timeout_s: float = Field(10.0, gt=0)
    request_timeout_s: float = Field(30.0, gt=0)
    """How long a client may take to send one whole request, or to read one answer."""
    keep_alive_s: int = Field(75, ge=1)

    drain_delay_s: float = Field(5.0, ge=0)
    """After SIGTERM: how long to go on serving while `/readyz` already answers 503."""
    shutdown_timeout_s: int = Field(20, ge=1)
    """After that: how long to wait for what is in flight."""

    prices_file: Path | None = None
    metrics: bool = True
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @model_validator(mode="after")
    def _a_full_request_fits_the_queue(self) -> Self:
        if self.max_items > self.max_queue_items:
            raise ValueError("max_items is more than max_queue_items: such a request never fits")
        return self

    @property
    def layouts_folder(self) -> Path:
        """Where measured session layouts are kept. It need not exist or be writable."""
        return self.state_dir if self.state_dir is not None else self.store / ".layouts"
