"""Units and ranges of axes: time in a readable unit, and metrics without far outliers."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers: TypeAlias = NDArray[np.float64]

Against: TypeAlias = Literal["time", "trials", "units"]
AGAINST: tuple[Against, ...] = ("time", "trials", "units")
Summary: TypeAlias = Literal["best", "mean"]
SUMMARIES: tuple[Summary, ...] = ("best", "mean")
Scale: TypeAlias = Literal["rank", "metric"]
SCALES: tuple[Scale, ...] = ("rank", "metric")

_MARGIN = 0.06
_ENOUGH = 10
# The axis ends at the best 90% of values if all values would need more than 3 times that range.
_MOST, _FAR = 0.9, 3.0


class TimeUnit(NamedTuple):
    """A unit of time and its number of seconds."""

    name: str
    seconds: float


def time_unit(seconds: float) -> TimeUnit:
    """Return the unit for an axis that spans the given number of seconds."""
    return next(unit for unit, most in _UNITS if seconds <= most)


_UNITS = (
    (TimeUnit("s", 1.0), 300.0),
    (TimeUnit("min", 60.0), 18_000.0),
    (TimeUnit("h", 3_600.0), 432_000.0),
    (TimeUnit("days", 86_400.0), float("inf")),
)


def narrow(values: Any) -> NDArray[np.float32]:
    """Return numbers as 32-bit floats, which halve the size of a figure; too large ones become infinite."""
    import numpy as np

    with np.errstate(over="ignore"):
        return np.asarray(values).astype(np.float32)


def metric_range(values: Numbers, *, smaller_is_better: bool, log: bool = False) -> list[float] | None:
    """Return the lower and upper end of a metric's axis, or None if there is no finite value to show.

    Outliers in the bad direction lie outside the range.  With ``log``, the ends are exponents of 10.
    """
    import numpy as np

    seen = values[np.isfinite(values) & (values > 0 if log else True)]
    if not seen.size:
        return None
    if log:
        seen = np.log10(seen)
    sign = 1.0 if smaller_is_better else -1.0
    # Take existing values instead of interpolating a quantile: the difference of two values can overflow.
    losses = np.sort(sign * seen)
    best, most, worst = (float(losses[place]) for place in (0, int(_MOST * (losses.size - 1)), -1))
    if seen.size >= _ENOUGH and worst - best > _FAR * (most - best) > 0:
        worst = most
    if not isfinite(worst - best):
        return None
    margin = _MARGIN * (worst - best) or 0.05 * abs(best) or 1.0
    return sorted([sign * (best - margin), sign * (worst + margin)])


def axis_of(title: str, *, log: bool = False, span: Sequence[float] | None = None) -> dict[str, Any]:
    """Return the Plotly settings of a linear or logarithmic axis."""
    axis: dict[str, Any] = {"title": {"text": title}, "range": span}
    return {**axis, "type": "log", "tickformat": "~g"} if log else axis
