"""Room on the disk: whether there is some, and a reserve of it for the worst moment."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from pathlib import Path
from typing import Final

from ashwood.errors import DiskFull, EventLogError
from ashwood.trial.sharing import share

FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
"""The error numbers of a disk, or a quota of it, that is full."""

_RESERVE_BYTES: Final = 4 << 20
_PROBE_BYTES: Final = 1 << 20


class Ballast:
    """A file that only takes up room: thrown off when the disk is full, so that it can still be recorded why.

    As a context manager it takes the room, and gives it back in the end.
    """

    def __init__(self, path: Path, size: int = _RESERVE_BYTES) -> None:
        """Name the file and its size in bytes; nothing is done before `reserve`."""
        self._path = path
        self._size = size

    def reserve(self) -> None:
        """Take the room, if it isn't taken already.

        Raises:
            DiskFull: there isn't so much.
            EventLogError: the file can't be written.
        """
        try:
            if not self._path.exists() or self._path.stat().st_size < self._size:
                with self._path.open("wb") as file:
                    # Random, because zeros take no room where a file system compresses.
                    file.write(os.urandom(self._size))
                    file.flush()
                    os.fsync(file.fileno())
                share(self._path)
        except OSError as error:
            self.release()
            if error.errno in FULL:
                raise DiskFull(
                    f"there is less than {self._size / (1 << 20):g} MiB of room on the disk of {self._path.parent}: "
                    "free some space"
                ) from error
            raise EventLogError(f"can't write {self._path}: {error.strerror}; may you write there?") from error

    def release(self) -> None:
        """Free the room, where the disk lets it.  Idempotent."""
        # What is wrong with the disk is for others to tell: this is called when something else went wrong already.
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)

    def __enter__(self) -> Ballast:
        self.reserve()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def has_room(directory: Path) -> bool:
    """Whether a megabyte can be written there: trying is the only way to know, as quotas don't show in numbers."""
    try:
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(bytes(_PROBE_BYTES))
    except OSError as error:
        return error.errno not in FULL
    return True
