"""What can happen to an experiment, in the past tense.

An event is recorded, with the decisions it caused, before anything is done about it.
Times are no part of an event: the entry that holds it has one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

from ashwood.search.vocabulary import TrialId


class DriverStarted(NamedTuple):
    """A driver took the experiment on, with room for ``slots`` trials at once.

    Processes of an earlier driver are gone; what they were doing is started again.
    """

    slots: int


class CapacityChanged(NamedTuple):
    """The executor has room for ``slots`` trials at once now.

    ``nodes`` tells on which machines, where there are several; ``why`` what happened, for people.
    """

    slots: int
    nodes: Mapping[str, int] = {}
    why: str = ""


class AttemptStarted(NamedTuple):
    """A process began to work on a trial, from ``length`` on, in slot ``slot``, on machine ``node`` of several."""

    trial: TrialId
    attempt: int
    slot: int
    length: int
    node: str = ""


TRAINING = "training."
"""How the names of metrics begin that training code reported as those of its training; the search ignores them."""


class ValidationReported(NamedTuple):
    """Training code reported metrics at a total length."""

    trial: TrialId
    attempt: int
    length: int
    metrics: Mapping[str, float]


class CheckpointSaved(NamedTuple):
    """A complete checkpoint of a trial at ``length`` is in the storage.

    ``path`` is relative to the experiment's checkpoint storage, such as ``trial-3/length-4-attempt-1``; logs of
    version 1 hold absolute paths. ``metrics`` are those of its manifest: what was reported at this length. They are
    part of the event because an upload can end long after the trial has reported at later lengths. None: the log is of
    version 3 or older.
    """

    trial: TrialId
    attempt: int
    length: int
    path: str
    metrics: Mapping[str, float] | None = None


class TrialWarned(NamedTuple):
    """A process that works on a trial noticed what is probably a mistake in the training code; ``message`` says it."""

    trial: TrialId
    attempt: int
    message: str


class TrialTrained(NamedTuple):
    """An attempt has trained for ``seconds`` since the last event of this kind about it.

    Importing the training code, waiting, saving and fetching a checkpoint are no training.  Backends tell this only if
    ``max_trial_time`` limits the training of a trial.
    """

    trial: TrialId
    attempt: int
    seconds: float


class AttemptEnded(NamedTuple):
    """A process finished its work on a trial in good order, at a total length of ``length``."""

    trial: TrialId
    attempt: int
    length: int


NO_VALIDATION = "no validation at length "
"""How the cause of `AttemptFailed` begins if the code trained to its target and did not report the metric there."""

ABORTED = "killed on request"
"""The error of an attempt that was ended on request."""


class AttemptFailed(NamedTuple):
    """A process failed while it worked on a trial.

    Attributes:
        error: for people: one line, then details.
        cause: where an error arose that comes again whenever the code gets there: its type, file, line and length;
            empty: not known, or it may pass.
    """

    trial: TrialId
    attempt: int
    error: str
    cause: str = ""

    @property
    def is_failure(self) -> bool:
        """Whether it ended by itself."""
        return self.error != ABORTED


class AttemptPreempted(NamedTuple):
    """The worker was taken away or lost; the trial's code is not to blame.  ``why`` is for people.

    Only a trial that loses one after the other without getting any further is taken to be the cause.

    ``hung``: the worker was killed because it did not react to a request to stop, which counts neither as such a loss
    nor as a failure.
    """

    trial: TrialId
    attempt: int
    why: str
    hung: bool = False


FULL, UNREACHABLE = "full", "unreachable"
"""Causes of `StorageFailed`: no room on a disk or in a quota; a storage that does not answer or refuses access."""


class StorageFailed(NamedTuple):
    """A process ended because what its trial saves could not be written or read; its code is not to blame.

    Logs of version 4 and older call this event ``DiskFilled``.  The only cause that they know is `FULL`.
    """

    trial: TrialId
    attempt: int
    error: str
    cause: str = FULL


class CheckpointDamaged(NamedTuple):
    """The checkpoint that a process was to start from is damaged or missing, so the process ended before it began.

    ``attempt`` is 0 if no process found that, but ``ashwood verify``.
    """

    trial: TrialId
    attempt: int
    path: str
    why: str


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
    """Somebody wants the experiment to pause: running trials save and let go of their workers.

    ``why`` is the error because of which the driver asks for it itself; empty: somebody asked for it.  ``by`` is the
    signal that asked for it, as people call it; empty: it was a request.
    """

    why: str = ""
    by: str = ""


class CancelRequested(NamedTuple):
    """Somebody wants the experiment to end for good: running trials save first."""


class KillRequested(NamedTuple):
    """Somebody wants the experiment to end for good, at once."""


class TrialKillRequested(NamedTuple):
    """Somebody wants a trial to end for good, at once, and to count as the worst in its rung."""

    trial: TrialId


class TrialStopRequested(NamedTuple):
    """Somebody wants a trial to count as finished where it is."""

    trial: TrialId


class SettingsChanged(NamedTuple):
    """Somebody changed settings of the experiment; those that are absent stay.

    Keys: ``max_concurrent_trials``, ``max_trials``, ``max_invalid_trials``, ``stop_at`` (a metric or None),
    ``max_seconds`` (or None).
    """

    settings: Mapping[str, Any]


class RetryFailedRequested(NamedTuple):
    """Somebody wants all trials that failed to be tried again, also of an experiment that has ended."""


class TimeRanOut(NamedTuple):
    """Drivers have run the experiment for ``seconds``, as long as it may run."""

    seconds: float


class DriverStopped(NamedTuple):
    """The driver has let go of the experiment; no process of its works on a trial any more."""


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
    | HparamsRejected
    | TrialStopped
    | PauseRequested
    | CancelRequested
    | KillRequested
    | TrialKillRequested
    | TrialStopRequested
    | SettingsChanged
    | RetryFailedRequested
    | TimeRanOut
    | DriverStopped
)

LastWord: TypeAlias = (
    AttemptEnded | AttemptFailed | AttemptPreempted | StorageFailed | CheckpointDamaged | HparamsRejected | TrialStopped
)
"""Every attempt ends in exactly one of these, after which its slot is free."""

Request: TypeAlias = (
    PauseRequested
    | CancelRequested
    | KillRequested
    | TrialKillRequested
    | TrialStopRequested
    | SettingsChanged
    | RetryFailedRequested
)
"""What a person or a script can ask of an experiment while it runs.  One that can't be done raises `IllegalEvent`."""
