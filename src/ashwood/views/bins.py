"""Bins of hyperparameters, for histograms and heat maps."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ashwood.search.space import Categorical, Int, Log
from ashwood.views.hparams import Varied


@dataclass(frozen=True, slots=True)
class Bins:
    """The bins of a hyperparameter.

    Attributes:
        varied: the hyperparameter.
        edges: rising edges of the bins, one more than bins, or empty if each bin is a single value.
        values: values of the bins, or empty if the bins have edges.
    """

    varied: Varied
    edges: Sequence[float] = ()
    values: Sequence[Any] = ()

    def __len__(self) -> int:
        return len(self.values) or len(self.edges) - 1

    def place(self, value: float) -> int | None:
        """Return the index of the bin of a value that `Varied.number` returned, or None if it is outside all bins."""
        if not self.edges:
            offset = 0 if isinstance(self.varied.kind, Categorical) else self.values[0]
            index = int(value - offset)
            return index if 0 <= index < len(self.values) else None
        if not self.edges[0] <= value <= self.edges[-1]:
            return None
        return min(bisect_right(self.edges, value) - 1, len(self) - 1)


def bins_of(varied: Varied, most: int) -> Bins:
    """Return at most ``most`` bins, equally wide on the hyperparameter's scale, or one bin for each category."""
    kind = varied.kind
    match kind:
        case Categorical(vals):
            return Bins(varied, values=vals)
        case Int(low, high) if high - low < most:
            return Bins(varied, values=range(low, high + 1))
        case Int(low, high):
            # The edges lie halfway between whole numbers.
            return Bins(varied, edges=_even(low - 0.5, high + 0.5, most))
        case Log(low, high, base):
            inner = [float(base**exponent) for exponent in _even(low, high, most)[1:-1]]
            # The ends are computed as values are, so that rounding puts no value outside the bins.
            return Bins(varied, edges=[kind.at(0.0), *inner, kind.at(1.0)])
    return Bins(varied, edges=_even(kind.at(0.0), kind.at(1.0), most))


def _even(low: float, high: float, count: int) -> list[float]:
    return [low + (high - low) * number / count for number in range(count)] + [high]
