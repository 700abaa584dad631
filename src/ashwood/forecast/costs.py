"""The conditions of a simulation: times besides training, faults, and the number of workers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf, log1p
from statistics import NormalDist

from ashwood.search.draw import unit_draw

NORMAL = NormalDist()
"""The standard normal distribution."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Durations of everything but training itself, in seconds.

    Attributes:
        start: time from the assignment of a worker until the first step begins.
        restore: additional time if the attempt resumes from a checkpoint.
        save: time to save a checkpoint at the end of an attempt, until its worker is free.
        straggling: standard deviation of a normal variable z; each segment of training takes 1 + abs(z) times as long.
    """

    start: float = 0.0
    restore: float = 0.0
    save: float = 0.0
    straggling: float = 0.0

    def setting_up(self, length: int) -> float:
        """Return the seconds until a new process begins to train from ``length``."""
        return self.start + self.restore if length else self.start

    def delay(self, seed: int, length: int) -> float:
        """Return the random factor by which a trial with this ``seed`` is slower when it trains from ``length``.

        Source: Li et al. 2020 (arXiv:1810.05934), appendix A.1.
        """
        if not self.straggling:
            return 1.0
        return 1.0 + abs(self.straggling * normal_draw(seed, "straggles", length))


NO_COSTS = Costs()
"""Nothing but training takes time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """Rates of faults, per second that a worker is busy.

    Attributes:
        crashes: rate at which a trial's process fails.
        preemptions: rate at which a trial loses its worker, which is replaced at once.
    """

    crashes: float = 0.0
    preemptions: float = 0.0

    def crash_after(self, seed: int, attempt: int) -> float:
        """Return the seconds of work after which an attempt crashes, or infinity."""
        return _waiting_time(self.crashes, seed, "crashes", attempt)

    def preempted_after(self, seed: int, attempt: int) -> float:
        """Return the seconds of work after which an attempt is preempted, or infinity."""
        return _waiting_time(self.preemptions, seed, "preempted", attempt)


def _waiting_time(rate: float, seed: int, what: str, attempt: int) -> float:
    return -log1p(-unit_draw(seed, what, attempt)) / rate if rate else inf


def normal_draw(seed: int, *address: int | str) -> float:
    """Return a draw from the standard normal distribution for an address."""
    return NORMAL.inv_cdf(unit_draw(seed, *address) or 2.0**-54)


NO_FAULTS = Faults()
"""No faults."""


@dataclass(frozen=True, slots=True)
class Workers:
    """The number of workers over time.

    Attributes:
        changes: pairs of seconds since the start and number of workers, in order of time; the first is at 0.
    """

    changes: Sequence[tuple[float, int]]

    def __post_init__(self) -> None:
        times = [at for at, _ in self.changes]
        if not times or times[0] != 0 or any(b <= a for a, b in pairwise(times)):
            raise ValueError(f"the times of changes must begin at 0 and rise, not {times}")
        if any(number < 0 for _, number in self.changes):
            raise ValueError(f"numbers of workers must be at least 0, not {min(number for _, number in self.changes)}")

    @classmethod
    def always(cls, number: int) -> Workers:
        """Return a constant number of workers."""
        return cls(((0.0, number),))

    @property
    def first(self) -> int:
        """Number of workers at the start."""
        return self.changes[0][1]

    def later(self) -> Iterator[tuple[float, int]]:
        """Return the changes after the start."""
        return iter(self.changes[1:])
