"""Figures of the metric by one hyperparameter (scatter plot) or by two (heat map)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from math import ceil, floor, log10, sqrt
from typing import TYPE_CHECKING, Any, TypeAlias

from ashwood.figures.axes import NO_LOG, Summary, is_wide, metric_axis, metric_range
from ashwood.figures.theme import LIGHT, Theme, Trace, blank, compose, text_of
from ashwood.search.space import Categorical, Int
from ashwood.views.history import History
from ashwood.views.hparams import Bins, Varied, bins_of, varied
from ashwood.views.importance import ENOUGH, by_importance
from ashwood.views.results import Comparable, Result, comparable, last_results
from ashwood.views.wording import format_length

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from plotly.graph_objects import Figure

    Numbers: TypeAlias = NDArray[np.float64]

NOTHING = "No trial has been compared at a rung yet."
NO_HPARAMS = "This search varies no hyperparameter."
_MANY = 1_500
_MOST_BINS, _FEWEST_BINS = 14, 4
_JITTER = 0.3
_MOST_TICKS = 8
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "star", "hexagon", "cross")
WORD = 22
"""Largest number of characters of a label at an axis."""


# -- one hyperparameter --------------------------------------------------------------------------


def draw_scatter(
    history: History,
    hparam: str | None = None,
    *,
    log_y: bool | None = None,
    zoom: bool = False,
    theme: Theme = LIGHT,
) -> Figure:
    """Return a scatter plot of each trial's result at its highest rung against one hyperparameter.

    Args:
        history: the views of the experiment.
        hparam: name of the hyperparameter, by default the most important.
        log_y: whether the axis of metrics is logarithmic, by default if they are positive and spread over 10:1.
        zoom: whether to show only the best tenth of the results.
        theme: the colours.

    Raises:
        AshwoodError: plotly is not installed.
    """
    known = varied(history.spec.space) if hparam is not None else by_importance(history.progress)
    shown = next((each for each in known if hparam in (None, each.name)), None)
    if shown is None:
        return blank(theme, "Hyperparameter and metric", NO_HPARAMS)
    name, metric = text_of(shown.name), text_of(history.spec.metric)
    title = f"{name} and {metric}"
    points = _points(history, shown)
    if not points:
        return blank(theme, title, NOTHING)
    import numpy as np

    lengths = sorted({length for each in history.ladder.lengths for length in each})
    kind = shown.kind
    axis: dict[str, Any] = {"title": {"text": name}}
    if isinstance(kind, Categorical):
        axis |= {
            "tickmode": "array",
            "tickvals": list(range(len(kind.vals))),
            "ticktext": [text_of(value, WORD) for value in kind.vals],
            "range": [-0.5, len(kind.vals) - 0.5],
        }
    elif shown.is_log:
        low, high = shown.ends
        axis |= {"type": "log", "tickformat": "~g", **({"dtick": 1} if high > 300 * low else {})}
    metrics = np.array([result.metric for result, _ in points])
    if log_y and not (metrics > 0).any():
        return blank(theme, title, NO_LOG)
    return compose(
        list(_scattered(history, shown, points, lengths, theme)),
        theme,
        title,
        f"{name} and each trial's result at its highest rung",
        height=440,
        margin={"b": 84},
        showlegend=True,
        uirevision=f"scatter {name} {log_y} {zoom}",
        xaxis=axis,
        yaxis=metric_axis(metric, metrics, smaller_is_better=history.spec.smaller_is_better, log=log_y, zoom=zoom),
        legend={"title": {"text": "highest rung", "font": {"size": 11, "color": theme.muted}}},
    )


def _points(history: History, shown: Varied) -> list[tuple[Result, float]]:
    rows = history.progress.trials.rows
    found = ((result, shown.number(rows[result.trial].hparams)) for result in last_results(history.ladder))
    return [(result, number) for result, number in found if number is not None]


def _scattered(
    history: History,
    shown: Varied,
    points: Sequence[tuple[Result, float]],
    lengths: Sequence[int],
    theme: Theme,
) -> Iterator[Trace]:
    import numpy as np

    kind = shown.kind
    value = "%{customdata[1]}" if isinstance(kind, Categorical) else "%{x:.5~g}"
    for place, length in enumerate(lengths):
        here = [(result, number) for result, number in points if result.length == length]
        if not here:
            continue
        trials = np.array([result.trial for result, _ in here], dtype=np.int32)
        x = np.array([number for _, number in here])
        customdata: Any = trials[:, None]
        if isinstance(kind, Categorical):
            # Spread the trials of a category sideways.  The offset depends on the trial's number alone, so a point
            # keeps its position when others appear.  Multiples of the golden ratio, modulo 1, are spread evenly.
            x = x + _JITTER * (2.0 * ((trials * 0.6180339887) % 1.0) - 1.0)
            customdata = [[result.trial, text_of(kind.vals[int(number)], WORD)] for result, number in here]
        yield {
            "type": "scattergl" if len(points) > _MANY else "scatter",
            "name": format_length(length, history.spec.unit),
            "mode": "markers",
            "x": x,
            "y": np.array([result.metric for result, _ in here]),
            "customdata": customdata,
            "hovertemplate": (
                f"<b>trial %{{customdata[0]}}</b> at {format_length(length, history.spec.unit)}<br>"
                f"{text_of(shown.name)} = {value}<br>{text_of(history.spec.metric)} %{{y:.5~g}}<extra></extra>"
            ),
            "marker": {
                "color": theme.rung_colour(0, place, len(lengths)),
                "symbol": _SYMBOLS[place % len(_SYMBOLS)],
                "size": 5 if len(here) > _MANY else 7,
                "opacity": 0.55 if len(here) > _MANY else 0.85,
                "line": {"width": 0},
            },
        }


def draw_compared_scatter(
    several: Mapping[str, History],
    hparam: str | None = None,
    *,
    log_y: bool | None = None,
    zoom: bool = False,
    theme: Theme = LIGHT,
) -> Figure:
    """Return a scatter plot of the results of several experiments against one hyperparameter.

    Args:
        several: views of the experiments by their names in the legend.
        hparam: name of the hyperparameter, by default the most important one of the first experiment that has any.
        log_y: whether the axis of metrics is logarithmic, by default if they are positive and spread over 10:1.
        zoom: whether to show only the best tenth of the results.
        theme: the colours.

    Raises:
        AshwoodError: plotly is not installed.
    """
    title = "Hyperparameters of several experiments"
    orders = (by_importance(history.progress) for history in several.values())
    name = hparam or next((order[0].name for order in orders if order), None)
    if name is None:
        return blank(theme, title, "These searches vary no hyperparameter.")
    found = {
        place: (label, history, shown, _points(history, shown))
        for place, (label, history) in enumerate(several.items())
        for shown in varied(history.spec.space)
        if shown.name == name
    }
    found = {place: each for place, each in found.items() if each[3]}
    if not found:
        return blank(theme, title, f"No trial with {text_of(name)} has been compared at a rung yet.")
    import numpy as np

    kinds = [shown for _, _, shown, _ in found.values()]
    is_text = any(isinstance(shown.kind, Categorical) for shown in kinds)
    metrics = np.array([result.metric for *_, points in found.values() for result, _ in points])
    if log_y and not (metrics > 0).any():
        return blank(theme, title, NO_LOG)
    first = next(iter(found.values()))[1].spec
    scale = {"type": "log", "tickformat": "~g"} if any(shown.is_log for shown in kinds) and not is_text else {}
    return compose(
        [
            {
                "type": "scattergl" if len(metrics) > _MANY else "scatter",
                "name": text_of(label),
                "mode": "markers",
                "x": [_text(shown, number) if is_text else number for _, number in points],
                "y": np.array([result.metric for result, _ in points]),
                "text": [
                    f"trial {result.trial} at {format_length(result.length, history.spec.unit)}" for result, _ in points
                ],
                "hovertemplate": f"<b>{text_of(label)}</b>, %{{text}}<br>{text_of(name)} = %{{x}}<br>"
                f"{text_of(history.spec.metric)} %{{y:.5~g}}<extra></extra>",
                "marker": {
                    "color": theme.series[place % len(theme.series)],
                    "symbol": _SYMBOLS[place % len(_SYMBOLS)],
                    "size": 6,
                    "opacity": 0.7,
                    "line": {"width": 0},
                },
            }
            for place, (label, history, shown, points) in found.items()
        ],
        theme,
        title,
        f"{text_of(name)} and each trial's result at its highest rung",
        height=440,
        margin={"b": 84},
        showlegend=True,
        uirevision=f"compared {name} {log_y} {zoom}",
        xaxis={"title": {"text": text_of(name)}, **({"type": "category"} if is_text else scale)},
        yaxis=metric_axis(
            text_of(first.metric), metrics, smaller_is_better=first.smaller_is_better, log=log_y, zoom=zoom
        ),
    )


def _text(shown: Varied, number: float) -> str:
    kind = shown.kind
    return text_of(kind.vals[int(number)] if isinstance(kind, Categorical) else number, WORD)


# -- two hyperparameters -------------------------------------------------------------------------


def draw_heatmap(
    history: History,
    x: str | None = None,
    y: str | None = None,
    *,
    summary: Summary = "best",
    log_metric: bool | None = None,
    theme: Theme = LIGHT,
) -> Figure:
    """Return a heat map of the best or mean result over two hyperparameters, all results at one length.

    Args:
        history: the views of the experiment.
        x: name of the hyperparameter of the x-axis, by default the most important.
        y: name of the hyperparameter of the y-axis, by default the most important one that is not ``x``.
        summary: what a cell shows of its results: the ``best`` or the ``mean``.
        log_metric: whether colours are logarithmic, by default if the values are positive and spread over 10:1.
        theme: the colours.

    Raises:
        AshwoodError: plotly is not installed.
    """
    chosen = _pair(history, x, y)
    if chosen is None:
        return blank(theme, "Two hyperparameters", "This search varies fewer than two hyperparameters.")
    one, other = chosen
    title = f"{text_of(one.name)} and {text_of(other.name)}"
    compared = comparable(history.ladder, ENOUGH)
    if compared is None:
        return blank(theme, title, NOTHING)
    import numpy as np

    most = min(_MOST_BINS, max(_FEWEST_BINS, round(sqrt(len(compared.results)) / 1.3)))
    across, up = bins_of(one, most), bins_of(other, most)
    cells, counts = _cells(history, compared, across, up, summary)
    if not counts.any():
        return blank(theme, title, NOTHING)
    metric = text_of(history.spec.metric)
    smaller = history.spec.smaller_is_better
    finite = cells[np.isfinite(cells)]
    if log_metric and not (finite > 0).any():
        return blank(theme, title, NO_LOG)
    is_log = is_wide(finite, smaller_is_better=smaller) if log_metric is None else log_metric
    span = metric_range(finite, smaller_is_better=smaller, log=is_log) or [0.0, 1.0]
    scale = [[place, theme.quality_colour(1.0 - place if smaller else place)] for place in (0.0, 0.25, 0.5, 0.75, 1.0)]
    return compose(
        [
            {
                "type": "heatmap",
                "z": _logs(cells) if is_log else cells,
                "text": _cell_words(across, up, counts),
                "customdata": cells,
                "hovertemplate": f"%{{text}}<br>{summary} {metric} %{{customdata:.5~g}}<extra></extra>",
                "hoverongaps": False,
                "xgap": 1,
                "ygap": 1,
                "zmin": span[0],
                "zmax": span[1],
                "colorscale": scale,
                "colorbar": {
                    "title": {"text": f"{summary}<br>{text_of(history.spec.metric, 12)}", "font": {"size": 11}},
                    "thickness": 12,
                    "outlinewidth": 0,
                    "tickfont": {"size": 11, "color": theme.muted},
                    **(_log_ticks(span) if is_log else {}),
                },
            }
        ],
        theme,
        title,
        f"{title}: {_compared_results(compared, history)}",
        height=460,
        uirevision=f"heatmap {text_of(one.name)} {text_of(other.name)}",
        xaxis=_bin_axis(across),
        yaxis=_bin_axis(up),
        meta={"log_metric": is_log},
    )


def _logs(cells: Numbers) -> Numbers:
    import numpy as np

    with np.errstate(invalid="ignore", divide="ignore"):
        logs = np.log10(cells)
    return np.where(np.isfinite(logs), logs, np.nan)


def _log_ticks(span: Sequence[float]) -> dict[str, Any]:
    """Return ticks at 1, 2 and 5 times powers of ten within a range of exponents, or at its ends."""
    low, high = span
    numbers = [float(f"{factor}e{power}") for power in range(floor(low), ceil(high) + 1) for factor in (1, 2, 5)]
    inside = [number for number in numbers if number > 0 and low <= log10(number) <= high]
    if len(inside) > _MOST_TICKS:
        inside = [number for number in inside if log10(number).is_integer()]
    if len(inside) < 2:
        inside = [10.0**low, 10.0**high]
    return {
        "tickmode": "array",
        "tickvals": [log10(number) for number in inside],
        "ticktext": [f"{number:.3g}" for number in inside],
    }


def _pair(history: History, x: str | None, y: str | None) -> tuple[Varied, Varied] | None:
    known = {each.name: each for each in by_importance(history.progress)}
    free = [name for name in known if name not in (x, y)]
    names = [free.pop(0) if name is None and free else name for name in (x, y)]
    if None in names or names[0] == names[1]:
        return None
    one, other = (known[name] for name in names if name is not None)
    return one, other


def _cells(
    history: History, compared: Comparable, across: Bins, up: Bins, summary: Summary
) -> tuple[Numbers, NDArray[np.int64]]:
    """Return the summary and the number of results of each cell, by row and column; empty cells are NaN."""
    import numpy as np

    rows = history.progress.trials.rows
    better = min if history.spec.smaller_is_better else max
    here: defaultdict[tuple[int, int], list[float]] = defaultdict(list)
    for trial, _, metric in compared.results:
        hparams = rows[trial].hparams
        row, column = _bin(up, hparams), _bin(across, hparams)
        if row is not None and column is not None:
            here[row, column].append(metric)
    cells, counts = np.full((len(up), len(across)), np.nan), np.zeros((len(up), len(across)), dtype=np.int64)
    for place, metrics in here.items():
        # Not fmean: it adds the metrics first, and their sum can overflow although their mean does not.
        cells[place] = better(metrics) if summary == "best" else sum(metric / len(metrics) for metric in metrics)
        counts[place] = len(metrics)
    return cells, counts


def _bin(bins: Bins, hparams: Mapping[str, Any]) -> int | None:
    number = bins.varied.number(hparams)
    return None if number is None else bins.place(number)


def _bin_axis(bins: Bins) -> dict[str, Any]:
    """Return an axis with equally wide bins, labelled with their values or their edges."""
    if bins.values:
        places, words = list(range(len(bins))), [text_of(value, WORD) for value in bins.values]
    else:
        stride = 1 if len(bins.edges) < 9 else 2
        edges = list(enumerate(bins.edges))[::stride]
        places = [place - 0.5 for place, _ in edges]  # type: ignore[misc]
        words = [_edge_text(bins, edge, 2) for _, edge in edges]
    return {
        "title": {"text": text_of(bins.varied.name)},
        "tickmode": "array",
        "tickvals": places,
        "ticktext": words,
        "showgrid": False,
        "range": [-0.5, len(bins) - 0.5],
    }


def _cell_words(across: Bins, up: Bins, counts: NDArray[np.int64]) -> list[list[str]]:
    columns = _bin_words(across)
    return [
        [
            f"{column}<br>{row}<br>{format_length(int(count), 'results')}"
            for column, count in zip(columns, line, strict=True)
        ]
        for row, line in zip(_bin_words(up), counts, strict=True)
    ]


def _bin_words(bins: Bins) -> list[str]:
    name = text_of(bins.varied.name)
    return [f"{name} {'= ' if bins.values else ''}{label}" for label in bin_labels(bins)]


def bin_labels(bins: Bins) -> list[str]:
    """Return the values or the range of each bin as text for a figure."""
    if bins.values:
        return [text_of(value) for value in bins.values]
    if isinstance(bins.varied.kind, Int):
        # Edges lie between whole numbers.
        ends = [(ceil(low), floor(high)) for low, high in pairwise(bins.edges)]
        return [f"{low}" if low == high else f"{low} to {high}" for low, high in ends]
    return [f"{low:.3g} to {high:.3g}" for low, high in pairwise(bins.edges)]


def _edge_text(bins: Bins, edge: float, digits: int) -> str:
    """Return the label of an edge: of a whole number, the first one above the edge, or the last one at the end."""
    if isinstance(bins.varied.kind, Int):
        return str(ceil(edge) if edge < bins.edges[-1] else floor(edge))
    return f"{edge:.{digits}g}"


def _compared_results(compared: Comparable, history: History) -> str:
    results = format_length(len(compared.results), "results")
    return f"{results} at {format_length(compared.length, history.spec.unit)}"
