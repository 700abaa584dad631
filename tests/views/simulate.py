"""Real event streams without training anything: an `Experiment` and workers in virtual time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import NamedTuple

from ashwood.experiment.decisions import (
    CompleteTrial,
    ContinueTrial,
    CreateTrial,
    Decision,
    PauseTrial,
    StopTrial,
    SuspendTrial,
    TrainTrial,
)
from ashwood.experiment.events import (
    AttemptEnded,
    AttemptFailed,
    AttemptStarted,
    CheckpointSaved,
    DriverStarted,
    DriverStopped,
    Event,
    HparamsRejected,
    PauseRequested,
    TrialStopped,
    ValidationReported,
)
from ashwood.experiment.experiment import Experiment
from ashwood.experiment.lifecycle import ExperimentState, TrialState
from ashwood.experiment.spec import Entrypoint, EntrypointKind, ExperimentSpec, Unit
from ashwood.search.draw import unit_draw
from ashwood.search.settings import Method, SearchSettings
from ashwood.search.space import Double, Space

Curve = Callable[[int, int], float]
"""The metric of a trial at a length."""


class Entry(NamedTuple):
    at: float
    event: Event
    decisions: tuple[Decision, ...]


def spec_of(settings: SearchSettings, *, smaller_is_better: bool = True, max_restarts: int = 2) -> ExperimentSpec:
    return ExperimentSpec(
        name="simulated",
        space=Space({"lr": Double(0.0, 1.0, count=1)}),
        search=settings,
        metric="loss",
        smaller_is_better=smaller_is_better,
        unit=Unit.EPOCHS,
        entrypoint=Entrypoint(EntrypointKind.FUNCTION, "m:f"),
        workdir="w",
        seed=7,
        max_restarts=max_restarts,
    )


def asha(
    max_trials: int = 40, *, method: Method = Method.ADAPTIVE_ASHA, max_length: int = 64, **more: object
) -> SearchSettings:
    return SearchSettings(method=method, max_length=max_length, max_trials=max_trials, **more)  # type: ignore[arg-type]


def power_law(seed: int, noise: float = 0.05) -> Curve:
    """Learning curves that cross: each trial has its own asymptote and its own speed."""

    def metric(trial: int, length: int) -> float:
        floor, speed = unit_draw(seed, "floor", trial), 0.2 + 0.8 * unit_draw(seed, "speed", trial)
        return floor + float(length**-speed) + noise * unit_draw(seed, "noise", trial, length)

    return metric


@dataclass
class _Process:
    trial: int
    attempt: int
    slot: int
    length: int
    target: int


class Workers:
    """A backend and engine in one: dispatches as the engine does and hears from processes in virtual time.

    Args:
        faults: the chances that a stretch of training fails, is rejected, or stops itself.
        period: a validation every so many lengths, besides the one at the target.
        checkpoints: whether training code saves any.
        step: seconds that one length of training takes.
    """

    def __init__(
        self,
        spec: ExperimentSpec,
        curve: Curve,
        *,
        workers: int = 4,
        seed: int = 0,
        faults: tuple[float, float, float] = (0.0, 0.0, 0.0),
        period: int | None = None,
        checkpoints: bool = True,
        step: float = 10.0,
    ) -> None:
        self.experiment = Experiment(spec)
        self.entries: list[Entry] = []
        self._curve = curve
        self._workers = workers
        self._seed = seed
        self._faults = faults
        self._period = period
        self._checkpoints = checkpoints
        self._step = step
        self._now = 1_000.0
        self._drawn = 0
        self._begin()

    def _begin(self) -> None:
        self._queue: deque[tuple[int, int]] = deque()
        self._live: dict[int, _Process] = {}
        self._agenda: list[tuple[float, int, Event]] = []

    def run(self, *, stop_after: int | None = None, crash: bool = False) -> list[Entry]:
        """Run to the end, or pause (or die without a word) after so many entries; returns all entries so far."""
        self._begin()
        first = len(self.entries)
        self._handle(DriverStarted(self._workers))
        while self._agenda:
            if stop_after is not None and len(self.entries) - first >= stop_after:
                if crash:
                    return self.entries
                if self.experiment.state is ExperimentState.RUNNING:
                    self._handle(PauseRequested())
                    continue
            self._now, _, event = heappop(self._agenda)
            self._handle(event)
        self._handle(DriverStopped())
        return self.entries

    def _draw(self) -> float:
        self._drawn += 1
        return unit_draw(self._seed, "worker", self._drawn)

    def _handle(self, event: Event) -> None:
        match event:
            case AttemptEnded() | AttemptFailed() | HparamsRejected() | TrialStopped():
                del self._live[event.trial]
        decisions = self.experiment.handle(event)
        self.entries.append(Entry(self._now, event, decisions))
        if isinstance(event, ValidationReported) and event.length < self._live[event.trial].target:
            self._train(self._live[event.trial])
        for decision in decisions:
            self._act(decision)
        self._fill()

    def _act(self, decision: Decision) -> None:
        match decision:
            case CreateTrial(trial=trial):
                self._queue.append((trial, 1))
            case TrainTrial(trial=trial, attempt=attempt):
                self._queue.append((trial, attempt))
            case ContinueTrial(trial=trial, target=target):
                self._live[trial].target = target
                self._train(self._live[trial])
            case PauseTrial(trial=trial) | CompleteTrial(trial=trial):
                self._let_go(self._live[trial], save=True)
            case StopTrial(trial=trial):
                self._let_go(self._live[trial], save=False)
            case SuspendTrial(trial=trial, attempt=attempt) if trial in self._live:
                if self._live[trial].attempt == attempt:
                    self._suspend(self._live[trial])

    def _fill(self) -> None:
        held = []
        while self.experiment.state is ExperimentState.RUNNING and self._queue and len(self._live) < self._workers:
            waiting = self._queue.popleft()
            trial = self.experiment.trials[waiting[0]]
            if trial.state is not TrialState.RUNNING or trial.attempt != waiting[1]:
                continue
            if trial.id in self._live:
                held.append(waiting)
                continue
            taken = {process.slot for process in self._live.values()}
            slot = next(number for number in range(self._workers) if number not in taken)
            process = _Process(trial.id, trial.attempt, slot, trial.checkpoint_length, trial.target)
            self._live[trial.id] = process
            self._later(0.5, AttemptStarted(trial.id, trial.attempt, slot, process.length))
            self._train(process, delay=0.5)
        self._queue.extendleft(reversed(held))

    def _train(self, process: _Process, delay: float = 0.0) -> None:
        stretch = max(0, process.target - process.length)
        if self._period is not None:
            stretch = min(stretch, self._period)
        takes = delay + stretch * self._step * (0.5 + self._draw())
        trial, attempt = process.trial, process.attempt
        fate = self._draw()
        failing, rejecting, stopping = self._faults
        if fate < failing:
            self._later(takes / 2, AttemptFailed(trial, attempt, "boom\nTraceback"))
        elif fate < failing + rejecting:
            self._later(takes / 2, HparamsRejected(trial, attempt, "too big"))
        elif fate < failing + rejecting + stopping:
            self._later(takes / 2, TrialStopped(trial, attempt))
        else:
            process.length += stretch
            metrics = {"loss": self._curve(trial, process.length), "accuracy": 0.5}
            self._later(takes, ValidationReported(trial, attempt, process.length, metrics))

    def _suspend(self, process: _Process) -> None:
        """Let go at the length that was reported last: what the process was about to say is never said."""
        begun = [due for due in self._agenda if isinstance(due[2], AttemptStarted)]
        self._agenda = [due for due in self._agenda if due in begun or getattr(due[2], "trial", None) != process.trial]
        heapify(self._agenda)
        process.length = min(process.length, self.experiment.trials[process.trial].length)
        self._later(0.6, AttemptEnded(process.trial, process.attempt, process.length))

    def _let_go(self, process: _Process, *, save: bool) -> None:
        trial, attempt, length = process.trial, process.attempt, process.length
        if save and self._checkpoints:
            self._later(0.2, CheckpointSaved(trial, attempt, length, f"t{trial}-l{length}-a{attempt}"))
        self._later(0.3, AttemptEnded(trial, attempt, length))

    def _later(self, seconds: float, event: Event) -> None:
        self._drawn += 1
        heappush(self._agenda, (self._now + seconds, self._drawn, event))


def arrivals_of(experiment: Experiment) -> tuple[tuple[int, ...], ...]:
    """How many trials reached each rung of each bracket, from the search itself."""
    return tuple(tuple(len(rung) for rung in bracket.rungs) for bracket in experiment.search.brackets)
