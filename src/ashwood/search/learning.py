"""Asynchronous halving that learns which rungs predict the final ranking: ``mode: auto``.

A short training may predict little about a long one, or even the opposite.  The trials that
were compared at the first rung and trained to the second show it.  If their rankings at the
two rungs agree only by chance, new trials are compared from the second rung on, and so forth.
Only the better trials of a rung are promoted, which hides a part of its agreement.  So a rung
is trusted if the agreement is any better than chance.

Source: Li et al. 2022, "Hyper-Tune" (arXiv:2201.06834), section 4.1, and Bohdal et al. 2023,
"PASHA" (arXiv:2207.06940), section 4.2, measure a rung by the agreement of its ranking with
that of a higher rung.  How new trials skip rungs is our own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from ashwood.search.asha import AshaBracket
from ashwood.search.plan import BracketPlan
from ashwood.search.rung import Key
from ashwood.search.vocabulary import Job, Snapshot, TrialId, Verdict

ENOUGH = 16
"""Number of trials with results at two rungs that are needed to compare their rankings."""

LATEST = 48
"""Number of trials that are compared at most; the latest are."""


class LearningBracket(AshaBracket):
    """A bracket of ASHA in which new trials skip rungs that do not predict later results."""

    def __init__(
        self, number: int, plan: BracketPlan, divisor: Fraction, *, audit: Fraction = Fraction(0), seed: int = 0
    ) -> None:
        super().__init__(number, plan, divisor, audit=audit, seed=seed)
        self._entered = [0] * len(self.rungs)
        # The latest trials that have results both at the entry and at the next rung.
        self._both: deque[TrialId] = deque(maxlen=LATEST)

    @property
    def arrivals(self) -> Sequence[int]:
        """How many trials reached each rung or skipped it."""
        return [len(rung) + sum(self._entered[at + 1 :]) for at, rung in enumerate(self.rungs)]

    def _judge(self, trial: TrialId, at: int, length: int, loss: float) -> Verdict:
        verdict = super()._judge(trial, at, length, loss)
        if at == self.entry + 1 and trial in self.rungs[self.entry]:
            self._both.append(trial)
            self._learn()
        return verdict

    def extend(self, plan: BracketPlan) -> list[TrialId]:
        """Extend the bracket to the rungs and the trials of a plan; see `Bracket.extend`."""
        self._entered += [0] * (len(plan.lengths) - len(self._entered))
        return super().extend(plan)

    def next_job(self, fresh: TrialId) -> Job | None:
        """Return what a free worker should train, or None; a new trial gets the id ``fresh``."""
        job = super().next_job(fresh)
        if job is not None and job.trial == fresh:
            self._entered[self.entry] += 1
        return job

    def _learn(self) -> None:
        """Move the entry to the next rung if the rankings at these two rungs do not agree."""
        if len(self._both) >= ENOUGH and self._agreement() <= 0:
            self.entry += 1
            self._both.clear()

    def _agreement(self) -> int:
        """Return the numerator of Kendall's tau between the rankings at the entry rung and at the next rung.

        It is the number of pairs of trials with the same order at both rungs minus the number of all other pairs.
        """
        here, there = self.rungs[self.entry], self.rungs[self.entry + 1]
        pairs = [(a, b) for trial in self._both if (a := here.key(trial)) and (b := there.key(trial))]
        return sum(_alike(one, other) for nth, one in enumerate(pairs) for other in pairs[:nth])

    def snapshot(self) -> dict[str, Any]:
        """Return the state as JSON-able data."""
        learned = {"entry": self.entry, "entered": self._entered, "both": list(self._both)}
        return super().snapshot() | learned

    def restore(self, snapshot: Snapshot) -> None:
        """Set the state to that of a `snapshot`."""
        super().restore(snapshot)
        self.entry = snapshot["entry"]
        self._entered = list(snapshot["entered"])
        self._both = deque(snapshot["both"], maxlen=LATEST)


def _alike(one: tuple[Key, Key], other: tuple[Key, Key]) -> int:
    """Return 1 if two trials have the same order at both rungs, otherwise -1."""
    return 1 if (one[0] < other[0]) == (one[1] < other[1]) else -1
