"""The hyperparameters that a search varies, their values in trials, and bins of these values."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, log
from typing import Any, NamedTuple

from ashwood.search.space import ABSENT, Categorical, Const, Hyperparameter, Int, Log, Path, Space, ends_of, values_of


class Varied(NamedTuple):
    """A hyperparameter that is not constant.

    Attributes:
        name: name with dots for nesting, such as ``optimizer.lr``.
        path: keys that lead to its value in nested hyperparameters.
        kind: type and range of its values.
        is_conditional: whether some trials do not have it.
    """

    name: str
    path: Path
    kind: Hyperparameter
    is_conditional: bool = False

    @property
    def is_log(self) -> bool:
        """Whether its scale is logarithmic."""
        return isinstance(self.kind, Log) or (not isinstance(self.kind, Categorical | Const) and self.kind.log)

    @property
    def ends(self) -> tuple[float, float]:
        """The smallest and the largest value as numbers, those of a categorical hyperparameter as indices."""
        if isinstance(self.kind, Categorical):
            return 0.0, float(len(self.kind.vals) - 1)
        low, high = ends_of(self.kind)
        return float(low), float(high)

    def value(self, hparams: Mapping[str, Any]) -> Any:
        """Return its value in a trial, or `ABSENT` if the trial has none."""
        value: Any = hparams
        for name in self.path:
            if not isinstance(value, Mapping) or name not in value:
                return ABSENT
            value = value[name]
        return value

    def number(self, hparams: Mapping[str, Any]) -> float | None:
        """Return its value in a trial as a number, or None if there is none.  A categorical value becomes its index."""
        value = self.value(hparams)
        if isinstance(self.kind, Categorical):
            return next((float(place) for place, each in enumerate(self.kind.vals) if _same(each, value)), None)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None

    def position(self, number: float) -> float:
        """Return the position of a number between the ends on the hyperparameter's scale, from 0 to 1."""
        low, high = self.ends
        if self.is_log:
            if number <= 0:
                return 0.0
            low, high, number = log(low), log(high), log(number)
        place = (number - low) / (high - low) if high > low else 0.0
        return min(max(place, 0.0), 1.0)


def varied(space: Space) -> Sequence[Varied]:
    """Return the hyperparameters that a search varies, in the order of the experiment file."""
    conditional = {path for path, _, _ in space.conditional()}
    return [Varied(".".join(path), path, leaf, path in conditional) for path, leaf in space.leaves() if leaf.size != 1]


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
            if isinstance(self.varied.kind, Categorical):
                index = int(value)
                return index if 0 <= index < len(self.values) else None
            return next((index for index, each in enumerate(self.values) if each == value), None)
        if not self.edges[0] <= value <= self.edges[-1]:
            return None
        return min(bisect_right(self.edges, value) - 1, len(self) - 1)


def bins_of(varied: Varied, most: int) -> Bins:
    """Return at most ``most`` bins, equally wide on the hyperparameter's scale, or one bin for each of few values."""
    kind = varied.kind
    if isinstance(kind, Categorical):
        return Bins(varied, values=kind.vals)
    if kind.size is not None and kind.size <= most:
        return Bins(varied, values=values_of(kind))
    low, high = varied.ends
    if isinstance(kind, Int):  # The edges lie halfway between whole numbers.
        low, high = low - 0.5, high + 0.5
    if varied.is_log:
        inner = [exp(exponent) for exponent in _even(log(low), log(high), most)[1:-1]]
        # The outer edges are computed like values, so that rounding puts no value outside the bins.
        return Bins(varied, edges=[low, *inner, high])
    return Bins(varied, edges=_even(low, high, most))


def _even(low: float, high: float, count: int) -> list[float]:
    return [low + (high - low) * number / count for number in range(count)] + [high]
