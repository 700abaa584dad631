"""Asynchronous successive halving, by stopping: a trial goes on at once or ends for good.

No trial waits, so training code needs no checkpoints.  A trial that reports is compared
with those that reported before it, never with those that come later.

Somebody trains to the end unless trials fail: who was stopped can't be called back when
the one ahead fails later.  Only the last trial left goes on whatever its rank.

Source: Liaw et al. 2018, "Tune: A Research Platform for Distributed Model Selection and
Training" (arXiv:1807.05118), its ASHA; and Klein et al. 2020 (arXiv:2003.10865), section 3.1.
"""

from __future__ import annotations

from typing import ClassVar

from ashwood.search.bracket import Bracket, reached_end
from ashwood.search.rung import Rung
from ashwood.search.vocabulary import Dropped, GoOn, Job, LastChance, Promoted, Retired, Stop, TrialId, Verdict


class StoppingHalving(Bracket):
    """One bracket of the stopping variant (``stop_once``)."""

    least: ClassVar[int] = 1

    def retired(self) -> list[Retired]:
        """None: no trial waits."""
        return []

    def _promotion(self) -> Job | None:
        return None

    @property
    def _has_promotion(self) -> bool:
        return False

    def _judge(self, trial: TrialId, at: int, length: int, loss: float) -> Verdict:
        """A validation past several rungs counts in each of them, and must be among the best in each."""
        fell: Dropped | None = None
        passed = at
        for number in range(at, len(self.rungs)):
            rung = self.rungs[number]
            if length < rung.length:
                break
            rank, best = rung.add(trial, loss), rung.quota
            passed = number
            why = Promoted(number, rank, len(rung), best)
            if fell is None and rank > best and rung is not self.rungs[-1]:
                fell = Dropped(number, rank, len(rung), best)
        if self.rungs[passed] is self.rungs[-1]:
            return reached_end(self)
        if fell is not None and not self._is_last_chance():
            return Stop(fell)
        self._send(trial, passed + 1)
        reason = why if fell is None else LastChance(fell.rung, fell.rank, fell.of)
        return GoOn(self.rungs[passed + 1].length, reason)

    def _is_last_chance(self) -> bool:
        """Whether no trial would reach the end without the one that reports now (those ahead failed)."""
        return self._dry and not self.rungs[-1].has_live_results()

    def _rung_to_fail(self, trial: TrialId) -> Rung | None:
        towards = self._towards(trial)
        return None if towards is None else self.rungs[towards]

    def _settle(self) -> None:
        self.finished = self._dry
