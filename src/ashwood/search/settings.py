"""The settings of a search, with their documented defaults."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from fractions import Fraction
from typing import NamedTuple


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
    """Which brackets adaptive ASHA runs: from one that stops early to several that hardly stop any trial."""

    AGGRESSIVE = "aggressive"
    STANDARD = "standard"
    CONSERVATIVE = "conservative"
    AUTO = "auto"
    """One bracket with all rungs, in which new trials skip the rungs that predict nothing."""


class Sampler(StrEnum):
    """How hyperparameters are drawn."""

    RANDOM = "random"
    DENSITY = "density"
    """Near the values of good trials; see `ashwood.search.density`."""


NO_LENGTH = 1 << 62
"""``max_length`` of a search in which training code decides how long a trial trains.  No report gets there: a trial is
complete when its training code returns."""

MOST_TRIALS = 10_000_000
"""Largest ``max_trials`` of an experiment file."""


MOST_RUNGS = 1_000
"""Limit of the number of rungs, which grows without limit as the divisor approaches 1."""


class ModeDefaults(NamedTuple):
    """Defaults of the settings that depend on the mode."""

    divisor: Fraction
    max_rungs: int
    sampler: Sampler
    audit: Fraction


DEFAULTS = ModeDefaults(Fraction(4), 5, Sampler.RANDOM, Fraction(0))
AUTO_DEFAULTS = ModeDefaults(Fraction(5, 2), 7, Sampler.DENSITY, Fraction(3, 100))
"""Defaults of ``mode: auto``.  The divisor was chosen by ``benchmarks/quality``; theory has e (Jamieson and Talwalkar
2016, arXiv:1502.07943, section 3).  The shortest rung is max_length / 244, about as with divisor 4 and 5 rungs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSettings:
    """The settings of a search.

    Attributes:
        method: the search method.
        max_length: the longest training length, a total in the experiment's unit; at least 1.  `NO_LENGTH` if training
            code decides how long a trial trains, which is possible if no trial is stopped early.
        max_trials: number of trials in all; for ``grid`` the number of grid points, for ``single`` 1.
        max_concurrent_trials: how many trials may train at once, or 0 for as many as there are slots.
        mode: the brackets of adaptive ASHA.
        divisor: one of ``divisor`` trials is promoted to the next rung; any real number above 1, stored exactly.
        max_rungs: largest number of rungs of a bracket of adaptive ASHA.
        bracket_rungs: the number of rungs of each bracket; if it is given, ``mode`` has no effect.
        num_rungs: the number of rungs of the one bracket of ``async_halving`` and ``sync_halving``.
        stop_once: a trial that reports at a rung continues or stops at once; no trial pauses.
        sampler: how hyperparameters are drawn.
        audit: share of promotions that are audits, from 0 to below 1, stored exactly; see `ashwood.search.audits`.  It
            has no effect unless `can_audit`.
        hedged: whether ``mode: auto`` gives half of the training to trials that skip a rung, and judges ties; False in
            searches from before rules 5.
        bracket_lengths: total lengths of the rungs of each bracket of an extended search.  If they are given,
            ``bracket_trials`` is given, too, and ``mode`` and the numbers of rungs have no effect.
        bracket_trials: number of trials of each bracket of an extended search.
        replicates: number of the best trials that train again with another seed, after all others.
    """

    method: Method
    max_length: int
    max_trials: int
    max_concurrent_trials: int = 16
    mode: Mode = Mode.STANDARD
    divisor: Fraction = DEFAULTS.divisor
    max_rungs: int = DEFAULTS.max_rungs
    bracket_rungs: tuple[int, ...] = ()
    num_rungs: int | None = None
    stop_once: bool = False
    sampler: Sampler = DEFAULTS.sampler
    bracket_lengths: tuple[tuple[int, ...], ...] = ()
    bracket_trials: tuple[int, ...] = ()
    audit: Fraction = DEFAULTS.audit
    hedged: bool = True
    replicates: int = 0

    def extended(
        self,
        max_length: int,
        bracket_lengths: tuple[tuple[int, ...], ...],
        bracket_trials: tuple[int, ...],
        replicates: int,
    ) -> SearchSettings:
        """Return the settings of an extended search, with these rungs and trials of each bracket."""
        return replace(
            self,
            max_length=max_length,
            max_trials=sum(bracket_trials),
            bracket_lengths=bracket_lengths,
            bracket_trials=bracket_trials,
            replicates=replicates,
        )

    @property
    def can_audit(self) -> bool:
        """Whether promotions can be audits: trials pause at rungs and are promoted before their rung is complete."""
        return self.method in (Method.ADAPTIVE_ASHA, Method.ASYNC_HALVING) and not self.stop_once

    @property
    def share_audited(self) -> Fraction:
        """Share of promotions that are audits: ``audit``, or 0 unless `can_audit`."""
        return self.audit if self.can_audit else Fraction(0)

    @property
    def effective_divisor(self) -> Fraction:
        """One of this many results of a large rung is promoted in the end: ``divisor``, or fewer with audits."""
        return max(Fraction(1), self.divisor * (1 - self.share_audited))

    @property
    def open_ended(self) -> bool:
        """Whether training code decides how long a trial trains."""
        return self.max_length == NO_LENGTH
