"""How much of the workers' time is training, with steps of 20 ms."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.runs import runs
from benchmarks.tables import Options, Table
from benchmarks.workload import Workload


def tables(options: Options) -> Iterator[Table]:
    """Measure; ``quick`` runs a quarter of the trials."""
    rows: dict[str, list[object]] = {}
    counts = (2, 8)
    for workers in counts:
        workload = Workload(trials=(10 if options.quick else 40) * workers, workers=workers, step_seconds=0.02)
        for system, run in runs(workload, peers=options.peers):
            rows.setdefault(system.name, [system.name]).append(100 * run.steps.share)
    yield Table(
        "Utilisation",
        "Share of the workers' time that goes into training steps of 20 ms, in %, from the first step until the last "
        "trial begins: until then the search has a job for every free worker. Aim: 97 with 8 workers.",
        ["", *(f"{workers} workers" for workers in counts)],
        list(rows.values()),
    )
