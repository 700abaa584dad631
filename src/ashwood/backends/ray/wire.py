"""The wire between a driver and its workers on other machines: JSON, a message a line, over one socket each.

A message is an array: its kind, then its arguments.  Events and commands travel under the names
of their classes, with their fields.

==========================  ===========================================================
worker to driver
==========================  ===========================================================
hello TOKEN ABOUT           the first message; ABOUT holds the fields of `Hello`
EVENT FIELDS…               an event of an attempt, see `ashwood.experiment.events`
broken ERROR                the training code can't run here at all
log FILE TEXT               appended to a file of the experiment's logs; a character a byte
offer NAME TEXT             a complete checkpoint is here, to be fetched; TEXT: this is all of it, or null
need NAME                   a checkpoint is wanted here
gone LEAVES                 nothing more will come: the worker leaves, and LEAVES files on its node or not
==========================  ===========================================================

==========================  ===========================================================
driver to worker
==========================  ===========================================================
COMMAND FIELDS…             see `ashwood.backends.port`
kept NAME                   the checkpoint that was offered is safe
refused NAME WHY CAUSE      it isn't; CAUSE: "full", "unreachable", or "" for neither
delivered NAME TEXT         the checkpoint that was wanted is there; TEXT: this is all of it, or null
missing NAME WHY CAUSE      it can't be had; CAUSE: as above, or "damaged" for never
welcome HOST PORT           the first message: all processes of the worker are there, and can meet at that port
leave                       end what runs, at once, and go
==========================  ===========================================================

A driver that goes without a word is one that died: then workers save first.
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
# A machine that lost its power says nothing; the kernel finds that out, however busy both processes are.
_SILENCE_SECONDS = 8
_PROBE_SECONDS = 2

_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


class Hello(NamedTuple):
    """What a worker says of itself.

    Attributes:
        worker: which of the driver's workers it is.
        rank: which of the processes that work on one trial together.
        node: its machine, for people.
        node_id: its machine, for Ray.
        address: its machine, for other machines.
        port: one that is free there.
        pid: its process, on that machine.
        ashwood: the version of Ashwood.
        python: the version of Python.
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
    """An event or a command as a message."""
    return [type(record).__name__, *record]


def unpacked(message: Message) -> Any:
    """The event or command in a message; None: it is another kind of message."""
    kind = _KINDS.get(message[0])
    return None if kind is None else kind(*message[1:])


class Wire:
    """One end of a connection.

    Attributes:
        gone: whether the other end is known to be gone.
    """

    def __init__(self, sock: socket.socket, on_full: Callable[[bool], None] | None = None) -> None:
        """Take over a connected socket.

        Args:
            sock: the socket.
            on_full: makes `send` return at once. It is called with True when the socket takes no more, from when on
                `flush` must be called whenever the socket is writable and at least once a second, and with False
                when all is sent. None: `send` blocks.
        """
        self.gone = False
        self._socket = sock
        self._tail = b""
        self._on_full = on_full
        self._unsent = bytearray()
        self._took_at = 0.0
        _notice_silence(sock)

    def fileno(self) -> int:
        """The socket's descriptor, to wait on."""
        return self._socket.fileno()

    def send(self, *messages: Message) -> None:
        """Send messages; an end that takes nothing for 8 seconds is given up, which is read like any other end."""
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
        """Send what the socket takes now of the messages that it did not take before."""
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
        """The messages that have come since; with ``wait``, at least one, unless the other end is gone.

        An end that says nothing for ``seconds`` is taken to be gone.
        """
        messages = self._complete()
        while not messages and self._read(wait, seconds):
            messages = self._complete()
        return messages

    def greeted(self, token: str) -> Hello | None:
        """Who is at the other end; None: it hasn't said all of it.

        Raises:
            PermissionError: it is nobody of ours, or gone.
        """
        self._read(wait=False, seconds=None)
        line, newline, rest = self._tail.partition(b"\n")
        if not newline and not self.gone and len(self._tail) <= _LONGEST_HELLO:
            return None
        with suppress(ValueError, TypeError, LookupError, AttributeError, RecursionError):
            kind, said, about = json.loads(line)
            if kind == "hello" and hmac.compare_digest(said.encode(), token.encode()):
                self._tail = rest
                return Hello(*about)
        raise PermissionError

    def _read(self, wait: bool, seconds: float | None) -> bool:
        """Read what is there; returns whether there was anything."""
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
        """Let both ends read what is on its way, and then the end."""
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
