"""Searches played through without training anything: the real search code in virtual order.

How many trials ASHA promotes depends on what nobody knows beforehand: in which order
trials finish, how many of them train at once, and how well an early metric foretells a
late one.  So each simulation draws all three.  Metrics are exchangeable: no trial is
favoured by when it was created.
"""

from __future__ import annotations

from heapq import heappop, heappush
from math import sqrt
from typing import TypeAlias

from ashwood.search.draw import bits, unit_draw
from ashwood.search.settings import SearchSettings
from ashwood.search.tournament import Tournament
from ashwood.search.vocabulary import GoOn

Arrivals: TypeAlias = tuple[tuple[int, ...], ...]
"""How many trials reached each rung, by bracket."""

_SEED = 0
_PART_BITS = 21
_PART_MASK = (1 << _PART_BITS) - 1


def simulate(settings: SearchSettings, *, number: int, workers: int | None = None) -> Arrivals:
    """Play simulation ``number`` through: the same answer every time.

    A job takes as long as the training it adds, give or take a factor of up to 2.

    Args:
        settings: of the search.
        number: which simulation; each has its own draws.
        workers: how many trials train at once, where max_concurrent_trials is no less; None:
            drawn log-uniformly from 1 to max_concurrent_trials, to max_trials where that is unbounded.
    """
    search = Tournament(settings)
    bound = search.plan.max_concurrent_trials or settings.max_trials
    slots = min(workers or int((bound + 1) ** unit_draw(_SEED, number, "workers")), bound)
    # The correlation between a trial's metrics at two rungs is 1 - noise**2: spread from none to all,
    # but far more often strong than weak, as it is along learning curves.
    noise = unit_draw(_SEED, number, "noise") ** 2
    signal = sqrt(1 - noise * noise)
    spread = unit_draw(_SEED, number, "spread")
    qualities: list[float] = []
    lengths: list[int] = []
    # (when it ends, trial, target, loss); no trial trains twice at once, so a tie is settled by its id.
    running: list[tuple[float, int, int, float]] = []

    def start(now: float, trial: int, target: int) -> None:
        luck, pace, quality = _three_draws(number, trial, target)
        if trial == len(lengths):
            qualities.append(quality)
            lengths.append(0)
        took = (target - lengths[trial]) * 2.0 ** (spread * (2 * pace - 1))
        heappush(running, (now + took, trial, target, signal * qualities[trial] + noise * luck))
        lengths[trial] = target

    now = 0.0
    while True:
        while len(running) < slots and (job := search.next_job()) is not None:
            start(now, job.trial, job.target)
        if not running:
            return tuple(tuple(len(rung) for rung in bracket.rungs) for bracket in search.brackets)
        now, trial, target, loss = heappop(running)
        verdict = search.report(trial, target, loss)
        if isinstance(verdict, GoOn):
            start(now, trial, verdict.target)


def _three_draws(number: int, trial: int, target: int) -> tuple[float, float, float]:
    """Three uniform draws from one address: addresses are what a simulation spends most of its time on."""
    drawn = bits(_SEED, number, trial, target)
    scale = 2.0**-_PART_BITS
    return (
        (drawn & _PART_MASK) * scale,
        (drawn >> _PART_BITS & _PART_MASK) * scale,
        (drawn >> 2 * _PART_BITS & _PART_MASK) * scale,
    )
