"""The base of all brackets: the trials, their rungs, and the replacement of invalid trials.

How a trial is judged that reached a rung is in `ashwood.search.asha`, `ashwood.search.sha` and
`ashwood.search.stopping`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, ClassVar

from ashwood.errors import SearchError
from ashwood.search.audits import AuditedRung
from ashwood.search.plan import BracketPlan
from ashwood.search.rung import Rung
from ashwood.search.vocabulary import (
    BracketFinished,
    Created,
    Exit,
    Extended,
    Job,
    New,
    Promote,
    Promoted,
    ReachedEnd,
    Retired,
    RetriedOnRequest,
    Snapshot,
    Stop,
    TrialId,
    Verdict,
)

_WHY_QUEUED = {why.__name__: why for why in (RetriedOnRequest, Extended, Promoted)}


class Bracket(ABC):
    """A series of rungs and the trials that are compared at them.

    Attributes:
        number: index of the bracket in its search.
        rungs: its rungs, from the shortest to max_length.
        training: the rung that each training trial trains towards.
        queued: trials that get the next jobs, each with the rung that it will train towards and the reason: failed
            trials that are retried, and trials that had reached the end before the search was extended.
        given: total training length of all jobs so far.
        planned: number of trials that it creates, without replacements of invalid ones.
        reserved: number of its first trials that `resize` keeps, because some of them have given hyperparameters.
        finished: whether no trial trains and none will.
    """

    least: ClassVar[int] = 0
    """Least number of trials that are promoted from a rung, however few results it has."""

    def __init__(
        self, number: int, plan: BracketPlan, divisor: Fraction, *, audit: Fraction = Fraction(0), seed: int = 0
    ) -> None:
        """Make a bracket without trials.

        Args:
            number: its index in the search.
            plan: its rungs and its number of trials.
            divisor: one of ``divisor`` results of a rung is promoted.
            audit: share of promotions that are audits; see `ashwood.search.audits`.
            seed: seed of the experiment, from which audits are drawn.
        """
        self.number = number
        self._divisor, self._audit, self._seed = divisor, audit, seed
        self.rungs = [self._make_rung(at, length) for at, length in enumerate(plan.lengths)]
        self.training: dict[TrialId, int] = {}
        self.queued: dict[TrialId, tuple[int, RetriedOnRequest | Extended | Promoted]] = {}
        self.given = 0
        self.finished = False
        self._heading = [0] * len(self.rungs)
        self._downwards = range(len(self.rungs) - 2, -1, -1)
        # The length at which the job of a training trial ends, if its rung was lengthened since the job was given.
        self._former: dict[TrialId, int] = {}
        self.planned = plan.trials
        self.reserved = 0
        self._to_create = plan.trials
        self._created = 0

    # -- jobs and results -----------------------------------------------------------------

    def next_job(self, fresh: TrialId) -> Job | None:
        """Return what a free worker should train, or None; a new trial gets the id ``fresh``."""
        if self.queued:
            trial = next(iter(self.queued))
            towards, queued_for = self.queued.pop(trial)
            self.training[trial] = towards
            return Job(trial, self.rungs[towards].length, queued_for)
        job = self._promotion()
        if job is None and self._created < self._to_create:
            entry, why = self._enter(self._created)
            job = Job(fresh, self.rungs[entry].length, why)
            self._created += 1
            self._send(fresh, entry)
            self.given += self.rungs[entry - 1].length if entry else 0
        return job

    @property
    def has_job(self) -> bool:
        """Whether `next_job` would return a job now."""
        return not self.finished and (bool(self.queued) or self._created < self._to_create or self._has_promotion)

    def report(self, trial: TrialId, length: int, loss: float) -> Verdict:
        """Process the result of a trial at the target of its job or past it.

        Raises:
            SearchError: the trial has no job, or ``length`` is short of its target.
        """
        at = self.training.get(trial)
        if at is None:
            raise SearchError(f"trial {trial} reported a length of {length}, but the search gave it no job")
        if length < self.rungs[at].length:
            if length >= self._former.get(trial, self.rungs[at].length):
                return Promote(self.rungs[at].length, Extended(self._former.pop(trial)))
            raise SearchError(
                f"trial {trial} reported a length of {length}, but its job ends at {self.rungs[at].length}"
            )
        self._arrive(trial)
        verdict = self._judge(trial, at, length, loss)
        if not self.training:
            self._settle()
        return verdict

    def exited(self, trial: TrialId, how: Exit, *, replace: bool) -> None:
        """Record that a training or paused trial of this bracket ended.

        Raises:
            SearchError: the trial has already ended.
        """
        rung = self._rung_to_fail(trial)
        if rung is None:
            raise SearchError(f"trial {trial} cannot have {how}, because it had already ended")
        self._arrive(trial)
        if how is Exit.INVALID:
            for entered in self.rungs:
                entered.remove(trial)
            self._to_create += replace
        else:
            rung.fail(trial)
        self._settle()

    def retry(self, trial: TrialId) -> None:
        """Let a failed trial train again, towards the rung in which its failure was counted.

        Until it arrives there or fails again, it does not count in that rung.  A finished bracket is open again, and
        the trials that were paused when it finished are paused again.

        Raises:
            SearchError: the trial has not failed.
        """
        towards = next((number for number, rung in enumerate(self.rungs) if rung.has_failed(trial)), None)
        if towards is None:
            raise SearchError(f"trial {trial} has not failed")
        self.rungs[towards].remove(trial)
        self._queue(trial, towards, RetriedOnRequest(towards))
        self.finished = False

    def extend(self, plan: BracketPlan) -> list[TrialId]:
        """Extend the bracket to the rungs and the trials of a plan, which has its rungs and longer ones.

        A bracket with a single rung has one in the plan, too, if its trials are not compared: then all train on.

        Return the trials that had ended and take part again: those that were paused when the bracket finished, and
        those at the former last rung that may train on.
        """
        again = [each.trial for each in self.retired()] if self.finished else []
        if len(plan.lengths) > len(self.rungs):
            top = len(self.rungs) - 1
            self.rungs += [self._make_rung(at, plan.lengths[at]) for at in range(top + 1, len(plan.lengths))]
            self._heading += [0] * (len(self.rungs) - len(self._heading))
            self._downwards = range(len(self.rungs) - 2, -1, -1)
            again += self._leave_top(top)
        elif plan.lengths[-1] > self.rungs[-1].length:
            again += self._lengthen(plan.lengths[-1])
        self._to_create += plan.trials - self.planned
        self.planned = plan.trials
        self.finished = False
        self._settle()
        return [] if self.finished else again

    def _leave_top(self, top: int) -> Sequence[TrialId]:
        """Let the trials at the former last rung be promoted; return those that may be."""
        return self.rungs[top].waiting()

    def _lengthen(self, length: int) -> Sequence[TrialId]:
        """Let all trials of the only rung train on to a greater length; return those that had reached its end."""
        (rung,) = self.rungs
        former, rung.length = rung.length, length
        for trial in self.training:
            self._former.setdefault(trial, former)
        ended = rung.waiting()
        for trial in ended:
            rung.remove(trial)
            self._queue(trial, 0, Extended(former))
        self.given += (length - former) * (len(self.training) + len(ended))
        return ended

    def _make_rung(self, at: int, length: int) -> Rung:
        if not self._audit:
            return Rung(length, self._divisor, self.least)
        return AuditedRung(length, self._divisor, self.least, self._audit, (self._seed, self.number, at))

    def _queue(self, trial: TrialId, towards: int, why: RetriedOnRequest | Extended | Promoted) -> None:
        self.queued[trial] = (towards, why)
        self._heading[towards] += 1

    @property
    def arrivals(self) -> Sequence[int]:
        """How many trials reached each rung."""
        return [len(rung) for rung in self.rungs]

    def expected_results(self) -> list[int]:
        """Return how many results each rung will have in the end, without failures.

        The number is exact for rung 0.  ASHA promotes early arrivals while a rung is small, so a higher rung can get
        more results than this.
        """
        if self.finished:
            return [len(rung) for rung in self.rungs]
        expected: list[int] = []
        new = self._expected_entries(self._to_create - self._created)
        for at, rung in enumerate(self.rungs):
            further = self._heading[at] + new[at]
            if at:
                below = self.rungs[at - 1]
                promoted = below.quota_of(expected[-1])
                if self._audit:  # The best are promoted, and audits are a share of all promotions.
                    promoted = min(expected[-1], int(promoted / (1 - self._audit)))
                further += max(0, promoted - below.promoted)
            expected.append(len(rung) + further)
        return expected

    def _expected_entries(self, new: int) -> Sequence[int]:
        """Return how many of the trials that it will create are first compared at each rung."""
        return [new, *[0] * (len(self.rungs) - 1)]

    @property
    def can_resize(self) -> bool:
        """Whether the number of its trials can still change."""
        return not self.finished

    @property
    def fewest(self) -> int:
        """The smallest allowed number of trials: those that were created or reserved, without replaced ones."""
        return max(self._created, self.reserved) - (self._to_create - self.planned)

    @property
    def can_reserve(self) -> bool:
        """Whether it will create a trial that is not reserved yet."""
        return not self.finished and max(self._created, self.reserved) < self._to_create

    def reserve(self) -> int:
        """Reserve its next new trial that is not reserved yet, and return the index of this trial."""
        self.reserved = max(self._created, self.reserved) + 1
        return self.reserved - 1

    def resize(self, trials: int) -> None:
        """Set the total number of trials, without replacements of invalid ones; it is at least `fewest`."""
        self._to_create += trials - self.planned
        self.planned = trials
        self._settle()

    def standing(self) -> list[TrialId]:
        """Return all trials with a result, the best first: those at a higher rung are better than all others.

        Audited trials count like other promoted trials.
        """
        return list(dict.fromkeys(trial for rung in reversed(self.rungs) for trial in rung.ranking()))

    def retired(self) -> list[Retired]:
        """Return the paused trials of a bracket that has finished."""
        why = BracketFinished(self.number)
        return [Retired(trial, why) for rung in self.rungs[:-1] for trial in rung.waiting()]

    # -- hooks for the rule of promotion -------------------------------------------------

    def _enter(self, nth: int) -> tuple[int, New]:
        """Return the rung at which its ``nth`` new trial is first compared, and the reason."""
        return 0, Created(self.number, nth)

    @abstractmethod
    def _promotion(self) -> Job | None:
        """Promote a paused trial and return its job, or return None if none may be promoted now."""

    @property
    @abstractmethod
    def _has_promotion(self) -> bool:
        """Whether a paused trial may be promoted now."""

    @abstractmethod
    def _judge(self, trial: TrialId, at: int, length: int, loss: float, /) -> Verdict:
        """Process the result at ``length`` of a trial that trained towards rung ``at``."""

    @abstractmethod
    def _rung_to_fail(self, trial: TrialId) -> Rung | None:
        """Return the rung in which a trial would count as the worst if it failed now, or None if it has ended."""

    @abstractmethod
    def _settle(self) -> None:
        """Update `finished`: the bracket has finished if no trial trains and none will."""

    def _send(self, trial: TrialId, towards: int) -> None:
        self.training[trial] = towards
        self._heading[towards] += 1
        self.given += self.rungs[towards].length - (self.rungs[towards - 1].length if towards else 0)

    def _arrive(self, trial: TrialId) -> None:
        if (towards := self._towards(trial)) is not None:
            self.training.pop(trial, None)
            self.queued.pop(trial, None)
            self._former.pop(trial, None)
            self._heading[towards] -= 1

    def _towards(self, trial: TrialId) -> int | None:
        """Return the rung that a trial trains towards now or when a worker is free, or None if it has no job."""
        return self.queued[trial][0] if trial in self.queued else self.training.get(trial)

    @property
    def _dry(self) -> bool:
        """Whether no trial trains and none can be created, so that only a promotion can bring further results."""
        return not self.training and not self.queued and self._created >= self._to_create

    # -- state --------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """Return the state as JSON-able data."""
        return {
            "rungs": [rung.snapshot() for rung in self.rungs],
            "training": [[trial, rung] for trial, rung in self.training.items()],
            "queued": [[trial, rung, type(why).__name__, [*why]] for trial, (rung, why) in self.queued.items()],
            "former": [[trial, length] for trial, length in self._former.items()],
            "given": self.given,
            "finished": self.finished,
            "planned": self.planned,
            "to_create": self._to_create,
            "created": self._created,
            "reserved": self.reserved,
        }

    def restore(self, snapshot: Snapshot) -> None:
        """Set the state to that of a `snapshot`."""
        for rung, state in zip(self.rungs, snapshot["rungs"], strict=True):
            rung.restore(state)
        self.training, self._heading = {}, [0] * len(self.rungs)
        for trial, towards in snapshot["training"]:
            self._send(trial, towards)
        self.queued = {}
        for trial, towards, kind, fields in snapshot["queued"]:
            self._queue(trial, towards, _WHY_QUEUED[kind](*fields))
        self._former = dict(snapshot["former"])
        self.given = snapshot["given"]
        self.finished = snapshot["finished"]
        self.planned = snapshot["planned"]
        self._to_create = snapshot["to_create"]
        self._created = snapshot["created"]
        self.reserved = snapshot["reserved"]


def reached_end(bracket: Bracket) -> Stop:
    """Return the verdict about a trial that trained to max_length."""
    return Stop(ReachedEnd(bracket.rungs[-1].length))
