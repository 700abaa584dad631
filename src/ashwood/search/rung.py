"""A rung: the results of a bracket at one length, and which trials may be promoted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from heapq import heapify, heappop, heappush
from math import inf, isfinite, isnan
from typing import Any, NamedTuple, TypeAlias

from sortedcontainers import SortedList

from ashwood.search.vocabulary import TrialId

Key: TypeAlias = tuple[int, float, TrialId]
"""Sort key of a result, a total order: (is NaN or failed, loss, trial id)."""

_NAN, _FAILED = 1, 2


def ranking_key(trial: TrialId, loss: float) -> Key:
    """Return the sort key of a result.  Both infinities rank behind all numbers, and NaN behind the infinities."""
    if isfinite(loss):
        return (0, loss, trial)
    return (_NAN, 0.0, trial) if isnan(loss) else (0, inf, trial)


class Candidate(NamedTuple):
    """A trial that may be promoted, with its rank (from 1) among ``of`` results; the best ``best`` are promoted."""

    trial: TrialId
    rank: int
    of: int
    best: int


class Rung:
    """Ranked results at one length.

    `add`, `candidate` and the other methods take O(log n) amortised time for n results.  (The sorted
    list's own bookkeeping adds at most a small constant times the square root of n.)

    Attributes:
        length: total training length of this rung.
        quota: how many of the results so far may be promoted: max(least, floor(n / divisor)).
        ready: whether `candidate` returns a trial.  It is read far more often than it changes, so it is stored.
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
        """Make an empty rung that promotes the best ``max(least, floor(n / divisor))`` of n results."""
        self.length = length
        self._multiply, self._divide = divisor.denominator, divisor.numerator
        self._least = least
        self._ranking: SortedList[Key] = SortedList()
        self._keys: dict[TrialId, Key] = {}
        self._promoted: set[TrialId] = set()
        # A heap of the keys of trials that were not promoted.  Entries are removed lazily: an entry is
        # valid as long as it is its trial's key and the trial was not promoted.
        self._waiting: list[Key] = []
        # The best trial that was not promoted, and its rank. They are stored because a worse result changes neither.
        self._best: Key | None = None
        self._best_rank = 0
        self.quota = least
        self.ready = False

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, trial: TrialId) -> bool:
        return trial in self._keys

    def add(self, trial: TrialId, loss: float) -> int:
        """Add a result and return its rank, from 1."""
        key = ranking_key(trial, loss)
        heappush(self._waiting, key)
        rank = self._insert(key)
        if self._best is None or key < self._best:
            self._best, self._best_rank = key, rank
        self.ready = self._best_rank <= self.quota
        return rank

    def fail(self, trial: TrialId) -> None:
        """Rank a trial as the worst of this rung, so that it is never promoted."""
        if trial in self._keys:
            self._ranking.remove(self._keys[trial])
        self._insert((_FAILED, 0.0, trial))
        self._find_best()

    def remove(self, trial: TrialId) -> None:
        """Remove a trial as if it had never had a result here."""
        if trial in self._keys:
            self._ranking.remove(self._keys.pop(trial))
            self._promoted.discard(trial)
            self._count()
            self._find_best()

    def promote(self, trial: TrialId) -> None:
        """Record that a trial was promoted to the next rung."""
        self._promoted.add(trial)
        self._find_best()

    def candidate(self) -> Candidate | None:
        """Return the best trial that may be promoted and was not, or None if there is none.

        A trial may be promoted as long as it is among the best ``max(least, floor(n / divisor))`` of the
        n results so far.

        Source: Li et al. 2020 (arXiv:1810.05934), Algorithm 2, ``get_job``.
        """
        return self.best_waiting() if self.ready else None

    def audited(self) -> Candidate | None:
        """Return the waiting trial that is promoted next if the next promotion is an audit, otherwise None.

        The rung is `ready`.  Only in an `ashwood.search.audits.AuditedRung`, promotions can be audits.
        """
        return None

    def best_waiting(self) -> Candidate | None:
        """Return the best trial that was not promoted and has not failed, whatever its rank, or None."""
        if self._best is None:
            return None
        return Candidate(self._best[2], self._best_rank, len(self._keys), self.quota)

    def key(self, trial: TrialId) -> Key | None:
        """Return the sort key of a trial's result, or None if it has none here."""
        return self._keys.get(trial)

    def rank(self, trial: TrialId) -> int:
        """Return the rank of a trial that has a result here, from 1."""
        rank: int = self._ranking.bisect_left(self._keys[trial])
        return rank + 1

    def quota_of(self, results: int) -> int:
        """Return how many of a number of results may be promoted."""
        return max(self._least, results * self._multiply // self._divide)

    @property
    def promoted(self) -> int:
        """Number of trials that were promoted from here."""
        return len(self._promoted)

    def best(self, most: int) -> list[TrialId]:
        """Return at most ``most`` of the best trials, without those that failed or whose loss is NaN."""
        return [trial for _, _, trial in self.best_keys(most)]

    def best_keys(self, most: int) -> list[Key]:
        """Return the sort keys of the results of `best`."""
        return [key for key in self._ranking[:most] if key[0] == 0]

    def tied(self) -> int:
        """Return how many results are equal to the best one beyond the quota, or 0 if there is none or it failed.

        Among equal results, the trial ids decide which are promoted.
        """
        if self.quota >= len(self._ranking) or (key := self._ranking[self.quota])[0] == _FAILED:
            return 0
        begin, end = (self._ranking.bisect_left((*key[:2], trial)) for trial in (-1, inf))
        return int(end - begin)

    def waits(self, trial: TrialId) -> bool:
        """Return whether a trial has a result here, was not promoted and has not failed."""
        key = self._keys.get(trial)
        return key is not None and key[0] != _FAILED and trial not in self._promoted

    def has_failed(self, trial: TrialId) -> bool:
        """Return whether a trial counts as failed here."""
        key = self._keys.get(trial)
        return key is not None and key[0] == _FAILED

    @property
    def failed(self) -> int:
        """Number of trials that count as failed here."""
        return len(self._ranking) - int(self._ranking.bisect_left((_FAILED,)))

    def has_live_results(self) -> bool:
        """Return whether a trial has a result here and has not failed."""
        return bool(self._ranking) and self._ranking[0][0] != _FAILED

    def waiting(self) -> list[TrialId]:
        """Return all trials that were not promoted and have not failed, the best first."""
        return [key[2] for key in self._ranking if key[0] != _FAILED and key[2] not in self._promoted]

    def best_on_arrival(self) -> list[Candidate]:
        """Return the trials that were among the best ``quota`` when they arrived, in the order of their arrival.

        Failed trials count in the ranking but are not returned.  This takes O(n log n) time for n results.
        """
        before, found = SortedList(), list[Candidate]()
        for key in self._keys.values():
            before.add(key)
            rank, best = before.bisect_left(key) + 1, self.quota_of(len(before))
            if rank <= best and key[0] != _FAILED:
                found.append(Candidate(key[2], rank, len(before), best))
        return found

    def ranking(self) -> list[TrialId]:
        """Return all trials with a result here, the best first."""
        return [key[2] for key in self._ranking]

    def snapshot(self) -> dict[str, Any]:
        """Return the state as JSON-able data."""
        # The results stay in the order of their arrival.  The loss is written as text: JSON has no infinity.
        results = [[trial, kind, repr(loss)] for trial, (kind, loss, _) in self._keys.items()]
        return {"results": results, "promoted": sorted(self._promoted)}

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Set the state to that of a `snapshot`."""
        self._promoted = set(snapshot["promoted"])
        self._fill([(kind, float(loss), trial) for trial, kind, loss in snapshot["results"]])

    def replace_losses(self, loss: Callable[[TrialId], float]) -> None:
        """Replace the losses by results of ``loss``, sorted so that the order of the trials stays the same.

        Results that are NaN and failed trials stay as they are.
        """
        trials = [key[2] for key in self._ranking if key[0] == 0]
        others = self._ranking[len(trials) :]
        losses = sorted(map(loss, trials))
        self._fill([*map(ranking_key, trials, losses), *others])

    def _fill(self, keys: Sequence[Key]) -> None:
        self._ranking = SortedList(keys)
        self._keys = {key[2]: key for key in keys}
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
        self.quota = self.quota_of(len(self._keys))

    def _find_best(self) -> None:
        waiting = self._waiting
        while waiting and (waiting[0][2] in self._promoted or self._keys.get(waiting[0][2]) is not waiting[0]):
            heappop(waiting)
        self._best = waiting[0] if waiting else None
        self._best_rank = self._ranking.bisect_left(self._best) + 1 if waiting else 0
        self.ready = 0 < self._best_rank <= self.quota
