"""Hyperparameters in a few bins each, as histograms and heat maps want them."""

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
        edges: of its bins, one more than there are; empty: a bin is a value.
        values: of its bins, where each holds a single value.
    """

    varied: Varied
    edges: Sequence[float] = ()
    values: Sequence[Any] = ()

    def __len__(self) -> int:
        return len(self.values) or len(self.edges) - 1

    def place(self, value: float) -> int | None:
        """The bin of a value as `Varied.number` tells it; None: it is outside of them."""
        if not self.edges:
            offset = 0 if isinstance(self.varied.kind, Categorical) else self.values[0]
            index = int(value - offset)
            return index if 0 <= index < len(self.values) else None
        if not self.edges[0] <= value <= self.edges[-1]:
            return None
        return min(bisect_right(self.edges, value) - 1, len(self) - 1)


def bins_of(varied: Varied, most: int) -> Bins:
    """No more than so many bins, even in the hyperparameter's own scale; categories have one each, however many."""
    kind = varied.kind
    match kind:
        case Categorical(vals):
            return Bins(varied, values=vals)
        case Int(low, high) if high - low < most:
            return Bins(varied, values=range(low, high + 1))
        case Int(low, high):
            # Between whole numbers.
            return Bins(varied, edges=_even(low - 0.5, high + 0.5, most))
        case Log(low, high, base):
            inner = [float(base**exponent) for exponent in _even(low, high, most)[1:-1]]
            # The ends by the same arithmetic as values.
            return Bins(varied, edges=[kind.at(0.0), *inner, kind.at(1.0)])
    return Bins(varied, edges=_even(kind.at(0.0), kind.at(1.0), most))


def _even(low: float, high: float, count: int) -> list[float]:
    return [low + (high - low) * number / count for number in range(count)] + [high]
