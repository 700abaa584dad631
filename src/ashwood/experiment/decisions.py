"""What an experiment decides, in the imperative, each with its reason.

Decisions are recorded with the event that caused them, then acted on.  Acting twice on
one is safe: the attempt number tells repeats apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple, TypeAlias

from ashwood.search.vocabulary import BracketFinished, Reason, TrialId


class ExperimentState(StrEnum):
    """Where an experiment stands."""

    CREATED = "created"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    COMPLETED = "completed"
    ERRORED = "errored"

    @property
    def ended(self) -> bool:
        """Nothing more can happen."""
        return self in (ExperimentState.COMPLETED, ExperimentState.ERRORED)


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


class GaveUp(NamedTuple):
    """The trial failed more often than max_restarts allows."""

    failures: int

    def __str__(self) -> str:
        return f"failed {self.failures} times"


class ExperimentPauses(NamedTuple):
    """The experiment pauses; the trial will go on where it stopped."""

    def __str__(self) -> str:
        return "the experiment pauses"


class CreateTrial(NamedTuple):
    """Create a trial and train it to ``target``: its first attempt."""

    trial: TrialId
    bracket: int
    index: int
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
    """Let the process save the trial as soon as it can and let go of it; its job remains."""

    trial: TrialId
    attempt: int
    why: ExperimentPauses


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
    state: str
    why: BracketFinished | GaveUp | str


class Warn(NamedTuple):
    """Tell the user; nothing else follows from the event."""

    message: str


class EndExperiment(NamedTuple):
    """The experiment is over (or paused): it takes this state."""

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
