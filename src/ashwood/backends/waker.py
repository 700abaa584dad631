"""What ends the wait of a backend, from a signal handler or another thread."""

from __future__ import annotations

import socket
from contextlib import suppress


class Waker:
    """Something to wait on, which anybody can wake."""

    def __init__(self) -> None:
        self._ours, self._theirs = socket.socketpair()
        self._ours.setblocking(False)

    def fileno(self) -> int:
        """What to wait on."""
        return self._theirs.fileno()

    def wake(self) -> None:
        """Make it readable; safe to call from a signal handler."""
        with suppress(OSError):  # full: it is awake already
            self._ours.send(b"\0")

    def rest(self) -> None:
        """Take the wakes back that have come; it is readable."""
        self._theirs.recv(4096)

    def close(self) -> None:
        """No wake comes through any more."""
        self._ours.close()
        self._theirs.close()
