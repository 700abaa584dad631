"""The checkpoints of an experiment according to its log, and why each is kept."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from heapq import nsmallest
from math import inf, isfinite
from typing import Any

from ashwood.experiment.decisions import ChangeSettings, CloseTrial, CreateTrial, DeleteCheckpoint
from ashwood.experiment.entry import Entry
from ashwood.experiment.events import AttemptEnded, CheckpointDamaged, CheckpointSaved, ValidationReported
from ashwood.experiment.lifecycle import TrialState
from ashwood.experiment.packing import pack, unpack
from ashwood.experiment.spec import ExperimentSpec
from ashwood.search.vocabulary import Replicated, TrialId


@dataclass(slots=True)
class CheckpointRow:
    """One checkpoint.

    Attributes:
        trial: its trial.
        name: path relative to the experiment's storage, or an absolute path in logs of version 1.
        length: total length of the training that it holds.
        attempt: number of the attempt that saved it.
        metric: metric of the search at its length, or None if it is unknown or not finite.
        saved_at: when it was saved, in seconds since 1970.
        size: total size of its files in bytes, or None if the log does not contain it.
    """

    trial: TrialId
    name: str
    length: int
    attempt: int
    metric: float | None
    saved_at: float
    size: int | None = None


class CheckpointTable:
    """The checkpoints of an experiment, as a fold over log entries.

    Attributes:
        rows: the checkpoints that are neither deleted nor damaged, by name, in the order in which they were saved.
        max_size: largest total size of the checkpoints in bytes, by the latest settings, or None for no limit.
    """

    def __init__(self, spec: ExperimentSpec) -> None:
        self.rows: dict[str, CheckpointRow] = {}
        self.max_size = spec.max_size
        self._policy = spec.checkpoint_policy
        self._metric = spec.metric
        self._sign = 1.0 if spec.smaller_is_better else -1.0
        # The latest report of each trial whose attempt has not ended.
        self._latest: dict[TrialId, ValidationReported] = {}
        # Invalid trials and replicates, whose checkpoints are not among the best of the experiment.
        self._unranked: set[TrialId] = set()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "rows": pack(CheckpointRow, self.rows.values())}

    def __setstate__(self, state: dict[str, Any]) -> None:
        rows = {row.name: row for row in unpack(CheckpointRow, state["rows"])}
        self.__dict__ |= {**state, "rows": rows}

    def apply(self, entry: Entry) -> None:
        """Apply an entry of the log."""
        at, event, decisions = entry
        if isinstance(event, ValidationReported):  # This comes first because most entries are reports.
            self._latest[event.trial] = event
        elif isinstance(event, CheckpointSaved):
            self._save(at, event)
        elif isinstance(event, AttemptEnded):  # All its checkpoints are already recorded.
            self._latest.pop(event.trial, None)
        elif isinstance(event, CheckpointDamaged):
            self.rows.pop(event.path, None)
        for decision in decisions:
            match decision:
                case DeleteCheckpoint(path=path):
                    self.rows.pop(path, None)
                case CloseTrial(trial, TrialState.INVALID) | CreateTrial(trial, why=Replicated()):
                    self._unranked.add(trial)
                case ChangeSettings():
                    self.max_size = decision.max_size

    def _save(self, at: float, saved: CheckpointSaved) -> None:
        trial, attempt, length, path, metrics, size = saved
        self.rows.pop(path, None)
        if metrics is None:  # The log has version 3 or older.
            latest = self._latest.get(trial)
            metrics = latest.metrics if latest is not None and latest.length == length else {}
        self.rows[path] = CheckpointRow(trial, path, length, attempt, self._value(metrics), at, size)

    def of(self, trial: TrialId) -> list[CheckpointRow]:
        """Return the checkpoints of a trial, the best first.  Those without a metric come last, the longest first."""
        return sorted((row for row in self.rows.values() if row.trial == trial), key=self._rank)

    def kept_as(self, trial: TrialId | None = None) -> Mapping[str, tuple[str, ...]]:
        """Return why each checkpoint is kept, by name, for one trial or for all trials.

        The reasons are ``latest``, ``best of trial`` and ``best of experiment``, or that all are kept.
        """
        own = [row for row in self.rows.values() if trial is None or row.trial == trial]
        policy = self._policy
        if policy is None:
            return {row.name: ("all are kept",) for row in own}
        reasons: dict[str, list[str]] = {row.name: [] for row in own}
        trials: defaultdict[TrialId, list[CheckpointRow]] = defaultdict(list)
        for row in own:
            trials[row.trial].append(row)
        for rows in trials.values():
            # Under any policy, a trial needs its latest checkpoint to resume.
            latest = sorted(rows, key=lambda row: row.length)[-max(1, policy.save_trial_latest) :]
            _note(reasons, latest, "latest")
            _note(reasons, self._best(rows, policy.save_trial_best), "best of trial")
        if own:
            ranked = (row for row in self.rows.values() if row.trial not in self._unranked)
            best = self._best(ranked, policy.save_experiment_best)
            _note(reasons, (row for row in best if row.name in reasons), "best of experiment")
        return {name: tuple(each) for name, each in reasons.items()}

    def _best(self, rows: Iterable[CheckpointRow], count: int) -> list[CheckpointRow]:
        return nsmallest(count, (row for row in rows if row.metric is not None), key=self._rank)

    def _rank(self, row: CheckpointRow) -> tuple[float, int]:
        return (inf if row.metric is None else self._sign * row.metric, -row.length)

    def _value(self, metrics: Mapping[str, float]) -> float | None:
        value = metrics.get(self._metric)
        return value if value is not None and isfinite(value) else None


def _note(reasons: Mapping[str, list[str]], rows: Iterable[CheckpointRow], reason: str) -> None:
    for row in rows:
        reasons[row.name].append(reason)
