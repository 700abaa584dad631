"""What takes time besides training, and what goes wrong: the conditions that trials train under."""

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
    """What everything but training itself takes, in seconds.

    Attributes:
        start: from the moment that a trial gets a worker until its first step begins.
        restore: in addition, where it goes on from a checkpoint.
        save: from the moment that a trial is to let go with its checkpoint saved, until its worker is free.
        straggling: standard deviation of z: each stretch of training takes 1 + abs(z) times as long.
    """

    start: float = 0.0
    restore: float = 0.0
    save: float = 0.0
    straggling: float = 0.0

    def setting_up(self, length: int) -> float:
        """Seconds until a fresh process trains on from ``length``."""
        return self.start + self.restore if length else self.start

    def delay(self, seed: int, length: int) -> float:
        """How many times as long a stretch of training from ``length`` on takes as it should; ``seed``: the trial's.

        Source: Li et al. 2020 (arXiv:1810.05934), appendix A.1.
        """
        if not self.straggling:
            return 1.0
        return 1.0 + abs(self.straggling * normal_draw(seed, "straggles", length))


NO_COSTS = Costs()
"""Nothing but training takes time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """What goes wrong, each as a rate per second of a worker's time at work.

    Attributes:
        crashes: the trial's process fails.
        preemptions: the trial's worker is taken away, and another takes its place at once.
    """

    crashes: float = 0.0
    preemptions: float = 0.0

    def crash_after(self, seed: int, attempt: int) -> float:
        """Seconds of work after which an attempt crashes; infinite: never."""
        return _waiting_time(self.crashes, seed, "crashes", attempt)

    def preempted_after(self, seed: int, attempt: int) -> float:
        """Seconds of work after which an attempt is preempted; infinite: never."""
        return _waiting_time(self.preemptions, seed, "preempted", attempt)


def _waiting_time(rate: float, seed: int, what: str, attempt: int) -> float:
    return -log1p(-unit_draw(seed, what, attempt)) / rate if rate else inf


def normal_draw(seed: int, *address: int | str) -> float:
    """A draw from the standard normal distribution for an address."""
    return NORMAL.inv_cdf(unit_draw(seed, *address) or 2.0**-54)


NO_FAULTS = Faults()
"""Nothing goes wrong."""


@dataclass(frozen=True, slots=True)
class Workers:
    """How many workers there are, from when on.

    Attributes:
        changes: (seconds since the start, number of workers), rising in time; the first at 0.
    """

    changes: Sequence[tuple[float, int]]

    def __post_init__(self) -> None:
        times = [at for at, _ in self.changes]
        if not times or times[0] != 0 or any(b <= a for a, b in pairwise(times)):
            raise ValueError(f"the times of changes have to begin at 0 and to rise: {times}")
        if any(number < 0 for _, number in self.changes):
            raise ValueError("there can't be fewer than 0 workers")

    @classmethod
    def always(cls, number: int) -> Workers:
        """The same number all the time."""
        return cls(((0.0, number),))

    @property
    def first(self) -> int:
        """The number at the start."""
        return self.changes[0][1]

    def later(self) -> Iterator[tuple[float, int]]:
        """The changes after the start."""
        return iter(self.changes[1:])
