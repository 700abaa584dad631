"""Where the budget went: training per bracket and rung against what was to be expected, and the workers' time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ashwood.figures.theme import LIGHT, Theme, Trace, blank, compose
from ashwood.views.budget import Budget, Share, budget
from ashwood.views.chronicle import Chronicle
from ashwood.views.wording import format_duration, format_length

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

TITLE = "Where the budget went"
_NARROWEST = 3.0
NOTHING = "No driver has worked on it yet."


def draw_spending(told: Chronicle, *, theme: Theme = LIGHT) -> Figure:
    """Training towards each rung, beside what a search like this is expected to need, and the share of idle time.

    Raises:
        AshwoodError: plotly is not installed.
    """
    spent = budget(told)
    if not spent.busy + spent.idle:
        return blank(theme, TITLE, NOTHING)
    shares = [share for bracket in spent.shares for share in bracket]
    places = list(_places(spent.shares))
    middle, half = (places[0] + places[-1]) / 2, max(places[-1] / 2 + 0.7, _NARROWEST)
    return compose(
        [*_training(shares, places, spent, told, theme), *_time(spent, theme)],
        theme,
        TITLE,
        _words(spent, told),
        height=480,
        margin={"b": 56, "t": 84},
        legend={"traceorder": "normal"},
        barmode="stack",
        bargap=0.25,
        uirevision="spending",
        showlegend=True,
        xaxis={
            "tickmode": "array",
            "tickvals": places,
            "ticktext": [f"{share.length}" for share in shares],
            "title": {"text": f"training towards a rung of so many {told.spec.unit}"},
            "showgrid": False,
            # A single bar isn't to fill it all.
            "range": [middle - half, middle + half],
        },
        yaxis={
            "title": {"text": str(told.spec.unit)},
            "rangemode": "tozero",
            "tickformat": "~s",
            "domain": [0.26, 1],
        },
        # The workers' time is one bar below.
        xaxis2={"visible": False, "range": [0, 1], "anchor": "y2", "fixedrange": True},
        yaxis2={"visible": False, "domain": [0, 0.07], "anchor": "x2", "fixedrange": True},
        annotations=list(_captions(spent, places, theme)),
    )


def _places(shares: Sequence[Sequence[Share]]) -> Iterator[float]:
    """Where the bars stand: with a gap between brackets."""
    place = 0.0
    for bracket in shares:
        for _ in bracket:
            yield place
            place += 1.0
        place += 0.6


def _training(
    shares: Sequence[Share], places: Sequence[float], spent: Budget, told: Chronicle, theme: Theme
) -> Iterator[Trace]:
    unit = told.spec.unit
    rungs = [(share.bracket, rung, len(bracket)) for bracket in spent.shares for rung, share in enumerate(bracket)]
    said = [
        f"<b>bracket {share.bracket}, towards {format_length(share.length, unit)}</b><br>"
        f"trained {share.trained:,} {unit}, expected in all {share.expected:,.0f}<br>"
        f"repeated {share.repeated:,}<br>{format_duration(share.seconds)} of workers"
        for share in shares
    ]
    yield {
        "type": "bar",
        "name": "trained",
        "x": places,
        "y": [share.trained for share in shares],
        "hovertext": said,
        "hoverinfo": "text",
        "marker": {"color": [theme.rung_colour(*rung) for rung in rungs], "line": {"width": 0}},
        "showlegend": False,
    }
    again = [(place, share, words) for place, share, words in zip(places, shares, said, strict=True) if share.repeated]
    yield {
        "type": "bar",
        "name": "trained again",
        "x": [place for place, _, _ in again],
        "y": [share.repeated for _, share, _ in again],
        "hovertext": [words for _, _, words in again],
        "hoverinfo": "text",
        "marker": {
            "color": theme.paper,
            "line": {"width": 1, "color": theme.trouble},
            "pattern": {"shape": "/", "size": 6, "fgcolor": theme.trouble, "solidity": 0.4},
        },
        "showlegend": bool(again),
    }
    yield {
        "type": "scatter",
        "name": "expected of the whole search",
        "mode": "lines",
        "x": [x for place in places for x in (place - 0.46, place + 0.46, None)],
        "y": [y for share in shares for y in (share.expected, share.expected, None)],
        "hoverinfo": "skip",
        "line": {"width": 2.4, "color": theme.ink},
    }


def _time(spent: Budget, theme: Theme) -> Iterator[Trace]:
    total = spent.busy + spent.idle
    done = spent.trained + spent.repeated
    repeated = spent.busy * spent.repeated / done if done else 0.0
    for name, seconds, colour in (
        ("workers train", spent.busy - repeated, theme.accent),
        ("train again", repeated, theme.trouble),
        ("are idle", spent.idle, theme.idle),
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


def _captions(spent: Budget, places: Sequence[float], theme: Theme) -> Iterator[dict[str, object]]:
    if len(spent.shares) < 2:
        return
    begin = 0
    for number, bracket in enumerate(spent.shares):
        here = places[begin : begin + len(bracket)]
        begin += len(bracket)
        yield {
            "text": f"bracket {number}",
            "x": (here[0] + here[-1]) / 2,
            "y": 1,
            "yref": "paper",
            "yanchor": "bottom",
            "showarrow": False,
            "font": {"size": 11, "color": theme.muted},
        }


def _words(spent: Budget, told: Chronicle) -> str:
    unit = told.spec.unit
    again = f", {spent.repeated:,} of it again" if spent.repeated else ""
    return f"{spent.trained + spent.repeated:,} {unit}{again}; expected of the whole search: {spent.expected:,.0f}"
