"""Interfaces of event logs and of the stores that hold them, and the types that they share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

from ashwood.experiment.entry import Entry
from ashwood.experiment.events import Request
from ashwood.experiment.lifecycle import ExperimentState
from ashwood.experiment.spec import ExperimentSpec
from ashwood.search.vocabulary import TrialId

ExperimentId: TypeAlias = int
"""Number of an experiment in its home: 1, 2, 3, …"""

LARGEST_ID = 2**63 - 1
"""Largest number of an experiment that stores can look up.  Code that reads numbers from users must check it."""

RequestId: TypeAlias = int
"""Number of a request in its home: 1, 2, 3, …"""

Token: TypeAlias = int
"""Fencing token of a lease: it rises with each new owner of an experiment."""

Seq: TypeAlias = int
"""Number of an entry in its log: 1, 2, 3, … without gaps."""


class ExperimentRecord(NamedTuple):
    """An experiment in a list, with the facts that a store has without reading its log.

    Attributes:
        id: its number.
        created_at: when it was created, in seconds since 1970.
        name: its name.
        state: its state.
        summary: progress for lists, such as the best trial; it can be rebuilt from the log.
        labels: its labels.
        archived: whether lists leave it out by default.
        damage: message about damage of the stored record, with advice, or None.
    """

    id: ExperimentId
    created_at: float
    name: str
    state: ExperimentState
    summary: Mapping[str, Any]
    labels: tuple[str, ...] = ()
    archived: bool = False
    damage: str | None = None


class Driver(NamedTuple):
    """A process that drives an experiment.

    Attributes:
        host: name of its machine, for messages.
        process: its process id.
        machine: identity of the machine, its present boot and its namespace of process ids.
        started: when the process started; it distinguishes processes with the same id.  Its unit depends on the
            operating system.
    """

    host: str
    process: int
    machine: str
    started: int

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}"


class LeaseState(NamedTuple):
    """The lease of an experiment.

    Attributes:
        token: its fencing token.
        beat: number that rises with each heartbeat of the owner.
        driver: the owner.
        idle: seconds since the last heartbeat by the store's clock; clocks may jump, so it can be wrong or negative.
    """

    token: Token
    beat: int
    driver: Driver
    idle: float


class Answer(NamedTuple):
    """The answer to a request.

    Attributes:
        refused: why the request was refused, or None if it was carried out.
    """

    refused: str | None


class UnreadableRequest(NamedTuple):
    """A request that cannot be decoded, because it is damaged or a newer Ashwood wrote it.

    Attributes:
        why: the error message.
    """

    why: str


PendingRequest: TypeAlias = Request | UnreadableRequest
"""A request that has no answer yet.  The driver must refuse an `UnreadableRequest`."""


class EventLog(Protocol):
    """The event log of one experiment."""

    def append(
        self,
        entries: Sequence[Entry],
        *,
        summary: Mapping[str, Any] | None = None,
        answers: Mapping[RequestId, Answer] | None = None,
    ) -> Seq:
        """Add entries and answer requests, all or nothing, and return the number of the last entry of the log.

        When this returns, they survive a power loss.  When it raises, nothing was added.

        Args:
            entries: the new entries; may be empty.
            summary: the new summary for lists, or None to leave it.
            answers: answers to requests, by the number of the request.

        Raises:
            DiskFull: the disk is full; the caller may free space and try again.
            LeaseLost: the log was opened with a token, and that driver does not own the experiment any more.
            EventLogError: the entries could not be stored durably.
        """

    def read(self, *, after: Seq = 0) -> Iterator[tuple[Seq, Entry]]:
        """Yield the entries after entry ``after`` with their numbers, in order.

        Raises:
            EventLogError: an entry is missing, damaged or from a newer Ashwood; the message names it.
        """

    def last(self) -> Seq:
        """Return the number of the last entry, or 0 if there is none.

        Raises:
            NotFound: the experiment was deleted.
        """


class Store(Protocol):
    """A store of all experiments of a home: their logs, leases and requests."""

    def create(self, spec: ExperimentSpec, *, at: float) -> ExperimentId:
        """Add an experiment with an empty log, and return its number.

        ``at`` is when it was created, in seconds since 1970.
        """

    def experiments(self) -> Sequence[ExperimentRecord]:
        """Return the records of all experiments, the oldest first."""

    def record(self, experiment: ExperimentId) -> ExperimentRecord:
        """Return the record of an experiment.

        Raises:
            NotFound: there is no such experiment.
        """

    def spec(self, experiment: ExperimentId) -> ExperimentSpec:
        """Return the spec of an experiment.

        Raises:
            NotFound: there is no such experiment.
        """

    def change_spec(self, experiment: ExperimentId, spec: ExperimentSpec) -> None:
        """Replace the spec of an experiment, for example to change the path of its code.

        The caller must own the experiment.

        Raises:
            NotFound: there is no such experiment.
        """

    def check_spec(self, experiment: ExperimentId) -> None:
        """Check the stored spec of an experiment, which is faster than decoding it; lists do so for each experiment.

        Raises:
            NotFound: there is no such experiment.
            EventLogError: the spec is damaged or from a newer Ashwood.
        """

    def log(self, experiment: ExperimentId, token: Token | None = None) -> EventLog:
        """Return the log of an experiment; with the token of a lease, it rejects entries once the lease is lost.

        Raises:
            NotFound: there is no such experiment.
        """

    # -- name, labels, archived flag ----------------------------------------------------------------

    def annotate(
        self,
        experiment: ExperimentId,
        *,
        name: str | None = None,
        labels: Sequence[str] | None = None,
        archived: bool | None = None,
    ) -> None:
        """Change the name, the labels or the archived flag of an experiment; None leaves a value unchanged.

        Raises:
            NotFound: there is no such experiment.
        """

    # -- notes --------------------------------------------------------------------------------------

    def notes(self, experiment: ExperimentId) -> Mapping[TrialId | None, str]:
        """Return the Markdown notes on an experiment (key None) and on its trials; a damaged note may be incomplete.

        Raises:
            NotFound: there is no such experiment.
        """

    def note_digests(self, experiment: ExperimentId) -> Mapping[TrialId | None, int]:
        """Return the stored digests of the notes that `notes` returns, which is faster; see `note_digest`.

        Raises:
            NotFound: there is no such experiment.
        """

    def set_note(self, experiment: ExperimentId, trial: TrialId | None, text: str) -> None:
        """Replace the note on a trial, or on the experiment if ``trial`` is None; an empty text removes it.

        Whether there is such a trial is not checked.

        Raises:
            NotFound: there is no such experiment.
            AshwoodError: the text is too long, or no database can store it.
        """

    # -- deletion -----------------------------------------------------------------------------------

    def delete(self, experiment: ExperimentId) -> None:
        """Delete an experiment, its log, its notes and its requests.  Its number is never used again.

        Raises:
            NotFound: there is no such experiment.
        """

    # -- leases -------------------------------------------------------------------------------------

    def lease(self, experiment: ExperimentId) -> LeaseState | None:
        """Return the lease of an experiment, or None if no driver owns it."""

    def take_lease(self, experiment: ExperimentId, driver: Driver, *, over: LeaseState | None = None) -> Token:
        """Take the lease of an experiment, and return its fencing token.

        The experiment must have no owner, or its lease must still have the token and the beat of ``over``.

        Raises:
            ExperimentBusy: another driver owns the experiment, or has recorded a heartbeat since ``over`` was read.
        """

    def beat(self, experiment: ExperimentId, token: Token) -> None:
        """Record a heartbeat of the owner.

        Raises:
            LeaseLost: the driver with this token does not own the experiment any more.
        """

    def release_lease(self, experiment: ExperimentId, token: Token) -> None:
        """Give a lease back, or do nothing if it is lost."""

    # -- the inbox of requests ----------------------------------------------------------------------

    def post(self, experiment: ExperimentId, request: Request, *, at: float) -> RequestId:
        """Add a request to the inbox of an experiment, and return its number.

        The present or the next driver answers it.  When this returns, the request survives a power loss.  ``at`` is the
        present time in seconds since 1970.

        Raises:
            NotFound: there is no such experiment.
        """

    def pending(self, experiment: ExperimentId) -> Sequence[tuple[RequestId, PendingRequest]]:
        """Return the requests that have no answer yet, the oldest first.

        A request that cannot be decoded is returned as an `UnreadableRequest`, so that the others can be read.
        """

    def answer(self, request: RequestId) -> Answer | None:
        """Return the answer to a request, or None if it has none yet.

        Raises:
            NotFound: there is no such request.
        """

    def hurry(self, *, on: bool = True) -> None:
        """From now on, do not wait for a database server that does not answer; ``on=False`` restores waiting.

        It may be called in a signal handler of the thread that uses the store.

        Raises:
            EventLogError: that thread is waiting for a server; the error interrupts the wait.
        """

    def is_gone(self) -> bool:
        """Return whether the database file was deleted or replaced since it was opened."""

    def close(self) -> None:
        """Close files and connections.  Idempotent."""
