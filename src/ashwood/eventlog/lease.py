"""Two drivers never own one experiment: an operating-system lock that dies with its owner."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType

from ashwood.errors import ExperimentBusy


class Lease:
    """The right to drive an experiment, held while the context is open or until `release`."""

    def __init__(self, path: Path) -> None:
        """Take the lease.

        Raises:
            ExperimentBusy: another process holds it.
        """
        self._file: int | None = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(self._file, 64, 0).decode(errors="replace").strip() or "unknown"
            self.release()
            raise ExperimentBusy(f"another ashwood (process {owner}) is running this experiment") from None
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let go of it.  Idempotent."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def is_leased(path: Path) -> bool:
    """Whether a living process holds the lease."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(file)
