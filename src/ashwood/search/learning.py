"""Asynchronous halving that learns which rungs predict the final ranking: ``mode: auto``.

A short training may predict little about a long one, or even the opposite.  Three rules protect a
search from that:

- The trials that were compared at the first rung and trained to the second show whether their
  rankings agree.  If they hardly do, new trials are compared from the second rung on, and so forth.
- If nearly all results at a rung are equal, their order says nothing, so new trials skip this rung.
- Both rules need results, and a low rung can also rank most trials well but the best ones badly.
  So half of the training goes to trials that are compared from the next rung on.  In
  ``benchmarks/quality`` this costs nothing where the first rung is good.

If no rung but the last one is left, all new trials train to the end, as in random search.

Source: Li et al. 2022, "Hyper-Tune" (arXiv:2201.06834), section 4.1, and Bohdal et al. 2023,
"PASHA" (arXiv:2207.06940), section 4.2, measure a rung by the agreement of its ranking with
that of a higher rung.  Hyperband (Li et al. 2018, arXiv:1603.06560) divides the training among
brackets that start at different rungs.  How new trials skip rungs is our own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from ashwood.search.asha import AshaBracket
from ashwood.search.plan import BracketPlan
from ashwood.search.rung import Key
from ashwood.search.trust import kendall_tau
from ashwood.search.vocabulary import Created, CreatedHedged, CreatedHigher, Job, New, Snapshot, TrialId, Verdict

ENOUGH = 12
"""Number of trials with results at two rungs that are needed to compare their rankings."""

MISLEADS = 0.2
"""A rung is skipped if Kendall's tau-b of its ranking and that at the next rung is at most this."""

LATEST = 48
"""Number of trials that are compared at most; the latest are."""

ENOUGH_TIES = 8
"""Number of results at a rung that are needed to judge by ties."""

_FORMER_ENOUGH = 16
"""`ENOUGH` before rules 5."""


class LearningBracket(AshaBracket):
    """A bracket of ASHA in which new trials skip rungs that do not predict later results.

    Attributes:
        entry: lowest rung at which new trials are compared.
    """

    def __init__(
        self,
        number: int,
        plan: BracketPlan,
        divisor: Fraction,
        *,
        audit: Fraction = Fraction(0),
        seed: int = 0,
        hedged: bool = True,
    ) -> None:
        super().__init__(number, plan, divisor, audit=audit, seed=seed)
        self.entry = 0
        self._hedged = hedged
        self._entered = [0] * len(self.rungs)
        # Total length of all jobs of the trials that were first compared at each rung.
        self._trained = [0] * len(self.rungs)
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
            if self._misleads():
                self._skip_to(self.entry + 1)
        # Higher rungs hold the best of lower ones, which can be equal although the lower rung is good.
        if self._hedged and at == self.entry < len(self.rungs) - 1 and self._is_tied(at):
            self._skip_to(at + 1)
        return verdict

    def extend(self, plan: BracketPlan) -> list[TrialId]:
        """Extend the bracket to the rungs and the trials of a plan; see `Bracket.extend`."""
        for counts in (self._entered, self._trained):
            counts += [0] * (len(plan.lengths) - len(counts))
        return super().extend(plan)

    def next_job(self, fresh: TrialId) -> Job | None:
        """Return what a free worker should train, or None; a new trial gets the id ``fresh``."""
        job = super().next_job(fresh)
        if job is not None and job.trial == fresh:
            self._entered[self.training[fresh]] += 1
        return job

    def _send(self, trial: TrialId, towards: int) -> None:
        super()._send(trial, towards)
        entered = towards
        while entered and trial in self.rungs[entered - 1]:
            entered -= 1
        self._trained[entered] += self.rungs[towards].length
        if entered < towards:
            self._trained[entered] -= self.rungs[towards - 1].length

    def _enter(self, nth: int) -> tuple[int, New]:
        higher = self.entry + 1
        if self._hedged and higher < len(self.rungs) and self._trained[higher] < self._trained[self.entry]:
            return higher, CreatedHedged(self.number, nth, higher)
        why = CreatedHigher(self.number, nth, self.entry) if self.entry else Created(self.number, nth)
        return self.entry, why

    def _expected_entries(self, new: int) -> Sequence[int]:
        entries = [0] * len(self.rungs)
        entries[self.entry] = new
        if self._hedged and self.entry + 1 < len(self.rungs):
            here, higher = self._expected_length(self.entry), self._expected_length(self.entry + 1)
            entries[self.entry + 1] = int(new * here / (here + higher))
            entries[self.entry] -= entries[self.entry + 1]
        return entries

    def _expected_length(self, entry: int) -> Fraction:
        """Return the mean total length of the trials that are first compared at a rung.

        As long as there are few of them, it is the length if each rung promotes its share.
        """
        if self._entered[entry] >= ENOUGH:
            return Fraction(self._trained[entry], self._entered[entry])
        total, share = Fraction(self.rungs[entry].length), Fraction(1)
        for below, rung in zip(self.rungs[entry:], self.rungs[entry + 1 :], strict=False):
            share /= self._divisor
            total += share * (rung.length - below.length)
        return total

    def _skip_to(self, rung: int) -> None:
        self.entry = rung
        self._both.clear()

    def _misleads(self) -> bool:
        """Return whether the rankings at the entry rung and at the next rung agree too little."""
        here, there = self.rungs[self.entry], self.rungs[self.entry + 1]
        pairs = [(a, b) for trial in self._both if (a := here.key(trial)) and (b := there.key(trial))]
        if not self._hedged:
            return len(self._both) >= _FORMER_ENOUGH and _agreement(pairs) <= 0
        lower, upper = [a[:2] for a, _ in pairs], [b[:2] for _, b in pairs]
        # Promoted trials that are all equal at one of the rungs show nothing.
        comparable = len(pairs) >= ENOUGH and len(set(lower)) > 1 and len(set(upper)) > 1
        return comparable and kendall_tau(lower, upper) <= MISLEADS

    def _is_tied(self, at: int) -> bool:
        """Return whether at least 4 of 5 results at a rung are equal, and chance decides which are promoted."""
        rung = self.rungs[at]
        return len(rung) >= ENOUGH_TIES and 5 * rung.tied() >= 4 * len(rung)

    def snapshot(self) -> dict[str, Any]:
        """Return the state as JSON-able data."""
        learned = {"entry": self.entry, "entered": self._entered, "trained": self._trained, "both": list(self._both)}
        return super().snapshot() | learned

    def restore(self, snapshot: Snapshot) -> None:
        """Set the state to that of a `snapshot`."""
        super().restore(snapshot)
        self.entry = snapshot["entry"]
        self._entered = list(snapshot["entered"])
        self._trained = list(snapshot["trained"])
        self._both = deque(snapshot["both"], maxlen=LATEST)


def _agreement(pairs: Sequence[tuple[Key, Key]]) -> int:
    """Return the number of pairs of trials with the same order at both rungs minus the number of all other pairs."""
    return sum(
        1 if (one[0] < other[0]) == (one[1] < other[1]) else -1
        for nth, one in enumerate(pairs)
        for other in pairs[:nth]
    )
