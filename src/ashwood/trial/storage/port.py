"""The port of checkpoint storage, and the names of checkpoints.

A checkpoint is a directory of files that is there complete or not at all: its manifest is written
last, and without one it doesn't count.  Its name is relative to the experiment's storage, such as
``trial-3/length-4-attempt-1``, and is used once.  So a checkpoint never changes.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple

from ashwood.errors import CheckpointError, TrainingCodeError
from ashwood.trial.storage.links import settle_links
from ashwood.trial.storage.manifest import About, Manifest, decode, read_manifest, verify

Write = Callable[[Path], object]

_NAME = re.compile(r"trial-([0-9]+)/length-([0-9]+)-attempt-([0-9]+)(?:-([a-z]+)-([0-9]+))?")


class Stored(NamedTuple):
    """A complete checkpoint in a storage.

    Attributes:
        size: of its files, in bytes.
        experiment: identity of the experiment in its manifest; empty: not known, as a listing of a URL does not tell.
    """

    name: str
    trial: int
    length: int
    attempt: int
    size: int
    experiment: str = ""


class Leftover(NamedTuple):
    """What an interrupted save or deletion left in a storage; ``size`` in bytes."""

    name: str
    size: int


class Storage(ABC):
    """The checkpoints of one experiment.

    Attributes:
        owner: the experiment that checkpoints have to be of to be fetched; by default any.
    """

    owner = About()

    @abstractmethod
    def save(self, name: str, write: Write, about: Callable[[], About] = About) -> None:
        """Publish the checkpoint that ``write`` fills an empty directory with; it then survives a power loss.

        ``about`` is called after ``write`` and says what else its manifest holds.

        Raises:
            TrainingCodeError: ``write`` is asynchronous, wrote nothing, or something that can't be kept.
            StorageUnreachable: it can't be put there, also not at the last try.
            Exception: whatever ``write`` raised, or a local disk had against it; nothing is left of its work.
        """

    @contextmanager
    def fetch(self, name: str, wanted: About | None = None) -> Iterator[Path]:
        """A local directory with a checkpoint, checked byte for byte, for as long as the context lasts.

        Args:
            name: of this storage; or the absolute directory or the URL of a checkpoint of another, of which
                directories that were saved before there were manifests are taken as they are.
            wanted: the experiment and the trial that a checkpoint of this storage must belong to; by default `owner`.

        Raises:
            CheckpointError: it is missing, damaged (names the file) or of another experiment or trial.
            StorageUnreachable: it can't be got to.
        """
        if "://" in name:
            from ashwood.trial.storage import open_storage

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
        """`fetch` for a name of this storage."""

    @abstractmethod
    def manifest(self, name: str) -> Manifest:
        """The manifest of a complete checkpoint.

        Raises:
            CheckpointError: it is missing or damaged.
            StorageUnreachable: it can't be got to.
        """

    @abstractmethod
    def complete(self, trial: int | None = None) -> list[Stored]:
        """The complete checkpoints, of one trial or of all, by trial, length and attempt.

        Raises:
            StorageUnreachable: they can't be listed.
        """

    @abstractmethod
    def leftovers(self, live: Collection[int] = ()) -> list[Leftover]:
        """What is incomplete, and not of a trial in ``live``, whose process may be saving right now.

        Checkpoints of logs of version 1 have no manifest, so they are among them: spare what the log names.

        Raises:
            StorageUnreachable: they can't be listed.
        """

    @abstractmethod
    def delete(self, name: str) -> None:
        """Remove a checkpoint or leftover.  Idempotent; cut short, it leaves a leftover and no half checkpoint.

        Raises:
            CheckpointError: the name is none of this storage.
            StorageUnreachable: it can't be removed.
        """

    @abstractmethod
    def set_aside(self, name: str) -> str:
        """Move a checkpoint to where no trial finds it, and return its place for people.

        Raises:
            StorageUnreachable: it cannot be moved.
        """

    @abstractmethod
    def locate(self, name: str) -> str:
        """The path or URL of a checkpoint, for people; an absolute name stays as it is."""

    def abort_uploads(self, *, dry_run: bool = False) -> int:  # noqa: ARG002 - most storages have none
        """Abort uploads that processes left unfinished, and return how many there were; ``dry_run`` only counts them.

        Call it only if no process saves.  A storage bills the parts of such uploads although it does not list them.

        Raises:
            StorageUnreachable: they cannot be listed or aborted.
        """
        return 0

    @abstractmethod
    def probe(self) -> None:
        """Make sure that checkpoints can be written, read and deleted.

        Raises:
            StorageUnreachable: they can't; says why and what to do.
        """


def is_foreign(name: str) -> bool:
    """Whether a name says by itself where the checkpoint is, whatever the storage."""
    return name.startswith("/") or "://" in name


ASIDE = "set-aside"
"""Folder of a storage for checkpoints that do not belong there; nothing reads or deletes what is in it."""


class Name(NamedTuple):
    """What a checkpoint's name says."""

    trial: int
    length: int
    attempt: int


def checkpoint_name(trial: int, length: int, attempt: int, position: tuple[str, int] | None = None) -> str:
    """The name of a checkpoint; the position in a loop tells checkpoints of one length apart."""
    name = f"trial-{trial}/length-{length}-attempt-{attempt}"
    return name if position is None else f"{name}-{position[0]}-{position[1]}"


def named_position(name: str, unit: str) -> int | None:
    """The position in a loop over ``unit`` that a checkpoint's name, of whichever storage, tells."""
    match = re.search(rf"-{unit}-([0-9]+)/?$", name)
    return int(match[1]) if match else None


def parse_name(name: str) -> Name | None:
    """What a name says; None: it is no checkpoint's."""
    match = _NAME.fullmatch(name)
    return None if match is None else Name(int(match[1]), int(match[2]), int(match[3]))


def parsed(name: str) -> Name:
    """What a checkpoint's name says.

    Raises:
        CheckpointError: it is no checkpoint's.
    """
    said = parse_name(name)
    if said is None:
        raise CheckpointError(f"{name!r} isn't a checkpoint's name, such as trial-3/length-4-attempt-1")
    return said


def fill(directory: Path, write: Write) -> None:
    """Let training code write a checkpoint into an empty directory, and settle the links that it wrote.

    Raises:
        TrainingCodeError: it is asynchronous, wrote nothing, or a link that cannot be kept.
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
            "the checkpoint callable wrote nothing: it gets a directory (a pathlib.Path) and has to write files into it"
        )
    settle_links(directory)
