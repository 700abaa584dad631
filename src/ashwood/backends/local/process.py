"""The driver's side of worker processes and of the worker reaper: start them, exchange messages, and end them."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from ashwood.backends.local import reaper
from ashwood.backends.local.worker_lock import held
from ashwood.checkpoints.regular import open_to_append
from ashwood.trial.channel import Message, encode

_START = "from ashwood.backends.local.worker import main; main()"
_CHUNK = 1 << 18
_EXIT_SECONDS = 2.0
"""Seconds to wait for a process that has closed its socket or was killed."""


class WorkerProcess:
    """A worker process, in a process group of its own.

    Attributes:
        loaded: whether its training code is loaded.
        load_error: why the training code could not be loaded, or None if the worker sent no such error.
        group: process group of its current job, or None if the job has no group of its own.
        joined: other process groups of the job, each with its leader's start time; see `reaper.start_of`.
        was_killed: whether the worker was killed; `reap` must be called next.
    """

    def __init__(
        self,
        setup: IO[bytes],
        environment: Mapping[str, str],
        workdir: str,
        log: Path,
        worker_lock: Path | None = None,
        locks: Sequence[int] = (),
    ) -> None:
        """Start the process without waiting until it is ready.  Messages can be sent at once.

        Args:
            setup: file with its `ashwood.backends.local.setup.Setup`.
            environment: its whole environment.
            workdir: directory that it runs in.
            log: file for what it prints outside trials.
            worker_lock: file that it holds locked for as long as it lives, or None.
            locks: descriptors of other locks that it inherits and holds for as long as it lives.
        """
        self.loaded = False
        self.load_error: str | None = None
        self.group: int | None = None
        self.joined: dict[int, bytes] = {}
        self.was_killed = False
        self._tail = b""
        ours, theirs = socket.socketpair()
        with theirs, _append(log) as output:
            try:
                with held(worker_lock) as held_lock:
                    inherited = (theirs.fileno(), *held_lock, *locks)
                    self._process = subprocess.Popen(  # noqa: S603
                        [sys.executable, "-P", "-c", _START, *map(str, inherited)],
                        stdin=setup,
                        stdout=output,
                        stderr=output,
                        env=environment,
                        cwd=workdir,
                        pass_fds=inherited,
                        process_group=0,
                    )
            except BaseException:
                ours.close()
                raise
        self._socket = ours
        # The end of the socket does not show that the worker has ended, because children that it forked may hold the
        # socket open.  A pidfd becomes readable exactly when the process itself ends.
        self._handle = os.pidfd_open(self.pid) if hasattr(os, "pidfd_open") else None

    @property
    def pid(self) -> int:
        """The process id of the worker, which is also its process group."""
        return self._process.pid

    @property
    def sources(self) -> Mapping[socket.socket | int, bool]:
        """Descriptors to wait on; the value says whether a readable one shows that the process has ended."""
        return {self._socket: False} if self._handle is None else {self._socket: False, self._handle: True}

    def send(self, *message: Any) -> None:
        """Send a message.  Errors are ignored: `read` shows that a worker is dead."""
        with suppress(OSError):
            self._socket.sendall(encode(message).encode() + b"\n")

    def read(self) -> tuple[list[Message], bool]:
        """Return the messages since the last call, and whether there may be more later."""
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

    def reap(self) -> tuple[int, list[Message]]:
        """Wait for a process that is about to end, kill its children, and return its exit code and last messages.

        A process that does not end within two seconds is killed.
        """
        self.wait(_EXIT_SECONDS)
        # A child of the worker announces its process group over the socket before it does anything else, and exits if
        # it can't.  So the socket is shut down before its last messages are read: a child either has announced its
        # group, which is killed below, or fails to announce it and exits.
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        messages: list[Message] = []
        open_ = True
        while open_:
            more, open_ = self.read()
            messages += more
        for kind, group in (message[:2] for message in messages if message[0] in ("group", "joined")):
            if kind == "group":
                self.group = group
            else:
                self.join(group)
        self.kill(signal.SIGKILL)
        try:
            code = self._process.wait(_EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            # The kernel cannot end the process now, perhaps because a disk does not answer.  The slot is free anyway.
            code = -signal.SIGKILL
        self._socket.close()
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
        return code, messages

    def wait(self, seconds: float) -> None:
        """Wait for up to ``seconds`` for the process to end."""
        if self._handle is None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(max(0.0, seconds))
            return
        # The process stays a zombie until `reap` collects its exit code.  Until then its number cannot be reused, so
        # signals to its process group cannot reach an unrelated group.
        poll = select.poll()
        poll.register(self._handle, select.POLLIN)
        poll.poll(max(0.0, seconds) * 1000)

    def disconnect(self) -> None:
        """Shut the socket down, upon which an idle worker exits by itself."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def kill(self, number: int) -> None:
        """Send a signal to the process groups of the worker and its job."""
        for group in {self.pid, self.group or self.pid}:
            reaper.signal_group(group, number)
        reaper.signal_groups(self.joined, number)

    def join(self, group: int) -> None:
        """Note that a process of the job runs in another process group."""
        self.joined[group] = reaper.start_of(group)

    def kill_job(self) -> None:
        """Kill the current job.  If the job has no process group of its own, kill the worker."""
        if self.group is not None:
            reaper.signal_group(self.group)
            reaper.signal_groups(self.joined)
            # The worker then reports that the job has ended. A worker that a user has stopped (SIGSTOP) could not
            # report that, so it is continued.
            reaper.signal_group(self.pid, signal.SIGCONT)
        else:
            self.was_killed = True
            self.kill(signal.SIGKILL)


class ReaperProcess:
    """The process of the worker reaper, which is replaced if it is killed; see `ashwood.backends.local.reaper`."""

    def __init__(self, grace: float = reaper.GRACE) -> None:
        """Start the process.  If this driver dies, the reaper gives workers ``grace`` seconds to save and end."""
        self._grace = grace
        self._groups: set[int] = set()
        self._start()

    @property
    def pid(self) -> int:
        """The process id of the reaper."""
        return self._process.pid

    def watch(self, group: int) -> None:
        """Let the reaper end a process group if this driver dies."""
        self._groups.add(group)
        self._send(f"+{group}\n")

    def unwatch(self, group: int) -> None:
        """Stop watching a process group, which has ended."""
        self._groups.discard(group)
        self._send(f"-{group}\n")

    def close(self) -> None:
        """End the reaper, and with it the process groups that it still watches."""
        os.close(self._pipe)
        self._process.wait()

    def _start(self) -> None:
        theirs, self._pipe = os.pipe()
        os.set_blocking(self._pipe, False)
        try:
            self._process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-I", "-S", reaper.__file__, str(os.getpid()), str(self._grace)],
                stdin=theirs,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Signals to the driver's process group do not reach it.
            )
        finally:
            os.close(theirs)

    def _send(self, lines: str) -> None:
        try:
            os.write(self._pipe, lines.encode())
        except (BrokenPipeError, BlockingIOError):
            # The reaper is dead, or stopped so that it no longer reads.  A new one gets the complete list of groups.
            self._process.kill()
            self.close()
            self._start()
            with suppress(BrokenPipeError):  # If it was killed again, the next call starts another one.
                os.write(self._pipe, "".join(f"+{group}\n" for group in self._groups).encode())


def _append(log: Path) -> IO[bytes]:
    try:
        return open_to_append(log)
    except OSError:  # If the disk is full, output is lost, but training continues.
        return open(os.devnull, "ab")  # noqa: PTH123


def _parse(lines: bytes) -> list[Message]:
    if not lines:
        return []
    messages: list[Message]
    try:  # Parsing all lines as one JSON array is much faster than parsing each.
        messages = json.loads(b"[%b]" % lines.replace(b"\n", b","))
    except ValueError:
        messages = []
        for line in lines.split(b"\n"):
            with suppress(ValueError):  # A process that was killed may have sent part of a line.
                messages.append(json.loads(line))
    return messages
