"""All hyperparameters against the metric: parallel coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor, log10, nan
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from ashwood.figures.axes import metric_range, narrow
from ashwood.figures.hparams import NO_HPARAMS, NOTHING, WORD
from ashwood.figures.theme import LIGHT, Theme, blank, compose, one_line, text_of
from ashwood.search.space import Categorical, Int, Log
from ashwood.views.chronicle import Chronicle
from ashwood.views.hparams import Varied, varied
from ashwood.views.results import last_results
from ashwood.views.wording import format_value

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from plotly.graph_objects import Figure

    Numbers: TypeAlias = NDArray[np.float64]

TITLE = "Parallel coordinates"

_MOST_AXES = 12
_FEW_VALUES = 12
# With more lines than so many only some are to be seen.
_CROWDED = 1_000
_UNSEEN = {ord("0"): "\u200b", ord("1"): "\u200c"}


class _Scale(NamedTuple):
    """How an axis counts, and what is written at it; where that isn't said, Plotly finds round numbers."""

    values: Numbers
    range: list[float]
    places: list[float] | None = None
    words: list[str] | None = None


def draw_parallel_coordinates(told: Chronicle, *, theme: Theme = LIGHT) -> Figure:
    """Every trial with a result as a line through all its hyperparameters to its metric; good is up.

    Dragging along an axis leaves the trials that go through there.

    Raises:
        AshwoodError: plotly is not installed.
    """
    shown = varied(told.spec.space)
    if not shown:
        return blank(theme, TITLE, NO_HPARAMS)
    rows = told.progress.trials.rows
    results = last_results(told.timeline)
    sign = 1.0 if told.spec.smaller_is_better else -1.0
    # The best last, so that they lie above all others.
    results.sort(key=lambda result: (result.length, -sign * result.metric))
    if not results:
        return blank(theme, TITLE, NOTHING)
    import numpy as np

    axes = []
    for each in shown[:_MOST_AXES]:
        numbers = [each.number(rows[result.trial].hparams) for result in results]
        axes.append((text_of(each.name, WORD), _hparam_scale(each, numbers)))
    lengths = sorted({length for bracket in told.timeline.lengths for length in bracket})
    axes.append((f"trained ({told.spec.unit})", _length_scale([result.length for result in results], lengths)))
    metrics = np.array([result.metric for result in results])
    metric = _metric_scale(metrics, smaller=sign > 0)
    axes.append((text_of(told.spec.metric, WORD), metric))
    # A line without a place on one of the axes would be none.
    whole = np.all([np.isfinite(scale.values) for _, scale in axes], axis=0)
    count = int(whole.sum())
    if not count:
        return blank(theme, TITLE, NOTHING)
    crowded = count > _CROWDED
    order = np.empty(count)
    order[np.argsort(-sign * metrics[whole], kind="stable")] = np.linspace(0.0, 1.0, count) if count > 1 else 1.0
    return compose(
        [
            {
                "type": "parcoords",
                "customdata": np.array([result.trial for result in results], dtype=np.int32)[whole],
                "line": {"color": narrow(order), "colorscale": theme.scale(), "cmin": 0, "cmax": 1},
                "dimensions": [
                    {
                        "label": label,
                        "values": narrow(scale.values[whole]),
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
        TITLE,
        _parallel_words(told, count, len(shown), crowded=crowded),
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
        places, words = _log_places(low, high)
        return _Scale(values, [log10(low), log10(high)], places, words)
    if isinstance(kind, Int) and high - low < _FEW_VALUES:
        places = list(range(kind.minval, kind.maxval + 1))
        return _Scale(values, [low - 0.3, high + 0.3], [float(place) for place in places], _plain_words(places))
    return _Scale(values, [low, high])


def _length_scale(values: Sequence[int], lengths: Sequence[int]) -> _Scale:
    import numpy as np

    logs = [log10(length) for length in lengths]
    span = [logs[0], logs[-1]] if len(logs) > 1 else [logs[0] - 0.5, logs[0] + 0.5]
    return _Scale(np.log10(np.array(values)), span, logs, [str(length) for length in lengths])


def _metric_scale(metrics: Numbers, *, smaller: bool) -> _Scale:
    """Good is up; what is far worse than most lies at the lower end."""
    import numpy as np

    low, high = metric_range(metrics, smaller_is_better=smaller) or [0.0, 1.0]
    return _Scale(np.clip(metrics, low, high), [high, low] if smaller else [low, high])


def _best(scale: _Scale) -> list[float]:
    """Where the best tenth is."""
    import numpy as np

    worst, best = scale.range
    return sorted([float(np.quantile(scale.values, 0.1 if best < worst else 0.9)), best])


def _plain_words(values: Sequence[Any]) -> list[str]:
    """Plotly writes the ticks of these axes without looking for markup in them."""
    said = (f"{value:.3g}" if isinstance(value, float) else format_value(value) for value in values)
    words = [one_line(word) for word in said]
    return _told_apart([word if len(word) <= WORD else word[: WORD - 1] + "…" for word in words])


def _log_places(low: float, high: float) -> tuple[list[float], list[str]]:
    """Places as on any logarithmic axis; at powers of ten, and where there are few of them at two between, a word.

    Many places also because what is chosen along an axis with given places ends at one of them.
    """
    begin, end = log10(low), log10(high)
    named = (1,) if end - begin >= 2.5 else (1, 2, 5)
    stride = max(1, ceil((end - begin) / 8))
    places, words = [], []
    for power in range(floor(begin), ceil(end) + 1):
        for factor in range(1, 10):
            if begin - 1e-9 <= (place := log10(factor) + power) <= end + 1e-9:
                places.append(place)
                words.append(f"{factor * 10.0**power:.3g}" if factor in named and not power % stride else "")
    return places, _told_apart(words)


def _told_apart(words: Sequence[str]) -> list[str]:
    """Words of which no two are the same, as these axes want them, though some may look it."""
    return [
        word if word and word not in words[:place] else word + f"{place:b}".translate(_UNSEEN)
        for place, word in enumerate(words)
    ]
