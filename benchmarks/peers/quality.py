"""What the peers' scripts on search quality share: which searches are asked for, and their answers.

A script takes one `Request` as JSON, and prints a line of JSON for each search:
its task, its seed, its trace, and how many seconds it took.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeAlias

from benchmarks.quality.lcbench import Problem, Surrogate, problems
from benchmarks.quality.measure import Cell, wall_clock
from benchmarks.quality.workers import Curve, Scheduler, rows, run


class Request(NamedTuple):
    """Searches to run, one after the other.

    Attributes:
        variant: of the peer.
        workers: how many trials train at once.
        cells: tasks and seeds.
        lcbench: the directory of the surrogate.
    """

    variant: str
    workers: int
    cells: list[Cell]
    lcbench: str


class Search(NamedTuple):
    """One search.

    Attributes:
        variant: of the peer.
        problem: with the table.
        seed: of the search.
        surrogate: for settings that aren't in the table.
    """

    variant: str
    problem: Problem
    seed: int
    surrogate: Surrogate | None

    def paired(self, scheduler: Scheduler) -> Started:
        """For a scheduler that leaves the choice of settings to us: those that every random search gets."""
        return scheduler, rows(self.problem.curves, self.problem.order(self.seed))


Started: TypeAlias = tuple[Scheduler, Callable[[int], Curve]]
"""A scheduler, and what its trials come to."""


def main(start: Callable[[Search], Started], *, samples: bool = False) -> None:
    """Run the searches that the command line asks for.

    Args:
        start: makes the scheduler of a search.
        samples: whether it chooses settings itself, so that the surrogate is needed.
    """
    request = Request(*json.loads(sys.argv[1]))
    directory = Path(request.lcbench)
    tables = {table.task: table for table in problems(directory, sorted({task for task, _ in request.cells}))}
    surrogate = Surrogate(directory) if samples else None
    for task, seed in request.cells:
        begin = time.perf_counter()
        scheduler, curve = start(Search(request.variant, tables[task], seed, surrogate))
        trace = run(scheduler, curve, request.workers, wall_clock(tables[task], request.workers))
        print(json.dumps([task, seed, trace, time.perf_counter() - begin]), flush=True)
