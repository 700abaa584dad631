"""The checkpoints of a worker on a node, and how they get to the experiment's checkpoint storage and back."""

from __future__ import annotations

import hashlib
import queue
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from ashwood.backends.port import StartAttempt
from ashwood.backends.ray.transfer import SMALL, as_text
from ashwood.backends.ray.wire import Message, Wire
from ashwood.checkpoints import MANIFEST, Patience, Storage, open_storage
from ashwood.checkpoints.links import copy_contents
from ashwood.checkpoints.trees import atomic_directory, remove_tree
from ashwood.errors import CheckpointError, StorageUnreachable
from ashwood.experiment.events import CheckpointSaved
from ashwood.trial.run import blame

Inbox = queue.SimpleQueue[Message]
Wake = Callable[[], None]

_CHECKPOINTS = "checkpoints"
_SAFE = "safe"
"""Name of the file in a worker's directory that lists those of its checkpoints of which there is another copy."""


def strip(directory: Path) -> bool:
    """Delete the files in a dead worker's directory, except for checkpoints of which it has the only copy.

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
    """Return the directory of checkpoints in a worker's directory."""
    return directory / _CHECKPOINTS


class Staging:
    """The storage on a node to which training code saves checkpoints, and from which it starts.

    In this base class it is a directory that all machines share, so training code saves right to the experiment's
    storage, and no checkpoint is lacking or must be copied.

    Attributes:
        root: directory of the storage.
        storage: the storage, opened.
        hurries: whether the trial must stop, so that a failing storage is retried only for a short time.
        publishes: whether saved checkpoints must still be copied to the experiment's storage.
    """

    publishes = False

    def __init__(self, root: str) -> None:
        """Open the storage in a directory."""
        self.root = root
        self.hurries = False
        self.storage: Storage = open_storage(root)

    def check(self, marker: str | None) -> None:
        """Check that checkpoints can be written, and that a shared directory has the driver's marker file.

        Raises:
            StorageUnreachable: the check failed; the message says why and what to do.
        """
        if marker is not None and not Path(self.root, marker).exists():
            raise StorageUnreachable(
                f"checkpoint_storage {self.root} is not the same directory on this node as for the driver: use a file "
                "system that all nodes mount at this path, or a URL such as s3://bucket/prefix, or remove "
                "checkpoint_storage, and checkpoints are sent to the driver"
            )
        self.storage.probe()

    @property
    def has_only_copies(self) -> bool:
        """Whether this node has the only copy of a checkpoint."""
        return False

    def lacks(self, start: StartAttempt) -> bool:  # noqa: ARG002 - `Staged` needs it
        """Return whether the checkpoint of an attempt must be fetched; delete checkpoints that it does not need."""
        return False

    def localized(self, checkpoint: str | None) -> str | None:
        """Return the name of a checkpoint on this node, given its name in the experiment."""
        return checkpoint

    def path_of(self, name: str) -> Path:
        """Return the directory of a checkpoint on this node, whether it exists or not."""
        return Path(self.root, name)

    def fetch(self, start: StartAttempt, wire: Wire, inbox: Inbox, wake: Wake) -> None:
        """Start to fetch the checkpoint of an attempt; ``delivered`` or ``missing`` is put into the inbox later."""

    def publish(self, saved: CheckpointSaved, wire: Wire, inbox: Inbox, wake: Wake) -> None:
        """Start to copy a checkpoint to the experiment's storage; ``kept`` or ``refused`` is put into the inbox."""

    def delete_older(self, saved: CheckpointSaved) -> None:
        """Delete the trial's older checkpoints on this node, after ``saved`` was stored."""


class Staged(Staging):
    """A directory on this node's disk, from which checkpoints are copied to a URL or to the driver during training."""

    publishes = True

    def __init__(self, directory: Path, url: str | None) -> None:
        """Copy checkpoints from a directory to a URL, or to the driver if the URL is None."""
        super().__init__(str(directory))
        self._directory = directory
        self._remote = None if url is None else open_storage(url, Patience(hurries=lambda: self.hurries))
        self._transfers = ThreadPoolExecutor(1, "ashwood-transfer")  # one thread keeps the checkpoints in order
        self._unsafe: set[str] = set()
        self._start: str | None = None
        self._failed: StorageUnreachable | None = None

    def check(self, marker: str | None) -> None:  # noqa: ARG002
        """Create the directory, and check that the URL is writable."""
        self._directory.mkdir(parents=True, exist_ok=True)
        if self._remote is not None:
            self._remote.probe()

    @property
    def has_only_copies(self) -> bool:
        """Whether this node has the only copy of a checkpoint, after all pending uploads."""
        self._transfers.shutdown()
        return bool(self._unsafe)

    def lacks(self, start: StartAttempt) -> bool:
        """Return whether the checkpoint of an attempt is not here; delete all others of which there is another copy."""
        name = start.checkpoint
        for stored in self.storage.complete():
            if stored.name != name and stored.name not in self._unsafe:
                self.storage.delete(stored.name)
        self._start = name
        if name is not None:
            self._note_safe(name)
        return name is not None and "://" not in name and not self.path_of(name).is_dir()

    def localized(self, checkpoint: str | None) -> str | None:
        """Return the path of the local copy if the checkpoint is a directory on the driver's machine."""
        if checkpoint is not None and checkpoint.startswith("/"):
            return str(self.path_of(checkpoint))
        return checkpoint

    def path_of(self, name: str) -> Path:
        """Return a directory in the storage, or beside it for a checkpoint that is not the experiment's own."""
        if not name.startswith("/"):
            return self._directory / name
        folder = hashlib.blake2b(name.encode(), digest_size=8).hexdigest()
        return self._directory.parent / "sources" / folder / Path(name).name

    def fetch(self, start: StartAttempt, wire: Wire, inbox: Inbox, wake: Wake) -> None:
        """Request the checkpoint from the driver, or download it from the URL."""
        name = str(start.checkpoint)
        if self._remote is None or name.startswith("/"):
            wire.send(["need", name])
        else:
            self._transfers.submit(self._download, self._remote, name, inbox, wake)

    def publish(self, saved: CheckpointSaved, wire: Wire, inbox: Inbox, wake: Wake) -> None:
        """Offer a checkpoint to the driver, or upload it to the URL."""
        self._unsafe.add(saved.path)
        if self._remote is None:
            small = self.storage.manifest(saved.path).size <= SMALL
            wire.send(["offer", saved.path, as_text(self.path_of(saved.path)) if small else None])
        else:
            self._transfers.submit(self._upload, self._remote, saved.path, inbox, wake)

    def delete_older(self, saved: CheckpointSaved) -> None:
        """Delete the trial's older checkpoints that are stored elsewhere, except the one that it started from.

        Training code may read that one again.
        """
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
            # The upload before this one has waited for the storage already.  If the trial must stop, waiting again for
            # each checkpoint in the queue would take too long.
            if self._failed is not None and self.hurries:
                raise self._failed
            self._failed = None
            with self.storage.fetch(name) as source:
                about = self.storage.manifest(name).about
                remote.save(name, lambda target: copy_contents(source, target, skip=MANIFEST), lambda: about)
        except Exception as error:  # noqa: BLE001 - no error of a storage may end the worker
            self._failed = error if isinstance(error, StorageUnreachable) else None
            inbox.put(["refused", name, f"the checkpoint {name} can't be stored: {error}", blame(error)])
        else:
            self._unsafe.discard(name)
            inbox.put(["kept", name])
        wake()

    def _download(self, remote: Storage, name: str, inbox: Inbox, wake: Wake) -> None:
        try:
            with remote.fetch(name) as source, atomic_directory(self.path_of(name)) as directory:
                copy_contents(source, directory)
        except CheckpointError as error:
            inbox.put(["missing", name, str(error), blame(error) or "damaged"])
        except OSError as error:
            inbox.put(["missing", name, f"the checkpoint {name} can't be fetched: {error}", blame(error)])
        else:
            inbox.put(["delivered", name, None])
        wake()
