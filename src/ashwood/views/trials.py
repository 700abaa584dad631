"""The trials of an experiment, one row each, as the log tells them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from heapq import nsmallest
from math import inf, isfinite
from typing import Any, NamedTuple

from ashwood.experiment.decisions import (
    FINISHES_A_STEP,
    CloseTrial,
    CompleteTrial,
    ContinueTrial,
    CreateTrial,
    Decision,
    DeleteCheckpoint,
    EndExperiment,
    GaveUp,
    PauseTrial,
    ReopenTrial,
    Retried,
    StopTrial,
    TrainTrial,
)
from ashwood.experiment.events import (
    TRAINING,
    AttemptFailed,
    AttemptPreempted,
    AttemptStarted,
    CheckpointSaved,
    Event,
    ValidationReported,
)
from ashwood.experiment.lifecycle import ExperimentState, TrialState
from ashwood.experiment.packing import pack, unpack
from ashwood.experiment.spec import ExperimentSpec
from ashwood.search.vocabulary import TrialId
from ashwood.views.spending import Spending


class Checkpoint(NamedTuple):
    """A saved state of a trial at a total length; ``metric`` is the searcher's metric there, None: unknown."""

    path: str
    length: int
    metric: float | None


@dataclass(slots=True)
class TrialRow:
    """One trial.

    Times are seconds since 1970; None: not yet.

    Attributes:
        bracket: the bracket it belongs to.
        nth: which of the bracket's trials it is, from 0.
        target: total length that its latest job ends at.
        state: where it stands; paused if the experiment is paused or stopped and the trial continues with it.
        has_job: whether it is being trained, or is to be when the experiment continues.
        attempt: the process that works on it, or did last; counts from 1.
        finishing: the attempt that finishes a step and reports once more after its trial was stopped; 0: none.
        length: the longest total length that it reported.
        metrics: its latest report, and training metrics that were reported since; empty: none yet.
        metric: the best finite value of the searcher's metric, at ``metric_length`` and ``metric_at``.
        checkpoint: the latest one.
        best_checkpoint: the one with the best known metric; the latest where none is known.
        errors: why attempts failed, in order: one line, then details.
        preempted: how many attempts lost their worker.
        created_at: when the search created it.
        started_at: when a process first worked on it.
        ended_at: when it was settled that it trains no more.
        seconds: how long processes worked on it, those at work now left out.
    """

    id: TrialId
    bracket: int
    nth: int
    hparams: Mapping[str, Any]
    seed: int = field(repr=False)
    target: int = field(repr=False)
    created_at: float = field(repr=False)
    state: TrialState = TrialState.RUNNING
    has_job: bool = field(default=True, repr=False)
    attempt: int = 1
    finishing: int = field(default=0, repr=False)
    length: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    metric: float | None = None
    metric_length: int | None = None
    metric_at: float | None = field(default=None, repr=False)
    checkpoint: Checkpoint | None = field(default=None, repr=False)
    best_checkpoint: Checkpoint | None = None
    errors: tuple[str, ...] = field(default=(), repr=False)
    preempted: int = field(default=0, repr=False)
    started_at: float | None = field(default=None, repr=False)
    ended_at: float | None = field(default=None, repr=False)
    seconds: float = 0.0


class TrialTable:
    """A fold over log entries, O(1) each.

    Attributes:
        rows: every trial, by id, in the order in which they were created.
        states: how many trials stand where.
        spending: the time of the slots and the training done.
    """

    def __init__(self, spec: ExperimentSpec) -> None:
        self.rows: dict[TrialId, TrialRow] = {}
        self.states: Counter[TrialState] = Counter()
        self.spending = Spending()
        self._rules = spec.rules
        self._metric = spec.metric
        self._sign = 1 if spec.smaller_is_better else -1
        self._leader: TrialRow | None = None

    def __getstate__(self) -> dict[str, Any]:
        leader = None if self._leader is None else self._leader.id
        return {**self.__dict__, "rows": pack(TrialRow, self.rows.values()), "_leader": leader}

    def __setstate__(self, state: dict[str, Any]) -> None:
        rows = {row.id: row for row in unpack(TrialRow, state["rows"])}
        self.__dict__ |= {**state, "rows": rows, "_leader": rows.get(state["_leader"])}

    def apply(self, at: float, event: Event, decisions: Sequence[Decision]) -> None:
        """Take an entry."""
        for trial, seconds in self.spending.apply(at, event):
            self.rows[trial].seconds += seconds
        match event:
            case ValidationReported():
                self._report(at, event)
            case CheckpointSaved():
                self._checkpoint(self.rows[event.trial], event)
            case AttemptStarted(trial):
                row = self.rows[trial]
                row.started_at = at if row.started_at is None else row.started_at
            case AttemptFailed(trial, _, error) if event.is_failure:
                self.rows[trial].errors += (error,)
            case AttemptPreempted(trial, _, why, hung=False):
                self.rows[trial].preempted += 1
                if any(isinstance(getattr(decision, "why", None), Retried | GaveUp) for decision in decisions):
                    self.rows[trial].errors += (f"its worker was lost once too often, the last time: {why}",)
        for decision in decisions:
            self._decide(at, decision)

    @property
    def leader(self) -> TrialRow | None:
        """The best trial so far; None: none has reported a number."""
        return self._leader

    def best(self, n: int = 1) -> list[TrialRow]:
        """The best ``n`` trials by the best metric of each; those that never reported a number are left out."""
        return nsmallest(n, (row for row in self.rows.values() if self._ranks(row)), key=self.ranking_key)

    def ranked(self) -> list[TrialRow]:
        """All trials, the best first; those that never reported a number, and invalid ones, last."""
        return sorted(self.rows.values(), key=self.ranking_key)

    def ranking_key(self, row: TrialRow) -> tuple[float, TrialId]:
        """Sorts trials, the best first; ties go to the older one."""
        return (self._sign * row.metric if row.metric is not None and self._ranks(row) else inf, row.id)

    def _ranks(self, row: TrialRow) -> bool:
        return row.metric is not None and row.state is not TrialState.INVALID

    # -- events -------------------------------------------------------------------------------

    def _report(self, at: float, event: ValidationReported) -> None:
        row = self.rows[event.trial]
        if event.attempt != (row.attempt if row.has_job else row.finishing):
            return  # Late: the experiment warns about it and takes no notice either.
        row.length = max(row.length, event.length)
        # A report of training metrics alone does not hide the latest validation.
        is_training = all(name.startswith(TRAINING) for name in event.metrics)
        row.metrics = {**row.metrics, **event.metrics} if is_training else event.metrics
        value = self._value(event.metrics)
        if value is not None and self._improves(value, row.metric):
            row.metric, row.metric_length, row.metric_at = value, event.length, at
            if self._leader is None or self.ranking_key(row) < self.ranking_key(self._leader):
                self._leader = row
        if row.checkpoint is not None and row.checkpoint.length == event.length:
            self._keep(row, row.checkpoint._replace(metric=value))

    def _checkpoint(self, row: TrialRow, saved: CheckpointSaved) -> None:
        metrics = saved.metrics
        if metrics is None:  # a log of version 3 or older
            metrics = row.metrics if row.length == saved.length else {}
        if row.checkpoint is None or saved.length >= row.checkpoint.length:
            self._keep(row, Checkpoint(saved.path, saved.length, self._value(metrics)))

    def _keep(self, row: TrialRow, checkpoint: Checkpoint) -> None:
        row.checkpoint = checkpoint
        best = row.best_checkpoint
        if best is None or self._no_worse(checkpoint.metric, best.metric):
            row.best_checkpoint = checkpoint

    def _forget(self, row: TrialRow, path: str) -> None:
        if row.checkpoint is not None and row.checkpoint.path == path:
            row.checkpoint = None
        if row.best_checkpoint is not None and row.best_checkpoint.path == path:
            row.best_checkpoint = row.checkpoint

    def _value(self, metrics: Mapping[str, float]) -> float | None:
        value = metrics.get(self._metric)
        return value if value is not None and isfinite(value) else None

    def _no_worse(self, value: float | None, than: float | None) -> bool:
        return than is None or (value is not None and not self._improves(than, value))

    def _improves(self, value: float, on: float | None) -> bool:
        return on is None or self._sign * value < self._sign * on

    # -- decisions ----------------------------------------------------------------------------

    def _decide(self, at: float, decision: Decision) -> None:
        match decision:
            case CreateTrial(trial, bracket, nth, hparams, seed, target):
                self.rows[trial] = TrialRow(trial, bracket, nth, hparams, seed, target, at)
                self.states[TrialState.RUNNING] += 1
            case TrainTrial(trial, attempt, target) | ContinueTrial(trial, attempt, target):
                row = self.rows[trial]
                row.attempt, row.target = attempt, target
                self._move(row, TrialState.RUNNING)
            case PauseTrial(trial):
                self._move(self.rows[trial], TrialState.PAUSED)
            case CompleteTrial(trial):
                self._end(at, self.rows[trial], TrialState.COMPLETED)
            case StopTrial(trial):
                self._end(at, self.rows[trial], TrialState.STOPPED)
            case CloseTrial():
                self._close(at, decision)
            case ReopenTrial(trial, state):
                self.rows[trial].ended_at = None
                self._move(self.rows[trial], state)
            case DeleteCheckpoint(trial, path):
                self._forget(self.rows[trial], path)
            case EndExperiment(ExperimentState.PAUSED | ExperimentState.STOPPED):
                self._pause()

    def _close(self, at: float, decision: CloseTrial) -> None:
        row = self.rows[decision.trial]
        if row.has_job and isinstance(decision.why, FINISHES_A_STEP) and self._rules >= 3:
            row.finishing = row.attempt
        self._end(at, row, decision.state)

    def _pause(self) -> None:
        """Show trials as paused that continue with the experiment."""
        for row in self.rows.values():
            if row.state is TrialState.RUNNING:
                self._move(row, TrialState.PAUSED)
                row.has_job = True

    def _end(self, at: float, row: TrialRow, state: TrialState) -> None:
        row.ended_at = at
        self._move(row, state)
        if row is self._leader and not self._ranks(row):
            self._leader = next(iter(self.best()), None)

    def _move(self, row: TrialRow, state: TrialState) -> None:
        self.states[row.state] -= 1
        self.states[state] += 1
        row.state = state
        row.has_job = state is TrialState.RUNNING
