"""The figure of the budget: training spent and expected per bracket and rung, and the time of workers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ashwood.figures.theme import LIGHT, Theme, Trace, blank, compose
from ashwood.forecast.budget import RungSpending, Spent, budget
from ashwood.views.history import History
from ashwood.views.wording import format_duration, format_length

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

TITLE = "Where the budget went"
# Least half width of the x-axis, in bars, so that a single bar doesn't fill the figure.
_NARROWEST = 3.0
NOTHING = "No driver has run yet."


def draw_spending(history: History, *, theme: Theme = LIGHT) -> Figure:
    """Return a figure of the training towards each rung, the training expected there, and the share of idle time.

    Raises:
        AshwoodError: plotly is not installed.
    """
    spent = budget(history)
    if not spent.busy + spent.idle:
        return blank(theme, TITLE, NOTHING)
    shares = [share for bracket in spent.shares for share in bracket]
    positions, open_ended = list(_positions(spent.shares)), history.spec.search.open_ended
    middle, half = (positions[0] + positions[-1]) / 2, max(positions[-1] / 2 + 0.7, _NARROWEST)
    return compose(
        [*_training(shares, positions, spent, history, theme), *_time(spent, theme)],
        theme,
        TITLE,
        _subtitle(spent, history),
        height=480,
        margin={"b": 56, "t": 84},
        legend={"traceorder": "normal"},
        barmode="stack",
        bargap=0.25,
        uirevision="spending",
        meta={"expected": None if open_ended else round(spent.expected)},
        showlegend=True,
        xaxis={
            "tickmode": "array",
            "tickvals": positions,
            "ticktext": ["the end" if open_ended else f"{share.length}" for share in shares],
            "title": {"text": "until" if open_ended else f"target rung ({history.spec.unit})"},
            "showgrid": False,
            "range": [middle - half, middle + half],
        },
        yaxis={
            "title": {"text": str(history.spec.unit)},
            "rangemode": "tozero",
            "tickformat": "~s",
            "domain": [0.26, 1],
        },
        # The workers' time is a single horizontal bar below the others, on axes of its own.
        xaxis2={"visible": False, "range": [0, 1], "anchor": "y2", "fixedrange": True},
        yaxis2={"visible": False, "domain": [0, 0.07], "anchor": "x2", "fixedrange": True},
        annotations=list(_captions(spent, positions, theme)),
    )


def _positions(shares: Sequence[Sequence[RungSpending]]) -> Iterator[float]:
    """Yield the x position of each bar, with a gap between brackets."""
    position = 0.0
    for bracket in shares:
        for _ in bracket:
            yield position
            position += 1.0
        position += 0.6


def _training(
    shares: Sequence[RungSpending], positions: Sequence[float], spent: Spent, history: History, theme: Theme
) -> Iterator[Trace]:
    unit, open_ended = history.spec.unit, history.spec.search.open_ended
    rungs = [(share.bracket, rung, len(bracket)) for bracket in spent.shares for rung, share in enumerate(bracket)]
    texts = [
        f"<b>{_name(share)} {format_length(share.length, unit)}</b><br>"
        f"trained {share.trained:,} {unit}"
        f"{'' if open_ended else f', {share.expected:,.0f} expected for the whole search'}<br>"
        f"repeated {share.repeated:,} {unit}<br>{format_duration(share.seconds)} of worker time"
        for share in shares
    ]
    yield {
        "type": "bar",
        "name": "trained",
        "x": positions,
        "y": [share.trained for share in shares],
        "hovertext": texts,
        "hoverinfo": "text",
        "marker": {"color": [theme.rung_colour(*rung) for rung in rungs], "line": {"width": 0}},
        "showlegend": False,
    }
    repeated = [
        (position, share, text)
        for position, share, text in zip(positions, shares, texts, strict=True)
        if share.repeated
    ]
    yield {
        "type": "bar",
        "name": "repeated training",
        "x": [position for position, _, _ in repeated],
        "y": [share.repeated for _, share, _ in repeated],
        "hovertext": [text for _, _, text in repeated],
        "hoverinfo": "text",
        "marker": {
            "color": theme.paper,
            "line": {"width": 1, "color": theme.trouble},
            "pattern": {"shape": "/", "size": 6, "fgcolor": theme.trouble, "solidity": 0.4},
        },
        "showlegend": bool(repeated),
    }
    if open_ended:
        return
    yield {
        "type": "scatter",
        "name": "expected for the whole search",
        "mode": "lines",
        "x": [x for position in positions for x in (position - 0.46, position + 0.46, None)],
        "y": [y for share in shares for y in (share.expected, share.expected, None)],
        "hoverinfo": "skip",
        "line": {"width": 2.4, "color": theme.ink},
    }


def _time(spent: Spent, theme: Theme) -> Iterator[Trace]:
    """Draw how workers spent their time.  The time of repeated training is estimated from its length."""
    total = spent.busy + spent.idle
    done = spent.trained + spent.repeated
    repeated = spent.busy * spent.repeated / done if done else 0.0
    for name, seconds, colour in (
        ("worker time: training", spent.busy - repeated, theme.accent),
        ("repeated training", repeated, theme.trouble),
        ("idle", spent.idle, theme.idle),
    ):
        if seconds <= 0:
            continue
        share = f"{seconds / total:.0%}" if seconds / total >= 0.005 else f"{seconds / total:.1%}"
        yield {
            "type": "bar",
            "name": f"{name} {share}",
            "orientation": "h",
            "xaxis": "x2",
            "yaxis": "y2",
            "x": [seconds / total],
            "y": [0],
            "hovertext": [f"{name}: {format_duration(seconds)}, {share}"],
            "hoverinfo": "text",
            "marker": {"color": colour, "line": {"width": 0}},
        }


def _name(share: RungSpending) -> str:
    return "replicates to" if share.is_replicates else f"bracket {share.bracket}, rung at"


def _captions(spent: Spent, positions: Sequence[float], theme: Theme) -> Iterator[dict[str, object]]:
    if len(spent.shares) < 2:
        return
    begin = 0
    for number, bracket in enumerate(spent.shares):
        here = positions[begin : begin + len(bracket)]
        begin += len(bracket)
        yield {
            "text": "replicates" if bracket[0].is_replicates else f"bracket {number}",
            "x": (here[0] + here[-1]) / 2,
            "y": 1,
            "yref": "paper",
            "yanchor": "bottom",
            "showarrow": False,
            "font": {"size": 11, "color": theme.muted},
        }


def _subtitle(spent: Spent, history: History) -> str:
    unit = history.spec.unit
    repeated = f" ({spent.repeated:,} repeated)" if spent.repeated else ""
    trained = spent.trained + spent.repeated
    done = f"{trained:,} {unit} trained{repeated}"
    if history.spec.search.open_ended:
        return done
    return f"{done}; {spent.expected:,.0f} expected for the whole search"
