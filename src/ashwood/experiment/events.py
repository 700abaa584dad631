"""What can happen to an experiment, in the past tense.

An event is recorded, with the decisions it caused, before anything is done about it.
Times are no part of an event: the entry that holds it has one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

from ashwood.search.vocabulary import TrialId


class DriverStarted(NamedTuple):
    """A driver took the experiment on, with room for ``slots`` trials at once.

    Processes of an earlier driver are gone; what they were doing is started again.
    """

    slots: int


class CapacityChanged(NamedTuple):
    """The executor has room for ``slots`` trials at once now."""

    slots: int


class AttemptStarted(NamedTuple):
    """A process began to work on a trial, from ``length`` on, in slot ``slot``."""

    trial: TrialId
    attempt: int
    slot: int
    length: int


class ValidationReported(NamedTuple):
    """Training code reported metrics at a total length."""

    trial: TrialId
    attempt: int
    length: int
    metrics: Mapping[str, float]


class CheckpointSaved(NamedTuple):
    """A complete checkpoint of a trial at ``length`` is in directory ``path``, safely on disk."""

    trial: TrialId
    attempt: int
    length: int
    path: str


class AttemptEnded(NamedTuple):
    """A process finished its work on a trial in good order, at a total length of ``length``."""

    trial: TrialId
    attempt: int
    length: int


class AttemptFailed(NamedTuple):
    """A process failed while it worked on a trial.  ``error`` is for people: one line, then details."""

    trial: TrialId
    attempt: int
    error: str


class HparamsRejected(NamedTuple):
    """Training code called ``trial.invalid_hparams(why)``; its process has let go of the trial."""

    trial: TrialId
    attempt: int
    why: str


class TrialStopped(NamedTuple):
    """Training code called ``trial.stop()``: the trial is finished where it is."""

    trial: TrialId
    attempt: int


class PauseRequested(NamedTuple):
    """Somebody wants the experiment to pause: running trials save and let go of their workers."""


class DriverStopped(NamedTuple):
    """The driver has let go of the experiment; no process of its works on a trial any more."""


Event: TypeAlias = (
    DriverStarted
    | CapacityChanged
    | AttemptStarted
    | ValidationReported
    | CheckpointSaved
    | AttemptEnded
    | AttemptFailed
    | HparamsRejected
    | TrialStopped
    | PauseRequested
    | DriverStopped
)
