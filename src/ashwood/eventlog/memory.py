"""A store that lives as long as its process: for tests and simulations."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from ashwood.errors import NotFound
from ashwood.eventlog.port import (
    Answer,
    Driver,
    Entry,
    ExperimentId,
    ExperimentRecord,
    LeaseState,
    PendingRequest,
    RequestId,
    Seq,
    Token,
)
from ashwood.eventlog.refusals import busy, lost, moved_on
from ashwood.eventlog.rows import check_name, storable
from ashwood.eventlog.state import state_after
from ashwood.experiment.events import Request
from ashwood.experiment.lifecycle import ExperimentState
from ashwood.experiment.spec import ExperimentSpec


@dataclass
class _Shelf:
    """What the store holds of one experiment."""

    spec: ExperimentSpec
    record: ExperimentRecord
    entries: list[Entry] = field(default_factory=list)
    token: Token = 0
    owner: Driver | None = None
    beat: int = 0
    seen: float = 0.0
    requests: dict[RequestId, PendingRequest] = field(default_factory=dict)
    answers: dict[RequestId, Answer] = field(default_factory=dict)


class MemoryStore:
    """Holds everything in lists; see `ashwood.eventlog.port.Store`."""

    def __init__(self) -> None:
        self._shelves: dict[ExperimentId, _Shelf] = {}
        self._numbers = count(1)
        self._request_numbers = count(1)

    def create(self, spec: ExperimentSpec, *, at: float) -> ExperimentId:
        """Take a new experiment in, with an empty log."""
        experiment = next(self._numbers)
        record = ExperimentRecord(experiment, at, check_name(spec.name), ExperimentState.CREATED, {}, spec.labels)
        self._shelves[experiment] = _Shelf(spec, record)
        return experiment

    def experiments(self) -> Sequence[ExperimentRecord]:
        """All experiments, the oldest first."""
        return tuple(shelf.record for shelf in self._shelves.values())

    def record(self, experiment: ExperimentId) -> ExperimentRecord:
        """One experiment."""
        return self._shelf(experiment).record

    def spec(self, experiment: ExperimentId) -> ExperimentSpec:
        """What an experiment is."""
        return self._shelf(experiment).spec

    def change_spec(self, experiment: ExperimentId, spec: ExperimentSpec) -> None:
        """Change what an experiment is."""
        self._shelf(experiment).spec = spec

    def check_spec(self, experiment: ExperimentId) -> None:
        """Check that there is an experiment, because a spec in memory cannot be damaged."""
        self._shelf(experiment)

    def log(self, experiment: ExperimentId, token: Token | None = None) -> MemoryLog:
        """An experiment's log."""
        return MemoryLog(self, experiment, token)

    def annotate(
        self,
        experiment: ExperimentId,
        *,
        name: str | None = None,
        labels: Sequence[str] | None = None,
        archived: bool | None = None,
    ) -> None:
        """Change what the list of experiments shows."""
        shelf = self._shelf(experiment)
        shelf.record = shelf.record._replace(
            name=shelf.record.name if name is None else check_name(name),
            labels=shelf.record.labels if labels is None else tuple(labels),
            archived=shelf.record.archived if archived is None else archived,
        )

    def delete(self, experiment: ExperimentId) -> None:
        """Forget an experiment, its log and its requests."""
        self._shelf(experiment)
        del self._shelves[experiment]

    def lease(self, experiment: ExperimentId) -> LeaseState | None:
        """Who owns an experiment; None: nobody."""
        shelf = self._shelves.get(experiment)
        if shelf is None or shelf.owner is None:
            return None
        return LeaseState(shelf.token, shelf.beat, shelf.owner, time.monotonic() - shelf.seen)

    def take_lease(self, experiment: ExperimentId, driver: Driver, *, over: LeaseState | None = None) -> Token:
        """Own an experiment that nobody owns, or whose owner is still exactly ``over``."""
        shelf = self._shelf(experiment)
        if shelf.owner is not None and (over is None or (shelf.token, shelf.beat) != (over.token, over.beat)):
            raise busy(self.lease(experiment))
        shelf.token, shelf.owner, shelf.beat, shelf.seen = shelf.token + 1, driver, 0, time.monotonic()
        return shelf.token

    def beat(self, experiment: ExperimentId, token: Token) -> None:
        """Give a sign of life."""
        if not self._owns(experiment, token):
            raise lost(experiment, self.lease(experiment))
        shelf = self._shelf(experiment)
        shelf.beat, shelf.seen = shelf.beat + 1, time.monotonic()

    def release_lease(self, experiment: ExperimentId, token: Token) -> None:
        """Let go of an experiment."""
        if self._owns(experiment, token):
            self._shelf(experiment).owner = None

    def post(self, experiment: ExperimentId, request: Request, *, at: float) -> RequestId:  # noqa: ARG002
        """Leave a request for whoever drives the experiment, now or next."""
        shelf = self._shelf(experiment)
        number = next(self._request_numbers)
        shelf.requests[number] = request
        return number

    def pending(self, experiment: ExperimentId) -> Sequence[tuple[RequestId, PendingRequest]]:
        """Return the requests that have no answer yet, the oldest first."""
        shelf = self._shelves.get(experiment)
        return [item for item in shelf.requests.items() if item[0] not in shelf.answers] if shelf else []

    def answer(self, request: RequestId) -> Answer | None:
        """What became of a request; None: it waits."""
        for shelf in self._shelves.values():
            if request in shelf.requests:
                return shelf.answers.get(request)
        raise NotFound(f"there is no request {request}")

    def hurry(self, *, on: bool = True) -> None:
        """Do nothing: there is no server."""

    def is_gone(self) -> bool:
        """Return False: there is no file that could be deleted."""
        return False

    def close(self) -> None:
        """Nothing to let go of."""

    def _shelf(self, experiment: ExperimentId) -> _Shelf:
        try:
            return self._shelves[experiment]
        except KeyError:
            raise NotFound(f"there is no experiment {experiment}") from None

    def _owns(self, experiment: ExperimentId, token: Token) -> bool:
        lease = self.lease(experiment)
        return lease is not None and lease.token == token


class MemoryLog:
    """The log of one experiment of a `MemoryStore`."""

    def __init__(self, store: MemoryStore, experiment: ExperimentId, token: Token | None = None) -> None:
        self._store = store
        self._experiment = experiment
        self._token = token
        self._last = len(store._shelf(experiment).entries)

    def append(
        self,
        entries: Sequence[Entry],
        *,
        summary: Mapping[str, Any] | None = None,
        answers: Mapping[RequestId, Answer] | None = None,
    ) -> Seq:
        """Add entries and answer requests, all or none."""
        store, experiment = self._store, self._experiment
        if self._token is not None and not store._owns(experiment, self._token):
            raise lost(experiment, store.lease(experiment))
        shelf = store._shelf(experiment)
        if len(shelf.entries) != self._last:
            raise moved_on(experiment, self._last)
        shelf.entries.extend(entries)
        for number, (refused,) in (answers or {}).items():
            if number in shelf.requests:
                shelf.answers[number] = Answer(refused and storable(refused))
        shelf.record = shelf.record._replace(
            state=state_after(entries) or shelf.record.state,
            summary=shelf.record.summary if summary is None else summary,
        )
        self._last += len(entries)
        return self._last

    def read(self, *, after: Seq = 0) -> Iterator[tuple[Seq, Entry]]:
        """Yield the entries after ``after``, in order."""
        for seq, entry in enumerate(self._store._shelf(self._experiment).entries[after:], start=after + 1):
            yield seq, entry
            self._store._shelf(self._experiment)  # Raises NotFound if the experiment was deleted meanwhile.

    def last(self) -> Seq:
        """The place of the last entry."""
        return len(self._store._shelf(self._experiment).entries)
