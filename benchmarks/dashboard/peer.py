"""optuna-dashboard with a study as large, measured the same way."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.dashboard.made import CACHE, Size
from benchmarks.dashboard.pages import Milestones
from benchmarks.dashboard.served import Served, free_port, serving
from benchmarks.peers import environment

PEER = "optuna_dashboard"
VALUES = 300
"""Intermediate values a trial."""

PATHS = {
    "list": "/api/studies",
    "experiment": "/api/studies/1",
    "what is new since": "/api/studies/1?after={after}",
    "importance": "/api/studies/1/param_importances",
}
OUR_PATHS = {
    "list": "/api/v1/experiments",
    "experiment": "/api/v1/experiments/1",
    "what is new since": "/api/v1/experiments/1",
    "importance": "/api/v1/experiments/1/figures/importance",
}
"""What answers the same: optuna-dashboard's page of a study is made from all of it, ours from pieces."""


def study(size: Size) -> Path:
    """The study's file, made if it isn't there."""
    environment.prepare([PEER])
    path = CACHE / f"optuna-{size.name}.db"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        print(f"filling {path}", file=sys.stderr)
        environment.build_study(path, size.trials, VALUES)
    return path


@contextmanager
def dashboard(path: Path) -> Iterator[Served]:
    """``optuna-dashboard`` on a study, from its first answer until Ctrl-C."""
    port = free_port()
    command = [environment.script(PEER, "optuna-dashboard"), f"sqlite:///{path}", "--port", str(port)]
    with serving(command, port) as served:
        yield served


def study_page() -> Milestones:
    """The page of a study: usable when its history is drawn; later its intermediate values."""
    return Milestones(
        "/dashboard/studies/1",
        {
            "usable": ("#plot-history .scatterlayer .point",),
            "drawn": ("#graph-intermediate-values .scatterlayer .point",),
        },
    )
