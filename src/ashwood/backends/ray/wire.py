"""The protocol between a driver and its workers on nodes: lines of JSON, over one socket per process of a worker.

Each line is a message: an array of its kind and its arguments.  The kind of an event or a command is
the name of its class, and the arguments are its fields.

==========================  ===========================================================
worker to driver
==========================  ===========================================================
hello TOKEN ABOUT           the first message; ABOUT holds the fields of `Hello`
EVENT FIELDS…               an event of an attempt, see `ashwood.experiment.events`
broken ERROR                the training code can't run on this node at all
log FILE TEXT               TEXT, one character per byte, is appended to a file of the experiment's logs
offer NAME TEXT             a checkpoint is complete; TEXT is its content, or null if the driver must fetch it
need NAME                   the worker needs a checkpoint
gone LEAVES                 the last message: the worker ends; LEAVES is whether files of it stay on its node
==========================  ===========================================================

==========================  ===========================================================
driver to worker
==========================  ===========================================================
COMMAND FIELDS…             see `ashwood.backends.port`
kept NAME                   the offered checkpoint is stored
refused NAME WHY CAUSE      it could not be stored; CAUSE is "full", "unreachable", or "" for other reasons
delivered NAME TEXT         the needed checkpoint; TEXT is its content, or null if it was written to the node already
missing NAME WHY CAUSE      it can't be delivered; CAUSE is one of the above, or "damaged"
welcome HOST PORT           the first message: all processes of the worker are connected; their rendezvous
leave                       end the running attempt at once, and exit
==========================  ===========================================================

If the connection ends without ``leave``, the driver has died.  A worker then saves its trial before it exits.
"""

from __future__ import annotations

import hmac
import json
import select
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, NamedTuple

from ashwood.backends.port import Command
from ashwood.experiment.events import Event

Message = list[Any]

_CHUNK = 1 << 18
_LONGEST_HELLO = 1 << 14
_KINDS: Final = {cls.__name__: cls for cls in (*Event.__args__, *Command.__args__)}
# A machine that loses power closes no connection.  TCP keepalive and TCP_USER_TIMEOUT let the kernel notice that, which
# works even if both processes are busy; heartbeats of our own would not.
_SILENCE_SECONDS = 8
_PROBE_SECONDS = 2

_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


class Hello(NamedTuple):
    """The first message of a worker process, by which it identifies itself.

    Attributes:
        worker: number of the worker.
        rank: rank of the process among those of the worker.
        node: name of its node, for messages to the user.
        node_id: Ray's id of the node.
        address: address of the node.
        port: a free port on the node.
        pid: process id on the node.
        ashwood: version of Ashwood.
        python: version of Python.
    """

    worker: int
    rank: int
    node: str
    node_id: str
    address: str
    port: int
    pid: int
    ashwood: str
    python: str


def packed(record: NamedTuple) -> Message:
    """Return an event or a command as a message."""
    return [type(record).__name__, *record]


def unpacked(message: Message) -> Any:
    """Return the event or command in a message, or None if the message is of another kind."""
    kind = _KINDS.get(message[0])
    return None if kind is None else kind(*message[1:])


class Wire:
    """One end of a connection between the driver and a worker process.

    Attributes:
        gone: whether the connection is known to have ended.
    """

    def __init__(self, sock: socket.socket, on_full: Callable[[bool], None] | None = None) -> None:
        """Take over a connected socket.

        Args:
            sock: the socket.
            on_full: callback that makes `send` never block, or None to let it block.  It is called with True when the
                socket's buffer is full.  From then on `flush` must be called whenever the socket is writable, and at
                least once per second, until the callback is called with False.
        """
        self.gone = False
        self._socket = sock
        self._tail = b""
        self._on_full = on_full
        self._unsent = bytearray()
        self._took_at = 0.0
        _notice_silence(sock)

    def fileno(self) -> int:
        """Return the socket's file descriptor, so that selectors accept this object."""
        return self._socket.fileno()

    def send(self, *messages: Message) -> None:
        """Send messages.  With `on_full`, messages that the socket cannot take now are buffered.

        If the other end takes nothing for 8 seconds, the connection is closed; `receive` then reports its end.
        """
        data = "".join(_encode(message) + "\n" for message in messages).encode()
        if self._on_full is None:
            try:
                self._socket.sendall(data)
            except OSError:
                self._give_up()
            return
        is_full = bool(self._unsent)
        self._unsent += data
        if not is_full:
            self._took_at = time.monotonic()
            self._push()
            if self._unsent:
                self._on_full(True)

    def flush(self) -> None:
        """Send as much of the buffered messages as the socket takes now."""
        if self._unsent and self._on_full is not None:
            self._push()
            if not self._unsent:
                self._on_full(False)

    def _push(self) -> None:
        try:
            while self._unsent:
                sent = self._socket.send(self._unsent, socket.MSG_DONTWAIT)
                del self._unsent[:sent]
                self._took_at = time.monotonic()
        except BlockingIOError:
            if time.monotonic() >= self._took_at + _SILENCE_SECONDS:
                self._abandon()
        except OSError:
            self._abandon()

    def _abandon(self) -> None:
        self._unsent.clear()
        self._give_up()

    def receive(self, *, wait: bool = False, seconds: float | None = None) -> list[Message]:
        """Return the messages that have arrived.

        Args:
            wait: whether to wait for at least one message, or for the end of the connection.
            seconds: longest wait, after which the connection counts as ended; None for no limit.
        """
        messages = self._complete()
        while not messages and self._read(wait, seconds):
            messages = self._complete()
        return messages

    def greeted(self, token: str) -> Hello | None:
        """Return the hello message of the other end, or None if it is not complete yet.

        Raises:
            PermissionError: the message is not valid, has another token, or the connection has ended.
        """
        self._read(wait=False, seconds=None)
        line, newline, rest = self._tail.partition(b"\n")
        if not newline and not self.gone and len(self._tail) <= _LONGEST_HELLO:
            return None
        with suppress(ValueError, TypeError, LookupError, AttributeError, RecursionError):
            kind, secret, about = json.loads(line)
            if kind == "hello" and hmac.compare_digest(secret.encode(), token.encode()):
                self._tail = rest
                return Hello(*about)
        raise PermissionError

    def _read(self, wait: bool, seconds: float | None) -> bool:
        """Read what has arrived, and return whether it was anything."""
        if seconds is not None and not self.gone and not select.select([self._socket], [], [], seconds)[0]:
            self.gone = True
        try:
            data = b"" if self.gone else self._socket.recv(_CHUNK, 0 if wait else socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        self.gone = not data
        self._tail += data
        return bool(data)

    def _complete(self) -> list[Message]:
        lines, newline, rest = self._tail.rpartition(b"\n")
        if not newline:
            return []
        self._tail = rest
        messages: list[Message] = json.loads(b"[%b]" % lines.replace(b"\n", b","))
        return messages

    def close(self) -> None:
        """End the connection."""
        self.gone = True
        self._give_up()
        self._socket.close()

    def _give_up(self) -> None:
        """End the connection, so that both ends read the data on its way and then the end of the stream."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)


def _notice_silence(sock: socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", _PROBE_SECONDS),
        ("TCP_KEEPINTVL", _PROBE_SECONDS),
        ("TCP_KEEPCNT", _SILENCE_SECONDS // _PROBE_SECONDS - 1),
        ("TCP_USER_TIMEOUT", _SILENCE_SECONDS * 1000),
    ):
        if hasattr(socket, name):  # Linux has all of them
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", _SILENCE_SECONDS, 0))
