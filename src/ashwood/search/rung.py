"""One rung: the results of a bracket at one length, and who of them may go on."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from heapq import heapify, heappop, heappush
from math import inf, isfinite, isnan
from typing import Any, NamedTuple, TypeAlias

from sortedcontainers import SortedList

from ashwood.search.vocabulary import TrialId

Key: TypeAlias = tuple[int, float, TrialId]
"""A result's place in the ranking, a total order: (is NaN or failed, loss, trial id)."""

_NAN, _FAILED = 1, 2


def ranking_key(trial: TrialId, loss: float) -> Key:
    """The place of a result.  Infinities rank behind all numbers (in the good direction too), NaN behind those."""
    if isfinite(loss):
        return (0, loss, trial)
    return (_NAN, 0.0, trial) if isnan(loss) else (0, inf, trial)


class Candidate(NamedTuple):
    """A trial that may go on: its rank (from 1) among ``of`` results of which the best ``best`` go on."""

    trial: TrialId
    rank: int
    of: int
    best: int


class Rung:
    """Results at one length, ranked.

    `add`, `candidate` and the rest are O(log n) in the number of results (amortised; the
    sorted list's own bookkeeping adds a small constant times the square root at most).

    Attributes:
        length: total training length of this rung.
        quota: how many of the results seen so far may go on: max(least, floor(n / divisor)).
        ready: whether `candidate` names a trial; kept up to date because it is asked far more often than it changes.
    """

    __slots__ = (
        "_best",
        "_best_rank",
        "_divide",
        "_keys",
        "_least",
        "_multiply",
        "_promoted",
        "_ranking",
        "_waiting",
        "length",
        "quota",
        "ready",
    )

    def __init__(self, length: int, divisor: Fraction, least: int = 0) -> None:
        """An empty rung of which the best ``max(least, floor(n / divisor))`` may go on."""
        self.length = length
        self._multiply, self._divide = divisor.denominator, divisor.numerator
        self._least = least
        self._ranking: SortedList[Key] = SortedList()
        self._keys: dict[TrialId, Key] = {}
        self._promoted: set[TrialId] = set()
        # A heap of the keys of trials that haven't gone on.  Entries are dropped lazily: one is
        # valid while it is its trial's key and the trial hasn't been promoted.
        self._waiting: list[Key] = []
        # The first of them and its rank, kept because a worse arrival changes neither.
        self._best: Key | None = None
        self._best_rank = 0
        self.quota = least
        self.ready = False

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, trial: TrialId) -> bool:
        return trial in self._keys

    def add(self, trial: TrialId, loss: float) -> int:
        """Take a result; returns its rank, from 1."""
        key = ranking_key(trial, loss)
        heappush(self._waiting, key)
        rank = self._insert(key)
        if self._best is None or key < self._best:
            self._best, self._best_rank = key, rank
        self.ready = self._best_rank <= self.quota
        return rank

    def fail(self, trial: TrialId) -> None:
        """Count the trial as the worst of this rung; it never goes on."""
        if trial in self._keys:
            self._ranking.remove(self._keys[trial])
        self._insert((_FAILED, 0.0, trial))
        self._find_best()

    def remove(self, trial: TrialId) -> None:
        """Take a trial out as if it had never been here."""
        if trial in self._keys:
            self._ranking.remove(self._keys.pop(trial))
            self._promoted.discard(trial)
            self._count()
            self._find_best()

    def promote(self, trial: TrialId) -> None:
        """Note that the trial went on to the next rung."""
        self._promoted.add(trial)
        self._find_best()

    def candidate(self) -> Candidate | None:
        """The best trial that deserves the next rung and hasn't been sent there.

        A trial deserves it while it ranks in the best ``max(least, floor(n / divisor))``
        of the n results seen so far.

        Source: Li et al. 2020 (arXiv:1810.05934), Algorithm 2, ``get_job``.
        """
        return self.best_waiting() if self.ready else None

    def best_waiting(self) -> Candidate | None:
        """The best trial that hasn't gone on and hasn't failed, whatever its rank."""
        if self._best is None:
            return None
        return Candidate(self._best[2], self._best_rank, len(self._keys), self.quota)

    def key(self, trial: TrialId) -> Key | None:
        """The place of a trial's result; None: it has none here."""
        return self._keys.get(trial)

    def best(self, most: int) -> list[TrialId]:
        """The best trials, no more than so many; those that failed, or whose result is no number, left out."""
        return [key[2] for key in self._ranking[:most] if key[0] == 0]

    def waits(self, trial: TrialId) -> bool:
        """Whether the trial has a result here, hasn't gone on and hasn't failed."""
        key = self._keys.get(trial)
        return key is not None and key[0] != _FAILED and trial not in self._promoted

    def has_failed(self, trial: TrialId) -> bool:
        """Whether the trial counts as failed here."""
        key = self._keys.get(trial)
        return key is not None and key[0] == _FAILED

    def has_live_results(self) -> bool:
        """Whether a trial got here and did not fail."""
        return bool(self._ranking) and self._ranking[0][0] != _FAILED

    def waiting(self) -> list[TrialId]:
        """All trials that haven't gone on and haven't failed, best first."""
        return [key[2] for key in self._ranking if key[0] != _FAILED and key[2] not in self._promoted]

    def snapshot(self) -> dict[str, Any]:
        """The state as JSON-able data."""
        # The loss is written as text: JSON has no infinity.
        results = [[trial, kind, repr(loss)] for kind, loss, trial in self._ranking]
        return {"results": results, "promoted": sorted(self._promoted)}

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Take back what `snapshot` gave."""
        keys: Sequence[Key] = [(kind, float(loss), trial) for trial, kind, loss in snapshot["results"]]
        self._ranking = SortedList(keys)
        self._keys = {key[2]: key for key in keys}
        self._promoted = set(snapshot["promoted"])
        self._waiting = [key for key in keys if key[0] != _FAILED and key[2] not in self._promoted]
        heapify(self._waiting)
        self._count()
        self._find_best()

    def _insert(self, key: Key) -> int:
        self._keys[key[2]] = key
        rank: int = self._ranking.bisect_left(key) + 1
        self._ranking.add(key)
        self._count()
        return rank

    def _count(self) -> None:
        self.quota = max(self._least, len(self._keys) * self._multiply // self._divide)

    def _find_best(self) -> None:
        waiting = self._waiting
        while waiting and (waiting[0][2] in self._promoted or self._keys.get(waiting[0][2]) is not waiting[0]):
            heappop(waiting)
        self._best = waiting[0] if waiting else None
        self._best_rank = self._ranking.bisect_left(self._best) + 1 if waiting else 0
        self.ready = 0 < self._best_rank <= self.quota
