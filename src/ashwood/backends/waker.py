"""End the wait of a backend from a signal handler or another thread."""

from __future__ import annotations

import socket
from contextlib import suppress


class Waker:
    """A pair of sockets: one end can be waited on, and a byte sent to the other ends the wait."""

    def __init__(self) -> None:
        self._ours, self._theirs = socket.socketpair()
        self._ours.setblocking(False)

    def fileno(self) -> int:
        """Return the descriptor to wait on, so that selectors take this object."""
        return self._theirs.fileno()

    def wake(self) -> None:
        """Make the descriptor readable.  It is safe to call this from a signal handler."""
        # The socket does not block.  Otherwise a signal handler could wait for ever for the thread that it interrupts.
        # If the buffer is full, the descriptor is readable already.
        with suppress(OSError):
            self._ours.send(b"\0")

    def drain(self) -> None:
        """Read the bytes of all wakes so far.  The descriptor must be readable."""
        self._theirs.recv(4096)

    def close(self) -> None:
        """Close both sockets.  Later calls of `wake` do nothing."""
        self._ours.close()
        self._theirs.close()
