"""A store in memory: the simplest one, with which the others are compared."""

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
    ExperimentId,
    ExperimentRecord,
    LeaseState,
    PendingRequest,
    RequestId,
    Seq,
    Token,
)
from ashwood.eventlog.refusals import busy, lost, moved_on
from ashwood.eventlog.rows import check_name, check_note, note_digest, storable
from ashwood.eventlog.state import state_after
from ashwood.experiment.entry import Entry
from ashwood.experiment.events import Request
from ashwood.experiment.lifecycle import ExperimentState
from ashwood.experiment.spec import ExperimentSpec
from ashwood.search.vocabulary import TrialId


@dataclass
class _Stored:
    """Data of one experiment in a `MemoryStore`."""

    spec: ExperimentSpec
    record: ExperimentRecord
    entries: list[Entry] = field(default_factory=list)
    token: Token = 0
    owner: Driver | None = None
    beat: int = 0
    seen: float = 0.0
    notes: dict[TrialId | None, str] = field(default_factory=dict)
    requests: dict[RequestId, PendingRequest] = field(default_factory=dict)
    answers: dict[RequestId, Answer] = field(default_factory=dict)


class MemoryStore:
    """A store that holds everything in memory; see `ashwood.eventlog.port.Store`."""

    def __init__(self) -> None:
        self._stored: dict[ExperimentId, _Stored] = {}
        self._numbers = count(1)
        self._request_numbers = count(1)

    def create(self, spec: ExperimentSpec, *, at: float) -> ExperimentId:
        """Add an experiment with an empty log, and return its number."""
        experiment = next(self._numbers)
        record = ExperimentRecord(experiment, at, check_name(spec.name), ExperimentState.CREATED, {}, spec.labels)
        self._stored[experiment] = _Stored(spec, record)
        return experiment

    def experiments(self) -> Sequence[ExperimentRecord]:
        """Return the records of all experiments, the oldest first."""
        return tuple(stored.record for stored in self._stored.values())

    def record(self, experiment: ExperimentId) -> ExperimentRecord:
        """Return the record of an experiment."""
        return self._find(experiment).record

    def spec(self, experiment: ExperimentId) -> ExperimentSpec:
        """Return the spec of an experiment."""
        return self._find(experiment).spec

    def change_spec(self, experiment: ExperimentId, spec: ExperimentSpec) -> None:
        """Replace the spec of an experiment."""
        self._find(experiment).spec = spec

    def check_spec(self, experiment: ExperimentId) -> None:
        """Check that an experiment exists; its spec cannot be damaged in memory."""
        self._find(experiment)

    def log(self, experiment: ExperimentId, token: Token | None = None) -> MemoryLog:
        """Return the log of an experiment."""
        return MemoryLog(self, experiment, token)

    def annotate(
        self,
        experiment: ExperimentId,
        *,
        name: str | None = None,
        labels: Sequence[str] | None = None,
        archived: bool | None = None,
    ) -> None:
        """Change the name, the labels or the archived flag of an experiment."""
        stored = self._find(experiment)
        stored.record = stored.record._replace(
            name=stored.record.name if name is None else check_name(name),
            labels=stored.record.labels if labels is None else tuple(labels),
            archived=stored.record.archived if archived is None else archived,
        )

    def notes(self, experiment: ExperimentId) -> Mapping[TrialId | None, str]:
        """Return the notes on an experiment and on its trials."""
        return dict(self._find(experiment).notes)

    def note_digests(self, experiment: ExperimentId) -> Mapping[TrialId | None, int]:
        """Return the digests of the notes."""
        notes = self._find(experiment).notes
        return {trial: note_digest(trial, text) for trial, text in notes.items()}

    def set_note(self, experiment: ExperimentId, trial: TrialId | None, text: str) -> None:
        """Replace the note on a trial or on the experiment; an empty text removes it."""
        text = check_note(text)
        notes = self._find(experiment).notes
        notes[trial] = text
        if not text:
            del notes[trial]

    def delete(self, experiment: ExperimentId) -> None:
        """Delete an experiment, its log and its requests."""
        self._find(experiment)
        del self._stored[experiment]

    def lease(self, experiment: ExperimentId) -> LeaseState | None:
        """Return the lease of an experiment, or None if no driver owns it."""
        stored = self._stored.get(experiment)
        if stored is None or stored.owner is None:
            return None
        return LeaseState(stored.token, stored.beat, stored.owner, time.monotonic() - stored.seen)

    def take_lease(self, experiment: ExperimentId, driver: Driver, *, over: LeaseState | None = None) -> Token:
        """Take the lease of an experiment that has no owner, or whose lease is still equal to ``over``."""
        stored = self._find(experiment)
        if stored.owner is not None and (over is None or (stored.token, stored.beat) != (over.token, over.beat)):
            raise busy(self.lease(experiment))
        stored.token, stored.owner, stored.beat, stored.seen = stored.token + 1, driver, 0, time.monotonic()
        return stored.token

    def beat(self, experiment: ExperimentId, token: Token) -> None:
        """Record a heartbeat of the owner."""
        if not self._owns(experiment, token):
            raise lost(experiment, self.lease(experiment))
        stored = self._find(experiment)
        stored.beat, stored.seen = stored.beat + 1, time.monotonic()

    def release_lease(self, experiment: ExperimentId, token: Token) -> None:
        """Give a lease back, or do nothing if it is lost."""
        if self._owns(experiment, token):
            self._find(experiment).owner = None

    def post(self, experiment: ExperimentId, request: Request, *, at: float) -> RequestId:
        """Add a request to the inbox of an experiment, and return its number."""
        stored = self._find(experiment)
        number = next(self._request_numbers)
        stored.requests[number] = request
        return number

    def pending(self, experiment: ExperimentId) -> Sequence[tuple[RequestId, PendingRequest]]:
        """Return the requests that have no answer yet, the oldest first."""
        stored = self._stored.get(experiment)
        return [item for item in stored.requests.items() if item[0] not in stored.answers] if stored else []

    def answer(self, request: RequestId) -> Answer | None:
        """Return the answer to a request, or None if it has none yet."""
        for stored in self._stored.values():
            if request in stored.requests:
                return stored.answers.get(request)
        raise NotFound(f"there is no request {request}")

    def hurry(self, *, on: bool = True) -> None:
        """Do nothing: there is no server."""

    def is_gone(self) -> bool:
        """Return False: there is no file that could be deleted."""
        return False

    def close(self) -> None:
        """Do nothing: there are no files or connections."""

    def _find(self, experiment: ExperimentId) -> _Stored:
        try:
            return self._stored[experiment]
        except KeyError:
            raise NotFound(f"there is no experiment {experiment}") from None

    def _owns(self, experiment: ExperimentId, token: Token) -> bool:
        lease = self.lease(experiment)
        return lease is not None and lease.token == token


class MemoryLog:
    """The event log of one experiment in a `MemoryStore`."""

    def __init__(self, store: MemoryStore, experiment: ExperimentId, token: Token | None = None) -> None:
        self._store = store
        self._experiment = experiment
        self._token = token
        self._last = len(store._find(experiment).entries)

    def append(
        self,
        entries: Sequence[Entry],
        *,
        summary: Mapping[str, Any] | None = None,
        answers: Mapping[RequestId, Answer] | None = None,
    ) -> Seq:
        """Add entries and answer requests, all or nothing."""
        store, experiment = self._store, self._experiment
        if self._token is not None and not store._owns(experiment, self._token):
            raise lost(experiment, store.lease(experiment))
        stored = store._find(experiment)
        if len(stored.entries) != self._last:
            raise moved_on(experiment, self._last)
        stored.entries.extend(entries)
        for number, (refused,) in (answers or {}).items():
            if number in stored.requests:
                stored.answers[number] = Answer(refused and storable(refused))
        stored.record = stored.record._replace(
            state=state_after(entries) or stored.record.state,
            summary=stored.record.summary if summary is None else summary,
        )
        self._last += len(entries)
        return self._last

    def read(self, *, after: Seq = 0) -> Iterator[tuple[Seq, Entry]]:
        """Yield the entries after ``after``, in order."""
        for seq, entry in enumerate(self._store._find(self._experiment).entries[after:], start=after + 1):
            yield seq, entry
            self._store._find(self._experiment)  # Raises NotFound if the experiment was deleted meanwhile.

    def last(self) -> Seq:
        """Return the number of the last entry, or 0 if there is none."""
        return len(self._store._find(self._experiment).entries)
