"""Estimates how much longer a running search takes, by simulations of the rest of it.

A driver has little time for this beside its work.  So each call adds only a few simulations to
the latest ones, and the range is that of the ends of all of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import exp, inf, isfinite, log
from typing import Any, NamedTuple

from ashwood.experiment.lifecycle import ExperimentState, TrialState
from ashwood.forecast.arrivals import expected_arrivals_of, replicate_length, total_length
from ashwood.forecast.conditions import Conditions, draw_training
from ashwood.forecast.costs import NORMAL
from ashwood.forecast.play import Course, Underway, Witness, play
from ashwood.forecast.training import Exchangeable, Setting, Trained, Training, lognormal, mixed
from ashwood.search.plan import plan_search
from ashwood.search.settings import Method, SearchSettings
from ashwood.search.tournament import Tournament
from ashwood.search.vocabulary import Snapshot, TrialId
from ashwood.views.ladder import BracketView
from ashwood.views.measured import UNKNOWN_SPREAD, Measured
from ashwood.views.progress import Progress

# Of 19 simulated ends, the second lowest and the second highest estimate the 10 % and 90 % quantiles.
_KEPT = 19
_TENTH = 2
# Approximate seconds that a simulation takes: a fixed part, and those for each result at its start and for each job.
_LEAST_COST = 5e-4
_RESULT_COST = 4e-6
_JOB_COST = 40e-6
_PACE_ERROR = 1.1
"""Factor by which the pace of a trial typically changes, up or down."""
_ROUNDS = 3
_TINY = 1e-9
MOMENT = 0.05
"""Seconds that a live display may wait for an estimate."""
_SHARE = 50
"""Forecasts take at most one part in this number of the time of a driver."""


class TimeLeft(NamedTuple):
    """Seconds until a search is done: in 90 % of simulations more than ``low``, in 90 % less than ``high``."""

    low: float
    middle: float
    high: float


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


class AtWork(NamedTuple):
    """A running attempt.

    Attributes:
        length: total length that the trial is known to have reached.
        since: time at which it had reached this length.
        towards: length that it must still train to reach its target.
        leaving: whether it has reached its target and releases its worker.
        fresh: whether it has reported nothing yet, so that the time since then includes its start.
    """

    length: int
    since: float
    towards: int
    leaving: bool
    fresh: bool


class Picture(NamedTuple):
    """A running search at one moment.

    Attributes:
        settings: settings of the search.
        seed: seed of the experiment, from which audits are drawn.
        search: state of the search method.
        at: the moment, in seconds since 1970.
        slots: number of slots.
        at_work: the running attempt of each trial.
        results: number of results that the search has.
    """

    settings: SearchSettings
    seed: int
    search: Snapshot
    at: float
    slots: int
    at_work: Mapping[TrialId, AtWork]
    results: int

    @property
    def cost(self) -> float:
        """Approximate seconds that the copy of the state took."""
        return self.results * _RESULT_COST


class _End(NamedTuple):
    """The end of the search in one simulation, and the time of the simulation."""

    played_at: float
    at: float


class Forecaster:
    """Forecasts how long the rest of an experiment takes.

    Each call adds a few simulations of the rest to the latest ones.

    Attributes:
        progress: the progress of the experiment, which its owner updates.
    """

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self._picture: Picture | None = None
        self._ends: deque[_End] = deque(maxlen=_KEPT)
        self._played = 0

    @property
    def _settings(self) -> SearchSettings:
        """The settings of the search, which change if it is extended."""
        return self.progress.spec.search

    def look(self, at: float) -> None:
        """Copy the state of the search from time to time, as the start of simulations.

        Only the thread that changes the search may call this, because the search must not change meanwhile.
        """
        progress, picture = self.progress, self._picture
        if self._settings.open_ended:  # There is nothing to simulate.
            return
        if progress.search is None or progress.state is not ExperimentState.RUNNING:
            self._picture = None
            self._ends.clear()
        elif picture is None or at - picture.at >= max(1.0, _SHARE * picture.cost) or not self._fits(picture):
            self._picture = take_picture(progress, progress.search, at)

    def forecast(self, now: float | None = None, *, patience: float = MOMENT) -> Forecast:
        """Return how much of the experiment is done, and how long the rest takes.

        The first call simulates a few searches, which takes about a tenth of a second.

        Args:
            now: current time in seconds since 1970, or None for no estimate of the time left.
            patience: seconds that an estimate of the time left may take.
        """
        progress = self.progress
        trained, spending = progress.length_trained, progress.trials.spending
        if progress.state.ended and progress.state is not ExperimentState.CANCELED:
            return Forecast(trained, 1.0, 0.0)
        if self._settings.open_ended:
            return self._count_trials(now)
        arrivals = self._arrivals_to_come()
        total = total_length(plan_search(self._settings), arrivals) + self._replicate_length(arrivals)
        total = max(total, trained)
        fraction = trained / total
        if progress.state.ended:
            return Forecast(total, fraction, 0.0)
        if now is None:
            return Forecast(total, fraction, None)
        limit = progress.bounds.max_time
        most = inf if limit is None else max(0.0, limit - spending.driven(now))
        if (left := self._time_left(now, arrivals, patience)) is not None:
            left = TimeLeft(*(min(seconds, most) for seconds in left))
            return Forecast(total, fraction, left.middle, left)
        seconds = spending.seconds_to_train(total - trained, now)
        return Forecast(total, fraction, None if seconds is None else min(seconds, most))

    def _fits(self, picture: Picture) -> bool:
        """Return whether the search has not been extended since a picture of it."""
        return picture.settings == self._settings

    def _count_trials(self, now: float | None) -> Forecast:
        """Return the forecast of a search in which training code decides how long it trains: the share of its trials.

        A trial takes about as long as those that have ended.
        """
        progress, spending = self.progress, self.progress.trials.spending
        planned = max(1, progress.trials_planned)
        ended = min(planned, sum(progress.trials.states[state] for state in TrialState if state.ended))
        share = Forecast(progress.length_trained, ended / planned, None)
        if progress.state.ended:
            return share._replace(seconds=0.0)
        if now is None or not ended or not spending.slots:
            return share
        limit = progress.bounds.max_time
        most = inf if limit is None else max(0.0, limit - spending.driven(now))
        seconds = spending.seconds_for_trials(planned - ended, ended, progress.max_concurrent_trials, now)
        return share._replace(seconds=min(seconds, most))

    def summary(self, now: float | None = None) -> dict[str, Any]:
        """Return a summary for lists of experiments as JSON-able data, with the time left if ``now`` is given."""
        total, fraction, seconds, left = self.forecast(now)
        return {
            **self.progress.summary(now),
            "length_expected": round(total, 1),
            "fraction": round(fraction, 4),
            "seconds_left": seconds,
            "seconds_left_range": None if left is None else [left.low, left.high],
        }

    def _replicate_length(self, arrivals: Sequence[Sequence[float]]) -> float:
        """Return the expected total length of all replicates, with those of a former max_length."""
        ladder, longest = self.progress.ladder, self._settings.max_length
        wanted = ladder.replicates_wanted
        if wanted and ladder.is_compared:  # Only finite results are replicated.
            finals = [each for trial, each in ladder.finals.items() if trial not in ladder.originals]
            wanted = min(wanted, sum(each.length == longest and isfinite(each.metric) for each in finals))
        return replicate_length(wanted, longest, arrivals) + sum(
            final.length
            for final in map(ladder.finals.get, ladder.originals)
            if final is not None and final.length != longest
        )

    def _arrivals_to_come(self) -> list[list[float]]:
        """Return the expected final number of trials at each rung, given those that have already arrived."""
        progress = self.progress
        return [
            # A user may have changed the number of trials since the search was planned.
            self._final_arrivals(bracket, [mean * bracket.planned / plan.trials for mean in means])
            for bracket, plan, means in zip(
                progress.ladder.brackets,
                plan_search(self._settings).brackets,
                expected_arrivals_of(progress),
                strict=True,
            )
        ]

    def _final_arrivals(self, bracket: BracketView, means: Sequence[float]) -> list[float]:
        settings = self._settings
        stops_once = settings.stop_once and settings.method is not Method.SYNC_HALVING
        arrivals = [float(bracket.planned)]
        lower = bracket.rungs[:-1]
        if bracket.created >= bracket.planned and not any(rung.waiting or rung.training for rung in lower):
            return arrivals + [float(rung.promoted) for rung in lower]  # No other trial can be promoted.
        for rung, mean in zip(bracket.rungs, means[1:], strict=False):
            known = min(1.0, (rung.arrived + rung.failed) / arrivals[-1]) if arrivals[-1] else 1.0
            if stops_once:
                # With stop_once, each trial that has arrived was promoted or stopped permanently.
                arrivals.append(max(1.0, rung.promoted + (1 - known) * mean))
            else:
                settled = max(rung.promoted, arrivals[-1] // float(settings.effective_divisor))
                arrivals.append(max(1.0, rung.promoted, known * settled + (1 - known) * mean))
        return arrivals

    def _time_left(self, now: float, arrivals: Sequence[Sequence[float]], patience: float) -> TimeLeft | None:
        """Return the seconds until the search is done, or None if unknown or too slow to simulate."""
        picture, measuring = self._picture, self.progress.measuring
        if picture is None or picture.slots == 0 or not self._fits(picture):
            self._ends.clear()
            return None
        jobs = sum(
            max(0.0, count - rung.arrived)
            for bracket, counts in zip(self.progress.ladder.brackets, arrivals, strict=True)
            for rung, count in zip(bracket.rungs, counts, strict=True)
        )
        jobs += self.progress.ladder.replicates_wanted
        cost = _LEAST_COST + picture.cost + jobs * _JOB_COST
        pause = _SHARE * cost
        if not self._ends or now - self._ends[-1].played_at >= pause:
            if cost > patience or (measured := measuring.result()) is None:
                self._ends.clear()
                return None
            while self._ends and now - self._ends[0].played_at > 2 * _KEPT * pause:
                self._ends.popleft()
            # One simulation is due for each `pause` that has passed since the last call.
            due = _KEPT if not self._ends else int((now - self._ends[-1].played_at) / pause)
            paces = measuring.paces()
            for _ in range(max(1, min(_KEPT, due, int(patience / cost)))):
                self._ends.append(_End(now, now + self._play(picture, now, measured, paces)))
        ends = sorted(each.at for each in self._ends)
        outside = _TENTH if len(ends) == _KEPT else 1
        return TimeLeft(*(max(0.0, end - now) for end in (ends[outside - 1], ends[len(ends) // 2], ends[-outside])))

    def _play(self, picture: Picture, now: float, measured: Measured, paces: Mapping[TrialId, float]) -> float:
        """Return the seconds until the end of the search in one more simulation."""
        self._played += 1
        conditions = Conditions.from_measured(measured, picture.slots)
        conditions = _with_those_at_work(conditions, picture, now, measured, paces)
        return simulate_rest(picture, now, conditions, paces, self._played).seconds


def simulate_rest(
    picture: Picture,
    now: float,
    conditions: Conditions,
    paces: Mapping[TrialId, float],
    number: int,
    watch: Callable[[Training], Training] = lambda training: training,
    witness: Witness | None = None,
) -> Course:
    """Return the course of the rest of a search in one simulation.

    Args:
        picture: the search.
        now: time at which the simulation begins, in seconds since 1970.
        conditions: known conditions of training.
        paces: seconds per unit of length of trials whose pace is known.
        number: number of the simulation, which determines its random draws.
        watch: returns the training to use in place of the simulated training, for example to count it.
        witness: observer of the search, or None.
    """
    training = _KnownPaces(draw_training(picture.settings, conditions, number), paces, number)
    search = Tournament(picture.settings, picture.seed)
    search.restore(picture.search)
    seeds = _simulate_losses(search, training, number)
    targets = search.training
    remaining: dict[TrialId, float] = {}
    leaving: dict[TrialId, float] = {}
    for trial, work in picture.at_work.items():
        elapsed = max(0.0, now - work.since)
        target = targets.get(trial)
        if target is None or work.leaving:
            leaving[trial] = max(0.0, conditions.costs.save - elapsed)
        else:
            delay = conditions.costs.setting_up(work.length) * work.fresh
            remaining[trial] = training.rest(trial, target - work.length, delay, elapsed)
    underway = Underway(seeds=seeds, remaining=remaining, leaving=leaving)
    return play(
        search,
        watch(training),
        picture.slots,
        costs=conditions.costs,
        seed=number,
        witness=witness,
        underway=underway,
    )


def take_picture(progress: Progress, search: Tournament, at: float) -> Picture:
    """Return a picture of a search at a time in seconds since 1970."""
    rows, spending = progress.trials.rows, progress.trials.spending
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
    return Picture(search.settings, search.seed, search.snapshot(), at, spending.slots, at_work, results)


def _with_those_at_work(
    conditions: Conditions, picture: Picture, now: float, measured: Measured, paces: Mapping[TrialId, float]
) -> Conditions:
    """Return conditions corrected for trials without a report, because the first trials that report are the fastest.

    Of such a trial only a lower bound of its seconds per unit is known.  It counts with the mean of the values above
    the bound, which depends on the mean of all trials, so both are computed in turns (expectation maximisation).
    """
    bounds = [
        (now - work.since - conditions.costs.start) / work.towards
        for trial, work in picture.at_work.items()
        if trial not in paces and not work.leaving
    ]
    unit = measured.unit_seconds
    for _ in range(_ROUNDS if bounds else 0):
        beyond = sum(_mean_beyond(bound, unit, measured.spread or UNKNOWN_SPREAD) for bound in bounds)
        unit = (measured.unit_seconds * measured.trials + beyond) / (measured.trials + len(bounds))
    return replace(conditions, unit_seconds=unit)


def _mean_beyond(bound: float, mean: float, spread: float) -> float:
    """Return the mean of the values above a bound in a log-normal distribution."""
    sigma = log(spread)
    if bound <= 0 or not sigma or not mean:
        return max(bound, mean)
    above = (log(mean / bound) - sigma * sigma / 2) / sigma
    share = NORMAL.cdf(above)
    return mean * NORMAL.cdf(above + sigma) / share if share > _TINY else bound


class _KnownPaces:
    """Simulated training in which trials keep their known pace, except for a small random change."""

    def __init__(self, drawn: Exchangeable, paces: Mapping[TrialId, float], number: int) -> None:
        self._drawn = drawn
        self._paces = paces
        self._number = number

    def train(self, setting: Setting, begin: int, end: int) -> Trained:
        """Train a trial from a total length of ``begin`` to one of ``end``."""
        seconds, loss = self._drawn.train(setting, begin, end)
        pace = self._pace(setting.trial)
        return Trained(seconds if pace is None else pace * (end - begin), loss)

    def rest(self, trial: TrialId, length: int, delay: float, elapsed: float) -> float:
        """Return the seconds until a running trial reports at its target.

        If its pace is unknown, it is drawn from the paces with which the trial could not have reported yet.

        Args:
            trial: the trial.
            length: length from its last report, or its start, to its target.
            delay: seconds that its start takes before any training.
            elapsed: seconds since its last report or its start.
        """
        drawn, length = self._drawn, max(1, length)
        if (pace := self._pace(trial)) is not None:
            return max(0.0, delay + pace * length - elapsed)
        sigma = log(drawn.spread)
        median = drawn.unit_seconds * length * exp(-sigma * sigma / 2)
        if not sigma or not median:
            return max(0.0, delay + median - elapsed)
        passed = NORMAL.cdf(log((elapsed - delay) / median) / sigma) if elapsed > delay else 0.0
        quantile = passed + (1 - passed) * mixed(self._number, trial)
        seconds = median * exp(sigma * NORMAL.inv_cdf(min(max(quantile, _TINY), 1 - _TINY)))
        return max(0.0, delay + seconds - elapsed)

    def _pace(self, trial: TrialId) -> float | None:
        pace = self._paces.get(trial)
        return None if pace is None else pace * lognormal(mixed(self._number, trial), _PACE_ERROR)


def _simulate_losses(search: Tournament, training: _KnownPaces, number: int) -> dict[TrialId, int]:
    """Replace the losses of a search by simulated losses in the same order, and return the seeds of its trials.

    Real losses have another scale than simulated ones.  A better trial gets a seed of better quality, so that it
    continues to be better in the simulation.
    """
    seeds: dict[TrialId, int] = {}
    for bracket in search.brackets:
        standing = bracket.standing()
        drawn = sorted(int(mixed(number, (bracket.number << 24) + nth) * 2**31) for nth in range(len(standing)))
        seeds.update(zip(standing, drawn, strict=True))
        for level, rung in enumerate(bracket.rungs):

            def loss(trial: TrialId, level: int = level) -> float:
                return training.train(Setting(trial, seeds[trial]), 0, level).loss

            rung.replace_losses(loss)
    return seeds
