"""Ashwood, as people use it: an experiment file and ``ashwood run``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from math import inf
from pathlib import Path
from typing import NamedTuple

from benchmarks.workload import DIVISOR, RUNGS, Workload

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


def search(
    variant: str,
    workload: Workload,
    directory: Path,
    log: Path,
    *,
    more: Mapping[str, object] | None = None,
    limit: float = inf,
) -> Ended:
    """Run a whole search in a directory of its own, steps written to ``log``.

    Args:
        variant: which of `VARIANTS`.
        workload: what to do.
        directory: for all that is written.
        log: for the steps.
        more: what else is to stand in the experiment file.
        limit: how many seconds it may take.
    """
    began = time.monotonic()
    process = start(variant, workload, directory, log, more=more)
    peak_mb = 0.0
    while process.poll() is None:
        peak_mb = peak_memory(process.pid) or peak_mb
        if time.monotonic() > began + limit:
            process.kill()
            process.wait()
            raise TimeoutError(f"ashwood took more than {limit:.0f} s")
        time.sleep(0.02)
    ended = time.monotonic()
    if process.returncode:
        raise RuntimeError(f"ashwood failed:\n{(directory / 'output').read_text()[-2000:]}")
    return Ended(began, ended, peak_mb)


def start(
    variant: str, workload: Workload, directory: Path, log: Path, *, more: Mapping[str, object] | None = None
) -> subprocess.Popen[bytes]:
    """Begin a search; its driver is the process, what it says is in the file ``output``."""
    file = directory / "code" / "toy.yaml"
    file.parent.mkdir()
    file.write_text(json.dumps({**_experiment(variant, workload, log), **(more or {})}))  # JSON is YAML
    command = [str(Path(sys.executable).with_name("ashwood")), "run", str(file), "--workers", str(workload.workers)]
    environment = {
        **os.environ,
        "ASHWOOD_HOME": str(directory / "home"),
        "PYTHONPATH": python_path(),
    }
    with (directory / "output").open("w") as output:
        return subprocess.Popen(command, env=environment, stdout=output, stderr=output)


def _experiment(variant: str, workload: Workload, log: Path) -> dict[str, object]:
    return {
        "name": "toy",
        "entrypoint": "benchmarks.toy:train",
        "data": {"log": str(log), "step_seconds": workload.step_seconds},
        "hyperparameters": {"x": {"type": "double", "minval": 0.0, "maxval": 1.0}},
        "searcher": {
            "name": "async_halving",
            "metric": "loss",
            "max_length": workload.max_length,
            "max_trials": workload.trials,
            "max_concurrent_trials": workload.workers,
            "num_rungs": RUNGS,
            "divisor": DIVISOR,
            **VARIANTS[variant],
        },
    }


def python_path() -> str:
    """Where processes find the benchmarks, and whatever they are told besides."""
    return os.pathsep.join(filter(None, (str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH"))))


def peak_memory(process: int) -> float | None:
    """The high-water mark of a process's own memory, as Linux keeps it; None: it has just ended."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return None
    marks = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(marks[0].split()[1]) / 1024 if marks else None
