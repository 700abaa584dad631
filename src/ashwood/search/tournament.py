"""A search: brackets side by side that share the workers.

All six methods are tournaments.  Adaptive ASHA has several brackets, from aggressive to
conservative early stopping; `async_halving` and `sync_halving` have one; `random`, `grid`
and `single` have one with a single rung, so that every trial trains to the end.
"""

from __future__ import annotations

from collections.abc import Sequence

from ashwood.errors import SearchError
from ashwood.search.asha import AsyncHalving
from ashwood.search.bracket import Bracket
from ashwood.search.learning import LearningHalving
from ashwood.search.plan import SearchPlan, plan_search, raise_concurrency, share_slots, share_trials_anew
from ashwood.search.settings import Method, Mode, SearchSettings
from ashwood.search.sha import SyncHalving
from ashwood.search.stopping import StoppingHalving
from ashwood.search.vocabulary import Exit, Job, Retired, Snapshot, TrialId, Verdict


class Tournament:
    """The search method for any settings; see `ashwood.search.vocabulary.SearchMethod`.

    A free worker goes to the bracket that uses the least of its share, among equals to the
    one that was given the least training so far: all brackets advance side by side, also
    with fewer workers than brackets.  A bracket that has nothing to do lends its share to
    the others: no worker idles while any bracket has a job.

    Attributes:
        plan: as the search was started; `resize` and `limit` change what follows from it.
        brackets: the most aggressive first.
        max_concurrent_trials: how many trials may train at once; 0: no bound.
    """

    def __init__(self, settings: SearchSettings) -> None:
        self.plan: SearchPlan = plan_search(settings)
        rule = _rule(settings)
        self.brackets: list[Bracket] = [
            rule(number, plan, settings.divisor) for number, plan in enumerate(self.plan.brackets)
        ]
        self.max_concurrent_trials = self.plan.max_concurrent_trials
        self._shares = [plan.share for plan in self.plan.brackets]
        self._method = settings.method
        self._replace_invalid = settings.method is not Method.GRID
        # Of each trial, in order of creation: its bracket and which trial of the bracket it is.
        self._addresses: list[tuple[int, int]] = []
        self._created = [0] * len(self.brackets)
        self._retired: list[Retired] = []

    def next_job(self) -> Job | None:
        """A worker is free: what should it do?  None: nothing now."""
        fresh = len(self._addresses)
        for number in self._neediest_first():
            bracket = self.brackets[number]
            if not bracket.finished and (job := bracket.next_job(fresh)) is not None:
                if job.trial == fresh:
                    self._addresses.append((number, self._created[number]))
                    self._created[number] += 1
                return job
        return None

    @property
    def has_job(self) -> bool:
        """Whether `next_job` would give one now."""
        return any(bracket.has_job for bracket in self.brackets)

    def report(self, trial: TrialId, length: int, loss: float) -> Verdict:
        """The trial validated at ``length``, at or past the target of its job.

        Raises:
            SearchError: the trial has no job, or ``length`` is short of its target.
        """
        bracket = self._bracket(trial)
        verdict = bracket.report(trial, length, loss)
        if bracket.finished:
            self._retired += bracket.retired()
        return verdict

    def exited(self, trial: TrialId, how: Exit) -> None:
        """The trial ended by itself, while it trained or while it waited.

        Raises:
            SearchError: the trial is unknown or had already ended.
        """
        bracket = self._bracket(trial)
        bracket.exited(trial, how, replace=self._replace_invalid)
        if bracket.finished:
            self._retired += bracket.retired()

    def retry(self, trial: TrialId) -> list[TrialId]:
        """Let a trial that failed have a job again; `next_job` names it before any other trial of its bracket.

        Returns the trials that were retired and may be named again, as their bracket goes on.

        Raises:
            SearchError: the trial is unknown or has not failed.
        """
        bracket = self._bracket(trial)
        retired = {each.trial for each in bracket.retired()} if bracket.finished else set()
        bracket.retry(trial)
        pending = {each.trial for each in self._retired}
        self._retired = [each for each in self._retired if each.trial not in retired]
        return sorted(retired - pending)

    def trains(self, trial: TrialId) -> bool:
        """Whether a trial has a job, as far as the search knows."""
        return trial in self._bracket(trial).training

    def retired(self) -> Sequence[Retired]:
        """Trials that waited and never will be named again; each is returned once."""
        retired, self._retired = self._retired, []
        return retired

    @property
    def done(self) -> bool:
        """Nothing trains and nothing will."""
        return all(bracket.finished for bracket in self.brackets)

    def promising(self, enough: int, one_in: int, most: int) -> list[TrialId]:
        """The best of the trials at the greatest length that so many have reached; none where none is known so well.

        Args:
            enough: how many trials have to be known there.
            one_in: one in so many is promising, two at least.
            most: and no more than that.
        """
        known = [rung for bracket in self.brackets for rung in bracket.rungs if len(rung) >= enough]
        if not known:
            return []
        rung = max(known, key=lambda rung: (rung.length, len(rung)))
        return rung.best(max(2, min(most, -(-len(rung) // one_in))))

    @property
    def max_trials(self) -> int:
        """How many trials the search creates, replacements of invalid ones aside."""
        return sum(bracket.planned for bracket in self.brackets)

    def resize(self, max_trials: int) -> None:
        """Create so many trials in all.

        Brackets that have finished stay as they are; the others share the trials by the weights of the plan.

        Raises:
            SearchError: more were created already, or no bracket can take another number; nothing has changed.
        """
        if self._method in (Method.GRID, Method.SINGLE):
            raise SearchError(f"{self._method} search creates {self.max_trials} trials, neither more nor fewer")
        changing = [bracket for bracket in self.brackets if bracket.can_resize]
        if not changing:
            raise SearchError(f"its {self.max_trials} trials are complete and being compared: there can't be others")
        fixed = sum(bracket.planned for bracket in self.brackets if not bracket.can_resize)
        created = sum(bracket.fewest for bracket in changing)
        if max_trials < max(1, fixed + created):
            raise SearchError(f"{fixed + created} trials were created already")
        weights = [self.plan.brackets[bracket.number].weight for bracket in changing]
        least = [bracket.fewest for bracket in changing]
        for bracket, trials in zip(changing, share_trials_anew(max_trials - fixed, weights, least), strict=True):
            bracket.resize(trials)
            if bracket.finished:
                self._retired += bracket.retired()

    def limit(self, max_concurrent_trials: int) -> None:
        """Let so many trials train at once; 0: no bound.  Raised to the number of brackets where it is less."""
        self.max_concurrent_trials = raise_concurrency(max_concurrent_trials, len(self.brackets))
        self._shares = share_slots(self.max_concurrent_trials, len(self.brackets))

    def address(self, trial: TrialId) -> tuple[int, int]:
        """The bracket of a trial and which trial of the bracket it is."""
        return self._addresses[trial]

    def snapshot(self) -> Snapshot:
        """The whole state, as plain JSON-able data."""
        return {
            "addresses": [bracket for bracket, _ in self._addresses],
            "brackets": [bracket.snapshot() for bracket in self.brackets],
            "retired": [retired.trial for retired in self._retired],
            "max_concurrent_trials": self.max_concurrent_trials,
        }

    def restore(self, snapshot: Snapshot) -> None:
        """Take the place of the search that made the snapshot, from equal settings."""
        self.limit(snapshot["max_concurrent_trials"])
        self._created = [0] * len(self.brackets)
        self._addresses = []
        for number in snapshot["addresses"]:
            self._addresses.append((number, self._created[number]))
            self._created[number] += 1
        for bracket, state in zip(self.brackets, snapshot["brackets"], strict=True):
            bracket.restore(state)
        waiting = {retired.trial: retired for b in self.brackets if b.finished for retired in b.retired()}
        self._retired = [waiting[trial] for trial in snapshot["retired"]]

    def _bracket(self, trial: TrialId) -> Bracket:
        if not 0 <= trial < len(self._addresses):
            raise SearchError(f"there is no trial {trial}; {len(self._addresses)} were created")
        return self.brackets[self._addresses[trial][0]]

    def _neediest_first(self) -> Sequence[int]:
        if len(self.brackets) == 1:
            return (0,)
        needs = [
            (len(bracket.training) / share, bracket.given / share, bracket.number)
            for bracket, share in zip(self.brackets, self._shares, strict=True)
        ]
        return [number for _, _, number in sorted(needs)]


def _rule(settings: SearchSettings) -> type[Bracket]:
    if settings.method is Method.SYNC_HALVING:
        return SyncHalving
    if settings.method is Method.ADAPTIVE_ASHA and settings.mode is Mode.AUTO and not settings.stop_once:
        return LearningHalving
    return StoppingHalving if settings.stop_once else AsyncHalving
