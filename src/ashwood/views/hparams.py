"""The hyperparameters that a search varies, and their values in trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
