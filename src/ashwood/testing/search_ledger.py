"""What must be true of a search, kept from what it was asked and told, never from its inside.

Everything is computed in the plainest way: a rung is a bag of results, ranked anew at
every question.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf, isinf, isnan

from ashwood.search.plan import BracketPlan, plan_search
from ashwood.search.settings import Method, SearchSettings
from ashwood.search.vocabulary import (
    Dropped,
    Exit,
    GoOn,
    Job,
    LastChance,
    New,
    Pause,
    Promoted,
    ReachedEnd,
    Retired,
    Stop,
    TrialId,
    Verdict,
    Waits,
)

_Key = tuple[int, float, TrialId]


class Ledger:
    """What was said to a search and by it, and what must therefore be true of any.

    Attributes:
        targets: where the job of each trial that trains ends.
        waiting: the trials that wait, and what their latest job was.
        ended: the trials that ended for good.
    """

    def __init__(self, settings: SearchSettings) -> None:
        self.settings = settings
        self.targets: dict[TrialId, int] = {}
        self.waiting: dict[TrialId, int] = {}
        self.ended: set[TrialId] = set()
        self.created = 0
        self.invalid = 0

    def took(self, job: Job, address: tuple[int, int]) -> None:
        """A worker got a job."""
        assert job.target <= self.settings.max_length, f"{job} goes beyond max_length"
        if isinstance(job.why, New):
            assert job.trial == self.created, f"trial ids count from 0 in order of creation, but got {job}"
            assert address == tuple(job.why), f"the address of trial {job.trial} is {address}, but {job.why!r}"
            assert job.target >= 1
            self.created += 1
            assert self.created <= self.settings.max_trials + self.invalid, f"{self.created} trials were created"
        else:
            assert job.trial in self.waiting, f"{job} is for a trial that doesn't wait"
            assert job.target > self.waiting.pop(job.trial), f"{job} leads back"
        self.targets[job.trial] = job.target

    def heard(self, trial: TrialId, length: int, loss: float, verdict: Verdict) -> None:  # noqa: ARG002 - for rankings
        """A trial reported, and this is what the search said."""
        target = self.targets.pop(trial)
        match verdict:
            case GoOn(further):
                assert length < further <= self.settings.max_length, f"{verdict} after a length of {length}"
                self.targets[trial] = further
            case Pause():
                self.waiting[trial] = target
            case Stop(why):
                assert not isinstance(why, ReachedEnd) or length >= why.length == self.settings.max_length
                self.ended.add(trial)

    def lost(self, trial: TrialId, how: Exit) -> None:
        """A trial ended by itself."""
        self.targets.pop(trial, None)
        self.waiting.pop(trial, None)
        self.ended.add(trial)
        # A grid has no other point to offer.
        self.invalid += how is Exit.INVALID and self.settings.method is not Method.GRID

    def closed(self, retired: Iterable[Retired]) -> None:
        """The search gave up trials that wait."""
        for trial, _ in retired:
            assert trial in self.waiting, f"trial {trial} was retired, but it doesn't wait"
            del self.waiting[trial]
            self.ended.add(trial)

    def idle(self) -> None:
        """A worker asked and got nothing."""

    def finished(self) -> None:
        """The search is done."""
        assert not self.targets, f"done, but {sorted(self.targets)} train"
        assert not self.waiting, f"done, but {sorted(self.waiting)} wait and were never retired"


class _Rung:
    """The results at one length, in no order at all."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.results: dict[TrialId, _Key] = {}
        self.promoted: set[TrialId] = set()

    def rank(self, trial: TrialId) -> int:
        return 1 + sum(key < self.results[trial] for key in self.results.values())

    def live(self) -> list[TrialId]:
        return [trial for trial, key in self.results.items() if key[0] < 2]

    def best_waiting(self) -> TrialId | None:
        return min(set(self.live()) - self.promoted, key=self.results.__getitem__, default=None)


class _Bracket:
    """One bracket as its plan and the reports make it."""

    def __init__(self, plan: BracketPlan) -> None:
        self.rungs = [_Rung(length) for length in plan.lengths]
        self.to_create = plan.trials
        self.created = 0
        self.heading: dict[TrialId, int] = {}
        self.failed: set[TrialId] = set()

    @property
    def dry(self) -> bool:
        return not self.heading and self.created == self.to_create


class HalvingLedger(Ledger):
    """What must be true of successive halving: by promotion, synchronous, or by stopping."""

    def __init__(self, settings: SearchSettings) -> None:
        super().__init__(settings)
        self.sync = settings.method is Method.SYNC_HALVING
        self.stops = settings.stop_once and not self.sync
        self.brackets = [_Bracket(plan) for plan in plan_search(settings).brackets]
        self.home: list[int] = []

    def quota(self, rung: _Rung) -> int:
        """How many results of a rung may go on."""
        return max(self.sync or self.stops, int(len(rung.results) / self.settings.divisor))

    def took(self, job: Job, address: tuple[int, int]) -> None:
        """A new trial only where no promotion is due, and only the promotion that is."""
        super().took(job, address)
        if isinstance(job.why, New):
            bracket = self.brackets[job.why.bracket]
            assert self.due(bracket) is None, f"{job}, but {self.due(bracket)} was due"
            assert bracket.created < bracket.to_create, f"{job}: its bracket had {bracket.to_create} trials to create"
            assert job.why.nth == bracket.created
            assert job.target == bracket.rungs[0].length
            bracket.created += 1
            bracket.heading[job.trial] = 0
            self.home.append(job.why.bracket)
        else:
            bracket = self.brackets[self.home[job.trial]]
            assert self.due(bracket) == job, f"{job}, but {self.due(bracket)} was due"
            at = next(at for at, rung in enumerate(bracket.rungs) if rung.length == job.target)
            bracket.rungs[at - 1].promoted.add(job.trial)
            bracket.heading[job.trial] = at

    def due(self, bracket: _Bracket) -> Job | None:
        """The promotion that a bracket owes to a free worker."""
        if self.stops:
            return None
        ladder = list(enumerate(bracket.rungs))[-2::-1] if len(bracket.rungs) > 1 else []
        chance = bracket.dry and not bracket.rungs[-1].live()
        for last_chance in (False, True)[: 1 + chance]:
            for at, rung in ladder:
                best = rung.best_waiting()
                if best is None or (self.sync and not self.complete(bracket, at)):
                    continue
                rank, of, quota = rung.rank(best), len(rung.results), self.quota(rung)
                target = bracket.rungs[at + 1].length
                if last_chance:
                    return Job(best, target, LastChance(at, rank, of))
                if rank <= quota:
                    return Job(best, target, Promoted(at, rank, of, quota))
        return None

    def complete(self, bracket: _Bracket, at: int) -> bool:
        """Whether nobody can come to a rung any more."""
        if bracket.created < bracket.to_create or any(towards <= at for towards in bracket.heading.values()):
            return False
        lower = [(rung, rung.best_waiting()) for rung in bracket.rungs[:at]]
        return not any(best is not None and rung.rank(best) <= self.quota(rung) for rung, best in lower)

    def heard(self, trial: TrialId, length: int, loss: float, verdict: Verdict) -> None:
        """The verdict follows from the trial's rank in every rung that it passed."""
        super().heard(trial, length, loss, verdict)
        bracket = self.brackets[self.home[trial]]
        at = bracket.heading.pop(trial)
        # A promoted trial is compared where it was sent; one that nobody pauses, wherever it passed.
        reached = [at] if not self.stops else [i for i, r in enumerate(bracket.rungs) if i >= at and r.length <= length]
        for rung in (bracket.rungs[i] for i in reached):
            kind = 1 if isnan(loss) else 0
            rung.results[trial] = (kind, 0.0 if kind else inf if isinf(loss) else loss, trial)
        expected = self.verdict(bracket, trial, reached)
        assert verdict == expected, f"trial {trial}, loss {loss} at {length}: {verdict}, but {expected} was due"
        if isinstance(verdict, GoOn):
            bracket.heading[trial] = reached[-1] + 1

    def verdict(self, bracket: _Bracket, trial: TrialId, reached: list[int]) -> Verdict:
        """What a trial must be told that just reported in these rungs."""
        last = reached[-1]
        if last == len(bracket.rungs) - 1:
            return Stop(ReachedEnd(self.settings.max_length))
        places = [
            (i, rung.rank(trial), len(rung.results), self.quota(rung))
            for i, rung in ((i, bracket.rungs[i]) for i in reached)
        ]
        if not self.stops:
            return Pause(Waits(*places[-1]))
        target = bracket.rungs[last + 1].length
        for place in places:
            if place[1] > place[3]:
                if bracket.dry and not bracket.rungs[-1].live():
                    return GoOn(target, LastChance(*place[:3]))
                return Stop(Dropped(*place))
        return GoOn(target, Promoted(*places[-1]))

    def lost(self, trial: TrialId, how: Exit) -> None:
        """Who failed comes last in its rung; who was invalid was never there."""
        bracket = self.brackets[self.home[trial]]
        waits_at = max((i for i, rung in enumerate(bracket.rungs) if trial in rung.results), default=0)
        at = bracket.heading.pop(trial, waits_at)
        super().lost(trial, how)
        bracket.failed.add(trial)
        if how is Exit.INVALID:
            for rung in bracket.rungs:
                rung.results.pop(trial, None)
                rung.promoted.discard(trial)
            bracket.to_create += self.settings.method is not Method.GRID
        else:
            bracket.rungs[at].results[trial] = (2, 0.0, trial)

    def idle(self) -> None:
        """No bracket has a job."""
        super().idle()
        for number, bracket in enumerate(self.brackets):
            assert bracket.created == bracket.to_create, f"a worker idles while bracket {number} has trials to create"
            assert self.due(bracket) is None, f"a worker idles while bracket {number} owes {self.due(bracket)}"

    def closed(self, retired: Iterable[Retired]) -> None:
        """Only in a bracket in which nothing happens any more."""
        retired = list(retired)
        super().closed(retired)
        for trial, why in retired:
            bracket = self.brackets[why.bracket]
            assert self.home[trial] == why.bracket
            assert bracket.dry, f"trial {trial} was retired, but others of its bracket train"
            assert self.due(bracket) is None, f"trial {trial} was retired, but {self.due(bracket)} is due"

    def finished(self) -> None:
        """The best of every rung went on, and somebody reached the end."""
        super().finished()
        for number, bracket in enumerate(self.brackets):
            members = {trial for trial, home in enumerate(self.home) if home == number}
            for rung in bracket.rungs[:-1] if not self.stops else ():
                best = sorted(rung.results, key=rung.results.__getitem__)[: self.quota(rung)]
                assert set(best) <= rung.promoted | bracket.failed, f"bracket {number}: not all of {best} went on"
            # A trial that was stopped can't be called back when the one ahead of it fails later.
            excused = bracket.failed if self.stops else bracket.failed >= members
            assert bracket.rungs[-1].live() or excused, f"no trial of bracket {number} reached the end"
