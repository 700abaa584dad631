"""Checkpoints in a directory of this machine, or of a file system that is mounted on it.

In a trial's directory, saves and deletions that are in progress, or were interrupted, have hidden names::

    .writing-NAME     a checkpoint that is being saved
    .replaced-NAME    the previous checkpoint NAME; if there is no new NAME yet, it still counts as NAME
    .deleted-NAME     a checkpoint that is being deleted
"""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ashwood.checkpoints.manifest import MANIFEST, CheckpointInfo, Manifest, decode, describe, read_manifest, verify
from ashwood.checkpoints.port import ASIDE, Leftover, Storage, Stored, Write, fill, is_foreign, parse_name, parsed
from ashwood.checkpoints.sharing import how_to_share, share, share_tree
from ashwood.checkpoints.trees import remove_tree, size_of_tree, sync
from ashwood.errors import CheckpointError, StorageUnreachable

_WRITING, _REPLACED, _DELETED = ".writing-", ".replaced-", ".deleted-"
_HIDDEN = (_WRITING, _REPLACED, _DELETED)
_HIDING = re.compile(r"^(?:\.(?:writing|replaced|deleted)-(?:replaced-)?)+")
_FULL = (errno.ENOSPC, errno.EDQUOT)
_BROKEN = (errno.EIO, errno.EROFS, errno.ESTALE, errno.ENOTCONN, errno.ENODEV)
_TRIAL = re.compile(r"trial-([0-9]+)")


class LocalStorage(Storage):
    """A storage in a directory, with a subdirectory for each trial."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def save(self, name: str, write: Write, about: Callable[[], CheckpointInfo] = CheckpointInfo) -> int:
        """Write the checkpoint into a hidden directory, sync it to disk, and only then rename it to its name.

        Interrupted saves of earlier processes in the trial's directory are removed.
        """
        trial, length, attempt = parsed(name)
        directory = self._root / name
        parent = directory.parent
        hidden = parent / f"{_WRITING}{directory.name}"
        with self._storage_errors():
            _tidy(parent, attempt)
            _make(hidden)
        try:
            with _named_errors(hidden):
                fill(hidden, write)
            with self._storage_errors():
                manifest = describe(hidden, trial, length, attempt, about())
                (hidden / MANIFEST).write_bytes(manifest.encode())
                share_tree(hidden)
                _sync_all(hidden, manifest)
                # All files and folders are on disk before the rename publishes them.  Otherwise a power loss could
                # leave a checkpoint that has its name but not its content.
                if directory.exists():
                    # An earlier save of this name was published, but its driver died before it recorded the event.  A
                    # directory that is not empty cannot be replaced by a rename, so the old one is renamed first.  If
                    # this process dies between the two renames, the old one still counts.
                    directory.rename(parent / f"{_REPLACED}{directory.name}")
                hidden.rename(directory)
                sync(parent)  # The rename is a change of the parent directory, which survives a power loss after this.
            return manifest.size
        finally:
            with self._storage_errors():
                _tidy(parent, attempt)

    @contextmanager
    def _storage_errors(self) -> Iterator[None]:
        """Turn errors of the file system into `StorageUnreachable`, except those of a full disk."""
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
            raise StorageUnreachable(
                f"the directory of the checkpoints, {self._root}, does not exist: check that its file system is mounted"
            )
        verify(directory)
        yield directory

    def manifest(self, name: str) -> Manifest:
        """Read and return the manifest of a checkpoint."""
        directory = self._root / name
        try:
            data = read_manifest(directory)
        except OSError as error:
            raise StorageUnreachable(f"cannot read the checkpoint {directory}: {error.strerror}") from error
        if data is None:
            raise CheckpointError(f"the checkpoint {directory} is incomplete or damaged: it has no {MANIFEST}")
        return decode(data, str(directory))

    def complete(self, trial: int | None = None) -> list[Stored]:
        """Return the checkpoints that have a manifest."""
        stored = (stored for _, stored in self._survey(trial) if stored is not None)
        return sorted(stored, key=lambda stored: (stored.trial, stored.length, stored.attempt))

    def leftovers(self) -> list[Leftover]:
        """Return the directories with hidden names, and those with a checkpoint's name but without a manifest."""
        return [
            Leftover(path, size_of_tree(self._root / path)) for path, stored in self._survey(None) if stored is None
        ]

    def _survey(self, only: int | None) -> Iterator[tuple[str, Stored | None]]:
        """Yield the path of each checkpoint or leftover, and the checkpoint itself if it is complete."""
        for folder in self._trials(only):
            try:
                entries = os.listdir(f"{self._root}/{folder}")  # noqa: PTH208 - pathlib is slow for many trials
            except (FileNotFoundError, NotADirectoryError):  # The directory was deleted meanwhile.
                continue
            for entry in entries:
                path, name = f"{folder}/{entry}", f"{folder}/{entry.removeprefix(_REPLACED)}"
                if (parts := parse_name(name)) is not None and (
                    name == path or entry.removeprefix(_REPLACED) not in entries
                ):
                    found = _size_and_experiment(f"{self._root}/{path}")
                    yield path, None if found is None else Stored(name, *parts, *found)
                elif entry.startswith(_HIDDEN):
                    yield path, None

    def _trials(self, trial: int | None) -> list[str]:
        if trial is not None:
            return [f"trial-{trial}"]
        try:
            names = [path.name for path in self._root.iterdir()]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StorageUnreachable(f"cannot list the checkpoints in {self._root}: {error.strerror}") from error
        return sorted(filter(_TRIAL.fullmatch, names))

    def delete(self, name: str) -> None:
        """Rename the checkpoint to a hidden name, then delete its files, and the trial's directory if it is empty.

        The rename is atomic.  So at no time is there a directory that has the checkpoint's name but only some of its
        files.
        """
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
                raise StorageUnreachable(f"cannot delete the checkpoint {directory}: some files are left in {gone}")
            with suppress(OSError):  # The trial has other checkpoints.
                parent.rmdir()
        except OSError as error:
            raise StorageUnreachable(f"cannot delete the checkpoint {directory}: {error.strerror}") from error

    def set_aside(self, name: str) -> str:
        """Move the checkpoint to the folder ``set-aside``, with a number if its name is already used there."""
        parsed(name)
        target = self._root / ASIDE / name
        try:
            _make(target.parent)
            nth = 0
            while target.exists():
                nth += 1
                target = self._root / ASIDE / f"{name}.{nth}"
            (self._root / name).rename(target)
            sync(target.parent)
        except OSError as error:
            raise StorageUnreachable(f"cannot move {self._root / name} to {target}: {error.strerror}") from error
        return str(target)

    def _own(self, name: str) -> Path:
        """Return the directory of a checkpoint or leftover of this storage.

        Raises:
            CheckpointError: ``name`` is not the name of a checkpoint, so the directory must not be deleted.
        """
        relative = name
        if is_foreign(name):  # Event logs of version 1 contain absolute paths.
            with suppress(ValueError):
                relative = str(Path(name).relative_to(self._root))
        folder, _, entry = relative.partition("/")
        if parse_name(f"{folder}/{_HIDING.sub('', entry)}") is None:
            raise CheckpointError(f"{name} is not a checkpoint of {self._root}, so it is not deleted")
        return self._root / relative

    def locate(self, name: str) -> str:
        """Return the directory of a checkpoint."""
        # Not by pathlib, which is slow: some callers locate 100,000 checkpoints.
        return name if is_foreign(name) else f"{self._root}/{name}"

    def probe(self) -> None:
        """Write a small file, read it and delete it."""
        # The name is random, not the process id: processes on different nodes that probe one directory may have the
        # same id.
        file = self._root / f".probe-{os.urandom(8).hex()}"
        try:
            _make(self._root)
            try:
                file.write_text(str(file))
                sync(file)
                reads = file.read_text(errors="replace")
            finally:
                file.unlink(missing_ok=True)
        except OSError as error:
            advice = "correct that"
            if isinstance(error, PermissionError):
                advice = how_to_share(self._root, self._root)
            raise StorageUnreachable(
                f"cannot save checkpoints in {self._root}: {error.strerror}; {advice}, or set checkpoint_storage to "
                "another directory"
            ) from error
        if reads != str(file):
            raise StorageUnreachable(
                f"{self._root} returns other data than was written to it: use another checkpoint_storage, its disk may "
                "be defective"
            )


@contextmanager
def _named_errors(directory: Path) -> Iterator[None]:
    """Add the directory to errors of a full disk that have no file name, as errors of write() do.

    Raises:
        StorageUnreachable: the file system cannot be used: it is defective, read-only or no longer mounted.
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
    """Create a directory and its missing parents, and sync them to disk."""
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
        except FileNotFoundError:
            # A deletion has removed the parent meanwhile, because it was empty.  Create it again.
            continue
    sync(directory.parent)


def _tidy(parent: Path, attempt: int) -> None:
    """Remove what interrupted saves of this process or earlier ones have left in a trial's directory.

    A previous checkpoint that has not been replaced gets its name back.
    """
    with suppress(FileNotFoundError):
        for path in list(parent.iterdir()):
            parts = parse_name(f"{parent.name}/{_HIDING.sub('', path.name)}")
            # A later attempt may be saving now.  The driver may have started it because the machine of this process had
            # lost its network.
            if parts is not None and parts.attempt > attempt:
                continue
            original = parent / path.name.removeprefix(_REPLACED)
            if path.name.startswith(_REPLACED) and not original.exists():
                path.rename(original)
            elif path.name.startswith(_HIDDEN):
                _remove(path)


def _size_and_experiment(directory: str) -> tuple[int, str] | None:
    """Return the size and the experiment in a directory's manifest, or None if it has no valid manifest."""
    try:
        data = read_manifest(directory)
        manifest = None if data is None else json.loads(data)
        return None if manifest is None else (int(manifest["size"]), str(manifest.get("experiment", "")))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError):
        return None


def _sync_all(directory: Path, manifest: Manifest) -> None:
    files = list(map(directory.joinpath, (*manifest.files, MANIFEST)))
    for path in files:
        _begin_to_write(path)
    for path in (*files, *map(directory.joinpath, manifest.folders), directory):
        sync(path)


def _begin_to_write(path: Path) -> None:
    """Ask Linux to start writing a file to disk, without waiting for it.

    fsync() of one file after the other would wait for each of them.  If all writes are started first, the disk can do
    them at the same time.
    """
    # On Linux, POSIX_FADV_DONTNEED starts to write the file's changed pages, since only clean pages can be dropped.
    if hasattr(os, "posix_fadvise"):
        handle = os.open(path, os.O_RDONLY)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def _remove(path: Path) -> None:
    remove_tree(path.parent, path.name, ignore_errors=True)
