"""The memory of the driver, the process of the command itself, at many trials."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks import ours
from benchmarks.tables import Options, Table
from benchmarks.workload import Workload


def tables(options: Options) -> Iterator[Table]:
    """Measure; ``quick`` runs a twentieth of the trials.  No peer is measured."""
    workload = Workload(trials=500 if options.quick else 10_000, workers=2, step_seconds=0)
    with tempfile.TemporaryDirectory() as directory:
        peak = ours.search("promotion", workload, Path(directory), Path(directory, "steps")).peak_mb
    yield Table(
        "Memory of the driver",
        "Peak resident memory of the process that `ashwood run` is, workers aside, in MB. Aim: under 150 at 10,000 "
        "trials.",
        ["", f"{workload.trials:,} trials"],
        [["Ashwood", peak]],
    )
