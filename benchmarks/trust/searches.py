"""Searches of the problems in virtual time: each step of a training takes the same time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ashwood.search.density import DensitySampler
from ashwood.search.settings import AUTO_DEFAULTS, Method, Mode, Sampler, SearchSettings
from ashwood.search.space import Double, Space
from ashwood.search.vocabulary import TrialId
from benchmarks.quality.ours import Tournaments
from benchmarks.quality.workers import Curve, Job, run
from benchmarks.trust.problems import BUDGET, WORKERS, Problem, drawn_settings


class Found(NamedTuple):
    """A trial of a search.

    Attributes:
        setting: row of its setting in the table.
        curve: the metric after each step that it trained.
    """

    setting: int
    curve: NDArray[np.floating]


class TableSearch(Tournaments):
    """A search of Ashwood's on a table.

    A trial gets the unused setting that is next to the drawn one, or the next one in random order with
    `Sampler.RANDOM`, and a random training seed.
    """

    def __init__(self, problem: Problem, settings: SearchSettings, seed: int) -> None:
        super().__init__(settings, seed)
        self.problem = problem
        self.drawn: list[tuple[int, int]] = []
        self.lengths: list[int] = []
        self._names = [f"x{number}" for number in range(problem.places.shape[1])]
        space = Space({name: Double(0.0, 1.0) for name in self._names})
        self._sampler = DensitySampler(space, seed) if settings.sampler is Sampler.DENSITY else None
        self._draws = drawn_settings(problem, seed)
        self._unused = np.ones(len(problem.places), bool)

    def ask(self) -> Job | None:
        """Return the next job; a new trial gets a setting and a training seed."""
        job = super().ask()
        if job is not None and job.trial == len(self.drawn):
            setting, training_seed = next(self._draws)
            self.drawn.append((setting if self._sampler is None else self._setting(job.trial, setting), training_seed))
            self.lengths.append(0)
        return job

    def tell(self, trial: TrialId, length: int, metric: float) -> int | None:
        """Pass a result to the search and the sampler."""
        self.lengths[trial] = length
        if self._sampler:
            self._sampler.note(trial)
        return super().tell(trial, length, metric)

    def curve(self, trial: TrialId) -> Curve:
        """Return the whole curve of a trial."""
        setting, seed = self.drawn[trial]
        return Curve(self.problem.metric[setting, seed], np.arange(1.0, self.problem.steps + 1))

    def found(self) -> list[Found]:
        """Return all trials, as far as they trained."""
        return [
            Found(self.drawn[trial][0], self.curve(trial).metric[:length]) for trial, length in enumerate(self.lengths)
        ]

    def _setting(self, trial: TrialId, random: int) -> int:
        """Return the setting of a new trial: the next unused one to that of the sampler, or else a random one."""
        if self._sampler is None or not self._unused.any():
            return random
        address = self.search.address(trial)
        good = self._sampler.good(self.search)
        place = list(self._sampler.sample(trial, *address, good).values())
        distance = ((self.problem.places - place) ** 2).sum(axis=1)
        setting = int(np.argmin(np.where(self._unused, distance, np.inf)))
        self._unused[setting] = False
        # The sampler learns from the setting that the trial really has.
        given = dict(zip(self._names, self.problem.places[setting].tolist(), strict=True))
        self._sampler.sample(trial, *address, good, (), given)
        return setting


def play(problem: Problem, settings: SearchSettings, seed: int, budget: float) -> TableSearch:
    """Search with a budget, in full trainings."""
    workers = settings.max_concurrent_trials
    scheduler = TableSearch(problem, replace(settings, max_length=problem.steps), seed)
    run(scheduler, scheduler.curve, workers, budget * problem.steps / workers)
    return scheduler


def scaled(settings: SearchSettings, budget: int) -> SearchSettings:
    """Return the settings with as many workers and trials as suit a budget."""
    factor = Fraction(budget, BUDGET)
    return replace(
        settings,
        max_trials=int(settings.max_trials * factor),
        max_concurrent_trials=int(settings.max_concurrent_trials * factor),
        bracket_trials=tuple(int(trials * factor) for trials in settings.bracket_trials),
    )


def _settings(method: Method, **more: object) -> SearchSettings:
    return SearchSettings(
        method=method,
        max_length=1,
        max_trials=40 * BUDGET,
        max_concurrent_trials=WORKERS,
        **more,  # type: ignore[arg-type]
    )


RANDOM = _settings(Method.RANDOM)
AUTO = _settings(
    Method.ADAPTIVE_ASHA,
    mode=Mode.AUTO,
    divisor=AUTO_DEFAULTS.divisor,
    max_rungs=AUTO_DEFAULTS.max_rungs,
    sampler=AUTO_DEFAULTS.sampler,
    audit=AUTO_DEFAULTS.audit,
)
METHODS: Mapping[str, SearchSettings] = {
    "random": RANDOM,
    "aggressive": _settings(Method.ADAPTIVE_ASHA, mode=Mode.AGGRESSIVE),
    "standard": _settings(Method.ADAPTIVE_ASHA),
    "conservative": _settings(Method.ADAPTIVE_ASHA, mode=Mode.CONSERVATIVE),
    "auto": AUTO,
}
