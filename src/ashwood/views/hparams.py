"""The hyperparameters that a search varies, their values in trials, and bins of these values."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import Any, NamedTuple

from ashwood.search.space import Categorical, Const, Double, Hyperparameter, Int, Log, Path, Space


class Varied(NamedTuple):
    """A hyperparameter that is not constant.

    Attributes:
        name: name with dots for nesting, such as ``optimizer.lr``.
        path: keys that lead to its value in nested hyperparameters.
        kind: type and range of its values.
    """

    name: str
    path: Path
    kind: Hyperparameter

    def value(self, hparams: Mapping[str, Any]) -> Any:
        """Return its value in a trial, or None if the trial has none."""
        value: Any = hparams
        for name in self.path:
            if not isinstance(value, Mapping) or name not in value:
                return None
            value = value[name]
        return value

    def number(self, hparams: Mapping[str, Any]) -> float | None:
        """Return its value in a trial as a number, or None.  A categorical value becomes its index."""
        value = self.value(hparams)
        if isinstance(self.kind, Categorical):
            return next((float(place) for place, each in enumerate(self.kind.vals) if _same(each, value)), None)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None

    def position(self, number: float) -> float:
        """Return the position of a number between the bounds on the hyperparameter's scale, from 0 to 1."""
        match self.kind:
            case Log(low, high, base):
                place = (log(number) / log(base) - low) / (high - low) if number > 0 else 0.0
            case Int(low, high) | Double(low, high):
                place = (number - low) / (high - low)
            case Categorical(vals):
                place = number / max(1, len(vals) - 1)
            case _:
                place = 0.0
        return min(max(place, 0.0), 1.0)


def varied(space: Space) -> Sequence[Varied]:
    """Return the hyperparameters that a search varies, in the order of the experiment file."""
    return [Varied(".".join(path), path, leaf) for path, leaf in space.leaves() if not _is_constant(leaf)]


def _is_constant(leaf: Hyperparameter) -> bool:
    if isinstance(leaf, Const):
        return True
    return len(leaf.vals) == 1 if isinstance(leaf, Categorical) else leaf.minval == leaf.maxval


def _same(one: Any, other: Any) -> bool:
    # 1, 1.0 and True are equal in Python, but they are three different values of a hyperparameter.
    return type(one) is type(other) and bool(one == other)


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
            # The outer edges are computed like values, so that rounding puts no value outside the bins.
            return Bins(varied, edges=[kind.at(0.0), *inner, kind.at(1.0)])
    return Bins(varied, edges=_even(kind.at(0.0), kind.at(1.0), most))


def _even(low: float, high: float, count: int) -> list[float]:
    return [low + (high - low) * number / count for number in range(count)] + [high]
