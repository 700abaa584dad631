"""The progress of an experiment, for live displays and for the summaries in lists of experiments."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from functools import cached_property
from math import inf, nan
from typing import Any, NamedTuple

from ashwood.experiment.changes import invalid_limit
from ashwood.experiment.decisions import ChangeSettings, CloseTrial, Decision, EndExperiment, LeaveExperiment, Warn
from ashwood.experiment.entry import Entry
from ashwood.experiment.events import AttemptFailed, DriverStarted, PauseRequested, ValidationReported
from ashwood.experiment.lifecycle import ExperimentState, TrialState
from ashwood.experiment.spec import ExperimentSpec
from ashwood.search.plan import plan_search
from ashwood.search.settings import Method
from ashwood.search.tournament import Tournament
from ashwood.search.vocabulary import TrialId
from ashwood.views.arrivals import MeanArrivals, expected_arrivals, total_length
from ashwood.views.checkpoints import CheckpointTable
from ashwood.views.improvements import POINTS, Improvement, thinned
from ashwood.views.ladder import BracketView, Ladder
from ashwood.views.measured import Measuring
from ashwood.views.remaining import MOMENT, AtWork, Picture, Remaining, TimeLeft
from ashwood.views.timeline import Timeline
from ashwood.views.trials import TrialTable
from ashwood.views.wording import describe_seen

VIEWS = ("timeline", "checkpoints")
"""Attributes of `Progress` that few readers need, so each of them is a separate part of a snapshot."""

_KEPT_WARNINGS = 20
_MOST_IMPROVEMENTS = 2_000


class Best(NamedTuple):
    """A value of the metric of the search, with its trial, length and time (seconds since 1970)."""

    trial: TrialId
    metric: float
    length: int
    at: float


class Forecast(NamedTuple):
    """How much of an experiment is done, and how long the rest takes.

    Attributes:
        total_length: expected training length of all trials, without repeated work.
        fraction: share of this length that is done, from 0 to 1.
        seconds: expected seconds until the end, or None if unknown or if no driver runs.
        time_left: range of the expected seconds until the end, or None if unknown.
    """

    total_length: float
    fraction: float
    seconds: float | None
    time_left: TimeLeft | None = None


class Progress:
    """The progress of an experiment, as a fold over log entries.

    Attributes:
        spec: the description of the experiment.
        state: state of the experiment.
        why_ended: reason for which the driver stopped, or empty while it runs.
        leaving: the decision to give no more jobs, or None if there is no such decision.
        trials: the table of all trials.
        ladder: the brackets and the trials at each rung.
        improvements: improvements of the best metric; if there are very many, those that a chart needs.
        reports: number of reports.
        failed_attempts: number of failed attempts, without those that were killed on request.
        warnings: number of warnings.
        recent_warnings: the latest warnings.
        measuring: measured times of training.
        search: the search method for forecasts by `look`, or None if only the log is known.
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
        self.improvements: list[Improvement] = []
        self._noted: float | None = None
        self.reports = 0
        self.failed_attempts = 0
        self.warnings = 0
        self.recent_warnings: deque[str] = deque(maxlen=_KEPT_WARNINGS)
        self.measuring = Measuring()
        self.search: Tournament | None = None
        self._remaining = Remaining(spec.search)
        self._max_seconds = spec.max_seconds
        self._plan = plan_search(spec.search)
        self._stops_once = spec.search.stop_once and spec.search.method is not Method.SYNC_HALVING
        self.settings: ChangeSettings | None = None
        self.timeline = Timeline(self.ladder)
        self.checkpoints = CheckpointTable(spec)
        self._views: list[Timeline | CheckpointTable] = [self.timeline, self.checkpoints]

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the search, which belongs to an experiment, and without the views in `VIEWS`."""
        kept = {name: value for name, value in self.__dict__.items() if name not in VIEWS}
        return {**kept, "search": None, "_views": []}

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
        self.trials.apply(entry)
        self.ladder.apply(entry)
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
        if entry.decisions:
            self._take(entry.decisions)
        leader = self.trials.leader
        if (metric := None if leader is None else leader.metric) != self._noted:
            self._noted = metric
            self._note_best(entry.at)

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
                case ChangeSettings(max_seconds=seconds):
                    self.settings, self._max_seconds = decision, seconds
                case EndExperiment(state, reason):
                    self.state, self.why_ended = state, reason
                case CloseTrial(trial, TrialState.INVALID):
                    # Its reports no longer count.
                    self.improvements = [each for each in self.improvements if each.trial != trial]
                    self._noted = nan  # NaN differs from any metric and from None, so the best one is noted anew.

    def _note_best(self, at: float) -> None:
        best, known = self.best, self.improvements
        # The best metric can get worse: if its checkpoint is deleted or damaged, and at the first checkpoint of all.
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

    def describe_seen(self) -> str | None:
        """Return a line about `seen`, or None.  It names the trial if that is not the best one."""
        seen, best = self.seen, self.best
        if seen is None:
            return None
        trial = None if best is not None and best.trial == seen.trial else seen.trial
        smaller = self.spec.smaller_is_better
        return describe_seen(seen.metric, seen.length, self.spec.unit, smaller_is_better=smaller, trial=trial)

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
    def max_invalid_trials(self) -> int:
        """Number of trials with invalid hyperparameters at which the experiment pauses, by the latest settings."""
        bounds = self.spec if self.settings is None else self.settings
        return invalid_limit(bounds.max_invalid_trials, self.trials_planned)

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

    def look(self, at: float) -> None:
        """Copy the state of the search from time to time, for forecasts.

        Only the thread that changes the search may call this, because the search must not change meanwhile.
        """
        if self.search is None or self.state is not ExperimentState.RUNNING:
            self._remaining.forget()
        elif self._remaining.wants_picture(at):
            self._remaining.look(self._picture(self.search, at))

    def _picture(self, search: Tournament, at: float) -> Picture:
        rows, spending = self.trials.rows, self.trials.spending
        at_work = {
            trial: AtWork(
                live.length,
                live.known_at,
                towards=max(1, rows[trial].target - live.length),
                leaving=rows[trial].state is not TrialState.RUNNING or rows[trial].attempt != live.attempt,
                fresh=live.known_at == live.since,
            )
            for trial, live in spending.live.items()
        }
        results = sum(len(rung) for bracket in search.brackets for rung in bracket.rungs)
        return Picture(search.snapshot(), at, spending.slots, at_work, results)

    def forecast(self, now: float | None = None, *, patience: float = MOMENT) -> Forecast:
        """Return how much of the experiment is done, and how long the rest takes.

        The first call simulates a few searches, which takes about a tenth of a second.

        Args:
            now: current time in seconds since 1970, or None for no estimate of the time left.
            patience: seconds that an estimate of the time left may take.
        """
        if self.state.ended and self.state is not ExperimentState.CANCELED:
            return Forecast(self.length_trained, 1.0, 0.0)
        arrivals = self._arrivals_to_come()
        total = max(total_length(self._plan, arrivals), self.length_trained)
        fraction = self.length_trained / total
        if self.state.ended:
            return Forecast(total, fraction, 0.0)
        if now is None:
            return Forecast(total, fraction, None)
        if (left := self._time_left(now, arrivals, patience)) is not None:
            return Forecast(total, fraction, left.middle, left)
        seconds = self.trials.spending.seconds_to_train(total - self.length_trained, now)
        return Forecast(total, fraction, None if seconds is None else min(seconds, self._most_left(now)))

    def _time_left(self, now: float, arrivals: Sequence[Sequence[float]], patience: float) -> TimeLeft | None:
        """Return the time left by simulation of the rest of the search, or None if it cannot be simulated."""
        jobs = sum(
            max(0.0, count - rung.arrived)
            for bracket, counts in zip(self.ladder.brackets, arrivals, strict=True)
            for rung, count in zip(bracket.rungs, counts, strict=True)
        )
        left = self._remaining.seconds(now, self.measuring, jobs, patience=patience)
        if left is None:
            return None
        most = self._most_left(now)
        return TimeLeft(*(min(seconds, most) for seconds in left))

    def _most_left(self, now: float) -> float:
        """Return the seconds until the time limit of the experiment, or infinity if it has none."""
        if self._max_seconds is None:
            return inf
        return max(0.0, self._max_seconds - self.trials.spending.driven(now))

    def summary(self, now: float | None = None) -> dict[str, Any]:
        """Return a summary as JSON-able data, with the time left if ``now`` is given."""
        total, fraction, seconds, left = self.forecast(now)
        best, seen = self.best, self.seen
        return {
            "trials": {state.value: self.trials.states[state] for state in TrialState if self.trials.states[state]},
            "trials_planned": self.trials_planned,
            "waits_for": self.waits_for,
            "best": None if best is None else best._asdict(),
            "seen": None if seen is None else seen._asdict(),
            "improvements": [
                [round(each.driven, 3), float(f"{each.metric:.6g}")] for each in thinned(self.improvements, POINTS)
            ],
            "reports": self.reports,
            "failed_attempts": self.failed_attempts,
            "warnings": self.warnings,
            "length_trained": self.length_trained,
            "length_repeated": self.length_repeated,
            "length_expected": round(total, 1),
            "fraction": round(fraction, 4),
            "utilisation": round(self.utilisation(), 4),
            "at": now,
            "seconds": self.trials.spending.driver_seconds if now is None else self.trials.spending.driven(now),
            "seconds_left": seconds,
            "seconds_left_range": None if left is None else [left.low, left.high],
        }

    @cached_property
    def _means(self) -> MeanArrivals:
        return expected_arrivals(self.spec.search)

    def _arrivals_to_come(self) -> list[list[float]]:
        """Return the final number of trials at each rung: an expectation that real arrivals replace step by step."""
        return [
            # A user may have changed the number of trials since the search was planned.
            self._final_arrivals(bracket, [mean * bracket.planned / plan.trials for mean in means])
            for bracket, plan, means in zip(self.ladder.brackets, self._plan.brackets, self._means, strict=True)
        ]

    def _final_arrivals(self, bracket: BracketView, means: Sequence[float]) -> list[float]:
        arrivals = [float(bracket.planned)]
        for rung, mean in zip(bracket.rungs, means[1:], strict=False):
            known = min(1.0, (rung.arrived + rung.failed) / arrivals[-1]) if arrivals[-1] else 1.0
            if self._stops_once:
                # Each trial that has arrived was promoted or stopped for good.
                arrivals.append(max(1.0, rung.promoted + (1 - known) * mean))
            else:
                settled = max(rung.promoted, arrivals[-1] // float(self.spec.search.divisor))
                arrivals.append(max(1.0, rung.promoted, known * settled + (1 - known) * mean))
        return arrivals
