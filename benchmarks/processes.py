"""Servers as processes: started in a session of their own, measured, and ended whole."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_POLL_S = 0.005
_START_S = 90.0
_STOP_S = 10.0


class ServerFailed(Exception):
    """A server ended, or was not ready in time; the message ends with what it last said."""


@dataclass(slots=True)
class Server:
    """A running server: its first process leads a session that all of its processes share."""

    process: "subprocess.Popen[bytes]"
    port: int
    log: Path
    ready_s: float = 0.0

    def cpu_seconds(self) -> float:
        """Return the processor time of all its processes so far."""
        return sum(ticks for _, ticks in self._members()) / _TICKS_PER_S

    def resident_mib(self) -> float:
        """Return the resident memory of all its processes; shared pages count in each."""
        return sum(_resident_bytes(pid) for pid, _ in self._members()) / 2**20

    def idle_share(self, seconds: float) -> float:
        """Return how much of one core it uses while nobody asks anything."""
        before = self.cpu_seconds()
        time.sleep(seconds)
        return (self.cpu_seconds() - before) / seconds

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Freeze all its processes while the block runs, so that they take no time at all."""
        self._signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal(signal.SIGCONT)

    def wait_until_ready(self, is_ready: Callable[[int], bool], started: float) -> None:
        """Poll until `is_ready(port)`; ServerFailed if it ends or takes too long."""
        while time.monotonic() - started < _START_S:
            if self.process.poll() is not None:
                raise ServerFailed(f"it ended before it was ready: {self._last_words()}")
            try:
                if is_ready(self.port):
                    self.ready_s = time.monotonic() - started
                    return
            except OSError:  # nobody listens yet
                pass
            time.sleep(_POLL_S)
        raise ServerFailed(f"it was not ready in {_START_S:.0f} s: {self._last_words()}")

    def stop(self) -> None:
        """End it: SIGTERM to the first process, then SIGKILL to whatever is left of the session.

        The first process is not reaped until then, so its number cannot be anybody else's.
        """
        if self.process.returncode is None:
            os.kill(self.process.pid, signal.SIGTERM)
        deadline = time.monotonic() + _STOP_S
        while time.monotonic() < deadline and not self._first_has_ended():
            time.sleep(0.02)
        self._signal(signal.SIGKILL)
        self.process.wait()

    def _signal(self, number: signal.Signals) -> None:
        for pid, _ in self._members():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _first_has_ended(self) -> bool:
        if self.process.returncode is not None:
            return True
        how = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self.process.pid, how) is not None

    def _members(self) -> list[tuple[int, int]]:
        """Return (process, processor ticks) of every process in the session."""
        found = []
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit():
                continue
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # it has just ended
                continue
            if int(fields[3]) == self.process.pid:
                found.append((int(folder.name), int(fields[11]) + int(fields[12])))
        return found

    def _last_words(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else "it said nothing"


@contextlib.contextmanager
def running(
    command: Sequence[str],
    *,
    port: int,
    is_ready: Callable[[int], bool],
    log: Path,
    environment: Mapping[str, str],
    cwd: Path,
) -> Iterator[Server]:
    """Run a server until the block ends; wait until it is ready first."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        started = time.monotonic()
        process = subprocess.Popen(
            command,
            env={**_plain_environment(), **environment},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = Server(process, port, log)
    try:
        server.wait_until_ready(is_ready, started)
        yield server
    finally:
        server.stop()


def free_port() -> int:
    """Return a port of the loopback interface that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _plain_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("HONE_")}


def _resident_bytes(pid: int) -> int:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
