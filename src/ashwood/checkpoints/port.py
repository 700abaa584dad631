"""The port of checkpoint storage, and the names of checkpoints.

A checkpoint is a directory of files that is published atomically: its manifest is written last, and a directory without
a manifest is not a checkpoint.  Its name is relative to the experiment's storage, such as
``trial-3/length-4-attempt-1``.  Each name is used once, so a checkpoint never changes.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple

from ashwood.checkpoints.links import settle_links
from ashwood.checkpoints.manifest import CheckpointInfo, Manifest, decode, read_manifest, verify
from ashwood.errors import CheckpointError, TrainingCodeError

Write = Callable[[Path], object]

_NAME = re.compile(r"trial-([0-9]+)/length-([0-9]+)-attempt-([0-9]+)(?:-([a-z]+)-([0-9]+))?")


class Stored(NamedTuple):
    """A complete checkpoint in a storage.

    Attributes:
        name: its name.
        trial: number of its trial.
        length: total length at which it was saved.
        attempt: number of the attempt that saved it.
        size: total size of its files in bytes.
        experiment: identity of its experiment, or an empty text if that is unknown, as in the listing of a URL.
    """

    name: str
    trial: int
    length: int
    attempt: int
    size: int
    experiment: str = ""


class Leftover(NamedTuple):
    """The remains of an interrupted save or deletion in a storage, with their size in bytes."""

    name: str
    size: int


class Storage(ABC):
    """The checkpoints of one experiment.

    Attributes:
        owner: the experiment whose checkpoints can be fetched; by default any.
    """

    owner = CheckpointInfo()

    @abstractmethod
    def save(self, name: str, write: Write, about: Callable[[], CheckpointInfo] = CheckpointInfo) -> int:
        """Save and publish a checkpoint, and return the size of its files in bytes.

        The checkpoint survives a power loss from then on.

        Args:
            name: name of the checkpoint.
            write: function that writes the files of the checkpoint into an empty directory.
            about: function that returns further content of the manifest; it is called after ``write``.

        Raises:
            TrainingCodeError: ``write`` is asynchronous, or it wrote nothing or files that a checkpoint cannot contain.
            StorageUnreachable: the storage failed until the last try.
            Exception: any exception of ``write`` or of a local disk.  Its files are removed.
        """

    @contextmanager
    def fetch(self, name: str, wanted: CheckpointInfo | None = None) -> Iterator[Path]:
        """Yield a local directory with a verified checkpoint, which exists until the context ends.

        Args:
            name: name of a checkpoint in this storage, or the absolute directory or URL of one in another storage.  A
                directory without a manifest, from before there were manifests, is not verified.
            wanted: experiment and trial to which a checkpoint of this storage must belong; by default `owner`.

        Raises:
            CheckpointError: the checkpoint is missing, is damaged (the message names the file), or belongs to another
                experiment or trial.
            StorageUnreachable: the storage failed until the last try.
        """
        if "://" in name:
            from ashwood.checkpoints import open_storage

            root, _, trial = name.rpartition("/trial-")
            with open_storage(root).fetch(f"trial-{trial}") as directory:
                yield directory
        elif is_foreign(name):
            verify(Path(name), manifest_optional=True)
            yield Path(name)
        else:
            parsed(name)
            with self._fetch(name) as directory:
                where = self.locate(name)
                decode(read_manifest(directory) or b"", where).about.check_fits(wanted or self.owner, where)
                yield directory

    @abstractmethod
    def _fetch(self, name: str) -> AbstractContextManager[Path]:
        """Yield a local directory with a checkpoint of this storage, whose files are verified."""

    @abstractmethod
    def manifest(self, name: str) -> Manifest:
        """Return the manifest of a complete checkpoint.

        Raises:
            CheckpointError: the manifest is missing or damaged.
            StorageUnreachable: the storage failed until the last try.
        """

    @abstractmethod
    def complete(self, trial: int | None = None) -> list[Stored]:
        """Return the complete checkpoints of one trial or of all, sorted by trial, length and attempt.

        Raises:
            StorageUnreachable: the checkpoints cannot be listed.
        """

    @abstractmethod
    def leftovers(self) -> list[Leftover]:
        """Return the incomplete checkpoints, also those that are being saved now.

        Checkpoints of event logs of version 1 have no manifest, so they are included.  Before callers delete anything,
        they must exclude checkpoints that the event log names.

        Raises:
            StorageUnreachable: the incomplete checkpoints cannot be listed.
        """

    @abstractmethod
    def delete(self, name: str) -> None:
        """Delete a checkpoint or leftover.  Nothing happens if it does not exist.

        An interrupted deletion leaves a leftover, but never a damaged checkpoint.

        Raises:
            CheckpointError: ``name`` is not the name of a checkpoint in this storage.
            StorageUnreachable: the checkpoint cannot be deleted.
        """

    @abstractmethod
    def set_aside(self, name: str) -> str:
        """Move a checkpoint to a folder that no trial reads, and return its new path or URL for messages.

        Raises:
            StorageUnreachable: the checkpoint cannot be moved.
        """

    @abstractmethod
    def locate(self, name: str) -> str:
        """Return the path or URL of a checkpoint for messages; an absolute name is returned unchanged."""

    def abort_uploads(self, *, dry_run: bool = False) -> int:  # noqa: ARG002 - most storages have none
        """Abort unfinished uploads of killed processes, and return their number; ``dry_run`` only counts them.

        Call this only while no process saves.  Storage providers charge for the parts of such uploads, although
        listings do not show them.

        Raises:
            StorageUnreachable: the uploads cannot be listed or aborted.
        """
        return 0

    @abstractmethod
    def probe(self) -> None:
        """Check that checkpoints can be written, read and deleted.

        Raises:
            StorageUnreachable: the check failed; the message says why and what to do.
        """


def is_foreign(name: str) -> bool:
    """Return whether a checkpoint's name is an absolute path or a URL, which does not depend on the storage."""
    return name.startswith("/") or "://" in name


ASIDE = "set-aside"
"""Folder of a storage for checkpoints of other experiments or trials.  Ashwood never reads or deletes its contents."""


class Name(NamedTuple):
    """The trial, length and attempt in a checkpoint's name."""

    trial: int
    length: int
    attempt: int


def checkpoint_name(trial: int, length: int, attempt: int, position: tuple[str, int] | None = None) -> str:
    """Return a checkpoint's name; ``position`` (unit and count of a loop) distinguishes names with equal lengths."""
    name = f"trial-{trial}/length-{length}-attempt-{attempt}"
    return name if position is None else f"{name}-{position[0]}-{position[1]}"


def named_position(name: str, unit: str) -> int | None:
    """Return the position in a loop over ``unit`` that is part of a checkpoint's name, or None if it has none."""
    match = re.search(rf"-{unit}-([0-9]+)/?$", name)
    return int(match[1]) if match else None


def parse_name(name: str) -> Name | None:
    """Return the parts of a checkpoint's name, or None if it is not the name of a checkpoint."""
    match = _NAME.fullmatch(name)
    return None if match is None else Name(int(match[1]), int(match[2]), int(match[3]))


def parsed(name: str) -> Name:
    """Return the parts of a checkpoint's name, or raise an error.

    Raises:
        CheckpointError: ``name`` is not the name of a checkpoint.
    """
    parts = parse_name(name)
    if parts is None:
        raise CheckpointError(f"{name!r} is not the name of a checkpoint, such as trial-3/length-4-attempt-1")
    return parts


def fill(directory: Path, write: Write) -> None:
    """Let training code write a checkpoint into an empty directory, and call `settle_links`.

    Raises:
        TrainingCodeError: ``write`` is asynchronous, or it wrote nothing or a link that a checkpoint cannot contain.
    """
    result = write(directory)
    if hasattr(result, "__await__"):
        if hasattr(result, "close"):
            result.close()
        raise TrainingCodeError(
            "the checkpoint callable is asynchronous, so it saved nothing: pass a plain function that writes the files"
        )
    if not directory.is_dir() or not any(directory.iterdir()):
        raise TrainingCodeError(
            "the checkpoint callable wrote nothing: it gets a directory (a pathlib.Path) and must write files into it"
        )
    settle_links(directory)
