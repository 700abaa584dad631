"""Units and ranges of axes: time in a readable unit, and metrics without far outliers."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite, log10
from sys import float_info
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
# An axis is logarithmic by default if its values span more than this ratio.
_WIDE = 10.0
_BEST = 0.1
# A logarithmic axis with fewer powers of ten than this is short.
_SHORT = 1.5
NO_LOG = "No value is above 0, so a logarithmic scale can't show any."


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


def is_wide(values: Numbers, *, smaller_is_better: bool) -> bool:
    """Return whether a metric is shown on a logarithmic scale by default.

    That is so if all values are positive and differ by more than a factor of 10, without outliers in the bad
    direction.  If larger is better, a logarithmic scale has least room for the best values, so that the better half of
    the values must differ by that factor.
    """
    import numpy as np

    seen = np.sort(values[np.isfinite(values)])
    if not seen.size or seen[0] <= 0:
        return False
    low, high = (seen[0], _worst(seen)) if smaller_is_better else (seen[seen.size // 2], seen[-1])
    # Of logarithms, because the ratio can overflow.
    return log10(high) - log10(low) > log10(_WIDE)


def metric_range(
    values: Numbers, *, smaller_is_better: bool, log: bool = False, zoom: bool = False
) -> list[float] | None:
    """Return the lower and upper end of a metric's axis, or None if there is no finite value to show.

    Outliers in the bad direction lie outside the range, and with ``zoom`` all but the best tenth of the values.  With
    ``log``, the ends are exponents of 10.
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
    best, worst = float(losses[0]), _worst(losses)
    if zoom:
        # At least one value beside the best, so that the range is not empty.
        better = losses[: max(int(_BEST * losses.size), 1) + 1]
        worst = float(better[-1]) if better[-1] > best else worst
    if not isfinite(worst - best):
        return None
    margin = _MARGIN * (worst - best) or 0.05 * abs(best) or 1.0
    ends = (max(best - margin, -float_info.max), min(worst + margin, float_info.max))
    return sorted(sign * end for end in ends)


def _worst(losses: Numbers) -> float:
    """Return the largest of sorted values, without far outliers."""
    best, most, worst = (float(losses[place]) for place in (0, int(_MOST * (losses.size - 1)), -1))
    return most if losses.size >= _ENOUGH and worst - best > _FAR * (most - best) > 0 else worst


def axis_of(title: str, *, log: bool = False, span: Sequence[float] | None = None) -> dict[str, Any]:
    """Return the Plotly settings of a linear or logarithmic axis."""
    axis: dict[str, Any] = {"title": {"text": title}, "range": span}
    if not log:
        return axis
    # Plotly would label all digits from 1 to 9 on a short axis, and the upper ones overlap.
    few = span is not None and span[1] - span[0] < _SHORT
    return {**axis, "type": "log", "tickformat": "~g", "nticks": 3 if few else 5}


def metric_axis(
    title: str, values: Numbers, *, smaller_is_better: bool, log: bool | None = None, zoom: bool = False
) -> dict[str, Any]:
    """Return the Plotly settings of the axis of a metric.

    Args:
        title: title of the axis.
        values: the values to show.
        smaller_is_better: whether smaller values are better.
        log: whether the axis is logarithmic; None for a logarithmic axis if the values are spread widely.
        zoom: whether to show only the best tenth of the values.
    """
    is_log = is_wide(values, smaller_is_better=smaller_is_better) if log is None else log
    span = metric_range(values, smaller_is_better=smaller_is_better, log=is_log, zoom=zoom)
    return axis_of(title, log=is_log, span=span)
