"""Curves with fewer points that look the same."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite


def thin(values: Sequence[float], most: int) -> list[int]:
    """Which points of a curve to keep, in order: at most ``most`` (from 2 up), with the ends, peaks and troughs.

    Of each stretch the smallest and the largest value stay, so no outlier is lost, as in M4 aggregation
    (Jugel et al. 2014, "M4: A Visualization-Oriented Time Series Data Aggregation").
    """
    count = len(values)
    if count <= most:
        return list(range(count))
    stretches = (most - 2) // 2
    kept = {0, count - 1}
    for number in range(stretches):
        stretch = range(number * count // stretches, (number + 1) * count // stretches)
        finite = [index for index in stretch if isfinite(values[index])]
        if finite:
            kept |= {min(finite, key=values.__getitem__), max(finite, key=values.__getitem__)}
        else:
            kept.add(stretch[0])
    return sorted(kept)
