"""`hone serve`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from hone.models.engines import Device
from hone.models.manifest import Variant
from hone.service.server import run
from hone.service.settings import Settings
from hone.service.wrong_settings import wrong_settings

_AUTO = "Default: measured when the model is loaded."


def serve_command(  # noqa: PLR0913, PLR0917 - the command line's options
    models: Annotated[
        list[str] | None, typer.Argument(help="Models to serve; default: all of the store.")
    ] = None,
    store: Annotated[
        Path | None, typer.Option(help="The folder that holds the bundles. [default: store]")
    ] = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on. [default: 127.0.0.1]")
    ] = None,
    port: Annotated[
        int | None, typer.Option(help="Port to listen on; 0 takes a free one. [default: 8000]")
    ] = None,
    device: Annotated[Device | None, typer.Option(help="Where to run. [default: auto]")] = None,
    variant: Annotated[
        Variant | None, typer.Option(help="Default: the fastest that the bundle has.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help=f"Batches run at once. {_AUTO}")] = None,
    threads: Annotated[int | None, typer.Option(help=f"Threads for one batch. {_AUTO}")] = None,
    batch_tokens: Annotated[
        int | None, typer.Option(help=f"Padded tokens in a batch. {_AUTO}")
    ] = None,
    drain_delay: Annotated[
        float | None,
        typer.Option(
            help="Seconds to go on serving after SIGTERM, while /readyz says 503. [default: 5]"
        ),
    ] = None,
    prices: Annotated[
        Path | None, typer.Option(help="A price file in LiteLLM's form. Default: our snapshot.")
    ] = None,
    log_level: Annotated[
        str | None, typer.Option(help="debug, info, warning or error. [default: info]")
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(help="The folder of jobs, files and keys. [default: .state in the store]"),
    ] = None,
    no_auth: Annotated[
        bool,
        typer.Option(
            "--no-auth",
            help="Answer without keys, on a loopback address. Default: while no key exists.",
        ),
    ] = False,
    fake: Annotated[
        bool, typer.Option("--fake", help="Also serve the model `fake`, which needs no weights.")
    ] = False,
) -> None:
    """Serve published models over HTTP.

    Every setting, limits and deadlines too, can also be given in the environment as HONE_NAME,
    such as HONE_MAX_ITEMS=64; what is given here goes first.
    """
    run(
        settings_from(
            models=tuple(models) if models else None,
            store=store,
            host=host,
            port=port,
            device=device,
            variant=variant,
            workers=workers,
            threads=threads,
            batch_tokens=batch_tokens,
            drain_delay_s=drain_delay,
            prices_file=prices,
            log_level=log_level,
            fake=fake or None,
            state_dir=state,
            access="off" if no_auth else None,
        )
    )


def settings_from(**options: Any) -> Settings:  # noqa: ANN401 - one for each field
    """Return the settings: the options that are not None, then the environment, then defaults.

    InvalidInput that names every option with a value it cannot have.
    """
    given = {name: value for name, value in options.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        raise wrong_settings(error) from None
