"""Keep log files within their size limit while trials run."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path

from ashwood.checkpoints.limited import trim

_LOOK_SECONDS = 1.0
_LOOK_SOON_SECONDS = 0.1
"""Seconds until the next check after a log was trimmed, because its process may print very fast."""
_CLOSE_SECONDS = 10.0


class LogTrimmer:
    """A thread that checks the sizes of logs about once a second, and trims those that are too long.

    The engine's own thread does not do this, because a trim may write to the disk and take long.
    """

    def __init__(self, limit: int | None) -> None:
        """Make the object; the thread starts with the first log.

        Args:
            limit: greatest size of each log in bytes, or None for no limit.
        """
        self._limit = limit
        self._kept: set[Path] = set()
        self._sizes: dict[Path, int] = {}
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def keep(self, log: Path) -> None:
        """Check a log until `release` is called."""
        with self._lock:
            self._kept.add(log)
        self.look_at(log)

    def release(self, log: Path) -> None:
        """Check a log only as long as it grows.  A process that an attempt has left behind may still print."""
        with self._lock:
            self._kept.discard(log)
        self.look_at(log)

    def look_at(self, log: Path) -> None:
        """Check a log as long as it grows."""
        if self._limit is None:
            return
        with self._lock:
            self._sizes[log] = -1
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="ashwood-trimmer", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Check all logs once more, and end the thread.  Further calls do nothing."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join(_CLOSE_SECONDS)

    def _work(self) -> None:
        seconds = _LOOK_SECONDS
        while not self._closing.wait(seconds):
            seconds = _LOOK_SOON_SECONDS if self._look() else _LOOK_SECONDS
        self._look()

    def _look(self) -> bool:
        """Trim the logs that are too long, and return whether there was one."""
        trimmed = False
        with self._lock:
            logs = list(self._sizes)
        for log in logs:
            with suppress(OSError):  # The log does not exist yet, is not a regular file, or cannot be written.
                trimmed |= trim(log, self._limit or 0)
            size = _size_of(log)
            with self._lock:
                if size == self._sizes[log] and log not in self._kept:
                    del self._sizes[log]
                else:
                    self._sizes[log] = size
        return trimmed


def _size_of(log: Path) -> int:
    try:
        return log.lstat().st_size
    except OSError:
        return 0
