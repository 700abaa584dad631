"""The benchmark of search quality measures what it says, on tables made up here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf

import numpy as np
import pytest
from benchmarks.quality import ours
from benchmarks.quality.lcbench import STEPS, Curves, Problem
from benchmarks.quality.measure import TRAININGS, Score, regrets, scores, wall_clock
from benchmarks.quality.workers import Curve, Job, Trace, rows, run
from numpy.typing import NDArray

from ashwood.search.settings import Method, Mode, SearchSettings


class Script:
    """Says what it was told to say, and keeps what it hears."""

    def __init__(self, jobs: Sequence[Job | None], answers: Sequence[int | None] = ()) -> None:
        self._jobs = list(jobs)
        self._answers = list(answers)
        self.told: list[tuple[int, int, float]] = []

    def ask(self) -> Job | None:
        return self._jobs.pop(0) if self._jobs else None

    def tell(self, trial: int, length: int, metric: float) -> int | None:
        self.told.append((trial, length, metric))
        return self._answers.pop(0) if self._answers else None


def curves(*given: tuple[list[float], list[float]]) -> Callable[[int], Curve]:
    return lambda trial: Curve(*map(np.array, given[trial]))


THREE_STEPS = curves(([5, 7, 6], [1, 2, 3]), ([6, 9, 10], [10, 20, 30]))


def test_one_worker_trains_one_segment_after_another() -> None:
    script = Script([Job(0, 2), Job(1, 2), Job(0, 3), Job(1, 3)])
    # Steps end at 1, 2 (trial 0), 12, 22 (trial 1), 23 (trial 0), 33 (trial 1).
    assert run(script, THREE_STEPS, workers=1, budget=33) == Trace(
        times=[1, 2, 22, 33], metrics=[5, 7, 9, 10], trials=2, length=6, completed=2, first_completed=23
    )
    assert script.told == [(0, 2, 7), (1, 2, 9), (0, 3, 6), (1, 3, 10)]


def test_steps_after_the_budget_do_not_count() -> None:
    script = Script([Job(0, 3), Job(1, 3)])
    trace = run(script, THREE_STEPS, workers=2, budget=20)
    assert trace == Trace([1, 2, 20], [5, 7, 9], trials=2, length=5, completed=1, first_completed=3)
    assert script.told == [(0, 3, 6)]


def test_continuing_worker_is_busy_and_idle_worker_asks_again() -> None:
    script = Script([Job(0, 1), None, Job(1, 1)], answers=[2])
    trace = run(script, THREE_STEPS, workers=2, budget=inf)
    # Trial 0 ends at 1 and goes on until 2; the other worker is asked again at 1 and starts trial 1.
    assert script.told == [(0, 1, 5), (0, 2, 7), (1, 1, 6)]
    assert trace.times == [1, 2]


def test_simultaneous_reports_are_ordered_by_start() -> None:
    script = Script([Job(0, 2), Job(1, 1), Job(2, 1)])
    alike = curves(([1, 1], [1, 2]), ([1, 1], [2, 4]), ([1, 1], [2, 4]))
    run(script, alike, workers=3, budget=inf)
    assert [trial for trial, _, _ in script.told] == [0, 1, 2]


def problem(metric: NDArray[np.float32], seconds_a_step: float = 1.0) -> Problem:
    """Settings that are as good after every step."""
    steps = np.ones((len(metric), STEPS), np.float32)
    return Problem("7", Curves((metric[:, None] * steps), seconds_a_step * np.cumsum(steps, axis=1)))


def test_random_search_has_expected_regret() -> None:
    table = problem(np.arange(1, 1001, dtype=np.float32))
    n = 40
    best = [
        run(ours.methods()["random"](4, n, seed), rows(table.curves, table.order(seed)), 4, n * STEPS / 4).metrics[-1]
        for seed in range(200)
    ]
    # The largest of n numbers of 1 to N, drawn without replacement, and how far it strays.
    mean = n * 1001 / (n + 1)
    deviation = np.sqrt(n * 1001 * (1000 - n) / (n + 1) ** 2 / (n + 2))
    assert abs(np.mean(best) - mean) < 3 * deviation / np.sqrt(200)


@pytest.mark.parametrize("mode", Mode)
def test_early_stopping_finds_best_setting_if_first_step_predicts_it(mode: Mode) -> None:
    table = problem(np.arange(100.0, dtype=np.float32))
    settings = SearchSettings(method=Method.ADAPTIVE_ASHA, mode=mode, max_length=STEPS, max_trials=100)
    trace = run(ours.Tournaments(settings), rows(table.curves, table.order(0)), 4, inf)
    assert trace.metrics[-1] == 99
    assert trace.trials == 100
    assert trace.completed < 50


def test_i_epoch_trains_all_trials_for_some_steps_and_best_to_full_length() -> None:
    method = ours.EpochsThenBest(steps=3, trials=4, best=2)
    asked = []
    for metric in [0.1, 0.4, 0.3, 0.2]:
        job = method.ask()
        assert job is not None
        asked.append(job)
        if len(asked) == 4:
            assert method.ask() is None
        method.tell(job.trial, job.length, metric)
    assert asked == [Job(trial, 3) for trial in range(4)]
    assert [method.ask() for _ in range(3)] == [Job(1, STEPS), Job(2, STEPS), None]


def trace(times: list[float], metrics: list[float]) -> Trace:
    return Trace(times, metrics, trials=1, length=STEPS, completed=0, first_completed=None)


def score(**found: Trace) -> dict[str, Score]:
    """One task with metrics 0 to 10 and a budget of a second, seeds 0 and 1 alike."""
    table = problem(np.arange(11.0, dtype=np.float32), 4 / TRAININGS[4] / STEPS)
    assert wall_clock(table, 4) == pytest.approx(1)
    return scores([table], 4, {name: {("7", 0): found[name], ("7", 1): found[name]} for name in found})


def test_regret_is_0_for_the_best_setting_and_100_for_the_median_one() -> None:
    table = problem(np.arange(11.0, dtype=np.float32))
    at = regrets(table, trace([0.25, 0.5], [5, 9]), np.array([0.0, 0.25, 0.4, 0.5, 1.0]))
    assert at.tolist() == [200, 100, 100, 20, 20]


def test_equal_methods_share_rank() -> None:
    found = score(random=trace([0.05], [5]), same=trace([0.05], [5]), late=trace([0.05, 0.4], [4, 10]))
    assert {name: scored.ranks.tolist() for name, scored in found.items()} == {
        "random": [1.5, 1.5, 2.5, 2.5],
        "same": [1.5, 1.5, 2.5, 2.5],
        "late": [3, 3, 1, 1],
    }


def test_speedup_compares_times_to_final_result_of_random_search() -> None:
    found = score(random=trace([0.1, 0.8], [1, 8]), fast=trace([0.2], [9]), poor=trace([0.2], [7]))
    assert found["fast"].speedup == pytest.approx(5, rel=0.01)
    assert (found["poor"].speedup, found["poor"].never) == (1, 1)
    assert found["random"].speedup == pytest.approx(1.25, rel=0.01)


def test_method_with_fewer_searches_is_ranked_only_in_those() -> None:
    table = problem(np.arange(11.0, dtype=np.float32))
    end = wall_clock(table, 4)
    good, fair = trace([0.01 * end], [9]), trace([0.01 * end], [5])
    found = scores([table], 4, {"random": {("7", 0): fair, ("7", 1): fair}, "sparse": {("7", 1): good}})
    assert found["sparse"].ranks.tolist() == [1, 1, 1, 1]
    assert found["random"].ranks.tolist() == [1, 1, 1, 1]
    assert [scored.complete for scored in found.values()] == [True, False]
