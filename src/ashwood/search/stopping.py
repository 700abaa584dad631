"""Asynchronous successive halving with stopping: a trial that reports continues at once or ends.

No trial pauses, so training code needs no checkpoints.  A trial that reports is compared with
those that reported before it, never with those that report later.

A stopped trial can't be resumed if the one that was ahead fails later.  So that at least one
trial trains to the end, the last trial that is left continues whatever its rank.

Source: Liaw et al. 2018, "Tune: A Research Platform for Distributed Model Selection and
Training" (arXiv:1807.05118), its ASHA; and Klein et al. 2020 (arXiv:2003.10865), section 3.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from ashwood.search.bracket import Bracket, reached_end
from ashwood.search.rung import Rung
from ashwood.search.vocabulary import Dropped, Job, LastChance, Promote, Promoted, Retired, Stop, TrialId, Verdict


class StoppingBracket(Bracket):
    """A bracket of the stopping variant (`SearchSettings.stop_once`)."""

    least: ClassVar[int] = 1

    def retired(self) -> list[Retired]:
        """Return an empty list: no trial pauses."""
        return []

    def _leave_top(self, top: int) -> Sequence[TrialId]:
        """Let those trials train on that would have continued at once if the bracket had always had more rungs."""
        found = self.rungs[top].best_on_arrival()
        for trial, rank, of, best in found:
            self._queue(trial, top + 1, Promoted(top, rank, of, best))
            self.given += self.rungs[top + 1].length - self.rungs[top].length
        return [each.trial for each in found]

    def _promotion(self) -> Job | None:
        return None

    @property
    def _has_promotion(self) -> bool:
        return False

    def _judge(self, trial: TrialId, at: int, length: int, loss: float) -> Verdict:
        """Judge a trial: it continues if it is among the best in each rung that its result reaches."""
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
        return Promote(self.rungs[passed + 1].length, reason)

    def _is_last_chance(self) -> bool:
        """Return whether the trial that reports now is the only one left that can reach the last rung."""
        return self._dry and not self.rungs[-1].has_live_results()

    def _rung_to_fail(self, trial: TrialId) -> Rung | None:
        towards = self._towards(trial)
        return None if towards is None else self.rungs[towards]

    def _settle(self) -> None:
        self.finished = self._dry
