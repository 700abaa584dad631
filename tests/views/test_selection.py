"""Tests of the selection of points for curves."""

from math import isfinite

from hypothesis import given
from hypothesis import strategies as st

from ashwood.views.curves import points_to_show


@given(st.lists(st.floats(), max_size=300), st.integers(2, 50))
def test_telling_keeps_ends_and_extremes(values: list[float], most: int) -> None:
    kept = list(points_to_show(values, most))
    assert len(kept) <= most
    assert kept == sorted(set(kept))
    if len(values) <= most:
        assert kept == list(range(len(values)))
    else:
        assert {0, len(values) - 1} <= set(kept)
        finite = [value for value in values if isfinite(value)]
        if finite and most >= 4:
            assert {min(finite), max(finite)} <= {values[index] for index in kept}
