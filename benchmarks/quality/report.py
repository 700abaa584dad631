"""Every method side by side: a table for each number of workers, and one figure."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from functools import cache, partial
from pathlib import Path

from benchmarks.peers import environment
from benchmarks.quality import lcbench, ours, theirs
from benchmarks.quality.measure import FRACTIONS, TRAININGS, Score, scores
from benchmarks.quality.search import search
from benchmarks.tables import Options, Table

_FIGURES = Path(__file__).parents[1] / "figures"
_SEEDS = 10


def tables(options: Options) -> Iterator[Table]:
    """Measure; ``quick`` searches with 4 workers and 2 seeds alone."""
    if options.lcbench is None:
        print(
            "  skipped: it needs --lcbench DIR, with model.onnx and encoding.json in it, and onnxruntime",
            file=sys.stderr,
        )
        return
    tasks = lcbench.confirming_tasks(options.lcbench) if options.confirm else lcbench.TASKS
    problems = lcbench.problems(options.lcbench, tasks)
    if options.peers:
        environment.prepare()
    surrogate = cache(partial(lcbench.Surrogate, options.lcbench))
    found = {}
    seeds = 2 if options.quick else _SEEDS
    for workers in [4] if options.quick else TRAININGS:
        print(f"  {workers} workers", file=sys.stderr)
        methods = {name: search(method, problems, workers, seeds, surrogate) for name, method in ours.methods().items()}
        if options.peers:
            for peer in theirs.PEERS:
                if peer.seeds.get(workers) == 0:
                    continue
                methods[peer.name] = theirs.traces(peer, problems, workers, seeds, options.lcbench)
        found[workers] = scores(problems, workers, methods)
        yield _table(found[workers], workers, len(tasks))
    if not options.quick:
        from benchmarks.quality.figure import draw  # matplotlib is for this alone

        draw(found, _FIGURES / ("quality-confirmed.svg" if options.confirm else "quality.svg"))


def _table(found: Mapping[str, Score], workers: int, tasks: int) -> Table:
    percents = [f"{round(100 * fraction)} %" for fraction in FRACTIONS]
    seeds = max(score.searches for score in found.values()) // tasks
    return Table(
        f"Search quality, {workers} workers",
        f"{tasks} tasks, {seeds} seeds, a budget of {TRAININGS[workers]} trainings to the end. Regret of the best "
        "validation so far, 0 being the best of 10,000 random settings and 100 the median; its mean, and the mean rank "
        f"among the {sum(score.complete for score in found.values())} methods with all seeds, at fractions of the "
        "wall-clock time; how much sooner than random search a method is as good as that at the end (≤: on some tasks, "
        "as many as in brackets, it never was, which counts as 1). Up to this length `async_halving` is `aggressive`.",
        ["", *(f"regret {at}" for at in percents), *(f"rank {at}" for at in percents), "speed-up", "trials"],
        [
            [
                _name(name) if score.complete else f"{_name(name)} ({_seeds(score)})",
                *(score.at(fraction) for fraction in FRACTIONS),
                *map(float, score.ranks),
                f"≤ {score.speedup:.2f} ({score.never})" if score.never else f"{score.speedup:.2f}",
                round(score.trials),
            ]
            for name, score in found.items()
        ],
    )


def _name(method: str) -> str:
    return f"Ashwood `{method}`" if method in ours.TOURNAMENTS else method


def _seeds(score: Score) -> str:
    seeds = score.searches // score.tasks
    return f"{seeds} seed{'s' * (seeds > 1)}"
