"""Deletes checkpoints that are no longer needed, while the search runs."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from contextlib import suppress

from ashwood.checkpoints import Storage
from ashwood.engine.clock import elapsed
from ashwood.experiment.decisions import DeleteCheckpoint
from ashwood.experiment.entry import Entry

_PATIENCE = 10.0
"""Maximum number of seconds that the end of a run waits for deletions."""
_SILENT_SECONDS = 2.0
"""Seconds without a deletion after which the end of a run no longer waits: the storage may be unreachable."""


class CheckpointDeletion:
    """A thread that deletes the checkpoints that decisions name.

    It is a thread because a slow storage must not slow the search down.  Checkpoints that it cannot delete, because
    the storage is unreachable or the driver dies, are deleted by ``ashwood gc``.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._names: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._over = threading.Event()
        self._deleted = 0
        self._thread = threading.Thread(target=self._work, name="ashwood-deletion", daemon=True)

    def observe(self, entries: Sequence[Entry]) -> None:
        """Queue the deletions that new entries of the event log contain; the entries must be durable."""
        for entry in entries:
            for decision in entry.decisions:
                if isinstance(decision, DeleteCheckpoint):
                    self._names.put(decision.path)

    def _work(self) -> None:
        while (name := self._names.get()) is not None and not self._over.is_set():
            with suppress(Exception):  # An error for one checkpoint must not keep the others from being deleted.
                self._storage.delete(name)
            self._deleted += 1

    def __enter__(self) -> CheckpointDeletion:
        self._thread.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None:
            # The lease may be lost, and another driver may need what this one was about to delete.
            self._over.set()
        self._names.put(None)
        deadline, deleted = elapsed() + _PATIENCE, -1
        while self._thread.is_alive() and self._deleted > deleted and (left := deadline - elapsed()) > 0:
            deleted = self._deleted
            self._thread.join(min(left, _SILENT_SECONDS))
        self._over.set()
