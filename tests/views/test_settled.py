from collections.abc import Iterable
from math import inf, nan
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ashwood.views.settled import LateResults, noise_share

values = st.lists(st.floats(-100, 100), min_size=1, max_size=30)


def late(points: Iterable[tuple[int, float]], longest: int) -> LateResults:
    results = LateResults(longest)
    for length, value in points:
        results.add(length, value)
    return results


def whole(results: list[float]) -> LateResults:
    return late(enumerate(results, start=1), len(results))


@given(st.floats(-10, 10), st.floats(0, 10), st.integers(4, 40))
def test_straight_line_has_no_noise(start: float, slope: float, count: int) -> None:
    # Without any slope, only rounding is left, and its share of the variance is arbitrary.
    if slope > 1e-3:
        assert noise_share([whole([start + slope * step for step in range(2 * count)])]) == pytest.approx(0, abs=1e-6)


@given(values, st.floats(0, 1))
def test_settled_result_is_between_the_results_of_the_last_half(results: list[float], share: float) -> None:
    half = results[len(results) // 2 :]
    assert min(half) - 1e-9 <= whole(results).settled(share) <= max(half) + 1e-9


@given(values)
def test_result_without_noise_is_the_last_one(results: list[float]) -> None:
    assert whole(results).settled(0.0) == results[-1]


@given(st.integers(0, 2**32))
def test_independent_noise_has_a_large_share(seed: int) -> None:
    random = Random(seed)
    assert noise_share([whole([random.gauss(0, 1) for _ in range(20)]) for _ in range(40)]) > 0.6


def test_smooth_curves_have_a_small_share() -> None:
    assert noise_share([whole([1 / step**power for step in range(1, 31)]) for power in (0.3, 0.7, 1.0)]) < 0.01


def test_noisy_results_settle_at_the_mean_of_which_later_ones_count_more() -> None:
    assert whole([9.0, 9.0, 1.0, 2.0]).settled(0.5) == pytest.approx((2 * 1 + 4 * 2) / 6)


@pytest.mark.parametrize("odd", [nan, inf, 1.7e308])
def test_results_before_one_that_is_not_finite_do_not_count(odd: float) -> None:
    assert late([(3, odd), (4, 2.0)], 4).settled(1.0) == 2.0
    assert late([(3, 2.0), (4, odd)], 4).settled(1.0) == pytest.approx(odd, nan_ok=True)
    assert noise_share([late([(5, 1.0), (6, odd), (7, 1.0), (8, 2.0)], 8)]) == 0.0


def test_repeated_result_after_a_restart_is_ignored() -> None:
    assert late([(3, 1.0), (4, 2.0), (3, 7.0), (4, 7.0), (5, 3.0)], 5) == late([(3, 1.0), (4, 2.0), (5, 3.0)], 5)


def test_few_results_say_nothing_about_noise() -> None:
    assert noise_share([late([(4, 1.0), (8, 2.0)], 8), late([(n, float(n % 2)) for n in range(1, 6)], 8)]) == 0.0
