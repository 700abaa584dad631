"""Hyperparameters against the metric: one (a scatter plot), two (a heat map), all of them (parallel coordinates)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from math import ceil, floor, isfinite, log10, nan, sqrt
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from ashwood.errors import AshwoodError
from ashwood.figures.axes import metric_range
from ashwood.figures.theme import LIGHT, Theme, Trace, blank, compose, text_of
from ashwood.search.space import Categorical, Int, Log
from ashwood.views.bins import Bins, bins_of
from ashwood.views.chronicle import Chronicle
from ashwood.views.hparams import Varied, varied
from ashwood.views.results import Comparable, Result, comparable, last_results
from ashwood.views.wording import format_length, format_value

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from plotly.graph_objects import Figure

    Numbers: TypeAlias = NDArray[np.float64]

Summary: TypeAlias = Literal["best", "mean"]
SUMMARIES: tuple[Summary, ...] = ("best", "mean")

NOTHING = "No trial has been compared at a rung yet."
NO_HPARAMS = "This search varies no hyperparameter."
ENOUGH = 50
"""So many results at one length are worth comparing."""

_MANY = 1_500
_MOST_AXES = 12
_MOST_BINS, _FEWEST_BINS = 14, 4
_JITTER = 0.3
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "star", "hexagon", "cross")
_WORD = 22
# With more lines than so many only some are to be seen.
_CROWDED = 1_000


def find(told: Chronicle, name: str) -> Varied:
    """A hyperparameter by its name.

    Raises:
        AshwoodError: the search varies none of that name.
    """
    known = {each.name: each for each in varied(told.spec.space)}
    if name in known:
        return known[name]
    near = get_close_matches(name, known, n=1)
    hint = f", did you mean {near[0]!r}?" if near else ""
    raise AshwoodError(f"the search varies no hyperparameter {name!r}{hint}; it varies: {', '.join(known) or 'none'}")


# -- one -----------------------------------------------------------------------------------------


def draw_scatter(told: Chronicle, hparam: str | None = None, *, theme: Theme = LIGHT) -> Figure:
    """One hyperparameter against the metric, a colour for each length at which trials were compared last.

    Args:
        told: the experiment.
        hparam: which one; None: the first.
        theme: the colours.

    Raises:
        AshwoodError: the search doesn't vary it, or plotly is not installed.
    """
    first = next(iter(varied(told.spec.space)), None)
    if hparam is None and first is None:
        return blank(theme, "Hyperparameter and metric", NO_HPARAMS)
    shown = find(told, first.name if hparam is None and first is not None else hparam or "")
    name, metric = text_of(shown.name), text_of(told.spec.metric)
    title = f"{name} and {metric}"
    points = _points(told, shown)
    if not points:
        return blank(theme, title, NOTHING)
    import numpy as np

    lengths = sorted({length for each in told.timeline.lengths for length in each})
    kind = shown.kind
    axis: dict[str, Any] = {"title": {"text": name}}
    if isinstance(kind, Categorical):
        axis |= {
            "tickmode": "array",
            "tickvals": list(range(len(kind.vals))),
            "ticktext": [text_of(value, _WORD) for value in kind.vals],
            "range": [-0.5, len(kind.vals) - 0.5],
        }
    elif isinstance(kind, Log):
        axis |= {"type": "log", "tickformat": "~g", **({"dtick": 1} if kind.at(1.0) > 300 * kind.at(0.0) else {})}
    metrics = np.array([result.metric for result, _ in points])
    return compose(
        list(_scattered(told, shown, points, lengths, theme)),
        theme,
        title,
        f"the result of each trial at the longest of {len(lengths)} lengths at which it was compared",
        height=440,
        margin={"b": 84},
        showlegend=True,
        uirevision=f"scatter {name}",
        xaxis=axis,
        yaxis={
            "title": {"text": metric},
            "range": metric_range(metrics, smaller_is_better=told.spec.smaller_is_better),
        },
        legend={"title": {"text": "compared last at", "font": {"size": 11, "color": theme.muted}}},
    )


def _points(told: Chronicle, shown: Varied) -> list[tuple[Result, float]]:
    rows = told.progress.trials.rows
    found = ((result, shown.number(rows[result.trial].hparams)) for result in last_results(told.timeline))
    return [(result, number) for result, number in found if number is not None]


def _scattered(
    told: Chronicle,
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
            # Side by side, at a place that stays the trial's own.
            x = x + _JITTER * (2.0 * ((trials * 0.6180339887) % 1.0) - 1.0)
            customdata = [[result.trial, text_of(kind.vals[int(number)], _WORD)] for result, number in here]
        yield {
            "type": "scattergl" if len(points) > _MANY else "scatter",
            "name": format_length(length, told.spec.unit),
            "mode": "markers",
            "x": x,
            "y": np.array([result.metric for result, _ in here]),
            "customdata": customdata,
            "hovertemplate": (
                f"<b>trial %{{customdata[0]}}</b>, compared at {format_length(length, told.spec.unit)}<br>"
                f"{text_of(shown.name)} = {value}<br>{text_of(told.spec.metric)} %{{y:.5~g}}<extra></extra>"
            ),
            "marker": {
                "color": theme.rung_colour(0, place, len(lengths)),
                "symbol": _SYMBOLS[place % len(_SYMBOLS)],
                "size": 5 if len(here) > _MANY else 7,
                "opacity": 0.55 if len(here) > _MANY else 0.85,
                "line": {"width": 0},
            },
        }


# -- two -----------------------------------------------------------------------------------------


def draw_heatmap(
    told: Chronicle, x: str | None = None, y: str | None = None, *, summary: Summary = "best", theme: Theme = LIGHT
) -> Figure:
    """Two hyperparameters against the metric: the best or the mean result in each bin, all at one length.

    Args:
        told: the experiment.
        x: the one to the right; None: the first.
        y: the one upwards; None: the next.
        summary: ``best`` or ``mean`` of the results in a bin.
        theme: the colours.

    Raises:
        AshwoodError: the search doesn't vary them, there is no such summary, or plotly is not installed.
    """
    if summary not in SUMMARIES:
        raise AshwoodError(f"summary {summary!r}: expected {SUMMARIES[0]} or {SUMMARIES[1]}")
    chosen = _pair(told, x, y)
    if chosen is None:
        return blank(theme, "Two hyperparameters", "This search varies fewer than two hyperparameters.")
    one, other = chosen
    title = f"{text_of(one.name)} and {text_of(other.name)}"
    known = comparable(told.timeline, ENOUGH)
    if known is None:
        return blank(theme, title, NOTHING)
    import numpy as np

    most = min(_MOST_BINS, max(_FEWEST_BINS, round(sqrt(len(known.results)) / 1.3)))
    across, up = bins_of(one, most), bins_of(other, most)
    cells, counts = _cells(told, known, across, up, summary)
    if not counts.any():
        return blank(theme, title, NOTHING)
    metric = text_of(told.spec.metric)
    smaller = told.spec.smaller_is_better
    span = metric_range(cells[np.isfinite(cells)], smaller_is_better=smaller) or [0.0, 1.0]
    scale = [[place, theme.quality_colour(1.0 - place if smaller else place)] for place in (0.0, 0.25, 0.5, 0.75, 1.0)]
    return compose(
        [
            {
                "type": "heatmap",
                "z": cells,
                "text": _cell_words(across, up, counts),
                "hovertemplate": f"%{{text}}<br>{summary} {metric} %{{z:.5~g}}<extra></extra>",
                "hoverongaps": False,
                "xgap": 1,
                "ygap": 1,
                "zmin": span[0],
                "zmax": span[1],
                "colorscale": scale,
                "colorbar": {
                    "title": {"text": f"{summary}<br>{text_of(told.spec.metric, 12)}", "font": {"size": 11}},
                    "thickness": 12,
                    "outlinewidth": 0,
                    "tickfont": {"size": 11, "color": theme.muted},
                },
            }
        ],
        theme,
        title,
        _like_with_like(known, told),
        height=460,
        uirevision=f"heatmap {text_of(one.name)} {text_of(other.name)}",
        xaxis=_bin_axis(across),
        yaxis=_bin_axis(up),
    )


def _pair(told: Chronicle, x: str | None, y: str | None) -> tuple[Varied, Varied] | None:
    chosen = [find(told, name) for name in (x, y) if name is not None]
    rest = [each for each in varied(told.spec.space) if each not in chosen]
    if len(chosen) + len(rest) < 2 or (x is not None and x == y):
        return None
    one = find(told, x) if x is not None else rest.pop(0)
    return one, find(told, y) if y is not None else rest.pop(0)


def _cells(
    told: Chronicle, known: Comparable, across: Bins, up: Bins, summary: Summary
) -> tuple[Numbers, NDArray[np.int64]]:
    import numpy as np

    rows = told.progress.trials.rows
    sign = 1.0 if told.spec.smaller_is_better else -1.0
    best, total = np.full((len(up), len(across)), np.inf), np.zeros((len(up), len(across)))
    counts = np.zeros(best.shape, dtype=np.int64)
    for trial, _, metric in known.results:
        hparams = rows[trial].hparams
        column, row = _bin(across, hparams), _bin(up, hparams)
        if column is None or row is None:
            continue
        counts[row, column] += 1
        total[row, column] += metric
        best[row, column] = min(best[row, column], sign * metric)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(counts > 0, sign * best if summary == "best" else total / counts, np.nan), counts


def _bin(bins: Bins, hparams: Mapping[str, Any]) -> int | None:
    number = bins.varied.number(hparams)
    return None if number is None else bins.place(number)


def _bin_axis(bins: Bins) -> dict[str, Any]:
    """Bins are equally wide; what is written at them are values, or their edges."""
    if bins.values:
        places, words = list(range(len(bins))), [text_of(value, _WORD) for value in bins.values]
    else:
        stride = 1 if len(bins.edges) < 9 else 2
        edges = list(enumerate(bins.edges))[::stride]
        places, words = [place - 0.5 for place, _ in edges], [f"{edge:.2g}" for _, edge in edges]  # type: ignore[misc]
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
    if bins.values:
        return [f"{name} = {text_of(value)}" for value in bins.values]
    return [f"{name} {low:.3g} to {high:.3g}" for low, high in zip(bins.edges, bins.edges[1:], strict=False)]


def _like_with_like(known: Comparable, told: Chronicle) -> str:
    return f"{format_length(len(known.results), 'results')} after {format_length(known.length, told.spec.unit)}"


# -- all of them ---------------------------------------------------------------------------------


class _Scale(NamedTuple):
    """How an axis counts, and what is written at it."""

    values: Numbers
    range: list[float]
    places: list[float]
    words: list[str]


def draw_parallel_coordinates(told: Chronicle, *, theme: Theme = LIGHT) -> Figure:
    """Every trial with a result as a line through all its hyperparameters to its metric; good is up.

    Dragging along an axis leaves the trials that go through there.

    Raises:
        AshwoodError: plotly is not installed.
    """
    title = "Parallel coordinates"
    shown = varied(told.spec.space)
    if not shown:
        return blank(theme, title, NO_HPARAMS)
    rows = told.progress.trials.rows
    results = last_results(told.timeline)
    sign = 1.0 if told.spec.smaller_is_better else -1.0
    # The best last, so that they lie above all others.
    results.sort(key=lambda result: (result.length, -sign * result.metric))
    if not results:
        return blank(theme, title, NOTHING)
    import numpy as np

    axes = []
    for each in shown[:_MOST_AXES]:
        numbers = [each.number(rows[result.trial].hparams) for result in results]
        axes.append((text_of(each.name, _WORD), _hparam_scale(each, numbers)))
    lengths = sorted({length for bracket in told.timeline.lengths for length in bracket})
    axes.append((f"trained ({told.spec.unit})", _length_scale([result.length for result in results], lengths)))
    metrics = np.array([result.metric for result in results])
    metric = _metric_scale(metrics, smaller=sign > 0)
    axes.append((text_of(told.spec.metric, _WORD), metric))
    crowded = len(results) > _CROWDED
    order = np.empty(len(results))
    order[np.argsort(-sign * metrics, kind="stable")] = np.linspace(0.0, 1.0, len(results)) if len(results) > 1 else 1.0
    return compose(
        [
            {
                "type": "parcoords",
                "customdata": np.array([result.trial for result in results], dtype=np.int32),
                "line": {"color": order.astype(np.float32), "colorscale": theme.scale(), "cmin": 0, "cmax": 1},
                "dimensions": [
                    {
                        "label": label,
                        "values": scale.values.astype(np.float32),
                        "range": scale.range,
                        "tickvals": scale.places,
                        "ticktext": scale.words,
                        **({"constraintrange": _best(scale)} if crowded and scale is metric else {}),
                    }
                    for label, scale in axes
                ],
                "labelfont": {"size": 12, "color": theme.ink},
                "tickfont": {"size": 11, "color": theme.ink},
                "rangefont": {"size": 1, "color": theme.paper},
                "labelside": "top",
                "unselected": {"line": {"color": theme.faint, "opacity": 0.06}},
            }
        ],
        theme,
        title,
        _parallel_words(told, len(results), len(shown), crowded=crowded),
        height=480,
        margin={"l": 56, "r": 56, "t": 108, "b": 28},
        uirevision="parallel",
    )


def _parallel_words(told: Chronicle, results: int, hparams: int, *, crowded: bool) -> str:
    silent = len(told.progress.trials.rows) - results
    without = f", {silent:,} without a result left out" if silent else ""
    first = f"; the first {_MOST_AXES} of {hparams} hyperparameters" if hparams > _MOST_AXES else ""
    how = "the best 10% are chosen, drag along an axis to choose others" if crowded else "drag along an axis to choose"
    return f"{results:,} {'trial' if results == 1 else 'trials'}{without}{first}; {how}"


def _hparam_scale(shown: Varied, numbers: Sequence[float | None]) -> _Scale:
    import numpy as np

    values = np.array([nan if number is None else number for number in numbers])
    kind = shown.kind
    if isinstance(kind, Categorical):
        # Some room at the ends, to drag over them.
        end = len(kind.vals) - 1
        return _Scale(values, [-0.3, end + 0.3], [float(place) for place in range(end + 1)], _plain_words(kind.vals))
    low, high = float(kind.at(0.0)), float(kind.at(1.0 if isinstance(kind, Log) else 1.0 - 2.0**-53))
    if isinstance(kind, Log) and low > 0:
        with np.errstate(invalid="ignore", divide="ignore"):
            values = np.log10(values)
        places = _log_places(low, high)
        return _Scale(values, [log10(low), log10(high)], [log10(place) for place in places], _plain_words(places))
    places = _even_places(low, high, whole=isinstance(kind, Int))
    return _Scale(values, [low, high], places, _plain_words(places))


def _length_scale(values: Sequence[int], lengths: Sequence[int]) -> _Scale:
    import numpy as np

    logs = [log10(length) for length in lengths]
    span = [logs[0], logs[-1]] if len(logs) > 1 else [logs[0] - 0.5, logs[0] + 0.5]
    return _Scale(np.log10(np.array(values)), span, logs, [str(length) for length in lengths])


def _metric_scale(metrics: Numbers, *, smaller: bool) -> _Scale:
    """Good is up; what is far worse than most lies at the lower end."""
    import numpy as np

    low, high = metric_range(metrics, smaller_is_better=smaller) or [0.0, 1.0]
    places = _even_places(low, high)
    # Turned over rather than an axis that is: along one of those Plotly chooses the wrong ones.
    sign = -1.0 if smaller else 1.0
    ends = sorted([sign * low, sign * high])
    return _Scale(sign * np.clip(metrics, low, high), ends, [sign * place for place in places], _plain_words(places))


def _best(scale: _Scale) -> list[float]:
    """Where the best tenth is."""
    import numpy as np

    return [float(np.quantile(scale.values, 0.9)), scale.range[1]]


def _plain_words(values: Sequence[Any]) -> list[str]:
    """Plotly writes the ticks of these axes without looking for markup in them."""
    said = (f"{value:.3g}" if isinstance(value, float) else format_value(value) for value in values)
    words = [" ".join(word.split()) for word in said]
    return [word if len(word) <= _WORD else word[: _WORD - 1] + "…" for word in words]


def _even_places(low: float, high: float, *, whole: bool = False) -> list[float]:
    """Round numbers from ``low`` to ``high``, about five."""
    if not (isfinite(low) and isfinite(high)) or high <= low:
        return [low]
    step = _round_step((high - low) / 5)
    if whole:
        step = max(1.0, round(step))
    return [number * step for number in range(ceil(low / step - 1e-9), floor(high / step + 1e-9) + 1)]


def _round_step(about: float) -> float:
    magnitude = 10.0 ** floor(log10(about))
    return next(factor * magnitude for factor in (1, 2, 2.5, 5, 10) if factor * magnitude >= about * (1 - 1e-9))


def _log_places(low: float, high: float) -> list[float]:
    """Powers of ten, with two between where there are few."""
    factors = (1,) if log10(high / low) >= 2.5 else (1, 2, 5)
    stride = max(1, ceil(log10(high / low) / 8))
    powers = range(floor(log10(low)), ceil(log10(high)) + 1, stride)
    places = [factor * 10.0**power for power in powers for factor in factors]
    return [place for place in places if low * (1 - 1e-9) <= place <= high * (1 + 1e-9)] or [low, high]
