"""Tests of comparable results, varied hyperparameters and their bins."""

from __future__ import annotations

from fractions import Fraction
from math import isfinite

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ashwood.search.settings import Mode
from ashwood.search.space import ABSENT, Categorical, Const, Double, Hyperparameter, Int, Log, Space
from ashwood.views.hparams import bins_of, varied
from ashwood.views.results import comparable, last_results
from tests.views.simulate import Workers, asha, power_law, spec_of
from tests.views.streams import runs
from tests.views.test_ladder import ladder_of

KINDS = st.one_of(
    st.builds(lambda low, more: Int(low, low + more), st.integers(-50, 50), st.integers(1, 100)),
    st.builds(lambda low, more: Double(low, low + more), st.floats(-50, 50), st.floats(0.1, 100)),
    st.builds(lambda low, more: Log(low, low + more), st.floats(-8, 2), st.floats(0.1, 8)),
    st.builds(lambda low, more: Int(low, low + more, step=3), st.integers(-50, 50), st.integers(3, 100)),
    st.builds(lambda low, more: Int(low, low + more, log=True), st.integers(1, 50), st.integers(1, 100)),
    # The sum is rounded, so with 0.1 the second value could be beyond maxval.
    st.builds(lambda low, more: Double(low, low + more, step=0.1), st.floats(-50, 50), st.floats(0.11, 100)),
    st.builds(lambda low, more: Double(low, low + more, log=True), st.floats(1e-8, 50), st.floats(0.1, 100)),
    st.just(Categorical(("adam", None, True, 1, 1.0, "1", (1, 2)))),
)


@given(runs(), st.integers(1, 30))
def test_comparable_results_have_one_length(ran: Workers, enough: int) -> None:
    ladder = ladder_of(ran)
    known = comparable(ladder, enough)
    if known is None:
        assert last_results(ladder) == []
        return
    trials = [result.trial for result in known.results]
    assert len(set(trials)) == len(trials) > 0
    assert {result.length for result in known.results} == {known.length}
    for result in known.results:
        path = ladder.paths[result.trial]
        assert result.metric in {arrival.metric for arrival in path.arrivals}
        assert isfinite(result.metric)
    longer = {result.length for result in last_results(ladder) if result.length > known.length}
    if len(trials) >= enough:
        assert all(sum(r.length >= length for r in last_results(ladder)) < max(enough, 1) * 2 for length in longer)


def test_trials_that_skip_a_rung_have_no_result_there() -> None:
    ran = Workers(spec_of(asha(40, mode=Mode.AUTO, max_length=4, divisor=Fraction(2))), power_law(1), workers=2)
    ran.run()
    ladder = ladder_of(ran)
    known = comparable(ladder, 41)  # No length has that many results, so the one with the most is returned.
    assert known is not None
    at = ladder.lengths[0].index(known.length)
    assert {each.trial for each in known.results} == set(ran.experiment.search.brackets[0].rungs[at].ranking())


@given(runs())
def test_last_results_are_at_longest_rungs(ran: Workers) -> None:
    ladder = ladder_of(ran)
    for trial, length, metric in last_results(ladder):
        path = ladder.paths[trial]
        assert (path.arrivals[-1].metric, ladder.lengths[path.bracket][path.arrivals[-1].rung]) == (metric, length)


def test_varied_leaves_out_constants_and_joins_names_with_dots() -> None:
    space = Space({"a": Const(1), "b": {"c": Int(1, 3), "d": Int(2, 2)}, "e": Categorical(("x",))})
    (only,) = varied(space)
    assert only.name == "b.c"
    assert only.value({"b": {"c": 2}}) == 2
    assert only.value({"b": 3}) is ABSENT
    assert only.value({"b": {"c": None}}) is None
    assert only.number({"b": {"c": "no number"}}) is None


def test_equal_values_of_different_types_are_different_categories() -> None:
    (only,) = varied(Space({"x": Categorical((1, True, 1.0, "1"))}))
    assert [only.number({"x": value}) for value in (1, True, 1.0, "1", None)] == [0.0, 1.0, 2.0, 3.0, None]


@given(KINDS, st.integers(1, 20), st.floats(0, 1, exclude_max=True))
def test_every_value_is_in_a_bin(kind: Hyperparameter, most: int, unit: float) -> None:
    (only,) = varied(Space({"x": kind}))
    bins = bins_of(only, most)
    value = kind.at(unit)
    number = only.number({"x": value})
    assert number is not None
    place = bins.place(number)
    assert place is not None
    assert 0 <= place < len(bins)
    assert isinstance(kind, Categorical) or len(bins) <= most
    if bins.values:
        assert bins.values[place] == value
    else:
        assert bins.edges[place] <= number <= bins.edges[place + 1]
        assert list(bins.edges) == sorted(set(bins.edges))


@pytest.mark.parametrize("value", [-1.0, 4.0])
def test_value_outside_has_no_bin(value: float) -> None:
    (only,) = varied(Space({"x": Int(0, 3)}))
    assert bins_of(only, 10).place(value) is None
    assert bins_of(only, 2).place(value) is None
