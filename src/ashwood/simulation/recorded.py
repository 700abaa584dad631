"""Recorded learning curves of an experiment, to simulate what another search would have done with its trials."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

from ashwood.search.draw import bits
from ashwood.simulation.training import Setting, Trained


class Point(NamedTuple):
    """The loss of a trial at a total length."""

    length: int
    loss: float


class Curve(NamedTuple):
    """The learning curve of a trial.

    Attributes:
        points: at least one point, in order of length.
        pace: seconds per unit of length.
    """

    points: Sequence[Point]
    pace: float


class Recorded:
    """A model of training code that repeats recorded trials.

    A trial that was not recorded repeats one of the others, drawn by its seed.  Most recorded
    trials were stopped early.  The curve of such a trial is continued in parallel to the curve
    that was nearest to it at its last point, among those that are longer.
    """

    def __init__(self, curves: Sequence[Curve]) -> None:
        """Use the curves of an experiment, by trial.

        Raises:
            ValueError: there are no curves, or one has no points.
        """
        if not curves or not all(curve.points for curve in curves):
            raise ValueError("a simulation of recorded trials needs at least one curve, and a point on each curve")
        # The longest first, so that a curve is only ever continued by one that has been continued itself.
        order = sorted(range(len(curves)), key=lambda row: -curves[row].points[-1].length)
        self._whole: dict[int, Sequence[Point]] = {}
        for row in order:
            self._whole[row] = self._prolonged(curves[row].points)
        self._paces = [curve.pace for curve in curves]

    def train(self, setting: Setting, begin: int, end: int) -> Trained:
        """Train a trial from a total length of ``begin`` to one of ``end``."""
        rows = len(self._paces)
        row = setting.trial if setting.trial < rows else bits(setting.seed, "row") % rows
        return Trained((end - begin) * self._paces[row], _loss_at(self._whole[row], end))

    def _prolonged(self, points: Sequence[Point]) -> Sequence[Point]:
        length, loss = points[-1]
        further = [whole for whole in self._whole.values() if whole[-1].length > length]
        if not further:
            return points
        nearest = min(further, key=lambda whole: abs(_loss_at(whole, length) - loss))
        apart = loss - _loss_at(nearest, length)
        return [*points, *(Point(at, there + apart) for at, there in nearest if at > length)]


def _loss_at(points: Sequence[Point], length: int) -> float:
    """Return the loss at a length: linear between points, and constant before the first and after the last one."""
    after = bisect_left(points, length, key=lambda point: point.length)
    if after == 0 or after == len(points):
        return points[min(after, len(points) - 1)].loss
    (left, low), (right, high) = points[after - 1], points[after]
    return low + (high - low) * (length - left) / (right - left)
