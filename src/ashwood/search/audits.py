"""Audits: promotions of trials that are drawn at random, to check what early stopping misses.

Only good trials are promoted, so the results of a search do not show whether the trials that it
stopped would have become good.  An audit promotes a trial that waits in a rung, whatever its rank.
The audited trials of a rung are a random sample of those that wait in it.

An audit takes the turn of a promotion, but no place among the best: the trial that would have been
promoted is still promotable, and is promoted at the next turn that is no audit.  So a rung promotes
the best floor(n / divisor) of its n results as without audits, and audits come on top.  They are
``SearchSettings.audit`` of all promotions in the long run.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from sortedcontainers import SortedList

from ashwood.search.draw import bits
from ashwood.search.rung import Candidate, Key, Rung
from ashwood.search.vocabulary import TrialId

_DRAWS = 1 << 64
"""Number of different values of `ashwood.search.draw.bits`."""


class AuditedRung(Rung):
    """A rung in which a share of the promotions are audits.

    Whether a promotion is an audit, and which of the waiting trials it promotes, are draws with the
    address (seed, bracket, rung, number of promotions from the rung before it).
    """

    __slots__ = ("_address", "_audits", "_gone")

    def __init__(
        self, length: int, divisor: Fraction, least: int, share: Fraction, address: tuple[int, int, int]
    ) -> None:
        """Make an empty rung; see `Rung`.

        Args:
            length: total training length.
            divisor: one of ``divisor`` results is promoted.
            least: least number of results that are promoted.
            share: share of promotions that are audits.
            address: seed of the experiment, number of the bracket and index of the rung.
        """
        super().__init__(length, divisor, least)
        self._address = address
        # Draws are integers, so a draw is below the exact product if it is below the product rounded up.
        self._audits = -(-share.numerator * _DRAWS // share.denominator)
        # The keys of the promoted trials in order. Few trials are promoted, so this costs less than the keys of those
        # that wait.
        self._gone: SortedList[Key] = SortedList()

    def audited(self) -> Candidate | None:
        """Return the waiting trial that is promoted next if the next promotion is an audit, otherwise None.

        The rung is `ready`.
        """
        seed, *where = self._address
        if bits(seed, "audit", *where, self.promoted) >= self._audits:
            return None
        waiting = len(self) - self.failed - len(self._gone)
        trial = self._waiting_at(bits(seed, "audited", *where, self.promoted) * waiting // _DRAWS)
        return Candidate(trial, self.rank(trial), len(self), self.quota)

    def _waiting_at(self, position: int) -> TrialId:
        """Return the waiting trial at a position among the waiting ones, the best first, in O(log^2 n) time."""
        ranking, gone = self._ranking, self._gone
        # As many waiting trials rank before the trial at index i as i minus the number of promoted ones before it.
        low, high = position, position + len(gone)
        while low < high:
            middle = (low + high) // 2
            if middle + 1 - gone.bisect_right(ranking[middle]) <= position:
                low = middle + 1
            else:
                high = middle
        trial: TrialId = ranking[low][2]
        return trial

    def fail(self, trial: TrialId) -> None:
        """Rank a trial as the worst of this rung, so that it is never promoted."""
        if trial in self._promoted:
            self._gone.discard(self._keys[trial])
        super().fail(trial)

    def remove(self, trial: TrialId) -> None:
        """Remove a trial as if it had never had a result here."""
        if trial in self._promoted:
            self._gone.discard(self._keys[trial])
        super().remove(trial)

    def promote(self, trial: TrialId) -> None:
        """Record that a trial was promoted to the next rung."""
        super().promote(trial)
        self._gone.add(self._keys[trial])

    def _fill(self, keys: Sequence[Key]) -> None:
        super()._fill(keys)
        self._gone = SortedList(key for key in keys if key[2] in self._promoted and not self.has_failed(key[2]))
