"""Synchronous successive halving: a rung starts when the one below is complete.

Source: Jamieson and Talwalkar 2016, "Non-stochastic Best Arm Identification and
Hyperparameter Optimization" (arXiv:1502.07943), Figure 3.
"""

from __future__ import annotations

from typing import ClassVar

from ashwood.search.asha import AshaBracket
from ashwood.search.rung import Candidate


class ShaBracket(AshaBracket):
    """A bracket of SHA: as ASHA, but no trial is promoted from an incomplete rung."""

    least: ClassVar[int] = 1

    @property
    def can_resize(self) -> bool:
        """Whether the number of its trials can still change; the first comparison needs all trials, so not after it."""
        return super().can_resize and not (len(self.rungs) > 1 and self._complete(0))

    def _candidate(self, at: int) -> Candidate | None:
        return super()._candidate(at) if self._complete(at) else None

    def _complete(self, at: int) -> bool:
        """Return whether a rung has the results of all trials that will ever reach it."""
        if self._created < self._to_create or any(self._heading[: at + 1]):
            return False
        return all(self.rungs[below].candidate() is None for below in range(at))
