"""The table of the trials of an experiment according to its log.

This module defines which result is best, for commands, pages, figures and the Python API.  If an experiment saves
checkpoints, its trials are ranked by them, because without a checkpoint a result is of no use:

- The best result of a trial is the best metric of its existing checkpoints.
- Trials without such a checkpoint come after those that have one, in the order of their best reports.
- If the experiment has saved no checkpoint, results are reports.  The same holds if the checkpoint policy keeps no
  checkpoint of a trial that has ended.

The search and ``stop_when`` always use reports.

Replicates have no rank, because they are not new settings.  Their results are reports, and count in
`ashwood.views.recommendation`, which defines the trial to use when all trials have been compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
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
from ashwood.experiment.entry import Entry
from ashwood.experiment.events import (
    TRAINING,
    AttemptFailed,
    AttemptPreempted,
    AttemptStarted,
    CheckpointDamaged,
    CheckpointSaved,
    ValidationReported,
)
from ashwood.experiment.lifecycle import ExperimentState, TrialState
from ashwood.experiment.packing import pack, unpack
from ashwood.experiment.spec import ExperimentSpec
from ashwood.search.vocabulary import Audited, Replicated, TrialId
from ashwood.views.spending import Spending


class SavedCheckpoint(NamedTuple):
    """A checkpoint of a trial.

    Attributes:
        path: name relative to the experiment's storage, or an absolute path in logs of version 1.
        length: total length of the training that it holds.
        metric: metric of the search at this length, or None if it is unknown or not finite.
        at: when it was saved, in seconds since 1970.
        size: total size of its files in bytes, or None if the log does not contain it.
    """

    path: str
    length: int
    metric: float | None
    at: float
    size: int | None = None


@dataclass(slots=True)
class TrialRow:
    """A trial in the table.  Times are seconds since 1970, or None if the event has not happened.

    Attributes:
        id: number of the trial.
        bracket: index of its bracket.
        nth: its index in the bracket.
        hparams: values of its hyperparameters.
        seed: seed for its training code.
        target: total length at which its latest job ends.
        created_at: time at which the search created it.
        state: its state; paused if the experiment is paused or stopped and the trial resumes with it.
        has_job: whether it trains now or resumes with the experiment.
        attempt: number of its latest attempt, from 1.
        finishing: the attempt that finishes a step and reports once more after its trial was stopped, or 0.
        length: longest total length of its reports.
        metrics: its latest report with later training metrics, or empty if it has not reported.
        metric: best result, which is the metric of ``best_checkpoint`` or ``deleted`` if the experiment saves
            checkpoints, and that of the best report otherwise; None if there is no result.
        metric_length: total length of the best result.
        metric_at: time of the best result.
        seen: best finite metric of its reports, or None.
        seen_length: total length of that report.
        seen_at: time of that report.
        checkpoints: checkpoints that are neither deleted nor damaged, the longest last.
        best_checkpoint: checkpoint with the best metric, or the longest one if no metric is known, or None.
        deleted: checkpoint with the best metric of those that were deleted to keep max_size, or None.
        errors: errors of failed attempts, in order, each with a headline and details.
        preempted: number of attempts that lost their worker.
        started_at: time at which its first attempt started.
        ended_at: time at which it ended.
        seconds: total time of its attempts that have ended.
        given: hyperparameters that a user gave for it, by dotted name; the others were drawn.
        audits: number of rungs from which it was promoted as an audit, which means that it was drawn at random.
        original: the trial of which it is a replicate, or None.
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
    checkpoints: tuple[SavedCheckpoint, ...] = field(default=(), repr=False)
    best_checkpoint: SavedCheckpoint | None = None
    deleted: SavedCheckpoint | None = field(default=None, repr=False)
    errors: tuple[str, ...] = field(default=(), repr=False)
    preempted: int = field(default=0, repr=False)
    started_at: float | None = field(default=None, repr=False)
    ended_at: float | None = field(default=None, repr=False)
    seconds: float = 0.0
    given: Mapping[str, Any] = field(default_factory=dict, repr=False)
    audits: int = field(default=0, repr=False)
    original: TrialId | None = field(default=None, repr=False)

    @property
    def checkpoint(self) -> SavedCheckpoint | None:
        """The latest checkpoint, or None if there is none."""
        return self.checkpoints[-1] if self.checkpoints else None


def has_diverged(row: TrialRow, metric: str) -> bool:
    """Return whether the metric in the latest report of a trial is NaN or infinite."""
    value = row.metrics.get(metric)
    return value is not None and not isfinite(value)


RankingKey: TypeAlias = tuple[int, float, TrialId]
"""Class of a trial (0: with a result, 1: only with reports, 2: neither), its loss, and its number."""

_LAST: RankingKey = (2, -inf, -1)
"""A key before those of all trials that have neither results nor reports."""
_LEADERS = ("_leader", "_best_seen")


class TrialTable:
    """The table of trials, as a fold over log entries that takes O(1) time for each.

    Two rare entries take O(n): the first checkpoint of an experiment, and one by which the best trial gets worse.

    Attributes:
        rows: all trials by id, in the order in which they were created.
        states: number of trials in each state.
        spending: the time of the slots and the training that was done.
        by_checkpoint: whether results are those of checkpoints, rather than of reports.
        checkpoints: number of checkpoints that are neither deleted nor damaged.
        checkpoint_size: total size of those with a known size, in bytes.
        diverged: number of trials whose latest report has a metric that is NaN or infinite.
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
        self.checkpoints = 0
        self.checkpoint_size = 0
        self.diverged = 0
        self._leader: TrialRow | None = None
        self._leader_key: RankingKey = _LAST
        self._best_seen: TrialRow | None = None
        # Path of a checkpoint by trial until its metric is reported.  In logs of version 3 and older, a checkpoint can
        # be recorded before the report at its length.
        self._unrated: dict[TrialId, str] = {}

    def __getstate__(self) -> dict[str, Any]:
        leaders = {name: None if (row := self.__dict__[name]) is None else row.id for name in _LEADERS}
        return {**self.__dict__, **leaders, "rows": pack(TrialRow, self.rows.values())}

    def __setstate__(self, state: dict[str, Any]) -> None:
        rows = {row.id: row for row in unpack(TrialRow, state["rows"])}
        leaders = {name: rows.get(state[name]) for name in _LEADERS}
        self.__dict__ |= {**state, **leaders, "rows": rows}

    def apply(self, entry: Entry) -> None:
        """Apply an entry of the log."""
        at, event, decisions = entry
        for trial, seconds in self.spending.apply(entry):
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
                    self.rows[trial].errors += (f"its worker was lost too often, the last time: {why}",)
        for decision in decisions:
            self._decide(at, decision)

    @property
    def leader(self) -> TrialRow | None:
        """The best trial so far, or None if no trial has reported a finite metric."""
        return self._leader

    @property
    def best_seen(self) -> TrialRow | None:
        """The trial with the best report so far, with or without a checkpoint, or None.  It is no replicate."""
        return self._best_seen

    def has_seen_better(self, row: TrialRow) -> bool:
        """Return whether a trial has reported a better metric than its result, of which it has no checkpoint."""
        return row.seen is not None and self.improves(row.seen, row.metric)

    def best(self, n: int = 1) -> list[TrialRow]:
        """Return the best ``n`` trials, without invalid ones, those without a finite metric, and replicates."""
        return nsmallest(n, (row for row in self.rows.values() if self._ranks(row)), key=self.ranking_key)

    def ranked(self) -> list[TrialRow]:
        """Return all trials, the best first; invalid ones, those without a finite metric and replicates come last."""
        return sorted(self.rows.values(), key=self.ranking_key)

    def ranking_key(self, row: TrialRow) -> RankingKey:
        """Return a sort key with which the best trial comes first, and among equal trials the older one."""
        if row.state is not TrialState.INVALID and row.original is None:
            if row.metric is not None:
                return (0, self._sign * row.metric, row.id)
            if row.seen is not None:
                return (1, self._sign * row.seen, row.id)
        return (2, inf, row.id)

    def improves(self, value: float, on: float | None) -> bool:
        """Return whether a metric is better than another one; any metric is better than None."""
        return on is None or self._sign * value < self._sign * on

    def _ranks(self, row: TrialRow) -> bool:
        return self.ranking_key(row) < _LAST

    # -- events -------------------------------------------------------------------------------

    def _report(self, at: float, event: ValidationReported) -> None:
        row = self.rows[event.trial]
        if event.attempt != (row.attempt if row.has_job else row.finishing):
            return  # The report came too late; the experiment ignores it too, with a warning.
        row.length = max(row.length, event.length)
        # A report without validation metrics does not replace the latest validation.
        is_training = all(name.startswith(TRAINING) for name in event.metrics)
        had_diverged = has_diverged(row, self._metric)
        row.metrics = {**row.metrics, **event.metrics} if is_training else event.metrics
        self.diverged += has_diverged(row, self._metric) - had_diverged
        value = self._value(event.metrics)
        if value is not None and self.improves(value, row.seen):
            row.seen, row.seen_length, row.seen_at = value, event.length, at
            best = self._best_seen
            is_best = best is None or (self._sign * value, row.id) < (self._sign * (best.seen or 0.0), best.id)
            if is_best and row.original is None:
                self._best_seen = row
            if not self.by_checkpoint or row.original is not None:
                row.metric, row.metric_length, row.metric_at = value, event.length, at
            self._rank(row)
        if self._unrated and (path := self._unrated.pop(row.id, None)) is not None:
            self._rate(row, path, event.length, value)

    def _save(self, at: float, row: TrialRow, saved: CheckpointSaved) -> None:
        metrics = saved.metrics
        if metrics is None:  # The log has version 3 or older.
            metrics = row.metrics if row.length == saved.length else {}
            if self._value(metrics) is None:
                self._unrated[row.id] = saved.path
        self._remove(row, saved.path)
        self._add(row, SavedCheckpoint(saved.path, saved.length, self._value(metrics), at, saved.size))
        if not self.by_checkpoint and self._keeps_checkpoints:
            self.by_checkpoint = True
            for each in self.rows.values():
                self._take_result(each)
            self._find_leader()

    def _rate(self, row: TrialRow, path: str, length: int, metric: float | None) -> None:
        """Record the metric of a checkpoint that was saved before its trial reported that metric."""
        found = next((each for each in row.checkpoints if each.path == path and each.length == length), None)
        if found is not None:
            self._remove(row, path)
            self._add(row, found._replace(metric=metric))

    def _add(self, row: TrialRow, checkpoint: SavedCheckpoint) -> None:
        latest = row.checkpoint
        row.checkpoints += (checkpoint,)
        self.checkpoints += 1
        self.checkpoint_size += checkpoint.size or 0
        if latest is not None and latest.length > checkpoint.length:
            # The sort is stable, so of two checkpoints with equal lengths the one that was saved later is the latest.
            row.checkpoints = tuple(sorted(row.checkpoints, key=lambda each: each.length))
        best = row.best_checkpoint
        if best is None or self._checkpoint_key(checkpoint) < self._checkpoint_key(best):
            self._choose(row, checkpoint)

    def _remove(self, row: TrialRow, path: str) -> None:
        kept = tuple(each for each in row.checkpoints if each.path != path)
        if len(kept) == len(row.checkpoints):
            return
        self.checkpoints -= len(row.checkpoints) - len(kept)
        self.checkpoint_size -= sum(each.size or 0 for each in row.checkpoints if each.path == path)
        row.checkpoints = kept
        if row.best_checkpoint is not None and row.best_checkpoint.path == path:
            self._choose(row, min(kept, key=self._checkpoint_key, default=None))

    def _note_deleted(self, row: TrialRow, path: str) -> None:
        """Note a checkpoint that is deleted to keep max_size, whose metric still counts as a result of its trial."""
        found = [each for each in row.checkpoints if each.path == path]
        rated = found if row.deleted is None else [row.deleted, *found]
        row.deleted = min(rated, key=self._checkpoint_key, default=None)

    def _choose(self, row: TrialRow, best: SavedCheckpoint | None) -> None:
        row.best_checkpoint = best
        if self.by_checkpoint:
            self._take_result(row)
            self._rank(row)

    def _checkpoint_key(self, checkpoint: SavedCheckpoint) -> tuple[float, int]:
        return (inf if checkpoint.metric is None else self._sign * checkpoint.metric, -checkpoint.length)

    def _take_result(self, row: TrialRow) -> None:
        """Make the metric of the best checkpoint the result of its trial, also if it was deleted to keep max_size."""
        if row.original is not None:
            return
        rated = (each for each in (row.best_checkpoint, row.deleted) if each is not None)
        best = min(rated, key=self._checkpoint_key, default=None)
        row.metric = row.metric_length = row.metric_at = None
        if best is not None and best.metric is not None:
            row.metric, row.metric_length, row.metric_at = best.metric, best.length, best.at

    def _rank(self, row: TrialRow) -> None:
        """Update the best trial after a trial has become better or worse."""
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
            case CreateTrial(trial, bracket, nth, hparams, seed, target, why, given):
                original = why.original if isinstance(why, Replicated) else None
                self.rows[trial] = TrialRow(
                    trial, bracket, nth, hparams, seed, target, at, given=given, original=original
                )
                self.states[TrialState.RUNNING] += 1
            case TrainTrial(trial, attempt, target) | ContinueTrial(trial, attempt, target):
                row = self.rows[trial]
                row.attempt, row.target = attempt, target
                row.audits += isinstance(decision.why, Audited)
                self._move(row, TrialState.RUNNING)
            case PauseTrial(trial):
                self._move(self.rows[trial], TrialState.PAUSED)
            case CompleteTrial(trial):
                self._end(at, self.rows[trial], TrialState.COMPLETED)
            case StopTrial(trial):
                self._end(at, self.rows[trial], TrialState.STOPPED)
            case CloseTrial():
                self._close(at, decision)
            case ReopenTrial(trial, state, target=target):
                row = self.rows[trial]
                row.ended_at, row.target = None, target
                self._move(row, state)
            case DeleteCheckpoint(trial, path, why):
                row = self.rows[trial]
                if why is not None:
                    self._note_deleted(row, path)
                self._remove(row, path)
            case EndExperiment(ExperimentState.PAUSED | ExperimentState.STOPPED):
                self._pause()

    def _close(self, at: float, decision: CloseTrial) -> None:
        row = self.rows[decision.trial]
        if row.has_job and isinstance(decision.why, FINISHES_A_STEP) and self._rules >= 3:
            row.finishing = row.attempt
        self._end(at, row, decision.state)

    def _pause(self) -> None:
        """Show trials as paused that resume with the experiment."""
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
