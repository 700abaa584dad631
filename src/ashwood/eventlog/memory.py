"""A store that lives as long as its process: for tests and simulations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ashwood.errors import NotFound
from ashwood.eventlog.port import Entry, ExperimentId, ExperimentRecord, Seq
from ashwood.eventlog.state import state_after
from ashwood.experiment.lifecycle import ExperimentState
from ashwood.experiment.spec import ExperimentSpec


class MemoryStore:
    """Holds everything in lists; see `ashwood.eventlog.port.Store`."""

    def __init__(self) -> None:
        self._specs: list[ExperimentSpec] = []
        self._records: list[ExperimentRecord] = []
        self._entries: list[list[Entry]] = []

    def create(self, spec: ExperimentSpec, *, at: float) -> ExperimentId:
        """Take a new experiment in, with an empty log."""
        experiment = len(self._specs) + 1
        self._specs.append(spec)
        self._records.append(ExperimentRecord(experiment, at, spec.name, ExperimentState.CREATED, {}))
        self._entries.append([])
        return experiment

    def experiments(self) -> Sequence[ExperimentRecord]:
        """All experiments, the oldest first."""
        return tuple(self._records)

    def record(self, experiment: ExperimentId) -> ExperimentRecord:
        """One experiment."""
        return self._records[self._index(experiment)]

    def spec(self, experiment: ExperimentId) -> ExperimentSpec:
        """What an experiment is."""
        return self._specs[self._index(experiment)]

    def log(self, experiment: ExperimentId) -> MemoryLog:
        """An experiment's log."""
        return MemoryLog(self, self._index(experiment))

    def close(self) -> None:
        """Nothing to let go of."""

    def _index(self, experiment: ExperimentId) -> int:
        if not 1 <= experiment <= len(self._specs):
            raise NotFound(f"there is no experiment {experiment}")
        return experiment - 1


class MemoryLog:
    """The log of one experiment of a `MemoryStore`."""

    def __init__(self, store: MemoryStore, index: int) -> None:
        self._store = store
        self._index = index

    def append(self, entries: Sequence[Entry], *, summary: Mapping[str, Any] | None = None) -> Seq:
        """Add entries, all or none."""
        store, index = self._store, self._index
        store._entries[index].extend(entries)
        record = store._records[index]
        store._records[index] = record._replace(
            state=state_after(entries) or record.state, summary=record.summary if summary is None else summary
        )
        return len(store._entries[index])

    def read(self, *, after: Seq = 0) -> Iterator[tuple[Seq, Entry]]:
        """The entries behind ``after``, in order."""
        yield from enumerate(self._store._entries[self._index][after:], start=after + 1)
