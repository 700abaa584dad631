"""A real PostgreSQL server for tests, and nothing of it afterwards.

Use the fixture ``postgres``: one server a session (with xdist, a worker), started when it is first asked for.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest

DEADLINE_SECONDS = 60.0


class PostgresServer:
    """A server with a data directory of its own, listening on loopback only."""

    def __init__(self, directory: Path, programs: Path) -> None:
        self._data = directory / "data"
        self._log = directory / "log"
        self._sockets = directory
        self._programs = programs
        # The server refuses to run as root.
        self._user = "postgres" if os.geteuid() == 0 else None
        if self._user:
            account = pwd.getpwnam(self._user)
            os.chown(directory, account.pw_uid, account.pw_gid)
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        account_options = ("--username=ashwood", "--auth=trust", "--encoding=UTF8", "--locale=C")
        # A young directory needs no fsync, and small segments of the log are quick to make.
        speed_options = ("--no-sync", "--no-instructions", "--wal-segsize=1")
        self._run("initdb", "--pgdata", str(self._data), *account_options, *speed_options)

    def url(self, database: str = "postgres") -> str:
        """Where a database is, for the administrator of the server."""
        return f"postgresql://ashwood@127.0.0.1:{self.port}/{database}"

    def fresh_database(self) -> str:
        """The URL of a database without experiments: those of an earlier call are gone, as a new one costs more."""
        import psycopg

        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute("DROP SCHEMA IF EXISTS ashwood CASCADE")
        return self.url()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        settings = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": self._sockets,
            "shared_buffers": "16MB",
            "min_wal_size": "4MB",
            "max_connections": 60,
            "autovacuum": "off",
            "log_min_messages": "warning",
        }
        options = [text for name, value in settings.items() for text in ("-c", f"{name}={value}")]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self._data, *options],
                stdout=log,
                stderr=log,
                user=self._user,
                group=self._user,
                cwd=self._sockets,
            )
        deadline = time.monotonic() + DEADLINE_SECONDS
        ready = [str(self._programs / "pg_isready"), "--quiet", "--host=127.0.0.1", f"--port={self.port}"]
        while subprocess.run(ready, check=False).returncode:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL doesn't start:\n{self._log.read_text()}")
            time.sleep(0.02)

    def stop(self, mode: str = "fast") -> None:
        """Stop it: ``fast`` ends connections first; ``immediate`` is as a crash."""
        if self._process is not None:
            self._run("pg_ctl", "stop", "--pgdata", str(self._data), f"--mode={mode}", "--wait")
            self._process.wait(DEADLINE_SECONDS)
            self._process = None

    def restart(self, mode: str = "fast") -> None:
        """Stop it and start it again."""
        self.stop(mode)
        self.start()

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self._programs / program), *arguments],
            capture_output=True,
            text=True,
            check=False,
            user=self._user,
            group=self._user,
            cwd=self._sockets,
        )
        if done.returncode:
            raise RuntimeError(f"{program} failed:\n{done.stdout}{done.stderr}")


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """A server that runs while the context is open; the test is skipped where none is installed."""
    programs = find_programs()
    # Not under pytest's directories: those are root's alone where root runs the tests, and a socket's path is short.
    with tempfile.TemporaryDirectory(prefix="ashwood-pg-") as directory:
        server = PostgresServer(Path(directory), programs)
        server.start()
        try:
            yield server
        finally:
            server.stop("immediate")


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A running server."""
    with postgres_server() as server:
        yield server


def find_programs() -> Path:
    """The directory of the server's programs; skips the test where there is none."""
    pytest.importorskip("psycopg", reason="psycopg isn't installed")
    found = [Path(path).resolve().parent for name in ("postgres",) if (path := shutil.which(name))]
    candidates = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True), *found]
    for programs in candidates:
        if all((programs / name).exists() for name in ("initdb", "postgres", "pg_ctl", "pg_isready")):
            if os.geteuid() == 0 and not _has_user("postgres"):
                _do_without("PostgreSQL doesn't run as root, and there is no user 'postgres'")
            return programs
    return _do_without("PostgreSQL's server isn't installed (Debian: apt-get install postgresql)")


def _do_without(reason: str) -> NoReturn:
    """Skip the test; where everything is to be tried, fail."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


def _has_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
