"""Where a worker on another machine keeps checkpoints, and how they get to where everybody finds them."""

from __future__ import annotations

import hashlib
import queue
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from ashwood.backends.port import StartAttempt
from ashwood.backends.ray.freight import SMALL, arriving, as_text
from ashwood.backends.ray.wire import Message, Wire
from ashwood.errors import CheckpointError, StorageUnreachable
from ashwood.experiment.events import CheckpointSaved
from ashwood.trial.run import blame
from ashwood.trial.storage import MANIFEST, Patience, Storage, open_storage
from ashwood.trial.storage.links import copy_contents
from ashwood.trial.storage.trees import remove_tree

Inbox = queue.SimpleQueue[Message]
Wake = Callable[[], None]

_CHECKPOINTS = "checkpoints"


_SAFE = "safe"
"""File in a worker's directory with the names of those of its checkpoints that are also elsewhere."""


def strip(directory: Path) -> bool:
    """Delete everything in a dead worker's directory but checkpoints that are nowhere else.

    Returns:
        whether there are such checkpoints.
    """
    storage, safe = open_storage(directory / _CHECKPOINTS), set[str]()
    with suppress(OSError, ValueError):
        safe.update((directory / _SAFE).read_text().splitlines())
    stored = storage.complete()
    surplus = [each.name for each in stored if each.name in safe] + [each.name for each in storage.leftovers()]
    for name in surplus:
        with suppress(CheckpointError):
            storage.delete(name)
    for path in directory.iterdir():
        if path.name not in (_CHECKPOINTS, _SAFE):
            remove_tree(directory, path.name, ignore_errors=True)
    return any(each.name not in safe for each in stored)


def checkpoints_in(directory: Path) -> Path:
    """Return where a worker keeps checkpoints in its directory."""
    return directory / _CHECKPOINTS


class Staging(ABC):
    """A worker's checkpoints.

    Attributes:
        place_of_all: the storage that training code saves to and starts from.
        storage: the same, opened.
        hurries: whether the trial has to stop, so that a storage that fails is given up soon.
        publishes: whether what is saved there has still to be brought to where everybody finds it.
    """

    publishes = False

    def __init__(self, place: str) -> None:
        """Keep checkpoints in a directory."""
        self.place_of_all = place
        self.hurries = False
        self.storage: Storage = open_storage(place)

    @abstractmethod
    def check(self, marker: str | None) -> None:
        """Make sure that checkpoints can be kept.

        Raises:
            StorageUnreachable: they can't; says why and what to do.
        """

    @property
    def holds_more(self) -> bool:
        """Whether something is here that nobody else has."""
        return False

    @abstractmethod
    def lacks(self, start: StartAttempt) -> bool:
        """Whether what an attempt is to start from has to be fetched first; forgets what it doesn't need."""

    def localized(self, checkpoint: str | None) -> str | None:
        """The name of a checkpoint for training code here."""
        return checkpoint

    @abstractmethod
    def place(self, name: str) -> Path:
        """Where a checkpoint that is fetched goes."""

    @abstractmethod
    def procure(self, start: StartAttempt, wire: Wire, inbox: Inbox, wake: Wake) -> None:
        """Have a checkpoint fetched; ``delivered`` or ``missing`` comes into the inbox."""

    @abstractmethod
    def publish(self, saved: CheckpointSaved, wire: Wire, inbox: Inbox, wake: Wake) -> None:
        """Have a checkpoint brought to where everybody finds it; ``kept`` or ``refused`` comes into the inbox."""

    @abstractmethod
    def forget_older(self, saved: CheckpointSaved) -> None:
        """A checkpoint is safe: those of the trial that came before it aren't needed here."""


class Direct(Staging):
    """Training code saves to a directory that all machines share."""

    def check(self, marker: str | None) -> None:
        """See whether the driver's file is there, and whether one can be written."""
        if marker is not None and not Path(self.place_of_all, marker).exists():
            raise StorageUnreachable(
                f"checkpoint_storage {self.place_of_all} isn't the same directory here as it is for the driver: put it "
                "on a file system that all nodes mount there, name a URL such as s3://bucket/prefix, or leave "
                "checkpoint_storage out: then checkpoints travel to the driver"
            )
        self.storage.probe()

    def lacks(self, start: StartAttempt) -> bool:  # noqa: ARG002 - here and below: as its base has it
        """Everything is here."""
        return False

    def place(self, name: str) -> Path:
        """In the directory."""
        return Path(self.place_of_all, name)

    def procure(self, start: StartAttempt, wire: Wire, inbox: Inbox, wake: Wake) -> None:
        """It is here."""

    def publish(self, saved: CheckpointSaved, wire: Wire, inbox: Inbox, wake: Wake) -> None:
        """It is where everybody finds it."""

    def forget_older(self, saved: CheckpointSaved) -> None:
        """That is decided elsewhere."""


class Staged(Staging):
    """Training code saves to this machine's disk; what it saved goes to a URL, or to the driver, while it trains on."""

    publishes = True

    def __init__(self, directory: Path, url: str | None) -> None:
        """Keep checkpoints in a directory on their way to a URL; None: to the driver."""
        super().__init__(str(directory))
        self._directory = directory
        self._remote = None if url is None else open_storage(url, Patience(hurries=lambda: self.hurries))
        self._mover = ThreadPoolExecutor(1, "ashwood-mover")
        self._unsafe: set[str] = set()
        self._start: str | None = None
        self._failed: StorageUnreachable | None = None

    def check(self, marker: str | None) -> None:  # noqa: ARG002
        """Try the URL."""
        self._directory.mkdir(parents=True, exist_ok=True)
        if self._remote is not None:
            self._remote.probe()

    @property
    def holds_more(self) -> bool:
        """Whether a checkpoint is here that is nowhere else."""
        self._mover.shutdown()
        return bool(self._unsafe)

    def lacks(self, start: StartAttempt) -> bool:
        """Whether the checkpoint to start from isn't here; all others go."""
        name = start.checkpoint
        for stored in self.storage.complete():
            if stored.name != name and stored.name not in self._unsafe:
                self.storage.delete(stored.name)
        self._start = name
        if name is not None:
            self._note_safe(name)
        return name is not None and "://" not in name and not self.place(name).is_dir()

    def localized(self, checkpoint: str | None) -> str | None:
        """A directory of the driver's machine was copied here."""
        if checkpoint is not None and checkpoint.startswith("/"):
            return str(self.place(checkpoint))
        return checkpoint

    def place(self, name: str) -> Path:
        """In the storage, or beside it where it is a directory from elsewhere."""
        if not name.startswith("/"):
            return self._directory / name
        folder = hashlib.blake2b(name.encode(), digest_size=8).hexdigest()
        return self._directory.parent / "sources" / folder / Path(name).name

    def procure(self, start: StartAttempt, wire: Wire, inbox: Inbox, wake: Wake) -> None:
        """From the driver, or from the URL."""
        name = str(start.checkpoint)
        if self._remote is None or name.startswith("/"):
            wire.send(["need", name])
        else:
            self._mover.submit(self._download, self._remote, name, inbox, wake)

    def publish(self, saved: CheckpointSaved, wire: Wire, inbox: Inbox, wake: Wake) -> None:
        """To the driver, or to the URL."""
        self._unsafe.add(saved.path)
        if self._remote is None:
            small = self.storage.manifest(saved.path).size <= SMALL
            wire.send(["offer", saved.path, as_text(self.place(saved.path)) if small else None])
        else:
            self._mover.submit(self._upload, self._remote, saved.path, inbox, wake)

    def forget_older(self, saved: CheckpointSaved) -> None:
        """Those that training code may start from, this one and the one it did start from, stay."""
        self._unsafe.discard(saved.path)
        self._note_safe(saved.path)
        for stored in self.storage.complete(saved.trial):
            if stored.length < saved.length and stored.name != self._start and stored.name not in self._unsafe:
                self.storage.delete(stored.name)

    def _note_safe(self, name: str) -> None:
        with suppress(OSError), (self._directory.parent / _SAFE).open("a") as file:
            file.write(f"{name}\n")

    def _upload(self, remote: Storage, name: str, inbox: Inbox, wake: Wake) -> None:
        try:
            if self._failed is not None and self.hurries:  # one wait is enough for all that are in line
                raise self._failed
            self._failed = None
            with self.storage.fetch(name) as source:
                about = self.storage.manifest(name).about
                remote.save(name, lambda target: copy_contents(source, target, skip=MANIFEST), lambda: about)
        except Exception as error:  # noqa: BLE001 - whatever a storage has against it, training goes on
            self._failed = error if isinstance(error, StorageUnreachable) else None
            inbox.put(["refused", name, f"the checkpoint {name} can't be kept: {error}", blame(error)])
        else:
            self._unsafe.discard(name)
            inbox.put(["kept", name])
        wake()

    def _download(self, remote: Storage, name: str, inbox: Inbox, wake: Wake) -> None:
        try:
            with remote.fetch(name) as source, arriving(self.place(name)) as directory:
                copy_contents(source, directory)
        except CheckpointError as error:
            inbox.put(["missing", name, str(error), blame(error) or "damaged"])
        except OSError as error:
            inbox.put(["missing", name, f"the checkpoint {name} can't be fetched: {error}", blame(error)])
        else:
            inbox.put(["delivered", name, None])
        wake()
