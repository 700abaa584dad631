"""The thread that writes the output of a driver, so that nothing that reads the output can halt the driver."""

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

from ashwood.cli.text import say

_FAR_BEHIND = 100
"""Messages that wait."""
_GRACE = 1.0
"""Seconds after Ctrl-C."""


class Writer:
    """Writes to standard output and standard error from a thread, in the order in which it is asked to.

    The queue has no bound. What waits in it is at most the text of the event log, and the driver keeps
    the reports of all trials in memory anyway. A bound would mean to lose lines of JSON or to halt the driver.

    Attributes:
        out: standard output.
        err: standard error.
    """

    def __init__(self) -> None:
        self.out = _unbuffered(sys.stdout)
        self.err = _unbuffered(sys.stderr)
        # Its put() is reentrant: a signal handler can call it, whatever it interrupts.
        self._queue = SimpleQueue[Callable[[], object] | None]()
        self._thread = threading.Thread(target=self._work, name="ashwood-writer", daemon=True)

    def start(self) -> None:
        """Begin to write, what was asked for earlier first."""
        self._thread.start()

    def call(self, write: Callable[[], object]) -> None:
        """Have the thread call a function that writes. Never blocks, and is safe in a signal handler."""
        self._queue.put(write)

    def echo(self, text: str, *, err: bool = False) -> None:
        """Have the thread write a line. Never blocks, and is safe in a signal handler."""
        self.call(partial(say, text, file=self.err if err else self.out))

    @property
    def is_far_behind(self) -> bool:
        """Whether the reader is so slow that lines about the past moment should be left out."""
        return self._queue.qsize() > _FAR_BEHIND

    def close(self) -> None:
        """Wait until everything is written; Ctrl-C ends the wait, for the case that the output is never read."""
        self._queue.put(None)
        try:
            self._thread.join()
        except KeyboardInterrupt:
            self._thread.join(_GRACE)  # Enough to write everything if something reads the output.

    def _work(self) -> None:
        while (write := self._queue.get()) is not None:
            # The terminal or pipe can be gone or closed. That must not end the search.
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
        if not isinstance(text, str):  # click tries whether a stream takes bytes
            raise TypeError(f"text, not {type(text).__name__}")
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
