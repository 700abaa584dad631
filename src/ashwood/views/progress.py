"""The progress of an experiment, for live displays and for lists of experiments.

How long the rest takes is a forecast: `ashwood.forecast.time_left`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import islice
from math import nan
from typing import Any, NamedTuple, TypeVar

from ashwood.experiment.changes import invalid_limit
from ashwood.experiment.decisions import (
    ChangeSettings,
    CloseTrial,
    CreateTrial,
    Decision,
    EndExperiment,
    ExtendSearch,
    GoalReached,
    LeaveExperiment,
    TrainTrial,
    Warn,
)
from ashwood.experiment.entry import Entry
from ashwood.experiment.events import (
    AddTrialRequested,
    AttemptFailed,
    DriverStarted,
    PauseRequested,
    ValidationReported,
)
from ashwood.experiment.lifecycle import ExperimentState, TrialState
from ashwood.experiment.spec import ExperimentSpec
from ashwood.search.tournament import Tournament
from ashwood.search.vocabulary import TrialId
from ashwood.views.checkpoints import CheckpointTable
from ashwood.views.ladder import Ladder
from ashwood.views.measured import Measuring
from ashwood.views.recommendation import Recommendation, describe_results, recommend, recommendation_record
from ashwood.views.timeline import Timeline
from ashwood.views.trials import TrialRow, TrialTable
from ashwood.views.trust import Trust
from ashwood.views.wording import describe_created, describe_seen, format_length, format_value, known_length

T = TypeVar("T")

VIEWS = ("timeline", "checkpoints")
"""Attributes of `Progress` that few readers need, so each of them is a separate part of a snapshot."""

POINTS = 60
"""Number of points that a small line chart needs."""
_KEPT_WARNINGS = 20
_MOST_IMPROVEMENTS = 2_000


class Best(NamedTuple):
    """A value of the metric of the search, with its trial, length and time (seconds since 1970)."""

    trial: TrialId
    metric: float
    length: int
    at: float


class Improvement(NamedTuple):
    """A new best metric of an experiment.

    Attributes:
        at: time of the improvement, in seconds since 1970.
        trial: the trial that has this metric.
        length: total length at which the trial has this metric.
        metric: the new best metric.
        trained: training length of all trials until then.
        created: number of trials at that time.
        driven: seconds that drivers had run until then.
    """

    at: float
    trial: TrialId
    length: int
    metric: float
    trained: int
    created: int
    driven: float


def thinned(improvements: Sequence[Improvement], most: int) -> list[Improvement]:
    """Return the first improvement and the last one of each of equally long stretches of time, at most ``most``."""
    if len(improvements) <= most:
        return list(improvements)
    first, last = improvements[0], improvements[-1]
    width = (last.driven - first.driven) / (most - 2) or 1.0
    kept = {int((each.driven - first.driven) / width): each for each in improvements[1:]}
    return [first, *kept.values()]


class Progress:
    """The progress of an experiment, as a fold over log entries.

    Attributes:
        spec: the description of the experiment, with the present settings of an extended search.
        state: state of the experiment.
        why_ended: reason for which the driver stopped, or empty while it runs.
        leaving: the decision to give no more jobs, or None if there is no such decision.
        trials: the table of all trials.
        ladder: the brackets and the trials at each rung.
        trust: the trust meter: whether early stopping can be believed.
        improvements: improvements of the best metric; if there are very many, those that a chart needs.
        reports: number of reports.
        failed_attempts: number of failed attempts, without those that were killed on request.
        warnings: number of warnings.
        recent_warnings: the latest warnings.
        measuring: measured times of training.
        search: the search method, for forecasts, or None if only the log is known.
        expected_arrivals: number of trials that the plan expects at each rung of each bracket, or None if no forecast
            was made yet.  A forecast stores it here, so that snapshots contain it, because it takes 0.1 s to compute.
        repeated_for_size: training length that was repeated because checkpoints were deleted to keep max_size.
        pending: number of trials with given hyperparameters that are not created yet.
        settings: latest change of settings, or None if the settings are those of the spec.
        timeline: the work of each slot; the attribute is missing if it was not read from a snapshot.
        checkpoints: the table of checkpoints; the attribute is missing if it was not read from a snapshot.
    """

    def __init__(self, spec: ExperimentSpec) -> None:
        """Start with an empty log."""
        self.spec = spec
        self.state = ExperimentState.CREATED
        self.why_ended = ""
        self.leaving: LeaveExperiment | None = None
        self.trials = TrialTable(spec)
        self.ladder = Ladder(spec)
        self.trust = Trust(self.ladder)
        self.improvements: list[Improvement] = []
        self._noted: float | None = None
        # What was computed from all trials since the latest entry; see `once`.
        self._computed: dict[Hashable, Any] = {}
        self.reports = 0
        self.failed_attempts = 0
        self.warnings = 0
        self.recent_warnings: deque[str] = deque(maxlen=_KEPT_WARNINGS)
        self.measuring = Measuring()
        self.search: Tournament | None = None
        self.expected_arrivals: Sequence[Sequence[float]] | None = None
        self.repeated_for_size = 0
        self.pending = len(spec.start_with)
        self.settings: ChangeSettings | None = None
        self.timeline = Timeline(self.ladder)
        self.checkpoints = CheckpointTable(spec)
        self._views: list[Timeline | CheckpointTable] = [self.timeline, self.checkpoints]

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the search, which belongs to an experiment, and without the views in `VIEWS`."""
        kept = {name: value for name, value in self.__dict__.items() if name not in VIEWS}
        return {**kept, "search": None, "_views": [], "_computed": {}}

    def parts(self) -> dict[str, Any]:
        """Return the progress and its views as parts of a snapshot."""
        return {"progress": self, **{name: getattr(self, name) for name in VIEWS}}

    @classmethod
    def from_parts(cls, parts: Mapping[str, Any]) -> Progress:
        """Return the progress from the parts of a snapshot, with those views that are among the parts."""
        progress: Progress = parts["progress"]
        for name in VIEWS:
            if name in parts:
                setattr(progress, name, parts[name])
                progress._views.append(parts[name])
        if "timeline" in parts:
            progress.timeline.ladder = progress.ladder
        return progress

    def apply(self, entry: Entry) -> None:
        """Apply an entry of the log."""
        self._computed.clear()
        self.trials.apply(entry)
        self.ladder.apply(entry)
        self.trust.apply(entry)
        self.measuring.apply(entry)
        for view in self._views:
            view.apply(entry)
        match entry.event:
            case ValidationReported():
                self.reports += 1
            case AttemptFailed() as failed if failed.is_failure:
                self.failed_attempts += 1
            case DriverStarted():
                self.state, self.why_ended, self.leaving = ExperimentState.RUNNING, "", None
            case PauseRequested():
                self.state = ExperimentState.PAUSING
            case AddTrialRequested():
                self.pending += 1
        if entry.decisions:
            self._take(entry.decisions)
        leader = self.trials.leader
        if (metric := None if leader is None else leader.metric) != self._noted:
            self._noted = metric
            self._note_best(entry.at)

    def once(self, key: Hashable, compute: Callable[[], T]) -> T:
        """Return what ``compute`` returns.  With the same key, it is called once until the next entry is applied.

        Use it for values that take O(n) time for n trials, and that several figures or parts of a page need.
        """
        if key not in self._computed:
            self._computed[key] = compute()
        value: T = self._computed[key]
        return value

    def _take(self, decisions: Sequence[Decision]) -> None:
        for decision in decisions:
            match decision:
                case Warn(message):
                    self.warnings += 1
                    self.recent_warnings.append(message)
                case LeaveExperiment(ExperimentState.PAUSED):
                    self.state, self.leaving = ExperimentState.PAUSING, decision
                case LeaveExperiment():
                    self.state, self.leaving = ExperimentState.STOPPING, decision
                case ChangeSettings():
                    self.settings = decision
                case CreateTrial(given=given):
                    self.pending -= bool(given)
                case TrainTrial(repeats=repeats):
                    self.repeated_for_size += repeats
                case ExtendSearch():
                    self.spec = self.ladder.spec
                    self.expected_arrivals = None
                case EndExperiment(state, reason):
                    self.state, self.why_ended = state, reason
                case CloseTrial(trial, TrialState.INVALID):
                    # Reports of a trial with invalid hyperparameters no longer count.
                    self.improvements = [each for each in self.improvements if each.trial != trial]
                    self._noted = (
                        nan  # NaN differs from any metric and from None, so the best metric is recorded again.
                    )

    def _note_best(self, at: float) -> None:
        best, known = self.best, self.improvements
        # The best metric can get worse: if its checkpoint is deleted or damaged, and when the first checkpoint is
        # saved.
        while known and (best is None or self.trials.improves(known[-1].metric, best.metric)):
            known.pop()
        if best is None or (known and known[-1].metric == best.metric):
            return
        created, spending = len(self.trials.rows), self.trials.spending
        known.append(
            Improvement(at, best.trial, best.length, best.metric, spending.trained, created, spending.driver_seconds)
        )
        if len(known) > _MOST_IMPROVEMENTS:
            self.improvements = thinned(known, _MOST_IMPROVEMENTS // 2)

    @property
    def best(self) -> Best | None:
        """The best result so far, or None.  `ashwood.views.trials` defines which result is best."""
        row = self.trials.leader
        if row is None or row.metric is None or row.metric_length is None or row.metric_at is None:
            return None
        return Best(row.id, row.metric, row.metric_length, row.metric_at)

    @property
    def seen(self) -> Best | None:
        """The best report so far if it is better than the best result and so has no checkpoint, else None."""
        row, best = self.trials.best_seen, self.best
        if row is None or row.seen is None or row.seen_length is None or row.seen_at is None:
            return None
        if best is not None and not self.trials.improves(row.seen, best.metric):
            return None
        return Best(row.id, row.seen, row.seen_length, row.seen_at)

    @property
    def result(self) -> Best | None:
        """The result of the `recommended` trial, or None if it has none.

        Before there are `recommendations`, this is the best result.  It is that also if the recommended trial has no
        replicates and the best result of all, because the checkpoint of that result is the one to use.
        """
        first = next(iter(self.recommendations()), None)
        if first is None or self.describe_recommendation() is None:
            return self.best
        row = self.trials.rows[first.trial]
        if first.mean is not None:
            at = row.created_at if row.ended_at is None else row.ended_at
            return Best(first.trial, first.mean, first.length, at)
        if row.metric is None or row.metric_length is None or row.metric_at is None:
            return None
        return Best(row.id, row.metric, row.metric_length, row.metric_at)

    def describe_seen(self) -> str | None:
        """Return a line about `seen`, or None.  It names the trial if that is not the best one."""
        seen, best = self.seen, self.best
        if seen is None:
            return None
        trial = None if best is not None and best.trial == seen.trial else seen.trial
        smaller = self.spec.smaller_is_better
        return describe_seen(seen.metric, seen.length, self.spec.unit, smaller_is_better=smaller, trial=trial)

    def recommendations(self, most: int = 1) -> list[Recommendation]:
        """Return at most ``most`` settings that have trained to the end, the one to use first.

        The list is empty as long as other trials can reach the end, and if the search was canceled or has reached its
        goal: then the trial with the best result is the one to use.  If the experiment saves checkpoints, trials
        without one are left out.  This takes O(n) time for n trials, and is computed once until the next entry.
        """
        return self.once(("recommendations", most), lambda: self._recommend(most))

    def _recommend(self, most: int) -> list[Recommendation]:
        reached_goal = self.leaving is not None and isinstance(self.leaving.why, GoalReached)
        if self.state is ExperimentState.CANCELED or reached_goal or not self.ladder.is_compared:
            return []
        if not self.state.ended and any(each.created < each.planned for each in self.ladder.brackets):
            return []
        rows, needed = self.trials.rows, self.trials.by_checkpoint
        return recommend(self.ladder, most, lambda trial: not needed or rows[trial].best_checkpoint is not None)

    @property
    def recommended(self) -> TrialRow | None:
        """The trial to use: the first of the `recommendations`, or that with the best result, or None."""
        first = next(iter(self.recommendations()), None)
        return self.trials.leader if first is None else self.trials.rows[first.trial]

    def best_trials(self, n: int) -> list[TrialRow]:
        """Return ``n`` trials: those of the `recommendations`, and then those with the best results."""
        first = [self.trials.rows[each.trial] for each in self.recommendations(n)]
        if len(first) == n:
            return first
        known = {row.id for row in first}
        others = (row for row in self.trials.best(n + len(first)) if row.id not in known)
        return [*first, *islice(others, n - len(first))]

    def describe_recommendation(self) -> str | None:
        """Return a line about the results of the recommended trial, beside the best report of all trials.

        Return None if there are no `recommendations`, or if their first trial has no replicates and the best result.
        """
        first, lowest = next(iter(self.recommendations()), None), self.trials.best_seen
        if first is None or lowest is None:
            return None
        if first.seeds == 1 and self.trials.leader is self.trials.rows[first.trial]:
            return None
        unit = self.spec.unit
        which = "lowest" if self.spec.smaller_is_better else "highest"
        whose = "" if lowest.id == first.trial else f" by trial {lowest.id}"
        seen = f"{which} seen {format_value(lowest.seen)}{whose} at {format_length(lowest.seen_length or 0, unit)}"
        return f"{describe_results(first, unit)} ({seen})"

    @property
    def waits_for(self) -> list[TrialId]:
        """Trials that are still running while the experiment pauses or stops, sorted by id."""
        leaves = self.state in (ExperimentState.PAUSING, ExperimentState.STOPPING)
        return sorted(self.trials.spending.live) if leaves else []

    @property
    def trials_planned(self) -> int:
        """Number of trials that the search creates in total, by the latest settings."""
        return sum(bracket.planned for bracket in self.ladder.brackets)

    @property
    def trials_created(self) -> int:
        """Number of the planned trials that were created, without replicates and without invalid trials."""
        return sum(bracket.created for bracket in self.ladder.brackets)

    @property
    def replicates_created(self) -> int:
        """Number of replicates that were created, in addition to the planned trials."""
        return len(self.ladder.originals)

    def describe_created(self) -> str:
        """Return how many trials were created, such as ``60 of 60 trials + 2 replicates``."""
        return describe_created(self.trials_created, self.trials_planned, self.replicates_created)

    @property
    def bounds(self) -> ExperimentSpec | ChangeSettings:
        """The record with the present ``metric_at``, ``max_time``, ``max_invalid_trials`` and ``max_size``."""
        return self.spec if self.settings is None else self.settings

    @property
    def max_concurrent_trials(self) -> int:
        """Largest number of trials that train at once, by the latest settings, or 0 for no limit."""
        return (self.spec.search if self.settings is None else self.settings).max_concurrent_trials

    @property
    def max_invalid_trials(self) -> int:
        """Number of trials with invalid hyperparameters at which the experiment pauses, by the latest settings."""
        return invalid_limit(self.bounds.max_invalid_trials, self.trials_planned)

    @property
    def length_trained(self) -> int:
        """Total training length of all trials without repeated training."""
        return self.trials.spending.trained

    @property
    def length_repeated(self) -> int:
        """Total training length that was repeated because no checkpoint held it."""
        return self.trials.spending.repeated

    def utilisation(self, now: float | None = None) -> float:
        """Return the share of the time of all slots, over all drivers, in which an attempt was running."""
        return self.trials.spending.utilisation(now)

    def summary(self, now: float | None = None) -> dict[str, Any]:
        """Return a summary as JSON-able data; `ashwood.forecast.time_left.Forecaster.summary` adds the forecast.

        Args:
            now: current time in seconds since 1970, or None if no driver is running.
        """
        best, seen, spending = self.result, self.seen, self.trials.spending
        return {
            "trials": {state.value: self.trials.states[state] for state in TrialState if self.trials.states[state]},
            "trials_planned": self.trials_planned,
            "trials_created": self.trials_created,
            "replicates_created": self.replicates_created,
            "max_length": known_length(self.spec.search.max_length),
            "waits_for": self.waits_for,
            "best": None if best is None else best._asdict(),
            "seen": None if seen is None else seen._asdict(),
            "recommended": recommendation_record(next(iter(self.recommendations()), None)),
            "improvements": [
                [round(each.driven, 3), float(f"{each.metric:.6g}")] for each in thinned(self.improvements, POINTS)
            ],
            "reports": self.reports,
            "failed_attempts": self.failed_attempts,
            "warnings": self.warnings,
            "length_trained": self.length_trained,
            "length_repeated": self.length_repeated,
            "utilisation": round(self.utilisation(), 4),
            "at": now,
            "seconds": spending.driver_seconds if now is None else spending.driven(now),
        }
