"""Publish, sync, measure and remove directories.  No other module removes directory trees."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def remove_tree(top: Path, name: str, *, ignore_errors: bool = False) -> None:
    """Remove a file, link or directory tree with a given name from a directory.  The target of a link stays.

    ``top`` belongs to Ashwood, but the name may come from a database, a file or a bundle.  It must be a single path
    component, so that nothing outside of ``top`` can be removed.

    Args:
        top: the directory that contains it.
        name: its name in ``top``.  If nothing has this name, nothing happens.
        ignore_errors: whether to ignore errors of the file system.

    Raises:
        ValueError: the name is not a single path component.
        OSError: the file or directory cannot be removed.
    """
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise ValueError(f"{name!r} is not the name of a file in {top}")
    path = top / name
    try:
        if path.is_symlink() or not path.is_dir():
            path.unlink(missing_ok=True)
        else:
            import shutil  # imported here, because it is slow to import and many workers remove nothing

            shutil.rmtree(path, ignore_errors=ignore_errors)  # noqa: TID251
    except OSError:
        if not ignore_errors:
            raise


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yield an empty directory to fill, and rename it to ``path`` if the context ends without an error.

    So ``path`` is never incomplete.  What a killed process left is removed by the next call for the same path.
    """
    unfinished = path.with_name(f".writing-{path.name}")
    remove_tree(path.parent, unfinished.name, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
        unfinished.rename(path)
    finally:
        remove_tree(path.parent, unfinished.name, ignore_errors=True)


def sync(path: Path) -> None:
    """Write a file or the entries of a directory to the disk, so that they survive a power loss."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def size_of_tree(directory: Path) -> int:
    """Return the total size in bytes of all files below a directory; links are not followed."""
    size = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            with suppress(OSError):  # The file was deleted meanwhile.
                size += Path(folder, name).lstat().st_size
    return size


def name_below(top: Path, path: Path) -> str | None:
    """Return the first component of ``path`` below ``top``, or None if it is not below; links are resolved first."""
    try:
        parts = path.resolve().relative_to(top.resolve()).parts
    except (OSError, RuntimeError, ValueError):  # Links form a loop, it is not a valid path, or it is not below top.
        return None
    return parts[0] if parts else None
