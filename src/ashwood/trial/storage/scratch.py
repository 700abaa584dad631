"""Temporary directories that vanish with the process that made them, however it ends."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ashwood.trial.storage.trees import remove_tree


@contextmanager
def scratch() -> Iterator[Path]:
    """An empty directory below ``TMPDIR``, removed at the end; one that a killed process left, by the next to come."""
    base = _base()
    whole = os.open(base, os.O_RDONLY)
    try:
        fcntl.flock(whole, fcntl.LOCK_EX)  # so that nobody takes the new one for left, before it is locked itself
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


def _base() -> Path:
    base = Path(tempfile.gettempdir(), _name())
    with suppress(FileExistsError):
        base.mkdir(mode=0o700)
    if base.is_symlink() or base.stat().st_uid != os.getuid():  # another user was there first
        return Path(tempfile.mkdtemp(prefix="ashwood-"))
    return base


def _name() -> str:
    return f"ashwood-{os.getuid()}"


def _sweep(base: Path) -> None:
    for directory in base.iterdir():
        try:
            handle = os.open(directory, os.O_RDONLY)
        except FileNotFoundError:  # its owner was faster
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove_tree(base, directory.name, ignore_errors=True)
        except BlockingIOError:
            continue
        finally:
            os.close(handle)
