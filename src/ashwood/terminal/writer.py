"""The thread that writes the output of a driver, so that a slow reader of the output cannot block the driver."""

from __future__ import annotations

import io
import os
import select
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import TextIO, cast

from ashwood.terminal.text import say

_FAR_BEHIND = 100
"""Number of waiting messages from which on lines are left out."""
_GRACE = 1.0
"""Seconds to wait for the output after Ctrl-C."""


class Writer:
    """A thread that writes to standard output and standard error, in the order of the calls.

    The queue has no limit. It holds at most the text of the event log, and the driver keeps the reports of all trials
    in memory anyway. With a limit, lines of JSON would be lost or the driver would block.

    Attributes:
        out: standard output.
        err: standard error.
    """

    def __init__(self) -> None:
        self.out = _unbuffered(sys.stdout)
        self.err = _unbuffered(sys.stderr)
        # put() of SimpleQueue is reentrant, so a signal handler can call it even while it interrupts a put().
        self._queue = SimpleQueue[Callable[[], object] | None]()
        self._thread = threading.Thread(target=self._work, name="ashwood-writer", daemon=True)

    def start(self) -> None:
        """Start the thread, which first writes what is already in the queue."""
        self._thread.start()

    def call(self, write: Callable[[], object]) -> None:
        """Queue a function that writes.  This never blocks, and is safe in a signal handler."""
        self._queue.put(write)

    def echo(self, text: str, *, err: bool = False) -> None:
        """Queue a line.  This never blocks, and is safe in a signal handler."""
        self.call(partial(say, text, file=self.err if err else self.out))

    @property
    def is_far_behind(self) -> bool:
        """Whether the reader is so slow that progress lines, which would be outdated, should be left out."""
        return self._queue.qsize() > _FAR_BEHIND

    def close(self) -> None:
        """Wait until everything is written.  Ctrl-C ends the wait, because the output may never be read."""
        self._queue.put(None)
        try:
            self._thread.join()
        except KeyboardInterrupt:
            self._thread.join(_GRACE)  # Enough to write everything if something reads the output.

    def _work(self) -> None:
        while (write := self._queue.get()) is not None:
            # A terminal or pipe that was closed must not end the search.
            with suppress(OSError, ValueError):
                write()


class _Unbuffered(io.TextIOBase):
    """A stream that writes to the file descriptor of another one without taking the lock of its buffer.

    A thread that is blocked in a write holds that lock, and Python aborts if it can't take it at exit.
    """

    def __init__(self, stream: io.TextIOWrapper) -> None:
        stream.flush()
        self._stream = stream
        self._descriptor = stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._descriptor

    def writable(self) -> bool:
        return True

    def write(self, text: str, /) -> int:
        if not isinstance(text, str):  # click tests whether a stream accepts bytes
            raise TypeError(f"a text stream accepts str, not {type(text).__name__}")
        data = text.encode(self.encoding, self._stream.errors or "backslashreplace")
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:  # another process has made the terminal or pipe non-blocking
                select.select([], [self._descriptor], [])
        return len(text)


def _unbuffered(stream: TextIO) -> TextIO:
    """Return a stream whose writes take no lock, or the same stream if it isn't buffered or not a real file."""
    if isinstance(stream, io.TextIOWrapper) and isinstance(stream.buffer, io.BufferedWriter):
        return cast("TextIO", _Unbuffered(stream))
    return stream
