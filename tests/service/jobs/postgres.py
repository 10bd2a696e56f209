"""A PostgreSQL server of our own: in a temporary folder, on a socket there, gone at the end.

The server refuses to run as root, so there it runs as the user `postgres` of Debian's package.
"""

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
_names = itertools.count(1)


def why_not() -> str | None:
    """Say why no server can be started here; None if one can."""
    if not PROGRAMS:
        return "PostgreSQL is not installed (Debian's package postgresql)"
    if os.geteuid() == 0 and _other_user() is None:
        return "PostgreSQL does not run as root, and there is no user `postgres`"
    return None


class Postgres:
    """A running server; `create` makes an empty database and returns its URL."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def create(self) -> str:
        name = f"hone_{os.getpid()}_{next(_names)}"
        self.run("createdb", "--host", str(self.folder), "--username", "hone", name)
        return f"postgresql://hone@/{name}?host={self.folder}"

    def run(self, program: str, *arguments: str) -> None:
        path = PROGRAMS[-1].with_name(program)
        done = subprocess.run(
            [path, *arguments],
            user=_other_user(),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        data, log = self.folder / "data", self.folder / "log"
        # No flush: the machine does not lose power in these tests. A hundred connections.
        options = f"-c listen_addresses= -c unix_socket_directories={self.folder} -c fsync=off"
        self.run("pg_ctl", "start", "--wait", "-D", str(data), "-l", str(log), "-o", options)

    def stop(self, mode: str = "immediate") -> None:
        self.run("pg_ctl", "stop", "--wait", "-D", str(self.folder / "data"), "-m", mode)


@contextmanager
def postgres_server() -> Iterator[Postgres]:
    """Run a server until the block ends."""
    # Not pytest's folder: the path of a socket must be short, and the user may enter it.
    folder = Path(tempfile.mkdtemp(prefix="hone-pg-"))
    user = _other_user()
    if user is not None:
        os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
    server = Postgres(folder)
    try:
        server.run(
            "initdb", "-D", str(folder / "data"), "--username", "hone", "--auth", "trust",
            "--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync",
        )  # fmt: skip
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _other_user() -> str | None:
    """Return whom the server runs as; None for whoever runs the tests."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        return None
