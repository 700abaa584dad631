"""Search spaces as scikit-learn's users write them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

_PLAIN = (bool, int, float, str, type(None))
_TAIL = 1e-6
"""Quantiles of a distribution are drawn from _TAIL to 1 - _TAIL, because its ends may be infinite."""


class ParameterSpace:
    """A space of parameters, as users of scikit-learn write it.

    A hyperparameter of an experiment is a JSON value.  Other values of a list, such as estimators and tuples, are
    represented by their ``repr``, and those of a distribution without an equivalent range by their quantile.

    Attributes:
        hparams: hyperparameter of Ashwood for each parameter.
    """

    def __init__(self, space: Any) -> None:
        """Convert a space.

        Args:
            space: for each parameter a range of Ashwood (`ashwood.Log`, `ashwood.Int`, …), a list of values, a frozen
                distribution of SciPy, or a constant.

        Raises:
            ValueError: a list is empty, or a distribution has no quantiles.
            TypeError: the space is not a mapping of names.
        """
        if not isinstance(space, Mapping) or not all(isinstance(name, str) for name in space):
            raise TypeError(
                f"space must be a dict from names of parameters to ranges, lists or distributions: {space!r}"
            )
        self._labels: dict[str, dict[str, Any]] = {}
        self._quantiles: dict[str, Any] = {}
        self.hparams = {name: self._converted(name, values) for name, values in space.items()}

    def params(self, hparams: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters that the hyperparameters of a trial stand for."""
        return {name: self._param(name, value) for name, value in hparams.items()}

    def _param(self, name: str, value: Any) -> Any:
        if name in self._labels:
            return self._labels[name][value]
        if name in self._quantiles:
            distribution = self._quantiles[name]
            number = float(distribution.ppf(value))
            return int(number) if hasattr(distribution, "pmf") else number
        return value

    def _converted(self, name: str, values: Any) -> Any:
        from ashwood.search.space import Categorical, Const, Double, Int, Log  # workers do not need it

        if isinstance(values, Int | Double | Log):
            return values
        ordered, when = getattr(values, "ordered", False), getattr(values, "when", None)
        if isinstance(values, Categorical):
            values = values.vals
        elif isinstance(values, Const):
            values = [values.val]
        if hasattr(values, "rvs"):
            return self._range(name, values)
        if isinstance(values, str) or not hasattr(values, "__iter__"):
            values = [values]
        values = [
            value.item() if type(value).__module__ == "numpy" and value.shape == () else value for value in values
        ]
        if not values:
            raise ValueError(f"space[{name!r}] is empty: it needs at least one value")
        if not all(type(value) in _PLAIN and not _is_infinite(value) for value in values):
            labels = [" ".join(repr(value).split()) for value in values]
            if len(set(labels)) < len(labels):
                labels = [f"{number}: {label}" for number, label in enumerate(labels)]
            self._labels[name] = dict(zip(labels, values, strict=True))
            values = labels
        return Const(values[0], when) if len(values) == 1 else Categorical(values, ordered, when)

    def _range(self, name: str, distribution: Any) -> Any:
        from ashwood.search.space import Double, Int, Log

        if not hasattr(distribution, "ppf") or not hasattr(distribution, "support"):
            raise ValueError(
                f"space[{name!r}] is {distribution!r}, which has no method ppf(): use a frozen distribution of "
                "scipy.stats, a list of values, or a range such as ashwood.Double(0, 1)"
            )
        low, high = map(float, distribution.support())
        kind = distribution.dist.name
        if kind == "randint":
            return Int(int(low), int(high))
        if kind == "uniform":
            return Double(low, high)
        # The median is not the geometric mean if the distribution has a loc.
        if kind in ("loguniform", "reciprocal") and math.isclose(float(distribution.ppf(0.5)), math.sqrt(low * high)):
            return Log(math.log10(low), math.log10(high))
        self._quantiles[name] = distribution
        return Double(_TAIL, 1 - _TAIL)


def _is_infinite(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
