"""Asynchronous successive halving, by promotion.

When a worker is free, the best trial that may be promoted is, from the highest rung down.  If
no trial may be promoted, a new one starts.  No worker waits for a rung to fill.  The price is
that early results can be promoted while their rung is small.

Source: Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning"
(arXiv:1810.05934), Algorithm 2.  Three things are not in the paper: every bracket trains at
least one trial to the end, trials that can't be promoted any more are stopped, and a share of the
promotions can be given to trials that are drawn at random (`ashwood.search.audits`).
"""

from __future__ import annotations

from ashwood.search.bracket import Bracket, reached_end
from ashwood.search.rung import Candidate, Rung
from ashwood.search.vocabulary import Audited, Job, LastChance, Pause, Promoted, TrialId, Verdict, Waits


class AshaBracket(Bracket):
    """A bracket of ASHA.  With a single rung every trial trains to the end, as in random and grid search."""

    def _promotion(self) -> Job | None:
        for at in self._downwards:
            if self.rungs[at].ready and (found := self._candidate(at)) is not None:
                if (drawn := self.rungs[at].audited()) is not None:
                    return self._promote(at, drawn, Audited(at, drawn.rank, drawn.of))
                return self._promote(at, found, Promoted(at, found.rank, found.of, found.best))
        if (chance := self._last_chance()) is not None:
            at, found = chance
            return self._promote(at, found, LastChance(at, found.rank, found.of))
        return None

    @property
    def _has_promotion(self) -> bool:
        return any(self._candidate(at) is not None for at in self._downwards) or self._last_chance() is not None

    def _candidate(self, at: int) -> Candidate | None:
        """Return the trial that may be promoted from a rung now, or None."""
        return self.rungs[at].candidate()

    def _last_chance(self) -> tuple[int, Candidate] | None:
        """Return the trial to promote so that at least one trial reaches the last rung: the best of the highest rung.

        The index of the rung comes first.  Return None if a trial has reached the last rung or can still reach it.
        """
        if not self._dry or self.rungs[-1].has_live_results():
            return None
        for at in self._downwards:
            if (found := self.rungs[at].best_waiting()) is not None:
                return at, found
        return None

    def _promote(self, at: int, found: Candidate, why: Promoted | Audited | LastChance) -> Job:
        self.rungs[at].promote(found.trial)
        self._send(found.trial, at + 1)
        return Job(found.trial, self.rungs[at + 1].length, why)

    def _judge(self, trial: TrialId, at: int, _length: int, loss: float) -> Verdict:
        rung = self.rungs[at]
        rank = rung.add(trial, loss)
        if rung is self.rungs[-1]:
            return reached_end(self)
        return Pause(Waits(at, rank, len(rung), rung.quota))

    def _rung_to_fail(self, trial: TrialId) -> Rung | None:
        if (towards := self._towards(trial)) is not None:
            return self.rungs[towards]
        return next((rung for rung in self.rungs[:-1] if rung.waits(trial)), None) if not self.finished else None

    def _settle(self) -> None:
        if self._dry:
            self.finished = not self._has_promotion
