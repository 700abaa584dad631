"""Scales and ranges of metric axes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ashwood.figures.axes import is_wide, metric_axis, metric_range

NUMBERS = st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=30).map(np.array)


@pytest.mark.parametrize(
    ("values", "smaller_is_better", "wide"),
    [
        ([0.1, 0.5, 1.1], True, True),
        ([0.1, 0.5, 0.9], True, False),
        ([0.0, 0.5, 100.0], True, False),
        ([-1.0, 0.5, 100.0], True, False),
        ([float("nan"), float("inf")], True, False),
        ([0.3 + 0.01 * number for number in range(20)] + [1e7], True, False),  # a single trial diverged
        ([0.05, 0.5, 0.98], False, False),  # an accuracy
        ([0.001, 5.0, 1_000.0], False, True),
    ],
)
def test_default_scale(values: list[float], smaller_is_better: bool, wide: bool) -> None:
    assert is_wide(np.array(values), smaller_is_better=smaller_is_better) is wide


@given(NUMBERS, st.booleans(), st.sampled_from([None, True, False]), st.booleans())
def test_axis_of_any_values_has_finite_ascending_range(
    values: np.ndarray, smaller: bool, log: bool | None, zoom: bool
) -> None:
    span = metric_axis("m", values, smaller_is_better=smaller, log=log, zoom=zoom)["range"]
    assert span is None or (np.isfinite(span).all() and span[0] < span[1])


@given(st.lists(st.integers(-1_000, 1_000), min_size=20, max_size=40, unique=True), st.booleans())
def test_zoomed_range_has_best_tenth(values: list[int], smaller: bool) -> None:
    seen = np.array(values, dtype=float)
    span = metric_range(seen, smaller_is_better=smaller, zoom=True)
    assert span is not None
    best = sorted(seen, reverse=not smaller)[: len(values) // 10]
    assert all(span[0] <= value <= span[1] for value in best)
