"""The figure of learning curves: the best or longest trained trials in front of the others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from math import isfinite
from typing import TYPE_CHECKING

from ashwood.experiment.lifecycle import TrialState
from ashwood.figures.axes import NO_LOG, axis_of, is_wide, metric_axis, narrow
from ashwood.figures.hparams import bin_labels
from ashwood.figures.theme import LIGHT, Theme, Trace, blank, compose, text_of
from ashwood.views.curves import Band, By, Curve, band, curve, leading, smoothed, thin
from ashwood.views.history import History
from ashwood.views.hparams import bins_of, varied
from ashwood.views.trials import TrialRow
from ashwood.views.wording import format_length

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

TITLE = "Learning curves"
MOST = 100
"""Largest number of trials to emphasize; more lines can't be distinguished."""

_POINTS, _POINTS_OF_OTHERS = 300, 40
_OTHERS = 150
_LEGEND = 12
_GROUPS, _GROUPED = 6, 2_000
_MARKED = 12
# The worst emphasized trial gets this quality, so that its line is still visible.
_PALEST = 0.3


def draw_learning_curves(
    history: History,
    *,
    top: int = 10,
    by: By = "metric",
    log_x: bool = False,
    log_y: bool | None = None,
    zoom: bool = False,
    metric: str | None = None,
    smooth: int = 0,
    group: str | None = None,
    stopped: bool = True,
    theme: Theme = LIGHT,
) -> Figure:
    """Return a figure of the reports of trials by training length; better trials stand out more.

    With ``group``, it shows the mean of all trials of each group instead, and a band from which about a tenth of the
    values lie above and a tenth below.

    Args:
        history: the views of the experiment.
        top: number of trials to emphasize, from 1 to `MOST`; others are faint.
        by: what these trials are chosen by: ``metric``, the searcher's, or ``length``, the longest trained.
        log_x: whether the axis of lengths is logarithmic.
        log_y: whether the axis of metrics is logarithmic, by default if they are positive and spread over 10:1.
        zoom: whether to show only the best tenth of the values.
        metric: name of the metric to show, by default the searcher's.
        smooth: weight of the earlier values in a moving average, in percent from 0 to 99.
        group: name of the hyperparameter by whose values trials are grouped.
        stopped: whether to include trials that the search has stopped.
        theme: the colours.

    Raises:
        AshwoodError: plotly is not installed.
    """
    shown_metric = history.spec.metric if metric is None else metric
    if group is not None:
        return _grouped(history, group, shown_metric, smooth, log_x, log_y, zoom, theme, stopped=stopped)
    first = leading(history.progress.trials, top, by, stopped=stopped)
    lines = [(row, _shown(history, row, shown_metric, _POINTS, smooth)) for row in first]
    lines = [(row, line) for row, line in lines if any(map(isfinite, line[1]))]
    if not lines:
        words = "No trial has reported yet." if metric is None else f"No trial has reported {text_of(metric)} yet."
        return blank(theme, TITLE, words)
    if log_y and not any(value > 0 for _, line in lines for value in line[1]):
        return blank(theme, TITLE, NO_LOG)
    import numpy as np

    others, left_out = _others(history, first, shown_metric, smooth, stopped=stopped)
    # The range comes from the extremes of each curve, so that long curves don't count more than short ones.
    extremes = np.array([extreme for _, line in lines for extreme in (np.nanmin(line[1]), np.nanmax(line[1]))])
    seen = np.concatenate([line[1] for _, line in lines]) if zoom else extremes
    downwards = history.spec.smaller_is_better if shown_metric == history.spec.metric else _falls(lines)
    name = text_of(shown_metric)
    return compose(
        [*_faint(others, theme), *_lines(lines, name, history, theme)],
        theme,
        TITLE,
        _subtitle(len(lines), by, len(others), left_out, rungs=not history.spec.search.open_ended),
        height=440,
        margin={"b": 108 if len(lines) <= _LEGEND else 48},
        showlegend=len(lines) <= _LEGEND,
        uirevision=f"curves {name} {log_x} {log_y} {zoom}",
        xaxis=axis_of(f"training ({history.spec.unit})", log=log_x),
        yaxis=metric_axis(
            name,
            seen,
            smaller_is_better=downwards,
            log=is_wide(extremes, smaller_is_better=downwards) if log_y is None else log_y,
            zoom=zoom,
        ),
        shapes=list(_rungs(history, theme)),
    )


def _shown(history: History, row: TrialRow, metric: str, most: int, smooth: int = 0) -> Curve:
    shown = curve(history.details.reports.of(row.id), metric)
    return thin(smoothed(shown, smooth / 100) if smooth else shown, most)


def _others(
    history: History, first: Sequence[TrialRow], metric: str, smooth: int, *, stopped: bool
) -> tuple[list[Curve], bool]:
    """Return curves of at most `_OTHERS` other trials, evenly chosen, and whether some trials are left out."""
    taken = {row.id for row in first}
    rows, reports = history.progress.trials.rows.values(), history.details.reports
    rest = [
        row
        for row in rows
        if row.id not in taken and row.id in reports and (stopped or row.state is not TrialState.STOPPED)
    ]
    stride = max(1, -(-len(rest) // _OTHERS))
    return [_shown(history, row, metric, _POINTS_OF_OTHERS, smooth) for row in rest[::stride]], stride > 1


def _lines(lines: Sequence[tuple[TrialRow, Curve]], metric: str, history: History, theme: Theme) -> Iterator[Trace]:
    """Draw a line for each trial, the best last, so that it lies on top."""
    import numpy as np

    order = sorted(lines, key=lambda line: history.progress.trials.ranking_key(line[0]))
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
                f"{metric} %{{y:.5~g}} at %{{x}} {history.spec.unit}<extra></extra>"
            ),
            "line": {"width": 2.6 if place == 0 else 1.5, "color": theme.quality_colour(quality)},
            "marker": {"size": 4},
        }


def _faint(others: Sequence[Curve], theme: Theme) -> Iterator[Trace]:
    """Draw all other trials as one line with gaps: one trace is much faster than one for each trial."""
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
        "line": {"width": 1, "color": theme.muted},
        "opacity": 0.4,
    }


def _rungs(history: History, theme: Theme) -> Iterator[dict[str, object]]:
    """Draw a dotted line at the length of each rung, if the search has lengths."""
    if history.spec.search.open_ended:
        return
    for length in sorted({length for lengths in history.ladder.lengths for length in lengths}):
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


def _grouped(
    history: History,
    group: str,
    metric: str,
    smooth: int,
    log_x: bool,
    log_y: bool | None,
    zoom: bool,
    theme: Theme,
    *,
    stopped: bool,
) -> Figure:
    """Return a figure of the mean curve of each group of trials, with a band around it."""
    import numpy as np

    shown = next(each for each in varied(history.spec.space) if each.name == group)
    bins = bins_of(shown, _GROUPS)
    members: defaultdict[int, list[TrialRow]] = defaultdict(list)
    rows, reports = history.progress.trials.rows.values(), history.details.reports
    reported = [row for row in rows if row.id in reports and (stopped or row.state is not TrialState.STOPPED)]
    stride = max(1, -(-len(reported) // _GROUPED))
    for row in reported[::stride]:
        number = shown.number(row.hparams)
        place = None if number is None else bins.place(number)
        if place is not None:
            members[place].append(row)
    bands = [
        (label, len(trials), band(_shown(history, row, metric, _POINTS, smooth) for row in trials))
        for place, label in enumerate(bin_labels(bins))
        if (trials := members.get(place))
    ]
    bands = [each for each in bands if each[2].lengths]
    name, title = text_of(metric), f"{TITLE} by {text_of(group)}"
    if not bands:
        return blank(theme, title, f"No trial has reported {name} yet.")
    seen = np.concatenate([curves.means for _, _, curves in bands])
    if log_y and not (seen > 0).any():
        return blank(theme, title, NO_LOG)
    downwards = history.spec.smaller_is_better if metric == history.spec.metric else seen[-1] < seen[0]
    return compose(
        [trace for place, each in enumerate(bands) for trace in _band(place, *each, name, history, theme)],
        theme,
        title,
        f"Mean of {sum(count for _, count, _ in bands):,} trials by {text_of(group)}, and a band with 80% of the "
        "values. Later parts are of fewer trials.",
        height=440,
        margin={"b": 108},
        showlegend=True,
        uirevision=f"curves {name} {group} {log_x} {log_y} {zoom}",
        xaxis=axis_of(f"training ({history.spec.unit})", log=log_x),
        yaxis=metric_axis(name, seen, smaller_is_better=bool(downwards), log=log_y, zoom=zoom),
        shapes=list(_rungs(history, theme)),
        legend={"title": {"text": text_of(group), "font": {"size": 11, "color": theme.muted}}},
    )


def _band(
    place: int, label: str, count: int, curves: Band, metric: str, history: History, theme: Theme
) -> Iterator[Trace]:
    colour = theme.series[place % len(theme.series)]
    yield {
        "type": "scatter",
        "mode": "lines",
        "x": [*curves.lengths, *reversed(curves.lengths)],
        "y": [*curves.highs, *reversed(curves.lows)],
        "fill": "toself",
        "fillcolor": colour,
        "opacity": 0.16,
        "line": {"width": 0},
        "hoverinfo": "skip",
        "legendgroup": label,
        "showlegend": False,
    }
    yield {
        "type": "scatter",
        "name": f"{label} ({format_length(count, 'trials')})",
        "mode": "lines+markers" if len(curves.lengths) <= _MARKED else "lines",
        "x": curves.lengths,
        "y": curves.means,
        "text": [format_length(number, "trials") for number in curves.counts],
        "hovertemplate": (
            f"<b>{label}</b><br>mean {metric} %{{y:.5~g}} at %{{x}} {history.spec.unit}<br>of %{{text}}<extra></extra>"
        ),
        "line": {"width": 2.2, "color": colour},
        "marker": {"size": 4},
        "legendgroup": label,
    }


def _falls(lines: Sequence[tuple[TrialRow, Curve]]) -> bool:
    """Return whether most curves end below their start.

    Which direction is better is known of the searcher's metric only.  For another one, this decides on which side
    outliers are left out.
    """
    falling = sum(values[-1] < values[0] for _, (_, values) in lines)
    return 2 * falling >= len(lines)


def _subtitle(lines: int, by: By, others: int, left_out: bool, *, rungs: bool) -> str:
    which = "Top" if by == "metric" else "Longest"
    faint = f" ({'some others' if left_out else 'others'} faint)" if others else ""
    return f"{which} {lines if lines > 1 else 'trial'}{faint}.{' Dotted lines: rungs.' if rungs else ''}"
