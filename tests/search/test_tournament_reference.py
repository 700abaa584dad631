"""`Tournament` and the plain reference, side by side, until they disagree."""

from __future__ import annotations

from fractions import Fraction
from random import Random

from hypothesis import example, given, settings
from hypothesis import strategies as st

from ashwood.search.settings import Method, Mode, SearchSettings
from ashwood.search.tournament import Tournament
from ashwood.search.vocabulary import Exit, Job, Pause, Promote, TrialId
from ashwood.testing.search_method import search_settings
from tests.search.reference import Reference, plan_brackets

LOSSES = (float("nan"), float("inf"), float("-inf"), 0.0, 1.0, 2.0)


class Pair:
    """Both searches, asked and told the same."""

    def __init__(self, chosen: SearchSettings) -> None:
        self.fast, self.plain = Tournament(chosen), Reference(chosen)
        self.training: dict[TrialId, int] = {}
        self.waiting: set[TrialId] = set()

    def ask(self) -> Job | None:
        job, expected = self.fast.next_job(), self.plain.next_job()
        assert job == expected
        if job is not None:
            assert self.fast.address(job.trial) == self.plain.address(job.trial)
            self.training[job.trial] = job.target
            self.waiting.discard(job.trial)
        return job

    def report(self, trial: TrialId, beyond: int, loss: float) -> None:
        length = self.training.pop(trial) + beyond
        verdict = self.fast.report(trial, length, loss)
        assert verdict == self.plain.report(trial, length, loss)
        if isinstance(verdict, Promote):
            self.training[trial] = verdict.target
        elif isinstance(verdict, Pause):
            self.waiting.add(trial)
        self.settle()

    def exit(self, trial: TrialId, how: Exit) -> None:
        self.training.pop(trial, None)
        self.waiting.discard(trial)
        self.fast.exited(trial, how)
        self.plain.exited(trial, how)
        self.settle()

    def settle(self) -> None:
        retired = set(self.fast.retired())
        assert retired == set(self.plain.retired())
        self.waiting -= {trial for trial, _ in retired}
        assert self.fast.done == self.plain.done


def drive(chosen: SearchSettings, luck: Random) -> None:
    """Play a search to its end with some workers, some bad luck and some failures."""
    pair = Pair(chosen)
    workers, trouble = luck.choice((1, 3, 10, 1000)), luck.choice((0.0, 0.02, 0.3))
    ties = luck.random() < 0.5
    while True:
        while len(pair.training) < workers and pair.ask() is not None:
            pass
        if not pair.training:
            break
        workers = luck.choice((1, 3, 10)) if luck.random() < 0.05 else workers
        trial = luck.choice(sorted(pair.training))
        if luck.random() < trouble:
            pair.exit(luck.choice(sorted({trial, *pair.waiting})), luck.choice(list(Exit)))
        else:
            beyond = luck.choice((0, 0, 0, 0, 1, 40))
            pair.report(trial, beyond, luck.choice(LOSSES) if ties else luck.random())
    assert pair.fast.done


@settings(max_examples=150)
@given(search_settings(max_trials=60), st.randoms(use_true_random=True))
@example(SearchSettings(method=Method.SYNC_HALVING, max_length=9, max_trials=27), Random(0))
def test_they_never_disagree(chosen: SearchSettings, luck: Random) -> None:
    drive(chosen, luck)


def test_auto_agrees_with_the_reference_when_trials_fail() -> None:
    """Two trials of this search fail at the rung that their rankings are compared at."""
    chosen = SearchSettings(
        method=Method.ADAPTIVE_ASHA,
        mode=Mode.AUTO,
        max_length=100,
        max_trials=30,
        max_concurrent_trials=0,
        divisor=Fraction(3, 2),
        max_rungs=5,
    )
    drive(chosen, Random(1525))


@settings(max_examples=150)
@given(search_settings(max_trials=2_000, max_length=100_000))
def test_they_plan_alike(chosen: SearchSettings) -> None:
    plan, expected = Tournament(chosen).plan, plan_brackets(chosen)
    assert [bracket.trials for bracket in plan.brackets] == [trials for _, trials in expected]
    assert [bracket.lengths for bracket in plan.brackets] == [tuple(x) for x in Reference(chosen).lengths]
    assert [bracket.share for bracket in plan.brackets] == Reference(chosen).shares
