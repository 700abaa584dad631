"""Tests of learning curves and of curves with fewer points."""

from __future__ import annotations

from itertools import pairwise
from math import inf, isfinite, isnan, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ashwood.experiment.entry import fold
from ashwood.views.curves import Curve, band, curve, leading, smoothed, thin
from ashwood.views.history import History
from ashwood.views.reports import Reports
from tests.views.simulate import Workers
from tests.views.streams import runs

VALUES = st.lists(st.floats(-10, 10) | st.sampled_from([nan, inf, -inf]), max_size=300)
CURVES = VALUES.map(lambda values: (list(range(1, len(values) + 1)), values))


def reports_of(*points: tuple[int, float]) -> Reports:
    reports = Reports()
    for length, value in points:
        reports.add(0.0, 1, length, {"loss": value})
    return reports


def test_curve_has_latest_values_of_repeated_training() -> None:
    reports = reports_of((1, 9.0), (2, 8.0), (3, 7.0), (2, 8.5), (3, 7.5), (4, 6.0))
    lengths, values = curve(reports, "loss")
    assert (list(lengths), list(values)) == ([1, 2, 3, 4], [9.0, 8.5, 7.5, 6.0])


def test_curve_of_unreported_metric_is_empty() -> None:
    assert curve(reports_of((1, 9.0)), "accuracy") == ((), ())


def test_curve_of_rarely_reported_metric_has_no_gaps() -> None:
    reports = Reports()
    for length in (1, 2, 3, 2, 3, 4):
        reports.add(
            0.0,
            1,
            length,
            {"loss": 1.0, **({"accuracy": nan if length == 4 else length / 10} if length % 2 == 0 else {})},
        )
    lengths, values = curve(reports, "accuracy")
    assert list(lengths) == [2, 4]
    assert repr(list(values)) == "[0.2, nan]", "a number that is none is one"


@given(st.lists(st.integers(1, 20), max_size=60))
def test_curve_lengths_rise(lengths: list[int]) -> None:
    found, values = curve(reports_of(*((length, float(place)) for place, length in enumerate(lengths))), "loss")
    assert all(one < other for one, other in pairwise(found))
    latest = {length: float(place) for place, length in enumerate(lengths)}
    assert all(latest[length] == value for length, value in zip(found, values, strict=True))


@given(VALUES, st.integers(4, 60))
def test_thin_keeps_ends_and_extremes(values: list[float], most: int) -> None:
    lengths = list(range(1, len(values) + 1))
    kept, thinned = thin((lengths, values), most)
    assert len(kept) <= most
    assert list(kept) == sorted(set(kept))
    by_length = dict(zip(lengths, values, strict=True))
    for length, value in zip(kept, thinned, strict=True):
        assert value == by_length[length] if isfinite(by_length[length]) else isnan(value)
    if values:
        assert {kept[0], kept[-1]} == {1, len(values)}
    finite, left = [value for value in values if isfinite(value)], [value for value in thinned if isfinite(value)]
    assert (min(finite, default=None), max(finite, default=None)) == (min(left, default=None), max(left, default=None))


@given(runs(), st.integers(1, 8))
def test_leading_trials_by_metric_and_by_length(ran: Workers, top: int) -> None:
    table = fold(History(ran.spec), ran.entries).progress.trials
    best, furthest = leading(table, top, "metric"), leading(table, top, "length")
    assert best == table.best(top)
    assert [row.length for row in furthest] == sorted((row.length for row in furthest), reverse=True)
    others = [row for row in table.rows.values() if row.metric is not None and row not in furthest]
    assert all(other.length <= row.length for other in others for row in furthest[-1:])


@given(CURVES, st.floats(0.0, 0.99))
def test_smoothed_values_stay_between_extremes(shown: Curve, weight: float) -> None:
    lengths, averages = smoothed(shown, weight)
    finite = [value for value in shown[1] if isfinite(value)]
    assert list(lengths) == list(shown[0])
    for value, average in zip(shown[1], averages, strict=True):
        if isfinite(value):
            assert min(finite) - 1e-6 <= average <= max(finite) + 1e-6


def test_smoothing_without_weight_changes_nothing() -> None:
    assert smoothed(([1, 2, 3], [3.0, 1.0, 2.0]), 0.0) == ([1, 2, 3], [3.0, 1.0, 2.0])
    assert smoothed(([1, 2], [3.0, 1.0]), 0.5) == ([1, 2], [3.0, pytest.approx(5 / 3)])


@given(st.lists(CURVES, max_size=8))
def test_band_encloses_mean_and_counts_all_finite_values(curves: list[Curve]) -> None:
    found = band(curves)
    assert list(found.lengths) == sorted(set(found.lengths))
    assert sum(found.counts) == sum(isfinite(value) for _, values in curves for value in values)
    assert all(low <= high for low, high in zip(found.lows, found.highs, strict=True))
