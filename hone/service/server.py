"""The life of the service: bind, load, serve, follow the store, drain, stop.

The address is bound before anything is loaded, so that `/livez` and `/startupz` can answer.
SIGTERM: `/readyz` turns to 503 while requests are still answered, each with `Connection: close`;
after `drain_delay_s` the listener closes; what is in flight gets `shutdown_timeout_s`; exit 0.
SIGINT (Ctrl-C) does the same without the delay, and a second signal ends either wait.
SIGHUP looks at the store at once and retries what failed.

The job store is opened before the address is bound. The runner is told to stop with the first
signal, so that what trains writes its checkpoint while requests are still answered.
"""

import asyncio
import contextlib
import functools
import gc
import logging
import os
import resource
import signal
import socket
from collections.abc import Callable, Generator

import uvicorn
import uvloop

import hone
from hone.comparison.prices import load_prices
from hone.models.errors import InvalidInput
from hone.models.registry import Registry
from hone.service.access import Gate
from hone.service.app import create_app, with_short_cut
from hone.service.fake import fake_model, fake_text_model
from hone.service.fallback.line import FallbackLine, fallback_line
from hone.service.fine_tuning import FineTuning
from hone.service.health import HealthChecks
from hone.service.jobs.naming import is_job_name
from hone.service.jobs.runner import Runner, Surroundings
from hone.service.jobs.settings import load_runner_settings
from hone.service.loading import ServedModel
from hone.service.logs import configure_logging
from hone.service.metrics import Metrics
from hone.service.pool import ModelPool
from hone.service.protocol import Connections, HoneConfig
from hone.service.serving import Host, LoadedModel
from hone.service.settings import Settings
from hone.service.state import State, open_state

logger = logging.getLogger(__name__)

_SWEEP_S = 1.0
_BACKLOG = 2048
_SPARE_FILES = 256

Announce = Callable[[str], None]
_say = functools.partial(print, flush=True)


def run(settings: Settings, announce: Announce = _say) -> None:
    """Serve until a signal says to stop. `announce` gets the line that says where.

    InvalidInput when the address cannot be bound or the price file cannot be read; StoreFailed,
    StoreUnreachable or DiskFull when the job store cannot be opened.
    """
    # One batch's texts are tokenized by the worker that runs them: the workers are the
    # parallelism, and a second pool of threads beside them would only fight for the cores.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    configure_logging(settings.log_level)
    if not settings.store.is_dir():
        logger.warning("there is no such store yet: it is made", extra={"store": settings.store})
    _allow_open_files(settings.max_connections + _SPARE_FILES)
    with (
        contextlib.closing(open_state(settings)) as state,
        _listening(settings.host, settings.port) as listener,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(_Service(settings, state, listener, announce).run())


class _Server(uvicorn.Server):
    """uvicorn's server; the signals are ours."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave the signals alone."""
        yield


class _Service:
    """One run of the service, on one event loop."""

    def __init__(
        self, settings: Settings, state: State, listener: socket.socket, announce: Announce
    ) -> None:
        self._settings = settings
        self._state = state
        self._gate = Gate(state.keys, settings.access, str(listener.getsockname()[0]))
        self._listener = listener
        self._announce = announce
        self._metrics = Metrics()
        self._prices = load_prices(settings.prices_file)
        self._signals = asyncio.Queue[signal.Signals]()
        self._look_now = asyncio.Event()

    async def run(self) -> None:
        """Serve until told to stop, then drain."""
        settings = self._settings
        async with fallback_line(settings) as line:
            await self._serve(line)

    async def _serve(self, line: FallbackLine | None) -> None:
        settings = self._settings
        loop = asyncio.get_running_loop()
        self._pool = ModelPool(Host(settings, self._metrics, self._prices, loop, line))
        self._checks = HealthChecks(self._pool, settings)
        self._fine_tuning = FineTuning(self._state, self._pool, self._metrics, self._gate)
        await asyncio.to_thread(self._fine_tuning.look)
        self._runner = self._start_runner(loop) if settings.run_jobs else None
        self._connections = Connections(settings, self._metrics)
        server = self._server()
        self._watch_signals(loop)
        serving = asyncio.create_task(server.serve(sockets=[self._listener]))
        works = (
            self._follow_store(),
            self._fine_tuning.follow(),
            self._fine_tuning.clean(),
            self._sweep(),
        )
        chores = [asyncio.create_task(work) for work in works]
        stopping = asyncio.create_task(self._stop_when_told(server))
        try:
            await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
            await serving
        finally:
            for chore in (*chores, stopping):
                chore.cancel()
            await self._pool.close(settings.shutdown_timeout_s)
            if self._runner is not None:
                await asyncio.to_thread(self._runner.stop)
        logger.info("stopped")

    def _server(self) -> _Server:
        settings = self._settings
        app = create_app(settings, self._metrics, self._checks, self._fine_tuning)
        config = HoneConfig(
            with_short_cut(app),
            self._connections,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=_BACKLOG,
            timeout_keep_alive=settings.keep_alive_s,
            timeout_graceful_shutdown=settings.shutdown_timeout_s,
        )
        return _Server(config)

    # Starting, and following the store

    def _start_runner(self, loop: asyncio.AbstractEventLoop) -> Runner:
        """Start the runner of jobs; each model that it publishes is looked for at once."""
        state, settings = self._state, load_runner_settings()
        around = Surroundings(
            state.database, state.files, state.folder, self._settings.store.absolute(), settings
        )

        def look(_model: str, _version: int) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the service stops
                loop.call_soon_threadsafe(self._look_now.set)

        runner = Runner(around, on_published=look)
        runner.start()
        return runner

    async def _follow_store(self) -> None:
        if self._settings.fake:
            self._pool.add(fake_model(self._pool.host))
            self._pool.add(fake_text_model(self._pool.host))
        await self._refresh()
        # Most of what is there now lives as long as the process: the collector need not look at
        # it again. A model that is retired is freed without it, as nothing in it leads back to it.
        gc.collect()
        gc.freeze()
        self._announce(self._banner())
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.reload_interval_s):
                    await self._look_now.wait()
            again = self._look_now.is_set()
            self._look_now.clear()
            await self._refresh(again=again)

    async def _refresh(self, *, again: bool = False) -> None:
        try:
            await self._pool.refresh(again=again)
        except Exception:  # the boundary: what is loaded goes on serving, the next look may work
            logger.exception("the store could not be followed")

    def _banner(self) -> str:
        address, port = self._listener.getsockname()[:2]
        host = f"[{address}]" if ":" in address else address
        models = [
            f"{model.id} ({model.variant}, {model.device}, {_layout_of(model)})"
            for model in self._pool.current.values()
            if not is_job_name(model.facts.name)
        ]
        tuned = len(self._pool.current) - len(models)
        models += [f"{tuned} of fine-tuning jobs"] if tuned else []
        served = ", ".join(models) or f"no model yet from {Registry(self._settings.store).store}"
        absent = self._pool.missing()
        lacking = f"; NOT LOADED: {', '.join(absent)}" if absent else ""
        access = " without keys" if self._fine_tuning.is_open else ""
        return f"hone {hone.__version__} serves {served}{lacking}{access} at http://{host}:{port}"

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_SWEEP_S)
            self._connections.sweep(loop.time())

    # Stopping

    def _watch_signals(self, loop: asyncio.AbstractEventLoop) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signals.put_nowait, number)
        loop.add_signal_handler(signal.SIGHUP, self._look_now.set)

    async def _stop_when_told(self, server: _Server) -> None:
        first = await self._signals.get()
        self._checks.draining = True
        self._connections.draining = True
        if self._runner is not None:
            self._runner.ask_to_stop()
        delay_s = self._settings.drain_delay_s if first == signal.SIGTERM else 0.0
        logger.info("draining", extra={"signal": first.name, "delay_s": delay_s})
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._signals.get(), delay_s or 0.001)
        self._fine_tuning.stop_streams()
        server.should_exit = True
        await self._signals.get()
        server.force_exit = True


@contextlib.contextmanager
def _listening(host: str, port: int) -> Generator[socket.socket, None, None]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen(_BACKLOG)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else "no such address"
            raise InvalidInput(f"cannot listen on {host}:{port}: {reason}") from None
        listener.setblocking(False)
        yield listener


def _allow_open_files(wanted: int) -> None:
    """Raise the soft limit on open files, where the hard one allows it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _layout_of(model: ServedModel) -> str:
    """Say how a model runs, in its own units: tokens, or pictures."""
    if isinstance(model, LoadedModel):
        return model.layout.described(pictures=model.takes_pictures)
    return str(model.layout)
