"""The driver's end of one worker: start it, speak to it, hear it, see it dead."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from ashwood.trial.channel import Message, encode

_START = "from ashwood.backends.local.worker import main; main()"
_CHUNK = 1 << 18
_EXIT_SECONDS = 2.0


class WorkerProcess:
    """One worker process, in a process group of its own.

    Attributes:
        loaded: whether its training code is loaded.
        group: process group of the job in work, where it has one of its own.
    """

    def __init__(self, setup: IO[bytes], environment: Mapping[str, str], workdir: str, log: Path) -> None:
        """Start it; returns long before it is ready, and it can be spoken to at once."""
        self.loaded = False
        self.group: int | None = None
        self._tail = b""
        ours, theirs = socket.socketpair()
        with theirs, log.open("ab") as output:
            try:
                self._process = subprocess.Popen(  # noqa: S603
                    [sys.executable, "-P", "-c", _START, str(theirs.fileno())],
                    stdin=setup,
                    stdout=output,
                    stderr=output,
                    env=environment,
                    cwd=workdir,
                    pass_fds=(theirs.fileno(),),
                    process_group=0,
                )
            except BaseException:
                ours.close()
                raise
        self._socket = ours
        # Its end isn't told by the socket alone: children that it forked may hold that open.
        self._handle = os.pidfd_open(self.pid) if hasattr(os, "pidfd_open") else None

    @property
    def pid(self) -> int:
        """Its process id, which is also its process group."""
        return self._process.pid

    @property
    def sources(self) -> Mapping[socket.socket | int, bool]:
        """What to wait on, and whether it tells that the process has ended."""
        return {self._socket: False} if self._handle is None else {self._socket: False, self._handle: True}

    def send(self, *message: Any) -> None:
        """Tell it something.  A worker that is dead is found so by `read`."""
        with suppress(OSError):
            self._socket.sendall(encode(message).encode() + b"\n")

    def read(self) -> tuple[list[Message], bool]:
        """All that it has said since, and whether it may say more."""
        pieces = [self._tail]
        alive = True
        while True:
            try:
                data = self._socket.recv(_CHUNK, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:
                alive = False
                break
            pieces.append(data)
            if len(data) < _CHUNK:
                break
        lines, _, self._tail = b"".join(pieces).rpartition(b"\n")
        return _parse(lines), alive

    def bury(self) -> int:
        """Wait for a process that is ending, and end what it leaves; returns its exit code."""
        try:
            code = self._process.wait(_EXIT_SECONDS)
        except subprocess.TimeoutExpired:  # it closed the socket and lives on: nobody can speak to it any more
            self.kill(signal.SIGKILL)
            code = self._process.wait()
        self.kill(signal.SIGKILL)
        self._socket.close()
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
        return code

    def wait(self, seconds: float) -> None:
        """Give it up to so many seconds to end."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.0, seconds))

    def hang_up(self) -> None:
        """End the conversation: an idle worker leaves by itself."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def kill(self, number: int) -> None:
        """Send a signal to the worker, its children, and the job's own group."""
        for group in {self.pid, self.group or self.pid}:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(group, number)


def _parse(lines: bytes) -> list[Message]:
    if not lines:
        return []
    messages: list[Message]
    try:  # one parse for all lines costs a fraction of one for each
        messages = json.loads(b"[%b]" % lines.replace(b"\n", b","))
    except ValueError:
        messages = []
        for line in lines.split(b"\n"):
            with suppress(ValueError):  # what a dying child left half-said
                messages.append(json.loads(line))
    return messages
