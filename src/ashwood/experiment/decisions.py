"""The decisions of an experiment, named in the imperative, and their reasons.

Decisions are recorded with the event that caused them, and then carried out.  Carrying out a
decision twice is safe, because the attempt number identifies repeats.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

from ashwood.experiment.lifecycle import ExperimentState, TrialState
from ashwood.experiment.sizes import format_size
from ashwood.search.vocabulary import BracketFinished, Extended, Promoted, Reason, RetriedOnRequest, TrialId


class Retried(NamedTuple):
    """The trial failed, or lost too many workers, so it is restarted from its latest checkpoint."""

    failure: int
    max_restarts: int

    def __str__(self) -> str:
        restarts = "1 restart" if self.max_restarts == 1 else f"{self.max_restarts} restarts"
        return f"restarted after failure {self.failure} (at most {restarts})"


class Preempted(NamedTuple):
    """The trial lost its worker, so it resumes on another one from its latest checkpoint."""

    why: str

    def __str__(self) -> str:
        return f"its worker was lost ({self.why}); it resumes on another worker"


class Recovered(NamedTuple):
    """The driver was restarted, so the trial resumes from its latest checkpoint."""

    def __str__(self) -> str:
        return "resumes after a restart of the driver"


class FellBack(NamedTuple):
    """The latest checkpoint of the trial is damaged, so it resumes from an earlier one."""

    length: int

    def __str__(self) -> str:
        return f"its latest checkpoint is damaged; it resumes from length {self.length}"


class DeclaredInvalid(NamedTuple):
    """The training code declared the hyperparameters invalid."""

    why: str

    def __str__(self) -> str:
        return f"invalid hyperparameters: {self.why}"


class StoppedItself(NamedTuple):
    """The training code called ``trial.stop()``."""

    def __str__(self) -> str:
        return "stopped by its training code"


class StoppedByUser(NamedTuple):
    """A user stopped the trial with ``ashwood cancel --trial``."""

    def __str__(self) -> str:
        return "stopped on request; its results stand"


class TrialTimeIsUp(NamedTuple):
    """The trial has trained for ``seconds``, which is at least ``limit`` (max_trial_time)."""

    seconds: float
    limit: float

    def __str__(self) -> str:
        return (
            f"trained for {round(self.seconds, 1):g} s; the limit is {self.limit:g} s (max_trial_time); "
            "its results stand"
        )


class KilledByUser(NamedTuple):
    """A user killed the trial with ``ashwood kill --trial``."""

    def __str__(self) -> str:
        return "killed on request"


class GaveUp(NamedTuple):
    """The trial failed for good: more often than max_restarts allows, or twice in a row for the same cause.

    Losing more than max_preemptions workers in a row counts as a failure.

    Attributes:
        failures: number of failed attempts.
        is_same: whether the last two attempts failed with the same error at the same place.
    """

    failures: int
    is_same: bool = False

    def __str__(self) -> str:
        times = {1: "failed once", 2: "failed twice"}.get(self.failures, f"failed {self.failures} times")
        if not self.is_same:
            return times
        return f"{times}{', the last two times' if self.failures > 2 else ''} with the same error at the same place"


class ExperimentEnded(NamedTuple):
    """The experiment failed while the trial still had a job."""

    def __str__(self) -> str:
        return "the experiment ended"


class BracketReopened(NamedTuple):
    """The bracket can promote trials again, so the trial is paused again and may be promoted.

    Attributes:
        bracket: index of the bracket.
        extended: whether the search was extended; otherwise failed trials of the bracket are retried.
    """

    bracket: int
    extended: bool = False

    def __str__(self) -> str:
        why = "the search was extended" if self.extended else "failed trials are retried"
        return f"bracket {self.bracket} is open again because {why}"


WhyReopened: TypeAlias = RetriedOnRequest | BracketReopened | Extended | Promoted
WhyTrained: TypeAlias = Reason | Retried | Preempted | Recovered | FellBack
WhyClosed: TypeAlias = (
    BracketFinished
    | ExperimentEnded
    | GaveUp
    | DeclaredInvalid
    | StoppedItself
    | StoppedByUser
    | TrialTimeIsUp
    | KilledByUser
)


class OverQuota(NamedTuple):
    """The checkpoints of the experiment are larger than max_size, and this one is the least likely to be needed.

    Attributes:
        size: total size of the checkpoints in bytes.
        limit: largest total size in bytes (max_size).
        rung: index of the rung at which its trial is paused, or None if the trial has ended or has another checkpoint.
        rank: rank of the trial in its rung, or 0.
        of: number of results in the rung, or 0.
        best: number of trials that the rung is expected to promote in the end, or 0.
    """

    size: int
    limit: int
    rung: int | None = None
    rank: int = 0
    of: int = 0
    best: int = 0

    def __str__(self) -> str:
        over = f"checkpoints exceed max_size ({format_size(self.limit)}) by {format_size(self.size - self.limit)}"
        if self.rung is None:
            return f"{over}; the search does not need this one"
        promoted = f"the best {self.best} {'is' if self.best == 1 else 'are'} expected to be promoted"
        return f"{over}; rank {self.rank} of {self.of} at rung {self.rung}, {promoted}"


FINISHES_A_STEP = (StoppedByUser, TrialTimeIsUp)
"""Reasons for closing a trial whose process still finishes its step, reports and saves."""


# -- reasons to leave an experiment ---------------------------------------------------------
#
# `EndExperiment` records the text of these reasons, and a replay compares it with the log.  If a word is changed here,
# all logs that contain it fail to replay.


class Asked(NamedTuple):
    """A user asked for it.

    Attributes:
        what: what the user asked for: ``paused``, ``canceled`` or ``killed``.
        by: name of the signal, such as ``SIGTERM``, or empty if it was a request.
    """

    what: str
    by: str = ""

    def __str__(self) -> str:
        return f"{self.what} by {self.by}" if self.by else f"{self.what} on request"


class GoalReached(NamedTuple):
    """A trial reported a metric that is at least as good as ``metric_at``."""

    trial: TrialId
    metric: float
    goal: float

    def __str__(self) -> str:
        return f"trial {self.trial} reached {self.metric:.6g}, the goal was {self.goal:.6g}"


class TimeIsUp(NamedTuple):
    """Drivers have run the experiment for ``seconds`` in total, which is at least ``limit`` (max_time)."""

    seconds: float
    limit: float

    def __str__(self) -> str:
        return f"it ran for {self.seconds:.0f} s, the most it may run is {self.limit:.0f} s"


class TooManyInvalid(NamedTuple):
    """At least ``limit`` trials declared their hyperparameters invalid; ``latest`` is the latest message."""

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
    """At least max_common_failures trials failed in the same way, and no trial has reported the metric."""

    trials: int
    error: str

    def __str__(self) -> str:
        return f"{self.trials} trials failed in the same way before any reported anything: {self.error}"


class NoSpace(NamedTuple):
    """A disk or a quota is full."""

    error: str

    def __str__(self) -> str:
        return f"a disk is full: {self.error}"


class NoStorage(NamedTuple):
    """The checkpoint storage cannot be reached or refuses access."""

    error: str

    def __str__(self) -> str:
        return f"the checkpoint storage cannot be used: {self.error}"


WhyLeave: TypeAlias = Asked | GoalReached | TimeIsUp | TooManyInvalid | CommonFailure | NoSpace | NoStorage


# -- decisions ---------------------------------------------------------------------------------


class CreateTrial(NamedTuple):
    """Create a trial and start its first attempt, which trains it to ``target``.

    ``given`` are the hyperparameters that a user gave, by dotted name; the others are drawn.  A replicate has the
    bracket and the index of its original.
    """

    trial: TrialId
    bracket: int
    nth: int
    hparams: Mapping[str, Any]
    seed: int
    target: int
    why: Reason
    given: Mapping[str, Any] = {}


class TrainTrial(NamedTuple):
    """Start a new attempt that trains an existing trial from its latest checkpoint to ``target``.

    Attributes:
        repeats: training length that is repeated because a longer checkpoint was deleted to keep max_size.
    """

    trial: TrialId
    attempt: int
    target: int
    why: WhyTrained
    repeats: int = 0


class ContinueTrial(NamedTuple):
    """Let the process that has just reported continue to ``target``."""

    trial: TrialId
    attempt: int
    target: int
    why: Reason


class PauseTrial(NamedTuple):
    """Let the process save the trial and release its slot; the trial is paused at its rung."""

    trial: TrialId
    attempt: int
    why: Reason


class SuspendTrial(NamedTuple):
    """Let the process save the trial after its current step and release its slot; the trial keeps its job."""

    trial: TrialId
    attempt: int


class CompleteTrial(NamedTuple):
    """Let the process save the trial and release its slot; the trial is completed."""

    trial: TrialId
    attempt: int
    why: Reason


class StopTrial(NamedTuple):
    """Let the process release its slot without saving the trial, which is stopped for good."""

    trial: TrialId
    attempt: int
    why: Reason


class AbortTrial(NamedTuple):
    """Kill the process that trains the trial at once."""

    trial: TrialId
    attempt: int


class CloseTrial(NamedTuple):
    """End a trial permanently: it is paused, has no process any more, or is ended by a user or a limit."""

    trial: TrialId
    state: TrialState
    why: WhyClosed


class ReopenTrial(NamedTuple):
    """Let a trial that had ended take part in the search again.

    Attributes:
        state: its new state, paused or running.
        target: length of the rung at which it is paused or towards which it trains.
    """

    trial: TrialId
    state: TrialState
    bracket: int
    target: int
    why: WhyReopened


class DeleteCheckpoint(NamedTuple):
    """Delete a checkpoint from the storage.

    Attributes:
        why: reason, or None if the checkpoint policy does not keep it.
    """

    trial: TrialId
    path: str
    why: OverQuota | None = None


class ChangeSettings(NamedTuple):
    """Use these settings from now on.

    Attributes:
        max_concurrent_trials: largest number of trials that train at once, or 0 for no limit.
        bracket_trials: number of trials that each bracket creates in total.
        metric_at: metric at which the experiment stops, or None.
        max_time: seconds after which the experiment stops, or None.
        max_invalid_trials: limit of trials with invalid hyperparameters, or None for the default.
        max_size: largest total size of the checkpoints in bytes, or None for no limit.
        replicates: number of the best trials that are replicated.
    """

    max_concurrent_trials: int
    bracket_trials: tuple[int, ...]
    metric_at: float | None
    max_time: float | None
    max_invalid_trials: int | None = None
    max_size: int | None = None
    replicates: int = 0


class ExtendSearch(NamedTuple):
    """Continue with the search that has these rungs and trials.

    Attributes:
        max_length: the greatest training length.
        bracket_lengths: total lengths of the rungs of each bracket.
        bracket_trials: number of trials that each bracket creates in total.
        replicates: number of the best trials that are replicated.
    """

    max_length: int
    bracket_lengths: tuple[tuple[int, ...], ...]
    bracket_trials: tuple[int, ...]
    replicates: int = 0


class LeaveExperiment(NamedTuple):
    """Give no more jobs; the experiment enters ``state`` when all running trials have released their slots."""

    state: ExperimentState
    why: WhyLeave


class Warn(NamedTuple):
    """Show a warning to the user.

    A replay compares the message with the log, so a changed wording makes old logs fail to replay.
    """

    message: str


class EndExperiment(NamedTuple):
    """Set the state of the experiment when the driver stops, or when one that has ended is opened again.

    A replay compares ``why`` with the log, so a changed wording makes old logs fail to replay.
    """

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
    | ExtendSearch
    | LeaveExperiment
    | Warn
    | EndExperiment
)
