"""Settings of the service. The environment is read here, and in `jobs.settings`, alone.

Each field can be given as `HONE_<NAME>` (for example `HONE_PORT=9000`); the command line goes
before the environment, and the environment before the defaults.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from hone.models.engines import Device
from hone.models.errors import InvalidName
from hone.models.imaging.files import LARGEST_FILE
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


def _none_if_empty(value: object) -> object:
    """Take a variable that is set to nothing for one that is not set."""
    return None if value == "" else value


Address = Annotated[str, Field(pattern=r"^https?://[^/\s@?#]+(/[^\s?#]*)?$")]
ModelNames = Annotated[
    tuple[Annotated[str, AfterValidator(_model_name)], ...], NoDecode, BeforeValidator(_separate)
]
Auto = Literal["auto"]
AccessMode = Literal["auto", "on", "off"]


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
    public_url: str | None = Field(None, pattern=r"^https?://[^/\s]+(/\S*)?$")
    """Where clients reach the service, for its OpenAPI document; by default `host` and `port`."""
    operator: str = "its operator, who gave you its address"
    """Who runs the service and is asked about its data, for the page `/privacy`."""
    device: Device = "auto"
    variant: Variant | None = None

    workers: Annotated[int, Field(ge=1, le=256)] | Auto = "auto"
    threads: Annotated[int, Field(ge=1, le=256)] | Auto = "auto"
    batch_tokens: Annotated[int, Field(ge=1)] | Auto = "auto"
    decoder_slots: int = Field(16, ge=1, le=256)
    """How many sequences of one causal model are decoded at once."""
    max_context_tokens: int = Field(4096, ge=16)
    """The most tokens of prompt and completion, where a model could take more."""
    max_waiting_tokens: int = Field(65_536, ge=1)
    """How many tokens, of prompts and of what they ask for, may wait for one causal model."""
    prefix_cache_bytes: int = Field(256 * 2**20, ge=0)
    """Memory for what one causal model keeps of the prompts that it has read; 0 for none."""
    state_dir: Path | None = None
    """Where the service keeps what it must remember: the job store, uploaded files, the keys'
    pepper and measured layouts. `<store>/.state` (and `<store>/.layouts`) if not given."""
    database: SecretStr | None = None
    """The job store: `sqlite:////folder/hone.db` or `postgresql://user@host/name`; `hone.db` in the
    state folder if not given."""
    pinned_versions: int = Field(2, ge=0)
    """How many versions that are not current may be held in memory because somebody asked."""
    max_loaded_models: int = Field(16, ge=1)
    """How many models may be in memory, each in its current version. The others are loaded when
    asked for, and the one that was asked for longest ago goes; models named at the start stay."""
    reload_interval_s: float = Field(1.0, gt=0)

    access: AccessMode = "auto"
    """Whether requests need a key. `auto`: they do, except on a loopback address while no key was
    ever made; `off` is for loopback addresses alone."""
    public_metrics: bool = False
    """Whether `/metrics` needs no key; else it needs the scope `admin`."""
    max_queued_jobs: int = Field(100, ge=0)
    """The most unfinished jobs of one owner, unless a key has a limit of its own."""
    max_file_bytes: int = Field(512 * 2**20, ge=1024)
    max_upload_bytes: int = Field(8 * 2**30, ge=1024)
    upload_timeout_s: float = Field(3600.0, gt=0)
    """How long a client may take to send one file, or one part of it."""
    stream_ping_s: float = Field(15.0, gt=0)
    """How long a stream of events may be silent before a comment keeps it alive."""
    run_jobs: bool = True
    """Whether this service trains; several services may share one job store."""

    max_body_bytes: int = Field(2 * 2**20, ge=1024)
    max_picture_body_bytes: int = Field(LARGEST_FILE, ge=1024)
    """The same for requests with pictures; it holds where any model, in memory or resting, is for
    them."""
    max_items: int = Field(256, ge=1)
    max_pictures: int = Field(32, ge=1)
    """How many pictures go into one request."""
    max_characters: int = Field(100_000, ge=1)
    max_queue_items: int = Field(1024, ge=1)
    max_connections: int = Field(1000, ge=1)
    max_header_bytes: int = Field(32 * 2**10, ge=1024)
    header_timeout_s: float = Field(10.0, gt=0)
    request_timeout_s: float = Field(30.0, gt=0)
    """How long a client may take to send one whole request, or to read one answer."""
    keep_alive_s: int = Field(75, ge=1)

    fallback_url: Annotated[Address | None, BeforeValidator(_none_if_empty)] = None
    """Where the prompts of models with a fallback are asked (`https://api.openai.com/v1`); without
    it nobody is called."""
    fallback_api_key: Annotated[SecretStr | None, BeforeValidator(_none_if_empty)] = None
    fallback_key_header: str = Field("Authorization", pattern=r"^[A-Za-z0-9-]+$")
    """The header for that key: `Authorization` gets `Bearer KEY`, another one the key alone."""
    fallback_timeout_s: float = Field(10.0, gt=0)
    """The most that a fallback adds to a request."""
    fallback_concurrency: int = Field(16, ge=1, le=1024)
    """How many calls are under way at once."""
    fallback_failures: int = Field(5, ge=1)
    """After so many failures in a row the upstream is left alone ..."""
    fallback_pause_s: float = Field(30.0, gt=0)
    """... for so long; then one call tries it."""
    fallback_max_dollars_per_day: Annotated[
        Annotated[float, Field(ge=0, allow_inf_nan=False)] | None, BeforeValidator(_none_if_empty)
    ] = None
    """What the calls may cost a day (UTC), per process and from its start: of several replicas each
    may spend it. Then the models answer alone. An arm whose price is not known is not asked."""

    drain_delay_s: float = Field(5.0, ge=0)
    """After SIGTERM: how long to go on serving while `/readyz` already answers 503."""
    shutdown_timeout_s: int = Field(20, ge=1)
    """After that: how long to wait for what is in flight."""

    prices_file: Path | None = None
    metrics: bool = True
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @model_validator(mode="after")
    def _the_key_fits_a_header(self) -> Self:
        key = self.fallback_api_key
        said = "" if key is None else key.get_secret_value()
        if not (said.isascii() and said.isprintable()):
            raise ValueError("fallback_api_key cannot be in a header")
        return self

    @model_validator(mode="after")
    def _a_full_request_fits_the_queue(self) -> Self:
        if self.max_items > self.max_queue_items:
            raise ValueError("max_items is more than max_queue_items: such a request never fits")
        return self

    @property
    def public_address(self) -> str:
        """Where clients reach the service: a URL, or `/` where only those who ask know."""
        if self.public_url is not None:
            return self.public_url.rstrip("/")
        if self.port == 0 or self.host in {"0.0.0.0", "::"}:  # noqa: S104 - compared, not bound
            return "/"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    @property
    def state_folder(self) -> Path:
        """Where the job store, the files and the pepper lie."""
        return self.state_dir if self.state_dir is not None else self.store / ".state"

    @property
    def database_url(self) -> str:
        """The URL of the job store; it may hold a password, so it goes into no log."""
        if self.database is not None:
            return self.database.get_secret_value()
        return f"sqlite:///{(self.state_folder / 'hone.db').absolute()}"

    @property
    def layouts_folder(self) -> Path:
        """Where measured session layouts are kept. It need not exist or be writable."""
        return self.state_dir if self.state_dir is not None else self.store / ".layouts"
