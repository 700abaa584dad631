"""The port of the durable record: append entries, read them back; and the shelf that the logs stand on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

from ashwood.experiment.decisions import Decision
from ashwood.experiment.events import Event, Request
from ashwood.experiment.lifecycle import ExperimentState
from ashwood.experiment.spec import ExperimentSpec

ExperimentId: TypeAlias = int
"""Experiments of a home are numbered 1, 2, 3, …"""

LARGEST_ID = 2**63 - 1
"""The largest number that stores can look up. What users give is compared with it where they give it."""

RequestId: TypeAlias = int
"""Requests of a home are numbered 1, 2, 3, …"""

Token: TypeAlias = int
"""Tells one time of ownership of an experiment from every other; rises with each new owner."""

Seq: TypeAlias = int
"""The place of an entry in its log: 1, 2, 3, … without gaps."""


class Entry(NamedTuple):
    """An event, when it was handled (seconds since 1970), and the decisions that it caused."""

    at: float
    event: Event
    decisions: tuple[Decision, ...]


class ExperimentRecord(NamedTuple):
    """What a store knows of an experiment without reading its log.

    ``summary`` speeds lists up and can be rebuilt from the log.  ``damage`` says what of the record is damaged and what
    to do about it, or is None.
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
        host: the machine's name, for people.
        process: its process id.
        machine: tells this boot of this machine, and its space of process ids, from every other.
        started: when the process started, in a measure of the machine's own: process ids are used again.
    """

    host: str
    process: int
    machine: str
    started: int

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}"


class LeaseState(NamedTuple):
    """Who owns an experiment.

    Attributes:
        token: tells this time of ownership from every other.
        beat: rises with every sign of life of the owner.
        driver: the owner.
        idle: seconds since its last sign of life, by the store's clock: for people, as clocks jump (also to below 0).
    """

    token: Token
    beat: int
    driver: Driver
    idle: float


class Answer(NamedTuple):
    """What became of a request; ``refused`` says why it couldn't be done, None: it was."""

    refused: str | None


class UnreadableRequest(NamedTuple):
    """A request that the store cannot decode: it is damaged, or a newer Ashwood wrote it."""

    why: str


PendingRequest: TypeAlias = Request | UnreadableRequest
"""A request that has no answer yet.  `UnreadableRequest` must be answered with a refusal."""


class EventLog(Protocol):
    """The log of one experiment."""

    def append(
        self,
        entries: Sequence[Entry],
        *,
        summary: Mapping[str, Any] | None = None,
        answers: Mapping[RequestId, Answer] | None = None,
    ) -> Seq:
        """Add entries and answer requests, all or none; when this returns they survive a power loss.

        ``entries`` may be empty, where there are only answers.  Returns the place of the last entry of the log.

        Raises:
            DiskFull: there is no room; nothing was added, and it may be tried again.
            LeaseLost: the log was opened with a token, and another driver owns the experiment now.
            EventLogError: they could not be made durable; nothing was added.
        """
        ...

    def read(self, *, after: Seq = 0) -> Iterator[tuple[Seq, Entry]]:
        """The entries behind ``after``, in order.

        Raises:
            EventLogError: an entry is missing, damaged or of a newer Ashwood; the message names it.
        """
        ...

    def last(self) -> Seq:
        """The place of the last entry; 0: there is none.

        Raises:
            NotFound: the experiment was deleted.
        """
        ...


class Store(Protocol):
    """All experiments of a home."""

    def create(self, spec: ExperimentSpec, *, at: float) -> ExperimentId:
        """Take a new experiment in, with an empty log."""
        ...

    def experiments(self) -> Sequence[ExperimentRecord]:
        """All experiments, the oldest first."""
        ...

    def record(self, experiment: ExperimentId) -> ExperimentRecord:
        """One experiment.

        Raises:
            NotFound: there is none of that number.
        """
        ...

    def spec(self, experiment: ExperimentId) -> ExperimentSpec:
        """What an experiment is.

        Raises:
            NotFound: there is none of that number.
        """
        ...

    def change_spec(self, experiment: ExperimentId, spec: ExperimentSpec) -> None:
        """Change what an experiment is, such as the place of its code; the caller owns the experiment.

        Raises:
            NotFound: there is none of that number.
        """
        ...

    def check_spec(self, experiment: ExperimentId) -> None:
        """Check the spec of an experiment without decoding it, as a list does for each experiment.

        Raises:
            NotFound: there is none of that number.
            EventLogError: the spec is damaged, or of a newer Ashwood.
        """
        ...

    def log(self, experiment: ExperimentId, token: Token | None = None) -> EventLog:
        """An experiment's log; with the token of a lease, nothing can be appended once the lease is lost.

        Raises:
            NotFound: there is none of that number.
        """
        ...

    # -- what people call it --------------------------------------------------------------------

    def annotate(
        self,
        experiment: ExperimentId,
        *,
        name: str | None = None,
        labels: Sequence[str] | None = None,
        archived: bool | None = None,
    ) -> None:
        """Change what the list of experiments shows; None: leave it.

        Raises:
            NotFound: there is none of that number.
        """
        ...

    def delete(self, experiment: ExperimentId) -> None:
        """Forget an experiment, its log and its requests.  Its number is never used again.

        Raises:
            NotFound: there is none of that number.
        """
        ...

    # -- who drives it ----------------------------------------------------------------------------

    def lease(self, experiment: ExperimentId) -> LeaseState | None:
        """Who owns an experiment; None: nobody."""
        ...

    def take_lease(self, experiment: ExperimentId, driver: Driver, *, over: LeaseState | None = None) -> Token:
        """Own an experiment that nobody owns, or whose owner is still exactly ``over``: same token, same beat.

        Raises:
            ExperimentBusy: somebody else owns it, or has given a sign of life since.
        """
        ...

    def beat(self, experiment: ExperimentId, token: Token) -> None:
        """Give a sign of life.

        Raises:
            LeaseLost: another driver owns the experiment now.
        """
        ...

    def release_lease(self, experiment: ExperimentId, token: Token) -> None:
        """Let go of an experiment; nothing happens where the lease is lost already."""
        ...

    # -- the inbox of requests ----------------------------------------------------------------------

    def post(self, experiment: ExperimentId, request: Request, *, at: float) -> RequestId:
        """Leave a request for whoever drives the experiment, now or next; it survives a power loss.

        Raises:
            NotFound: there is no such experiment.
        """
        ...

    def pending(self, experiment: ExperimentId) -> Sequence[tuple[RequestId, PendingRequest]]:
        """Return the requests that have no answer yet, the oldest first.

        A request that cannot be decoded is an `UnreadableRequest`, so that it does not hide the others.
        """
        ...

    def answer(self, request: RequestId) -> Answer | None:
        """What became of a request; None: it waits.

        Raises:
            NotFound: there is no such request.
        """
        ...

    def hurry(self, *, on: bool = True) -> None:
        """Wait for no server that is away from now on; ``on=False``: wait again.

        Safe in a signal handler of the thread that uses the store.

        Raises:
            EventLogError: that thread waits for a server right now.
        """
        ...

    def is_gone(self) -> bool:
        """Return whether the database file was deleted or replaced since it was opened."""
        ...

    def close(self) -> None:
        """Let go of files and connections.  Idempotent."""
        ...
