"""What an experiment decides, in the imperative, each with its reason.

Decisions are recorded with the event that caused them, then acted on.  Acting twice on
one is safe: the attempt number tells repeats apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

from ashwood.experiment.lifecycle import ExperimentState, TrialState
from ashwood.search.vocabulary import BracketFinished, Reason, RetriedOnRequest, TrialId


class Retried(NamedTuple):
    """The trial failed, or lost too many workers, and it starts again from its latest checkpoint."""

    failure: int
    max_restarts: int

    def __str__(self) -> str:
        return f"failure {self.failure}, restarted (at most {self.max_restarts} restarts)"


class Preempted(NamedTuple):
    """The trial's worker was taken away, and it starts again elsewhere from its latest checkpoint."""

    why: str

    def __str__(self) -> str:
        return f"its worker is gone ({self.why}), it goes on elsewhere"


class Recovered(NamedTuple):
    """The driver started again, and with it what had been running."""

    def __str__(self) -> str:
        return "goes on after a restart of the driver"


class FellBack(NamedTuple):
    """The checkpoint that the trial was to go on from is damaged, so it goes on from an earlier one."""

    length: int

    def __str__(self) -> str:
        return f"its latest checkpoint is damaged, it goes on from length {self.length}"


class RejectedHparams(NamedTuple):
    """The training code declared the hyperparameters invalid."""

    why: str

    def __str__(self) -> str:
        return f"invalid hyperparameters: {self.why}"


class StoppedItself(NamedTuple):
    """The training code called ``trial.stop()``."""

    def __str__(self) -> str:
        return "its training code stopped it"


class StoppedByUser(NamedTuple):
    """Somebody asked for it with ``ashwood stop-trial``."""

    def __str__(self) -> str:
        return "stopped on request, its results stand"


class TrialTimeIsUp(NamedTuple):
    """The trial has trained for as long as a trial may."""

    seconds: float
    limit: float

    def __str__(self) -> str:
        return (
            f"trained for {round(self.seconds, 1):g} s, the most that a trial may train is {self.limit:g} s "
            "(max_trial_time); its results stand"
        )


class KilledByUser(NamedTuple):
    """Somebody asked for it with ``ashwood kill-trial``."""

    def __str__(self) -> str:
        return "killed on request"


class GaveUp(NamedTuple):
    """The trial failed more often than max_restarts allows, or twice in a row with the same error at the same place.

    A trial that loses its workers again and again fails, too.
    """

    failures: int
    is_same: bool = False

    def __str__(self) -> str:
        times = "failed once" if self.failures == 1 else f"failed {self.failures} times"
        return f"{times}, the last two times with the same error at the same place" if self.is_same else times


class ExperimentEnded(NamedTuple):
    """The experiment failed while the trial still had a job."""

    def __str__(self) -> str:
        return "the experiment ended"


class BracketReopened(NamedTuple):
    """Failed trials of its bracket are retried, so the trial waits again and may be promoted."""

    bracket: int

    def __str__(self) -> str:
        return f"bracket {self.bracket} goes on, as failed trials are retried"


WhyReopened: TypeAlias = RetriedOnRequest | BracketReopened
WhyTrained: TypeAlias = Reason | Retried | Preempted | Recovered | FellBack
WhyClosed: TypeAlias = (
    BracketFinished
    | ExperimentEnded
    | GaveUp
    | RejectedHparams
    | StoppedItself
    | StoppedByUser
    | TrialTimeIsUp
    | KilledByUser
)


FINISHES_A_STEP = (StoppedByUser, TrialTimeIsUp)
"""Why a trial is closed whose process finishes a step, reports and saves before it leaves."""


# -- why an experiment gives no more jobs ----------------------------------------------------


class Asked(NamedTuple):
    """Somebody asked for it; ``what`` says for what: paused, canceled or killed.

    ``by`` is the signal that asked for it, as people call it; empty: it was a request.
    """

    what: str
    by: str = ""

    def __str__(self) -> str:
        return f"{self.what} by {self.by}" if self.by else f"{self.what} on request"


class GoalReached(NamedTuple):
    """A trial reported the metric that the experiment was to stop at, or a better one."""

    trial: TrialId
    metric: float
    goal: float

    def __str__(self) -> str:
        return f"trial {self.trial} reached {self.metric:.6g}, the goal was {self.goal:.6g}"


class TimeIsUp(NamedTuple):
    """Drivers ran the experiment as long as they may."""

    seconds: float
    limit: float

    def __str__(self) -> str:
        return f"it ran for {self.seconds:.0f} s, the most it may run is {self.limit:.0f} s"


class TooManyInvalid(NamedTuple):
    """So many trials declared their hyperparameters invalid; ``latest`` is what the latest of them said."""

    trials: int
    limit: int
    latest: str

    def __str__(self) -> str:
        trials = "1 trial" if self.trials == 1 else f"{self.trials} trials"
        return (
            f"{trials} declared their hyperparameters invalid, the limit is {self.limit} (max_invalid_trials); "
            f"the latest said: {self.latest}"
        )


class CommonFailure(NamedTuple):
    """So many trials failed in the same way, and none has reported anything."""

    trials: int
    error: str

    def __str__(self) -> str:
        return f"{self.trials} trials failed in the same way before any reported anything: {self.error}"


class NoSpace(NamedTuple):
    """There is no room on a disk."""

    error: str

    def __str__(self) -> str:
        return f"a disk is full: {self.error}"


class NoStorage(NamedTuple):
    """The storage of checkpoints cannot be reached, or it refuses access."""

    error: str

    def __str__(self) -> str:
        return f"the checkpoint storage cannot be used: {self.error}"


WhyLeave: TypeAlias = Asked | GoalReached | TimeIsUp | TooManyInvalid | CommonFailure | NoSpace | NoStorage


# -- what is to be done ------------------------------------------------------------------------


class CreateTrial(NamedTuple):
    """Create a trial and train it to ``target``: its first attempt."""

    trial: TrialId
    bracket: int
    nth: int
    hparams: Mapping[str, Any]
    seed: int
    target: int
    why: Reason


class TrainTrial(NamedTuple):
    """Train a known trial, from its latest checkpoint, to ``target``, as a new attempt."""

    trial: TrialId
    attempt: int
    target: int
    why: WhyTrained


class ContinueTrial(NamedTuple):
    """Let the process that just reported train on to ``target``."""

    trial: TrialId
    attempt: int
    target: int
    why: Reason


class PauseTrial(NamedTuple):
    """Let the process save the trial and let go of it; the trial waits at its rung."""

    trial: TrialId
    attempt: int
    why: Reason


class SuspendTrial(NamedTuple):
    """The experiment pauses: let the process save the trial as soon as it can; its job remains."""

    trial: TrialId
    attempt: int


class CompleteTrial(NamedTuple):
    """Let the process save the trial and let go of it: it is finished."""

    trial: TrialId
    attempt: int
    why: Reason


class StopTrial(NamedTuple):
    """Let the process let go of the trial, which ends for good, without saving it."""

    trial: TrialId
    attempt: int
    why: Reason


class AbortTrial(NamedTuple):
    """End the process that works on the trial, at once."""

    trial: TrialId
    attempt: int


class CloseTrial(NamedTuple):
    """A trial ends for good: one that waited, whose process is gone, or that a user ended."""

    trial: TrialId
    state: TrialState
    why: WhyClosed


class ReopenTrial(NamedTuple):
    """A trial that had ended takes part again, in ``state``.

    ``target`` is the length of the rung at which it waits, or to which its job leads.
    """

    trial: TrialId
    state: TrialState
    bracket: int
    target: int
    why: WhyReopened


class DeleteCheckpoint(NamedTuple):
    """Nobody needs this checkpoint any more: remove it from the storage."""

    trial: TrialId
    path: str


class ChangeSettings(NamedTuple):
    """From now on these hold: every setting that can change, and how many trials each bracket creates in all."""

    max_concurrent_trials: int
    bracket_trials: tuple[int, ...]
    stop_at: float | None
    max_seconds: float | None
    max_invalid_trials: int | None = None


class LeaveExperiment(NamedTuple):
    """No trial gets a job any more; when those that run have let go, the experiment takes ``state``."""

    state: ExperimentState
    why: WhyLeave


class Warn(NamedTuple):
    """Tell the user; nothing else follows from the event."""

    message: str


class EndExperiment(NamedTuple):
    """The driver is done: the experiment takes this state."""

    state: ExperimentState
    why: str


Decision: TypeAlias = (
    CreateTrial
    | TrainTrial
    | ContinueTrial
    | PauseTrial
    | SuspendTrial
    | CompleteTrial
    | StopTrial
    | AbortTrial
    | CloseTrial
    | ReopenTrial
    | DeleteCheckpoint
    | ChangeSettings
    | LeaveExperiment
    | Warn
    | EndExperiment
)
