"""Worker × time: who trained what towards which rung, and who had nothing to do."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from math import nan
from typing import TYPE_CHECKING, Any

from ashwood.figures.axes import narrow, time_unit
from ashwood.figures.theme import LIGHT, Theme, Trace, blank, compose, text_of
from ashwood.views.timeline import SlotTime, Span, SpanEnd, Timeline
from ashwood.views.wording import format_duration, format_length, format_value

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

# A gap that is a smaller share of all time than this can't be seen, on any screen.
_VISIBLE = 1 / 10_000
_FEW_SLOTS = 32
_FEW_SPANS = 500
MANY = 2_000
"""More stretches of work than so many are told of in numbers only."""
_SYMBOLS = {
    SpanEnd.FAILED: "x",
    SpanEnd.INVALID: "cross",
    SpanEnd.KILLED: "diamond",
    SpanEnd.PREEMPTED: "triangle-left",
}


def draw_timeline(timeline: Timeline, *, theme: Theme = LIGHT) -> Figure:
    """A figure with a row a worker.

    A trace a bracket and rung, so that ten thousand stretches of work are drawn as fast as ten.

    Raises:
        AshwoodError: plotly is not installed.
    """
    if timeline.began is None:
        return blank(theme, text_of(timeline.spec.name), "Nothing has run yet.", "nobody has worked on it yet")
    axis = _Axis(timeline, theme)
    by_rung: defaultdict[tuple[int, int], list[Span]] = defaultdict(list)
    for span in timeline.spans:
        by_rung[span.bracket, span.rung].append(span)
    gaps = list(timeline.gaps())
    rows = max(1, timeline.slots)
    return compose(
        [
            _idle(gaps, axis),
            *(_work(spans, timeline, axis) for _, spans in sorted(by_rung.items())),
            *_troubles(timeline, axis),
        ],
        theme,
        *_title(timeline, gaps),
        barmode="overlay",
        height=max(340, min(1_000, 190 + max(6, 800 // rows if rows > _FEW_SLOTS else 24) * rows)),
        legend={
            "title": {"text": "trains towards"},
            "groupclick": "toggleitem",
            "orientation": "v",
            "x": 1.01,
            "y": 1,
            "yref": "paper",
            "yanchor": "top",
        },
        uirevision="timeline",
        xaxis={"title": {"text": f"time since the start ({axis.unit})"}, "range": [0, axis.place(timeline.until)]},
        yaxis={
            "title": {"text": "worker"},
            "range": [rows - 0.5, -0.5],
            "showgrid": False,
            **({"dtick": 1} if rows <= _FEW_SLOTS else {}),
        },
    )


class _Axis:
    """Times as they are shown: since the start, in a unit that fits."""

    def __init__(self, timeline: Timeline, theme: Theme) -> None:
        self.theme = theme
        self.began = timeline.until if timeline.began is None else timeline.began
        self.until = timeline.until
        seconds = self.until - self.began
        self.unit, self._per = time_unit(seconds)
        self.shortest = seconds * _VISIBLE
        self.many = len(timeline.spans) > MANY
        # Set apart where there is room for it.
        self.thickness = 0.85 if timeline.slots <= _FEW_SLOTS else 1.0
        self.edge = {"color": theme.paper, "width": 0.5 if len(timeline.spans) <= _FEW_SPANS else 0}

    def place(self, at: float) -> float:
        return (at - self.began) / self._per

    def extent(self, begin: float, end: float) -> float:
        return (end - begin) / self._per


def _idle(gaps: Iterable[SlotTime], axis: _Axis) -> Trace:
    shown = [gap for gap in gaps if gap.end - gap.begin >= axis.shortest]
    return {
        **_bars(
            [gap.slot for gap in shown],
            [axis.place(gap.begin) for gap in shown],
            [axis.extent(gap.begin, gap.end) for gap in shown],
            axis,
        ),
        "name": "idle",
        "text": [format_duration(gap.end - gap.begin) for gap in shown],
        "textposition": "none",
        "hovertemplate": "worker %{y} idle for %{text}<extra></extra>",
        "marker": {"color": axis.theme.idle, "line": {"width": 0}},
    }


def _work(spans: Sequence[Span], timeline: Timeline, axis: _Axis) -> Trace:
    first = spans[0]
    lengths = timeline.lengths[first.bracket]
    unit = timeline.spec.unit
    return {
        **_bars(
            [span.slot for span in spans],
            [axis.place(span.begin) for span in spans],
            [axis.extent(span.begin, axis.until if span.end is None else span.end) for span in spans],
            axis,
        ),
        "name": format_length(first.target, unit),
        "legendgroup": f"bracket {first.bracket}",
        "legendgrouptitle": {"text": f"bracket {first.bracket}"} if len(timeline.lengths) > 1 else None,
        "customdata": _packed(spans, axis) if axis.many else [_facts(span, axis) for span in spans],
        "hovertemplate": (
            "<b>trial %{customdata[0]}</b>, attempt %{customdata[1]}, on worker %{y}<br>"
            f"bracket {first.bracket}, rung {first.rung}: from %{{customdata[2]}} to {first.target} {unit}<br>"
            f"{text_of(timeline.spec.metric)} %{{customdata[4]{':.5~g' * axis.many}}} at %{{customdata[3]}} {unit}<br>"
            f"{'after %{customdata[5]:.0f} s' if axis.many else '%{customdata[5]}'}<extra></extra>"
        ),
        "marker": {"color": axis.theme.rung_colour(first.bracket, first.rung, len(lengths)), "line": axis.edge},
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
    how = "still at work" if span.how is None else span.how
    worked = f"{how}, after {format_duration(end - span.begin)}"
    return [span.trial, span.attempt, span.start, span.length, format_value(span.metric), worked]


def _packed(spans: Sequence[Span], axis: _Axis) -> Any:
    """The same as numbers, of too many spans for words."""
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


def _troubles(timeline: Timeline, axis: _Axis) -> Iterable[Trace]:
    for how, symbol in _SYMBOLS.items():
        ended = [span for span in timeline.spans if span.how is how]
        if ended:
            yield {
                "type": "scatter",
                "name": how,
                "mode": "markers",
                "y": [span.slot for span in ended],
                "x": [axis.place(span.end or span.begin) for span in ended],
                "customdata": [[span.trial] for span in ended],
                "hovertemplate": f"<b>trial %{{customdata[0]}}</b> {how} on worker %{{y}}<extra></extra>",
                "marker": {
                    "symbol": symbol,
                    "size": 9,
                    "color": axis.theme.trouble,
                    "line": {"color": axis.theme.paper, "width": 1},
                },
            }


def _title(timeline: Timeline, gaps: Iterable[SlotTime]) -> tuple[str, str]:
    there = sum(end - begin for _, begin, end in timeline.presences())
    idle = sum(end - begin for _, begin, end in gaps)
    busy = f"workers busy {1 - idle / there:.0%} of the time" if there else "nobody has worked on it yet"
    return text_of(timeline.spec.name), f"{len(timeline.paths)} trials, {busy}"
