"""The worker's side of the connections with the processes of a command; see `ashwood.trial.command`."""

from __future__ import annotations

import json
import os
import select
import selectors
import signal
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from ashwood.backends.local import reaper
from ashwood.backends.local.sockets import listen
from ashwood.trial.channel import Channel, Message, encode
from ashwood.trial.command import RANKS, VARIABLE
from ashwood.trial.job import WorkerJob

_CHUNK = 1 << 16
_GRACE = 30.0
"""Seconds that a command gets to end by itself after a process of a rank died, or after rank 0 has ended."""
_TERMINATION = 5.0
"""Seconds between SIGTERM, at which launchers end what they started, and SIGKILL."""
_KILL_SECONDS = 2.0
"""Seconds to wait until killed processes have ended, so that all their messages can be read."""
_SEND_SECONDS = 10
"""Seconds after which a message to a process that does not read is given up."""
_PASSED_ON = (b'["report",', b'["checkpoint",', b'["warning",', b'["alive",', b'["phase",')


class _Peer:
    """A process of the command that has connected.

    Attributes:
        handle: descriptor that becomes readable when the process ends, or None if there is none.
        rank: the rank that it has joined as, or None if it has not joined yet.
        number: the rank that the launcher assigned to it, or 0.
        is_numbered: whether the launcher assigned a rank to it.
        outcome: how the attempt ended in this process, or None if it has not ended there.
        tail: the beginning of a message whose rest has not arrived yet.
        waits: whether it waits for the next announcement of rank 0.
        announced: announcements of rank 0 that it has not received yet.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.pid = _process_of(sock)
        self.handle: int | None = None
        self.rank: int | None = None
        self.number = 0
        self.is_numbered = False
        self.outcome: Message | None = None
        self.tail = b""
        self.waits = False
        self.announced: deque[Message] = deque()

    def send(self, *message: object) -> None:
        """Send a message.  Errors are ignored: reading from a dead process shows that it is dead."""
        with suppress(OSError):
            self.socket.sendall(encode(message).encode() + b"\n")


class CommandServer:
    """Serves the processes of one run of a command.

    Attributes:
        path: the socket, for `ashwood.trial.command.VARIABLE`.
        outcome: how the attempt ended in the process of rank 0, or None if that is unknown.
        error: the exception that ended a process, as a last message of the job, or None.
        lost: error message if a process of a rank ended without an outcome, or None.
        gave_up: whether the command was ended because it did not end by itself.
    """

    def __init__(self, channel: Channel, job: WorkerJob, pending: Iterable[Message], locks: Sequence[int]) -> None:
        """Listen.

        Args:
            channel: the connection with the driver.
            job: what to train.
            pending: messages of the driver that were read already and belong to the job.
            locks: descriptors that every process holds for as long as it lives.

        Raises:
            OSError: the socket could not be created.
        """
        self.outcome: Message | None = None
        self.error: Message | None = None
        self.lost: str | None = None
        self.gave_up = False
        self._channel = channel
        self._job = job
        self._locks = locks
        self._from_driver = [message for message in pending if message[0] != "best"]
        self._best = [message for message in pending if message[0] == "best"][-1:]
        self._listener, self.path = listen()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._peers: list[_Peer] = []
        self._ranks: dict[int, _Peer] = {}
        self._announced: deque[Message] = deque()
        self._groups: dict[int, bytes] = {}
        self._process = 0
        self._started = False
        self._relays = False
        self._deadline: float | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        Path(self.path).unlink(missing_ok=True)
        for peer in list(self._peers):
            self._close(peer)
        self._listener.close()
        self._selector.close()

    def unused(self, used: int) -> list[Message]:
        """Return the driver's messages beyond the first ``used``."""
        return self._from_driver[used:]

    # -- while it runs ------------------------------------------------------------------------

    def serve(self, process: int) -> None:
        """Serve until the command, a child of this process in a group of its own, has ended; the caller reaps it."""
        self._process = process
        handle = _exit_handle(process)
        if handle is None:
            return
        self._selector.register(handle, selectors.EVENT_READ, None)
        try:
            ended = False
            while not ended:
                for key, _ in self._selector.select(self._patience()):
                    if key.data is None:
                        ended = True
                    else:
                        key.data()
                self._end_late_command()
        finally:
            self._selector.unregister(handle)
            os.close(handle)

    def finish(self, killed: bool) -> None:
        """Kill the processes that have left the command's group, and read the last messages of all.

        Args:
            killed: whether a signal ended the command, so that a launcher could not end what it had started.
        """
        self._process = 0
        self._deadline = None
        reaper.signal_groups(self._groups)
        if killed or self._groups:
            _kill_ranks(self.path)
        deadline = time.monotonic() + _KILL_SECONDS
        for peer in list(self._peers):
            if peer.handle is not None:
                select.select([peer.handle], [], [], max(0.0, deadline - time.monotonic()))
            while self._read(peer):
                pass

    def _patience(self) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def _end_late_command(self) -> None:
        if self._deadline is None or time.monotonic() < self._deadline:
            return
        number = signal.SIGKILL if self.gave_up else signal.SIGTERM
        self.gave_up = True
        self._deadline = time.monotonic() + _TERMINATION
        reaper.signal_group(self._process, number)

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:  # The process has ended already, or this process has no descriptors left.
            return
        # A process that does not read, perhaps because it is stopped, must not block this process.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", _SEND_SECONDS, 0))
        peer = _Peer(sock)
        data = encode(["job", self._job]).encode() + b"\n"
        try:
            # The descriptors of the locks go over the socket, because launchers may close inherited descriptors.
            sent = socket.send_fds(sock, [data], self._locks) if self._locks else 0
            sock.sendall(data[sent:])
        except OSError:
            sock.close()
            return
        self._peers.append(peer)
        self._selector.register(sock, selectors.EVENT_READ, lambda: self._read(peer))

    def _read(self, peer: _Peer) -> bool:
        """Handle the messages of a process, and return whether there may be more."""
        if peer not in self._peers:  # The connection was closed earlier in this round of the selector.
            return False
        try:
            data = peer.socket.recv(_CHUNK, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self._lose(peer)
            return False
        *lines, peer.tail = (peer.tail + data).split(b"\n")
        passed_on = []
        for line in lines:
            if line.startswith(_PASSED_ON):
                passed_on.append(line)
                continue
            # Messages for the driver are forwarded in batches.  A batch is sent before the next other message is
            # handled, because that may send something to the driver, and the order of messages matters.
            if passed_on:
                self._pass_on(passed_on)
            with suppress(ValueError):  # Forks that share the connection may have mixed their messages.
                self._take(peer, json.loads(line))
        if passed_on:
            self._pass_on(passed_on)
        return True

    def _pass_on(self, lines: list[bytes]) -> None:
        self._channel.send_lines(b"\n".join(lines) + b"\n")
        lines.clear()

    def _take(self, peer: _Peer, message: Message) -> None:
        match message:
            case ["hello", rank, process]:
                peer.is_numbered = rank is not None
                self._greet(peer, rank or 0, process)
            case ["join"]:
                self._join(peer)
            case ["announce", announcement]:
                for queue in (self._announced, *(other.announced for other in self._ranks.values() if other.rank)):
                    _append(queue, announcement)
                self._answer_waiting()
            case ["next"]:
                peer.waits = True
                self._answer_waiting()
            case ["outcome", outcome, is_error]:
                self._conclude(peer, outcome, is_error)

    def _greet(self, peer: _Peer, rank: int, process: int) -> None:
        peer.number = rank
        peer.pid = peer.pid or process
        with suppress(OSError):  # A process in a container may have no number here.
            peer.handle = _exit_handle(peer.pid)
        if peer.handle is not None:
            # The end of the connection does not show that the process has ended: its forks may hold the connection
            # open.
            self._selector.register(peer.handle, selectors.EVENT_READ, lambda: self._see_end(peer))
        with suppress(ProcessLookupError, PermissionError):
            group = os.getpgid(peer.pid)
            if group not in (self._process, os.getpgid(0)) and group not in self._groups:
                # Launchers may start each process in a session of its own.  A signal to the command's process group
                # does not reach it, so the driver and this process must know its group.
                self._groups[group] = reaper.start_of(group)
                self._channel.send("joined", group)
        if rank == 0 and not self._started:
            self._started = True
            self._channel.send("started", self._job.length)

    def _join(self, peer: _Peer) -> None:
        holder = self._ranks.get(peer.number)
        if holder is None:
            # A process without a rank from a launcher trains alone.  It announces no steps, so no other rank can
            # follow.
            holder = next((other for other in self._ranks.values() if other.is_numbered != peer.is_numbered), None)
        if holder is not None:
            peer.send("refused", holder.pid, holder.number)
            return
        self._ranks[peer.number] = peer
        peer.rank = peer.number
        peer.send("joined")
        if peer.rank:
            peer.announced.extend(self._announced)
            if self._leader_has_concluded() or self.error is not None or self.lost is not None:
                self._expect_end()
            return
        for message in (*self._from_driver, *self._best):
            peer.send(*message)
        self._relays = True
        self._selector.register(self._channel, selectors.EVENT_READ, self._relay)
        self._relay()

    def _relay(self) -> None:
        """Pass messages of the driver on to rank 0."""
        if not self._relays:
            return
        leader = self._ranks[0]
        while message := self._channel.poll():
            if message[0] != "best":
                self._from_driver.append(message)
            leader.send(*message)
        if self._channel.gone:
            self._stop_relaying()
            with suppress(OSError):  # So rank 0 notices that the driver is gone, and saves.
                leader.socket.shutdown(socket.SHUT_WR)

    def _stop_relaying(self) -> None:
        if self._relays:
            self._relays = False
            self._selector.unregister(self._channel)

    def _answer_waiting(self) -> None:
        for peer in self._ranks.values():
            if not peer.waits:
                continue
            if peer.announced:
                peer.waits = False
                peer.send("announced", list(peer.announced))
                peer.announced.clear()
            elif self._leader_has_concluded():
                peer.waits = False
                peer.send("over")

    # -- the end of the command ---------------------------------------------------------------

    def _leader_has_concluded(self) -> bool:
        return 0 in self._ranks and self._ranks[0].outcome is not None

    def _conclude(self, peer: _Peer, outcome: Message, is_error: bool) -> None:
        peer.outcome = outcome
        if is_error and self.error is None and (peer.number or 0 not in self._ranks or peer.rank == 0):
            self.error = outcome if peer.number == 0 else _of_rank(peer.number, outcome)
        if peer.rank == 0:
            self.outcome = outcome
            self._stop_relaying()
            self._answer_waiting()
        elif peer.number == 0 and 0 not in self._ranks and (self.outcome is None or outcome[0] != "AttemptFailed"):
            self.outcome = outcome  # This outcome counts unless another process joins as rank 0 later.
        if peer.rank is not None and (peer.rank == 0 or is_error):
            self._expect_end()

    def _see_end(self, peer: _Peer) -> None:
        while self._read(peer):
            pass
        if peer in self._peers:
            self._lose(peer)

    def _lose(self, peer: _Peer) -> None:
        """Handle the end of a process, or of its connection."""
        self._close(peer)
        if peer.rank is None or peer.outcome is not None or (peer.rank and self._leader_has_concluded()):
            return
        if peer.rank == 0:
            self._stop_relaying()
            self.outcome = None
        if self.lost is None:
            self.lost = f"the process of rank {peer.rank} (process {peer.pid}) was killed or called os._exit()"
        self._expect_end()

    def _expect_end(self) -> None:
        """Start the time limit for the command to end by itself, if some of its ranks still train."""
        if self._process and self._deadline is None and any(other.outcome is None for other in self._living_ranks()):
            self._deadline = time.monotonic() + _GRACE

    def _living_ranks(self) -> Iterator[_Peer]:
        return (peer for peer in self._peers if peer.rank is not None)

    def _close(self, peer: _Peer) -> None:
        self._peers.remove(peer)
        self._selector.unregister(peer.socket)
        peer.socket.close()
        if peer.handle is not None:
            self._selector.unregister(peer.handle)
            os.close(peer.handle)
            peer.handle = None


def _exit_handle(process: int) -> int | None:
    """Return a descriptor that becomes readable when a process ends, or None if it has ended."""
    try:
        if sys.platform != "linux":
            return _kqueue_handle(process)
        return os.pidfd_open(process)
    except ProcessLookupError:
        return None


if sys.platform != "linux":

    def _kqueue_handle(process: int) -> int:
        queue = select.kqueue()
        try:
            event = select.kevent(process, select.KQ_FILTER_PROC, select.KQ_EV_ADD, select.KQ_NOTE_EXIT)
            queue.control([event], 0)
            return os.dup(queue.fileno())
        finally:
            queue.close()


def _process_of(sock: socket.socket) -> int:
    """Return the number of the process at the other end, as seen by this process, or 0 if it is unknown."""
    if sys.platform != "linux":
        return 0
    return int(struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0])


def _append(queue: deque[Message], announcement: Message) -> None:
    """Append an announcement to a queue, merged with the last one if possible.

    An announcement of steps replaces the last if no report is due between them.  Answers that a loop continues are
    counted in one announcement, because a loop may ask a million times.
    """
    if queue and queue[-1][:2] == announcement[:2] == ["stops", False]:
        announcement = ["stops", False, queue.pop()[2] + announcement[2]]
    if queue and queue[-1][0] == announcement[0] == "to" and queue[-1][1] == announcement[1] and not queue[-1][3]:
        queue.pop()
    queue.append(announcement)


def _of_rank(rank: int, outcome: Message) -> Message:
    # The error of a rank other than 0 may follow from a temporary error elsewhere, so its cause is left out.
    kind, error, *cause = outcome
    return [kind, f"rank {rank}: {error}", *(cause if kind == "StorageFailed" else ())]


def _kill_ranks(path: str) -> None:
    """Kill the processes of a command that have a rank from a launcher, also those that have not connected.

    They are found by the environment variables that they inherited: the path of the socket, and a rank.  Processes
    without a rank that have left the command's process group are daemons that may outlive the attempt.
    """
    own = f"{VARIABLE}={path}".encode()
    prefixes = tuple(f"{name}=".encode() for name in RANKS)
    with suppress(OSError):
        for process in [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]:
            with suppress(OSError):
                # The pidfd is opened before the environment is read, so the signal cannot reach another process that
                # got the same number meanwhile.
                handle = os.pidfd_open(process)
                try:
                    variables = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
                    if own in variables and any(variable.startswith(prefixes) for variable in variables):
                        signal.pidfd_send_signal(handle, signal.SIGKILL)
                finally:
                    os.close(handle)
