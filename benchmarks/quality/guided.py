"""``python -m benchmarks.quality.guided``: what priors and past searches gain, and what they cost if they mislead.

Each task is searched with ``mode: auto``.  Past searches are those of the five next tasks; if they mislead, their
ranking is reversed.  A prior gives all hyperparameters of one setting: the best one that a past search of the same
task found, or the worst one.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ashwood.search.guides import PastTrials, Prior
from ashwood.search.space import Double, Space
from benchmarks.quality.lcbench import PARAMETERS, TASKS, Problem, Surrogate, problems, settings_at
from benchmarks.quality.measure import FRACTIONS, GRID, TRAININGS, regrets, wall_clock
from benchmarks.quality.ours import SPACE, Learning, auto_settings
from benchmarks.quality.workers import Curve, run

_PAST_WORKERS = 16
_PAST_SEED = 777
_SOURCES = 5
_STARTS = 2
_GOOD, _OTHERS = 24, 96  # As in `ashwood.engine.past`.

Place: TypeAlias = Sequence[float]
"""A setting: its position in the range of each hyperparameter."""

Guide: TypeAlias = tuple[Space, Sequence[PastTrials], Sequence[Mapping[str, float]]]
"""A space, which may have priors, past trials, and settings that are tried first."""


def main() -> None:
    """Search each task with each guide, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality.guided", description=__doc__)
    parser.add_argument("--lcbench", type=Path, required=True, metavar="DIR", help="directory of model.onnx")
    parser.add_argument("--workers", type=int, choices=TRAININGS, default=4)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    surrogate, tables = Surrogate(options.lcbench), problems(options.lcbench)
    past = cache(partial(_past, surrogate, {table.task: table for table in tables}))
    plain: NDArray[np.float64] | None = None
    for name, guide in _guides(past).items():
        found = []
        for table in tables:
            for seed in range(options.seeds):
                scheduler = Learning(auto_settings(options.workers), seed, *guide(table.task))
                found.append(_regret(table, scheduler, options.workers, surrogate))
        regret = np.mean(found, axis=0)
        plain = regret if plain is None else plain
        reached = np.flatnonzero(regret <= plain[-1])
        cells = [f"{regret[round(GRID * fraction)]:8.2f}" for fraction in FRACTIONS]
        sooner = f"{100 * reached[0] / GRID:.0f} %" if len(reached) else "never"
        print(f"{name:28}{''.join(cells)}   as good as without at 100 %: {sooner}", flush=True)


def _guides(
    past: Callable[[str], Sequence[Place]],
) -> Mapping[str, Callable[[str], Guide]]:
    """Return for each guide a function from a task to its space, past trials and first settings."""

    def others(task: str, *, reverse: bool) -> Guide:
        at = TASKS.index(task)
        sources = [TASKS[(at + 1 + n) % len(TASKS)] for n in range(_SOURCES)]
        ranked = [past(source)[:: -1 if reverse else 1] for source in sources]
        trials = [_past_trials(source, places) for source, places in zip(sources, ranked, strict=True)]
        return SPACE, trials, [_named(places[rank]) for rank in range(_STARTS) for places in ranked]

    return {
        "no guide": lambda _: (SPACE, (), ()),
        "good prior": lambda task: (_space(past(task)[0]), (), ()),
        "misleading prior": lambda task: (_space(past(task)[-1]), (), ()),
        "five related searches": partial(others, reverse=False),
        "five misleading searches": partial(others, reverse=True),
    }


def _past(surrogate: Surrogate, tables: Mapping[str, Problem], task: str) -> Sequence[Place]:
    """Return the settings of a search of a task, the best first."""
    scheduler = Learning(auto_settings(_PAST_WORKERS), _PAST_SEED)
    _regret(tables[task], scheduler, _PAST_WORKERS, surrogate)
    return scheduler.ranked


def _regret(table: Problem, scheduler: Learning, workers: int, surrogate: Surrogate) -> NDArray[np.float64]:
    @cache
    def curve(trial: int) -> Curve:
        found = surrogate.curves(table.task, settings_at(np.asarray([scheduler.places[trial]])))
        return Curve(found.metric[0], found.seconds[0])

    budget = wall_clock(table, workers)
    return regrets(table, run(scheduler, curve, workers, budget), np.linspace(0, budget, GRID + 1))


def _past_trials(source: str, ranked: Sequence[Place]) -> PastTrials:
    settings = [_named(place) for place in ranked]
    others = settings[_GOOD:]
    return PastTrials(source, settings[:_GOOD], others[:: -(-len(others) // _OTHERS) or 1])


def _space(prior: Place) -> Space:
    return Space({name: Double(0.0, 1.0, prior=Prior(each)) for name, each in _named(prior).items()})


def _named(place: Place) -> Mapping[str, float]:
    return {parameter.name: value for parameter, value in zip(PARAMETERS, place, strict=True)}


if __name__ == "__main__":
    main()
