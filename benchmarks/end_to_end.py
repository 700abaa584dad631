"""Whole searches whose training costs nothing, and how soon the first training step comes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from benchmarks import ours
from benchmarks.runs import runs
from benchmarks.steps import Steps
from benchmarks.tables import Options, Table
from benchmarks.workload import Workload


def tables(options: Options) -> Iterator[Table]:
    """Measure; ``quick`` runs a tenth of the trials."""
    workload = Workload(trials=200 if options.quick else 2_000, workers=2, step_seconds=0)
    yield Table(
        "End to end",
        "2 worker processes, steps that cost nothing, about 25 reports a trial; from the first step to the end of "
        "the search. Aim: 200 trials/s and 5,000 reports/s.",
        ["", "trials", "trials/s", "reports/s"],
        [
            [system.name, run.steps.trials, run.steps.trials / run.seconds, run.steps.reports / run.seconds]
            for system, run in runs(workload, peers=options.peers)
        ],
    )
    starts = [_start() for _ in range(3 if options.quick else 9)]
    yield Table(
        "First training step",
        "Seconds from the command `ashwood run` to the first training step. Aim: under 1.",
        ["", "best", "median", "worst"],
        [["Ashwood", min(starts), median(starts), max(starts)]],
    )


def _start() -> float:
    workload = Workload(trials=16, workers=2, step_seconds=0)
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory, "steps")
        began = ours.search("promotion", workload, Path(directory), log).began
        return Steps.read(log, workload).first - began
