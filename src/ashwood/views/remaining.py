"""How much longer a running search takes: the rest of it, simulated from where it stands.

A driver can't afford more than a little of this beside its work, so a forecast grows: each
time that somebody looks, a few more simulations join the latest ones, and their ends are what
the range is made of.
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

# With 19, one end in ten lies below the second and one above the last but one.
_KEPT = 19
_TENTH = 2
# What simulating costs, in seconds, about: in any case, a result that is taken over, and a job that is played.
_LEAST_COST = 5e-4
_RESULT_COST = 4e-6
_JOB_COST = 40e-6
_PACE_ERROR = 1.1
"""By what factor the pace of a trial changes, more or less."""
_ROUNDS = 3
_TINY = 1e-9
MOMENT = 0.05
"""Seconds that a display may wait for its frame."""
_SHARE = 50
"""One part in so many of the time goes into forecasts."""


class TimeLeft(NamedTuple):
    """Seconds until a search is done: in nine of ten simulations more than ``low``, in nine less than ``high``."""

    low: float
    middle: float
    high: float


class AtWork(NamedTuple):
    """A process that works on a trial.

    Attributes:
        length: total length that the trial is known to have reached.
        since: when that was known.
        towards: how much of its training is unknown: up to its target.
        leaving: it has trained as far as it was to, and lets go.
        fresh: it has reported nothing yet, so that its start-up is in the time since.
    """

    length: int
    since: float
    towards: int
    leaving: bool
    fresh: bool


class Picture(NamedTuple):
    """A running search at one moment.

    Attributes:
        search: its state.
        at: when.
        slots: how many workers there are.
        at_work: the processes, by trial.
        results: how many results it has.
    """

    search: Snapshot
    at: float
    slots: int
    at_work: Mapping[TrialId, AtWork]
    results: int

    @property
    def cost(self) -> float:
        """Seconds that it took to take it, about."""
        return self.results * _RESULT_COST


class _End(NamedTuple):
    """When the search ends by a simulation, and when that was played."""

    played_at: float
    at: float


class Remaining:
    """Simulates the rest of a search, a little at a time."""

    def __init__(self, settings: SearchSettings) -> None:
        self._settings = settings
        self._picture: Picture | None = None
        self._ends: deque[_End] = deque(maxlen=_KEPT)
        self._played = 0

    def __getstate__(self) -> dict[str, Any]:
        """Without what is only a moment's."""
        return {**self.__dict__, "_picture": None, "_ends": deque(maxlen=_KEPT)}

    def wants_picture(self, at: float) -> bool:
        """Whether it is time for another picture: taking one costs time as well."""
        picture = self._picture
        return picture is None or at - picture.at >= max(1.0, _SHARE * picture.cost)

    def look(self, picture: Picture) -> None:
        """Go on from here."""
        self._picture = picture

    def forget(self) -> None:
        """The search isn't running any more, or is another one."""
        self._picture = None
        self._ends.clear()

    def seconds(self, now: float, measuring: Measuring, jobs: float, *, patience: float = MOMENT) -> TimeLeft | None:
        """Seconds until the search is done; None: unknown, or too much to simulate.

        Args:
            now: in seconds since 1970.
            measuring: tells what training takes.
            jobs: how many are still to be done, about.
            patience: seconds that this call may take, about.
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
            # What could have been played meanwhile is made up for.
            due = _KEPT if not self._ends else int((now - self._ends[-1].played_at) / pause)
            paces = measuring.paces()
            for _ in range(max(1, min(_KEPT, due, int(patience / cost)))):
                self._ends.append(_End(now, now + self._play(picture, now, measured, paces)))
        ends = sorted(each.at for each in self._ends)
        outside = _TENTH if len(ends) == _KEPT else 1
        return TimeLeft(*(max(0.0, end - now) for end in (ends[outside - 1], ends[len(ends) // 2], ends[-outside])))

    def _play(self, picture: Picture, now: float, measured: Measured, paces: Mapping[TrialId, float]) -> float:
        """Seconds that the rest takes in one more simulation."""
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
    """The length at which each job that was given out ends."""
    return {trial: bracket.rungs[at].length for bracket in search.brackets for trial, at in bracket.training.items()}


def _with_those_at_work(
    conditions: Conditions, picture: Picture, now: float, measured: Measured, paces: Mapping[TrialId, float]
) -> Conditions:
    """Conditions that count in who hasn't reported yet: the first to report are the fastest ones.

    Of those nothing is known but that their pace is beyond a bound, so each stands for the mean
    of the paces beyond it, which depends on the mean of all: a fixed point (expectation maximisation).
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
    """Mean of what lies beyond a bound in a log-normal distribution."""
    sigma = log(spread)
    if bound <= 0 or not sigma or not mean:
        return max(bound, mean)
    above = (log(mean / bound) - sigma * sigma / 2) / sigma
    share = NORMAL.cdf(above)
    return mean * NORMAL.cdf(above + sigma) / share if share > _TINY else bound


class _KnownPaces:
    """Training as it was drawn, but for trials whose pace is known, give or take a little."""

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
        """Seconds until a trial reports that has so much to train and began some time ago.

        Of an unknown pace no more is known than that it isn't there yet.
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
    """A search's state with losses on the scale of the simulation, in the order that they have, and trials' seeds.

    Who stands better gets a seed of better quality, so that the simulation goes on with the
    trials as they are.
    """
    seeds: dict[TrialId, int] = {}
    brackets = []
    for place, bracket in enumerate(search["brackets"]):
        rungs: Sequence[Mapping[str, Any]] = bracket["rungs"]
        # The higher a trial has come, the better it stands; among equals by rank.
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
