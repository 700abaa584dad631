"""Failed trials that are retried: they have a job again, and the search ends as it must."""

from __future__ import annotations

from fractions import Fraction
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ashwood.errors import SearchError
from ashwood.search.settings import Method, SearchSettings
from ashwood.search.tournament import Tournament
from ashwood.search.vocabulary import Exit, Job, LastChance, Promote, Promoted, RetriedOnRequest, TrialId
from ashwood.testing.search_method import search_settings


def run(search: Tournament, luck: Random, failing: float, workers: int) -> set[TrialId]:
    """Train until the search is done; return the trials that failed."""
    jobs, failed = dict[TrialId, int](), set[TrialId]()
    retired = set[TrialId]()
    while not search.done:
        while len(jobs) < workers and (job := search.next_job()) is not None:
            assert job.trial not in jobs
            assert job.trial not in retired
            jobs[job.trial] = job.target
        trial = luck.choice(sorted(jobs))
        target = jobs.pop(trial)
        if luck.random() < failing:
            search.exited(trial, Exit.ERRORED)
            failed.add(trial)
        elif isinstance(verdict := search.report(trial, target, luck.choice([0.5, 1.0, luck.random()])), Promote):
            jobs[trial] = verdict.target
        retired.update(each.trial for each in search.retired())
    assert not jobs
    return failed


@given(search_settings(max_trials=20), st.randoms(use_true_random=False), st.floats(0.0, 1.0), st.integers(1, 6))
def test_retried_trials_are_ranked_and_each_rung_promotes_its_best(
    settings: SearchSettings, luck: Random, failing: float, workers: int
) -> None:
    search = Tournament(settings)
    failed = run(search, luck, failing, workers)
    created = sum(len(rung) for bracket in search.brackets for rung in bracket.rungs[:1])
    for trial in sorted(failed):
        search.retry(trial)
    assert search.done == (not failed)
    assert search.has_job == bool(failed)
    twin = Tournament(settings)
    twin.restore(search.snapshot())
    assert twin.snapshot() == search.snapshot()
    seed = luck.randrange(1_000)
    assert run(search, Random(seed), 0.0, workers) == run(twin, Random(seed), 0.0, workers) == set()
    assert twin.snapshot() == search.snapshot()
    assert sum(len(rung) for bracket in search.brackets for rung in bracket.rungs[:1]) == created
    for bracket in search.brackets:
        assert not any(rung.has_failed(trial) for rung in bracket.rungs for trial in failed)
        for here, above in zip(bracket.rungs, bracket.rungs[1:], strict=False):
            if not settings.stop_once:
                assert all(trial in above for trial in here.best(here.quota))
        if len(bracket.rungs[0]):
            assert bracket.rungs[-1].has_live_results()


def halving(trials: int) -> Tournament:
    """One bracket with rungs at 1 and 2, of which one in two trials is promoted."""
    return Tournament(
        SearchSettings(method=Method.ASYNC_HALVING, max_length=2, max_trials=trials, divisor=Fraction(2), num_rungs=2)
    )


def test_failed_trial_has_the_next_job_and_no_rank_until_it_reports() -> None:
    search = halving(4)
    for trial in range(3):
        assert search.next_job() is not None
        if trial:
            search.report(trial, 1, float(trial))
    search.exited(0, Exit.ERRORED)
    assert len(search.brackets[0].rungs[0]) == 3
    assert search.retry(0) == []
    assert len(search.brackets[0].rungs[0]) == 2
    assert search.next_job() == Job(0, 1, RetriedOnRequest(0))
    search.report(0, 1, 0.5)
    assert search.next_job() == Job(0, 2, Promoted(0, 1, 3, 1))


def test_bracket_that_had_finished_goes_on_with_those_that_waited() -> None:
    search = halving(2)
    assert [search.next_job() for _ in range(2)][1] is not None
    search.exited(0, Exit.ERRORED)
    search.report(1, 1, 1.0)
    chance = search.next_job()
    assert chance is not None
    assert isinstance(chance.why, Promoted | LastChance)
    search.exited(1, Exit.ERRORED)
    assert search.done
    assert search.retry(0) == []
    assert search.retry(1) == []
    assert search.next_job() == Job(0, 1, RetriedOnRequest(0))
    assert search.next_job() == Job(1, 2, RetriedOnRequest(1))
    search.report(0, 1, 0.5)
    search.report(1, 2, 1.0)
    assert search.next_job() == Job(0, 2, Promoted(0, 1, 2, 1))


def test_trials_that_were_retired_wait_again() -> None:
    search = halving(3)
    for _ in range(3):
        search.next_job()
    search.exited(0, Exit.ERRORED)
    search.report(1, 1, 1.0)
    search.report(2, 1, 2.0)
    assert search.next_job() == Job(1, 2, Promoted(0, 1, 3, 1))
    search.report(1, 2, 1.0)
    assert search.done
    assert [retired.trial for retired in search.retired()] == [2]
    assert search.retry(0) == [2]
    assert not search.done


def test_trial_that_waits_to_be_retried_can_be_killed() -> None:
    search = halving(1)
    search.next_job()
    search.exited(0, Exit.ERRORED)
    search.retry(0)
    search.exited(0, Exit.KILLED)
    assert search.done
    assert not search.has_job


def test_trial_that_has_not_failed_is_not_retried() -> None:
    search = halving(1)
    search.next_job()
    with pytest.raises(SearchError, match="trial 0 has not failed"):
        search.retry(0)
    with pytest.raises(SearchError, match="there is no trial 1"):
        search.retry(1)
