"""``python -m benchmarks.quality.guided``: what priors and past searches gain, and what they cost if they mislead.

Each task is searched with ``mode: auto``.  A prior gives all hyperparameters of one setting: the best one that a past
search of the same task found, or the worst one.  There are three kinds of past searches:

- related: those of the five next tasks.
- unrelated: the same, but their hyperparameters are exchanged: those of the n-th one are shifted by n places in the
  unit cube.  So what they learned concentrates as much as before, and has no relation to the task.
- misleading: their rankings are reversed.  The worst settings of the related tasks are called good, which is worse than
  no relation.

All guides search with the same seeds.  The standard errors are those of the mean difference from the searches without a
guide, with the tasks as strata.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ashwood.search.guides import PastTrials, Prior
from ashwood.search.space import Double, Space
from benchmarks.quality.lcbench import (
    ALL_EPOCHS,
    FEW_EPOCHS,
    PARAMETERS,
    TASKS,
    Problem,
    Surrogate,
    problems,
    settings_at,
)
from benchmarks.quality.measure import FRACTIONS, GRID, TRAININGS, regrets, wall_clock
from benchmarks.quality.ours import SPACE, Learning, auto_settings
from benchmarks.quality.workers import Curve, run

_PAST_WORKERS = 16
_PAST_SEED = 777
_SOURCES = 5
_STARTS = 2
_GOOD, _OTHERS = 24, 96  # As in `ashwood.engine.past`.

_GUIDES = (
    "no guide",
    "good prior",
    "misleading prior",
    "five related searches",
    "five unrelated searches",
    "five misleading searches",
)

Place: TypeAlias = Sequence[float]
"""A setting: its position in the range of each hyperparameter."""

Guide: TypeAlias = tuple[Space, Sequence[PastTrials], Sequence[Mapping[str, float]]]
"""A space, which may have priors, past trials, and settings that are tried first."""


def main() -> None:
    """Search each task with each guide, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality.guided", description=__doc__)
    parser.add_argument("--lcbench", type=Path, required=True, metavar="DIR", help="directory of model.onnx")
    parser.add_argument("--workers", type=int, choices=TRAININGS, default=4)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="searches at the same time")
    parser.add_argument("--guides", nargs="+", choices=_GUIDES, default=_GUIDES, help="in addition to no guide")
    options = parser.parse_args()
    problems(options.lcbench)  # Computes the tables that are missing.
    plain: NDArray[np.float64] | None = None
    with get_context("spawn").Pool(options.jobs) as pool:
        for name in dict.fromkeys([_GUIDES[0], *options.guides]):
            cells = [(name, task, seed) for task in TASKS for seed in range(options.seeds)]
            search = partial(_search, options.lcbench, options.workers)
            found = np.reshape(pool.map(search, cells, chunksize=4), (len(TASKS), options.seeds, GRID + 1))
            plain = found if plain is None else plain
            print(_row(name, found, plain), flush=True)


def _row(name: str, found: NDArray[np.float64], plain: NDArray[np.float64]) -> str:
    """Return a row of the table from the regret with a guide and without one, by task, seed and time."""
    regret, goal = found.mean(axis=(0, 1)), plain[:, :, -1].mean()
    cells = [f"{regret[round(GRID * fraction)]:8.2f}" for fraction in FRACTIONS]
    difference = found[:, :, -1] - plain[:, :, -1]
    seeds = difference.shape[1]
    error = np.sqrt((difference.var(axis=1, ddof=1) / seeds).sum()) / len(difference) if seeds > 1 else np.nan
    # A mean of equal numbers depends on rounding.
    reached = np.flatnonzero(regret <= goal + 1e-9)
    sooner = f"{100 * reached[0] / GRID:.0f} %" if len(reached) else "never"
    change = f"{difference.mean():+6.2f} ± {error:.2f} ({100 * difference.mean() / goal:+.0f} %)"
    return f"{name:26}{''.join(cells)}   at 100 %: {change:24}   as good as no guide at 100 %: {sooner}"


def _search(directory: Path, workers: int, cell: tuple[str, str, int]) -> NDArray[np.float64]:
    """Return the regret over time of a search with a guide, for a task and a seed."""
    name, task, seed = cell
    scheduler = Learning(auto_settings(workers), seed, *_guide(name, task, partial(_past, directory)))
    return _regret(directory, task, scheduler, workers, FEW_EPOCHS)


def _guide(name: str, task: str, past: Callable[[str], Sequence[Place]]) -> Guide:
    """Return a space, past trials and first settings; ``past`` returns the settings that a search of a task ranked."""
    at = TASKS.index(task)
    sources = [TASKS[(at + 1 + n) % len(TASKS)] for n in range(_SOURCES)]
    match name:
        case "good prior":
            return _space(past(task)[0]), (), ()
        case "misleading prior":
            return _space(past(task)[-1]), (), ()
        case "five related searches":
            ranked = [past(source) for source in sources]
        case "five unrelated searches":
            shifts = enumerate(sources, 1)
            ranked = [[[*place[n:], *place[:n]] for place in past(source)] for n, source in shifts]
        case "five misleading searches":
            ranked = [past(source)[::-1] for source in sources]
        case _:
            return SPACE, (), ()
    trials = [_past_trials(source, places) for source, places in zip(sources, ranked, strict=True)]
    return SPACE, trials, [_named(places[rank]) for rank in range(_STARTS) for places in ranked]


@cache
def _loaded(directory: Path) -> tuple[Surrogate, Mapping[str, Problem]]:
    return Surrogate(directory), {table.task: table for table in problems(directory)}


@cache
def _past(directory: Path, task: str) -> Sequence[Place]:
    """Return the settings of a search of a task, the best first."""
    scheduler = Learning(auto_settings(_PAST_WORKERS), _PAST_SEED)
    _regret(directory, task, scheduler, _PAST_WORKERS, ALL_EPOCHS)
    return scheduler.ranked


def _regret(
    directory: Path, task: str, scheduler: Learning, workers: int, epochs: Sequence[int]
) -> NDArray[np.float64]:
    surrogate, tables = _loaded(directory)

    @cache
    def curve(trial: int) -> Curve:
        found = surrogate.curves(task, settings_at(np.asarray([scheduler.places[trial]])), epochs)
        return Curve(found.metric[0], found.seconds[0])

    budget = wall_clock(tables[task], workers)
    return regrets(tables[task], run(scheduler, curve, workers, budget), np.linspace(0, budget, GRID + 1))


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
