"""Tests of the recommended setting: the mean over seeds at max_length, not the luckiest point of a curve."""

from __future__ import annotations

from dataclasses import replace
from math import inf, nan, sqrt
from random import Random
from statistics import fmean, stdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ashwood.experiment.lifecycle import ExperimentState
from ashwood.search.settings import Method, SearchSettings
from ashwood.views.ladder import Final, Ladder
from ashwood.views.progress import Progress
from ashwood.views.recommendation import Recommendation, describe_results, recommend, recommendation_record
from ashwood.views.settled import LateResults
from tests.views.simulate import Workers, spec_of
from tests.views.streams import runs

RANDOM = SearchSettings(method=Method.RANDOM, max_length=8, max_trials=4)


def ladder_with(*settings: list[float], smaller_is_better: bool = True) -> Ladder:
    """Return a ladder in which each setting has these results: of its original, and of its replicates."""
    ladder = Ladder(spec_of(RANDOM, smaller_is_better=smaller_is_better))
    fresh = len(settings)
    for trial, results in enumerate(settings):
        ladder.finals[trial] = Final(8, results[0])
        for result in results[1:]:
            ladder.originals[fresh], ladder.finals[fresh] = trial, Final(8, result)
            fresh += 1
    return ladder


def order(ladder: Ladder) -> list[int]:
    return [each.trial for each in recommended(ladder)]


def recommended(ladder: Ladder) -> list[Recommendation]:
    return recommend(ladder, len(ladder.finals), lambda _trial: True)


def progress_of(ran: Workers) -> Progress:
    progress = Progress(ran.spec)
    for entry in ran.entries:
        progress.apply(entry)
    return progress


finite = st.floats(-1e6, 1e6)


@given(st.lists(finite, min_size=1, max_size=9), st.booleans())
def test_without_replicates_order_is_that_of_results(results: list[float], smaller: bool) -> None:
    sign = 1 if smaller else -1
    expected = sorted(range(len(results)), key=lambda trial: (sign * results[trial], trial))
    assert order(ladder_with(*([each] for each in results), smaller_is_better=smaller)) == expected


def noisy(level: float, last: float, spread: float = 1.0) -> LateResults:
    """Return results that alternate around a level, and then a last one."""
    late = LateResults(20)
    for length in range(1, 20):
        late.add(length, level + spread * (-1) ** length)
    late.add(20, last)
    return late


def test_noisy_curves_are_compared_without_their_noise() -> None:
    ladder = ladder_with([0.5], [1.0])
    ladder.late = {0: noisy(3.0, 0.5), 1: noisy(1.0, 1.0)}
    (first, second) = recommended(ladder)
    assert (first.trial, second.trial) == (1, 0)
    assert first.mean == pytest.approx(1.0, abs=0.1)
    assert first.noise > 0.5
    assert "without the noise of single validations" in describe_results(first, "epochs")


def test_smooth_curves_are_compared_by_their_last_results() -> None:
    ladder = ladder_with([0.5], [1.0])
    for trial, last in enumerate([0.5, 1.0]):
        ladder.late[trial] = LateResults(8)
        for length in range(1, 9):
            ladder.late[trial].add(length, last + 8 / length - 1)
    assert [each.results for each in recommended(ladder)] == [(0.5,), (1.0,)]


@given(st.lists(st.lists(finite, min_size=1, max_size=4), min_size=1, max_size=6))
def test_expected_results_are_between_own_mean_and_mean_of_all(settings: list[list[float]]) -> None:
    found = recommended(ladder_with(*settings))
    centre = fmean(fmean(each) for each in settings)
    for each in found:
        assert each.mean == pytest.approx(fmean(settings[each.trial]), abs=1e-6)
        assert each.expected is not None
        low, high = sorted((each.mean or 0.0, centre))
        assert low - 1e-6 <= each.expected <= high + 1e-6
        assert each.seeds == len(settings[each.trial])
        assert (each.spread is None) == (each.seeds == 1)
    assert [each.expected for each in found] == sorted(each.expected or 0.0 for each in found)


def test_lucky_single_result_is_behind_setting_that_is_good_again() -> None:
    # Seeds differ by about 2, so 1.0 of one seed is weaker evidence than 1.2 of three seeds.
    ladder = ladder_with([1.0], [1.2, 1.3, 1.1], [5.0, 8.0], [6.0, 9.0])
    assert order(ladder)[:2] == [1, 0]


def test_replicates_reveal_lucky_result() -> None:
    (first, *_) = recommended(ladder_with([0.10, 0.30], [0.12, 0.13], [0.40]))
    assert first.trial == 1
    assert first.results == (0.12, 0.13)
    assert first.mean == pytest.approx(0.125)
    assert first.spread == pytest.approx(stdev([0.12, 0.13]))


def test_shrinkage_follows_formula() -> None:
    settings = [[1.0, 3.0], [5.0, 7.0], [9.0]]
    means, within = [2.0, 6.0, 9.0], (2.0 + 2.0) / 2  # 2 of 5 results are beyond one for each setting.
    grand, size = 5.0, (5 - 9 / 5) / 2
    between = (2 * 9 + 2 * 1 + 16) / 2
    tau, centre = (between - within) / size, fmean(means)
    for each in recommended(ladder_with(*settings)):
        mean, seeds = means[each.trial], len(settings[each.trial])
        factor = tau / (tau + within / seeds)
        assert each.expected == pytest.approx(centre + factor * (mean - centre))
    assert fmean(value for setting in settings for value in setting) == grand


def test_settings_without_any_difference_are_ordered_by_evidence() -> None:
    # The differences between settings are smaller than those between seeds, so all expected results are equal.
    found = recommended(ladder_with([0.9], [0.0, 2.0], [1.2], [-1.0, 2.8]))
    assert len({each.expected for each in found}) == 1
    assert [each.trial for each in found] == [3, 0, 1, 2]


def test_shrunken_means_are_closer_to_truth_than_single_results() -> None:
    luck = Random(3)
    errors_of_best: list[tuple[float, float]] = []
    for _ in range(300):
        truth = [luck.gauss(0, 1) for _ in range(8)]
        results = [[mean + luck.gauss(0, 1)] for mean in truth]
        luckiest = min(range(8), key=lambda trial: results[trial])
        for trial in sorted(range(8), key=lambda trial: results[trial])[:4]:
            results[trial].append(truth[trial] + luck.gauss(0, 1))
        first = recommended(ladder_with(*results))[0]
        errors_of_best.append((truth[first.trial], truth[luckiest]))
    recommended_truth, luckiest_truth = (fmean(each) for each in zip(*errors_of_best, strict=True))
    standard_error = stdev(a - b for a, b in errors_of_best) / sqrt(len(errors_of_best))
    assert recommended_truth < luckiest_truth - 2 * standard_error


@pytest.mark.parametrize("bad", [nan, inf, -inf])
def test_setting_with_replicate_that_is_not_finite_comes_last(bad: float) -> None:
    found = recommended(ladder_with([0.1, bad], [0.9, 0.8], [0.5]))
    assert [each.trial for each in found] == [2, 1, 0]
    assert (found[-1].mean, found[-1].spread, found[-1].expected) == (None, None, None)
    assert (
        describe_results(found[-1], "epochs") == "trained 2 times, and not every result at 8 epochs is a finite number"
    )
    record = recommendation_record(found[-1])
    assert record is not None
    assert record["results"] == [0.1, None]


def test_results_at_former_length_and_without_replicates_do_not_count() -> None:
    ladder = ladder_with([0.5, 0.6], [0.4])
    ladder.finals[0] = Final(4, 0.5)
    assert order(ladder) == [1]
    ladder.finals.pop(1)
    assert order(ladder) == []


def test_description_has_mean_spread_and_seeds() -> None:
    found = Recommendation(12, 64, (0.09, 0.095, 0.088), 0.091, 0.0036, 0.0913)
    assert describe_results(found, "epochs") == "0.091 ± 0.0036 at 64 epochs, the mean of 3 trainings"
    assert describe_results(found._replace(results=(0.091,)), "epochs") == "0.091 at 64 epochs"


# -- whole searches ----------------------------------------------------------------------------------


def curve(trial: int, length: int) -> float:
    """Return a metric: trial 2 has the lowest point, trial 1 the best end, and its replicate a worse one."""
    ends = {0: 0.5, 1: 0.2, 2: 0.4, 3: 0.9, 4: 0.3, 5: 0.45}
    return 0.1 if (trial, length) == (2, 3) else ends[trial] + (8 - length)


def test_recommended_trial_is_not_that_with_lowest_report() -> None:
    spec = spec_of(replace(RANDOM, replicates=2))
    ran = Workers(spec, curve, workers=2, period=1, checkpoints=True)
    ran.run()
    progress = progress_of(ran)
    assert progress.state is ExperimentState.COMPLETED
    assert {row.id: row.original for row in progress.trials.rows.values() if row.original is not None} == {4: 1, 5: 2}
    assert progress.best is not None
    assert progress.best.trial == 2
    assert progress.recommended is progress.trials.rows[1]
    assert progress.describe_recommendation() == (
        "0.25 ± 0.071 at 8 epochs, the mean of 2 trainings (lowest seen 0.1 by trial 2 at 3 epochs)"
    )
    assert [row.id for row in progress.best_trials(9)] == [1, 2, 0, 3]
    assert progress.summary()["recommended"]["trial"] == 1
    assert progress.result is not None
    assert (progress.result.trial, progress.result.length) == (1, 8)
    assert progress.result.metric == pytest.approx(0.25)
    assert progress.summary()["best"] == progress.result._asdict()
    kept = {checkpoint.trial for checkpoint in ran.experiment.checkpoints}
    assert kept == {0, 1, 2, 3} or spec.checkpoint_policy is None
    assert progress.ladder.now()[0][0].ranked[0].trial == 1
    assert sum(len(rung.ranked) for rung in progress.ladder.now()[0]) == 4


@pytest.mark.parametrize(
    "search", [SearchSettings(method=Method.ASYNC_HALVING, max_length=8, max_trials=4, num_rungs=2), RANDOM]
)
def test_until_all_trials_are_compared_best_result_is_recommended(search: SearchSettings) -> None:
    spec = spec_of(search)
    ran = Workers(spec, lambda trial, length: trial + 1 / length, workers=2, period=1, checkpoints=False)
    ran.run(stop_after=5)
    progress = progress_of(ran)
    assert progress.recommendations() == []
    assert progress.recommended is progress.trials.leader
    assert progress.best is not None
    assert progress.result == progress.best


def test_result_of_trial_whose_replicate_diverged_is_its_own_best() -> None:
    search = replace(RANDOM, max_trials=1, replicates=1)
    ran = Workers(spec_of(search), lambda trial, length: nan if trial else length, workers=1, period=1)
    ran.run()
    progress = progress_of(ran)
    assert progress.recommendations()[0].mean is None
    row = progress.trials.rows[0]
    assert progress.result == (0, row.metric, row.metric_length, row.metric_at)


@given(runs())
def test_result_is_that_of_recommended_trial(ran: Workers) -> None:
    progress = progress_of(ran)
    assert (progress.result is None) == (progress.recommended is None or progress.recommended.metric is None)
    if progress.result is not None and progress.recommended is not None:
        assert progress.result.trial == progress.recommended.id


@given(runs())
def test_recommended_trials_are_completed_originals(ran: Workers) -> None:
    progress = progress_of(ran)
    rows = progress.trials.rows
    assert progress.ladder.originals == {r.id: r.original for r in rows.values() if r.original is not None}
    found = progress.recommendations(len(rows))
    for each in found:
        assert rows[each.trial].original is None
        assert rows[each.trial].length >= each.length == ran.experiment.spec.search.max_length
        assert not progress.trials.by_checkpoint or rows[each.trial].best_checkpoint is not None
    best = progress.best_trials(len(rows))
    assert [row.id for row in best[: len(found)]] == [each.trial for each in found]
    assert {row.id for row in best} >= {row.id for row in progress.trials.best(len(rows))}
    assert len({row.id for row in best}) == len(best)
