from math import inf, nan
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ashwood.views.settled import noise_share, settled

values = st.lists(st.floats(-100, 100), min_size=1, max_size=30)


def curve_of(results: list[float]) -> list[tuple[int, float]]:
    return list(enumerate(results, start=1))


@given(st.floats(-10, 10), st.floats(-10, 10), st.integers(4, 40))
def test_straight_line_has_no_noise(start: float, slope: float, count: int) -> None:
    curve = curve_of([start + slope * step for step in range(count)])
    assert noise_share([curve], count) == pytest.approx(0, abs=1e-6)


@given(values, st.floats(0, 1))
def test_settled_result_is_between_the_results_of_the_last_half(results: list[float], share: float) -> None:
    half = results[len(results) // 2 :]
    assert min(half) - 1e-9 <= settled(curve_of(results), len(results), share) <= max(half) + 1e-9


@given(values)
def test_result_without_noise_is_the_last_one(results: list[float]) -> None:
    assert settled(curve_of(results), len(results), 0.0) == results[-1]


@given(st.integers(0, 2**32))
def test_independent_noise_has_a_large_share(seed: int) -> None:
    random = Random(seed)
    curves = [curve_of([random.gauss(0, 1) for _ in range(20)]) for _ in range(40)]
    assert noise_share(curves, 20) > 0.6


def test_smooth_curves_have_a_small_share() -> None:
    curves = [curve_of([1 / step**power for step in range(1, 31)]) for power in (0.3, 0.7, 1.0)]
    assert noise_share(curves, 30) < 0.01


def test_noisy_results_settle_at_the_mean_of_which_later_ones_count_more() -> None:
    assert settled([(1, 9.0), (2, 9.0), (3, 1.0), (4, 2.0)], 4, 0.5) == pytest.approx((2 * 1 + 4 * 2) / 6)


@pytest.mark.parametrize("odd", [nan, inf])
def test_result_that_is_not_finite_leaves_the_last_one(odd: float) -> None:
    assert settled([(3, odd), (4, 2.0)], 4, 1.0) == 2.0
    assert settled([(3, 2.0), (4, odd)], 4, 1.0) == pytest.approx(odd, nan_ok=True)
    assert noise_share([[(5, 1.0), (6, odd), (7, 1.0), (8, 2.0)]], 8) == 0.0


def test_short_curves_say_nothing_about_noise() -> None:
    assert noise_share([[(4, 1.0), (8, 2.0)], [(length, float(length % 2)) for length in range(1, 6)]], 8) == 0.0
