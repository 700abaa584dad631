"""Figures of the best metric so far over time, for one experiment or for several.

`ashwood.views.trials` defines which trial is best: if an experiment saves checkpoints, only their results count.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import log10
from typing import TYPE_CHECKING, NamedTuple

from ashwood.errors import AshwoodError
from ashwood.figures.axes import AGAINST, NO_LOG, Against, TimeUnit, axis_of, metric_axis, narrow, time_unit
from ashwood.figures.theme import LIGHT, Theme, Trace, blank, compose, text_of
from ashwood.views.history import History
from ashwood.views.wording import format_duration, format_length, format_value

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from plotly.graph_objects import Figure

TITLE = "Best so far"
COMPARED = "Best so far of several experiments"
NOTHING = "No trial has reported yet."
_MARKED = 400
_MANY = 2_000


class _Course(NamedTuple):
    """The improvements of the best metric, one point each, and a last point for the current time."""

    x: list[float]
    y: list[float]
    texts: list[str]
    trials: list[int]


def draw_best_so_far(
    history: History,
    *,
    against: Against = "time",
    log_y: bool | None = None,
    zoom: bool = False,
    theme: Theme = LIGHT,
) -> Figure:
    """Draw the best metric so far as steps, with the best result of each trial behind them.

    Args:
        history: views of the experiment.
        against: horizontal axis: ``time`` that drivers have run, ``trials`` created, or ``units`` of training.
        log_y: whether the axis of metrics is logarithmic, by default if they are positive and spread over 10:1.
        zoom: whether to show only the best tenth of the results.
        theme: colours of the figure.

    Raises:
        AshwoodError: plotly is not installed.
    """
    if not history.improvements:
        is_unsaved = history.progress.seen is not None
        words = f"No checkpoint has a {text_of(history.spec.metric)} yet." if is_unsaved else NOTHING
        return blank(theme, TITLE, words)
    import numpy as np

    unit = _unit([history])
    course = _course(history, against, unit)
    results = _results(history, against, unit)
    best = history.improvements[-1]
    metric = text_of(history.spec.metric)
    seen = np.concatenate([course.y, *([] if results is None else [results[1]])])
    if log_y and not (seen > 0).any():
        return blank(theme, TITLE, NO_LOG)
    yaxis = metric_axis(metric, seen, smaller_is_better=history.spec.smaller_is_better, log=log_y, zoom=zoom)
    is_log = yaxis.get("type") == "log"
    marked = [best.metric] if best.metric > 0 or not is_log else []
    return compose(
        [
            *([] if results is None else [_dots(history, *results, theme)]),
            _steps(course, "best so far", theme.accent, named=False),
        ],
        theme,
        TITLE,
        f"{metric} {format_value(best.metric)}, trial {best.trial} at {format_length(best.length, history.spec.unit)}",
        showlegend=False,
        uirevision=f"best {against} {log_y} {zoom}",
        margin={"r": 76},
        xaxis={**axis_of(_axis(history, against, unit)), "rangemode": "tozero"},
        yaxis=yaxis,
        shapes=[
            {
                "type": "line",
                "xref": "paper",
                "x0": 0,
                "x1": 1,
                "y0": value,
                "y1": value,
                "line": {"width": 1, "dash": "dot", "color": theme.muted},
                "layer": "below",
            }
            for value in marked
        ],
        annotations=[
            {
                "xref": "paper",
                "x": 1.005,
                # Plotly takes the logarithms of annotations, but not of shapes.
                "y": log10(value) if is_log else value,
                "xanchor": "left",
                "yanchor": "middle",
                "showarrow": False,
                "text": f"<b>{format_value(value)}</b>",
                "font": {"color": theme.accent, "size": 12},
            }
            for value in marked
        ],
    )


def draw_comparison(
    several: Mapping[str, History],
    *,
    against: Against = "units",
    log_y: bool | None = None,
    zoom: bool = False,
    theme: Theme = LIGHT,
) -> Figure:
    """Draw the best metric so far of several experiments, whose keys are their names in the legend.

    Args:
        several: views of the experiments by their names.
        against: horizontal axis: ``time`` that drivers have run, ``trials`` created, or ``units`` of training.
        log_y: whether the axis of metrics is logarithmic, by default if they are positive and spread over 10:1.
        zoom: whether to show only the best tenth of the improvements.
        theme: colours of the figure.

    Raises:
        AshwoodError: ``against`` has an unknown value, or plotly is not installed.
    """
    if against not in AGAINST:
        raise AshwoodError(f"against {against!r}: expected {', '.join(AGAINST[:-1])} or {AGAINST[-1]}")
    known = {name: history for name, history in several.items() if history.improvements}
    if not known:
        return blank(theme, COMPARED, NOTHING)
    import numpy as np

    unit = _unit(known.values())
    courses = {name: _course(history, against, unit) for name, history in known.items()}
    metrics = sorted({history.spec.metric for history in known.values()})
    first = next(iter(known.values()))
    silent = [name for name in several if name not in known]
    seen = np.concatenate([course.y for course in courses.values()])
    if log_y and not (seen > 0).any():
        return blank(theme, COMPARED, NO_LOG)
    return compose(
        [
            _steps(course, text_of(name), theme.series[place % len(theme.series)], _dash(place, theme))
            for place, (name, course) in enumerate(courses.items())
        ],
        theme,
        COMPARED,
        f"nothing reported yet by {', '.join(map(text_of, silent))}" if silent else "",
        showlegend=True,
        uirevision=f"compare {against} {log_y} {zoom}",
        margin={"b": 80},
        xaxis={**axis_of(_axis(first, against, unit)), "rangemode": "tozero"},
        yaxis=metric_axis(
            ", ".join(map(text_of, metrics)),
            seen,
            smaller_is_better=first.spec.smaller_is_better,
            log=log_y,
            zoom=zoom,
        ),
    )


def _dash(place: int, theme: Theme) -> str:
    """Return a line's dash style: solid until all colours are used, then other styles for the same colours."""
    return ("solid", "dash", "dot")[place // len(theme.series) % 3]


def _unit(several: Iterable[History]) -> TimeUnit:
    return time_unit(max(history.progress.trials.spending.driver_seconds for history in several))


def _axis(history: History, against: Against, unit: TimeUnit) -> str:
    if against == "time":
        return f"run time ({unit.name})"
    return "trials created" if against == "trials" else f"training of all trials together ({history.spec.unit})"


def _course(history: History, against: Against, unit: TimeUnit) -> _Course:
    table = history.progress.trials
    last = history.improvements[-1]
    now = last._replace(driven=table.spending.driver_seconds, created=len(table.rows), trained=table.spending.trained)
    points = [*history.improvements, now]
    if against == "time":
        x = [each.driven / unit.seconds for each in points]
    else:
        x = [float(each.created if against == "trials" else each.trained) for each in points]
    metric = text_of(history.spec.metric)
    return _Course(
        x,
        [each.metric for each in points],
        [
            f"<b>trial {each.trial}</b> at {format_length(each.length, history.spec.unit)}<br>"
            f"{metric} {format_value(each.metric)}<br>after {format_duration(each.driven)}, "
            f"{format_length(each.created, 'trials')}, {format_length(each.trained, history.spec.unit)}"
            for each in points
        ],
        [each.trial for each in points],
    )


def _steps(course: _Course, name: str, colour: str, dash: str = "solid", *, named: bool = True) -> Trace:
    return {
        "type": "scatter",
        "name": name,
        "mode": "lines+markers" if len(course.x) <= _MARKED else "lines",
        "x": course.x,
        "y": course.y,
        "line": {"shape": "hv", "width": 2.4, "color": colour, "dash": dash},
        # The last point has no marker, because it is the current time and not an improvement.
        "marker": {"size": [*[5.5] * (len(course.x) - 1), 0], "color": colour, "line": {"width": 0}},
        "customdata": [[trial] for trial in course.trials],
        "hovertext": course.texts,
        "hoverinfo": "text+name" if named else "text",
    }


def _results(
    history: History, against: Against, unit: TimeUnit
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int32]] | None:
    """Return the x positions, metrics and ids of the best results of all trials, or None without positions."""
    if against == "units":
        return None
    import numpy as np

    table = history.progress.trials
    rows = [row for row in table.best(len(table.rows)) if row.metric is not None and row.metric_at is not None]
    if not rows:
        return None
    at = np.array([row.metric_at for row in rows])
    metrics = np.array([row.metric for row in rows])
    if against == "trials":
        created = np.array([row.created_at for row in table.rows.values()])
        x = np.searchsorted(np.sort(created), at, side="right").astype(np.float64)
    else:
        shifts = np.array(history.timeline.shifts)
        ran = np.cumsum(shifts[:, 1] - shifts[:, 0])
        x = np.interp(at, shifts.ravel(), np.stack([np.append(0.0, ran[:-1]), ran], axis=1).ravel()) / unit.seconds
    return x, metrics, np.array([row.id for row in rows], dtype=np.int32)


def _dots(
    history: History, x: NDArray[np.float64], metrics: NDArray[np.float64], trials: NDArray[np.int32], theme: Theme
) -> Trace:
    return {
        "type": "scattergl" if len(x) > _MARKED else "scatter",
        "name": "results",
        "mode": "markers",
        "x": narrow(x),
        "y": narrow(metrics),
        "customdata": trials[:, None],
        "hovertemplate": f"trial %{{customdata[0]}}: {text_of(history.spec.metric)} %{{y:.5~g}}<extra></extra>",
        "marker": {"size": 4 if len(x) < _MANY else 3, "color": theme.faint, "opacity": 0.6 if len(x) < _MANY else 0.3},
    }
