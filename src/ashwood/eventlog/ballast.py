"""Room on the disk: whether there is some, and a reserve of it for the worst moment."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from pathlib import Path
from typing import Final, Protocol, runtime_checkable

from ashwood.errors import DiskFull, EventLogError
from ashwood.trial.sharing import share

FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
"""The error numbers of a disk, or a quota of it, that is full."""

_RESERVE_BYTES: Final = 4 << 20
_PROBE_BYTES: Final = 1 << 20


@runtime_checkable
class Reserve(Protocol):
    """Room on a disk that can be freed when the disk is full."""

    def reserve(self) -> None:
        """Take the room, if it is not taken already."""
        ...

    def release(self) -> None:
        """Free the room.  Idempotent."""
        ...


class Ballast:
    """A file that only takes up room: deleted when the disk is full, so that the reason can still be recorded.

    As a context manager it takes the room, and deletes the file in the end.
    """

    def __init__(self, path: Path, size: int = _RESERVE_BYTES, *, also: Reserve | None = None) -> None:
        """Name the file and its size in bytes; nothing is done before `reserve`.

        ``also`` is room on another disk, that of a database server.  It is freed together with the file if a disk is
        full, and stays when the context ends.
        """
        self._path = path
        self._size = size
        self._also = also

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
            self._delete()
            if error.errno in FULL:
                raise DiskFull(
                    f"there is less than {self._size / (1 << 20):g} MiB of room on the disk of {self._path.parent}: "
                    "free some space"
                ) from error
            raise EventLogError(f"can't write {self._path}: {error.strerror}; may you write there?") from error
        if self._also is not None:
            self._also.reserve()

    def release(self) -> None:
        """Free the room, where the disk lets it.  Idempotent."""
        self._delete()
        if self._also is not None:
            self._also.release()

    def _delete(self) -> None:
        # What is wrong with the disk is for others to tell: this is called when something else went wrong already.
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)

    def __enter__(self) -> Ballast:
        self.reserve()
        return self

    def __exit__(self, *_: object) -> None:
        self._delete()


def has_room(directory: Path) -> bool:
    """Whether a megabyte can be written there: trying is the only way to know, as quotas don't show in numbers."""
    try:
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(bytes(_PROBE_BYTES))
    except OSError as error:
        return error.errno not in FULL
    return True
