"""Worker × time: who trained what towards which rung, and who had nothing to do."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from ashwood.figures.extras import graph_objects
from ashwood.figures.palette import IDLE, INK, TROUBLE, rung_colour
from ashwood.views.timeline import SlotTime, Span, SpanEnd, Timeline
from ashwood.views.wording import format_duration, format_length, format_value

if TYPE_CHECKING:
    from plotly.graph_objects import Bar, Figure, Scatter

# A gap that is a smaller share of all time than this can't be seen, on any screen.
_VISIBLE = 1 / 10_000
_FEW_SLOTS = 32
_FEW_SPANS = 500
_SYMBOLS = {
    SpanEnd.FAILED: "x",
    SpanEnd.INVALID: "cross",
    SpanEnd.KILLED: "diamond",
    SpanEnd.PREEMPTED: "triangle-left",
}


def draw_timeline(timeline: Timeline) -> Figure:
    """A figure with a row a worker.

    A trace a bracket and rung, so that ten thousand stretches of work are drawn as fast as ten.

    Raises:
        AshwoodError: plotly is not installed.
    """
    go = graph_objects()
    axis = _Axis(timeline)
    by_rung: defaultdict[tuple[int, int], list[Span]] = defaultdict(list)
    for span in timeline.spans:
        by_rung[span.bracket, span.rung].append(span)
    gaps = list(timeline.gaps())
    figure = go.Figure(
        [
            _idle(gaps, axis),
            *(_work(spans, timeline, axis) for _, spans in sorted(by_rung.items())),
            *_troubles(timeline, axis),
        ]
    )
    rows = max(1, timeline.slots)
    figure.update_layout(
        title={"text": _title(timeline, gaps), "x": 0.01, "xanchor": "left"},
        template="plotly_white",
        font={"color": INK},
        barmode="overlay",
        height=min(1_000, 190 + max(6, 800 // rows if rows > _FEW_SLOTS else 24) * rows),
        hoverlabel={"align": "left"},
        legend={"title": {"text": "trains towards"}, "groupclick": "toggleitem"},
        margin={"l": 70, "r": 20, "t": 60, "b": 60},
        xaxis={"title": {"text": f"time since the start ({axis.unit})"}, "range": [0, axis.place(timeline.until)]},
        yaxis={
            "title": {"text": "worker"},
            "range": [rows - 0.5, -0.5],
            "showgrid": False,
            "zeroline": False,
            **({"dtick": 1} if rows <= _FEW_SLOTS else {}),
        },
    )
    return figure


class _Axis:
    """Times as they are shown: since the start, in a unit that fits."""

    def __init__(self, timeline: Timeline) -> None:
        self.began = timeline.until if timeline.began is None else timeline.began
        self.until = timeline.until
        seconds = self.until - self.began
        self.unit, self._per = next((unit, per) for unit, per, most in _UNITS if seconds <= most)
        self.shortest = seconds * _VISIBLE
        # Set apart where there is room for it.
        self.thickness = 0.85 if timeline.slots <= _FEW_SLOTS else 1.0
        self.edge = {"color": "white", "width": 0.5 if len(timeline.spans) <= _FEW_SPANS else 0}

    def place(self, at: float) -> float:
        return (at - self.began) / self._per

    def extent(self, begin: float, end: float) -> float:
        return (end - begin) / self._per


_UNITS = (("s", 1.0, 300.0), ("min", 60.0, 18_000.0), ("h", 3_600.0, 432_000.0), ("days", 86_400.0, float("inf")))


def _idle(gaps: Iterable[SlotTime], axis: _Axis) -> Bar:
    shown = [gap for gap in gaps if gap.end - gap.begin >= axis.shortest]
    return graph_objects().Bar(
        name="idle",
        orientation="h",
        y=[gap.slot for gap in shown],
        base=[axis.place(gap.begin) for gap in shown],
        x=[axis.extent(gap.begin, gap.end) for gap in shown],
        customdata=[format_duration(gap.end - gap.begin) for gap in shown],
        hovertemplate="worker %{y} idle for %{customdata}<extra></extra>",
        width=axis.thickness,
        marker={"color": IDLE, "line": {"width": 0}},
    )


def _work(spans: Sequence[Span], timeline: Timeline, axis: _Axis) -> Bar:
    first = spans[0]
    lengths = timeline.lengths[first.bracket]
    unit = timeline.spec.unit
    return graph_objects().Bar(
        name=format_length(first.target, unit),
        legendgroup=f"bracket {first.bracket}",
        legendgrouptitle={"text": f"bracket {first.bracket}"} if len(timeline.lengths) > 1 else None,
        orientation="h",
        y=[span.slot for span in spans],
        base=[axis.place(span.begin) for span in spans],
        x=[axis.extent(span.begin, axis.until if span.end is None else span.end) for span in spans],
        customdata=[_facts(span, axis) for span in spans],
        hovertemplate=(
            "<b>trial %{customdata[0]}</b>, attempt %{customdata[1]}, on worker %{y}<br>"
            f"bracket {first.bracket}, rung {first.rung}: from %{{customdata[2]}} to {first.target} {unit}<br>"
            f"{escape(timeline.spec.metric)} %{{customdata[4]}} at %{{customdata[3]}} {unit}<br>"
            "%{customdata[5]}<extra></extra>"
        ),
        width=axis.thickness,
        marker={"color": rung_colour(first.bracket, first.rung, len(lengths)), "line": axis.edge},
    )


def _facts(span: Span, axis: _Axis) -> list[Any]:
    end = axis.until if span.end is None else span.end
    how = "still at work" if span.how is None else span.how
    worked = f"{how}, after {format_duration(end - span.begin)}"
    return [span.trial, span.attempt, span.start, span.length, format_value(span.metric), worked]


def _troubles(timeline: Timeline, axis: _Axis) -> Iterable[Scatter]:
    for how, symbol in _SYMBOLS.items():
        ended = [span for span in timeline.spans if span.how is how]
        if ended:
            yield graph_objects().Scatter(
                name=how,
                mode="markers",
                y=[span.slot for span in ended],
                x=[axis.place(span.end or span.begin) for span in ended],
                customdata=[span.trial for span in ended],
                hovertemplate=f"<b>trial %{{customdata}}</b> {how} on worker %{{y}}<extra></extra>",
                marker={"symbol": symbol, "size": 9, "color": TROUBLE, "line": {"color": "white", "width": 1}},
            )


def _title(timeline: Timeline, gaps: Iterable[SlotTime]) -> str:
    there = sum(end - begin for _, begin, end in timeline.presences())
    idle = sum(end - begin for _, begin, end in gaps)
    busy = f"workers busy {1 - idle / there:.0%} of the time" if there else "nobody has worked on it yet"
    return f"<b>{escape(timeline.spec.name)}</b>: {len(timeline.paths)} trials, {busy}"
