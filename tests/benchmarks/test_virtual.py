"""The benchmarks in virtual time measure what they say, on searches that can be counted by hand."""

from __future__ import annotations

import pytest
from benchmarks.robustness import METHODS, Case, FromScratch, SyncBrackets
from benchmarks.scaling import Scale
from benchmarks.virtual import Course, spec_of

from ashwood.backends.simulated import SimulatedBackend
from ashwood.experiment.experiment import Experiment
from ashwood.forecast.training import Exchangeable, Setting
from ashwood.search.settings import Method, SearchSettings
from ashwood.search.vocabulary import Created, Exit, Job
from benchmarks import robustness, scaling


def test_course_of_search_without_early_stopping() -> None:
    spec = spec_of(SearchSettings(method=Method.RANDOM, max_length=10, max_trials=5, max_concurrent_trials=0))
    course = Course(Experiment(spec), SimulatedBackend(spec, Exchangeable(), 2))
    assert (course.full, course.work_until_full) == (20.0, 40.0)
    assert (course.ended, course.work) == (30.0, 50.0)
    assert course.worked == [10.0] * 5


def test_measures_of_search() -> None:
    scale = Scale(
        workers=10, wall=50.0, work=200.0, full=15.0, work_until_full=135.0, usual=16.0, longest=32.0, last_rung=0.75
    )
    assert scale.throughput == pytest.approx(0.9)
    assert scale.bound == 32.0
    assert scale.ratio(16.0) == pytest.approx((50 - 12) / 20)
    assert scale.ratio(32.0) == pytest.approx((50 - 24) / 32)
    assert scale.idle == pytest.approx(0.6)
    assert scale._replace(full=0.0).throughput is None


@pytest.mark.parametrize("search", scaling.SEARCHES)
def test_every_search_creates_its_trials_at_full_throughput(search: str) -> None:
    scale = scaling._run(scaling.Case(search, straggling=True, trials=200, workers=20))
    assert scale.throughput == pytest.approx(1.0)
    assert scale.bound <= scale.wall


def sync(trials: int, brackets: int) -> SyncBrackets:
    return SyncBrackets(
        SearchSettings(
            method=Method.ADAPTIVE_ASHA, max_length=16, max_trials=trials * brackets, bracket_rungs=(2,) * brackets
        )
    )


def next_job(search: SyncBrackets) -> Job:
    job = search.next_job()
    assert job is not None
    return job


def test_bracket_begins_when_earlier_brackets_have_no_job() -> None:
    search = sync(4, 2)
    jobs = [next_job(search) for _ in range(5)]
    assert [job.why for job in jobs] == [Created(0, nth) for nth in range(4)] + [Created(1, 0)]
    for job in jobs[:4]:
        search.report(job.trial, job.target, float(job.trial))
    assert (next_job(search).trial, next_job(search).why) == (0, Created(1, 1))


def test_bracket_that_lost_its_best_trial_promotes_no_other_to_last_rung() -> None:
    search = sync(4, 1)
    for job in [next_job(search) for _ in range(4)]:
        search.report(job.trial, job.target, float(job.trial))
    search.exited(next_job(search).trial, Exit.ERRORED)
    assert search.next_job() is None
    assert search.done


def test_training_without_checkpoints_repeats_whole_length() -> None:
    model = Exchangeable(unit_seconds=2.0)
    assert FromScratch(model).train(Setting(0, 7), 4, 16) == model.train(Setting(0, 7), 0, 16)


@pytest.mark.parametrize("method", [METHODS[0], pytest.param(METHODS[1], marks=pytest.mark.slow)])
def test_lost_attempts_delay_first_completed_trial(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    monkeypatch.setattr(robustness, "TIME", 450.0)
    calm, lossy = (robustness._simulate((Case(method, 0.1, drop), 0))[1] for drop in (0.0, 0.01))
    assert calm.completed > lossy.completed
    assert 256 + 64 + 16 + 4 + 1 < calm.first < lossy.first == 450.0
