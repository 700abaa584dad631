"""A search: several brackets side by side that share the workers.

All six methods are tournaments.  Adaptive ASHA has several brackets, from aggressive to
conservative early stopping; `async_halving` and `sync_halving` have one; `random`, `grid`
and `single` have one with a single rung, so that every trial trains to the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from heapq import merge
from itertools import islice
from math import isfinite

from ashwood.errors import SearchError
from ashwood.search.asha import AshaBracket
from ashwood.search.bracket import Bracket
from ashwood.search.draw import training_seed
from ashwood.search.learning import LearningBracket
from ashwood.search.plan import (
    SearchPlan,
    floor_log,
    lengths_above,
    plan_search,
    raise_concurrency,
    share_slots,
    share_trials_anew,
)
from ashwood.search.replicates import Replicates
from ashwood.search.settings import MOST_RUNGS, Method, Mode, SearchSettings
from ashwood.search.sha import ShaBracket
from ashwood.search.stopping import StoppingBracket
from ashwood.search.vocabulary import Exit, Job, Retired, Snapshot, TrialId, Verdict

NO_REPLICATES = "the search has no max_length, so no results can be compared at one length"


class Tournament:
    """The search method for any settings; see `ashwood.search.vocabulary.SearchMethod`.

    A free worker gets a job of the bracket that uses the least of its share; among equals, of the
    one that got the least training so far.  So all brackets advance side by side, also with fewer
    workers than brackets.  A slot that its bracket cannot use goes to another bracket: no worker
    is idle as long as any bracket has a job.

    When all brackets have finished, the best `SearchSettings.replicates` finalists are replicated.  Finalists are the
    trials with a finite result at max_length.  Nothing that the brackets decide depends on replicates.

    Attributes:
        settings: the settings with which the search was started; `extend` replaces them.
        seed: the seed from which audits are drawn.
        plan: the plan that follows from the settings; `resize` and `limit` do not change it.
        brackets: its brackets, the most aggressive one first.
        replicates: its replicates, which are in no bracket.
        max_concurrent_trials: how many trials may train at once, or 0 for no bound.
    """

    def __init__(self, settings: SearchSettings, seed: int = 0) -> None:
        """Make a search without trials; ``seed`` is that of its experiment, from which audits are drawn."""
        self.settings = settings
        self.seed = seed
        self.plan: SearchPlan = plan_search(settings)
        rule = _rule(settings)
        self.brackets: list[Bracket] = [
            rule(number, plan, settings.divisor, audit=settings.share_audited, seed=seed)
            for number, plan in enumerate(self.plan.brackets)
        ]
        self.max_concurrent_trials = self.plan.max_concurrent_trials
        self._shares = [plan.share for plan in self.plan.brackets]
        self._method = settings.method
        self._replace_invalid = settings.method is not Method.GRID
        self.replicates = Replicates(settings.replicates)
        # The best finalists that have no replicate yet, the best last.  None if not all brackets have finished, or if
        # it was not computed since.
        self._unreplicated: list[TrialId] | None = None
        # Bracket of each trial and its index in the bracket, in the order of creation; for a replicate those of its
        # original.
        self._addresses: list[tuple[int, int]] = []
        self._created = [0] * len(self.brackets)
        self._retired: list[Retired] = []

    def next_job(self) -> Job | None:
        """Return what a free worker should train, or None if there is nothing now."""
        fresh = len(self._addresses)
        for number in self._neediest_first():
            bracket = self.brackets[number]
            if not bracket.finished and (job := bracket.next_job(fresh)) is not None:
                if job.trial == fresh:
                    self._addresses.append((number, self._created[number]))
                    self._created[number] += 1
                return job
        return self._next_replicate(fresh) if self._compared else None

    def _next_replicate(self, fresh: TrialId) -> Job | None:
        if (job := self.replicates.next_queued()) is None and (left := self._to_replicate()):
            original = left.pop()
            self._addresses.append(self._addresses[original])
            job = self.replicates.create(fresh, original, self.settings.max_length)
        return job

    @property
    def _compared(self) -> bool:
        """Whether all brackets have finished, so that the finalists cannot change."""
        return all(bracket.finished for bracket in self.brackets)

    def _to_replicate(self) -> list[TrialId]:
        """Return the best finalists that have no replicate yet, the best last, if all brackets have finished."""
        if self._unreplicated is None:
            self._unreplicated = self.replicates.missing(self._finalists(), self.settings.max_length)[::-1]
        return self._unreplicated

    def _finalists(self) -> list[TrialId]:
        """Return the best finalists of all brackets, as many as are replicated, the best first."""
        most = self.replicates.wanted
        if not most:
            return []
        ranked = merge(*(bracket.rungs[-1].best_keys(most) for bracket in self.brackets))
        return [trial for _, loss, trial in islice(ranked, most) if isfinite(loss)]

    def replicate_best(self, wanted: int) -> None:
        """Replicate the best ``wanted`` finalists.  Replicates that exist are not stopped."""
        self.replicates.wanted = wanted
        self._unreplicated = None

    @property
    def has_job(self) -> bool:
        """Whether `next_job` would return a job now."""
        if self._compared:
            return bool(self.replicates.queued or self._to_replicate())
        return any(bracket.has_job for bracket in self.brackets)

    def report(self, trial: TrialId, length: int, loss: float) -> Verdict:
        """Process the result of a trial at ``length``, which is at or past the target of its job.

        Raises:
            SearchError: the trial has no job, or ``length`` is short of its target.
        """
        if trial in self.replicates.created:
            return self.replicates.report(trial, length)
        bracket = self._bracket(trial)
        verdict = bracket.report(trial, length, loss)
        if bracket.finished:
            self._retired += bracket.retired()
        return verdict

    def exited(self, trial: TrialId, how: Exit) -> None:
        """Record that a trial ended while it trained or while it was paused.

        Raises:
            SearchError: the trial is unknown or has already ended.
        """
        if trial in self.replicates.created:
            self.replicates.exited(trial, how)
            return
        bracket = self._bracket(trial)
        bracket.exited(trial, how, replace=self._replace_invalid)
        if bracket.finished:
            self._retired += bracket.retired()

    def retry(self, trial: TrialId) -> list[TrialId]:
        """Give a failed trial a job again, which `next_job` returns before any other job of its bracket.

        Return the trials that were `retired` and may be promoted again, because their bracket is open again.

        Raises:
            SearchError: the trial is unknown or has not failed.
        """
        bracket = self._bracket(trial)
        if trial in self.replicates.created:
            self.replicates.retry(trial, len(bracket.rungs) - 1)
            return []
        self._unreplicated = None
        retired = {each.trial for each in bracket.retired()} if bracket.finished else set()
        bracket.retry(trial)
        pending = {each.trial for each in self._retired}
        self._retired = [each for each in self._retired if each.trial not in retired]
        return sorted(retired - pending)

    def trains(self, trial: TrialId) -> bool:
        """Return whether a trial has a job, as far as the search knows."""
        return trial in self._bracket(trial).training or trial in self.replicates.training

    def retired(self) -> Sequence[Retired]:
        """Return the paused trials that will never be promoted, each only once."""
        retired, self._retired = self._retired, []
        return retired

    @property
    def done(self) -> bool:
        """Whether no trial trains and none will."""
        replicates = self.replicates
        return self._compared and not (replicates.training or replicates.queued or self._to_replicate())

    def promising(self, enough: int, one_in: int, most: int) -> list[TrialId]:
        """Return the best trials of the longest rung with at least ``enough`` results, or an empty list.

        Args:
            enough: number of results that the rung needs.
            one_in: one of ``one_in`` trials of the rung is returned, but at least two.
            most: largest number of trials to return.
        """
        known = [rung for bracket in self.brackets for rung in bracket.rungs if len(rung) >= enough]
        if not known:
            return []
        rung = max(known, key=lambda rung: (rung.length, len(rung)))
        return rung.best(max(2, min(most, -(-len(rung) // one_in))))

    @property
    def max_trials(self) -> int:
        """Number of trials that the search creates, without replacements of invalid ones and without replicates."""
        return sum(bracket.planned for bracket in self.brackets)

    def resize(self, max_trials: int) -> None:
        """Create ``max_trials`` trials in all.

        Finished brackets keep their trials; the others share the rest by the weights of the plan.

        Raises:
            SearchError: more were created already, or the number of no bracket can change; nothing has changed.
        """
        changing = self._resizable()
        fixed = sum(bracket.planned for bracket in self.brackets if not bracket.can_resize)
        created = sum(bracket.fewest for bracket in changing)
        if max_trials < max(1, fixed + created):
            waiting = any(bracket.reserved > self._created[bracket.number] for bracket in changing)
            given = " or have given hyperparameters" if waiting else ""
            raise SearchError(f"{fixed + created} trials were created already{given}")
        weights = [self.plan.brackets[bracket.number].weight for bracket in changing]
        least = [bracket.fewest for bracket in changing]
        for bracket, trials in zip(changing, share_trials_anew(max_trials - fixed, weights, least), strict=True):
            bracket.resize(trials)
            if bracket.finished:
                self._retired += bracket.retired()

    def reserve(self, *, extra: bool = False) -> tuple[int, int]:
        """Reserve the next new trial of the first bracket that will create one, and return its bracket and index.

        Trials that are reserved already are passed over.

        Args:
            extra: whether the first bracket whose number of trials can change creates one more, which is reserved.

        Raises:
            SearchError: no bracket will create another trial, or can create one more; nothing has changed.
        """
        if extra:
            bracket = self._resizable()[0]
            bracket.resize(bracket.planned + 1)
            return bracket.number, bracket.reserve()
        for bracket in self.brackets:
            if bracket.can_reserve:
                return bracket.number, bracket.reserve()
        raise SearchError(f"all {self.max_trials} trials (max_trials) were created or have given hyperparameters")

    def _resizable(self) -> list[Bracket]:
        """Return the brackets whose number of trials can change.

        Raises:
            SearchError: there are none.
        """
        if self._method in (Method.GRID, Method.SINGLE):
            raise SearchError(f"a {self._method} search creates {_trials(self.max_trials)}, neither more nor fewer")
        changing = [bracket for bracket in self.brackets if bracket.can_resize]
        if not changing:
            raise SearchError(f"all {self.max_trials} trials were created and are being compared: none can be added")
        return changing

    def extend(
        self, max_trials: int | None = None, max_length: int | None = None, replicates: int | None = None
    ) -> list[TrialId]:
        """Add trials to the search, also to finished brackets, or longer rungs, or replicates.

        The search is then the one of the new `settings`, given all its results.  Promotions that this search would
        have made earlier are made now.  The rungs of a halving search stay, and longer ones are added above the last
        one, with the lengths of `lengths_above`.  In other searches, every trial trains on to ``max_length``.

        When all brackets have finished again, the finalists of the extended search are replicated.  Replicates of the
        same length count, and those of a shorter one do not.  Replicates never train on to a greater max_length.

        Return the trials that had ended or were `retired`, and take part again.

        Raises:
            SearchError: a number is not larger than the present one, or the method does not allow it; nothing has
                changed.
        """
        self.settings = self._extended(max_trials, max_length, replicates)
        self.plan = plan_search(self.settings)
        self.replicates.wanted, self._unreplicated = self.settings.replicates, None
        if max_trials is max_length is None:
            return []
        again: set[TrialId] = set()
        for bracket, plan in zip(self.brackets, self.plan.brackets, strict=True):
            again.update(bracket.extend(plan))
        pending = {each.trial for each in self._retired}
        self._retired = [each for each in self._retired if each.trial not in again]
        return sorted(again - pending)

    def _extended(self, max_trials: int | None, max_length: int | None, replicates: int | None) -> SearchSettings:
        """Return the settings of the extended search.

        Raises:
            SearchError: see `extend`.
        """
        settings, divisor = self.settings, self.settings.divisor
        if max_trials is max_length is replicates is None:
            raise SearchError("none of max_trials, max_length and replicates is given")
        lengths = [tuple(rung.length for rung in bracket.rungs) for bracket in self.brackets]
        trials = [bracket.planned for bracket in self.brackets]
        if max_trials is not None:
            if settings.method in (Method.GRID, Method.SINGLE):
                raise SearchError(f"a {settings.method} search has {_trials(self.max_trials)}, neither more nor fewer")
            if max_trials <= self.max_trials:
                raise SearchError(f"max_trials must be more than the present {self.max_trials}, not {max_trials}")
            trials = share_trials_anew(max_trials, [plan.weight for plan in self.plan.brackets], trials)
        if max_length is not None:
            if settings.open_ended:
                raise SearchError("it has no max_length, because training code decides how long a trial trains")
            if max_length <= settings.max_length:
                raise SearchError(f"max_length must be more than the present {settings.max_length}, not {max_length}")
            if not settings.method.is_halving:
                lengths = [(max_length,)]
            elif floor_log(divisor, max_length // settings.max_length, MOST_RUNGS) < MOST_RUNGS:
                above = lengths_above(settings.max_length, max_length, divisor)
                lengths = [(*each, *above) for each in lengths]
            else:
                raise SearchError(f"with divisor {float(divisor):g}, max_length {max_length} needs too many rungs")
        longest = settings.max_length if max_length is None else max_length
        return settings.extended(longest, tuple(lengths), tuple(trials), self._extended_replicates(replicates))

    def _extended_replicates(self, replicates: int | None) -> int:
        """Return the number of replicates of the extended search.

        Raises:
            SearchError: see `extend`.
        """
        present = self.replicates.wanted
        if replicates is None:
            return present
        if self.settings.open_ended:
            raise SearchError(NO_REPLICATES)
        if replicates <= present:
            raise SearchError(f"replicates must be more than the present {present}, not {replicates}")
        return replicates

    def limit(self, max_concurrent_trials: int) -> None:
        """Set how many trials may train at once, at least one for each bracket; 0 removes the bound."""
        self.max_concurrent_trials = raise_concurrency(max_concurrent_trials, len(self.brackets))
        self._shares = share_slots(self.max_concurrent_trials, len(self.brackets))

    def address(self, trial: TrialId) -> tuple[int, int]:
        """Return a trial's bracket and its index in that bracket; for a replicate those of its original."""
        return self._addresses[trial]

    def training_seed(self, seed: int, trial: TrialId) -> int:
        """Return the seed for a trial's training code in an experiment with a seed."""
        found = self.replicates.created.get(trial)
        return training_seed(seed, *self._addresses[trial], 0 if found is None else found.number)

    @property
    def training(self) -> dict[TrialId, int]:
        """The trials that train, each with the length at which its job ends."""
        found = {trial: bracket.rungs[at].length for bracket in self.brackets for trial, at in bracket.training.items()}
        return found | {trial: self.replicates.created[trial].length for trial in sorted(self.replicates.training)}

    def snapshot(self) -> Snapshot:
        """Return the whole state as JSON-able data."""
        return {
            # The address of a replicate is that of its original.
            "addresses": [
                None if trial in self.replicates.created else bracket
                for trial, (bracket, _) in enumerate(self._addresses)
            ],
            "brackets": [bracket.snapshot() for bracket in self.brackets],
            "replicates": self.replicates.snapshot(),
            "retired": [retired.trial for retired in self._retired],
            "max_concurrent_trials": self.max_concurrent_trials,
        }

    def restore(self, snapshot: Snapshot) -> None:
        """Set the state to that of a snapshot, which a search with equal settings made."""
        self.limit(snapshot["max_concurrent_trials"])
        self._created = [0] * len(self.brackets)
        self._addresses = []
        self.replicates.restore(snapshot["replicates"])
        self._unreplicated = None
        for trial, number in enumerate(snapshot["addresses"]):
            if number is None:
                self._addresses.append(self._addresses[self.replicates.created[trial].original])
                continue
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


def _trials(number: int) -> str:
    return f"{number} {'trial' if number == 1 else 'trials'}"


def _rule(settings: SearchSettings) -> Callable[..., Bracket]:
    if settings.method is Method.SYNC_HALVING:
        return ShaBracket
    if settings.method is Method.ADAPTIVE_ASHA and settings.mode is Mode.AUTO and not settings.stop_once:
        return partial(LearningBracket, hedged=settings.hedged)
    return StoppingBracket if settings.stop_once else AshaBracket
