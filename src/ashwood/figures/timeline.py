"""The figure of workers over time: which trial each worker trained, and when it was idle."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from math import nan
from typing import TYPE_CHECKING, Any

from ashwood.figures.axes import narrow, time_unit
from ashwood.figures.theme import LIGHT, Theme, Trace, blank, compose, text_of
from ashwood.views.history import History
from ashwood.views.timeline import SlotTime, Span, SpanEnd, Timeline
from ashwood.views.wording import format_duration, format_length, format_value

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

# An idle gap that is a smaller share of the time axis is thinner than a pixel on any screen.
_VISIBLE = 1 / 10_000
_NO_WORK = "no worker has run yet"
_FEW_SLOTS = 32
_FEW_SPANS = 500
MANY = 2_000
"""Largest number of spans with a hover text each; with more, hover texts are made of packed numbers."""
_SYMBOLS = {
    SpanEnd.FAILED: "x",
    SpanEnd.INVALID: "cross",
    SpanEnd.KILLED: "diamond",
    SpanEnd.PREEMPTED: "triangle-left",
}


def draw_timeline(history: History, *, theme: Theme = LIGHT) -> Figure:
    """Return a figure with one row per worker.

    There is one trace per bracket and rung, because the time to draw grows with the number of traces.

    Raises:
        AshwoodError: plotly is not installed.
    """
    timeline, name = history.timeline, text_of(history.spec.name)
    if timeline.began is None:
        return blank(theme, name, "Nothing has run yet.", _NO_WORK)
    axis = _Axis(timeline, theme)
    by_rung: defaultdict[tuple[int, int], list[Span]] = defaultdict(list)
    originals, beyond = history.ladder.originals, len(history.ladder.brackets)
    for span in timeline.spans:  # Replicates are shown as if they were one more bracket.
        by_rung[(beyond, 0) if span.trial in originals else (span.bracket, span.rung)].append(span)
    gaps = list(timeline.gaps())
    rows = max(1, timeline.slots)
    legend = 20 * (2 + max((len(bracket.rungs) for bracket in history.ladder.brackets), default=0))
    return compose(
        [
            _idle(gaps, axis),
            *(_work(*key, spans, history, axis) for key, spans in sorted(by_rung.items())),
            *_marks(timeline, axis),
        ],
        theme,
        name,
        _subtitle(history, gaps),
        barmode="overlay",
        height=max(340, min(1_000, 190 + max(6, 800 // rows if rows > _FEW_SLOTS else 24) * rows)) + legend,
        # Below the figure the legend covers no rows.  Each bracket is a column.
        legend={"title": {"text": "target rung"}, "groupclick": "toggleitem", "traceorder": "grouped"},
        margin={"b": 56 + legend},
        uirevision="timeline",
        xaxis={"title": {"text": f"time since the start ({axis.unit})"}, "range": [0, axis.position(timeline.until)]},
        yaxis={
            "title": {"text": "worker"},
            "range": [rows - 0.5, -0.5],
            "showgrid": False,
            **({"dtick": 1} if rows <= _FEW_SLOTS else {}),
        },
    )


class _Axis:
    """The time axis: time since the start of the experiment in a suitable unit, and sizes that depend on the data."""

    def __init__(self, timeline: Timeline, theme: Theme) -> None:
        self.theme = theme
        self.began = timeline.until if timeline.began is None else timeline.began
        self.until = timeline.until
        seconds = self.until - self.began
        self.unit, self._per = time_unit(seconds)
        self.shortest = seconds * _VISIBLE
        self.many = len(timeline.spans) > MANY
        # Rows have a gap between them if they are high enough.
        self.thickness = 0.85 if timeline.slots <= _FEW_SLOTS else 1.0
        self.edge = {"color": theme.paper, "width": 0.5 if len(timeline.spans) <= _FEW_SPANS else 0}

    def position(self, at: float) -> float:
        """Return the position of a time of the event log."""
        return (at - self.began) / self._per

    def extent(self, begin: float, end: float) -> float:
        """Return the width of a span of time."""
        return (end - begin) / self._per


def _idle(gaps: Iterable[SlotTime], axis: _Axis) -> Trace:
    shown = [gap for gap in gaps if gap.end - gap.begin >= axis.shortest]
    return {
        **_bars(
            [gap.slot for gap in shown],
            [axis.position(gap.begin) for gap in shown],
            [axis.extent(gap.begin, gap.end) for gap in shown],
            axis,
        ),
        "name": "idle",
        "text": [format_duration(gap.end - gap.begin) for gap in shown],
        "textposition": "none",
        "hovertemplate": "worker %{y} idle for %{text}<extra></extra>",
        "marker": {"color": axis.theme.idle, "line": {"width": 0}},
    }


def _work(bracket: int, rung: int, spans: Sequence[Span], history: History, axis: _Axis) -> Trace:
    brackets, unit = history.ladder.brackets, history.spec.unit
    target = format_length(spans[0].target, unit)
    is_replicates = bracket == len(brackets)
    rungs = 1 if is_replicates else len(brackets[bracket].rungs)
    group = "replicates" if is_replicates else f"bracket {bracket}"
    towards = "replicate" if is_replicates else f"bracket {bracket}, rung {rung}"
    return {
        **_bars(
            [span.slot for span in spans],
            [axis.position(span.begin) for span in spans],
            [axis.extent(span.begin, axis.until if span.end is None else span.end) for span in spans],
            axis,
        ),
        "name": target,
        "legendgroup": group,
        "legendgrouptitle": {"text": group} if len(brackets) > 1 or is_replicates else None,
        "customdata": _packed(spans, axis) if axis.many else [_facts(span, axis) for span in spans],
        "hovertemplate": (
            "<b>trial %{customdata[0]}</b>, attempt %{customdata[1]}, on worker %{y}<br>"
            f"{towards}: from %{{customdata[2]}} to {target}<br>"
            f"{text_of(history.spec.metric)} %{{customdata[4]{':.5~g' * axis.many}}} at %{{customdata[3]}} {unit}<br>"
            f"{'after %{customdata[5]:.0f} s' if axis.many else '%{customdata[5]}'}<extra></extra>"
        ),
        "marker": {"color": axis.theme.rung_colour(bracket, rung, rungs), "line": axis.edge},
    }


def _bars(slots: Sequence[int], begins: Sequence[float], extents: Sequence[float], axis: _Axis) -> dict[str, Any]:
    import numpy as np

    return {
        "type": "bar",
        "orientation": "h",
        "y": np.array(slots, dtype=np.int32),
        "base": np.array(begins, dtype=np.float64),
        "x": np.array(extents, dtype=np.float64),
        "width": axis.thickness,
    }


def _facts(span: Span, axis: _Axis) -> list[Any]:
    end = axis.until if span.end is None else span.end
    how = "still training" if span.how is None else span.how
    outcome = f"{how} after {format_duration(end - span.begin)}"
    return [span.trial, span.attempt, span.start, span.length, format_value(span.metric), outcome]


def _packed(spans: Sequence[Span], axis: _Axis) -> Any:
    """Return the facts of many spans as an array of numbers, a row for each span."""
    return narrow(
        [
            (
                span.trial,
                span.attempt,
                span.start,
                span.length,
                nan if span.metric is None else span.metric,
                (axis.until if span.end is None else span.end) - span.begin,
            )
            for span in spans
        ]
    )


def _marks(timeline: Timeline, axis: _Axis) -> Iterable[Trace]:
    for how, symbol in _SYMBOLS.items():
        ended = [span for span in timeline.spans if span.how is how]
        if ended:
            yield {
                "type": "scatter",
                "name": how,
                "mode": "markers",
                "y": [span.slot for span in ended],
                "x": [axis.position(span.end or span.begin) for span in ended],
                "customdata": [[span.trial] for span in ended],
                "hovertemplate": f"<b>trial %{{customdata[0]}}</b> {how} on worker %{{y}}<extra></extra>",
                "marker": {
                    "symbol": symbol,
                    "size": 9,
                    "color": axis.theme.trouble,
                    "line": {"color": axis.theme.paper, "width": 1},
                },
            }


def _subtitle(history: History, gaps: Iterable[SlotTime]) -> str:
    there = sum(end - begin for _, begin, end in history.timeline.presences())
    idle = sum(end - begin for _, begin, end in gaps)
    busy = f"workers busy {1 - idle / there:.0%} of the time" if there else _NO_WORK
    return f"{len(history.ladder.paths)} trials, {busy}"
