"""The contract of search methods: tests of everything that the experiment relies on.

To test a new search method, subclass the contract in a test module::

    class TestMyMethod(SearchMethodContract):
        method = MyMethod

A hypothesis state machine calls the method in any order.  Workers come and go, trials fail, are
killed, stop themselves or reject their hyperparameters, losses are ties, NaN and infinities,
the search is restored from a snapshot, and invalid calls are made.  The expectations are in
`Ledger`, which never uses the state of the search itself.  A subclass of it can hold the exact rules of one method.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from fractions import Fraction
from math import inf, isfinite, nan
from typing import Any, ClassVar, Protocol, TypeVar

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from ashwood.errors import SearchError
from ashwood.search import vocabulary as v
from ashwood.search.plan import rung_limit
from ashwood.search.settings import Method, Mode, SearchSettings
from ashwood.search.vocabulary import Exit, Job, SearchMethod, TrialId

_Answer = TypeVar("_Answer")

# Methods in which trials compete are drawn more often than those in which they do not.
METHODS = (*[Method.ADAPTIVE_ASHA] * 4, *[Method.ASYNC_HALVING, Method.SYNC_HALVING] * 2, *Method)
DIVISORS = tuple(map(Fraction, ("3/2", "2", "5/2", "3", "4", "10")))
AUDITS = tuple(map(Fraction, ("0", "0.03", "1/2", "9/10")))


def losses() -> st.SearchStrategy[float]:
    """Return a strategy for losses: often from a small set, so that ties, NaN and infinities are frequent."""
    return st.sampled_from([nan, inf, -inf, 0.0, 1.0, 2.0]) | st.floats()


@st.composite
def search_settings(
    draw: st.DrawFn,
    *,
    methods: Sequence[Method] = METHODS,
    max_trials: int = 24,
    max_length: int = 300,
    replicates: int = 0,
) -> SearchSettings:
    """Draw valid settings of a search with at most ``max_trials`` trials and a length of at most ``max_length``.

    The number of replicates is from 0 to ``replicates``.
    """
    method = draw(st.sampled_from(methods))
    divisor = draw(st.sampled_from(DIVISORS))
    length = draw(st.integers(max_length // 3, max_length) | st.integers(1, max_length))
    trials = draw(st.integers(max_trials // 2, max_trials) | st.integers(1, max_trials))
    rungs = st.integers(1, min(6, rung_limit(divisor, length)))
    settings = SearchSettings(
        method=method,
        max_length=length,
        max_trials=1 if method is Method.SINGLE else trials,
        max_concurrent_trials=draw(st.sampled_from([0, 1, 2, 5, 16])),
        mode=draw(st.sampled_from(Mode)),
        divisor=divisor,
        max_rungs=draw(st.sampled_from([5, 4, 3, 2, 1, 6])),
        bracket_rungs=draw(st.just(()) | st.lists(rungs, max_size=3).map(tuple)),
        num_rungs=draw(st.none() | st.integers(1, 6)),
        stop_once=draw(st.booleans()),
        replicates=draw(st.integers(0, replicates)) if replicates else 0,
    )
    return replace(settings, audit=draw(st.sampled_from(AUDITS))) if settings.can_audit else settings


class MakesSearchMethod(Protocol):
    """The class of a search method, or a function that creates one."""

    def __call__(self, settings: SearchSettings, /) -> SearchMethod:
        """Return a new search."""


class Ledger:
    """The calls of a search so far, and the checks that hold for every search method.

    Attributes:
        targets: target of each training trial.
        waiting: paused trials, each with the target of its latest job.
        ended: trials that have ended for good.
        finals: finite losses of the trials that have trained to max_length, without replicates.
        originals: original of each replicate.
    """

    def __init__(self, settings: SearchSettings) -> None:
        self.settings = settings
        self.targets: dict[TrialId, int] = {}
        self.waiting: dict[TrialId, int] = {}
        self.ended: set[TrialId] = set()
        self.finals: dict[TrialId, float] = {}
        self.originals: dict[TrialId, TrialId] = {}
        self.addresses: list[tuple[int, int]] = []
        self.created = 0
        self.invalid = 0

    def took_job(self, job: Job, address: tuple[int, int]) -> None:
        """Check a job that a worker got."""
        assert job.target <= self.settings.max_length, f"{job} goes beyond max_length"
        if isinstance(job.why, v.New):
            assert job.trial == self.created, f"trial ids count from 0 in order of creation, but got {job}"
            self.created += 1
            self.addresses.append(address)
            if isinstance(job.why, v.Replicated):
                self.took_replicate(job, job.why, address)
            else:
                assert address == tuple(job.why)[:2], f"the address of trial {job.trial} is {address}, but {job.why!r}"
                assert job.target >= 1
                created = self.created - len(self.originals)
                assert created <= self.settings.max_trials + self.invalid, f"{created} trials were created"
        else:
            assert job.trial in self.waiting, f"{job} is for a trial that is not paused"
            assert job.target > self.waiting.pop(job.trial), f"{job} has no higher target than the job before it"
        self.targets[job.trial] = job.target

    def took_replicate(self, job: Job, why: v.Replicated, address: tuple[int, int]) -> None:
        """Check the job of a new replicate."""
        still = sorted((self.targets.keys() - self.originals.keys()) | self.waiting.keys())
        assert not still, f"{job} is a replicate, but trials {still} can still be compared"
        assert job.target == self.settings.max_length, f"{job} is a replicate"
        best = sorted(self.finals, key=lambda trial: (self.finals[trial], trial))
        expected = best[len(self.originals)]
        assert why == v.Replicated(expected, 1), f"{job} is a replicate, but the next best trial is {expected}"
        assert address == self.addresses[expected], f"a replicate of trial {expected} has the address {address}"
        self.originals[job.trial] = expected

    def reported(self, trial: TrialId, length: int, loss: float, verdict: v.Verdict) -> None:
        """Check the verdict about a trial that reported."""
        target = self.targets.pop(trial)
        match verdict:
            case v.Promote(further):
                assert length < further <= self.settings.max_length, f"{verdict} after a length of {length}"
                self.targets[trial] = further
            case v.Pause():
                self.waiting[trial] = target
            case v.Stop(why):
                assert not isinstance(why, v.ReachedEnd) or length >= why.length == self.settings.max_length
                if isinstance(why, v.ReachedEnd) and isfinite(loss) and trial not in self.originals:
                    self.finals[trial] = loss
                self.ended.add(trial)

    def exited(self, trial: TrialId, how: Exit) -> None:
        """Record that a trial ended by itself."""
        self.targets.pop(trial, None)
        self.waiting.pop(trial, None)
        self.ended.add(trial)
        # An invalid trial is replaced by another draw, except in a grid, which has no other point.
        is_replaced = self.settings.method is not Method.GRID and trial not in self.originals
        self.invalid += how is Exit.INVALID and is_replaced

    def retired(self, retired: Iterable[v.Retired]) -> None:
        """Check paused trials that the search has retired."""
        for trial, _ in retired:
            assert trial in self.waiting, f"trial {trial} was retired, but it is not paused"
            del self.waiting[trial]
            self.ended.add(trial)

    def idle(self) -> None:
        """Check that there is no job, after a worker got none."""

    def finished(self) -> None:
        """Check the state of a search that is done."""
        assert not self.targets, f"done, but {sorted(self.targets)} train"
        assert not self.waiting, f"done, but {sorted(self.waiting)} are paused and were never retired"
        wanted = min(self.settings.replicates, len(self.finals))
        assert len(self.originals) == wanted, f"{len(self.originals)} replicates were created, not {wanted}"


class SearchMethodContract:
    """Tests that every search method passes.

    Attributes:
        method: class of the search method, or a function that creates it from settings, wrapped in ``staticmethod``.
        tries: hypothesis settings of the test, or None for those of the loaded profile.
        ledger: class of the ledger that holds the expectations.
    """

    method: ClassVar[MakesSearchMethod]
    tries: ClassVar[hypothesis_settings | None] = None
    ledger: ClassVar[type[Ledger]] = Ledger

    def settings(self) -> st.SearchStrategy[SearchSettings]:
        """Return a strategy for settings; override it for a method that supports only some."""
        return search_settings()

    def test_method_keeps_contract_for_any_calls(self) -> None:
        """Reports, exits, restores and invalid calls come in any order."""
        machine: type[_Machine] = type("SearchMachine", (_Machine,), {"contract": self})
        run_state_machine_as_test(machine, settings=self.tries)


_picks = st.integers(0, 1_000)
_exits = st.sampled_from(Exit)


class _Machine(RuleBasedStateMachine):
    """A state machine of the workers, users and drivers of one search, and of a restored copy of it."""

    contract: ClassVar[SearchMethodContract]

    @initialize(data=st.data())
    def start(self, data: st.DataObject) -> None:
        self.settings = data.draw(self.contract.settings(), label="settings")
        self.ledger = self.contract.ledger(self.settings)
        # The search, and later a copy of it that was restored from a snapshot: both must behave alike.
        self.searches = [self.make()]

    def make(self) -> SearchMethod:
        return self.contract.method(self.settings)

    # -- rules ------------------------------------------------------------------------------

    @rule(workers=st.integers(1, 4))
    def workers_ask(self, workers: int) -> None:
        for _ in range(workers):
            self.ask()

    @rule(work=st.lists(st.tuples(_picks, losses(), st.sampled_from([0, 0, 0, 1, 50])), min_size=1, max_size=8))
    def workers_work(self, work: list[tuple[int, float, int]]) -> None:
        for pick, loss, further in work:
            if not self.ledger.targets and self.ask() is None:
                return
            trial = _choose(self.ledger.targets, pick)
            self.report(trial, self.ledger.targets[trial] + further, loss)

    @precondition(lambda self: self.ledger.targets)
    @rule(pick=_picks, how=_exits)
    def a_training_trial_ends(self, pick: int, how: Exit) -> None:
        self.exit(_choose(self.ledger.targets, pick), how)

    @rule(pick=_picks, how=_exits)
    def a_waiting_trial_ends(self, pick: int, how: Exit) -> None:
        self.drain()
        if self.ledger.waiting:
            self.exit(_choose(self.ledger.waiting, pick), how)

    @rule()
    def the_search_is_restored(self) -> None:
        # Snapshots are stored as JSON, so they must survive it. Retired trials are not collected before, because a
        # snapshot may also be taken while some are pending.
        snapshots = [json.dumps(search.snapshot()) for search in self.searches]
        assert len(set(snapshots)) == 1, "a restored search has another state"
        restored = self.make()
        restored.restore(json.loads(snapshots[0]))
        assert json.dumps(restored.snapshot()) == snapshots[0], "restore(snapshot) loses something"
        self.searches = [self.searches[0], restored]

    @rule(pick=_picks, loss=losses(), how=_exits)
    def invalid_calls_are_made(self, pick: int, loss: float, how: Exit) -> None:
        self.drain()
        unknown = self.ledger.created + pick
        self.refused(lambda search: search.report(unknown, self.settings.max_length, loss))
        self.refused(lambda search: search.report(-1, self.settings.max_length, loss))
        self.refused(lambda search: search.exited(unknown, how))
        if self.ledger.ended:
            ended = _choose(self.ledger.ended, pick)
            self.refused(lambda search: search.report(ended, self.settings.max_length, loss))
            self.refused(lambda search: search.exited(ended, how))
        if self.ledger.waiting:
            waits = _choose(self.ledger.waiting, pick)
            self.refused(lambda search: search.report(waits, self.settings.max_length, loss))
        if self.ledger.targets:
            trains = _choose(self.ledger.targets, pick)
            self.refused(lambda search: search.report(trains, self.ledger.targets[trains] - 1, loss))

    def teardown(self) -> None:
        """Let workers report until the search is done, which it must be after a bounded number of reports."""
        if sys.exc_info()[0] is not None or not hasattr(self, "searches"):
            return
        most = self.settings.max_trials + self.ledger.invalid + self.settings.replicates
        # Each trial trains at most once towards each rung, and there are at most max_length rungs.
        for _ in range(most * min(self.settings.max_length, 20) + 1):
            while self.ask() is not None:
                pass
            if not self.ledger.targets:
                break
            trial = _choose(self.ledger.targets, 7 * self.ledger.created)
            self.report(trial, self.ledger.targets[trial], float(trial * 7919 % 11))
        assert self.call_all(lambda search: search.done), "the search does not end"
        self.drain()
        self.ledger.finished()
        assert self.ledger.created > 0

    # -- calls of all copies at once ----------------------------------------------------------

    def ask(self) -> Job | None:
        self.drain()
        job = self.call_all(lambda search: search.next_job())
        if job is not None:
            self.ledger.took_job(job, self.call_all(lambda search: search.address(job.trial)))
        else:
            self.ledger.idle()
        self.check_done(idle=job is None)
        return job

    def report(self, trial: TrialId, length: int, loss: float) -> None:
        self.drain()
        verdict = self.call_all(lambda search: search.report(trial, length, loss))
        self.ledger.reported(trial, length, loss, verdict)
        self.check_done()

    def exit(self, trial: TrialId, how: Exit) -> None:
        self.drain()
        self.call_all(lambda search: search.exited(trial, how))
        self.ledger.exited(trial, how)
        self.check_done()

    def drain(self) -> None:
        self.ledger.retired(self.call_all(lambda search: list(search.retired())))

    def check_done(self, *, idle: bool = False) -> None:
        done = self.call_all(lambda search: search.done)
        assert not (done and self.ledger.targets), "done, but trials train"
        assert done or self.ledger.targets or not idle, "no trial trains, there is no job, and the search is not done"

    def refused(self, call: Callable[[SearchMethod], Any]) -> None:
        for search in self.searches:
            before = json.dumps(search.snapshot())
            try:
                call(search)
            except SearchError:
                assert json.dumps(search.snapshot()) == before, "a refused call changed the search"
            else:
                raise AssertionError("an invalid call raised no SearchError")

    def call_all(self, call: Callable[[SearchMethod], _Answer]) -> _Answer:
        first, *others = [call(search) for search in self.searches]
        assert all(first == other for other in others), f"a restored search returns {others}, the original {first}"
        return first


def _choose(trials: Iterable[TrialId], pick: int) -> TrialId:
    ordered = sorted(trials)
    return ordered[pick % len(ordered)]
