"""The methods of Ashwood, and one that any system could do by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from types import MappingProxyType
from typing import Any, TypeAlias

from ashwood.forecast.arrivals import expected_length
from ashwood.search.density import DensitySampler
from ashwood.search.guides import PastTrials
from ashwood.search.settings import AUTO_DEFAULTS, Method, Mode, Sampler, SearchSettings
from ashwood.search.space import Double, Space
from ashwood.search.tournament import Tournament
from ashwood.search.vocabulary import Promote
from benchmarks.quality.lcbench import PARAMETERS, STEPS
from benchmarks.quality.measure import TRAININGS
from benchmarks.quality.workers import Job, Scheduler

_AUTO = {
    "method": Method.ADAPTIVE_ASHA,
    "mode": Mode.AUTO,
    "divisor": AUTO_DEFAULTS.divisor,
    "max_rungs": AUTO_DEFAULTS.max_rungs,
}

TOURNAMENTS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "sync_halving": {"method": Method.SYNC_HALVING},
        "stop_once": {"method": Method.ASYNC_HALVING, "stop_once": True},
        "aggressive": {"method": Method.ADAPTIVE_ASHA, "mode": Mode.AGGRESSIVE},
        "standard": {"method": Method.ADAPTIVE_ASHA, "mode": Mode.STANDARD},
        "conservative": {"method": Method.ADAPTIVE_ASHA, "mode": Mode.CONSERVATIVE},
        "auto": {**_AUTO, "sampler": Sampler.DENSITY},
        "auto, random": _AUTO,
    }
)
"""Settings by the name of the method, beyond those that every search here shares.  ``async_halving`` isn't among
them: up to a length of 51 it has the one bracket of ``aggressive``."""


Searcher: TypeAlias = Callable[[int, float, int], Scheduler]
"""From a number of workers, a budget in trainings to the end, and a seed, to a scheduler."""


class Tournaments:
    """A search of Ashwood's.

    Attributes:
        search: the search method.
    """

    def __init__(self, settings: SearchSettings, seed: int = 0) -> None:
        """Make a search; audits are drawn from ``seed``."""
        self.search = Tournament(settings, seed)

    def ask(self) -> Job | None:
        """What `Tournament.next_job` says."""
        job = self.search.next_job()
        return None if job is None else Job(job.trial, job.target)

    def tell(self, trial: int, length: int, metric: float) -> int | None:
        """Only validations at the ends of jobs are judged, as in a real search."""
        verdict = self.search.report(trial, length, -metric)
        return verdict.target if isinstance(verdict, Promote) else None


FEWER_SEEDS: Mapping[int, int] = MappingProxyType({16: 5, 100: 2})
"""With how many seeds a method searches whose settings aren't from the table: each curve takes 2 ms."""


SPACE = Space({parameter.name: Double(0.0, 1.0) for parameter in PARAMETERS})
"""The unit cube."""


class Learning(Tournaments):
    """A search of Ashwood's that chooses its settings by what it has found, as the experiment does.

    Attributes:
        places: where in the unit cube each trial's setting is.
    """

    def __init__(
        self,
        settings: SearchSettings,
        seed: int,
        space: Space = SPACE,
        past: Sequence[PastTrials] = (),
        starts: Sequence[Mapping[str, float]] = (),
    ) -> None:
        """Search ``space``, which may have priors, starting from past trials and with given settings."""
        super().__init__(settings)
        self._sampler = DensitySampler(space, seed, past)
        self._starts = starts
        self.places: list[list[float]] = []

    def ask(self) -> Job | None:
        """What `Tournament.next_job` says; a new trial gets its setting."""
        job = super().ask()
        if job is not None and job.trial == len(self.places):
            sampler, address = self._sampler, self.search.address(job.trial)
            good, judges = sampler.good(self.search), sampler.judges(self.search)
            given = self._starts[job.trial] if job.trial < len(self._starts) else {}
            self.places.append(list(sampler.sample(job.trial, *address, good, judges, given).values()))
        return job

    @property
    def ranked(self) -> Sequence[Sequence[float]]:
        """The places of all trials with a result, the best first."""
        return [self.places[trial] for bracket in self.search.brackets for trial in bracket.standing()]

    def tell(self, trial: int, length: int, metric: float) -> int | None:
        """The sampler learns from it too."""
        self._sampler.note(trial)
        return super().tell(trial, length, metric)


class EpochsThenBest:
    """i-Epoch: train every trial for a few steps, then the best to the end.

    Source: Egele et al. 2023, "Is One Epoch All You Need For Multi-Fidelity Hyperparameter
    Optimization?" (arXiv:2307.15422).

    Args:
        steps: how long every trial trains.
        trials: how many there are.
        best: how many go on when all have trained that long.
    """

    def __init__(self, steps: int, trials: int, best: int) -> None:
        self._steps = steps
        self._trials = trials
        self._best = best
        self._created = 0
        self._results: list[tuple[float, int]] = []
        self._chosen: list[int] | None = None

    def ask(self) -> Job | None:
        """New trials, then nothing until all have reported, then the best ones."""
        if self._created < self._trials:
            self._created += 1
            return Job(self._created - 1, self._steps)
        if self._chosen is None and len(self._results) == self._trials:
            self._chosen = [trial for _, trial in sorted(self._results)[: self._best]][::-1]
        return Job(self._chosen.pop(), STEPS) if self._chosen else None

    def tell(self, trial: int, length: int, metric: float) -> None:
        """No trial goes on at once."""
        if length == self._steps:
            self._results.append((-metric, trial))


def auto_settings(workers: int) -> SearchSettings:
    """Return the settings of ``auto``, which never runs out of trials."""
    return _settings(TOURNAMENTS["auto"], workers, round(40 * TRAININGS[workers]))


def methods() -> dict[str, Searcher]:
    """Every method by its name."""
    searches: dict[str, Searcher] = {"random": _random}
    searches |= {name: partial(_tournament, name) for name in TOURNAMENTS}
    searches["3-epoch"] = partial(_epochs_then_best, 3)
    return searches


def _random(workers: int, trainings: float, _seed: int) -> Scheduler:
    """Random search, which never runs out of trials."""
    return Tournaments(_settings({"method": Method.RANDOM}, workers, round(2 * trainings)))


def _tournament(name: str, workers: int, trainings: float, seed: int) -> Scheduler:
    """A rung of synchronous halving has to be filled within the budget; the others never run out of trials."""
    synchronous = TOURNAMENTS[name]["method"] is Method.SYNC_HALVING
    trials = _max_trials(name, workers, trainings) if synchronous else round(40 * trainings)
    settings = _settings(TOURNAMENTS[name], workers, trials)
    return Learning(settings, seed) if settings.sampler is Sampler.DENSITY else Tournaments(settings)


def _epochs_then_best(steps: int, _workers: int, trainings: float, _seed: int) -> Scheduler:
    """Half of the budget goes into short trainings, half into the best."""
    half = trainings * STEPS / 2
    return EpochsThenBest(steps, round(half / steps), round(half / (STEPS - steps)))


@cache
def _max_trials(name: str, workers: int, trainings: float) -> int:
    """How many trials are to be expected to take such a budget: the most that don't exceed it."""
    few, many = 1, 2
    while _expected_trainings(name, workers, many) <= trainings:
        few, many = many, 2 * many
    # An expectation comes from simulations: exact to a percent at best.
    while many - few > max(1, few // 200):
        middle = (few + many) // 2
        if _expected_trainings(name, workers, middle) <= trainings:
            few = middle
        else:
            many = middle
    return few


def _expected_trainings(name: str, workers: int, max_trials: int) -> float:
    return expected_length(_settings(TOURNAMENTS[name], workers, max_trials)) / STEPS


def _settings(settings: Mapping[str, Any], workers: int, max_trials: int) -> SearchSettings:
    return SearchSettings(max_length=STEPS, max_trials=max_trials, max_concurrent_trials=workers, **settings)
