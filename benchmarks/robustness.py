"""Stragglers and dropped jobs: the two experiments of the ASHA paper, on our engine in virtual time.

25 workers search for 2,000 units of time, with one unit for one of resource, r = 1, R = 256,
eta = 4 and n = 256.  A job takes 1 + |z| times as long as it should, z being drawn from a
normal distribution, and is dropped with some probability in each unit of time.

Source: Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning"
(arXiv:1810.05934), appendix A.1.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import product
from math import log1p
from multiprocessing import get_context
from statistics import fmean
from typing import NamedTuple

from ashwood.backends.simulated import SimulatedBackend
from ashwood.engine.simulate import simulate
from ashwood.experiment.decisions import CompleteTrial
from ashwood.experiment.entry import Entry
from ashwood.experiment.experiment import Experiment
from ashwood.forecast.costs import Costs, Faults
from ashwood.forecast.training import Exchangeable, Setting, Trained
from ashwood.search.settings import Method, SearchSettings
from ashwood.search.sha import ShaBracket
from ashwood.search.tournament import Tournament
from benchmarks.tables import FIGURES, Options, Table
from benchmarks.virtual import spec_of

WORKERS = 25
TIME = 2_000.0
MAX_LENGTH = 256
RUNGS = 5
BRACKET = 256
DEVIATIONS = (0.1, 0.24, 0.56, 1.33)
DROPS = (0.0, 0.002, 0.004, 0.006, 0.008, 0.01)
METHODS = ("ASHA", "synchronous SHA")

_SIMULATIONS = 25
_BRACKETS = 60
"""More than can begin in the time."""

_CORNERS = tuple(product((DEVIATIONS[0], DEVIATIONS[-1]), (DROPS[0], DROPS[-1])))
_FIGURE = FIGURES / "robustness.svg"


class Case(NamedTuple):
    """What is simulated.

    Attributes:
        method: one of `METHODS`.
        deviation: standard deviation of z.
        drop: the probability that a job is dropped in a unit of time.
        recovers: as Ashwood does it: jobs go on from checkpoints, and dropped ones are tried again; otherwise, as in
            the paper, every job trains from scratch, and the trial of a dropped one is lost.
    """

    method: str
    deviation: float
    drop: float
    recovers: bool = False


class Outcome(NamedTuple):
    """Averages over simulations.

    Attributes:
        completed: how many trials trained to the end in the time.
        first: when the first of them had; `TIME`, where none did.
    """

    completed: float
    first: float


class PlainHalving(ShaBracket):
    """Without what Ashwood adds: a bracket whose best trials are lost sends no others to the end."""

    def _last_chance(self) -> None:
        return None


class SyncBrackets(Tournament):
    """Brackets of synchronous halving: another one begins when those before have no job (section 3.1)."""

    def __init__(self, settings: SearchSettings) -> None:
        super().__init__(settings)
        self.brackets = [PlainHalving(number, plan, settings.divisor) for number, plan in enumerate(self.plan.brackets)]

    def _neediest_first(self) -> Sequence[int]:
        return range(len(self.brackets))


class FromScratch(NamedTuple):
    """Training that begins anew in each job."""

    training: Exchangeable

    def train(self, setting: Setting, _begin: int, end: int) -> Trained:
        """Train a trial to a total length of ``end``."""
        return self.training.train(setting, 0, end)


def tables(options: Options) -> Iterator[Table]:
    """Measure; ``quick`` averages over 3 simulations of the corners alone."""
    simulations = 3 if options.quick else _SIMULATIONS
    grid = _CORNERS if options.quick else tuple(product(DEVIATIONS, DROPS))
    papers = [Case(method, *at) for at in grid for method in METHODS]
    ours = [Case(method, *at, recovers=True) for at in _CORNERS for method in METHODS]
    found = _outcomes(papers + ours, simulations)
    yield _table(
        "Robustness: trials trained to the end",
        f"How many trials {WORKERS} workers train to R = {MAX_LENGTH} in {TIME:,.0f} units of time, on average over "
        f"{simulations} simulations, by the standard deviation of stragglers and the probability that a job is dropped "
        "in a unit of time. As in the paper a job trains from scratch, and a dropped one is lost with its trial.",
        found,
        grid,
        "completed",
    )
    yield _table(
        "Robustness: the first trial trained to the end",
        f"When the first trial was trained to R, in units of time; {TIME:,.0f} where none was.",
        found,
        grid,
        "first",
    )
    yield _recovery(found)
    if not options.quick:
        from benchmarks.plots import draw_robustness  # matplotlib is for this alone

        draw_robustness(found, _FIGURE)


def _table(
    title: str, note: str, found: Mapping[Case, Outcome], grid: Sequence[tuple[float, float]], what: str
) -> Table:
    drops = sorted({drop for _, drop in grid})
    return Table(
        title,
        note,
        ["standard deviation", "", *(f"drop {drop:g}" for drop in drops)],
        [
            [f"{deviation:g}", method, *(getattr(found[Case(method, deviation, drop)], what) for drop in drops)]
            for deviation in sorted({deviation for deviation, _ in grid})
            for method in METHODS
        ],
    )


def _recovery(found: Mapping[Case, Outcome]) -> Table:
    def cell(case: Case) -> str:
        return f"{found[case].completed:.1f}, {found[case].first:,.0f}"

    return Table(
        "Robustness: with checkpoints and restarts",
        "The same with what Ashwood does by itself: jobs go on from checkpoints, and a dropped one is tried again from "
        "there, up to five times a trial. Trials trained to the end, and when the first was.",
        ["standard deviation", "drop", *METHODS, *(f"{method}, lost and from scratch" for method in METHODS)],
        [
            [
                f"{deviation:g}",
                f"{drop:g}",
                *(cell(Case(method, deviation, drop, recovers)) for recovers in (True, False) for method in METHODS),
            ]
            for deviation, drop in _CORNERS
        ],
    )


# -- simulations -------------------------------------------------------------------------------------


def _outcomes(cases: Sequence[Case], simulations: int) -> dict[Case, Outcome]:
    """Averages, computed on as many processes as this one has cores."""
    jobs = [(case, seed) for case in cases for seed in range(simulations)]
    found: dict[Case, list[Outcome]] = {case: [] for case in cases}
    with get_context("spawn").Pool(len(os.sched_getaffinity(0))) as pool:
        for done, (case, outcome) in enumerate(pool.imap_unordered(_simulate, jobs), start=1):
            found[case].append(outcome)
            if done % 100 == 0:
                print(f"  {done} of {len(jobs)} simulations", file=sys.stderr)
    return {case: Outcome(*map(fmean, zip(*outcomes, strict=True))) for case, outcomes in found.items()}


def _simulate(job: tuple[Case, int]) -> tuple[Case, Outcome]:
    case, seed = job
    spec = spec_of(_settings(case), seed, max_time=TIME, max_restarts=5 if case.recovers else 0)
    experiment = Experiment(spec)
    if case.method != METHODS[0]:
        experiment.search = SyncBrackets(spec.search)
    model = Exchangeable(noise=0.3)
    backend = SimulatedBackend(
        spec,
        model if case.recovers else FromScratch(model),
        WORKERS,
        costs=Costs(straggling=case.deviation),
        faults=Faults(crashes=-log1p(-case.drop)),
    )
    completed: list[float] = []

    def observe(entries: Sequence[Entry]) -> None:
        completed.extend(
            entry.at for entry in entries for decision in entry.decisions if isinstance(decision, CompleteTrial)
        )

    simulate(experiment, backend, observers=[observe])
    return case, Outcome(len(completed), completed[0] if completed else TIME)


def _settings(case: Case) -> SearchSettings:
    # One bracket of ASHA grows without end; of SHA as many begin as there is work for.
    brackets = 1 if case.method == METHODS[0] else _BRACKETS
    return SearchSettings(
        method=Method.ADAPTIVE_ASHA,
        max_length=MAX_LENGTH,
        max_trials=BRACKET * _BRACKETS,
        max_concurrent_trials=0,
        divisor=Fraction(4),
        bracket_rungs=(RUNGS,) * brackets,
    )
