"""How the wall-clock time of a search falls with the number of workers, in virtual time; and what simulating costs.

Trials train for up to 256 s and are compared after 1, 4, 16 and 64 of them (``auto``: 2, 3,
7, 17, 41 and 103); nothing but training takes time, so that whatever is lost is lost by the
rules of the search.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from statistics import fmean
from typing import Any, NamedTuple

from ashwood.backends.simulated import SimulatedBackend
from ashwood.engine.simulate import simulate
from ashwood.experiment.experiment import Experiment
from ashwood.forecast.costs import NO_COSTS, Costs
from ashwood.forecast.training import Exchangeable
from ashwood.search.plan import plan_search
from ashwood.search.settings import AUTO_DEFAULTS, Method, Mode, SearchSettings
from benchmarks.ours import peak_memory
from benchmarks.tables import FIGURES, Options, Table
from benchmarks.virtual import Course, spec_of

MAX_LENGTH = 256
WORKERS = (1, 10, 100, 500, 1_000, 10_000)

SEARCHES: Mapping[str, Mapping[str, Any]] = {
    "aggressive": {"method": Method.ADAPTIVE_ASHA, "mode": Mode.AGGRESSIVE},
    "standard": {"method": Method.ADAPTIVE_ASHA, "mode": Mode.STANDARD},
    "conservative": {"method": Method.ADAPTIVE_ASHA, "mode": Mode.CONSERVATIVE},
    "auto": {
        "method": Method.ADAPTIVE_ASHA,
        "mode": Mode.AUTO,
        "divisor": AUTO_DEFAULTS.divisor,
        "max_rungs": AUTO_DEFAULTS.max_rungs,
    },
    "sync_halving": {"method": Method.SYNC_HALVING},
}
"""What is compared; `async_halving` is ``aggressive`` up to this length."""

_SPEED_TRIALS = (10_000, 1_000_000)
_FIGURE = FIGURES / "scaling.svg"


class Case(NamedTuple):
    """One search."""

    search: str
    straggling: bool
    trials: int
    workers: int


class Scale(NamedTuple):
    """How a search went with so many workers.

    Attributes:
        workers: how many.
        wall: seconds until it was done.
        work: seconds of training of all workers together.
        full: seconds until its last trial was created.
        work_until_full: ``work`` up to then.
        usual: seconds that trials trained for to max_length, on average over those that did.
        longest: what the slowest of them did.
        last_rung: which share of that is the last step of the ladder.
    """

    workers: int
    wall: float
    work: float
    full: float
    work_until_full: float
    usual: float
    longest: float
    last_rung: float

    @property
    def throughput(self) -> float | None:
        """Share of what the workers can do until the last trial begins; None: all began at once."""
        return self.work_until_full / (self.workers * self.full) if self.full else None

    @property
    def bound(self) -> float:
        """What no search can do without that trains the same trials: the larger of what one and what all have to do."""
        return max(self.work / self.workers, self.longest)

    def ratio(self, trial: float) -> float:
        """Wall-clock time less the last rung, over the larger of what all and what one trial has to do."""
        return (self.wall - trial * self.last_rung) / max(self.work / self.workers, trial)

    @property
    def idle(self) -> float:
        """Share of the workers' time that was not training."""
        return 1 - self.work / (self.workers * self.wall)


def tables(options: Options) -> Iterator[Table]:
    """Measure; ``quick`` takes searches of 500 and 5,000 trials, and simulates no more than 10,000."""
    sizes = (500, 5_000) if options.quick else (500, 5_000, 100_000)
    found: dict[Case, Scale] = {}
    for trials in sizes:
        print(f"  {trials:,} trials", file=sys.stderr)
        found |= {case: _run(case) for case in _cases(trials)}
    yield _throughput(found)
    yield _whole(found)
    for trials in sizes:
        yield _speedups(found, trials)
    if not options.quick:
        from benchmarks.plots import draw_scaling  # matplotlib is for this alone

        draw_scaling(found, sizes, _FIGURE)
    yield _speed(_SPEED_TRIALS[:1] if options.quick else _SPEED_TRIALS)


def _cases(trials: int) -> Iterator[Case]:
    # The largest searches take minutes each: one mode stands for all.
    searches = SEARCHES if trials < 100_000 else ("standard", "sync_halving")
    for search in searches:
        for straggling in (False, True):
            for workers in WORKERS:
                yield Case(search, straggling, trials, workers)


def _run(case: Case) -> Scale:
    settings = SearchSettings(
        max_length=MAX_LENGTH, max_trials=case.trials, max_concurrent_trials=0, **SEARCHES[case.search]
    )
    spec = spec_of(settings)
    training = Exchangeable(spread=1.5 if case.straggling else 1.0, noise=0.3)
    costs = Costs(straggling=0.5) if case.straggling else NO_COSTS
    course = Course(Experiment(spec), SimulatedBackend(spec, training, case.workers, costs=costs))
    return Scale(
        case.workers,
        course.ended,
        course.work,
        course.full,
        course.work_until_full,
        fmean(course.worked),
        max(course.worked),
        last_rung=1 - plan_search(settings).brackets[0].lengths[-2] / MAX_LENGTH,
    )


# -- tables ------------------------------------------------------------------------------------


def _throughput(found: Mapping[Case, Scale]) -> Table:
    trials = max(case.trials for case in found)
    many = [workers for workers in WORKERS if workers <= trials]
    return Table(
        "Scaling: until the bottom rung is full",
        f"Training done until the last of 5,000 trials begins ({trials:,} for more than 1,000 workers), in % of what "
        "the workers could do. Stragglers: two thirds of the trials train at paces within a factor of 1.5 of the "
        "median, and each stretch takes 1 + abs(z) times as long, z from a normal distribution with standard deviation "
        "0.5. Aim: 95 % at 500 workers.",
        ["", *map(_workers, many)],
        [
            [
                _name(search, straggling),
                *(
                    _percent(found.get(Case(search, straggling, 5_000 if workers <= 1_000 else trials, workers)))
                    for workers in many
                ),
            ]
            for search in SEARCHES
            for straggling in (False, True)
        ],
    )


def _percent(scale: Scale | None) -> str | None:
    return None if scale is None or scale.throughput is None else f"{100 * scale.throughput:.1f}"


def _whole(found: Mapping[Case, Scale]) -> Table:
    trials, workers = 5_000, 500
    rows = []
    for search in SEARCHES:
        for straggling in (False, True):
            scale = found[Case(search, straggling, trials, workers)]
            rows.append(
                [
                    _name(search, straggling),
                    *map(round, (scale.work / workers, scale.usual, scale.longest, scale.full, scale.wall)),
                    *(f"{scale.ratio(trial):.2f}" for trial in (scale.usual, scale.longest)),
                    round(100 * scale.idle),
                ]
            )
    most = max(scale.ratio(scale.longest) for scale in found.values())
    return Table(
        f"Scaling: the whole search, {trials:,} trials on {workers} workers",
        "Seconds. No schedule of the same training is shorter than the larger of total work / workers and what its "
        "slowest trial takes. Aim: the whole search less the last rung at most 1.3 times the larger of total work / "
        "workers and a trial to the end: the usual one, and the slowest; by the slowest it was at most "
        f"{most:.2f} in all {len(found)} searches measured here. Idle: share of the workers' time, in %.",
        [
            "",
            "total work / workers",
            "usual trial",
            "slowest trial",
            "last trial begins",
            "search ends",
            "ratio, usual",
            "ratio, slowest",
            "idle",
        ],
        rows,
    )


def _speedups(found: Mapping[Case, Scale], trials: int) -> Table:
    searches = dict.fromkeys(case.search for case in found if case.trials == trials)
    return Table(
        f"Scaling: speed-up of the whole search, {trials:,} trials",
        "Wall-clock time with one worker over that with so many. No search of a few trials can use many workers to "
        "its end: the last trial that begins has to be trained, too. In brackets where that bounds it: the most that "
        "any schedule of the same training could reach.",
        ["", *map(_workers, WORKERS)],
        [
            [
                _name(search, straggling),
                *(_speedup(found, Case(search, straggling, trials, workers)) for workers in WORKERS),
            ]
            for search in searches
            for straggling in (False, True)
        ],
    )


def _speedup(found: Mapping[Case, Scale], case: Case) -> str:
    alone, scale = found[case._replace(workers=1)].wall, found[case]
    reached, most = (_number(alone / seconds) for seconds in (scale.wall, scale.bound))
    return f"{reached} ({most})" if scale.longest == scale.bound else reached


def _number(speedup: float) -> str:
    return f"{speedup:,.0f}" if speedup >= 100 else f"{speedup:.3g}"


def _workers(number: int) -> str:
    return f"{number:,} worker{'s' * (number > 1)}"


def _name(search: str, straggling: bool) -> str:
    return f"`{search}`{', stragglers' * straggling}"


# -- what simulating costs --------------------------------------------------------------------------


def _speed(sizes: tuple[int, ...]) -> Table:
    rows = []
    for trials in sizes:
        print(f"  simulating {trials:,} trials", file=sys.stderr)
        command = [sys.executable, "-m", "benchmarks.scaling", str(trials)]
        rows.append([f"{trials:,} trials", *json.loads(subprocess.check_output(command))])
    return Table(
        "Simulation speed",
        "An adaptive experiment (`standard`, paces that differ) on 500 virtual workers through search, experiment, "
        "engine and simulated backend, in a process of its own. Processor time is what it takes where nobody else "
        "needs the processor. Aim: under 5 s for 10,000 trials, under 300 s and 2,000 MB for 1,000,000.",
        ["", "seconds", "of processor time", "peak MB"],
        rows,
    )


def _measure(trials: int) -> None:
    """Simulate, and print what it took: seconds, those of the processor, and the peak memory in MB."""
    settings = SearchSettings(max_length=MAX_LENGTH, max_trials=trials, max_concurrent_trials=0, **SEARCHES["standard"])
    spec = spec_of(settings)
    begin, used = time.perf_counter(), time.process_time()
    simulate(Experiment(spec), SimulatedBackend(spec, Exchangeable(spread=1.5, noise=0.3), 500))
    took = time.perf_counter() - begin, time.process_time() - used
    print(json.dumps([*(round(seconds, 2) for seconds in took), peak_memory(os.getpid())]))


if __name__ == "__main__":
    _measure(int(sys.argv[1]))
