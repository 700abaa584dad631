"""Decides which checkpoints are deleted if all of them together are larger than max_size.

They are deleted in this order, until the others fit:

1. checkpoints of trials that have another one: a running or paused trial keeps its latest checkpoint to resume, and
   a trial that has ended keeps its best one;
2. checkpoints of trials that ended before max_length, the worst metric first;
3. checkpoints of paused trials whose rank in their rung is beyond the number that the rung is expected to promote in
   the end, and which are therefore unlikely to be promoted;
4. checkpoints of completed trials, the worst metric first: the search does not need them, but users may;
5. checkpoints of all other paused trials.

Of paused trials, the one that is least likely to be promoted comes first, and of equal ones the one at the lowest rung.
The likelihood follows from its rank, if the results that its rung still gets are like those so far.  The latest
checkpoint of a running trial and all checkpoints of the best trial are never deleted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from math import inf, sqrt
from typing import NamedTuple, TypeAlias

from sortedcontainers import SortedList

from ashwood.experiment.checkpoints import Checkpoint
from ashwood.experiment.lifecycle import TrialState
from ashwood.search.rung import Key
from ashwood.search.tournament import Tournament
from ashwood.search.vocabulary import TrialId

_Group: TypeAlias = tuple[int, ...]
"""Checkpoints among which the worst is deleted first: `_SPARE`, `_ENDED`, `_COMPLETED`, or (bracket, rung)."""

_Item: TypeAlias = tuple[Key, int, str]
"""Sort key of a checkpoint in its group, which ends with its name; the worst comes last."""

_SPARE, _ENDED, _COMPLETED = (0,), (1,), (2,)


class Deletion(NamedTuple):
    """A checkpoint to delete.

    Attributes:
        trial: its trial.
        name: its name.
        rung: index of the rung at which its trial is paused, or None if the search does not need the checkpoint.
        rank: rank of the trial in its rung, or 0.
        of: number of results in the rung, or 0.
        best: number of trials that the rung is expected to promote in the end, or 0.
    """

    trial: TrialId
    name: str
    rung: int | None = None
    rank: int = 0
    of: int = 0
    best: int = 0


class DeletionOrder:
    """The order in which checkpoints are deleted to keep max_size.

    For n checkpoints, both methods take O(log n) time for each checkpoint of the trial or for each rung.
    """

    def __init__(self, search: Tournament) -> None:
        self._search = search
        self._groups: defaultdict[_Group, SortedList[_Item]] = defaultdict(SortedList)
        self._places: dict[TrialId, dict[str, tuple[_Group, _Item]]] = {}

    def place(self, trial: TrialId, kept: Sequence[Checkpoint], state: TrialState, target: int) -> None:
        """Set the place of a trial's checkpoints in the order.

        Call this if the checkpoints or the state of a trial have changed.  Checkpoints that are not named, or whose
        size is unknown, are not deleted.

        Args:
            trial: the trial.
            kept: its checkpoints that may be deleted, sorted by length.
            state: its state.
            target: length of the rung at which its last job ended or will end.
        """
        places = dict(self._arrange(trial, kept, state, target))
        former = self._places.pop(trial, {})
        for name, (group, item) in former.items():
            if places.get(name) != (group, item):
                self._groups[group].remove(item)
        for name, (group, item) in places.items():
            if former.get(name) != (group, item):
                self._groups[group].add(item)
        if places:
            self._places[trial] = places

    def first(self) -> Deletion | None:
        """Return the checkpoint to delete first, or None if there is none."""
        for group in (_SPARE, _ENDED):
            if items := self._groups[group]:
                return _unneeded(items[-1])
        paused = max(self._paused(), default=None)
        completed = self._groups[_COMPLETED]
        if completed and (paused is None or not paused.is_beyond):
            return _unneeded(completed[-1])
        return None if paused is None else paused.deletion

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
            return (_COMPLETED if state is TrialState.COMPLETED else _ENDED), last.rank
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
                (_, _, trial), _, name = items[-1]
                # One trial of a bracket can be promoted whatever the divisor, so that at least one reaches the end.
                best, rank, of = max(1, rung.quota_of(expected[at])), rung.rank(trial), len(rung)
                deletion = Deletion(trial, name, at, rank, of, best)
                excess = _excess(rank, of, expected[at], best)
                found.append(_Paused(rank > best, excess, -at, -bracket.number, deletion))
        return found


class _Paused(NamedTuple):
    """The worst paused trial of a rung; the one with the largest key is deleted first.

    Attributes:
        is_beyond: whether its rank is already beyond the number that is promoted in the end.
        excess: how unlikely it is promoted; see `_excess`.
        lowness: index of its rung, negated.
        order: number of its bracket, negated.
        deletion: its checkpoint.
    """

    is_beyond: bool
    excess: float
    lowness: int
    order: int
    deletion: Deletion


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


def _unneeded(item: _Item) -> Deletion:
    (_, _, trial), _, name = item
    return Deletion(trial, name)
