"""One whole search with any of the systems, and what its steps say."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks import ours
from benchmarks.peers import environment
from benchmarks.steps import Steps
from benchmarks.workload import Workload


class System(NamedTuple):
    """A way to run a search.

    Attributes:
        name: for people.
        peer: which of the peers; None: Ashwood.
        variant: of the system.
        patience: how many trials it gets where steps cost nothing, as a share of what Ashwood gets: slow
            systems needn't run for an hour.
    """

    name: str
    peer: str | None
    variant: str
    patience: float = 1.0


class Run(NamedTuple):
    """A search that ran.

    Attributes:
        steps: what its training said.
        seconds: from the first step to the end of the search.
    """

    steps: Steps
    seconds: float


OURS = [
    System("Ashwood, promotion", None, "promotion"),
    System("Ashwood, stopping", None, "stopping"),
]
PEERS = [
    System("Optuna, journal file", "optuna", "journal", 0.1),
    System("Optuna, SQLite", "optuna", "sqlite", 0.05),
    System("Ray Tune, `reuse_actors`", "ray", "asha", 0.1),
    System("Syne Tune, local backend", "syne_tune", "asha", 0.05),
]


def runs(workload: Workload, *, peers: bool) -> Iterator[tuple[System, Run]]:
    """Run the workload with every system, one after the other."""
    if peers:
        environment.prepare()
    for system in OURS + PEERS * peers:
        print(f"  {system.name}", file=sys.stderr)
        share = 1.0 if workload.step_seconds else system.patience
        yield system, run(system, workload._replace(trials=round(workload.trials * share)))


def run(system: System, workload: Workload) -> Run:
    """Run a workload with a system."""
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory, "steps")
        if system.peer is None:
            ended = ours.search(system.variant, workload, Path(directory), log).ended
        else:
            ended = environment.search(system.peer, system.variant, workload, log).ended
        steps = Steps.read(log, workload)
    return Run(steps, ended - steps.first)
