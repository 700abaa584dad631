"""Replicates: the best trials of a search train again with other seeds, after all its brackets have finished.

A result at max_length is one draw of a random training, and the best of many results is a lucky
one.  A replicate trains the hyperparameters of its original from 0 to max_length with another
training seed.  It is compared at no rung, and no bracket counts it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from ashwood.errors import SearchError
from ashwood.search.vocabulary import Exit, Job, ReachedEnd, Replicated, RetriedOnRequest, Snapshot, Stop, TrialId


class Replicate(NamedTuple):
    """A replicate: its original, its number among the replicates of that trial from 1, and its full length."""

    original: TrialId
    number: int
    length: int


class Replicates:
    """The replicates of a search.

    Attributes:
        wanted: number of the best trials that are replicated.
        created: all replicates by trial, in the order of their creation.
        training: the replicates that train.
        queued: failed replicates that are retried, in the order in which they get a job.
    """

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self.created: dict[TrialId, Replicate] = {}
        self.training: set[TrialId] = set()
        self.queued: dict[TrialId, RetriedOnRequest] = {}
        self._failed: set[TrialId] = set()
        self._numbers: Counter[TrialId] = Counter()

    def missing(self, finalists: Sequence[TrialId], length: int) -> list[TrialId]:
        """Return those of the best trials that have no replicate of a length, the best first.

        A replicate that has failed counts.  Replicates of a shorter length do not count.
        """
        known = {each.original for each in self.created.values() if each.length == length}
        return [trial for trial in finalists if trial not in known]

    def create(self, fresh: TrialId, original: TrialId, length: int) -> Job:
        """Create a replicate of a trial, and return its job."""
        self._numbers[original] += 1
        number = self._numbers[original]
        self.created[fresh] = Replicate(original, number, length)
        self.training.add(fresh)
        return Job(fresh, length, Replicated(original, number))

    def next_queued(self) -> Job | None:
        """Return the job of the next replicate that is retried, or None."""
        if not self.queued:
            return None
        trial = next(iter(self.queued))
        why = self.queued.pop(trial)
        self.training.add(trial)
        return Job(trial, self.created[trial].length, why)

    def report(self, trial: TrialId, length: int) -> Stop:
        """Process a result at the target of the job of a replicate or past it.

        Raises:
            SearchError: the replicate has no job, or ``length`` is short of its target.
        """
        target = self.created[trial].length
        if trial not in self.training:
            raise SearchError(f"trial {trial} reported a length of {length}, but the search gave it no job")
        if length < target:
            raise SearchError(f"trial {trial} reported a length of {length}, but its job ends at {target}")
        self.training.remove(trial)
        return Stop(ReachedEnd(target))

    def exited(self, trial: TrialId, how: Exit) -> None:
        """Record that a replicate ended without a result.  It is not replaced.

        Raises:
            SearchError: the replicate has already ended.
        """
        if trial not in self.training and trial not in self.queued:
            raise SearchError(f"trial {trial} cannot have {how}, because it had already ended")
        self.training.discard(trial)
        self.queued.pop(trial, None)
        if how is not Exit.INVALID:
            self._failed.add(trial)

    def retry(self, trial: TrialId, rung: int) -> None:
        """Let a failed replicate train again, to the length of its original's last rung, which has index ``rung``.

        Raises:
            SearchError: the replicate has not failed.
        """
        if trial not in self._failed:
            raise SearchError(f"trial {trial} has not failed")
        self._failed.remove(trial)
        self.queued[trial] = RetriedOnRequest(rung)

    def snapshot(self) -> dict[str, Any]:
        """Return the state as JSON-able data."""
        return {
            "wanted": self.wanted,
            "created": [[trial, *each] for trial, each in self.created.items()],
            "training": sorted(self.training),
            "queued": [[trial, why.rung] for trial, why in self.queued.items()],
            "failed": sorted(self._failed),
        }

    def restore(self, snapshot: Snapshot) -> None:
        """Set the state to that of a `snapshot`."""
        self.wanted = snapshot["wanted"]
        self.created = {trial: Replicate(*each) for trial, *each in snapshot["created"]}
        self._numbers = Counter(each.original for each in self.created.values())
        self.training = set(snapshot["training"])
        self.queued = {trial: RetriedOnRequest(rung) for trial, rung in snapshot["queued"]}
        self._failed = set(snapshot["failed"])
