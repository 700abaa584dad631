"""The figure of parallel coordinates: all hyperparameters of each trial and its metric."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from math import ceil, floor, log10, nan
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from ashwood.figures.axes import NO_LOG, is_wide, metric_range, narrow
from ashwood.figures.hparams import NO_HPARAMS, NOTHING, WORD
from ashwood.figures.theme import LIGHT, Theme, blank, compose, one_line, text_of
from ashwood.search.space import Categorical, values_of
from ashwood.views.history import History
from ashwood.views.hparams import Varied
from ashwood.views.importance import by_importance
from ashwood.views.results import last_results
from ashwood.views.table import blank_hparams, heading, trial_record
from ashwood.views.wording import format_setting

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from plotly.graph_objects import Figure

    Numbers: TypeAlias = NDArray[np.float64]

TITLE = "Parallel coordinates"

# Other axes are not drawn, but a page can show them.
_MOST_AXES = 12
_FEW_VALUES = 12
ABSENT_LABEL = "not set"
_ROOM = 0.12
"""Distance of the tick for absent values from the other ones, as a share of their range."""
_PLAIN_TICKS = 10
# With more lines than this, only the best tenth is selected at first.
_CROWDED = 1_000
_NAME = 200
_SHORT = 12
"""Largest number of characters of a title of an axis that is always on one line."""
_JOINT = re.compile(r"[._/ -]+")
# Zero-width characters for the digits 0 and 1, to make labels unique without a visible change.
_INVISIBLE = {ord("0"): "\u200b", ord("1"): "\u200c"}


class _Scale(NamedTuple):
    """The values and ticks of an axis.  Without ticks, Plotly chooses round numbers."""

    values: Numbers
    range: list[float]
    ticks: list[float] | None = None
    labels: list[str] | None = None


def draw_parallel_coordinates(history: History, *, log_metric: bool | None = None, theme: Theme = LIGHT) -> Figure:
    """Return a figure with each trial that has a result as a line through its hyperparameters to its metric.

    The most important hyperparameters come first.  Better metrics are higher.  Dragging along an axis selects the
    trials whose lines pass there.

    Args:
        history: the views of the experiment.
        log_metric: whether the axis of metrics is logarithmic, by default if they are positive and spread over 10:1.
        theme: the colours.

    Raises:
        AshwoodError: plotly is not installed.
    """
    shown = by_importance(history.progress)
    if not shown:
        return blank(theme, TITLE, NO_HPARAMS)
    rows = history.progress.trials.rows
    results = last_results(history.ladder)
    sign = 1.0 if history.spec.smaller_is_better else -1.0
    # The best trials are drawn last, so that their lines lie on top.
    results.sort(key=lambda result: (result.length, -sign * result.metric))
    if not results:
        return blank(theme, TITLE, NOTHING)
    import numpy as np

    axes = []
    for each in shown:
        numbers = [each.number(rows[result.trial].hparams) for result in results]
        axes.append((text_of(each.name, _NAME), _hparam_scale(each, numbers)))
    if not history.spec.search.open_ended:
        lengths = sorted({length for bracket in history.ladder.lengths for length in bracket})
        axes.append((f"trained ({history.spec.unit})", _length_scale([result.length for result in results], lengths)))
    metrics = np.array([result.metric for result in results])
    if log_metric and not (metrics > 0).any():
        return blank(theme, TITLE, NO_LOG)
    is_log = is_wide(metrics, smaller_is_better=sign > 0) if log_metric is None else log_metric
    metric = _metric_scale(metrics, smaller=sign > 0, log=is_log)
    axes.append((text_of(history.spec.metric, _NAME), metric))
    # A trial whose value on one of the axes is not finite can't be drawn.
    drawable = np.all([np.isfinite(scale.values) for _, scale in axes], axis=0)
    count = int(drawable.sum())
    if not count:
        return blank(theme, TITLE, NOTHING)
    crowded = count > _CROWDED
    order = np.empty(count)
    order[np.argsort(-sign * metrics[drawable], kind="stable")] = np.linspace(0.0, 1.0, count) if count > 1 else 1.0
    return compose(
        [
            {
                "type": "parcoords",
                "customdata": np.array([result.trial for result in results], dtype=np.int32)[drawable],
                "line": {"color": narrow(order), "colorscale": theme.scale(), "cmin": 0, "cmax": 1},
                "dimensions": [
                    {
                        "label": _on_two_lines(label),
                        "name": label,
                        "visible": place < _MOST_AXES or place >= len(shown),
                        "values": narrow(scale.values[drawable]),
                        "range": scale.range,
                        "tickvals": scale.ticks,
                        "ticktext": scale.labels,
                        **({"constraintrange": _best(scale)} if crowded and scale is metric else {}),
                    }
                    for place, (label, scale) in enumerate(axes)
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
        _subtitle(history, count, len(shown), crowded=crowded),
        height=480,
        margin={"l": 56, "r": 56, "t": 108, "b": 28},
        uirevision="parallel",
        meta={"log_metric": is_log, "axes": list(_filters(history, shown, is_log=is_log))},
    )


def _filters(history: History, shown: Sequence[Varied], *, is_log: bool) -> Iterator[dict[str, Any]]:
    """Yield for each axis the key of its column in a filter of the table of trials, so that a page can link to it.

    ``values`` has the texts of the values of a categorical hyperparameter, whose axis has their indices.
    """
    row = next(iter(history.progress.trials.rows.values()))
    known = trial_record(row, None, history.spec.metric, str, blank_hparams(history.spec.space))
    for each in shown:
        column = f"hparams.{each.name}"
        short = heading(column, known)
        key = column if any(f"{kind}.{short}" in known for kind in ("best", "last")) else short
        if isinstance(each.kind, Categorical):
            values = [text_of(value, _NAME) for value in each.kind.vals]
            yield {"key": text_of(key, _NAME), "values": values, "log": False}
        else:
            is_listed = each.kind.size is not None and each.kind.size <= _FEW_VALUES
            yield {
                "key": text_of(key, _NAME),
                "values": None,
                "log": each.is_log and each.ends[0] > 0 and not is_listed,
            }
    if not history.spec.search.open_ended:
        yield {"key": "result_length", "values": None, "log": True}
    yield {"key": text_of(f"result.{history.spec.metric}", _NAME), "values": None, "log": is_log}


def _subtitle(history: History, results: int, hparams: int, *, crowded: bool) -> str:
    missing = len(history.progress.trials.rows) - len(history.ladder.originals) - results
    without = f" ({missing:,} without a result left out)" if missing else ""
    first = f", top {_MOST_AXES} of {hparams} hyperparameters" if hparams > _MOST_AXES else ""
    how = (
        "The best 10% are selected; drag along an axis to select others" if crowded else "Drag along an axis to select"
    )
    return f"{results:,} {'trial' if results == 1 else 'trials'}{without}{first}. {how}."


def _hparam_scale(shown: Varied, numbers: Sequence[float | None]) -> _Scale:
    scale = _scale_of_values(shown, numbers)
    return _with_absent(scale) if shown.is_conditional else scale


def _with_absent(scale: _Scale) -> _Scale:
    """Return a scale with a tick below all others, at which the lines of trials without the hyperparameter pass."""
    import numpy as np

    low, high = scale.range
    place = low - _ROOM * (high - low)
    ticks, labels = scale.ticks, scale.labels
    if ticks is None or labels is None:
        ticks = [low + (high - low) * number / _PLAIN_TICKS for number in range(_PLAIN_TICKS + 1)]
        labels = _plain_words(ticks)
    return _Scale(
        np.where(np.isnan(scale.values), place, scale.values), [place, high], [place, *ticks], [ABSENT_LABEL, *labels]
    )


def _scale_of_values(shown: Varied, numbers: Sequence[float | None]) -> _Scale:
    import numpy as np

    values = np.array([nan if number is None else number for number in numbers])
    kind = shown.kind
    if isinstance(kind, Categorical):
        # Extra space at the ends, so that a user can drag across the first and the last category.
        end = len(kind.vals) - 1
        return _Scale(values, [-0.3, end + 0.3], [float(place) for place in range(end + 1)], _plain_words(kind.vals))
    low, high = shown.ends
    if kind.size is not None and kind.size <= _FEW_VALUES:
        few = values_of(kind)
        ticks, margin = [float(value) for value in few], 0.3 * (high - low) / (len(few) - 1)
        return _Scale(values, [low - margin, high + margin], ticks, _plain_words(few))
    if shown.is_log and low > 0:
        with np.errstate(invalid="ignore", divide="ignore"):
            values = np.log10(values)
        ticks, labels = _log_ticks(log10(low), log10(high))
        return _Scale(values, [log10(low), log10(high)], ticks, labels)
    return _Scale(values, [low, high])


def _length_scale(values: Sequence[int], lengths: Sequence[int]) -> _Scale:
    import numpy as np

    logs = [log10(length) for length in lengths]
    span = [logs[0], logs[-1]] if len(logs) > 1 else [logs[0] - 0.5, logs[0] + 0.5]
    return _Scale(np.log10(np.array(values)), span, logs, [str(length) for length in lengths])


def _metric_scale(metrics: Numbers, *, smaller: bool, log: bool) -> _Scale:
    """Return an axis on which better metrics are higher; metrics much worse than most are drawn at its lower end."""
    import numpy as np

    low, high = metric_range(metrics, smaller_is_better=smaller, log=log) or [0.0, 1.0]
    ticks, labels = _log_ticks(low, high) if log else (None, None)
    if log:
        with np.errstate(invalid="ignore", divide="ignore"):
            metrics = np.log10(metrics)
    return _Scale(np.clip(metrics, low, high), [high, low] if smaller else [low, high], ticks, labels)


def _best(scale: _Scale) -> list[float]:
    """Return the range of the best tenth of the values."""
    import numpy as np

    worst, best = scale.range
    return sorted([float(np.quantile(scale.values, 0.1 if best < worst else 0.9)), best])


def _plain_words(values: Sequence[Any]) -> list[str]:
    """Return the labels of values as plain text.

    They are not escaped, because Plotly doesn't read markup in the tick labels of parallel coordinates.
    """
    texts = (f"{value:.3g}" if isinstance(value, float) else format_setting(value) for value in values)
    words = [one_line(text) for text in texts]
    return _unique([word if len(word) <= WORD else word[: WORD - 1] + "…" for word in words])


def _log_ticks(begin: float, end: float) -> tuple[list[float], list[str]]:
    """Return the ticks of a logarithmic axis and their labels.  The ends of the axis are exponents of 10.

    There are nine ticks for each power of ten, because a selection on an axis with given ticks snaps to them.
    Powers of ten have labels.  On a short axis, twice and five times a power have labels, too.
    """
    named = (1,) if end - begin >= 2.5 else (1, 2, 5)
    stride = max(1, ceil((end - begin) / 8))
    ticks, labels = [], []
    for power in range(floor(begin), ceil(end) + 1):
        for factor in range(1, 10):
            # The tolerance keeps ticks at the ends of the axis in spite of rounding.
            if begin - 1e-9 <= (tick := log10(factor) + power) <= end + 1e-9:
                ticks.append(tick)
                labels.append(f"{float(f'{factor}e{power}'):.3g}" if factor in named and not power % stride else "")
    return ticks, _unique(labels)


def _on_two_lines(label: str) -> str:
    """Return the title of an axis, on two lines if it is long: titles of neighbours must not overlap on paper."""
    if len(label) > _SHORT:
        ends = [found.end() for found in _JOINT.finditer(label, 1, len(label) - 1)]
        if ends:
            cut = min(ends, key=lambda end: abs(end - len(label) / 2))
            return f"{_shortened(label[:cut].rstrip())}<br>{_shortened(label[cut:])}"
    return _shortened(label)


def _shortened(line: str) -> str:
    return line if len(line) <= WORD else f"{line[: WORD - 1]}…"


def _unique(labels: Sequence[str]) -> list[str]:
    """Return labels of which no two are equal, because Plotly drops all but one of equal labels on these axes.

    Equal and empty labels get an invisible suffix.
    """
    return [
        label if label and label not in labels[:index] else label + f"{index:b}".translate(_INVISIBLE)
        for index, label in enumerate(labels)
    ]
