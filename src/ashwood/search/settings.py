"""What a search is asked to do, as plain data with the documented defaults."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction


class Method(StrEnum):
    """The search methods, by the names that experiment files use."""

    ADAPTIVE_ASHA = "adaptive_asha"
    ASYNC_HALVING = "async_halving"
    SYNC_HALVING = "sync_halving"
    RANDOM = "random"
    GRID = "grid"
    SINGLE = "single"

    @property
    def is_halving(self) -> bool:
        """Whether it compares trials before their end."""
        return self in (Method.ADAPTIVE_ASHA, Method.ASYNC_HALVING, Method.SYNC_HALVING)


class Mode(StrEnum):
    """Which brackets adaptive ASHA runs, from one that stops early to many that hardly do."""

    AGGRESSIVE = "aggressive"
    STANDARD = "standard"
    CONSERVATIVE = "conservative"
    AUTO = "auto"
    """One bracket with every rung, and new trials are compared from the first rung on that can be trusted."""


class Sampler(StrEnum):
    """How hyperparameters are drawn."""

    RANDOM = "random"
    DENSITY = "density"
    """Where good trials have been; see `ashwood.search.density`."""


MOST_TRIALS = 10_000_000
"""The most trials of a search that an experiment file can ask for."""

AUTO_DIVISOR = Fraction(5, 2)
"""What ``mode: auto`` takes where no divisor is given.  Chosen by ``benchmarks/quality``; theory has e (Jamieson and
Talwalkar 2016, arXiv:1502.07943, section 3)."""

AUTO_MAX_RUNGS = 7
"""What ``mode: auto`` takes where max_rungs isn't given: down to max_length / 244, as far as others with divisor 4."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSettings:
    """The settings of a search.

    Attributes:
        method: the search method.
        max_length: the longest training length, a total in the experiment's unit; at least 1.
        max_trials: how many trials to create in all; for ``grid`` the number of grid points, for
            ``single`` 1.
        max_concurrent_trials: how many trials may train at once; 0: as many as there is room for.
        mode: the brackets of adaptive ASHA.
        divisor: one trial in so many goes on to the next rung; any real above 1, held exactly.
        max_rungs: the most rungs of a bracket of adaptive ASHA.
        bracket_rungs: the number of rungs of each bracket, instead of what ``mode`` gives.
        num_rungs: the number of rungs of the one bracket of ``async_halving`` and ``sync_halving``.
        stop_once: decide once, when a trial reports: go on or stop for good; nothing pauses.
        sampler: how hyperparameters are drawn.
    """

    method: Method
    max_length: int
    max_trials: int
    max_concurrent_trials: int = 16
    mode: Mode = Mode.STANDARD
    divisor: Fraction = Fraction(4)
    max_rungs: int = 5
    bracket_rungs: tuple[int, ...] = ()
    num_rungs: int | None = None
    stop_once: bool = False
    sampler: Sampler = Sampler.RANDOM
