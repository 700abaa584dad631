"""Tests of replicates: the best finalists train again with other seeds, after everything else."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ashwood.errors import SearchError
from ashwood.search.draw import bits, training_seed
from ashwood.search.settings import NO_LENGTH, Method, SearchSettings
from ashwood.search.tournament import Tournament
from ashwood.search.vocabulary import (
    Exit,
    Extended,
    Job,
    Promote,
    ReachedEnd,
    Replicated,
    RetriedOnRequest,
    Stop,
    Verdict,
)
from ashwood.testing.search_method import search_settings

Loss = Callable[[int], float]


def random_search(max_trials: int = 4, replicates: int = 2, max_length: int = 8) -> SearchSettings:
    return SearchSettings(method=Method.RANDOM, max_length=max_length, max_trials=max_trials, replicates=replicates)


def work(search: Tournament, workers: int, loss: Loss, seed: int = 0) -> list[tuple[Job, Verdict]]:
    """Train to the end with workers that report in any order, and return the jobs with their verdicts."""
    training: list[Job] = []
    done: list[tuple[Job, Verdict]] = []
    while True:
        while len(training) < workers and (job := search.next_job()) is not None:
            training.append(job)
        if not training:
            return done
        job = training.pop(bits(seed, len(done)) % len(training))
        verdict = search.report(job.trial, job.target, loss(job.trial))
        search.retired()
        done.append((job, verdict))
        if isinstance(verdict, Promote):
            training.append(Job(job.trial, verdict.target, verdict.why))


def originals(done: list[tuple[Job, Verdict]]) -> list[int]:
    return [job.why.original for job, _ in done if isinstance(job.why, Replicated)]


@given(search_settings(max_trials=12), st.integers(1, 5), st.integers(1, 4), st.integers(0, 1_000))
def test_search_before_replicates_decides_as_without_them(
    settings: SearchSettings, replicates: int, workers: int, seed: int
) -> None:
    def loss(trial: int) -> float:
        return float(bits(seed, trial) % 7)

    plain = work(Tournament(settings), workers, loss, seed)
    search = Tournament(replace(settings, replicates=replicates))
    done = work(search, workers, loss, seed)
    assert done[: len(plain)] == plain
    finalists = {job.trial for job, verdict in plain if isinstance(verdict.why, ReachedEnd)}
    best = sorted(finalists, key=lambda trial: (loss(trial), trial))[:replicates]
    assert sorted(originals(done)) == sorted(best)
    assert len(done) == len(plain) + len(best)
    assert all(job.target == settings.max_length for job, _ in done[len(plain) :])
    assert search.done


def test_best_finalists_are_replicated_side_by_side_after_all_others() -> None:
    search = Tournament(random_search())
    for trial in range(4):
        assert search.next_job() is not None
        if trial < 3:
            search.report(trial, 8, [0.3, 0.1, 0.2][trial])
    assert search.next_job() is None, "trial 3 still trains"
    assert not search.has_job
    search.report(3, 8, 0.4)
    assert search.has_job
    assert not search.done
    assert [search.next_job(), search.next_job(), search.next_job()] == [
        Job(4, 8, Replicated(1, 1)),
        Job(5, 8, Replicated(2, 1)),
        None,
    ]
    assert (search.address(4), search.address(5)) == (search.address(1), search.address(2))
    assert search.report(4, 8, 0.5) == Stop(ReachedEnd(8))
    assert not search.done
    search.exited(5, Exit.ERRORED)
    assert search.done
    assert search.max_trials == 4


def test_training_seed_of_replicate_differs_and_depends_on_address_alone() -> None:
    search = Tournament(random_search())
    work(search, 2, float)
    assert search.training_seed(7, 0) == training_seed(7, 0, 0)
    assert search.training_seed(7, 4) == training_seed(7, 0, 0, 1)
    assert len({search.training_seed(7, trial) for trial in range(6)}) == 6


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_finalists_without_finite_result_are_not_replicated(bad: float) -> None:
    search = Tournament(random_search(replicates=4))
    done = work(search, 1, lambda trial: bad if trial % 2 else float(trial))
    assert originals(done) == [0, 2]


def test_failed_replicate_is_not_replaced_but_retried_on_request() -> None:
    search = Tournament(random_search(max_trials=1, replicates=1))
    search.next_job()
    search.report(0, 8, 0.1)
    assert search.next_job() == Job(1, 8, Replicated(0, 1))
    with pytest.raises(SearchError, match="trial 1 has not failed"):
        search.retry(1)
    search.exited(1, Exit.ERRORED)
    assert search.done
    assert search.next_job() is None
    assert search.retry(1) == []
    assert not search.done
    copy = Tournament(search.settings)
    copy.restore(json.loads(json.dumps(search.snapshot())))
    assert copy.next_job() == search.next_job() == Job(1, 8, RetriedOnRequest(0))
    assert search.trains(1)


def test_invalid_replicate_is_not_replaced() -> None:
    search = Tournament(random_search(max_trials=1, replicates=1))
    search.next_job()
    search.report(0, 8, 0.1)
    search.next_job()
    search.exited(1, Exit.INVALID)
    assert search.done
    with pytest.raises(SearchError, match="had already ended"):
        search.exited(1, Exit.KILLED)


def test_replicates_of_former_max_length_do_not_count() -> None:
    search = Tournament(random_search(max_trials=2, replicates=1))
    assert originals(work(search, 1, float)) == [0]
    search.extend(max_length=16)
    assert not search.done
    done = work(search, 1, lambda trial: -trial)
    assert [(job.trial, job.target) for job, _ in done] == [(0, 16), (1, 16), (3, 16)]
    assert done[-1][0].why == Replicated(1, 1)
    search.extend(max_length=32)
    assert work(search, 1, lambda trial: -trial)[-1][0] == Job(4, 32, Replicated(1, 2))


def test_replicates_of_same_length_count_when_trials_are_added() -> None:
    search = Tournament(random_search(max_trials=2, replicates=2))
    work(search, 1, float)
    search.extend(max_trials=4)
    done = work(search, 1, lambda trial: -trial)
    assert originals(done) == [5, 4], "trials 0 and 1 have replicates"


def test_running_replicate_trains_to_its_former_length_when_search_is_extended() -> None:
    search = Tournament(random_search(max_trials=1, replicates=1))
    search.next_job()
    search.report(0, 8, 0.1)
    assert search.next_job() == Job(1, 8, Replicated(0, 1))
    assert search.extend(max_length=16) == [0]
    assert search.report(1, 8, 0.1) == Stop(ReachedEnd(8))
    assert [job for job, _ in work(search, 2, float)] == [Job(0, 16, Extended(8)), Job(2, 16, Replicated(0, 2))]


def test_number_of_replicates_can_be_set_and_extended() -> None:
    search = Tournament(random_search(replicates=0))
    work(search, 1, float)
    assert search.done
    search.replicate_best(1)
    assert not search.done
    assert originals(work(search, 1, float)) == [0]
    search.replicate_best(0)
    assert search.done
    search.replicate_best(1)
    assert search.done, "trial 0 has its replicate"
    with pytest.raises(SearchError, match="replicates must be more than the present 1, not 1"):
        search.extend(replicates=1)
    assert search.extend(replicates=3) == []
    assert search.settings.replicates == 3
    assert originals(work(search, 1, float)) == [1, 2]


def test_search_without_length_has_no_replicates() -> None:
    search = Tournament(random_search(replicates=0, max_length=NO_LENGTH))
    with pytest.raises(SearchError, match="no max_length"):
        search.extend(replicates=1)
