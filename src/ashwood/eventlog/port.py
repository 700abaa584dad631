"""The port of the durable record: append entries, read them back; and the shelf that the logs stand on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

from ashwood.experiment.decisions import Decision
from ashwood.experiment.events import Event
from ashwood.experiment.lifecycle import ExperimentState
from ashwood.experiment.spec import ExperimentSpec

ExperimentId: TypeAlias = int
"""Experiments of a home are numbered 1, 2, 3, …"""

Seq: TypeAlias = int
"""The place of an entry in its log: 1, 2, 3, … without gaps."""


class Entry(NamedTuple):
    """An event, when it was handled (seconds since 1970), and the decisions that it caused."""

    at: float
    event: Event
    decisions: tuple[Decision, ...]


class ExperimentRecord(NamedTuple):
    """What a store knows of an experiment without reading its log.

    ``summary`` speeds lists up and can be rebuilt from the log.
    """

    id: ExperimentId
    created_at: float
    name: str
    state: ExperimentState
    summary: Mapping[str, Any]


class EventLog(Protocol):
    """The log of one experiment."""

    def append(self, entries: Sequence[Entry], *, summary: Mapping[str, Any] | None = None) -> Seq:
        """Add entries, all or none; when this returns they survive a power loss.  Returns the last one's place.

        Raises:
            EventLogError: they could not be made durable; nothing was added.
        """
        ...

    def read(self, *, after: Seq = 0) -> Iterator[tuple[Seq, Entry]]:
        """The entries behind ``after``, in order.

        Raises:
            EventLogError: an entry can't be read; the message names it.
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

    def log(self, experiment: ExperimentId) -> EventLog:
        """An experiment's log.

        Raises:
            NotFound: there is none of that number.
        """
        ...

    def close(self) -> None:
        """Let go of files and connections.  Idempotent."""
        ...
