"""Estimates how much longer a running search takes, by simulations of the rest of it.

A driver has little time for this beside its work.  So each call adds only a few simulations to
the latest ones, and the range is that of the ends of all of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import exp, log
from typing import Any, NamedTuple

from ashwood.search.settings import SearchSettings
from ashwood.search.tournament import Tournament
from ashwood.search.vocabulary import Snapshot, TrialId
from ashwood.simulation.costs import NORMAL
from ashwood.simulation.play import Underway, play
from ashwood.simulation.training import Exchangeable, Setting, Trained, lognormal, mixed
from ashwood.views.measured import UNKNOWN_SPREAD, Measured, Measuring
from ashwood.views.simulation import Conditions, draw_training

# With 19 simulations, one in ten ends lies below the second lowest, and one in ten above the second highest.
_KEPT = 19
_TENTH = 2
# Approximate seconds for a simulation: in any case, for each result that it starts with, and for each job.
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


class AtWork(NamedTuple):
    """A running attempt.

    Attributes:
        length: total length that the trial is known to have reached.
        since: time at which it had reached this length.
        towards: length that it still has to train to its target.
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
        search: state of the search method.
        at: the moment, in seconds since 1970.
        slots: number of slots.
        at_work: the running attempt of each trial.
        results: number of results that the search has.
    """

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


class Remaining:
    """Simulates the rest of a search, with a few simulations for each call."""

    def __init__(self, settings: SearchSettings) -> None:
        self._settings = settings
        self._picture: Picture | None = None
        self._ends: deque[_End] = deque(maxlen=_KEPT)
        self._played = 0

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the picture and the simulations, which are soon out of date."""
        return {**self.__dict__, "_picture": None, "_ends": deque(maxlen=_KEPT)}

    def wants_picture(self, at: float) -> bool:
        """Return whether it is time for another picture.  They are rare, because each takes some time."""
        picture = self._picture
        return picture is None or at - picture.at >= max(1.0, _SHARE * picture.cost)

    def look(self, picture: Picture) -> None:
        """Start later simulations from this picture."""
        self._picture = picture

    def forget(self) -> None:
        """Forget the picture and all simulations, because the search no longer runs or was replaced."""
        self._picture = None
        self._ends.clear()

    def seconds(self, now: float, measuring: Measuring, jobs: float, *, patience: float = MOMENT) -> TimeLeft | None:
        """Return the seconds until the search is done, or None if unknown or too slow to simulate.

        Args:
            now: current time in seconds since 1970.
            measuring: measured times of training.
            jobs: approximate number of jobs until the end of the search.
            patience: approximate number of seconds that this call may take.
        """
        picture = self._picture
        if picture is None or picture.slots == 0:
            return None
        cost = _LEAST_COST + picture.cost + jobs * _JOB_COST
        pause = _SHARE * cost
        if not self._ends or now - self._ends[-1].played_at >= pause:
            if cost > patience or (measured := measuring.result()) is None:
                self._ends.clear()
                return None
            while self._ends and now - self._ends[0].played_at > 2 * _KEPT * pause:
                self._ends.popleft()
            # As many simulations are due as fit into the time since the last call, at one for each pause.
            due = _KEPT if not self._ends else int((now - self._ends[-1].played_at) / pause)
            paces = measuring.paces()
            for _ in range(max(1, min(_KEPT, due, int(patience / cost)))):
                self._ends.append(_End(now, now + self._play(picture, now, measured, paces)))
        ends = sorted(each.at for each in self._ends)
        outside = _TENTH if len(ends) == _KEPT else 1
        return TimeLeft(*(max(0.0, end - now) for end in (ends[outside - 1], ends[len(ends) // 2], ends[-outside])))

    def _play(self, picture: Picture, now: float, measured: Measured, paces: Mapping[TrialId, float]) -> float:
        """Return the seconds until the end of the search in one more simulation."""
        number = self._played = self._played + 1
        conditions = _with_those_at_work(measured.conditions(picture.slots), picture, now, measured, paces)
        training = _KnownPaces(draw_training(self._settings, conditions, number), paces, number)
        snapshot, seeds = _with_simulated_losses(picture.search, training, number)
        search = Tournament(self._settings)
        search.restore(snapshot)
        targets = _targets(search)
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
        course = play(search, training, picture.slots, costs=conditions.costs, seed=number, underway=underway)
        return course.seconds


def _targets(search: Tournament) -> dict[TrialId, int]:
    """Return the length at which the job of each training trial ends."""
    return {trial: bracket.rungs[at].length for bracket in search.brackets for trial, at in bracket.training.items()}


def _with_those_at_work(
    conditions: Conditions, picture: Picture, now: float, measured: Measured, paces: Mapping[TrialId, float]
) -> Conditions:
    """Return conditions that include trials without a report, because the first trials to report are the fastest.

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
    """Simulated training in which trials with a known pace keep it, apart from a small random change."""

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


def _with_simulated_losses(search: Snapshot, training: _KnownPaces, number: int) -> tuple[Snapshot, dict[TrialId, int]]:
    """Return the state of a search with simulated losses in the order of the real ones, and seeds of its trials.

    Real losses have another scale than simulated ones.  A better trial gets a seed of better quality, so that it
    continues to be better in the simulation.
    """
    seeds: dict[TrialId, int] = {}
    brackets = []
    for place, bracket in enumerate(search["brackets"]):
        rungs: Sequence[Mapping[str, Any]] = bracket["rungs"]
        # A trial at a higher rung is better; trials at the same rung are in the order of their ranks.
        standing = dict.fromkeys(trial for rung in reversed(rungs) for trial, _, _ in rung["results"])
        drawn = sorted(int(mixed(number, (place << 24) + nth) * 2**31) for nth in range(len(standing)))
        seeds.update(zip(standing, drawn, strict=True))
        simulated = [_simulated(rung, training, seeds, level) for level, rung in enumerate(rungs)]
        brackets.append({**bracket, "rungs": simulated})
    return {**search, "brackets": brackets}, seeds


def _simulated(
    rung: Mapping[str, Any], training: _KnownPaces, seeds: Mapping[TrialId, int], level: int
) -> dict[str, Any]:
    results = rung["results"]
    losses = iter(
        sorted(training.train(Setting(trial, seeds[trial]), 0, level).loss for trial, kind, _ in results if kind == 0)
    )
    return {
        **rung,
        "results": [[trial, kind, repr(next(losses)) if kind == 0 else loss] for trial, kind, loss in results],
    }
