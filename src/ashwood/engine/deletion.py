"""Removes checkpoints that nobody needs any more, beside the running search."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType

from ashwood.engine.clock import elapsed
from ashwood.eventlog.port import Entry
from ashwood.experiment.decisions import DeleteCheckpoint
from ashwood.trial.storage import Storage

_PATIENCE = 10.0
"""Seconds for what is left at the end of a run."""
_SILENT_SECONDS = 2.0
"""Seconds without a deletion after which the storage is taken for unreachable at the end of a run."""


class CheckpointDeletion:
    """A thread that deletes what entries say is to be deleted: a slow storage must not slow the search down.

    What it doesn't get done, because the storage can't be reached or the driver dies, ``ashwood gc`` finds.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._names: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._over = threading.Event()
        self._deleted = 0
        self._thread = threading.Thread(target=self._work, name="ashwood-deletion", daemon=True)

    def observe(self, entries: Sequence[Entry]) -> None:
        """Take the durable entries of a turn."""
        for entry in entries:
            for decision in entry.decisions:
                if isinstance(decision, DeleteCheckpoint):
                    self._names.put(decision.path)

    def _work(self) -> None:
        while (name := self._names.get()) is not None and not self._over.is_set():
            with suppress(Exception):  # whatever a storage has against one mustn't save the others
                self._storage.delete(name)
            self._deleted += 1

    def __enter__(self) -> CheckpointDeletion:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:  # another driver may be there already
            self._over.set()
        self._names.put(None)
        deadline, deleted = elapsed() + _PATIENCE, -1
        while self._thread.is_alive() and self._deleted > deleted and (left := deadline - elapsed()) > 0:
            deleted = self._deleted
            self._thread.join(min(left, _SILENT_SECONDS))
        self._over.set()
