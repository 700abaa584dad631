"""The events of an experiment, named in the past tense.

An event is recorded with the decisions that it caused before these are carried out.
Events hold no times: the log entry of an event has one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

from ashwood.search.vocabulary import TrialId


class DriverStarted(NamedTuple):
    """A driver started to run the experiment, with ``slots`` slots.

    No process of an earlier driver is left.  Trials that were running resume as new attempts.
    """

    slots: int


class CapacityChanged(NamedTuple):
    """The number of slots changed to ``slots``.

    Attributes:
        slots: number of trials that can train at once.
        nodes: number of slots on each machine, or empty if there is only one machine.
        why: what happened, for people.
    """

    slots: int
    nodes: Mapping[str, int] = {}
    why: str = ""


class AttemptStarted(NamedTuple):
    """A process started to train a trial.

    Attributes:
        trial: the trial.
        attempt: number of the attempt, from 1.
        slot: the slot that the process takes.
        length: total length from which it trains.
        node: name of the machine, or empty if there is only one.
    """

    trial: TrialId
    attempt: int
    slot: int
    length: int
    node: str = ""


TRAINING = "training."
"""Prefix of the names of training metrics, which the search ignores."""


class ValidationReported(NamedTuple):
    """Training code reported metrics at a total length."""

    trial: TrialId
    attempt: int
    length: int
    metrics: Mapping[str, float]


class CheckpointSaved(NamedTuple):
    """A complete checkpoint of a trial at ``length`` is in the storage.

    Attributes:
        trial: the trial.
        attempt: number of the attempt that saved it.
        length: total length of the training that it holds.
        path: relative to the experiment's checkpoint storage, such as ``trial-3/length-4-attempt-1``; absolute in logs
            of version 1.
        metrics: the metrics in its manifest, which were reported at this length.  They are part of the event because an
            upload can end long after the trial has reported at later lengths.  None in logs of version 3 and older.
        size: total size of its files in bytes, or None if unknown, as in logs of version 8 and older.
    """

    trial: TrialId
    attempt: int
    length: int
    path: str
    metrics: Mapping[str, float] | None = None
    size: int | None = None


class TrialWarned(NamedTuple):
    """The process of a trial found a probable mistake in the training code, which ``message`` describes."""

    trial: TrialId
    attempt: int
    message: str


class TrialTrained(NamedTuple):
    """An attempt has trained for ``seconds`` since the last event of this kind about it.

    Time for importing the training code, for waiting, and for saving and fetching checkpoints does not count.  Backends
    send this event only if ``max_trial_time`` limits the training of a trial.
    """

    trial: TrialId
    attempt: int
    seconds: float


class AttemptEnded(NamedTuple):
    """An attempt ended without an error, at a total length of ``length``."""

    trial: TrialId
    attempt: int
    length: int


NO_VALIDATION = "no validation at length "
"""Prefix of `AttemptFailed.cause` if the code trained to its target without reporting the metric there."""

ABORTED = "killed on request"
"""The error of an attempt that was killed on request."""


class AttemptFailed(NamedTuple):
    """An attempt failed.

    Attributes:
        error: a headline and then details, for people.
        cause: type, file, line and length of an error that is expected at each attempt, or empty if the cause is
            unknown or can be temporary.
    """

    trial: TrialId
    attempt: int
    error: str
    cause: str = ""

    @property
    def is_failure(self) -> bool:
        """Whether the attempt failed by itself, and was not killed on request."""
        return self.error != ABORTED


class AttemptPreempted(NamedTuple):
    """An attempt lost its worker, which does not count as a failure of the trial.

    Only if a trial loses more than max_preemptions workers in a row without any progress is the trial itself regarded
    as the cause.

    Attributes:
        why: what happened, for people.
        hung: whether the worker was killed because it did not react to a request to stop.  That counts neither as a
            lost worker nor as a failure.
    """

    trial: TrialId
    attempt: int
    why: str
    hung: bool = False


FULL, UNREACHABLE = "full", "unreachable"
"""Causes of `StorageFailed`: a disk or a quota is full; a storage does not answer or refuses access."""


class StorageFailed(NamedTuple):
    """An attempt ended because its files could not be written or read, which does not count as a failure of the trial.

    In logs of version 4 and older this event is called ``DiskFilled``, and its cause is always `FULL`.
    """

    trial: TrialId
    attempt: int
    error: str
    cause: str = FULL


class CheckpointDamaged(NamedTuple):
    """A checkpoint is damaged or missing, so the attempt that should have started from it ended before any training.

    ``attempt`` is 0 if ``ashwood verify`` found the damage.
    """

    trial: TrialId
    attempt: int
    path: str
    why: str


class HparamsInvalid(NamedTuple):
    """Training code called ``trial.invalid_hparams(why)``, and its attempt ended.

    In logs of version 7 and older this event is called ``HparamsRejected``.
    """

    trial: TrialId
    attempt: int
    why: str


class TrialStopped(NamedTuple):
    """Training code called ``trial.stop()``, which ends the trial at its current length.

    In a search without a length, training code that returns has the same effect: the trial is completed.
    """

    trial: TrialId
    attempt: int


class PauseRequested(NamedTuple):
    """A user or the driver asked to pause the experiment: running trials save and release their workers.

    Attributes:
        why: the error because of which the driver pauses the experiment, or empty if a user asked for it.
        by: name of the signal, such as ``SIGTERM``, or empty if it was a request.
    """

    why: str = ""
    by: str = ""


class CancelRequested(NamedTuple):
    """A user asked to cancel the experiment, which ends it for good after running trials have saved."""


class KillRequested(NamedTuple):
    """A user asked to kill the experiment, which ends it for good at once."""


class TrialKillRequested(NamedTuple):
    """A user asked to kill a trial, which ends it for good at once; it counts as the worst in its rung."""

    trial: TrialId


class TrialStopRequested(NamedTuple):
    """A user asked to stop a trial, which ends it at its current length; its results still count."""

    trial: TrialId


class SettingsChanged(NamedTuple):
    """A user changed settings of the experiment.  Settings that are absent do not change.

    Keys: ``max_concurrent_trials``, ``max_trials``, ``max_invalid_trials``, ``metric_at`` (a metric or None),
    ``max_time`` (or None), ``max_size`` (or None), ``replicates``.
    """

    settings: Mapping[str, Any]


class RetryFailedRequested(NamedTuple):
    """A user asked to retry all failed trials.  The experiment may have ended."""


class AddTrialRequested(NamedTuple):
    """A user asked for a trial with given hyperparameters.

    Attributes:
        hparams: values by the names of hyperparameters, nested or dotted; the others are drawn.
        extra: whether the trial is created in addition to max_trials.
    """

    hparams: Mapping[str, Any]
    extra: bool = False


class ExtendRequested(NamedTuple):
    """A user asked to extend the search.  The experiment may have completed.

    Attributes:
        max_trials: new number of trials, which is larger than the present one, or None.
        max_length: new greatest training length, which is larger than the present one, or None.
        replicates: new number of the best trials that are replicated, which is larger than the present one, or None.
    """

    max_trials: int | None = None
    max_length: int | None = None
    replicates: int | None = None


class TimeRanOut(NamedTuple):
    """Drivers have run the experiment for ``seconds`` in total, and its time limit is reached."""

    seconds: float


class DriverStopped(NamedTuple):
    """The driver stopped.  None of its processes trains a trial any more."""


Event: TypeAlias = (
    DriverStarted
    | CapacityChanged
    | AttemptStarted
    | ValidationReported
    | CheckpointSaved
    | TrialWarned
    | TrialTrained
    | AttemptEnded
    | AttemptFailed
    | AttemptPreempted
    | StorageFailed
    | CheckpointDamaged
    | HparamsInvalid
    | TrialStopped
    | PauseRequested
    | CancelRequested
    | KillRequested
    | TrialKillRequested
    | TrialStopRequested
    | SettingsChanged
    | RetryFailedRequested
    | AddTrialRequested
    | ExtendRequested
    | TimeRanOut
    | DriverStopped
)

FinalEvent: TypeAlias = (
    AttemptEnded | AttemptFailed | AttemptPreempted | StorageFailed | CheckpointDamaged | HparamsInvalid | TrialStopped
)
"""The last event of an attempt: each attempt has exactly one, after which its slot is free."""

Request: TypeAlias = (
    PauseRequested
    | CancelRequested
    | KillRequested
    | TrialKillRequested
    | TrialStopRequested
    | SettingsChanged
    | RetryFailedRequested
    | AddTrialRequested
    | ExtendRequested
)
"""A request to an experiment.  `Experiment.handle` raises `IllegalEvent` if it is not possible."""
