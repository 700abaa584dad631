"""The manifest of a checkpoint: what it consists of, and the proof that it is all there.

``ashwood-checkpoint.json`` lies beside the files that training code wrote::

    {"format": 1, "trial": 3, "length": 4, "attempt": 1, "size": 1024,
     "metrics": {"loss": 0.5}, "files": {"model.pt": [1024, "5b3c…"]}, "folders": [],
     "digest": "91d0…"}

Each file has its size in bytes and its blake2b digest of 16 bytes; the last digest is that of the
manifest without it, as Python's json writes it.  Links to files count as the files.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from ashwood.errors import CheckpointError, StorageUnreachable, TrainingCodeError

MANIFEST = "ashwood-checkpoint.json"
FORMAT = 1

_DIGEST_BYTES = 16
_DAMAGE = (errno.EIO, errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


class Manifest(NamedTuple):
    """The contents of a checkpoint.

    Attributes:
        metrics: what was reported at this length: the report may be lost with a driver that dies just then.
        size: of all files, in bytes.
        files: size and digest, by path inside the checkpoint.
        folders: paths inside it, those that hold no file too.
    """

    trial: int
    length: int
    attempt: int
    metrics: Mapping[str, float]
    size: int
    files: Mapping[str, tuple[int, str]]
    folders: Sequence[str]

    def encode(self) -> bytes:
        """As the file's content."""
        content = {"format": FORMAT, **self._asdict()}
        return json.dumps({**content, "digest": _digest_of(content)}).encode()


def describe(directory: Path, trial: int, length: int, attempt: int, metrics: Mapping[str, float]) -> Manifest:
    """The manifest of what training code wrote into a directory.

    Raises:
        TrainingCodeError: there is something that a checkpoint can't hold.
    """
    files, folders = {}, []
    for path, entry in _contents(directory):
        if path == MANIFEST:
            raise TrainingCodeError(f"the checkpoint callable wrote {MANIFEST}, a name that Ashwood needs: use another")
        if entry.is_dir(follow_symlinks=False):
            folders.append(path)
        elif entry.is_file():
            files[path] = (entry.stat().st_size, _digest(entry.path))
        else:
            raise TrainingCodeError(
                f"the checkpoint callable wrote {path}, which is neither a file nor a folder nor a link to a file: "
                "a checkpoint can hold nothing else"
            )
    return Manifest(trial, length, attempt, metrics, sum(size for size, _ in files.values()), files, folders)


def decode(data: bytes, where: str) -> Manifest:
    """The manifest of the checkpoint at ``where``.

    Raises:
        CheckpointError: it is damaged, or a newer Ashwood wrote it.
    """
    try:
        content: dict[str, Any] = json.loads(data)
        if content["format"] > FORMAT:
            raise CheckpointError(f"the checkpoint {where} was saved by a newer Ashwood: upgrade this one")
        if json.dumps(content).encode() != data or content.pop("digest") != _digest_of(content):
            raise ValueError("digest")
        del content["format"]
        manifest = Manifest(**content)
        files = {path: (int(size), str(digest)) for path, (size, digest) in manifest.files.items()}
        if not all(_is_inside(path) for path in (*files, *manifest.folders)):
            raise ValueError("paths")
        return manifest._replace(files=files)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise CheckpointError(f"the checkpoint {where} is damaged: its {MANIFEST} can't be read") from None


def read_manifest(directory: Path | str) -> bytes | None:
    """The content of a directory's manifest; None: it has none."""
    try:
        handle = os.open(f"{directory}/{MANIFEST}", os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        data = os.read(handle, 1 << 16)
        while more := os.read(handle, 1 << 20):
            data += more
        return data
    finally:
        os.close(handle)


def verify(directory: Path, *, manifest_optional: bool = False) -> None:
    """Make sure that a checkpoint's directory holds what was saved, every byte of it.

    Args:
        directory: the checkpoint.
        manifest_optional: take one without a manifest as it is.

    Raises:
        CheckpointError: it doesn't; names the file.
        StorageUnreachable: it can't be read, for example for lack of rights.
    """
    if not directory.is_dir():
        raise CheckpointError(f"there is no checkpoint {directory}")
    try:
        data = read_manifest(directory)
        if data is not None:
            check(directory, decode(data, str(directory)))
        elif not manifest_optional:
            raise CheckpointError(f"the checkpoint {directory} is incomplete or damaged: it has no {MANIFEST}")
    except OSError as error:
        where = error.filename or directory
        if error.errno in _DAMAGE:
            raise CheckpointError(f"the checkpoint {directory} is damaged: {where}: {error.strerror}") from error
        raise StorageUnreachable(f"can't read the checkpoint {directory}: {where}: {error.strerror}") from error


def check(directory: Path, manifest: Manifest, where: str | None = None) -> None:
    """Compare a directory with a manifest; ``where`` tells people what the directory is a copy of.

    Raises:
        CheckpointError: they differ; names the file.
    """
    where = where or str(directory)
    there = {path: entry for path, entry in _contents(directory) if path != MANIFEST}
    for path, (size, digest) in manifest.files.items():
        entry = there.pop(path, None)
        if entry is None or not entry.is_file():
            raise CheckpointError(f"the checkpoint {where} is damaged: {path} is missing")
        actual = entry.stat().st_size
        if actual != size:
            raise CheckpointError(f"the checkpoint {where} is damaged: {path} has {actual} bytes instead of {size}")
        if _digest(entry.path) != digest:
            raise CheckpointError(f"the checkpoint {where} is damaged: the content of {path} has changed")
    for path in manifest.folders:
        if there.pop(path, None) is None:
            raise CheckpointError(f"the checkpoint {where} is damaged: the folder {path} is missing")
    for path in there:
        raise CheckpointError(f"the checkpoint {where} has changed: {path} wasn't saved with it; move it elsewhere")


def _contents(directory: Path | str, prefix: str = "") -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Everything below a directory, by its path inside, in the order of names."""
    with os.scandir(directory) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            yield prefix + entry.name, entry
            if entry.is_dir(follow_symlinks=False):
                yield from _contents(entry.path, f"{prefix}{entry.name}/")


def _is_inside(path: str) -> bool:
    parts = PurePosixPath(path)
    return bool(parts.parts) and not parts.is_absolute() and ".." not in parts.parts and path != MANIFEST


def _digest_of(content: Mapping[str, Any]) -> str:
    import hashlib

    return hashlib.blake2b(json.dumps(content).encode(), digest_size=_DIGEST_BYTES).hexdigest()


def _digest(path: str) -> str:
    import hashlib  # takes long to import, and many workers never save anything

    with open(path, "rb") as file:  # noqa: PTH123 - small checkpoints come by the hundred a second
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=_DIGEST_BYTES)).hexdigest()
