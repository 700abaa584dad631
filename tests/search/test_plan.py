"""Rungs, brackets and trials: exact, also where logarithms of floats are off by one."""

from __future__ import annotations

from fractions import Fraction
from math import floor, log
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ashwood.search.plan import SearchPlan, floor_log, plan_search, rung_lengths, rung_limit, share_trials_anew
from ashwood.search.settings import Method, Mode, SearchSettings
from ashwood.testing.search_method import DIVISORS, search_settings


def plan(method: Method = Method.ADAPTIVE_ASHA, **settings: Any) -> SearchPlan:
    return plan_search(SearchSettings(method=method, **settings))


def rungs(of: SearchPlan) -> list[int]:
    return [len(bracket.lengths) for bracket in of.brackets]


def trials(of: SearchPlan) -> list[int]:
    return [bracket.trials for bracket in of.brackets]


# -- logarithms --------------------------------------------------------------------------------


def test_the_logarithm_of_a_thousand_is_three() -> None:
    assert floor(log(1000) / log(10)) == 2  # why floats are not to be trusted here
    assert floor_log(Fraction(10), 1000) == 3
    one = plan(Method.ASYNC_HALVING, divisor=Fraction(10), max_length=1000, max_trials=1000)
    assert one.brackets[0].lengths == (1, 10, 100, 1000)


@pytest.mark.parametrize("base", [2, 3, 4, 5, 6, 7, 10])
@pytest.mark.parametrize("exponent", [1, 2, 3, 5, 6, 9, 17, 30])
def test_powers_are_told_from_their_neighbours(base: int, exponent: int) -> None:
    assert floor_log(Fraction(base), base**exponent - 1) == exponent - 1
    assert floor_log(Fraction(base), base**exponent) == exponent
    assert floor_log(Fraction(base), base**exponent + 1) == exponent


@given(base=st.fractions(Fraction(11, 10), 20, max_denominator=20), value=st.integers(1, 10**12))
def test_a_logarithm_is_what_it_says(base: Fraction, value: int) -> None:
    k = floor_log(base, value)
    assert base**k <= value < base ** (k + 1)


# -- lengths -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("length", "divisor", "count", "expected"),
    [
        (1000, "4", 5, (4, 16, 63, 250, 1000)),  # rounded up: 3.9, 15.6, 62.5
        (81, "3", 5, (1, 3, 9, 27, 81)),
        (100, "2.5", 3, (16, 40, 100)),
        (10, "1.5", 4, (3, 5, 7, 10)),  # 2.96, 4.44, 6.67
        (3, "1.5", 3, (2, 3)),  # 1.33 and 2 are both 2: merged
        (2, "1.5", 2, (2,)),
        (1, "4", 1, (1,)),
        (16, "4", 1, (16,)),
    ],
)
def test_the_rungs_of_a_bracket(length: int, divisor: str, count: int, expected: tuple[int, ...]) -> None:
    assert rung_lengths(length, Fraction(divisor), count) == expected


@given(length=st.integers(1, 10**9), divisor=st.sampled_from(DIVISORS), data=st.data())
def test_rungs_rise_to_the_full_length_and_none_is_too_short(
    length: int, divisor: Fraction, data: st.DataObject
) -> None:
    count = data.draw(st.integers(1, rung_limit(divisor, length)))
    lengths = rung_lengths(length, divisor, count)
    assert list(lengths) == sorted(set(lengths))
    assert lengths[-1] == length
    assert Fraction(length) / divisor ** (count - 1) <= lengths[0] < Fraction(length) / divisor ** (count - 1) + 1
    assert 1 <= len(lengths) <= count


# -- brackets ----------------------------------------------------------------------------------


def test_determineds_example_of_500_trials() -> None:
    # Weights 4**4/5 = 51.2, 4**3/4 = 16, 4**2/3 = 5.33 of 72.53; 352.9, 110.3 and 36.8 of 500; 2 left over.
    standard = plan(max_length=1000, max_trials=500)
    assert rungs(standard) == [5, 4, 3]
    assert trials(standard) == [354, 110, 36]
    assert [bracket.share for bracket in standard.brackets] == [6, 5, 5]
    assert [bracket.lengths for bracket in standard.brackets] == [
        (4, 16, 63, 250, 1000),
        (16, 63, 250, 1000),
        (63, 250, 1000),
    ]
    assert standard.dropped == ()


def test_the_modes() -> None:
    # Conservative: 51.2, 16, 5.33, 2 and 1 of 75.53.
    conservative = plan(max_length=1000, max_trials=500, mode=Mode.CONSERVATIVE)
    assert rungs(conservative) == [5, 4, 3, 2, 1]
    assert trials(conservative) == [338 + 3, 105, 35, 13, 6]
    aggressive = plan(max_length=1000, max_trials=500, mode=Mode.AGGRESSIVE)
    assert rungs(aggressive) == [5]
    assert trials(aggressive) == [500]


@pytest.mark.parametrize(("most", "fewest"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (6, 3), (7, 4)])
def test_standard_leaves_out_the_lower_half(most: int, fewest: int) -> None:
    standard = plan(max_length=2**10, max_trials=2**10, divisor=Fraction(2), max_rungs=most)
    assert rungs(standard) == list(range(most, fewest - 1, -1))


def test_few_trials_or_little_length_leave_room_for_few_rungs() -> None:
    assert rungs(plan(max_length=1000, max_trials=15)) == [2, 1]
    assert rungs(plan(max_length=1000, max_trials=16)) == [3, 2]
    assert rungs(plan(max_length=15, max_trials=1000)) == [2, 1]
    assert rungs(plan(max_length=16, max_trials=1000)) == [3, 2]


def test_one_trial_or_one_step_is_a_search_too() -> None:
    for settings in ({"max_length": 1, "max_trials": 50}, {"max_length": 50, "max_trials": 1}):
        for method in Method:
            smallest = plan(method, **settings)
            assert rungs(smallest) == [1]
            assert trials(smallest) == [settings["max_trials"]]


def test_bracket_rungs_replace_the_mode_the_most_aggressive_first() -> None:
    chosen = plan(max_length=256, max_trials=100, bracket_rungs=(1, 4, 2), mode=Mode.AGGRESSIVE)
    assert rungs(chosen) == [4, 2, 1]
    # 16, 2 and 1 of 19.
    assert trials(chosen) == [84 + 1, 10, 5]


def test_brackets_that_get_no_trial_are_dropped_the_least_aggressive_first() -> None:
    # Of 3 trials, four brackets would have 1 + 1 + 1 + 1, and three, by their own weights, 2 + 1 + 1.
    few = plan(max_length=256, max_trials=3, bracket_rungs=(1, 2, 3, 4))
    assert rungs(few) == [4, 3]
    assert few.dropped == (2, 1)
    assert trials(few) == [2, 1]
    assert trials(plan(max_length=256, max_trials=2, bracket_rungs=(2, 2))) == [1, 1]


def test_concurrency_is_raised_to_the_number_of_brackets() -> None:
    raised = plan(max_length=1000, max_trials=500, max_concurrent_trials=2)
    assert raised.max_concurrent_trials == 3
    assert [bracket.share for bracket in raised.brackets] == [1, 1, 1]
    unbounded = plan(max_length=1000, max_trials=500, max_concurrent_trials=0)
    assert unbounded.max_concurrent_trials == 0
    assert [bracket.share for bracket in unbounded.brackets] == [1, 1, 1]


def test_halving_of_one_bracket_has_five_rungs_where_there_is_room() -> None:
    for method in (Method.ASYNC_HALVING, Method.SYNC_HALVING):
        assert rungs(plan(method, max_length=10**6, max_trials=10**6)) == [5]
        assert rungs(plan(method, max_length=10**6, max_trials=10**6, num_rungs=7)) == [7]
        assert rungs(plan(method, max_length=10**6, max_trials=63, num_rungs=7)) == [3]


@given(search_settings(max_trials=3_000, max_length=10**6))
def test_what_holds_of_every_plan(settings: SearchSettings) -> None:
    made = plan_search(settings)
    assert sum(trials(made)) == settings.max_trials
    assert min(trials(made)) >= 1
    assert rungs(made) == sorted(rungs(made), reverse=True)
    assert all(bracket.lengths[-1] == settings.max_length for bracket in made.brackets)
    shares = [bracket.share for bracket in made.brackets]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] - shares[-1] <= 1 <= shares[-1]
    if settings.max_concurrent_trials:
        assert sum(shares) == made.max_concurrent_trials == max(settings.max_concurrent_trials, len(shares))
    else:
        assert made.max_concurrent_trials == 0


@given(search_settings(methods=[Method.ADAPTIVE_ASHA], max_trials=3_000, max_length=10**6))
def test_brackets_get_about_equal_budgets(settings: SearchSettings) -> None:
    made = plan_search(settings)
    # A trial of a bracket costs about R rungs of L / d**(R-1) each, whether some of them are merged or not.
    costs = [1 / bracket.weight for bracket in made.brackets]
    even = settings.max_trials / sum((1 / cost for cost in costs), Fraction(0))
    for bracket, cost in zip(made.brackets[1:], costs[1:], strict=True):
        # The floor takes less than a trial away, the minimum adds less than one.
        assert abs(bracket.trials * cost - even) < cost


@given(
    st.lists(st.tuples(st.integers(1, 64), st.integers(0, 30)), min_size=1, max_size=5),
    st.integers(0, 200),
)
def test_trials_are_shared_anew_without_taking_any_away(brackets: list[tuple[int, int]], more: int) -> None:
    weights = [Fraction(weight) for weight, _ in brackets]
    least = [created for _, created in brackets]
    trials = share_trials_anew(sum(least) + more, weights, least)
    assert sum(trials) == sum(least) + more
    assert all(n >= created for n, created in zip(trials, least, strict=True))
    # Who got more than it had has its share of what those others share.
    sharing = [b for b, n in enumerate(trials) if n > least[b]]
    if sharing:
        rest = sum(trials[b] for b in sharing)
        total = sum(weights[b] for b in sharing)
        assert all(trials[b] >= int(rest * weights[b] / total) - len(brackets) for b in sharing)
