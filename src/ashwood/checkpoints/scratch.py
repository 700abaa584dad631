"""Temporary directories that are removed even if the process that created them is killed."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ashwood.checkpoints.trees import remove_tree


@contextmanager
def scratch() -> Iterator[Path]:
    """Yield an empty directory below ``TMPDIR``, and remove it at the end.

    The process holds a lock on the directory.  Directories without a lock were left by killed processes; they are
    removed by the next call in any process.
    """
    base = _base()
    whole = os.open(base, os.O_RDONLY)
    try:
        # Between mkdtemp() and flock(), the new directory has no lock, and another process would remove it.  So only
        # the process that has locked the base directory may create or remove directories in it.
        fcntl.flock(whole, fcntl.LOCK_EX)
        _sweep(base)
        directory = Path(tempfile.mkdtemp(dir=base))
        held = os.open(directory, os.O_RDONLY)
        fcntl.flock(held, fcntl.LOCK_EX)
    finally:
        os.close(whole)
    try:
        yield directory
    finally:
        remove_tree(base, directory.name, ignore_errors=True)
        os.close(held)
        if base.name != _name():
            remove_tree(base.parent, base.name, ignore_errors=True)


def private_directory(path: Path) -> Path:
    """Create a directory that only this user can use, if it does not exist, and return it.

    Raises:
        PermissionError: another user has created it, or others may use it, and could replace the files in it.
    """
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError(
            errno.EPERM,
            f"{path} must be a directory that only you can use, but is not: remove it, or set TMPDIR to another one",
        )
    return path


def _base() -> Path:
    try:
        return private_directory(Path(tempfile.gettempdir(), _name()))
    except PermissionError:
        return Path(tempfile.mkdtemp(prefix="ashwood-"))


def _name() -> str:
    return f"ashwood-{os.getuid()}"


def _sweep(base: Path) -> None:
    for directory in base.iterdir():
        try:
            handle = os.open(directory, os.O_RDONLY)
        except FileNotFoundError:  # The process that uses the directory has removed it meanwhile.
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove_tree(base, directory.name, ignore_errors=True)
        except BlockingIOError:
            continue
        finally:
            os.close(handle)
