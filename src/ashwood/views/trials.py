"""The trials of an experiment, one row each, as the log tells them.

This module defines what is best, for commands, pages, figures and Python alike.  An experiment that saves checkpoints
is ranked by them, because a result without a checkpoint is no model:

- The best result of a trial is the best metric among its checkpoints that exist.
- Trials without such a checkpoint come after those that have one, in the order of their best reports.
- Without any saved checkpoint, results are reports.  The same holds if the checkpoint policy keeps none of a trial that
  has ended.

The search and ``stop_when`` decide by reports, whatever is best here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from heapq import nsmallest
from math import inf, isfinite
from typing import Any, NamedTuple, TypeAlias

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
    CheckpointDamaged,
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
    """A saved state of a trial at a total length.

    ``metric`` is the searcher's metric there, or None if it is unknown or not finite; ``at`` is when it was saved.
    """

    path: str
    length: int
    metric: float | None
    at: float


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
        metric: the best result, at ``metric_length``, known since ``metric_at``: that of ``best_checkpoint`` if the
            experiment saves checkpoints, otherwise the best report.  None if there is none.
        seen: the best finite value of the searcher's metric that it reported, at ``seen_length`` and ``seen_at``.
        checkpoints: those that were saved, and neither deleted nor found damaged, the latest last.
        best_checkpoint: the one with the best metric, or the longest if no metric is known, or None.
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
    seen: float | None = field(default=None, repr=False)
    seen_length: int | None = field(default=None, repr=False)
    seen_at: float | None = field(default=None, repr=False)
    checkpoints: tuple[Checkpoint, ...] = field(default=(), repr=False)
    best_checkpoint: Checkpoint | None = None
    errors: tuple[str, ...] = field(default=(), repr=False)
    preempted: int = field(default=0, repr=False)
    started_at: float | None = field(default=None, repr=False)
    ended_at: float | None = field(default=None, repr=False)
    seconds: float = 0.0

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The latest checkpoint, or None if there is none."""
        return self.checkpoints[-1] if self.checkpoints else None


RankingKey: TypeAlias = tuple[int, float, TrialId]
"""Whether a trial has a result, only reports or neither; its loss; its number."""

_LAST: RankingKey = (2, -inf, -1)
"""Before all trials that have nothing to rank them by."""
_LEADERS = ("_leader", "_best_seen")


class TrialTable:
    """A fold over log entries, O(1) each.

    Two rare entries take O(n): the first checkpoint of an experiment, and one by which the best trial gets worse.

    Attributes:
        rows: every trial, by id, in the order in which they were created.
        states: how many trials stand where.
        spending: the time of the slots and the training done.
        by_checkpoint: whether the results are those of checkpoints.
    """

    def __init__(self, spec: ExperimentSpec) -> None:
        self.rows: dict[TrialId, TrialRow] = {}
        self.states: Counter[TrialState] = Counter()
        self.spending = Spending()
        self._rules = spec.rules
        self._metric = spec.metric
        self._sign = 1 if spec.smaller_is_better else -1
        policy = spec.checkpoint_policy
        self._keeps_checkpoints = policy is None or any(
            (policy.save_experiment_best, policy.save_trial_best, policy.save_trial_latest)
        )
        self.by_checkpoint = False
        self._leader: TrialRow | None = None
        self._leader_key: RankingKey = _LAST
        self._best_seen: TrialRow | None = None
        # In logs of version 3 and older, a checkpoint can be recorded before the report at its length: path by trial.
        self._unrated: dict[TrialId, str] = {}

    def __getstate__(self) -> dict[str, Any]:
        leaders = {name: None if (row := self.__dict__[name]) is None else row.id for name in _LEADERS}
        return {**self.__dict__, **leaders, "rows": pack(TrialRow, self.rows.values())}

    def __setstate__(self, state: dict[str, Any]) -> None:
        rows = {row.id: row for row in unpack(TrialRow, state["rows"])}
        leaders = {name: rows.get(state[name]) for name in _LEADERS}
        self.__dict__ |= {**state, **leaders, "rows": rows}

    def apply(self, at: float, event: Event, decisions: Sequence[Decision]) -> None:
        """Take an entry."""
        for trial, seconds in self.spending.apply(at, event):
            self.rows[trial].seconds += seconds
        match event:
            case ValidationReported():
                self._report(at, event)
            case CheckpointSaved():
                self._save(at, self.rows[event.trial], event)
            case CheckpointDamaged(trial, _, path):
                self._remove(self.rows[trial], path)
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
        """The best trial so far, or None if none has reported a number."""
        return self._leader

    @property
    def best_seen(self) -> TrialRow | None:
        """The trial with the best report so far, whether or not there is a checkpoint of it; None if there is none."""
        return self._best_seen

    def has_seen_better(self, row: TrialRow) -> bool:
        """Return whether a trial has reported a better metric than its result, so that it has no checkpoint of that."""
        return row.seen is not None and self.improves(row.seen, row.metric)

    def best(self, n: int = 1) -> list[TrialRow]:
        """The best ``n`` trials; those that never reported a number, and invalid ones, are left out."""
        return nsmallest(n, (row for row in self.rows.values() if self._ranks(row)), key=self.ranking_key)

    def ranked(self) -> list[TrialRow]:
        """All trials, the best first; those that never reported a number, and invalid ones, last."""
        return sorted(self.rows.values(), key=self.ranking_key)

    def ranking_key(self, row: TrialRow) -> RankingKey:
        """Sorts trials, the best first; ties go to the older one."""
        if row.state is not TrialState.INVALID:
            if row.metric is not None:
                return (0, self._sign * row.metric, row.id)
            if row.seen is not None:
                return (1, self._sign * row.seen, row.id)
        return (2, inf, row.id)

    def improves(self, value: float, on: float | None) -> bool:
        """Return whether a metric is better than another one; any is better than None."""
        return on is None or self._sign * value < self._sign * on

    def _ranks(self, row: TrialRow) -> bool:
        return self.ranking_key(row) < _LAST

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
        if value is not None and self.improves(value, row.seen):
            row.seen, row.seen_length, row.seen_at = value, event.length, at
            best = self._best_seen
            if best is None or (self._sign * value, row.id) < (self._sign * (best.seen or 0.0), best.id):
                self._best_seen = row
            if not self.by_checkpoint:
                row.metric, row.metric_length, row.metric_at = value, event.length, at
            self._rank(row)
        if self._unrated and (path := self._unrated.pop(row.id, None)) is not None:
            self._rate(row, path, event.length, value)

    def _save(self, at: float, row: TrialRow, saved: CheckpointSaved) -> None:
        metrics = saved.metrics
        if metrics is None:  # a log of version 3 or older
            metrics = row.metrics if row.length == saved.length else {}
            if self._value(metrics) is None:
                self._unrated[row.id] = saved.path
        self._remove(row, saved.path)
        self._add(row, Checkpoint(saved.path, saved.length, self._value(metrics), at))
        if not self.by_checkpoint and self._keeps_checkpoints:
            self.by_checkpoint = True
            for each in self.rows.values():
                self._take_result(each)
            self._find_leader()

    def _rate(self, row: TrialRow, path: str, length: int, metric: float | None) -> None:
        """Take the metric of a checkpoint that was saved before its trial reported it."""
        found = next((each for each in row.checkpoints if each.path == path and each.length == length), None)
        if found is not None:
            self._remove(row, path)
            self._add(row, found._replace(metric=metric))

    def _add(self, row: TrialRow, checkpoint: Checkpoint) -> None:
        latest = row.checkpoint
        row.checkpoints += (checkpoint,)
        if latest is not None and latest.length > checkpoint.length:
            # Stable: of equal lengths the later one is the latest.
            row.checkpoints = tuple(sorted(row.checkpoints, key=lambda each: each.length))
        best = row.best_checkpoint
        if best is None or self._checkpoint_key(checkpoint) < self._checkpoint_key(best):
            self._choose(row, checkpoint)

    def _remove(self, row: TrialRow, path: str) -> None:
        kept = tuple(each for each in row.checkpoints if each.path != path)
        if len(kept) == len(row.checkpoints):
            return
        row.checkpoints = kept
        if row.best_checkpoint is not None and row.best_checkpoint.path == path:
            self._choose(row, min(kept, key=self._checkpoint_key, default=None))

    def _choose(self, row: TrialRow, best: Checkpoint | None) -> None:
        row.best_checkpoint = best
        if self.by_checkpoint:
            self._take_result(row)
            self._rank(row)

    def _checkpoint_key(self, checkpoint: Checkpoint) -> tuple[float, int]:
        return (inf if checkpoint.metric is None else self._sign * checkpoint.metric, -checkpoint.length)

    def _take_result(self, row: TrialRow) -> None:
        """Make the best checkpoint the result."""
        best = row.best_checkpoint
        row.metric = row.metric_length = row.metric_at = None
        if best is not None and best.metric is not None:
            row.metric, row.metric_length, row.metric_at = best.metric, best.length, best.at

    def _rank(self, row: TrialRow) -> None:
        """Find out who is best after a trial has become better or worse."""
        key = self.ranking_key(row)
        if row is self._leader and key > self._leader_key:
            self._find_leader()
        elif key <= self._leader_key and key < _LAST:
            self._leader, self._leader_key = row, key

    def _find_leader(self) -> None:
        self._leader = next(iter(self.best()), None)
        self._leader_key = _LAST if self._leader is None else self.ranking_key(self._leader)

    def _value(self, metrics: Mapping[str, float]) -> float | None:
        value = metrics.get(self._metric)
        return value if value is not None and isfinite(value) else None

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
                self._remove(self.rows[trial], path)
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
        if state is TrialState.INVALID:
            self._rank(row)
            if row is self._best_seen:
                seen = (row for row in self.rows.values() if row.seen is not None and self._ranks(row))
                self._best_seen = min(seen, key=lambda each: (self._sign * (each.seen or 0.0), each.id), default=None)

    def _move(self, row: TrialRow, state: TrialState) -> None:
        self.states[row.state] -= 1
        self.states[state] += 1
        row.state = state
        row.has_job = state is TrialState.RUNNING
