"""Asynchronous halving that learns from which rung on a comparison can be trusted: ``mode: auto``.

A short training may say little about a long one, or the opposite.  The trials show it: of
those that were compared at the first rung and trained on to the second, are the better ones
still the better ones?  Where their rankings agree no more than by chance, new trials are
compared from the second rung on, and so forth.  Only the better part of a first rung trains
on, which hides some of its agreement, so no more than this is asked of it.

Source: to measure a rung by how its ranking agrees with one further up is the idea of Li et
al. 2022, "Hyper-Tune" (arXiv:2201.06834), section 4.1, and of Bohdal et al. 2023, "PASHA"
(arXiv:2207.06940), section 4.2; what follows from it here is our own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from ashwood.search.asha import AsyncHalving
from ashwood.search.plan import BracketPlan
from ashwood.search.rung import Key
from ashwood.search.vocabulary import Job, Snapshot, TrialId, Verdict

ENOUGH = 16
"""So many trials have to be known at two rungs before their rankings there are compared."""

LATEST = 48
"""No more than so many are compared, the latest."""


class LearningHalving(AsyncHalving):
    """One bracket of ASHA whose new trials skip rungs that can't be trusted."""

    def __init__(self, number: int, plan: BracketPlan, divisor: Fraction) -> None:
        super().__init__(number, plan, divisor)
        self._entered = [0] * len(self.rungs)
        # The latest trials that were compared at the entry and at the next rung.
        self._both: deque[TrialId] = deque(maxlen=LATEST)

    @property
    def arrivals(self) -> Sequence[int]:
        """How many trials reached each rung, or one above it."""
        return [len(rung) + sum(self._entered[at + 1 :]) for at, rung in enumerate(self.rungs)]

    def _judge(self, trial: TrialId, at: int, length: int, loss: float) -> Verdict:
        verdict = super()._judge(trial, at, length, loss)
        if at == self.entry + 1 and trial in self.rungs[self.entry]:
            self._both.append(trial)
            self._learn()
        return verdict

    def next_job(self, fresh: TrialId) -> Job | None:
        """What a free worker should do; a new trial takes the id ``fresh``."""
        job = super().next_job(fresh)
        if job is not None and job.trial == fresh:
            self._entered[self.entry] += 1
        return job

    def _learn(self) -> None:
        """Move the entry up by a rung where its ranking has nothing to do with that of trials that trained on."""
        if len(self._both) >= ENOUGH and self._agreement() <= 0:
            self.entry += 1
            self._both.clear()

    def _agreement(self) -> int:
        """How many more pairs of trials rank alike at the entry and at the next rung than the other way round.

        The numerator of Kendall's rank correlation.
        """
        here, there = self.rungs[self.entry], self.rungs[self.entry + 1]
        pairs = [(a, b) for trial in self._both if (a := here.key(trial)) and (b := there.key(trial))]
        return sum(_alike(one, other) for nth, one in enumerate(pairs) for other in pairs[:nth])

    def snapshot(self) -> dict[str, Any]:
        """The state as JSON-able data."""
        learned = {"entry": self.entry, "entered": self._entered, "both": list(self._both)}
        return super().snapshot() | learned

    def restore(self, snapshot: Snapshot) -> None:
        """Take back what `snapshot` gave."""
        super().restore(snapshot)
        self.entry = snapshot["entry"]
        self._entered = list(snapshot["entered"])
        self._both = deque(snapshot["both"], maxlen=LATEST)


def _alike(one: tuple[Key, Key], other: tuple[Key, Key]) -> int:
    """1 where two trials rank the same way round at both rungs, -1 where they don't."""
    return 1 if (one[0] < other[0]) == (one[1] < other[1]) else -1
