"""The ladder: brackets side by side, rungs as steps, every trial at its place.

On each step the best stand left, column by column; a band is behind so many of them as deserve
to go on.  Who trains climbs in between.  Few trials are drawn so that a page can move them when they are
promoted (one trace, a point has its trial's id); many are packed arrays, for a graphics card or a canvas.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, isnan, nan, sqrt
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from ashwood.experiment.lifecycle import TrialState
from ashwood.figures.axes import narrow
from ashwood.figures.theme import LIGHT, Theme, Trace, blank, compose, text_of
from ashwood.search.vocabulary import TrialId
from ashwood.views.chronicle import Chronicle
from ashwood.views.hparams import Varied, varied
from ashwood.views.scene import Standing
from ashwood.views.steps import Step, steps
from ashwood.views.trials import TrialRow
from ashwood.views.wording import format_length

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

TITLE = "Ladder"
MANY = 1_200
"""With more trials than so many they are drawn as one."""

# In pixels of a figure of usual width: what a step is made of, and how large a trial is at most.
_STEP, _LABEL, _CLIMB, _SEATS = 112.0, 17.0, 34.0, 54.0
_ABOVE, _BELOW = 104, 64
_WIDTH, _GAP = 760.0, 34.0
_PITCH, _LARGEST, _SMALLEST = 15.0, 11.0, 2.0
_SHOWN_HPARAMS = 5
_FEW_BRACKETS = 3
_NARROWEST = 0.16
_OPEN = 3.0
_DROPPED_OUT = {TrialState.ERRORED: "failed", TrialState.KILLED: "killed"}
_RISING = ("training", "queued")


class _Look(NamedTuple):
    """How trials of a kind are drawn: told apart by colour and by shape."""

    words: str
    symbol: str
    colour: str
    scale: float = 1.0


def _looks(theme: Theme) -> Mapping[str, _Look]:
    return {
        "training": _Look("training", "triangle-up", theme.training, 1.15),
        "queued": _Look("waits for a worker", "triangle-up-open", theme.training, 1.1),
        Standing.WAITS: _Look("paused, may go on", "circle", theme.waiting),
        Standing.COMPLETED: _Look("trained to the end", "star", theme.completed, 1.2),
        Standing.WENT_ON: _Look("went on", "circle-open", theme.accent),
        Standing.OUT: _Look("stopped", "square", theme.out, 0.85),
        "failed": _Look("failed", "x", theme.trouble, 0.9),
        "killed": _Look("killed", "diamond", theme.trouble, 0.95),
        "left": _Look("stopped itself or on request", "diamond", theme.out, 0.95),
    }


class _Dot(NamedTuple):
    """A trial at a place; who is on the way has no rank there."""

    trial: TrialId
    x: float
    y: float
    size: float
    metric: float
    rank: int
    of: int
    length: int


@dataclass(frozen=True, slots=True)
class _Shelf:
    """Where a step is, in the figure's coordinates: one unit a step upwards, pixels sideways."""

    left: float
    right: float
    y: float
    columns: int
    rows: int
    pitch: float
    rise: float
    size: float

    @property
    def end(self) -> float:
        """As far as trials are expected."""
        return min(self.right, self.left + self.columns * self.pitch)

    @property
    def bottom(self) -> float:
        """Where those start who are on the way here."""
        return self.y - (_LABEL + _CLIMB) / _STEP

    @staticmethod
    def of(left: float, width: float, y: float, capacity: int) -> _Shelf:
        """A shelf with room for so many trials."""
        rows = max(1, min(int(_SEATS / _PITCH), ceil(capacity * _PITCH / width)))
        if rows * int(width / _PITCH) < capacity:
            rows = max(rows, round(sqrt(capacity * _SEATS / width)))
        columns = max(1, ceil(capacity / rows))
        pitch = min(_PITCH, width / columns)
        rise = min(_PITCH, _SEATS / rows)
        size = min(max(0.82 * min(0.8 * pitch, rise), _SMALLEST), _LARGEST)
        return _Shelf(left, left + width, y, columns, rows, pitch, rise / _STEP, size)

    def seat(self, rank: int) -> tuple[float, float]:
        """The place of a rank, from 0."""
        column, row = divmod(rank, self.rows)
        return self.left + (column + 0.5) * self.pitch, self.y + (row + 0.62) * self.rise

    def cut(self, count: int) -> list[tuple[float, float]]:
        """The line behind the first so many places, from the bottom up."""
        columns, rest = divmod(count, self.rows)
        x, top, bottom = self.left + columns * self.pitch, self.rows * self.rise, self.y
        ceiling = bottom + top + 0.25 * self.rise
        if not rest:
            return [(x, bottom), (x, ceiling)]
        middle = bottom + (rest + 0.12) * self.rise
        return [(x + self.pitch, bottom), (x + self.pitch, middle), (x, middle), (x, ceiling)]


Brackets: TypeAlias = Sequence[Sequence[Step]]
Places: TypeAlias = Sequence[Sequence[_Shelf]]


def draw_ladder(told: Chronicle, *, theme: Theme = LIGHT) -> Figure:
    """Who stands where, who is on the way up, and who deserves to go on.

    Raises:
        AshwoodError: plotly is not installed.
    """
    rows = told.progress.trials.rows
    if not rows:
        return blank(theme, TITLE, "No trial has been created yet.")
    brackets = steps(told.timeline)
    places = _places(told, brackets)
    many = sum(len(step.stands) + len(step.dropped_out) + len(step.risers) for step, _ in _all(brackets, places)) > MANY
    teller = _Teller(told, many=many)
    heights = {shelf.y: step.length for step, shelf in _all(brackets, places)}
    return compose(
        [
            *_bands(brackets, places, theme),
            *_shelves(brackets, places, theme),
            *(_many if many else _few)(told, brackets, places, teller, theme),
        ],
        theme,
        TITLE,
        _subtitle(told),
        height=round(_ABOVE + _BELOW + _STEP * len(heights)),
        margin={"l": 64, "r": 12, "t": _ABOVE, "b": _BELOW},
        # Few trials are all in one trace: there is nothing to hide.
        legend={} if many else {"itemclick": False, "itemdoubleclick": False},
        uirevision="ladder",
        annotations=list(_captions(told, brackets, places, theme)),
        xaxis={"visible": False, "range": [-6, _WIDTH + 6]},
        yaxis={
            "range": [-(_LABEL + _CLIMB + 8) / _STEP, len(heights) - 1 + (_SEATS + 8) / _STEP],
            "tickmode": "array",
            "tickvals": list(heights),
            "ticktext": [_length(length, told.spec.unit) for length in heights.values()],
            "ticks": "",
            "showgrid": False,
            "showline": False,
        },
    )


def _length(length: int, unit: str) -> str:
    number, _, word = format_length(length, unit).partition(" ")
    return f"<b>{number}</b> {word}"


def _all(brackets: Brackets, places: Places) -> Iterator[tuple[Step, _Shelf]]:
    for bracket, shelves in zip(brackets, places, strict=True):
        yield from zip(bracket, shelves, strict=True)


def _places(told: Chronicle, brackets: Brackets) -> list[list[_Shelf]]:
    """Shelves: equal lengths at equal heights, with room for whoever is expected."""
    lengths = sorted({step.length for bracket in brackets for step in bracket})
    planned = [max(1, bracket.planned) for bracket in told.progress.ladder.brackets]
    shares = [each ** (1 / 3) for each in planned]
    least = min(_NARROWEST, 1 / len(brackets)) * sum(shares)
    shares = [max(share, least) for share in shares]
    room = _WIDTH - _GAP * (len(brackets) - 1)
    places, left = [], 0.0
    for bracket, share, trials in zip(brackets, shares, planned, strict=True):
        width = room * share / sum(shares)
        shelves, expected = [], float(trials)
        for step in bracket:
            there = len(step.stands) + len(step.dropped_out)
            capacity = max(there, ceil(expected), 1)
            shelves.append(_Shelf.of(left, width, float(lengths.index(step.length)), capacity))
            expected /= float(told.spec.search.divisor)
        places.append(shelves)
        left += width + _GAP
    return places


# -- trials --------------------------------------------------------------------------------------


def _dots(told: Chronicle, brackets: Brackets, places: Places) -> Iterator[tuple[str, _Dot]]:
    """Yield each trial at each of its places, and how it looks there."""
    rows = told.progress.trials.rows
    for step, shelf in _all(brackets, places):
        of, length, size = len(step.stands) + len(step.dropped_out), step.length, shelf.size
        for rank, (trial, standing, metric) in enumerate(step.stands, 1):
            yield standing, _Dot(trial, *shelf.seat(rank - 1), size, metric, rank, of, length)
        for rank, trial in enumerate(step.dropped_out, len(step.stands) + 1):
            look = _DROPPED_OUT.get(rows[trial].state, "left")
            yield look, _Dot(trial, *shelf.seat(rank - 1), size, nan, rank, of, length)
        # Side by side, by the order in which they were created.
        pitch = min((shelf.right - shelf.left) / max(len(step.risers), 1), 1.4 * _PITCH)
        size = min(max(0.8 * pitch, 3.0), 9.0)
        for lane, riser in enumerate(step.risers):
            x, y = shelf.left + (lane + 0.5) * pitch, shelf.bottom + riser.progress * _CLIMB / _STEP
            metric = nan if riser.metric is None else riser.metric
            yield "training" if riser.works else "queued", _Dot(riser.trial, x, y, size, metric, 0, 0, length)


class _Teller:
    """What hovering over a trial tells."""

    def __init__(self, told: Chronicle, *, many: bool) -> None:
        self._rows = told.progress.trials.rows
        self.unit = told.spec.unit
        self.metric = text_of(told.spec.metric)
        known = varied(told.spec.space)
        # Of many trials numbers travel packed, and words not at all.
        self._hparams: Sequence[Varied] = [] if many else known[:_SHOWN_HPARAMS]

    def tell(self, dot: _Dot, look: _Look) -> str:
        """Of one of few trials, all in words."""
        lines = [f"<b>trial {dot.trial}</b> · {look.words}", self._result(dot), *self._values(self._rows[dot.trial])]
        return "<br>".join(lines)

    def _result(self, dot: _Dot) -> str:
        where = format_length(dot.length, self.unit)
        result = f"{self.metric} {dot.metric:.5g}"
        if dot.rank:
            return f"{result} at {where}: rank {dot.rank} of {dot.of}"
        return f"on its way to {where}" if isnan(dot.metric) else f"on its way to {where}; {result} so far"

    def _values(self, row: TrialRow) -> Iterator[str]:
        for each in self._hparams:
            yield f"{text_of(each.name)} = {text_of(each.value(row.hparams))}"


def _few(told: Chronicle, brackets: Brackets, places: Places, teller: _Teller, theme: Theme) -> Iterator[Trace]:
    looks = _looks(theme)
    dots: defaultdict[str, list[_Dot]] = defaultdict(list)
    for name, each in _dots(told, brackets, places):
        dots[name].append(each)
    if "training" in dots:
        yield _ways(dots["training"], brackets, places, theme)
    if went_on := dots.get(Standing.WENT_ON):
        look = looks[Standing.WENT_ON]
        ids = [f"{dot.trial} at {dot.length}" for dot in went_on]
        ring = {"opacity": 0.75, "line": {"width": 1.2, "color": look.colour}}
        yield _moving([(dot, look) for dot in went_on], look.words, ids, teller, **ring)
    now = [(dot, looks[look]) for look, some in dots.items() if look != Standing.WENT_ON for dot in some]
    yield _moving(now, "trials", [str(dot.trial) for dot, _ in now], teller, opacity=1.0, line={"width": 0})
    yield from (_entry(look) for name, look in looks.items() if name in dots)


def _moving(dots: Sequence[tuple[_Dot, _Look]], name: str, ids: Sequence[str], teller: _Teller, **marker: Any) -> Trace:
    """Points that a page can move from one place to another."""
    return {
        "type": "scatter",
        "name": name,
        "mode": "markers",
        "showlegend": False,
        "x": [dot.x for dot, _ in dots],
        "y": [dot.y for dot, _ in dots],
        "ids": ids,
        "customdata": [[dot.trial] for dot, _ in dots],
        "hovertext": [teller.tell(dot, look) for dot, look in dots],
        "hoverinfo": "text",
        "marker": {
            "symbol": [look.symbol for _, look in dots],
            "color": [look.colour for _, look in dots],
            "size": [round(dot.size * look.scale, 1) for dot, look in dots],
            **marker,
        },
    }


def _entry(look: _Look) -> Trace:
    """An entry of the legend."""
    line = {"width": 1.2 if look.symbol.endswith("open") else 0, "color": look.colour}
    return {
        "type": "scatter",
        "name": look.words,
        "mode": "markers",
        "x": [None],
        "y": [None],
        "hoverinfo": "skip",
        "marker": {"symbol": look.symbol, "color": look.colour, "size": 9, "line": line},
    }


def _many(told: Chronicle, brackets: Brackets, places: Places, teller: _Teller, theme: Theme) -> Iterator[Trace]:
    import numpy as np

    dots: defaultdict[str, array[float]] = defaultdict(lambda: array("d"))
    for name, dot in _dots(told, brackets, places):
        dots[name].extend(dot)
    where = f"%{{customdata[4]}} {teller.unit}"
    result = f"{teller.metric} %{{customdata[1]:.5~g}} at {where}: rank %{{customdata[2]}} of %{{customdata[3]}}"
    for name, look in _looks(theme).items():
        if name not in dots:
            continue
        words = f"on its way to {where}" if name in _RISING else result
        # Each number is exact up to 16 million.
        trials, x, y, sizes, *facts = narrow(np.frombuffer(dots.pop(name)).reshape(-1, len(_Dot._fields))).T
        yield {
            "type": "scattergl",
            "name": look.words,
            "mode": "markers",
            "x": x,
            "y": y,
            "customdata": np.stack([trials, *facts], axis=1),
            "hovertemplate": f"<b>trial %{{customdata[0]}}</b> · {look.words}<br>{words}<extra></extra>",
            # A page moves a trial from where it was last; those that it left behind stay.
            "meta": {"moves": name != Standing.WENT_ON},
            "marker": {
                # Too small a ring is nothing but grey.
                "symbol": look.symbol if sizes.min() >= _OPEN else look.symbol.removesuffix("-open"),
                "color": look.colour,
                "size": np.round(sizes * look.scale, 1),
                "opacity": 1.0,
                "line": {"width": 0},
            },
        }


# -- steps ---------------------------------------------------------------------------------------


def _bands(brackets: Brackets, places: Places, theme: Theme) -> Iterator[Trace]:
    """Behind the best of every step, and a line at the last of them: the promotion line."""
    xs: list[float | None] = []
    ys: list[float | None] = []
    lines_x: list[float | None] = []
    lines_y: list[float | None] = []
    for step, shelf in _all(brackets, places):
        if not step.entitled:
            continue
        cut = shelf.cut(step.entitled)
        outline = [(shelf.left, shelf.y), *cut, (shelf.left, cut[-1][1]), (shelf.left, shelf.y)]
        xs += [*(x for x, _ in outline), None]
        ys += [*(y for _, y in outline), None]
        lines_x += [*(x for x, _ in cut), None]
        lines_y += [*(y for _, y in cut), None]
    if xs:
        band = {"fill": "toself", "fillcolor": theme.band, "showlegend": False}
        yield _line("the best, who deserve to go on", xs, ys, {"width": 0}, **band)
        yield _line("promotion line", lines_x, lines_y, {"width": 1.6, "color": theme.edge})


def _shelves(brackets: Brackets, places: Places, theme: Theme) -> Iterator[Trace]:
    """A line a step, strong as far as trials are expected on it."""
    shelves = [shelf for _, shelf in _all(brackets, places)]
    ys = [y for shelf in shelves for y in (shelf.y, shelf.y, None)]
    for name, ends, line in (
        ("rungs", [shelf.right for shelf in shelves], {"width": 1.0, "color": theme.grid}),
        ("room for trials", [shelf.end for shelf in shelves], {"width": 2.4, "color": theme.faint}),
    ):
        xs = [x for shelf, end in zip(shelves, ends, strict=True) for x in (shelf.left, end, None)]
        yield _line(name, xs, ys, line, showlegend=False)


def _ways(risers: Sequence[_Dot], brackets: Brackets, places: Places, theme: Theme) -> Trace:
    """How far who trains has come since the step below."""
    bottoms = {step.length: shelf.bottom for step, shelf in _all(brackets, places)}
    return _line(
        "on the way",
        [x for dot in risers for x in (dot.x, dot.x, None)],
        [y for dot in risers for y in (bottoms[dot.length], dot.y, None)],
        {"width": 1.5, "color": theme.training},
        opacity=0.45,
        showlegend=False,
    )


def _line(
    name: str, xs: Sequence[float | None], ys: Sequence[float | None], line: Mapping[str, Any], **more: Any
) -> Trace:
    return {
        "type": "scatter",
        "name": name,
        "mode": "lines",
        "x": xs,
        "y": ys,
        "line": line,
        "hoverinfo": "skip",
        **more,
    }


def _captions(told: Chronicle, brackets: Brackets, places: Places, theme: Theme) -> Iterator[dict[str, Any]]:
    shared = {"showarrow": False, "xanchor": "left", "font": {"size": 11, "color": theme.muted}}
    for bracket, shelves, view in zip(brackets, places, told.progress.ladder.brackets, strict=True):
        words = f"{view.created:,} of {view.planned:,}"
        if len(brackets) <= _FEW_BRACKETS:
            words += " trial" if view.planned == 1 else " trials"
        if len(brackets) > 1:
            words = f"<b>bracket {view.number}</b><br>{words}"
        yield {**shared, "x": shelves[0].left, "y": 1, "yref": "paper", "yanchor": "bottom", "yshift": 4,
               "align": "left", "text": words}  # fmt: skip
        for step, shelf in zip(bracket, shelves, strict=True):
            if step.arrived or step.dropped_out:
                last = step is bracket[-1]
                said = f"{step.arrived:,} finished" if last else f"{step.arrived:,} → {step.went_on:,}"
                yield {**shared, "xanchor": "right", "x": shelf.right, "y": shelf.y, "yanchor": "top", "text": said}


def _subtitle(told: Chronicle) -> str:
    divisor = float(told.spec.search.divisor)
    if all(len(bracket.rungs) == 1 for bracket in told.progress.ladder.brackets):
        return "every trial trains to the end, the best stand left"
    return f"the best stand left; of each step the best 1 in {divisor:g} go on"
