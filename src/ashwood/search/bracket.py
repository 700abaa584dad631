"""What every bracket does: create its trials, know who trains towards which rung, replace invalid ones.

How a trial that reached a rung is judged is the business of the rules:
`ashwood.search.asha`, `ashwood.search.sha` and `ashwood.search.stopping`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, ClassVar

from ashwood.errors import SearchError
from ashwood.search.plan import BracketPlan
from ashwood.search.rung import Rung
from ashwood.search.vocabulary import (
    BracketFinished,
    Created,
    CreatedHigher,
    Exit,
    Job,
    ReachedEnd,
    Retired,
    RetriedOnRequest,
    Snapshot,
    Stop,
    TrialId,
    Verdict,
)


class Bracket(ABC):
    """One ladder of rungs and the trials on it.

    Attributes:
        number: which bracket of the search this is, from 0.
        rungs: from the shortest to max_length.
        training: the rung that each training trial is on its way to.
        retries: the same of each trial that failed and waits for a worker to be tried again.
        given: total training length that was given out so far.
        planned: how many trials it creates, replacements of invalid ones aside.
        entry: the rung that new trials are first compared at.
        finished: nothing trains and nothing will.
    """

    least: ClassVar[int] = 0
    """How many trials of a rung go on at least, however few results it has."""

    def __init__(self, number: int, plan: BracketPlan, divisor: Fraction) -> None:
        self.number = number
        self.rungs = [Rung(length, divisor, self.least) for length in plan.lengths]
        self.training: dict[TrialId, int] = {}
        self.retries: dict[TrialId, int] = {}
        self.given = 0
        self.finished = False
        self._heading = [0] * len(self.rungs)
        self._downwards = range(len(self.rungs) - 2, -1, -1)
        self.planned = plan.trials
        self.entry = 0
        self._to_create = plan.trials
        self._created = 0

    # -- asked and told -------------------------------------------------------------------

    def next_job(self, fresh: TrialId) -> Job | None:
        """What a free worker should do; a new trial takes the id ``fresh``."""
        if self.retries:
            trial = next(iter(self.retries))
            towards = self.training[trial] = self.retries.pop(trial)
            return Job(trial, self.rungs[towards].length, RetriedOnRequest(towards))
        job = self._promotion()
        if job is None and self._created < self._to_create:
            nth, entry = self._created, self.entry
            why = CreatedHigher(self.number, nth, entry) if entry else Created(self.number, nth)
            job = Job(fresh, self.rungs[entry].length, why)
            self._created += 1
            self._send(fresh, entry)
            self.given += self.rungs[entry - 1].length if entry else 0
        return job

    @property
    def has_job(self) -> bool:
        """Whether `next_job` would give one now."""
        return not self.finished and (bool(self.retries) or self._created < self._to_create or self._has_promotion)

    def report(self, trial: TrialId, length: int, loss: float) -> Verdict:
        """A trial validated at the target of its job or past it.

        Raises:
            SearchError: the trial doesn't train, or ``length`` is short of its target.
        """
        at = self.training.get(trial)
        if at is None:
            raise SearchError(f"trial {trial} reported a length of {length}, but the search gave it no job")
        if length < self.rungs[at].length:
            raise SearchError(
                f"trial {trial} reported a length of {length}, but its job ends at {self.rungs[at].length}"
            )
        self._arrive(trial)
        verdict = self._judge(trial, at, length, loss)
        if not self.training:
            self._settle()
        return verdict

    def exited(self, trial: TrialId, how: Exit, *, replace: bool) -> None:
        """A trial of this bracket, training or waiting, ended by itself.

        Raises:
            SearchError: the trial had already ended.
        """
        rung = self._rung_to_fail(trial)
        if rung is None:
            raise SearchError(f"trial {trial} is said to have {how}, but it had already ended")
        self._arrive(trial)
        if how is Exit.INVALID:
            for entered in self.rungs:
                entered.remove(trial)
            self._to_create += replace
        else:
            rung.fail(trial)
        self._settle()

    def retry(self, trial: TrialId) -> None:
        """Let a trial that failed train again towards the rung in which it counts as the worst.

        It counts there no more, until it arrives or fails again.  A bracket that had finished goes on: trials that
        waited when it finished wait again.

        Raises:
            SearchError: the trial has not failed.
        """
        towards = next((number for number, rung in enumerate(self.rungs) if rung.has_failed(trial)), None)
        if towards is None:
            raise SearchError(f"trial {trial} has not failed")
        self.rungs[towards].remove(trial)
        self.retries[trial] = towards
        self._heading[towards] += 1
        self.finished = False

    @property
    def arrivals(self) -> Sequence[int]:
        """How many trials reached each rung, or one above it."""
        return [len(rung) for rung in self.rungs]

    @property
    def can_resize(self) -> bool:
        """Whether the number of its trials can still change."""
        return not self.finished

    @property
    def fewest(self) -> int:
        """The least number of trials that it can be resized to: those that it has created, replaced ones aside."""
        return self._created - (self._to_create - self.planned)

    def resize(self, trials: int) -> None:
        """Create so many trials in all, replacements of invalid ones aside; at least `fewest`."""
        self._to_create += trials - self.planned
        self.planned = trials
        self._settle()

    def retired(self) -> list[Retired]:
        """The trials that wait, of a bracket that has finished."""
        why = BracketFinished(self.number)
        return [Retired(trial, why) for rung in self.rungs[:-1] for trial in rung.waiting()]

    # -- the rule -------------------------------------------------------------------------

    @abstractmethod
    def _promotion(self) -> Job | None:
        """A trial that waits and should go on now, noted as training."""

    @property
    @abstractmethod
    def _has_promotion(self) -> bool:
        """Whether a trial that waits should go on now."""

    @abstractmethod
    def _judge(self, trial: TrialId, at: int, length: int, loss: float, /) -> Verdict:
        """Take the result, at ``length``, of a trial that was on its way to rung ``at``."""

    @abstractmethod
    def _rung_to_fail(self, trial: TrialId) -> Rung | None:
        """The rung in which the trial counts as the worst if it fails now; None: it has already ended."""

    @abstractmethod
    def _settle(self) -> None:
        """Note whether the bracket has finished."""

    def _send(self, trial: TrialId, towards: int) -> None:
        self.training[trial] = towards
        self._heading[towards] += 1
        self.given += self.rungs[towards].length - (self.rungs[towards - 1].length if towards else 0)

    def _arrive(self, trial: TrialId) -> None:
        if (towards := self._towards(trial)) is not None:
            self.training.pop(trial, None)
            self.retries.pop(trial, None)
            self._heading[towards] -= 1

    def _towards(self, trial: TrialId) -> int | None:
        """Return the rung that a trial trains towards, or will when a worker is free, or None if it has no job."""
        return self.training.get(trial, self.retries.get(trial))

    @property
    def _dry(self) -> bool:
        """No further result can come unless a trial that waits is promoted."""
        return not self.training and not self.retries and self._created >= self._to_create

    # -- state --------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """The state as JSON-able data."""
        return {
            "rungs": [rung.snapshot() for rung in self.rungs],
            "training": [[trial, rung] for trial, rung in self.training.items()],
            "retries": [[trial, rung] for trial, rung in self.retries.items()],
            "given": self.given,
            "finished": self.finished,
            "planned": self.planned,
            "to_create": self._to_create,
            "created": self._created,
        }

    def restore(self, snapshot: Snapshot) -> None:
        """Take back what `snapshot` gave."""
        for rung, state in zip(self.rungs, snapshot["rungs"], strict=True):
            rung.restore(state)
        self.training, self._heading = {}, [0] * len(self.rungs)
        for trial, towards in snapshot["training"]:
            self._send(trial, towards)
        self.retries = dict(snapshot["retries"])
        for towards in self.retries.values():
            self._heading[towards] += 1
        self.given = snapshot["given"]
        self.finished = snapshot["finished"]
        self.planned = snapshot["planned"]
        self._to_create = snapshot["to_create"]
        self._created = snapshot["created"]


def reached_end(bracket: Bracket) -> Stop:
    """What a trial does that trained to max_length."""
    return Stop(ReachedEnd(bracket.rungs[-1].length))
