"""``python -m benchmarks.trust``: is early stopping trusted rightly, and what does the trust gain?"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ashwood.search.settings import AUTO_DEFAULTS, Method
from ashwood.search.trust import Level, RungResults, measure, verdict
from ashwood.views.settled import LateResults, noise_share
from benchmarks.peers import environment
from benchmarks.quality import lcbench
from benchmarks.trust import problems, searches
from benchmarks.trust.problems import Problem
from benchmarks.trust.searches import Found, TableSearch

_BORDER = 2.0
"""Differences in regret from this on count, and problems that are as near to this border count for neither side."""

_SHARE = 0.3
"""Share of the budget after which verdicts are judged."""


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.trust", description=__doc__)
    parser.add_argument("--arlbench", type=Path, metavar="DIR", help="directory of the ARLBench tables")
    parser.add_argument("--lcbench", type=Path, metavar="DIR", help="directory of the LCBench surrogate")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--methods", nargs="*", choices=searches.METHODS, default=list(searches.METHODS))
    parser.add_argument("--peers", action="store_true", help="compare with Ray Tune's ASHA, installed once")
    parser.add_argument("--skip-verdicts", action="store_true", help="only compare the methods")
    parser.add_argument("--confirm", action="store_true", help="use the tasks that were not used for tuning")
    options = parser.parse_args()
    noisy, smooth = [], []
    if options.arlbench:
        tasks = problems.ARLBENCH_TASKS
        if options.confirm:
            tasks = sorted({path.stem for path in options.arlbench.glob("*.npz")} - {*tasks})
        noisy = problems.arlbench(options.arlbench, tasks)
    if options.lcbench:
        tasks = lcbench.confirming_tasks(options.lcbench) if options.confirm else lcbench.TASKS
        smooth = problems.lcbench_problems(options.lcbench, tasks)
    for name, some in {"ARLBench": noisy, "LCBench": smooth}.items():
        if some:
            ray = _ray(options.arlbench, some, options.seeds) if options.peers and some is noisy else None
            _compare(name, some, options.methods, options.seeds, ray)
    if not options.skip_verdicts:
        _judge([*noisy, *smooth, *problems.synthetic()], options.seeds)


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


def _ray(directory: Path, some: Sequence[Problem], seeds: int) -> Mapping[str, Sequence[float]]:
    """Return the regrets of Ray Tune's ASHA on tasks of ARLBench."""
    environment.prepare(["ray"])
    by_name = {problem.name: problem for problem in some}
    found: dict[str, list[float]] = {name: [] for name in by_name}
    for task, _, setting in environment.trust_on_ray(directory, list(by_name), seeds):
        found[task].append(by_name[task].regret(setting))
    return found


def _compare(
    title: str,
    some: Sequence[Problem],
    methods: Sequence[str],
    seeds: int,
    ray: Mapping[str, Sequence[float]] | None,
) -> None:
    print(f"### {title}: regret of the recommended setting, and its difference to random search (95 % interval)\n")
    print(f"| | {' | '.join(problem.name for problem in some)} | mean |\n|---{'|--:' * (len(some) + 1)}|")
    plain = {
        problem.name: [_regret(problem, searches.RANDOM, seed, last=True) for seed in range(seeds)] for problem in some
    }
    _row("random, last result", plain, plain)
    if ray:
        _row("Ray Tune ASHA", ray, plain)
    for method in methods:
        found = {
            problem.name: [_regret(problem, searches.METHODS[method], seed) for seed in range(seeds)]
            for problem in some
        }
        _row(method, found, plain)
    print()


def _regret(problem: Problem, settings: searches.SearchSettings, seed: int, *, last: bool = False) -> float:
    trials = searches.play(problem, settings, seed).found()
    return problem.regret(luckiest(trials) if last else recommended(trials))


def _row(name: str, found: Mapping[str, Sequence[float]], plain: Mapping[str, Sequence[float]]) -> None:
    cells = []
    for problem, regrets in found.items():
        difference = np.subtract(regrets, plain[problem])
        error = 1.96 * difference.std(ddof=1) / np.sqrt(len(difference))
        cells.append(f"{np.mean(regrets):.1f} ({difference.mean():+.1f} ± {error:.1f})")
    means = [np.mean(regrets) for regrets in found.values()]
    print(f"| {name} | {' | '.join(cells)} | {np.mean(means):.1f} |", flush=True)


# -- verdicts --------------------------------------------------------------------------------------


def _judge(some: Sequence[Problem], seeds: int) -> None:
    print("### Verdicts after 30 % of the budget\n")
    print("| problem | regret of random search, and from each rung on | truth | right | trusted | from a rung | not |")
    print("|---|---|---|--:|--:|--:|--:|")
    right, counted, alarms, trustworthy = 0, 0, 0, 0
    for problem in some:
        lengths = _lengths(problem)
        regrets = [
            np.mean([_regret(problem, _from(lengths[rung:]), seed) for seed in range(seeds)])
            for rung in range(len(lengths))
        ]
        truth = _truth(regrets)
        levels = [judged(searches.play(problem, searches.AUTO, seed, _SHARE)) for seed in range(seeds)]
        agree = sum(level in truth for level in levels)
        if truth:
            right, counted = right + agree, counted + seeds
        if truth == {Level.TRUSTWORTHY}:
            alarms, trustworthy = alarms + levels.count(Level.NOT_TRUSTWORTHY), trustworthy + seeds
        cells = [
            problem.name,
            " ".join(f"{each:.1f}" for each in [regrets[-1], *regrets[:-1]]),
            " or ".join(sorted(truth)) or "border",
            f"{agree}/{seeds}" if truth else "–",
            *(str(levels.count(level)) for level in (Level.TRUSTWORTHY, Level.FROM_RUNG, Level.NOT_TRUSTWORTHY)),
        ]
        print(f"| {' | '.join(cells)} |", flush=True)
    print(f"\nright: {right} of {counted} ({right / max(1, counted):.0%}), false alarms: {alarms} of {trustworthy}")


def _lengths(problem: Problem) -> list[int]:
    search = TableSearch(problem, replace(searches.AUTO, max_length=problem.steps), 0).search
    return [rung.length for rung in search.brackets[0].rungs]


def _from(lengths: Sequence[int]) -> searches.SearchSettings:
    """Return asynchronous halving with these rungs and random settings."""
    if len(lengths) == 1:
        return searches.RANDOM
    trials = searches.RANDOM.max_trials
    return replace(
        searches.RANDOM,
        method=Method.ASYNC_HALVING,
        divisor=AUTO_DEFAULTS.divisor,
        bracket_lengths=(tuple(lengths),),
        bracket_trials=(trials,),
    )


def _truth(regrets: Sequence[float]) -> set[Level]:
    """Return the right verdicts from the regret with the rungs from each one on, or none of them near a border.

    The last regret is that of random search.  If both random search and a higher rung are better than the first rung,
    both verdicts are right.
    """
    first, *later, last = regrets
    gains = [first - regret for regret in (*later, last)]
    if 0 < max(gains) < 2 * _BORDER:
        return set()
    if max(gains) <= 0:
        return {Level.TRUSTWORTHY}
    right = {Level.FROM_RUNG} if any(gain > _BORDER for gain in gains[:-1]) else set()
    return right | ({Level.NOT_TRUSTWORTHY} if gains[-1] > _BORDER else set())


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


if __name__ == "__main__":
    main()
