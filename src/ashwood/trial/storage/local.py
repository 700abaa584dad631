"""Checkpoints in a directory of this machine, or of a file system that is mounted here.

Inside a trial's directory, hidden names hold what is in work::

    .writing-NAME     a save that goes on, or was cut short
    .replaced-NAME    the former NAME while a new one takes its place; NAME itself as long as there is no new one
    .deleted-NAME     a deletion that goes on, or was cut short
"""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ashwood.errors import CheckpointError, StorageUnreachable
from ashwood.trial.sharing import how_to_share, share, share_tree
from ashwood.trial.storage.manifest import MANIFEST, About, Manifest, decode, describe, read_manifest, verify
from ashwood.trial.storage.port import ASIDE, Leftover, Storage, Stored, Write, fill, is_foreign, parse_name, parsed
from ashwood.trial.storage.trees import remove_tree

_WRITING, _REPLACED, _DELETED = ".writing-", ".replaced-", ".deleted-"
_HIDDEN = (_WRITING, _REPLACED, _DELETED)
_HIDING = re.compile(r"^(?:\.(?:writing|replaced|deleted)-(?:replaced-)?)+")
_FULL = (errno.ENOSPC, errno.EDQUOT)
_BROKEN = (errno.EIO, errno.EROFS, errno.ESTALE, errno.ENOTCONN, errno.ENODEV)
_TRIAL = re.compile(r"trial-([0-9]+)")


class LocalStorage(Storage):
    """A directory with a directory a trial."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def save(self, name: str, write: Write, about: Callable[[], About] = About) -> None:
        """Fill a hidden directory, put it safely on disk, and only then give it its name.

        What earlier processes left half-written beside it is removed.
        """
        trial, length, attempt = parsed(name)
        directory = self._root / name
        parent = directory.parent
        hidden = parent / f"{_WRITING}{directory.name}"
        with self._reached():
            _tidy(parent, attempt)
            _make(hidden)
        try:
            with _placed(hidden):
                fill(hidden, write)
            with self._reached():
                manifest = describe(hidden, trial, length, attempt, about())
                (hidden / MANIFEST).write_bytes(manifest.encode())
                share_tree(hidden)
                _sync_all(hidden, manifest)
                if directory.exists():  # saved for a driver that died before it knew of it
                    directory.rename(parent / f"{_REPLACED}{directory.name}")
                hidden.rename(directory)
                _sync(parent)
        finally:
            with self._reached():
                _tidy(parent, attempt)

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """Turn errors of the file system, except that it is full, into `StorageUnreachable`."""
        try:
            yield
        except OSError as error:
            if error.errno in _FULL:
                raise
            raise StorageUnreachable(f"cannot save to {self._root}: {error.strerror or error}") from error

    @contextmanager
    def _fetch(self, name: str) -> Iterator[Path]:
        directory = self._root / name
        replaced = directory.parent / f"{_REPLACED}{directory.name}"
        if replaced.exists() and not directory.exists():
            directory = replaced
        if not self._root.is_dir():
            raise StorageUnreachable(f"the directory of the checkpoints, {self._root}, isn't there: is it mounted?")
        verify(directory)
        yield directory

    def manifest(self, name: str) -> Manifest:
        """Read it."""
        directory = self._root / name
        try:
            data = read_manifest(directory)
        except OSError as error:
            raise StorageUnreachable(f"can't read the checkpoint {directory}: {error.strerror}") from error
        if data is None:
            raise CheckpointError(f"the checkpoint {directory} is incomplete or damaged: it has no {MANIFEST}")
        return decode(data, str(directory))

    def complete(self, trial: int | None = None) -> list[Stored]:
        """The checkpoints with a manifest."""
        stored = (stored for _, _, stored in self._survey(trial) if stored is not None)
        return sorted(stored, key=lambda stored: (stored.trial, stored.length, stored.attempt))

    def leftovers(self, live: Collection[int] = ()) -> list[Leftover]:
        """What lies under hidden names, and what has the name of a checkpoint but no manifest."""
        return [
            Leftover(path, _size(self._root / path))
            for path, trial, stored in self._survey(None)
            if stored is None and trial not in live
        ]

    def _survey(self, only: int | None) -> Iterator[tuple[str, int, Stored | None]]:
        """All that saves and deletions have left: its path, its trial, and the checkpoint if it is complete."""
        for trial, folder in self._trials(only):
            try:
                entries = os.listdir(f"{self._root}/{folder}")  # noqa: PTH208 - of a trial each, and paths are slow
            except (FileNotFoundError, NotADirectoryError):  # deleted meanwhile
                continue
            for entry in entries:
                path, name = f"{folder}/{entry}", f"{folder}/{entry.removeprefix(_REPLACED)}"
                if (said := parse_name(name)) is not None and (
                    name == path or entry.removeprefix(_REPLACED) not in entries
                ):
                    told = _told(f"{self._root}/{path}")
                    yield path, trial, None if told is None else Stored(name, *said, *told)
                elif entry.startswith(_HIDDEN):
                    yield path, trial, None

    def _trials(self, trial: int | None) -> list[tuple[int, str]]:
        if trial is not None:
            return [(trial, f"trial-{trial}")]
        try:
            names = [path.name for path in self._root.iterdir()]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StorageUnreachable(f"can't list the checkpoints in {self._root}: {error.strerror}") from error
        return sorted((int(match[1]), name) for name in names if (match := _TRIAL.fullmatch(name)))

    def delete(self, name: str) -> None:
        """Take the name away first, then the files, then the trial's directory if that was the last."""
        directory = self._own(name)
        parent = directory.parent
        gone = parent / f"{_DELETED}{directory.name.removeprefix(_DELETED)}"
        try:
            for path in (directory, parent / f"{_REPLACED}{directory.name}"):
                if path != gone and path.exists():
                    _remove(gone)
                    path.rename(gone)
            _remove(gone)
            if gone.exists():
                raise StorageUnreachable(f"can't delete all of the checkpoint {directory}: {gone} is what is left")
            with suppress(OSError):  # others are in it
                parent.rmdir()
        except OSError as error:
            raise StorageUnreachable(f"can't delete the checkpoint {directory}: {error.strerror}") from error

    def set_aside(self, name: str) -> str:
        """Rename its directory; a number tells it from those of the same name that were set aside before."""
        parsed(name)
        target = self._root / ASIDE / name
        try:
            _make(target.parent)
            nth = 0
            while target.exists():
                nth += 1
                target = self._root / ASIDE / f"{name}.{nth}"
            (self._root / name).rename(target)
            _sync(target.parent)
        except OSError as error:
            raise StorageUnreachable(f"can't move {self._root / name} to {target}: {error.strerror}") from error
        return str(target)

    def _own(self, name: str) -> Path:
        """The directory of a checkpoint or leftover of this storage, and surely of no other."""
        relative = name
        if is_foreign(name):  # as logs of version 1 name them
            with suppress(ValueError):
                relative = str(Path(name).relative_to(self._root))
        folder, _, entry = relative.partition("/")
        if parse_name(f"{folder}/{_HIDING.sub('', entry)}") is None:
            raise CheckpointError(f"{name} is no checkpoint of {self._root}, so it isn't deleted")
        return self._root / relative

    def locate(self, name: str) -> str:
        """The directory."""
        return name if is_foreign(name) else f"{self._root}/{name}"  # of 100,000 at once, and paths are slow

    def probe(self) -> None:
        """Write a small file, read it and delete it."""
        # Not named by the process id: nodes that probe one directory may have processes of the same id.
        file = self._root / f".probe-{os.urandom(8).hex()}"
        try:
            _make(self._root)
            try:
                file.write_text(str(file))
                _sync(file)
                reads = file.read_text(errors="replace")
            finally:
                file.unlink(missing_ok=True)
        except OSError as error:
            allow = "correct that"
            if isinstance(error, PermissionError):
                allow = how_to_share(self._root, self._root)
            raise StorageUnreachable(
                f"checkpoints can't be kept in {self._root}: {error.strerror}; {allow}, or set checkpoint_storage to "
                "another directory"
            ) from error
        if reads != str(file):
            raise StorageUnreachable(f"what is written to {self._root} reads otherwise: don't trust its disk")


@contextmanager
def _placed(directory: Path) -> Iterator[None]:
    """Let an error of the disk that names no file, as those of writing do, say where it happened.

    Raises:
        StorageUnreachable: the file system cannot be used any more: it is broken, read-only or no longer mounted.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL and error.filename is None:
            error.filename = str(directory)
        if error.errno in _BROKEN and str(error.filename or directory).startswith(str(directory)):
            raise StorageUnreachable(f"cannot write to {directory}: {error.strerror}") from error
        raise


def _make(directory: Path) -> None:
    """Make a directory, safely on disk, together with those above it."""
    if directory.is_dir():
        return
    while True:
        _make(directory.parent)
        try:
            directory.mkdir()
            share(directory)
            break
        except FileExistsError:
            break
        except FileNotFoundError:  # the one above was empty, so that a deletion took it along
            continue
    _sync(directory.parent)


def _tidy(parent: Path, attempt: int) -> None:
    """Clear up in a trial's directory after a save, however it ended, of this process or an earlier one.

    A later attempt's are left alone: this process may be one that was given up, on a machine that lost its network.
    """
    with suppress(FileNotFoundError):
        for path in list(parent.iterdir()):
            said = parse_name(f"{parent.name}/{_HIDING.sub('', path.name)}")
            if said is not None and said.attempt > attempt:
                continue
            original = parent / path.name.removeprefix(_REPLACED)
            if path.name.startswith(_REPLACED) and not original.exists():
                path.rename(original)
            elif path.name.startswith(_HIDDEN):
                _remove(path)


def _told(directory: str) -> tuple[int, str] | None:
    """Return the size and the experiment in a manifest, or None if there is no manifest that can be read."""
    try:
        data = read_manifest(directory)
        manifest = None if data is None else json.loads(data)
        return None if manifest is None else (int(manifest["size"]), str(manifest.get("experiment", "")))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError):
        return None


def _size(directory: Path) -> int:
    size = 0
    for folder, _, files in os.walk(directory):
        for name in files:
            with suppress(FileNotFoundError):  # deleted meanwhile
                size += Path(folder, name).lstat().st_size
    return size


def _sync_all(directory: Path, manifest: Manifest) -> None:
    files = list(map(directory.joinpath, (*manifest.files, MANIFEST)))
    for path in files:
        _begin_to_write(path)
    for path in (*files, *map(directory.joinpath, manifest.folders), directory):
        _sync(path)


def _begin_to_write(path: Path) -> None:
    """So that the syncs of several files share what each alone would wait for; a hint, and only to Linux."""
    if hasattr(os, "posix_fadvise"):
        handle = os.open(path, os.O_RDONLY)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    remove_tree(path.parent, path.name, ignore_errors=True)
