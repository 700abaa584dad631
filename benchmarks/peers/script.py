"""What the peers' scripts share: their command line, and the lengths at which schedulers alone are asked."""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from benchmarks.ours import peak_memory
from benchmarks.workload import Workload

LENGTHS = (1, 4, 16, 64, 256)
"""The rungs of the searches that measure a scheduler alone."""


class Search(Protocol):
    """Runs a whole search; every training step writes to ``log``."""

    def __call__(self, variant: str, workload: Workload, log: str, /) -> None: ...


def main(schedule: Callable[[str, int, Iterator[float]], int], search: Search) -> None:
    """Do what the command line says and print what came out as JSON.

    Args:
        schedule: drives a scheduler alone through so many trials whose losses come from an
            iterator; returns how many reports it took.
        search: runs a whole search.
    """
    match sys.argv[1:]:
        case ["schedule", variant, trials, repeats]:
            rate = max(_rate(schedule, variant, int(trials)) for _ in range(int(repeats)))
            print(json.dumps({"reports_per_second": rate}))
        case ["search", variant, trials, workers, seconds, min_length, log]:
            search(variant, Workload(int(trials), int(workers), float(seconds), int(min_length)), log)
            print(json.dumps({"ended": time.monotonic(), "peak_mb": peak_memory(os.getpid())}))
        case _:
            sys.exit(
                "usage: schedule VARIANT TRIALS REPEATS | search VARIANT TRIALS WORKERS STEP_SECONDS MIN_LENGTH LOG"
            )


def _rate(schedule: Callable[[str, int, Iterator[float]], int], variant: str, trials: int) -> float:
    losses = iter([random.random() for _ in range(2 * trials)])
    begin = time.perf_counter()
    reports = schedule(variant, trials, losses)
    return reports / (time.perf_counter() - begin)
