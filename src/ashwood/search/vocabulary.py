"""The words that every search method speaks.

Rules of this room: nothing here reads a clock, touches a file, logs, or draws at
random.  A search method is asked (``next_job``) and told (``report``, ``exited``);
it never calls out.  Lengths are totals in the experiment's unit, never increments.
A loss is the metric turned so that lower is better.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple, Protocol, TypeAlias

TrialId: TypeAlias = int
"""Trials are numbered 0, 1, 2, … in the order in which the search created them."""

Snapshot: TypeAlias = Mapping[str, Any]
"""JSON-able state of a search method."""


# -- why a search method decided as it did -------------------------------------------------


def _going_on(best: int) -> str:
    return f"the best {best} {'goes' if best == 1 else 'go'} on"


class Created(NamedTuple):
    """A new trial: the ``nth`` of bracket ``bracket``, counted from 0."""

    bracket: int
    nth: int

    def __str__(self) -> str:
        return f"trial {self.nth} of bracket {self.bracket}"


class CreatedHigher(NamedTuple):
    """A new trial that is compared from rung ``rung`` on: what those below say isn't to be trusted."""

    bracket: int
    nth: int
    rung: int

    def __str__(self) -> str:
        return (
            f"trial {self.nth} of bracket {self.bracket}, compared from rung {self.rung} on: "
            f"rung {self.rung - 1} did not foretell who is good"
        )


New: TypeAlias = Created | CreatedHigher
"""Why a job is a new trial's."""


class Promoted(NamedTuple):
    """The trial was among the best ``best`` of the ``of`` results in its rung."""

    rung: int
    rank: int
    of: int
    best: int

    def __str__(self) -> str:
        return f"rank {self.rank} of {self.of} at rung {self.rung}, {_going_on(self.best)}"


class LastChance(NamedTuple):
    """No further result can come and no trial is ahead, so the best one of this rung goes on."""

    rung: int
    rank: int
    of: int

    def __str__(self) -> str:
        return f"rank {self.rank} of {self.of} at rung {self.rung}, and no other can reach the end: it goes on"


class Waits(NamedTuple):
    """The trial isn't promoted now and may be later."""

    rung: int
    rank: int
    of: int
    best: int

    def __str__(self) -> str:
        goes = _going_on(self.best) if self.best else "none goes on yet"
        return f"rank {self.rank} of {self.of} at rung {self.rung}, {goes}"


class Dropped(NamedTuple):
    """Stopping variant: the trial wasn't among the best when it reported."""

    rung: int
    rank: int
    of: int
    best: int

    def __str__(self) -> str:
        return f"rank {self.rank} of {self.of} at rung {self.rung}, only {_going_on(self.best)}"


class ReachedEnd(NamedTuple):
    """The trial trained to the longest length of the search."""

    length: int

    def __str__(self) -> str:
        return f"trained to the full length of {self.length}"


class BracketFinished(NamedTuple):
    """Nothing can be promoted any more, so what waits is closed."""

    bracket: int

    def __str__(self) -> str:
        return f"bracket {self.bracket} has finished, nothing more will be promoted"


class RetriedOnRequest(NamedTuple):
    """The trial had failed on its way to this rung, and somebody asked for it to be tried again."""

    rung: int

    def __str__(self) -> str:
        return f"it had failed on its way to rung {self.rung}, and is retried on request"


Reason: TypeAlias = (
    Created | CreatedHigher | Promoted | LastChance | Waits | Dropped | ReachedEnd | BracketFinished | RetriedOnRequest
)


# -- what a search method says --------------------------------------------------------------


class Job(NamedTuple):
    """One stretch of training: this trial, from its latest checkpoint, up to ``target``.

    A new trial's ``why`` is `New`; any other names a trial that waits.
    """

    trial: TrialId
    target: int
    why: Reason


class GoOn(NamedTuple):
    """Train on at once, to ``target``."""

    target: int
    why: Reason


class Pause(NamedTuple):
    """Wait at this rung; ``next_job`` may name the trial again (also right away)."""

    why: Reason


class Stop(NamedTuple):
    """End for good."""

    why: Reason


Verdict: TypeAlias = GoOn | Pause | Stop


class Retired(NamedTuple):
    """A waiting trial that will never be named again."""

    trial: TrialId
    why: BracketFinished


class Exit(StrEnum):
    """How a trial ended by itself or by its user, as opposed to by the search."""

    ERRORED = "errored"
    KILLED = "killed"
    STOPPED = "stopped"
    """Training code called ``trial.stop()``, or the user stopped the trial."""
    INVALID = "invalid"
    """The training code declared the hyperparameters invalid."""


class SearchMethod(Protocol):
    """Decides which trial trains how long.  Every call is O(log n) in the number of trials."""

    def next_job(self) -> Job | None:
        """A worker is free: what should it do?  None: nothing now."""
        ...

    def report(self, trial: TrialId, length: int, loss: float) -> Verdict:
        """The trial validated at ``length``, at or past the target of its job.

        Any float is a legal loss; NaN and infinities rank worst.

        Raises:
            SearchError: the trial has no job, or ``length`` is short of its target.
        """
        ...

    def exited(self, trial: TrialId, how: Exit) -> None:
        """The trial ended by itself, while it trained or while it waited.

        Raises:
            SearchError: the trial is unknown or had already ended.
        """
        ...

    def retired(self) -> Sequence[Retired]:
        """Trials that waited and never will be named again; each is returned once."""
        ...

    @property
    def done(self) -> bool:
        """Nothing runs and nothing will: ``next_job`` returns None for ever."""
        ...

    def address(self, trial: TrialId) -> tuple[int, int]:
        """The bracket of a trial and which of its trials it is: where its random draws live."""
        ...

    def snapshot(self) -> Snapshot:
        """The whole state, as plain JSON-able data; ``restore`` takes it back."""
        ...

    def restore(self, snapshot: Snapshot) -> None:
        """Take the place of the search that made the snapshot, from equal settings."""
        ...
