"""``python -m tests.torture``: kill and compare, as long as you like."""

import argparse
import json
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from tests.torture.experiment import torture
from tests.torture.oracle import Evidence, judge
from tests.torture.scenarios import SCENARIOS, Scenario
from tests.torture.schedule import blows

_SEEDS = 4
"""Experiments of one scenario have so many different seeds, so that undisturbed runs can be used again."""


@dataclass
class Totals:
    """What was done and found."""

    experiments: int = 0
    kills: int = 0
    drivers: int = 0
    reports: int = 0
    lost: int = 0
    repeated: int = 0
    beyond: int = 0
    manual: int = 0
    complaints: int = 0
    failures: list[dict[str, Any]] = field(default_factory=list)


class Torture:
    """Runs one experiment after the other, and adds up."""

    def __init__(self, directory: Path) -> None:
        self.totals = Totals()
        self._directory = directory
        self._undisturbed: dict[tuple[str, int], Evidence] = {}
        self._lock = threading.Lock()

    def experiment(self, number: int) -> None:
        """Torture the experiment of a number, which is its seed for everything."""
        scenario, seed = SCENARIOS[number % len(SCENARIOS)], number // len(SCENARIOS) % _SEEDS
        undisturbed = self.undisturbed(scenario, seed)
        directory = self._empty(f"experiment-{number}")
        schedule = blows(number, entries=len(undisturbed.entries), worker_kills=scenario.max_restarts)
        outcome = torture(scenario, directory, seed, schedule)
        found = judge(outcome.evidence, undisturbed, ordered=scenario.workers == 1)
        with self._lock:
            totals = self.totals
            totals.experiments += 1
            totals.kills += outcome.kills
            totals.drivers += len(outcome.evidence.acknowledged)
            totals.reports += found.reports
            totals.lost += found.lost
            totals.repeated += found.repeated
            totals.beyond += found.beyond
            totals.manual += len(outcome.evidence.manual)
            totals.complaints += len(found.complaints)
            if found.complaints:
                totals.failures.append(
                    {
                        "number": number,
                        "scenario": scenario.name,
                        "directory": str(directory),
                        "complaints": found.complaints,
                        "blows": outcome.dealt,
                    }
                )
                _tell(totals.failures[-1])
        if not found.complaints:
            shutil.rmtree(directory)

    def undisturbed(self, scenario: Scenario, seed: int) -> Evidence:
        """What becomes of an experiment that nobody disturbs."""
        if (scenario.name, seed) not in self._undisturbed:
            directory = self._empty(f"undisturbed-{SCENARIOS.index(scenario)}-{seed}")
            evidence = torture(scenario, directory, seed, iter(())).evidence
            if complaints := judge(evidence, evidence, ordered=True).complaints:
                raise SystemExit(f"{scenario.name}, seed {seed}, fails undisturbed, see {directory}: {complaints}")
            shutil.rmtree(directory)
            self._undisturbed[scenario.name, seed] = evidence
        return self._undisturbed[scenario.name, seed]

    def _empty(self, name: str) -> Path:
        directory = self._directory / name
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        return directory


def main() -> int:
    """Do what the command line says; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--kills", type=int, default=1000, help="go on until there were so many (default: 1000)")
    parser.add_argument("--minutes", type=float, default=60, help="but no longer than this (default: 60)")
    parser.add_argument("--seed", type=int, default=0, help="number of the first experiment (default: 0)")
    parser.add_argument("--only", action="store_true", help="torture that one alone, for example one that failed")
    parser.add_argument("--jobs", type=int, default=2, help="experiments at a time (default: 2)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep what was found")
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="ashwood-torture-"))
    began = time.monotonic()
    rack = Torture(directory)

    def numbers() -> Iterator[int]:
        for number in [options.seed] if options.only else count(options.seed):
            if rack.totals.kills >= options.kills or time.monotonic() - began > options.minutes * 60:
                return
            yield number

    source, lock = numbers(), threading.Lock()

    def work() -> None:
        while True:
            with lock:
                number = next(source, None)
            if number is None:
                return
            rack.experiment(number)
            totals = rack.totals
            print(f"{totals.kills} kills, {totals.experiments} experiments, {totals.complaints} complaints", flush=True)

    with ThreadPoolExecutor(options.jobs) as pool:
        for future in [pool.submit(work) for _ in range(options.jobs)]:
            future.result()
    print(_summary(rack.totals, time.monotonic() - began))
    if options.json:
        options.json.write_text(json.dumps(asdict(rack.totals), indent=1) + "\n")
    if not rack.totals.failures:
        shutil.rmtree(directory, ignore_errors=True)
    return bool(rack.totals.failures)


def _tell(failure: dict[str, Any]) -> None:
    print(f"FAILED: {failure['scenario']}; again with: --only --seed {failure['number']}; see {failure['directory']}")
    for complaint in failure["complaints"]:
        print(f"  {complaint}")
    for blow in failure["blows"]:
        print(f"    {blow}", flush=True)


def _summary(totals: Totals, seconds: float) -> str:
    return (
        f"{totals.kills} kills of {totals.drivers} drivers and their workers in {totals.experiments} experiments, "
        f"{seconds / 60:.1f} minutes\n"
        f"reports acknowledged: {totals.reports}, lost: {totals.lost}\n"
        f"epochs repeated: {totals.repeated}, of them held by a complete checkpoint: {totals.beyond}\n"
        f"manual steps: {totals.manual}\n"
        f"complaints: {totals.complaints}"
    )


if __name__ == "__main__":
    sys.exit(main())
