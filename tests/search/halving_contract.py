"""The expected behaviour of successive halving, computed from the calls that a search gets and the values it returns.

The state of the search itself is never used.  Everything is computed in the simplest way: a rung
is an unordered set of results, which are ranked again for each query.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf, isinf, isnan

from hypothesis import strategies as st

from ashwood.search.plan import BracketPlan, plan_search
from ashwood.search.settings import Method, Mode, SearchSettings
from ashwood.search.vocabulary import (
    Dropped,
    Exit,
    Job,
    LastChance,
    New,
    Pause,
    Promote,
    Promoted,
    ReachedEnd,
    Retired,
    Stop,
    TrialId,
    Verdict,
    Waits,
)
from ashwood.testing.search_method import Ledger, SearchMethodContract, search_settings

_Key = tuple[int, float, TrialId]


class _Rung:
    """The results at one length, in no order."""

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
    """The expected state of a bracket."""

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
    """The checks that hold for successive halving: by promotion, synchronous, or by stopping."""

    def __init__(self, settings: SearchSettings) -> None:
        super().__init__(settings)
        self.sync = settings.method is Method.SYNC_HALVING
        self.stops = settings.stop_once and not self.sync
        self.brackets = [_Bracket(plan) for plan in plan_search(settings).brackets]
        self.bracket_of: list[int] = []

    def quota(self, rung: _Rung) -> int:
        """Return how many trials of a rung may be promoted."""
        return max(self.sync or self.stops, int(len(rung.results) / self.settings.divisor))

    def took_job(self, job: Job, address: tuple[int, int]) -> None:
        """Check that a job is the promotion that is due, or a new trial if none is."""
        super().took_job(job, address)
        if isinstance(job.why, New):
            bracket = self.brackets[job.why.bracket]
            assert self.due(bracket) is None, f"{job}, but {self.due(bracket)} was due"
            assert bracket.created < bracket.to_create, f"{job}: its bracket had {bracket.to_create} trials to create"
            assert job.why.nth == bracket.created
            assert job.target == bracket.rungs[0].length
            bracket.created += 1
            bracket.heading[job.trial] = 0
            self.bracket_of.append(job.why.bracket)
        else:
            bracket = self.brackets[self.bracket_of[job.trial]]
            assert self.due(bracket) == job, f"{job}, but {self.due(bracket)} was due"
            at = next(at for at, rung in enumerate(bracket.rungs) if rung.length == job.target)
            bracket.rungs[at - 1].promoted.add(job.trial)
            bracket.heading[job.trial] = at

    def due(self, bracket: _Bracket) -> Job | None:
        """Return the promotion that a free worker must get from a bracket, or None."""
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
        """Return whether no further trial can reach a rung."""
        if bracket.created < bracket.to_create or any(towards <= at for towards in bracket.heading.values()):
            return False
        lower = [(rung, rung.best_waiting()) for rung in bracket.rungs[:at]]
        return not any(best is not None and rung.rank(best) <= self.quota(rung) for rung, best in lower)

    def reported(self, trial: TrialId, length: int, loss: float, verdict: Verdict) -> None:
        """Check that the verdict follows from the trial's rank in every rung that it has reached."""
        super().reported(trial, length, loss, verdict)
        bracket = self.brackets[self.bracket_of[trial]]
        at = bracket.heading.pop(trial)
        # A promoted trial is compared at its target only.  With stop_once trials never pause, and a report past a rung
        # counts for each rung up to its length.
        reached = [at] if not self.stops else [i for i, r in enumerate(bracket.rungs) if i >= at and r.length <= length]
        for rung in (bracket.rungs[i] for i in reached):
            kind = 1 if isnan(loss) else 0
            rung.results[trial] = (kind, 0.0 if kind else inf if isinf(loss) else loss, trial)
        expected = self.verdict(bracket, trial, reached)
        assert verdict == expected, f"trial {trial}, loss {loss} at {length}: {verdict} instead of {expected}"
        if isinstance(verdict, Promote):
            bracket.heading[trial] = reached[-1] + 1

    def verdict(self, bracket: _Bracket, trial: TrialId, reached: list[int]) -> Verdict:
        """Return the expected verdict about a trial that just reported in these rungs."""
        last = reached[-1]
        if last == len(bracket.rungs) - 1:
            return Stop(ReachedEnd(self.settings.max_length))
        ranks = [
            (i, rung.rank(trial), len(rung.results), self.quota(rung))
            for i, rung in ((i, bracket.rungs[i]) for i in reached)
        ]
        if not self.stops:
            return Pause(Waits(*ranks[-1]))
        target = bracket.rungs[last + 1].length
        for ranked in ranks:
            if ranked[1] > ranked[3]:
                if bracket.dry and not bracket.rungs[-1].live():
                    return Promote(target, LastChance(*ranked[:3]))
                return Stop(Dropped(*ranked))
        return Promote(target, Promoted(*ranks[-1]))

    def exited(self, trial: TrialId, how: Exit) -> None:
        """Rank a failed trial last in its rung, or remove an invalid one from all rungs."""
        bracket = self.brackets[self.bracket_of[trial]]
        waits_at = max((i for i, rung in enumerate(bracket.rungs) if trial in rung.results), default=0)
        at = bracket.heading.pop(trial, waits_at)
        super().exited(trial, how)
        bracket.failed.add(trial)
        if how is Exit.INVALID:
            for rung in bracket.rungs:
                rung.results.pop(trial, None)
                rung.promoted.discard(trial)
            bracket.to_create += self.settings.method is not Method.GRID
        else:
            bracket.rungs[at].results[trial] = (2, 0.0, trial)

    def idle(self) -> None:
        """Check that no bracket has a job."""
        super().idle()
        for number, bracket in enumerate(self.brackets):
            assert bracket.created == bracket.to_create, f"a worker is idle, but bracket {number} has trials to create"
            assert self.due(bracket) is None, f"a worker is idle, but bracket {number} has {self.due(bracket)}"

    def retired(self, retired: Iterable[Retired]) -> None:
        """Check that trials are retired only in a bracket that has no jobs left."""
        retired = list(retired)
        super().retired(retired)
        for trial, why in retired:
            bracket = self.brackets[why.bracket]
            assert self.bracket_of[trial] == why.bracket
            assert bracket.dry, f"trial {trial} was retired, but others of its bracket train"
            assert self.due(bracket) is None, f"trial {trial} was retired, but {self.due(bracket)} is due"

    def finished(self) -> None:
        """Check that the best trials of every rung were promoted, and that a trial reached the end."""
        super().finished()
        for number, bracket in enumerate(self.brackets):
            members = {trial for trial, at in enumerate(self.bracket_of) if at == number}
            for rung in bracket.rungs[:-1] if not self.stops else ():
                best = sorted(rung.results, key=rung.results.__getitem__)[: self.quota(rung)]
                assert set(best) <= rung.promoted | bracket.failed, f"bracket {number}: not all of {best} were promoted"
            # With stop_once, a stopped trial cannot replace a better one that fails later.
            excused = bracket.failed if self.stops else bracket.failed >= members
            assert bracket.rungs[-1].live() or excused, f"no trial of bracket {number} reached the end"


class HalvingContract(SearchMethodContract):
    """Tests that every method of successive halving passes, with every rank, rung and reason."""

    ledger = HalvingLedger

    def settings(self) -> st.SearchStrategy[SearchSettings]:
        """Return a strategy for all settings but those of searches that learn, whose new trials can skip rungs."""
        return search_settings().filter(lambda settings: not learns(settings))


def learns(settings: SearchSettings) -> bool:
    """Return whether a search learns which of its rungs to trust."""
    return settings.method is Method.ADAPTIVE_ASHA and settings.mode is Mode.AUTO and not settings.stop_once
