"""The hyperparameters that a search varies, and their values in trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ashwood.search.space import Categorical, Const, Hyperparameter, Path, Space


class Varied(NamedTuple):
    """A hyperparameter that isn't constant.

    Attributes:
        name: as people write it, with dots for nesting.
        path: where its values are.
        kind: what can be drawn.
    """

    name: str
    path: Path
    kind: Hyperparameter

    def value(self, hparams: Mapping[str, Any]) -> Any:
        """Its value in a trial; None: it has none there."""
        value: Any = hparams
        for name in self.path:
            if not isinstance(value, Mapping) or name not in value:
                return None
            value = value[name]
        return value

    def number(self, hparams: Mapping[str, Any]) -> float | None:
        """Its value in a trial as a number: of a categorical one, which of its values; None: it has none."""
        value = self.value(hparams)
        if isinstance(self.kind, Categorical):
            return next((float(place) for place, each in enumerate(self.kind.vals) if _same(each, value)), None)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def varied(space: Space) -> Sequence[Varied]:
    """Every hyperparameter that a search varies, in the order of the file."""
    return [Varied(".".join(path), path, leaf) for path, leaf in space.leaves() if not _is_constant(leaf)]


def _is_constant(leaf: Hyperparameter) -> bool:
    if isinstance(leaf, Const):
        return True
    return len(leaf.vals) == 1 if isinstance(leaf, Categorical) else leaf.minval == leaf.maxval


def _same(one: Any, other: Any) -> bool:
    # 1, 1.0 and True are equal, and three values of a hyperparameter.
    return type(one) is type(other) and bool(one == other)
