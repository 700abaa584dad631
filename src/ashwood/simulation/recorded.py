"""Learning curves of an experiment that was run, for simulations of what another search would have made of it."""

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
    """What a trial came to.

    Attributes:
        points: at rising lengths; at least one.
        pace: seconds that one unit of length took.
    """

    points: Sequence[Point]
    pace: float


class Recorded:
    """Trains trials as recorded ones were; trials beyond the record take the place of others, drawn by their seed.

    Most recorded trials were stopped early.  From where its record ends, a trial's curve runs
    beside that of the trial that was nearest to it there and trained on.
    """

    def __init__(self, curves: Sequence[Curve]) -> None:
        """Take the curves of an experiment, by trial.

        Raises:
            ValueError: there is none, or one has no points.
        """
        if not curves or not all(curve.points for curve in curves):
            raise ValueError("a record needs at least one trial, and each trial a point")
        # The longest first, so that whoever follows another follows a whole curve.
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
    """Between points on a straight line; before the first and after the last as there."""
    after = bisect_left(points, length, key=lambda point: point.length)
    if after == 0 or after == len(points):
        return points[min(after, len(points) - 1)].loss
    (left, low), (right, high) = points[after - 1], points[after]
    return low + (high - low) * (length - left) / (right - left)
