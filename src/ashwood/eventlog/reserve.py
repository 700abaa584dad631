"""Disk space: a check whether a disk is full, and a reserve file that is deleted if it is."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from pathlib import Path
from typing import Final, Protocol, runtime_checkable

from ashwood.checkpoints.sharing import share
from ashwood.errors import DiskFull, EventLogError

FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Error numbers of a full disk and of an exceeded disk quota."""

_RESERVE_BYTES: Final = 4 << 20
_PROBE_BYTES: Final = 1 << 20


@runtime_checkable
class Reserve(Protocol):
    """Disk space that can be freed when the disk is full."""

    def reserve(self) -> None:
        """Reserve the space.  Idempotent."""

    def release(self) -> None:
        """Free the space.  Idempotent."""


class ReserveFile:
    """A file that reserves disk space: it is deleted when the disk is full, so that the reason can be recorded.

    Use it as a context manager to write the file at the start and to delete it at the end.
    """

    def __init__(self, path: Path, size: int = _RESERVE_BYTES, *, also: Reserve | None = None) -> None:
        """Set the path and the size of the file in bytes; `reserve` writes it.

        ``also`` is a reserve on another disk, for example that of a database server.  `reserve` and `release` apply to
        both.  The end of the context deletes the file only, because other drivers share the other reserve.
        """
        self._path = path
        self._size = size
        self._also = also

    def reserve(self) -> None:
        """Write the file unless it exists and is large enough.

        Raises:
            DiskFull: there is not enough space.
            EventLogError: the file cannot be written.
        """
        try:
            if not self._path.exists() or self._path.stat().st_size < self._size:
                with self._path.open("wb") as file:
                    # Random bytes, because a file system that compresses would store zeros in almost no space.
                    file.write(os.urandom(self._size))
                    file.flush()
                    # Some file systems allocate blocks only when they write them, so a full disk may show only here.
                    os.fsync(file.fileno())
                share(self._path)
        except OSError as error:
            self._delete()
            if error.errno in FULL:
                raise DiskFull(
                    f"there is less than {self._size / (1 << 20):g} MiB of free space on the disk of "
                    f"{self._path.parent}: free some space"
                ) from error
            raise EventLogError(
                f"cannot write {self._path}: {error.strerror}; check that you may write to its directory"
            ) from error
        if self._also is not None:
            self._also.reserve()

    def release(self) -> None:
        """Delete the file, and free the other reserve, as far as possible.  Idempotent; raises nothing."""
        self._delete()
        if self._also is not None:
            self._also.release()

    def _delete(self) -> None:
        # This is called while another error is handled.  An error of its own would hide that one.
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)

    def __enter__(self) -> ReserveFile:
        self.reserve()
        return self

    def __exit__(self, *_: object) -> None:
        self._delete()


def has_room(directory: Path) -> bool:
    """Return whether 1 MiB can be written to a directory.

    It tries to write, because the number of free bytes that the system reports does not include disk quotas.
    """
    try:
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(bytes(_PROBE_BYTES))
    except OSError as error:
        return error.errno not in FULL
    return True
