"""The driver's end of one worker, and of the warden: start it, speak to it, hear it, see it dead."""

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

from ashwood.backends.local import warden
from ashwood.backends.local.fence import held
from ashwood.trial.channel import Message, encode
from ashwood.trial.regular import open_to_append

_START = "from ashwood.backends.local.worker import main; main()"
_CHUNK = 1 << 18
_EXIT_SECONDS = 2.0


class WorkerProcess:
    """One worker process, in a process group of its own.

    Attributes:
        loaded: whether its training code is loaded.
        complaint: why it can't be; None: nothing was said.
        group: process group of the job in work, where it has one of its own.
        joined: other process groups of the job, with the start of their leaders; see `warden.start_of`.
        doomed: whether it was killed and has yet to be buried.
    """

    def __init__(
        self,
        setup: IO[bytes],
        environment: Mapping[str, str],
        workdir: str,
        log: Path,
        fence: Path | None = None,
        locks: Sequence[int] = (),
    ) -> None:
        """Start it; returns long before it is ready, and it can be spoken to at once.

        It holds the descriptors ``locks`` for as long as it lives, as it holds the fence.
        """
        self.loaded = False
        self.complaint: str | None = None
        self.group: int | None = None
        self.joined: dict[int, bytes] = {}
        self.doomed = False
        self._tail = b""
        ours, theirs = socket.socketpair()
        with theirs, _append(log) as output:
            try:
                with held(fence) as fences:
                    inherited = (theirs.fileno(), *fences, *locks)
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

    def bury(self) -> tuple[int, list[Message]]:
        """Wait for a process that is ending, and end what it leaves; returns its exit code and its last words."""
        self.wait(_EXIT_SECONDS)  # one that closed its socket and lives on can't be spoken to any more
        # Nothing can be said from here on, so no child can announce its group to deaf ears.
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
        except subprocess.TimeoutExpired:  # the kernel itself can't end it now; its slot needn't wait for that
            code = -signal.SIGKILL
        self._socket.close()
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
        return code, messages

    def wait(self, seconds: float) -> None:
        """Give it up to so many seconds to end."""
        if self._handle is None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(max(0.0, seconds))
            return
        # It stays unburied, so that no other process can be given its number before its group is killed.
        poll = select.poll()
        poll.register(self._handle, select.POLLIN)
        poll.poll(max(0.0, seconds) * 1000)

    def hang_up(self) -> None:
        """End the conversation: an idle worker leaves by itself."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def kill(self, number: int) -> None:
        """Send a signal to the worker, its children, and the job's own group."""
        for group in {self.pid, self.group or self.pid}:
            _signal(group, number)
        self._signal_joined(number)

    def join(self, group: int) -> None:
        """Note that a process of the job runs in another process group."""
        self.joined[group] = warden.start_of(group)

    def kill_job(self) -> None:
        """End the job in work at once: its own group, which the worker then tells; else the worker itself."""
        if self.group is not None:
            _signal(self.group, signal.SIGKILL)
            self._signal_joined(signal.SIGKILL)
            _signal(self.pid, signal.SIGCONT)  # somebody may have stopped it, and then it couldn't tell
        else:
            self.doomed = True
            self.kill(signal.SIGKILL)

    def _signal_joined(self, number: int) -> None:
        for group, start in self.joined.items():
            if not warden.is_other(group, start):
                _signal(group, number)


class WardenProcess:
    """The warden, started anew if somebody killed it; see `ashwood.backends.local.warden`."""

    def __init__(self, grace: float = warden.GRACE) -> None:
        """Start it; should this process die, it gives others ``grace`` seconds to leave."""
        self._grace = grace
        self._groups: set[int] = set()
        self._start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def watch(self, group: int) -> None:
        """See to it that a process group ends when this driver does."""
        self._groups.add(group)
        self._tell(f"+{group}\n")

    def forget(self, group: int) -> None:
        """The group has ended."""
        self._groups.discard(group)
        self._tell(f"-{group}\n")

    def close(self) -> None:
        """End it, and what it still watches."""
        os.close(self._pipe)
        self._process.wait()

    def _start(self) -> None:
        theirs, self._pipe = os.pipe()
        os.set_blocking(self._pipe, False)
        try:
            self._process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-I", "-S", warden.__file__, str(os.getpid()), str(self._grace)],
                stdin=theirs,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        finally:
            os.close(theirs)

    def _tell(self, lines: str) -> None:
        try:
            os.write(self._pipe, lines.encode())
        except (BrokenPipeError, BlockingIOError):  # it is dead, or so far behind that it must be stopped
            self._process.kill()
            self.close()
            self._start()
            with suppress(BrokenPipeError):  # killed again: the next word starts another
                os.write(self._pipe, "".join(f"+{group}\n" for group in self._groups).encode())


def _signal(group: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _append(log: Path) -> IO[bytes]:
    try:
        return open_to_append(log)
    except OSError:  # a full disk costs output, never a result
        return open(os.devnull, "ab")  # noqa: PTH123


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
