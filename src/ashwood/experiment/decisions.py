"""What an experiment decides, in the imperative, each with its reason.

Decisions are recorded with the event that caused them, then acted on.  Acting twice on
one is safe: the attempt number tells repeats apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

from ashwood.experiment.lifecycle import ExperimentState, TrialState
from ashwood.search.vocabulary import BracketFinished, Reason, TrialId


class Retried(NamedTuple):
    """The trial's process failed, and it starts again from its latest checkpoint."""

    failure: int
    max_restarts: int

    def __str__(self) -> str:
        return f"failure {self.failure}, restarted (at most {self.max_restarts} restarts)"


class Recovered(NamedTuple):
    """The driver started again, and with it what had been running."""

    def __str__(self) -> str:
        return "goes on after a restart of the driver"


class RejectedHparams(NamedTuple):
    """The training code declared the hyperparameters invalid."""

    why: str

    def __str__(self) -> str:
        return f"invalid hyperparameters: {self.why}"


class StoppedItself(NamedTuple):
    """The training code called ``trial.stop()``."""

    def __str__(self) -> str:
        return "its training code stopped it"


class GaveUp(NamedTuple):
    """The trial failed more often than max_restarts allows."""

    failures: int

    def __str__(self) -> str:
        return "failed once" if self.failures == 1 else f"failed {self.failures} times"


class ExperimentEnded(NamedTuple):
    """The experiment failed while the trial still had a job."""

    def __str__(self) -> str:
        return "the experiment ended"


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
    why: Reason | Retried | Recovered


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


class CloseTrial(NamedTuple):
    """A trial that waited, or whose process is gone, ends for good."""

    trial: TrialId
    state: TrialState
    why: BracketFinished | ExperimentEnded | GaveUp | RejectedHparams | StoppedItself


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
    | CloseTrial
    | Warn
    | EndExperiment
)
