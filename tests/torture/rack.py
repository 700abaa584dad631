"""Experiment after experiment: tortured, judged, added up."""

import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from tests.torture.experiment import count_points, torture
from tests.torture.oracle import Evidence, judge
from tests.torture.scenarios import SCENARIOS, SMALLEST, Scenario
from tests.torture.schedule import Blow, Victim, blows

_SEEDS = 4
"""Experiments of one scenario have so many different seeds, so that undisturbed runs can be used again."""


class Case(NamedTuple):
    """One experiment to torture.

    Attributes:
        name: does it again, as an argument of ``--again``.
        scenario: what it is.
        seed: the experiment's.
        blow: the only blow; None: a schedule of many, drawn from ``number``.
        number: see ``blow``.
    """

    name: str
    scenario: Scenario
    seed: int
    blow: Blow | None = None
    number: int = 0


def random_case(number: int) -> Case:
    """The case of a number, from which all of it follows."""
    scenario = SCENARIOS[number % len(SCENARIOS)]
    return Case(str(number), scenario, number // len(SCENARIOS) % _SEEDS, number=number)


def point_case(name: str) -> Case:
    """The case that ``POINT:HIT:VICTIM`` names."""
    point, hit, victim = name.split(":")
    return Case(name, SMALLEST, 0, Blow(Victim(victim), 1000, 0.0, point, int(hit)))


def point_cases(directory: Path) -> Iterator[Case]:
    """A kill at each crash point that the smallest experiment comes by; at those of a worker, of the worker too."""
    _, reached = count_points(SMALLEST, directory, 0)
    for point, hits in reached.items():
        victims = (Victim.DRIVER, Victim.WORKER, Victim.BOTH) if point.startswith("worker") else (Victim.DRIVER,)
        for hit in range(1, hits + 1):
            for victim in victims:
                yield point_case(f"{point}:{hit}:{victim}")


@dataclass
class Totals:
    """What was done and found.

    Attributes:
        experiments: that were tortured.
        drivers: that ran them, one after the other.
        kills: that they suffered.
        reports: that were acknowledged.
        lost: acknowledged reports that weren't in the log at the end.
        repeated: epochs that were trained again.
        beyond: those of them that a complete checkpoint held.
        manual: times that a person would have had to do something.
        failures: the experiments that weren't as they must be.
    """

    experiments: int = 0
    drivers: int = 0
    kills: int = 0
    reports: int = 0
    lost: int = 0
    repeated: int = 0
    beyond: int = 0
    manual: int = 0
    failures: list[dict[str, Any]] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.kills} kills of {self.drivers} drivers and their workers, {self.experiments} experiments\n"
            f"reports acknowledged: {self.reports}, lost: {self.lost}\n"
            f"epochs repeated: {self.repeated}, of them held by a complete checkpoint: {self.beyond}\n"
            f"manual steps: {self.manual}\n"
            f"experiments that aren't as they must be: {len(self.failures)}"
        )


class Rack:
    """Tortures experiments, several at a time.

    Attributes:
        totals: what was done and found so far.
    """

    def __init__(self, directory: Path, *, home: Callable[[Path], str | None] = lambda _: None) -> None:
        """What fails stays in ``directory``; ``home`` gives the home of the experiment in a directory."""
        self.totals = Totals()
        self._directory = directory
        self._home = home
        self._undisturbed: dict[tuple[str, int], Evidence] = {}
        self._lock = threading.Lock()

    def work_off(self, cases: Iterator[Case], *, jobs: int, tell: Callable[[str], None]) -> None:
        """Torture case after case, so many at a time."""

        def work() -> None:
            while True:
                with self._lock:
                    case = next(cases, None)
                if case is None:
                    return
                failure = self.torture(case)
                tell(
                    f"{self.totals.kills} kills, {self.totals.experiments} experiments" if failure is None else failure
                )

        with ThreadPoolExecutor(jobs) as pool:
            for future in [pool.submit(work) for _ in range(jobs)]:
                future.result()

    def torture(self, case: Case) -> str | None:
        """Torture an experiment; returns what isn't as it must be, and how to do it again."""
        scenario = case.scenario
        undisturbed = self.undisturbed(scenario, case.seed)
        directory = self._empty(f"case-{case.name.replace(':', '-')}")
        entries, kills = len(undisturbed.entries), scenario.max_restarts
        schedule = iter([case.blow]) if case.blow else blows(case.number, entries=entries, worker_kills=kills)
        outcome = torture(scenario, directory, case.seed, schedule, home=self._home(directory))
        found = judge(outcome.evidence, undisturbed, ordered=scenario.workers == 1)
        with self._lock:
            totals = self.totals
            totals.experiments += 1
            totals.drivers += len(outcome.evidence.acknowledged)
            totals.kills += outcome.kills
            totals.reports += found.reports
            totals.lost += found.lost
            totals.repeated += found.repeated
            totals.beyond += found.beyond
            totals.manual += len(outcome.evidence.manual)
        if not found.complaints:
            shutil.rmtree(directory)
            return None
        failure = {
            "again": case.name,
            "scenario": scenario.name,
            "complaints": found.complaints,
            "blows": outcome.dealt,
        }
        self.totals.failures.append(failure)
        return "\n".join(
            (
                f"FAILED: {scenario.name}; again with: --again {case.name}; see {directory}",
                *(f"  {complaint}" for complaint in found.complaints),
                *(f"    {blow}" for blow in outcome.dealt),
            )
        )

    def undisturbed(self, scenario: Scenario, seed: int) -> Evidence:
        """What becomes of an experiment that nobody disturbs."""
        key = scenario.name, seed
        if key not in self._undisturbed:
            directory = self._empty(f"undisturbed-{scenario.name}-{seed}-{threading.get_ident()}")
            evidence = torture(scenario, directory, seed, iter(()), home=self._home(directory)).evidence
            if complaints := judge(evidence, evidence, ordered=True).complaints:
                raise AssertionError(f"{scenario.name}, seed {seed}, fails undisturbed, see {directory}: {complaints}")
            shutil.rmtree(directory)
            self._undisturbed[key] = evidence
        return self._undisturbed[key]

    def _empty(self, name: str) -> Path:
        directory = self._directory / name
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        return directory


def random_cases(first: int) -> Iterator[Case]:
    """One random case after the other."""
    return map(random_case, count(first))
