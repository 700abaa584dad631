"""Jobs, verdicts and reasons: the types that all search methods share.

A search method has a pull interface.  The caller asks for a job (``next_job``) and passes on
what happened (``report``, ``exited``); the search method never calls anything else.
Lengths are totals in the experiment's unit, never increments.  A loss is the metric with the
sign with which lower is better.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple, Protocol, TypeAlias

from ashwood.search.settings import NO_LENGTH

TrialId: TypeAlias = int
"""Trials are numbered 0, 1, 2, … in the order in which the search created them."""

Snapshot: TypeAlias = Mapping[str, Any]
"""State of a search method as JSON-able data."""


# -- reasons of decisions ------------------------------------------------------------------


def _promotes(best: int) -> str:
    return f"the best {best} {'is' if best == 1 else 'are'} promoted"


class Created(NamedTuple):
    """A new trial: the ``nth`` of bracket ``bracket``, counted from 0."""

    bracket: int
    nth: int

    def __str__(self) -> str:
        return f"trial {self.nth} of bracket {self.bracket}"


class CreatedHigher(NamedTuple):
    """A new trial that is compared from rung ``rung`` on, because the rungs below predict nothing."""

    bracket: int
    nth: int
    rung: int

    def __str__(self) -> str:
        return (
            f"trial {self.nth} of bracket {self.bracket}, compared from rung {self.rung} on: "
            f"rung {self.rung - 1} did not predict which trials are good"
        )


class CreatedHedged(NamedTuple):
    """A new trial that is compared from rung ``rung`` on, because a half of the training skips the rung below."""

    bracket: int
    nth: int
    rung: int

    def __str__(self) -> str:
        return (
            f"trial {self.nth} of bracket {self.bracket}, compared from rung {self.rung} on: "
            f"half of the training skips rung {self.rung - 1}, in case that rung misleads"
        )


Drawn: TypeAlias = Created | CreatedHigher | CreatedHedged
"""Reasons for a job of a new trial whose hyperparameters are drawn."""


class Replicated(NamedTuple):
    """A new trial with the hyperparameters of trial ``original`` and another training seed: its replicate ``number``.

    Replicates of a trial are numbered from 1.
    """

    original: TrialId
    number: int

    def __str__(self) -> str:
        return f"trains the settings of trial {self.original} again with another seed"


New: TypeAlias = Drawn | Replicated
"""Reasons for a job of a new trial."""


class Promoted(NamedTuple):
    """The trial had rank ``rank`` of ``of`` results in its rung, and the best ``best`` are promoted."""

    rung: int
    rank: int
    of: int
    best: int

    def __str__(self) -> str:
        return f"rank {self.rank} of {self.of} at rung {self.rung}; {_promotes(self.best)}"


class Audited(NamedTuple):
    """The trial was drawn at random among all that waited in its rung; see `ashwood.search.audits`."""

    rung: int
    rank: int
    of: int

    def __str__(self) -> str:
        why = "promoted as an audit: drawn at random to check early stopping"
        return f"rank {self.rank} of {self.of} at rung {self.rung}; {why}"


class LastChance(NamedTuple):
    """The rung can get no further result and no trial has passed it, so its best trial is promoted."""

    rung: int
    rank: int
    of: int

    def __str__(self) -> str:
        return f"rank {self.rank} of {self.of} at rung {self.rung}; promoted because no other trial can reach the end"


class Waits(NamedTuple):
    """The trial is not promoted now, and may be promoted later."""

    rung: int
    rank: int
    of: int
    best: int

    def __str__(self) -> str:
        promoted = _promotes(self.best) if self.best else "none is promoted yet"
        return f"rank {self.rank} of {self.of} at rung {self.rung}; {promoted}"


class Dropped(NamedTuple):
    """The trial was not among the best when it reported, so it is stopped (`SearchSettings.stop_once`)."""

    rung: int
    rank: int
    of: int
    best: int

    def __str__(self) -> str:
        return f"rank {self.rank} of {self.of} at rung {self.rung}; only {_promotes(self.best)}"


class ReachedEnd(NamedTuple):
    """The trial trained to the longest length of the search."""

    length: int

    def __str__(self) -> str:
        if self.length == NO_LENGTH:
            return "its training code returned"
        return f"trained to the full length of {self.length}"


class BracketFinished(NamedTuple):
    """No trial of the bracket can be promoted any more, so its paused trials are stopped."""

    bracket: int

    def __str__(self) -> str:
        return f"bracket {self.bracket} has finished; no more trials are promoted"


class RetriedOnRequest(NamedTuple):
    """The trial failed before it reached this rung, and a user asked to retry it."""

    rung: int

    def __str__(self) -> str:
        return f"it failed before it reached rung {self.rung} and is retried on request"


class Extended(NamedTuple):
    """The search was extended to a greater length, and the trial had trained to the former one, ``length``."""

    length: int

    def __str__(self) -> str:
        return f"the search was extended, and it had trained to the former max_length of {self.length}"


Reason: TypeAlias = (
    Created
    | CreatedHigher
    | CreatedHedged
    | Replicated
    | Promoted
    | Audited
    | LastChance
    | Waits
    | Dropped
    | ReachedEnd
    | BracketFinished
    | RetriedOnRequest
    | Extended
)


# -- answers of a search method ---------------------------------------------------------------


class Job(NamedTuple):
    """Train a trial from its latest checkpoint to a total length of ``target``.

    If the trial is new, ``why`` is a `New`.  Otherwise the trial is paused.
    """

    trial: TrialId
    target: int
    why: Reason


class Promote(NamedTuple):
    """Continue at once, to ``target``."""

    target: int
    why: Reason


class Pause(NamedTuple):
    """Pause at this rung.  `SearchMethod.next_job` may name the trial again, also immediately."""

    why: Reason


class Stop(NamedTuple):
    """End the trial; it is never named again."""

    why: Reason


Verdict: TypeAlias = Promote | Pause | Stop


class Retired(NamedTuple):
    """A paused trial that will never be promoted."""

    trial: TrialId
    why: BracketFinished


class Exit(StrEnum):
    """How a trial ended if the search did not end it."""

    ERRORED = "errored"
    KILLED = "killed"
    STOPPED = "stopped"
    """Training code called ``trial.stop()``, or the user stopped the trial."""
    INVALID = "invalid"
    """The training code declared the hyperparameters invalid."""


class SearchMethod(Protocol):
    """Decides which trial trains how long.  Every call takes O(log n) time for n trials."""

    def next_job(self) -> Job | None:
        """Return what a free worker should train, or None if there is nothing now."""

    def report(self, trial: TrialId, length: int, loss: float) -> Verdict:
        """Process the result of a trial at ``length``, which is at or past the target of its job.

        The loss may be any float.  NaN and infinities rank worst.

        Raises:
            SearchError: the trial has no job, or ``length`` is short of its target.
        """

    def exited(self, trial: TrialId, how: Exit) -> None:
        """Record that a trial ended while it trained or while it was paused.

        Raises:
            SearchError: the trial is unknown or has already ended.
        """

    def retired(self) -> Sequence[Retired]:
        """Return the paused trials that will never be promoted, each only once."""

    @property
    def done(self) -> bool:
        """Whether the search is over: no trial trains, and ``next_job`` returns None from now on."""

    def address(self, trial: TrialId) -> tuple[int, int]:
        """Return a trial's bracket and its index in that bracket, which are the address of its random draws.

        A replicate has the address of its original.
        """

    def snapshot(self) -> Snapshot:
        """Return the whole state as JSON-able data."""

    def restore(self, snapshot: Snapshot) -> None:
        """Set the state to that of a snapshot, which a search with equal settings made."""
