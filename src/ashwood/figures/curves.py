"""Learning curves: the best trials, or those that trained furthest, before the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite
from typing import TYPE_CHECKING

from ashwood.errors import AshwoodError
from ashwood.figures.axes import axis_of, metric_range, narrow
from ashwood.figures.theme import LIGHT, Theme, Trace, blank, compose, text_of
from ashwood.views.chronicle import Chronicle
from ashwood.views.curves import BY, By, Curve, curve, leading, thin
from ashwood.views.trials import TrialRow

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

TITLE = "Learning curves"
MOST = 100
"""No more are told apart."""

_POINTS, _POINTS_OF_OTHERS = 300, 40
_OTHERS = 150
_LEGEND = 12
_MARKED = 12
# The worst of those shown must still be seen.
_PALEST = 0.3


def draw_learning_curves(
    told: Chronicle,
    *,
    top: int = 10,
    by: By = "metric",
    log_x: bool = False,
    log_y: bool = False,
    metric: str | None = None,
    theme: Theme = LIGHT,
) -> Figure:
    """What trials reported, by training length; the better a trial, the more it stands out.

    Args:
        told: the experiment.
        top: so many of the first trials; others are faint.
        by: what they are first by: the searcher's ``metric``, or the ``length`` that they trained to.
        log_x: lengths on a logarithmic axis.
        log_y: values on a logarithmic axis.
        metric: what to show; None: the searcher's metric.
        theme: the colours.

    Raises:
        AshwoodError: there is no such order, or plotly is not installed.
    """
    if by not in BY:
        raise AshwoodError(f"by {by!r}: expected {BY[0]} or {BY[1]}")
    shown_metric = told.spec.metric if metric is None else metric
    first = leading(told.progress.trials, min(max(top, 1), MOST), by)
    lines = [(row, _shown(told, row, shown_metric, _POINTS)) for row in first]
    lines = [(row, line) for row, line in lines if any(map(isfinite, line[1]))]
    if not lines:
        words = "No trial has reported yet." if metric is None else f"No trial has reported {text_of(metric)} yet."
        return blank(theme, TITLE, words)
    if log_y and not any(value > 0 for _, line in lines for value in line[1]):
        return blank(theme, TITLE, "Nothing is above 0, where a logarithmic axis begins.")
    import numpy as np

    others, left_out = _others(told, first, shown_metric)
    # How each curve begins and ends, not how long it goes on there.
    seen = np.array([extreme for _, line in lines for extreme in (np.nanmin(line[1]), np.nanmax(line[1]))])
    downwards = told.spec.smaller_is_better if shown_metric == told.spec.metric else _falls(lines)
    name = text_of(shown_metric)
    return compose(
        [*_faint(others, theme), *_lines(lines, name, told, theme)],
        theme,
        TITLE,
        _subtitle(len(lines), by, len(others), left_out),
        height=440,
        margin={"b": 108 if len(lines) <= _LEGEND else 48},
        showlegend=len(lines) <= _LEGEND,
        uirevision=f"curves {name} {log_x} {log_y}",
        xaxis=axis_of(f"training ({told.spec.unit})", log=log_x),
        yaxis=axis_of(name, log=log_y, span=metric_range(seen, smaller_is_better=downwards, log=log_y)),
        shapes=list(_rungs(told, theme)),
    )


def _shown(told: Chronicle, row: TrialRow, metric: str, most: int) -> Curve:
    return thin(curve(told.history.reports.of(row.id), metric), most)


def _others(told: Chronicle, first: Sequence[TrialRow], metric: str) -> tuple[list[Curve], bool]:
    """Some of the other trials, evenly chosen, and whether some are left out."""
    taken = {row.id for row in first}
    rows, reports = told.progress.trials.rows.values(), told.history.reports
    rest = [row for row in rows if row.id not in taken and row.id in reports]
    stride = max(1, -(-len(rest) // _OTHERS))
    return [_shown(told, row, metric, _POINTS_OF_OTHERS) for row in rest[::stride]], stride > 1


def _lines(lines: Sequence[tuple[TrialRow, Curve]], metric: str, told: Chronicle, theme: Theme) -> Iterator[Trace]:
    """The best is drawn last, above all others."""
    import numpy as np

    order = sorted(lines, key=lambda line: told.progress.trials.ranking_key(line[0]))
    for place, (row, (lengths, values)) in reversed(list(enumerate(order))):
        quality = 1.0 - (1.0 - _PALEST) * place / max(1, len(order) - 1)
        yield {
            "type": "scatter",
            "name": f"trial {row.id}",
            "legendrank": 1_000 + place,
            "mode": "lines+markers" if len(lengths) <= _MARKED else "lines",
            "x": np.asarray(lengths, dtype=np.int32) if lengths[-1] < 2**31 else np.asarray(lengths, dtype=np.float64),
            "y": np.asarray(values, dtype=np.float64),
            "customdata": np.full((len(lengths), 1), row.id, dtype=np.int32),
            "hovertemplate": (
                f"<b>trial {row.id}</b>, {place + 1} of {len(order)}<br>"
                f"{metric} %{{y:.5~g}} at %{{x}} {told.spec.unit}<extra></extra>"
            ),
            "line": {"width": 2.6 if place == 0 else 1.5, "color": theme.quality_colour(quality)},
            "marker": {"size": 4},
        }


def _faint(others: Sequence[Curve], theme: Theme) -> Iterator[Trace]:
    """All of them as one line with gaps."""
    import numpy as np

    parts = [line for line in others if len(line[0])]
    if not parts:
        return
    x, y = (narrow(np.concatenate([np.append(line[axis], np.nan) for line in parts])) for axis in (0, 1))
    yield {
        "type": "scattergl" if len(x) > 2_000 else "scatter",
        "name": "other trials",
        "legendrank": 2_000,
        "mode": "lines",
        "x": x,
        "y": y,
        "hoverinfo": "skip",
        "line": {"width": 1, "color": theme.faint},
        "opacity": 0.35,
    }


def _rungs(told: Chronicle, theme: Theme) -> Iterator[dict[str, object]]:
    """Where trials are compared."""
    for length in sorted({length for lengths in told.timeline.lengths for length in lengths}):
        yield {
            "type": "line",
            "x0": length,
            "x1": length,
            "yref": "paper",
            "y0": 0,
            "y1": 1,
            "line": {"width": 1, "dash": "dot", "color": theme.faint},
            "layer": "below",
        }


def _falls(lines: Sequence[tuple[TrialRow, Curve]]) -> bool:
    """Whether a metric of which that isn't known gets smaller while most trials train."""
    falling = sum(values[-1] < values[0] for _, (_, values) in lines)
    return 2 * falling >= len(lines)


def _subtitle(lines: int, by: By, others: int, left_out: bool) -> str:
    which = "best" if by == "metric" else "longest"
    faint = f"; {'some' if left_out else 'all'} others faint" if others else ""
    return (
        f"the {lines} {which}{faint}; dotted: where trials are compared" if lines > 1 else f"the {which} trial{faint}"
    )
