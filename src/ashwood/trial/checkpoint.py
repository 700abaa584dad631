"""Checkpoints are directories that appear complete or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from ashwood.errors import TrainingCodeError

_WRITING = ".writing-"


def publish(directory: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a hidden directory, put it safely on disk, and only then give it its name.

    What earlier processes left half-written beside it is removed: a trial has one live process.

    Raises:
        TrainingCodeError: ``write`` is asynchronous, or wrote nothing.
        Exception: whatever ``write`` raised; nothing is left of its work.
    """
    parent = directory.parent
    if not parent.is_dir():
        parent.mkdir(parents=True, exist_ok=True)
        _sync(parent.parent)
    for leftover in parent.glob(f"{_WRITING}*"):
        _remove(leftover)
    hidden = parent / f"{_WRITING}{directory.name}"
    hidden.mkdir()
    try:
        _fill(hidden, write)
        _sync_tree(hidden)
        replaced = parent / f"{_WRITING}replaced-{directory.name}"
        if directory.exists():  # saved for a driver that died before it knew of it
            directory.rename(replaced)
        hidden.rename(directory)
        _sync(parent)
        _remove(replaced)
    except BaseException:
        _remove(hidden)
        raise


def _fill(hidden: Path, write: Callable[[Path], object]) -> None:
    result = write(hidden)
    if hasattr(result, "__await__"):
        if hasattr(result, "close"):
            result.close()
        raise TrainingCodeError(
            "the checkpoint callable is asynchronous, so it saved nothing: pass a plain function that writes the files"
        )
    if not hidden.is_dir() or not any(hidden.iterdir()):
        raise TrainingCodeError(
            "the checkpoint callable wrote nothing: it gets a directory (a pathlib.Path) and has to write files into it"
        )


def _sync_tree(top: Path) -> None:
    for folder, _, files in os.walk(top):
        for name in files:
            path = Path(folder, name)
            if path.is_file() and not path.is_symlink():
                _sync(path)
        _sync(Path(folder))


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(tree: Path) -> None:
    import shutil  # with its archive formats it would double the time that this room takes to import

    shutil.rmtree(tree, ignore_errors=True)
