"""``python -m benchmarks.trust``: is early stopping trusted rightly, and what does the trust gain?"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from multiprocessing.pool import Pool
from pathlib import Path
from typing import TypeAlias

import numpy as np

from ashwood.search.settings import AUTO_DEFAULTS, Method, SearchSettings
from ashwood.search.trust import Level
from benchmarks.peers import environment
from benchmarks.trust import figure, searches
from benchmarks.trust.figure import Judgement
from benchmarks.trust.problems import BUDGET, Problem
from benchmarks.trust.runs import Search, Sources, all_problems, level_of, regret
from benchmarks.trust.searches import TableSearch

_BORDER = 2.0
"""Differences in regret from this on count, and problems that are as near to this border count for neither side."""


Regrets: TypeAlias = Mapping[str, Sequence[float]]
"""The regrets of all seeds, by problem."""


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.trust", description=__doc__)
    parser.add_argument("--arlbench", type=Path, metavar="DIR", help="directory of the ARLBench tables")
    parser.add_argument("--lcbench", type=Path, metavar="DIR", help="directory of the LCBench surrogate")
    parser.add_argument("--seeds", type=int, default=20, help="searches of each problem with each method")
    parser.add_argument(
        "--truth-seeds",
        type=int,
        default=200,
        help="searches that tell the truth about a problem; with 20, the standard error is up to 5 points",
    )
    parser.add_argument("--budget", type=int, default=BUDGET, help="training of each search, in full trainings")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="searches at the same time")
    parser.add_argument("--methods", nargs="*", choices=searches.METHODS, default=list(searches.METHODS))
    parser.add_argument("--peers", action="store_true", help="compare with Ray Tune's ASHA, installed once")
    parser.add_argument("--skip-verdicts", action="store_true", help="only compare the methods")
    parser.add_argument("--confirm", action="store_true", help="use the tasks that were not used for tuning")
    options = parser.parse_args()
    sources = Sources(options.arlbench, options.lcbench, options.confirm, options.budget)
    compared: dict[str, Mapping[str, Regrets]] = {}
    with get_context("spawn").Pool(options.jobs) as pool:
        for title, some in all_problems(sources).items():
            if title != "synthetic":
                ray = _ray(options.arlbench, some, options.seeds) if options.peers and title == "ARLBench" else None
                compared[title] = _compare(pool, sources, title, options.methods, options.seeds, ray)
        judgements = [] if options.skip_verdicts else _judge(pool, sources, options.seeds, options.truth_seeds)
    if not options.confirm and options.budget == BUDGET:
        figure.draw(compared, judgements, Path(__file__).parents[1] / "figures" / "trust.svg")


# -- the methods -----------------------------------------------------------------------------------


def _regrets(pool: Pool, sources: Sources, some: Sequence[Search]) -> list[float]:
    return pool.map(partial(regret, sources), some, chunksize=4)


def _ray(directory: Path, by_name: Mapping[str, Problem], seeds: int) -> Regrets:
    """Return the regrets of Ray Tune's ASHA on tasks of ARLBench."""
    environment.prepare(["ray"])
    found: dict[str, list[float]] = {name: [] for name in by_name}
    for task, _, setting in environment.trust_on_ray(directory, list(by_name), seeds):
        found[task].append(by_name[task].regret(setting))
    return found


def _compare(
    pool: Pool, sources: Sources, title: str, methods: Sequence[str], seeds: int, ray: Regrets | None
) -> Mapping[str, Regrets]:
    """Print the regret of each method on each problem of a source, and return it."""
    names = list(all_problems(sources)[title])
    print(f"### {title}: regret of the recommended setting, and its difference to random search (95 % interval)\n")
    print(f"| | {' | '.join(names)} | mean |\n|---{'|--:' * (len(names) + 1)}|")

    def all_regrets(settings: SearchSettings, *, last: bool = False) -> Regrets:
        some = [Search(name, settings, seed, last) for name in names for seed in range(seeds)]
        found = _regrets(pool, sources, some)
        return {name: found[nth * seeds : (nth + 1) * seeds] for nth, name in enumerate(names)}

    compared = {figure.PLAIN: all_regrets(searches.RANDOM, last=True)}
    _row(figure.PLAIN, compared)
    if ray:
        compared[figure.RAY] = ray
        _row(figure.RAY, compared)
    for method in methods:
        compared[f"Ashwood {method}"] = all_regrets(searches.METHODS[method])
        _row(f"Ashwood {method}", compared)
    print()
    return compared


def _row(method: str, compared: Mapping[str, Regrets]) -> None:
    cells = []
    for problem, regrets in compared[method].items():
        mean, error = figure.difference(regrets, compared[figure.PLAIN][problem])
        cells.append(f"{np.mean(regrets):.1f} ({mean:+.1f} ± {error:.1f})")
    means = [np.mean(regrets) for regrets in compared[method].values()]
    print(f"| {method} | {' | '.join(cells)} | {np.mean(means):.1f} |", flush=True)


# -- verdicts --------------------------------------------------------------------------------------


def _judge(pool: Pool, sources: Sources, seeds: int, truth_seeds: int) -> list[Judgement]:
    """Print the verdicts about each problem after a share of the budget, and return them."""
    print("### Verdicts after 30 % of the budget\n")
    print("| problem | regret of random search, and from each rung on | truth | right | trusted | from a rung | not |")
    print("|---|---|---|--:|--:|--:|--:|")
    judgements = []
    for name, problem in ((name, each) for some in all_problems(sources).values() for name, each in some.items()):
        lengths = _lengths(problem)
        starts = [_from(lengths[rung:]) for rung in range(len(lengths))]
        some = [Search(name, start, seed) for start in starts for seed in range(truth_seeds)]
        regrets = np.reshape(_regrets(pool, sources, some), (len(starts), truth_seeds)).mean(axis=1).tolist()
        levels = pool.map(partial(level_of, sources, name), range(seeds), chunksize=4)
        judgement = Judgement(name, frozenset(_truth(regrets)), levels)
        judgements.append(judgement)
        cells = [
            name,
            " ".join(f"{each:.1f}" for each in [regrets[-1], *regrets[:-1]]),
            " or ".join(sorted(judgement.truth)) or "border",
            f"{judgement.right}/{seeds}" if judgement.truth else "–",
            *(str(levels.count(level)) for level in (Level.TRUSTWORTHY, Level.FROM_RUNG, Level.NOT_TRUSTWORTHY)),
        ]
        print(f"| {' | '.join(cells)} |", flush=True)
    counted = [each for each in judgements if each.truth]
    trustworthy = [each for each in judgements if each.truth == {Level.TRUSTWORTHY}]
    right, alarms = sum(each.right for each in counted), sum(each.alarms for each in trustworthy)
    print(
        f"\nright: {right} of {seeds * len(counted)} ({right / max(1, seeds * len(counted)):.0%}),"
        f" false alarms: {alarms} of {seeds * len(trustworthy)}"
    )
    return judgements


def _lengths(problem: Problem) -> list[int]:
    search = TableSearch(problem, replace(searches.AUTO, max_length=problem.steps), 0).search
    return [rung.length for rung in search.brackets[0].rungs]


def _from(lengths: Sequence[int]) -> SearchSettings:
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


if __name__ == "__main__":
    main()
