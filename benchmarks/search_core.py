"""Schedulers alone: reports/s, a report being a result of a trial and the next thing to do.

One bracket with rungs at 1, 4, 16, 64 and 256, 16 trials at once, random losses.  With ``mode: auto``, the losses of a
trial differ only by noise.
"""

from __future__ import annotations

import gc
import random
import sys
import time
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from ashwood.search.settings import Method, Mode, SearchSettings
from ashwood.search.tournament import Tournament
from benchmarks.peers import environment
from benchmarks.peers.script import LENGTHS
from benchmarks.tables import Options, Table

CONCURRENT = 16
_AUDIT = Fraction(3, 100)
_SEARCHES: dict[str, dict[str, Any]] = {
    "async_halving": {"method": Method.ASYNC_HALVING},
    "adaptive_asha": {"method": Method.ADAPTIVE_ASHA},
    "adaptive_asha, audit: 0.03": {"method": Method.ADAPTIVE_ASHA, "audit": _AUDIT},
    "mode: auto": {"method": Method.ADAPTIVE_ASHA, "mode": Mode.AUTO, "audit": _AUDIT},
}
"""Name and settings of each search; `mode: auto` without its density sampler."""


def tables(options: Options) -> Iterator[Table]:
    """Measure; ``quick`` leaves out the sizes that take long."""
    sizes = [1_000, 10_000] if options.quick else [1_000, 10_000, 100_000, 1_000_000]
    rows: list[list[object]] = [
        [f"Ashwood `{name}`", *(_best(name, size, **settings) for size in sizes)]
        for name, settings in _SEARCHES.items()
    ]
    if options.peers:
        environment.prepare()
        rows += [_peer(*which, sizes) for which in _peers(options.quick)]
    yield Table(
        "Search core",
        "Reports/s of the schedulers alone, by number of trials. Aim: 150,000 at 1,000 trials, and at least half of "
        "that at 1,000,000.",
        ["", *(f"{size:,} trials" for size in sizes)],
        rows,
    )


def _peers(quick: bool) -> list[tuple[str, str, str, int]]:
    """A name, the peer, the variant, and the largest size that it can do in minutes."""
    most = 1_000 if quick else 10_000
    return [
        ("Ray Tune ASHA", "ray", "asha", most),
        ("Syne Tune promotion ASHA", "syne_tune", "asha", most),
        ("Optuna halving pruner, in memory", "optuna", "memory", most),
        ("Optuna halving pruner, journal file", "optuna", "journal", 1_000),
        ("Optuna halving pruner, SQLite", "optuna", "sqlite", 1_000),
    ]


def _peer(name: str, peer: str, variant: str, most: int, sizes: list[int]) -> list[object]:
    print(f"  {name}", file=sys.stderr)
    durable = variant in ("journal", "sqlite")
    return [
        name,
        *(
            environment.schedule(peer, variant, size, repeats=3 if size <= 1_000 and not durable else 1)
            if size <= most
            else None
            for size in sizes
        ),
    ]


def _best(name: str, trials: int, **settings: Any) -> float:
    """The best of some repeats, as the other processes of the machine can only slow it down."""
    print(f"  {name} {trials:,}", file=sys.stderr)
    return max(_rate(trials, **settings) for _ in range(20 if trials <= 10_000 else 3))


def _rate(trials: int, **chosen: Any) -> float:
    settings = SearchSettings(max_length=LENGTHS[-1], max_trials=trials, max_concurrent_trials=CONCURRENT, **chosen)
    search = Tournament(settings)
    losses = [random.random() for _ in range(3 * trials)]
    if settings.mode is Mode.AUTO:  # With random losses it would soon skip all rungs.
        levels = [random.random() for _ in range(2 * trials)]
    gc.collect()
    reports = 0
    begin = time.perf_counter()
    running = deque(job for _ in range(CONCURRENT) if (job := search.next_job()) is not None)
    while running:
        job = running.popleft()
        loss = losses[reports] if settings.mode is not Mode.AUTO else levels[job.trial] + 0.3 * losses[reports]
        search.report(job.trial, job.target, loss)
        reports += 1
        if (job := search.next_job()) is not None:
            running.append(job)
    return reports / (time.perf_counter() - begin)
