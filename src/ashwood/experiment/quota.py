"""Decides which checkpoints are deleted if all of them together are larger than max_size.

They are deleted in this order, until the others fit:

1. checkpoints of trials that have another one: a running or paused trial keeps its latest checkpoint to resume, and
   a trial that has ended keeps its best one;
2. checkpoints of replicates and of trials that ended before max_length, the worst metric first;
3. checkpoints of paused trials whose rank in their rung is beyond the number that the rung is expected to promote in
   the end, and which are therefore unlikely to be promoted;
4. checkpoints of completed trials, the worst metric first: the search does not need them, but users may;
5. checkpoints of all other paused trials.

Of paused trials, the one that is least likely to be promoted comes first, and of equal ones the one at the lowest rung.
The likelihood follows from its rank, if the results that its rung still gets are like those so far.  Audits do not
change this order, because all trials that wait in a rung have the same chance of an audit.  An audited trial whose
checkpoint was deleted repeats its training, like any promoted trial.  The latest checkpoint of a running trial and all
checkpoints of the best trial are never deleted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from math import inf, sqrt
from typing import NamedTuple, TypeAlias

from sortedcontainers import SortedList

from ashwood.experiment.checkpoints import Checkpoint, Checkpoints
from ashwood.experiment.decisions import DeleteCheckpoint, OverQuota
from ashwood.experiment.lifecycle import TrialState
from ashwood.search.rung import Key
from ashwood.search.tournament import Tournament
from ashwood.search.vocabulary import TrialId

_Group: TypeAlias = tuple[int, ...]
"""Checkpoints among which the worst is deleted first: `_SPARE`, `_ENDED`, `_COMPLETED`, or (bracket, rung)."""

_Item: TypeAlias = tuple[Key, int, str]
"""Sort key of a checkpoint in its group, which ends with its name; the worst comes last."""

_SPARE, _ENDED, _COMPLETED = (0,), (1,), (2,)


class DeletionOrder:
    """The order in which checkpoints are deleted to keep max_size.

    For n checkpoints, its methods take O(log n) time for each checkpoint of a changed trial, and for each rung if a
    checkpoint is deleted.
    """

    def __init__(
        self, search: Tournament, checkpoints: Checkpoints, job_of: Callable[[TrialId], tuple[TrialState, int]]
    ) -> None:
        """Start without checkpoints.

        Args:
            search: the search.
            checkpoints: all checkpoints that are kept.
            job_of: returns the state of a trial, and the length of the rung at which its last job ended or will end.
        """
        self._search = search
        self._checkpoints = checkpoints
        self._job_of = job_of
        self._best: TrialId | None = None
        self._groups: defaultdict[_Group, SortedList[_Item]] = defaultdict(SortedList)
        self._places: dict[TrialId, dict[str, tuple[_Group, _Item]]] = {}

    def update(self, changed: Iterable[TrialId], best: TrialId | None) -> None:
        """Set the places of the checkpoints of changed trials in the order.

        Args:
            changed: the trials whose checkpoints or state have changed.
            best: the trial whose checkpoints are never deleted, or None.
        """
        moved = set(changed)
        if best != self._best:
            moved |= {trial for trial in (best, self._best) if trial is not None}
            self._best = best
        for trial in moved:
            self._place(trial)

    def delete(self, most: int) -> Iterator[tuple[DeleteCheckpoint, Checkpoint]]:
        """Delete checkpoints while all together are larger than ``most`` bytes and one can be deleted; yield them."""
        while (size := self._checkpoints.size) > most and (first := self._first(size, most)) is not None:
            yield first, self._checkpoints.delete(first.trial, first.path)
            self._place(first.trial)

    def _place(self, trial: TrialId) -> None:
        # Checkpoints that are not in the order, or whose size is unknown, are not deleted.
        kept = () if trial == self._best else self._checkpoints.of(trial)
        places = dict(self._arrange(trial, kept, *self._job_of(trial)))
        former = self._places.pop(trial, {})
        for name, (group, item) in former.items():
            if places.get(name) != (group, item):
                self._groups[group].remove(item)
        for name, (group, item) in places.items():
            if former.get(name) != (group, item):
                self._groups[group].add(item)
        if places:
            self._places[trial] = places

    def _first(self, size: int, most: int) -> DeleteCheckpoint | None:
        """Return the decision to delete the first checkpoint, or None if there is none."""
        for group in (_SPARE, _ENDED):
            if items := self._groups[group]:
                return _decision(items[-1], OverQuota(size, most))
        paused = max(self._paused(), default=None)
        completed = self._groups[_COMPLETED]
        if completed and (paused is None or not paused.is_beyond):
            return _decision(completed[-1], OverQuota(size, most))
        return None if paused is None else _decision(paused.item, OverQuota(size, most, *paused.standing))

    def _arrange(
        self, trial: TrialId, kept: Sequence[Checkpoint], state: TrialState, target: int
    ) -> list[tuple[str, tuple[_Group, _Item]]]:
        if not kept:
            return []
        last = min(kept, key=lambda each: each.rank) if state.ended else kept[-1]
        places: list[tuple[str, tuple[_Group, _Item]]] = [
            (each.name, (_SPARE, each.rank)) for each in kept if each is not last and each.size
        ]
        if last.size and (place := self._place_of(trial, last, state, target)) is not None:
            places.append((last.name, place))
        return places

    def _place_of(
        self, trial: TrialId, last: Checkpoint, state: TrialState, target: int
    ) -> tuple[_Group, _Item] | None:
        """Return the place of the checkpoint that its trial keeps longest, or None if it is never deleted."""
        if state.ended:
            is_completed = state is TrialState.COMPLETED and trial not in self._search.replicates.created
            return (_COMPLETED if is_completed else _ENDED), last.rank
        if state is TrialState.RUNNING:
            return None
        number, _ = self._search.address(trial)
        for at, rung in enumerate(self._search.brackets[number].rungs):
            # A trial that is retried on request has no result in the rung, and will be trained soon.
            if rung.length == target and (key := rung.key(trial)) is not None:
                return (number, at), (key, -last.length, last.name)
        return None

    def _paused(self) -> list[_Paused]:
        """Return the first checkpoint to delete of the trials that are paused at each rung."""
        found = []
        for bracket in self._search.brackets:
            expected: list[int] = []
            for at, rung in enumerate(bracket.rungs):
                if not (items := self._groups.get((bracket.number, at))):
                    continue
                expected = expected or bracket.expected_results()
                (_, _, trial), _, _ = items[-1]
                # One trial of a bracket can be promoted whatever the divisor, so that at least one reaches the end.
                best, rank, of = max(1, rung.quota_of(expected[at])), rung.rank(trial), len(rung)
                excess = _excess(rank, of, expected[at], best)
                found.append(_Paused(rank > best, excess, -at, -bracket.number, items[-1], (at, rank, of, best)))
        return found


class _Paused(NamedTuple):
    """The worst paused trial of a rung; the one with the largest key is deleted first.

    Attributes:
        is_beyond: whether its rank is already beyond the number that is promoted in the end.
        excess: how unlikely it is promoted; see `_excess`.
        lowness: index of its rung, negated.
        order: number of its bracket, negated.
        item: its checkpoint.
        standing: index of its rung, rank, number of results in the rung, and number of trials that the rung is
            expected to promote in the end.
    """

    is_beyond: bool
    excess: float
    lowness: int
    order: int
    item: _Item
    standing: tuple[int, int, int, int]


def _excess(rank: int, of: int, expected: int, best: int) -> float:
    """Return by how many standard deviations the expected final rank of a trial is worse than rank ``best``.

    The number of further results that are better has a beta-binomial distribution if all orders of the results are
    equally likely.

    Args:
        rank: present rank of the trial.
        of: number of results so far.
        expected: number of results in the end.
        best: number of trials that are promoted in the end.
    """
    further, better, worse = expected - of, rank, of - rank + 1
    if further <= 0:
        return inf if rank > best else -inf
    mean = further * better / (of + 1)
    variance = mean * worse * (of + 1 + further) / ((of + 1) * (of + 2))
    return (rank + mean - best - 0.5) / sqrt(variance)


def _decision(item: _Item, why: OverQuota) -> DeleteCheckpoint:
    (_, _, trial), _, name = item
    return DeleteCheckpoint(trial, name, why)
