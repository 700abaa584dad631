"""Decides which checkpoints are kept and which are deleted.

The latest checkpoint of a trial that has not ended is always kept, so that the trial can resume.
All others are subject to the policy.  It is applied at every checkpoint and when a trial ends, so
that a long search does not fill a disk.  A policy keeps no checkpoint of a replicate that has
ended: its result counts for its original, whose checkpoint is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from math import inf, isfinite
from typing import NamedTuple, TypeAlias

from sortedcontainers import SortedList

from ashwood.experiment.spec import RULES, CheckpointPolicy
from ashwood.search.rung import Key, ranking_key
from ashwood.search.vocabulary import TrialId

_Ranked: TypeAlias = tuple[Key, int, str]
"""Sort key that defines a total order: rank of the metric, then longer training first, then name."""


class Checkpoint(NamedTuple):
    """A checkpoint in the storage; ``loss`` is None if no metric was reported at its length.

    ``size`` is in bytes, or None if unknown.
    """

    trial: TrialId
    name: str
    length: int
    loss: float | None
    size: int | None = None

    @property
    def rank(self) -> _Ranked:
        """Sort key with which the best checkpoint comes first."""
        loss = self.loss if self.loss is not None else float("nan")
        return ranking_key(self.trial, loss), -self.length, self.name


class Checkpoints:
    """The checkpoints of an experiment that are kept.  Adding one takes O(log n) time for n checkpoints.

    Attributes:
        size: total size of the checkpoints with a known size, in bytes.
    """

    def __init__(
        self,
        policy: CheckpointPolicy | None,
        has_ended: Callable[[TrialId], bool],
        is_replicate: Callable[[TrialId], bool] | None = None,
        *,
        rules: int = RULES,
    ) -> None:
        """Start without checkpoints.

        Args:
            policy: which checkpoints to keep, or None to keep all.
            has_ended: returns whether a trial has ended.
            is_replicate: returns whether a trial is a replicate, whose checkpoints are never among the best; None if
                there are no replicates.
            rules: number of the rules of the experiment; see `RULES`.
        """
        self.size = 0
        self._policy = policy
        self._rules = rules
        self._has_ended = has_ended
        self._is_replicate = is_replicate
        self._trials: dict[TrialId, list[Checkpoint]] = {}
        # Names of deleted and of damaged checkpoints. The storage may still hold them, and recovery must not take them
        # for new ones. Recovery ignores checkpoints that are shorter than the latest of their trial. So the name of a
        # deleted one is dropped when there is a longer one: otherwise memory would grow with every checkpoint of a
        # long training. (If the longer one turns out to be damaged and the deletion was not carried out, the trial
        # resumes from the deleted one, which is better than from an older one.) Names of damaged ones are never
        # dropped.
        self._deleted: dict[TrialId, dict[str, int]] = {}
        self._damaged: dict[TrialId, set[str]] = {}
        self._best: SortedList[_Ranked] = SortedList()  # all that are kept and have a metric, the best first

    def __iter__(self) -> Iterator[Checkpoint]:
        """Iterate over all checkpoints that are kept."""
        for kept in self._trials.values():
            yield from kept

    def names(self, trial: TrialId) -> set[str]:
        """Return the names of a trial's kept and damaged checkpoints, and of deleted ones as long as the latest one."""
        kept = {checkpoint.name for checkpoint in self._trials.get(trial, ())}
        return kept | self._deleted.get(trial, {}).keys() | self._damaged.get(trial, set())

    def of(self, trial: TrialId) -> Sequence[Checkpoint]:
        """Return a trial's checkpoints, the shortest first."""
        return self._trials.get(trial, ())

    @property
    def best(self) -> TrialId | None:
        """The trial with the best checkpoint, or None if no checkpoint has a finite metric."""
        if not self._best:
            return None
        (is_nan, loss, trial), _, _ = self._best[0]
        return trial if isfinite(loss) and not is_nan else None

    def is_unneeded(self, trial: TrialId, name: str, length: int) -> bool:
        """Return whether a checkpoint was deleted, or is shorter than the latest one and not kept."""
        if name in self._damaged.get(trial, ()) or self._find(trial, name) is not None:
            return False
        latest = self.latest(trial)
        return name in self._deleted.get(trial, ()) or (latest is not None and length < latest.length)

    def latest(self, trial: TrialId, *, below: float = inf) -> Checkpoint | None:
        """Return a trial's longest checkpoint that is shorter than ``below``, or None if there is none."""
        return next((each for each in reversed(self._trials.get(trial, ())) if each.length < below), None)

    def add(self, checkpoint: Checkpoint) -> list[Checkpoint]:
        """Add a new checkpoint.  Return the checkpoints to delete because of it, which leave this collection."""
        if (known := self._find(checkpoint.trial, checkpoint.name)) is not None:
            self._remove(known)
        kept = self._trials.setdefault(checkpoint.trial, [])
        kept.append(checkpoint)
        self.size += checkpoint.size or 0
        # The sort is stable, so of two checkpoints with equal lengths the one that was saved later is the latest.
        kept.sort(key=lambda other: other.length)
        if deleted := self._deleted.get(checkpoint.trial):
            at_least = kept[-1].length
            self._deleted[checkpoint.trial] = {name: length for name, length in deleted.items() if length >= at_least}
        displaced = self._rank(checkpoint)
        unneeded = self._sweep(checkpoint.trial)
        if displaced is not None and displaced != checkpoint.trial:
            unneeded += self._sweep(displaced)
        return unneeded

    def delete(self, trial: TrialId, name: str) -> Checkpoint:
        """Delete a checkpoint that is kept, and return it."""
        checkpoint = next(each for each in self._trials[trial] if each.name == name)
        self._remove(checkpoint)
        self._deleted.setdefault(trial, {})[name] = checkpoint.length
        return checkpoint

    def ended(self, trial: TrialId) -> list[Checkpoint]:
        """Return the checkpoints to delete because their trial has ended, and remove them from this collection."""
        return self._sweep(trial)

    def reject(self, trial: TrialId) -> None:
        """Remove a trial with invalid hyperparameters from the ranking of the experiment's best checkpoints."""
        for checkpoint in self._trials.get(trial, ()):
            self._best.discard(checkpoint.rank)

    def drop(self, trial: TrialId, name: str) -> bool:
        """Remove a damaged checkpoint and return whether it was one of those that are kept."""
        if (known := self._find(trial, name)) is None:
            return False
        self._remove(known)
        self._damaged.setdefault(trial, set()).add(name)
        return True

    def _find(self, trial: TrialId, name: str) -> Checkpoint | None:
        return next((each for each in self._trials.get(trial, ()) if each.name == name), None)

    def _rank(self, checkpoint: Checkpoint) -> TrialId | None:
        """Rank a checkpoint.  Return the trial whose checkpoint is no longer among the experiment's best, or None."""
        if checkpoint.loss is None or self._replicates(checkpoint.trial):
            return None
        self._best.add(checkpoint.rank)
        most = self._policy.save_experiment_best if self._policy is not None else 0
        return self._best[most][0][2] if 0 < most < len(self._best) else None

    def _sweep(self, trial: TrialId) -> list[Checkpoint]:
        """Remove the checkpoints of a trial that the policy does not keep, and return them."""
        policy, kept = self._policy, self._trials.get(trial, [])
        if policy is None or not kept:
            return []
        has_ended = self._has_ended(trial)
        if has_ended and self._replicates(trial):
            return [self.delete(trial, checkpoint.name) for checkpoint in tuple(kept)]
        latest = policy.save_trial_latest if has_ended else max(1, policy.save_trial_latest)
        # Before rules version 3, trials with fewer checkpoints than this number kept too few, because the index was
        # negative.
        first = len(kept) - latest if self._rules < 3 else max(0, len(kept) - latest)
        needed = {checkpoint.name for checkpoint in kept[first:]} if latest else set()
        rated = sorted((c for c in kept if c.loss is not None), key=lambda c: c.rank)
        needed.update(checkpoint.name for checkpoint in rated[: policy.save_trial_best])
        needed.update(name for key, _, name in islice(self._best, policy.save_experiment_best) if key[2] == trial)
        unneeded = [checkpoint for checkpoint in kept if checkpoint.name not in needed]
        return [self.delete(trial, checkpoint.name) for checkpoint in unneeded]

    def _replicates(self, trial: TrialId) -> bool:
        return self._is_replicate is not None and self._is_replicate(trial)

    def _remove(self, checkpoint: Checkpoint) -> None:
        self._trials[checkpoint.trial].remove(checkpoint)
        self._best.discard(checkpoint.rank)
        self.size -= checkpoint.size or 0
