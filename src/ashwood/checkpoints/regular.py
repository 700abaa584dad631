"""Open regular files at paths where training code or other users may have placed something else.

A symbolic link could lead to any file, and opening a pipe could wait for ever, so both are refused.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from ashwood.checkpoints.sharing import share

# O_NONBLOCK: opening a pipe for reading returns at once, even if no process has it open for writing.
_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def open_to_read(path: str | Path) -> BinaryIO:
    """Open a regular file to read bytes, without following a link and without waiting.

    Raises:
        OSError: the file cannot be opened, or is a link, a pipe, a device or a directory.
    """
    return os.fdopen(_open(path, os.O_RDONLY), "rb")


def open_to_append(path: str | Path) -> BinaryIO:
    """Open a regular file to append bytes, as `open_to_read` does; it is created if it does not exist."""
    # With O_APPEND, each write goes to the end that the file has at that moment.  So several processes can append to a
    # log, and they continue at its new end after it was trimmed.
    descriptor = _open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    share(Path(path))
    return os.fdopen(descriptor, "ab")


def open_lock(path: str | Path) -> int:
    """Return a descriptor of a lock file for all users of the machine, which is created if it does not exist.

    It is open for reading and writing, or only for reading if this user may not write it.

    Raises:
        OSError: as for `open_to_read`.
    """
    while True:
        try:
            try:
                descriptor = _open(path, os.O_RDWR)
            except PermissionError:
                descriptor = _open(path, os.O_RDONLY)
            # In a directory like /tmp, another user can create a hard link to a file of this user under the name of the
            # lock file.  Then the lock's content would be written into that file.
            if os.fstat(descriptor).st_nlink > 1:
                os.close(descriptor)
                raise _not_regular(path)
            return descriptor
        except FileNotFoundError:
            # O_CREAT is used only together with O_EXCL: in a sticky directory, Linux may refuse to open another user's
            # file with O_CREAT (fs.protected_regular).
            with suppress(FileExistsError):
                descriptor = _open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
                os.fchmod(descriptor, 0o666)
                return descriptor


def open_to_change(path: str | Path) -> BinaryIO:
    """Open an existing regular file to read and write bytes anywhere in it, as `open_to_read` does."""
    return os.fdopen(_open(path, os.O_RDWR), "r+b")


def _open(path: str | Path, flags: int) -> int:
    try:
        descriptor = os.open(path, flags | _FLAGS, 0o644)
    except OSError as error:
        # ELOOP and EMLINK: it is a symbolic link.  ENXIO: it is a socket, or a pipe that no process reads.
        if error.errno in (errno.ELOOP, errno.EMLINK, errno.ENXIO):
            raise _not_regular(path) from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _not_regular(path)
    return descriptor


def _not_regular(path: str | Path) -> OSError:
    return OSError(errno.EINVAL, "is not a regular file (but a link, a pipe or a device)", os.fspath(path))
