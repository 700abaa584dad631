"""Opening files that training code, or others who may write the home, can replace by something else.

A link could lead anywhere, and opening a pipe could wait for ever, so both are refused.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from ashwood.trial.sharing import share

_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def open_to_read(path: str | Path) -> BinaryIO:
    """Open a regular file to read bytes, without following a link and without waiting.

    Raises:
        OSError: it cannot be opened, or is a link, a pipe, a device or a directory.
    """
    return os.fdopen(_open(path, os.O_RDONLY), "rb")


def open_to_append(path: str | Path) -> BinaryIO:
    """Open a regular file to append bytes, made if it does not exist, as `open_to_read` does."""
    descriptor = _open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    share(Path(path))
    return os.fdopen(descriptor, "ab")


def open_lock(path: str | Path) -> int:
    """Return a descriptor of a regular file that all users of the machine lock, made if it does not exist.

    It is opened to write, too, unless only its owner may write it.

    Raises:
        OSError: as for `open_to_read`.
    """
    while True:
        try:
            try:
                descriptor = _open(path, os.O_RDWR)
            except PermissionError:
                descriptor = _open(path, os.O_RDONLY)
            if os.fstat(descriptor).st_nlink > 1:  # It may be any file of this user, which another user has linked.
                os.close(descriptor)
                raise _not_regular(path)
            return descriptor
        except FileNotFoundError:
            # With O_EXCL: in a sticky directory, Linux may refuse to open another user's file with O_CREAT.
            with suppress(FileExistsError):
                descriptor = _open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
                os.fchmod(descriptor, 0o666)
                return descriptor


def open_to_change(path: str | Path) -> BinaryIO:
    """Open a regular file that exists to read and write bytes anywhere in it, as `open_to_read` does."""
    return os.fdopen(_open(path, os.O_RDWR), "r+b")


def _open(path: str | Path, flags: int) -> int:
    try:
        descriptor = os.open(path, flags | _FLAGS, 0o644)
    except OSError as error:
        # A link; a pipe that nothing reads, or a socket.
        if error.errno in (errno.ELOOP, errno.EMLINK, errno.ENXIO):
            raise _not_regular(path) from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _not_regular(path)
    return descriptor


def _not_regular(path: str | Path) -> OSError:
    return OSError(errno.EINVAL, "is not a regular file (but a link, a pipe or a device)", os.fspath(path))
