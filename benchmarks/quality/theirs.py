"""The methods of other systems, in virtual time and on the same tables, and what they found, kept on disk."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.peers import environment
from benchmarks.peers.quality import Request
from benchmarks.quality.lcbench import CACHE, Problem
from benchmarks.quality.measure import Cell, Traces
from benchmarks.quality.workers import Trace


class Peer(NamedTuple):
    """A method of another system.

    Attributes:
        name: for people.
        system: in whose environment it runs.
        variant: of the system.
        seeds: the most seeds by the number of workers, where a search takes minutes; 0: it isn't asked at all.
    """

    name: str
    system: str
    variant: str
    seeds: Mapping[int, int] = {}


PEERS = (
    Peer("Optuna random", "optuna", "random"),
    Peer("Optuna TPE", "optuna", "tpe", {100: 0}),
    Peer("Optuna TPE, halving", "optuna", "tpe_halving", {16: 0, 100: 0}),
    Peer("Optuna TPE, Hyperband", "optuna", "tpe_hyperband", {16: 0, 100: 0}),
    Peer("Syne Tune ASHA, promotion", "syne_tune", "promotion"),
    Peer("Syne Tune ASHA, stopping", "syne_tune", "stopping"),
    Peer("Ray Tune ASHA", "ray", "asha"),
)

_KEPT = CACHE / "peers-1"
"""Raise the number whenever the tables, the budgets or what a peer is asked to do change."""


def traces(peer: Peer, problems: Sequence[Problem], workers: int, seeds: int, directory: Path) -> Traces:
    """What a peer finds on every task with every seed, or as many seeds as it is given time for."""
    cells = [(problem.task, seed) for seed in range(min(seeds, peer.seeds.get(workers, seeds))) for problem in problems]
    if missing := [cell for cell in cells if not _path(peer, workers, cell).exists()]:
        print(f"  {peer.name}, {workers} workers: {len(missing)} searches", file=sys.stderr)
        request = Request(peer.variant, workers, missing, str(directory.absolute()))
        for task, seed, *found in environment.quality(peer.system, request):
            path = _path(peer, workers, (task, seed))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(found))
    kept = {cell: json.loads(_path(peer, workers, cell).read_text()) for cell in cells}
    took = sum(seconds for _, seconds in kept.values())
    print(f"  {peer.name}, {workers} workers: {len(cells)} searches took {took:.0f} s", file=sys.stderr)
    return {cell: Trace(*trace) for cell, (trace, _) in kept.items()}


def _path(peer: Peer, workers: int, cell: Cell) -> Path:
    return _KEPT / f"{peer.system}-{peer.variant}-{workers}" / f"{cell[0]}-{cell[1]}.json"
