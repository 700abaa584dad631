"""Single searches of problems, and what they tell: the regret of the recommended setting, or a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ashwood.search.settings import AUTO_DEFAULTS, SearchSettings
from ashwood.search.trust import Level, RungResults, measure, verdict
from ashwood.views.settled import LateResults, noise_share
from benchmarks.quality import lcbench
from benchmarks.trust import problems, searches
from benchmarks.trust.problems import Problem
from benchmarks.trust.searches import Found, TableSearch

_SHARE = 0.3
"""Share of the budget after which verdicts are judged."""


class Sources(NamedTuple):
    """Where problems come from, and how long they are searched.

    Attributes:
        arlbench: directory of the ARLBench tables, or None.
        lcbench: directory of the LCBench surrogate, or None.
        confirm: whether to use the tasks that were not used for tuning.
        budget: total training of each search, in full trainings.
    """

    arlbench: Path | None
    lcbench: Path | None
    confirm: bool
    budget: int


class Search(NamedTuple):
    """A search of a problem.

    Attributes:
        problem: its name.
        settings: the search settings, apart from max_length.
        seed: its seed.
        last: whether it recommends the best last result, instead of the best settled one.
    """

    problem: str
    settings: SearchSettings
    seed: int
    last: bool = False


@cache
def all_problems(sources: Sources) -> Mapping[str, Mapping[str, Problem]]:
    """Return the problems by source and name."""
    found: dict[str, Sequence[Problem]] = {}
    if sources.arlbench:
        tasks: Sequence[str] = problems.ARLBENCH_TASKS
        if sources.confirm:
            tasks = sorted({path.stem for path in sources.arlbench.glob("*.npz")} - {*tasks})
        found["ARLBench"] = problems.arlbench(sources.arlbench, tasks)
    if sources.lcbench:
        tasks = lcbench.confirming_tasks(sources.lcbench) if sources.confirm else lcbench.TASKS
        found["LCBench"] = problems.lcbench_problems(sources.lcbench, tasks)
    found["synthetic"] = problems.synthetic()
    return {title: {problem.name: problem for problem in some} for title, some in found.items() if some}


def problem_named(sources: Sources, name: str) -> Problem:
    """Return the problem with a name."""
    return next(some[name] for some in all_problems(sources).values() if name in some)


def regret(sources: Sources, search: Search) -> float:
    """Return the regret of the setting that a search recommends in the end."""
    problem = problem_named(sources, search.problem)
    settings = searches.scaled(search.settings, sources.budget)
    trials = searches.play(problem, settings, search.seed, sources.budget).found()
    return problem.regret(luckiest(trials) if search.last else recommended(trials))


def level_of(sources: Sources, name: str, seed: int) -> Level:
    """Return the verdict about a problem after a share of the budget of ``mode: auto``."""
    settings = searches.scaled(searches.AUTO, sources.budget)
    return judged(searches.play(problem_named(sources, name), settings, seed, _SHARE * sources.budget))


def recommended(trials: Sequence[Found]) -> int:
    """Return the setting that a search recommends: the best settled result at full length, or else at any length."""
    longest = max(len(found.curve) for found in trials)
    ends = [found for found in trials if len(found.curve) == longest]
    late = [LateResults(longest) for _ in ends]
    for trial, each in zip(ends, late, strict=True):
        for length, value in enumerate(trial.curve.tolist(), start=1):
            each.add(length, value)
    share = noise_share(late)
    results = [each.settled(share) for each in late]
    return ends[int(np.argmax(np.nan_to_num(results, nan=-np.inf)))].setting


def luckiest(trials: Sequence[Found]) -> int:
    """Return the setting with the best last result of all trials, however long they trained."""
    results = [found.curve[-1] if len(found.curve) else -np.inf for found in trials]
    return trials[int(np.argmax(np.nan_to_num(results, nan=-np.inf)))].setting


def judged(search: TableSearch) -> Level:
    """Return the verdict about a search so far, as the trust meter of an experiment does."""
    (bracket,) = search.search.brackets
    rungs = []
    for rung in bracket.rungs:
        losses = {
            trial: -float(search.curve(trial).metric[rung.length - 1])
            for trial, length in enumerate(search.lengths)
            if length >= rung.length
        }
        direct = {trial: losses.pop(trial) for trial in [*losses] if trial not in rung}
        rungs.append(RungResults(rung.length, losses, promoted=rung.promoted, direct=direct))
    return verdict(measure(rungs, AUTO_DEFAULTS.divisor)).level
