"""A dashboard as people start it, ``ashwood ui``, and clients that ask it."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.ours import peak_memory, python_path

_PATIENCE = 600.0


class Served(NamedTuple):
    """A dashboard that runs.

    Attributes:
        port: where on loopback.
        process: its process id.
        began: when its command was given, by the monotonic clock.
    """

    port: int
    process: int
    began: float

    def url(self, path: str = "/") -> str:
        """An address for a browser."""
        return f"http://127.0.0.1:{self.port}{path}"

    def get(self, path: str) -> Any:
        """An answer of the API."""
        with Client(self.port) as client:
            return json.loads(client.get(path))

    def peak_mb(self) -> float | None:
        """The most memory that it has had."""
        return peak_memory(self.process)

    def wait_until_read(self, experiment: int) -> float:
        """Ask until the record of an experiment is read; returns the seconds that it took."""
        began = time.monotonic()
        while self.get(f"/api/v1/experiments/{experiment}")["read"] < 1:
            time.sleep(0.2)
        return time.monotonic() - began


class Client:
    """One connection, as a browser keeps it."""

    def __init__(self, port: int, limit: float = _PATIENCE) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=limit)

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> bytes:
        """The body of an answer; empty: it hasn't changed.

        Raises:
            RuntimeError: it is another answer than was asked for.
        """
        self._connection.request("GET", path, headers=dict(headers or {}))
        response = self._connection.getresponse()
        body = response.read()
        if response.status not in (200, 304):
            raise RuntimeError(f"GET {path}: {response.status}: {body[:300]!r}")
        return body

    def events(self, path: str) -> Iterator[tuple[float, dict[str, Any]]]:
        """Server-sent events, each with when it was here, by the wall clock; until the connection is closed."""
        self._connection.request("GET", path)
        stream = self._connection.getresponse()
        while line := stream.readline():
            if line.startswith(b"data: "):
                yield time.time(), json.loads(line[6:])

    def close(self) -> None:
        """Close the connection, also while another thread reads from it."""
        if self._connection.sock is not None:
            with suppress(OSError):
                self._connection.sock.shutdown(socket.SHUT_RDWR)
        self._connection.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def free_port() -> int:
    """A port on loopback that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    return port


@contextmanager
def dashboard(home: Path) -> Iterator[Served]:
    """``ashwood ui`` on a home, from its first answer until Ctrl-C."""
    port = free_port()
    ashwood = str(Path(sys.executable).with_name("ashwood"))
    with serving([ashwood, "ui", str(home), "--no-open", "--port", str(port)], port) as served:
        yield served


@contextmanager
def serving(
    command: Sequence[str], port: int, *, environment: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Iterator[Served]:
    """A command that serves at a port, from its first answer on; ended by Ctrl-C."""
    began = time.monotonic()
    process = subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": python_path(), **(environment or {})},
        cwd=cwd,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        _wait_for(port, process, began + _PATIENCE)
        yield Served(port, process.pid, began)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def _wait_for(port: int, process: subprocess.Popen[bytes], until: float) -> None:
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            if process.poll() is not None:
                said = b"" if process.stderr is None else process.stderr.read()
                raise RuntimeError(f"the server ended:\n{said.decode()[-2000:]}") from None
            if time.monotonic() > until:
                raise TimeoutError("the server doesn't answer") from None
            time.sleep(0.005)
