"""``python -m benchmarks.quality``: ours alone, for whoever tunes a method."""

from __future__ import annotations

import argparse
import time
from functools import cache, partial
from pathlib import Path

from benchmarks.quality.lcbench import TASKS, Surrogate, confirming_tasks, problems
from benchmarks.quality.measure import FRACTIONS, TRAININGS, Score, scores
from benchmarks.quality.ours import methods
from benchmarks.quality.search import search


def main() -> None:
    """Do what the command line says."""
    known = methods()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description="Search quality of our methods.")
    parser.add_argument("--lcbench", type=Path, required=True, metavar="DIR", help="of model.onnx and encoding.json")
    parser.add_argument("--workers", type=int, nargs="+", choices=TRAININGS, default=list(TRAININGS))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--methods", nargs="+", choices=known, default=list(known), metavar="METHOD")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS, metavar="TASK")
    parser.add_argument("--confirm", action="store_true", help="on the tasks that nobody tunes to, instead")
    parser.add_argument("--by-task", action="store_true", help="the regret on each task, too")
    options = parser.parse_args()
    tables = problems(options.lcbench, confirming_tasks(options.lcbench) if options.confirm else options.tasks)
    surrogate = cache(partial(Surrogate, options.lcbench))
    names = list(dict.fromkeys(["random", *options.methods]))
    for workers in options.workers:
        begin = time.perf_counter()
        found = {name: search(known[name], tables, workers, options.seeds, surrogate) for name in names}
        print(f"{workers} workers, {options.seeds} seeds, {time.perf_counter() - begin:.1f} s")
        _print(scores(tables, workers, found))
        if options.by_task:
            for table in tables:
                print(f"task {table.task}")
                one = {
                    name: {at: t for at, t in traces.items() if at[0] == table.task} for name, traces in found.items()
                }
                _print(scores([table], workers, one))
        print()


def _print(found: dict[str, Score]) -> None:
    percents = [f"{round(100 * fraction)} %" for fraction in FRACTIONS]
    heading = [*(f"regret {at}" for at in percents), *(f"rank {at}" for at in percents)]
    heading += ["speed-up", "never", "trials", "trained", "first end"]
    print(f"{'':16}" + "".join(f"{cell:>13}" for cell in heading))
    for name, score in found.items():
        cells = [*(f"{score.at(fraction):.2f}" for fraction in FRACTIONS)]
        cells += [f"{rank:.2f}" for rank in score.ranks]
        cells += [f"{score.speedup:.2f}", str(score.never), f"{score.trials:.0f}", f"{score.trained:.1f}"]
        cells += [f"{score.first_completed:.3f}"]
        print(f"{name:16}" + "".join(f"{cell:>13}" for cell in cells))


if __name__ == "__main__":
    main()
