"""Ashwood, as people use it: an experiment file and ``ashwood run``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.workload import DIVISOR, MAX_LENGTH, RUNGS, Workload

VARIANTS = {
    "promotion": {"stop_once": False},
    "stopping": {"stop_once": True},
}
"""Pause at a rung and come back from the checkpoint, or go on or stop for good: what a peer does is one of the two."""


class Ended(NamedTuple):
    """How a run went.

    Attributes:
        began: when the command was given, by the monotonic clock.
        ended: when it had returned.
        peak_mb: the most memory that the command's own process had, in MB; its workers have their own.
    """

    began: float
    ended: float
    peak_mb: float


def search(variant: str, workload: Workload, directory: Path, log: Path) -> Ended:
    """Run a whole search in a directory of its own, steps written to ``log``."""
    file = directory / "toy.yaml"
    file.write_text(json.dumps(_experiment(variant, workload, log)))  # JSON is YAML
    command = [str(Path(sys.executable).with_name("ashwood")), "run", str(file), "--workers", str(workload.workers)]
    environment = {
        **os.environ,
        "ASHWOOD_HOME": str(directory / "home"),
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    began = time.monotonic()
    with (directory / "output").open("w") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
        peak_mb = 0.0
        while process.poll() is None:
            peak_mb = peak_memory(process.pid) or peak_mb
            time.sleep(0.02)
    ended = time.monotonic()
    if process.returncode:
        raise RuntimeError(f"ashwood failed:\n{(directory / 'output').read_text()[-2000:]}")
    return Ended(began, ended, peak_mb)


def _experiment(variant: str, workload: Workload, log: Path) -> dict[str, object]:
    return {
        "name": "toy",
        "entrypoint": "benchmarks.toy:train",
        "data": {"log": str(log), "step_seconds": workload.step_seconds},
        "hyperparameters": {"x": {"type": "double", "minval": 0.0, "maxval": 1.0}},
        "searcher": {
            "name": "async_halving",
            "metric": "loss",
            "max_length": MAX_LENGTH,
            "max_trials": workload.trials,
            "num_rungs": RUNGS,
            "divisor": DIVISOR,
            **VARIANTS[variant],
        },
    }


def peak_memory(process: int) -> float | None:
    """The high-water mark of a process's own memory, as Linux keeps it; None: it has just ended."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return None
    marks = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(marks[0].split()[1]) / 1024 if marks else None
