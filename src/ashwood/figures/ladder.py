"""The figure of the ladder: brackets side by side, their rungs as lines, and every trial as a point.

At each rung the trials are ordered column by column with the best on the left, and a band marks
those that may be promoted.  Trials that train move up between two rungs.

Few trials are drawn as one trace in which each point has its trial's id, so that a page can move
points when trials are promoted.  Many trials are drawn as packed arrays, for WebGL or a canvas.
"""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, isnan, nan, sqrt
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from ashwood.experiment.lifecycle import TrialState
from ashwood.figures.axes import narrow
from ashwood.figures.theme import LIGHT, Theme, Trace, blank, compose, text_of
from ashwood.search.vocabulary import TrialId
from ashwood.views.history import History
from ashwood.views.hparams import Varied
from ashwood.views.importance import by_importance
from ashwood.views.ladder import RungRanking, Standing
from ashwood.views.trials import TrialRow
from ashwood.views.wording import format_length

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

TITLE = "Ladder"
MANY = 1_200
"""Largest number of points that are drawn so that a page can move them."""

# Sizes are in pixels of a figure of usual width.  The height of a rung consists of its label, the space
# in which trials move up, and the rows of trials that were compared.
_STEP, _LABEL, _CLIMB, _COMPARED = 112.0, 17.0, 34.0, 54.0
_ABOVE, _BELOW = 104, 64
_WIDTH, _GAP = 760.0, 34.0
_PITCH, _LARGEST, _SMALLEST = 15.0, 11.0, 2.0
_SHOWN_HPARAMS = 5
_FEW_BRACKETS = 3
# Least share of the width that a bracket gets.
_NARROWEST = 0.16
# Points smaller than this are filled: as rings they would be grey spots.
_OPEN = 3.0
_DROPPED_OUT = {TrialState.ERRORED: "failed", TrialState.KILLED: "killed"}
_RISING = ("training", "queued")
_AUDITED = "audited"
_PASSED = (Standing.PROMOTED, _AUDITED)
"""Styles of trials at rungs from which they were promoted: these points do not move."""


class _Style(NamedTuple):
    """How trials of one kind are drawn.  Kinds differ by colour and by shape, also for colour-blind readers."""

    label: str
    symbol: str
    colour: str
    scale: float = 1.0


def _styles(theme: Theme) -> Mapping[str, _Style]:
    return {
        "training": _Style("training", "triangle-up", theme.training, 1.15),
        "queued": _Style("waiting for a worker", "triangle-up-open", theme.training, 1.1),
        Standing.WAITS: _Style("waiting for promotion", "circle", theme.waiting),
        Standing.COMPLETED: _Style("trained to full length", "star", theme.completed, 1.2),
        Standing.PROMOTED: _Style("promoted", "circle-open", theme.accent),
        _AUDITED: _Style("promoted as an audit, drawn at random", "diamond-open", theme.accent, 1.15),
        Standing.OUT: _Style("stopped", "square", theme.out, 0.85),
        "failed": _Style("failed", "x", theme.trouble, 0.9),
        "killed": _Style("killed", "diamond", theme.trouble, 0.95),
        "left": _Style("stopped by itself or on request", "diamond", theme.out, 0.95),
    }


class _Dot(NamedTuple):
    """The point of a trial at a rung or on its way there.

    Attributes:
        metric: metric by which it was compared at the rung, or its latest metric before that; NaN if there is none.
        rank: its rank at the rung, from 1, or 0 if it has not reached the rung.
        of: number of trials ranked at the rung, or 0 if it has not reached the rung.
        length: training length of the rung.
    """

    trial: TrialId
    x: float
    y: float
    size: float
    metric: float
    rank: int
    of: int
    length: int


@dataclass(frozen=True, slots=True)
class _RungLine:
    """The position of a rung in the figure's coordinates: one unit per rung upwards, pixels sideways.

    Attributes:
        columns: number of columns that the expected trials take.
        rows: number of trials in a column.
        pitch: distance between columns.
        rise: distance between rows.
        size: size of a point in pixels.
    """

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
        """The x of the right end of the columns in which trials are expected."""
        return min(self.right, self.left + self.columns * self.pitch)

    @property
    def bottom(self) -> float:
        """The y at which trials start when they begin to train towards this rung."""
        return self.y - (_LABEL + _CLIMB) / _STEP

    @staticmethod
    def of(left: float, width: float, y: float, capacity: int) -> _RungLine:
        """Return a rung at height ``y`` that holds ``capacity`` trials."""
        rows = max(1, min(int(_COMPARED / _PITCH), ceil(capacity * _PITCH / width)))
        if rows * int(width / _PITCH) < capacity:
            rows = max(rows, round(sqrt(capacity * _COMPARED / width)))
        columns = max(1, ceil(capacity / rows))
        pitch = min(_PITCH, width / columns)
        rise = min(_PITCH, _COMPARED / rows)
        size = min(max(0.82 * min(0.8 * pitch, rise), _SMALLEST), _LARGEST)
        return _RungLine(left, left + width, y, columns, rows, pitch, rise / _STEP, size)

    def position(self, rank: int) -> tuple[float, float]:
        """Return the position of a rank, counted from 0."""
        column, row = divmod(rank, self.rows)
        return self.left + (column + 0.5) * self.pitch, self.y + (row + 0.62) * self.rise

    def cut(self, count: int) -> list[tuple[float, float]]:
        """Return the line that separates the first ``count`` ranks from the others, from the bottom up."""
        columns, rest = divmod(count, self.rows)
        x, top, bottom = self.left + columns * self.pitch, self.rows * self.rise, self.y
        ceiling = bottom + top + 0.25 * self.rise
        if not rest:
            return [(x, bottom), (x, ceiling)]
        middle = bottom + (rest + 0.12) * self.rise
        return [(x + self.pitch, bottom), (x + self.pitch, middle), (x, middle), (x, ceiling)]


Brackets: TypeAlias = Sequence[Sequence[RungRanking]]
RungLines: TypeAlias = Sequence[Sequence[_RungLine]]


def draw_ladder(history: History, *, counts: bool = False, theme: Theme = LIGHT) -> Figure:
    """Return a figure of every trial at its rung, those on their way to a rung, and those that may be promoted.

    Args:
        history: the views of the experiment.
        counts: whether to draw a bar for each rung instead of a point for each trial, for example on a phone.
        theme: the colours.

    Raises:
        AshwoodError: plotly is not installed.
    """
    rows = history.progress.trials.rows
    if not rows:
        return blank(theme, TITLE, "No trial has been created yet.")
    brackets = history.ladder.now()
    if counts:
        return _draw_counts(history, brackets, theme)
    layout = _rung_lines(history, brackets)
    points = sum(len(rung.ranked) + len(rung.dropped_out) + len(rung.training) for rung, _ in _rungs(brackets, layout))
    many = points > MANY
    hover = _HoverTexts(history, many=many)
    heights = {rung_line.y: rung.length for rung, rung_line in _rungs(brackets, layout)}
    return compose(
        [
            *_bands(brackets, layout, theme),
            *_draw_rungs(brackets, layout, theme),
            *(_draw_many if many else _draw_few)(history, brackets, layout, hover, theme),
        ],
        theme,
        TITLE,
        _subtitle(history),
        height=round(_ABOVE + _BELOW + _STEP * len(heights)),
        margin={"l": 64, "r": 12, "t": _ABOVE, "b": _BELOW},
        # A click in the legend hides a trace.  Few trials are all in one trace, so there the legend has no effect.
        legend={} if many else {"itemclick": False, "itemdoubleclick": False},
        uirevision="ladder",
        annotations=list(_captions(history, brackets, layout, theme)),
        xaxis={"visible": False, "range": [-6, _WIDTH + 6]},
        yaxis={
            "range": [-(_LABEL + _CLIMB + 8) / _STEP, len(heights) - 1 + (_COMPARED + 8) / _STEP],
            "tickmode": "array",
            "tickvals": list(heights),
            "ticktext": [_length(length, history.spec.unit) for length in heights.values()],
            "ticks": "",
            "showgrid": False,
            "showline": False,
        },
    )


def _length(length: int, unit: str) -> str:
    number, _, word = format_length(length, unit).partition(" ")
    return f"<b>{number}</b> {word}"


def _rungs(brackets: Brackets, layout: RungLines) -> Iterator[tuple[RungRanking, _RungLine]]:
    for bracket, rung_lines in zip(brackets, layout, strict=True):
        yield from zip(bracket, rung_lines, strict=True)


def _rung_lines(history: History, brackets: Brackets) -> list[list[_RungLine]]:
    """Return the position of each rung: equal lengths are equally high, and all expected trials have room."""
    lengths = sorted({rung.length for bracket in brackets for rung in bracket})
    planned = [max(1, bracket.planned) for bracket in history.ladder.brackets]
    shares = [each ** (1 / 3) for each in planned]
    least = min(_NARROWEST, 1 / len(brackets)) * sum(shares)
    shares = [max(share, least) for share in shares]
    room = _WIDTH - _GAP * (len(brackets) - 1)
    layout, left = [], 0.0
    for bracket, share, trials in zip(brackets, shares, planned, strict=True):
        width = room * share / sum(shares)
        rung_lines, expected = [], float(trials)
        for rung in bracket:
            there = len(rung.ranked) + len(rung.dropped_out)
            capacity = max(there, ceil(expected), 1)
            rung_lines.append(_RungLine.of(left, width, float(lengths.index(rung.length)), capacity))
            expected /= float(history.spec.search.divisor)
        layout.append(rung_lines)
        left += width + _GAP
    return layout


# -- trials --------------------------------------------------------------------------------------


def _dots(history: History, brackets: Brackets, layout: RungLines) -> Iterator[tuple[str, _Dot]]:
    """Yield each point of each trial with the key of its style in `_styles`."""
    rows = history.progress.trials.rows
    running = {span.trial: span for span in history.timeline.live}
    for rung, rung_line in _rungs(brackets, layout):
        of, length, size = len(rung.ranked) + len(rung.dropped_out), rung.length, rung_line.size
        for rank, (trial, standing, metric, audited) in enumerate(rung.ranked, 1):
            yield (
                _AUDITED if audited else standing,
                _Dot(trial, *rung_line.position(rank - 1), size, metric, rank, of, length),
            )
        for rank, trial in enumerate(rung.dropped_out, len(rung.ranked) + 1):
            style = _DROPPED_OUT.get(rows[trial].state, "left")
            yield style, _Dot(trial, *rung_line.position(rank - 1), size, nan, rank, of, length)
        # Trials on their way are side by side, in the order in which they were created.
        pitch = min((rung_line.right - rung_line.left) / max(len(rung.training), 1), 1.4 * _PITCH)
        size = min(max(0.8 * pitch, 3.0), 9.0)
        for lane, trial in enumerate(rung.training):
            style, progress, metric = "queued", 0.0, nan
            span = running.get(trial)
            if span is not None and span.target == length:  # Otherwise its last process may still save.
                below = history.ladder.brackets[span.bracket].lengths[span.rung - 1] if span.rung else 0
                style, progress = "training", min(max((span.length - below) / (length - below), 0.0), 1.0)
                metric = nan if span.metric is None else span.metric
            x, y = rung_line.left + (lane + 0.5) * pitch, rung_line.bottom + progress * _CLIMB / _STEP
            yield style, _Dot(trial, x, y, size, metric, 0, 0, length)


class _HoverTexts:
    """The hover texts of trials."""

    def __init__(self, history: History, *, many: bool) -> None:
        self._rows = history.progress.trials.rows
        self.unit = history.spec.unit
        self.metric = text_of(history.spec.metric)
        # Many trials are sent to the page as packed numbers, without a text for each.
        self._hparams: Sequence[Varied] = [] if many else by_importance(history.progress)[:_SHOWN_HPARAMS]

    def text(self, dot: _Dot, style: _Style) -> str:
        """Return the text of one of few trials: its state, result, rank and hyperparameters."""
        lines = [f"<b>trial {dot.trial}</b> · {style.label}", self._result(dot), *self._values(self._rows[dot.trial])]
        return "<br>".join(lines)

    def _result(self, dot: _Dot) -> str:
        where = format_length(dot.length, self.unit)
        result = f"{self.metric} {dot.metric:.5g}"
        if dot.rank:
            return f"{result} at {where}: rank {dot.rank} of {dot.of}"
        return f"target {where}" if isnan(dot.metric) else f"target {where}; {result} so far"

    def _values(self, row: TrialRow) -> Iterator[str]:
        for each in self._hparams:
            yield f"{text_of(each.name)} = {text_of(each.value(row.hparams))}"


def _draw_few(
    history: History, brackets: Brackets, layout: RungLines, hover: _HoverTexts, theme: Theme
) -> Iterator[Trace]:
    styles = _styles(theme)
    dots: defaultdict[str, list[_Dot]] = defaultdict(list)
    for name, each in _dots(history, brackets, layout):
        dots[name].append(each)
    if "training" in dots:
        yield _progress_lines(dots["training"], brackets, layout, theme)
    if promoted := [(dot, styles[style]) for style in _PASSED for dot in dots.get(style, ())]:
        style = styles[Standing.PROMOTED]
        ids = [f"{dot.trial} at {dot.length}" for dot, _ in promoted]
        ring = {"opacity": 0.75, "line": {"width": 1.2, "color": style.colour}}
        yield _points(promoted, style.label, ids, hover, **ring)
    now = [(dot, styles[style]) for style, some in dots.items() if style not in _PASSED for dot in some]
    yield _points(now, "trials", [str(dot.trial) for dot, _ in now], hover, opacity=1.0, line={"width": 0})
    yield from (_entry(style) for name, style in styles.items() if name in dots)


def _points(
    dots: Sequence[tuple[_Dot, _Style]], name: str, ids: Sequence[str], hover: _HoverTexts, **marker: Any
) -> Trace:
    """Return a trace of points that a page can move, because each has an id."""
    return {
        "type": "scatter",
        "name": name,
        "mode": "markers",
        "showlegend": False,
        "x": [dot.x for dot, _ in dots],
        "y": [dot.y for dot, _ in dots],
        "ids": ids,
        "customdata": [[dot.trial] for dot, _ in dots],
        "hovertext": [hover.text(dot, style) for dot, style in dots],
        "hoverinfo": "text",
        "marker": {
            "symbol": [style.symbol for _, style in dots],
            "color": [style.colour for _, style in dots],
            "size": [round(dot.size * style.scale, 1) for dot, style in dots],
            **marker,
        },
    }


def _entry(style: _Style) -> Trace:
    """Return a trace without visible points: the entry of a style in the legend."""
    line = {"width": 1.2 if style.symbol.endswith("open") else 0, "color": style.colour}
    return {
        "type": "scatter",
        "name": style.label,
        "mode": "markers",
        "x": [None],
        "y": [None],
        "hoverinfo": "skip",
        "marker": {"symbol": style.symbol, "color": style.colour, "size": 9, "line": line},
    }


def _draw_many(
    history: History, brackets: Brackets, layout: RungLines, hover: _HoverTexts, theme: Theme
) -> Iterator[Trace]:
    import numpy as np

    # Flat arrays of numbers need a fraction of the memory of a tuple for each point.
    dots: defaultdict[str, array[float]] = defaultdict(lambda: array("d"))
    for name, dot in _dots(history, brackets, layout):
        dots[name].extend(dot)
    where = "the end" if history.spec.search.open_ended else f"%{{customdata[4]}} {hover.unit}"
    result = f"{hover.metric} %{{customdata[1]:.5~g}} at {where}: rank %{{customdata[2]}} of %{{customdata[3]}}"
    for name, style in _styles(theme).items():
        if name not in dots:
            continue
        outcome = f"target {where}" if name in _RISING else result
        # 32-bit floats represent whole numbers exactly up to 16 million, which is enough for trials and lengths.
        trials, x, y, sizes, *facts = narrow(np.frombuffer(dots.pop(name)).reshape(-1, len(_Dot._fields))).T
        yield {
            "type": "scattergl",
            "name": style.label,
            "mode": "markers",
            "x": x,
            "y": y,
            "customdata": np.stack([trials, *facts], axis=1),
            "hovertemplate": f"<b>trial %{{customdata[0]}}</b> · {style.label}<br>{outcome}<extra></extra>",
            # A page moves the point of a trial from its last position.  Points at the rungs below don't move.
            "meta": {"moves": name not in _PASSED},
            "marker": {
                "symbol": style.symbol if sizes.min() >= _OPEN else style.symbol.removesuffix("-open"),
                "color": style.colour,
                "size": np.round(sizes * style.scale, 1),
                "opacity": 1.0,
                "line": {"width": 0},
            },
        }


# -- counts --------------------------------------------------------------------------------------


def _draw_counts(history: History, brackets: Brackets, theme: Theme) -> Figure:
    """Return a figure with a bar for each rung of each bracket, the longest rung on top, divided by what trials do."""
    states = history.progress.trials.rows
    styles = _styles(theme)
    rows: list[tuple[str, str, Counter[str]]] = []
    captions = []
    for bracket, view in zip(brackets, history.ladder.brackets, strict=True):
        # The caption of a bracket takes a row of its own.
        captions.append((len(rows), f"<b>bracket {view.number}</b>, {view.created:,} of {view.planned:,} trials"))
        rows.append(("", "", Counter()))
        for rung in reversed(bracket):
            kinds: Counter[str] = Counter(ranked.standing for ranked in rung.ranked)
            kinds.update(_DROPPED_OUT.get(states[trial].state, "left") for trial in rung.dropped_out)
            kinds["training"] += len(rung.training)
            reached = f"{len(rung.ranked):,}"
            words = reached if rung is bracket[-1] else f"{reached} → {rung.promoted:,}"
            rows.append((_length(rung.length, history.spec.unit), words, kinds))
    longest = max(sum(kinds.values()) for *_, kinds in rows) or 1
    shown = [name for name in (Standing.PROMOTED, Standing.COMPLETED, Standing.WAITS, "training", Standing.OUT,
                               *_DROPPED_OUT.values(), "left") if any(kinds[name] for *_, kinds in rows)]  # fmt: skip
    shared = {"showarrow": False, "xanchor": "left", "yanchor": "middle"}
    return compose(
        [
            {
                "type": "bar",
                "orientation": "h",
                "name": styles[name].label,
                "y": list(range(len(rows))),
                "x": [kinds[name] for *_, kinds in rows],
                "width": 0.62,
                "hovertemplate": f"%{{x}} {styles[name].label}<extra></extra>",
                "marker": {"color": styles[name].colour, "line": {"width": 0}},
            }
            for name in shown
        ],
        theme,
        TITLE,
        "Number of trials at each rung: reached → promoted",
        height=_ABOVE + _BELOW + 30 * len(rows),
        margin={"l": 84, "r": 12, "b": _BELOW},
        barmode="stack",
        showlegend=True,
        legend={"traceorder": "normal"},
        uirevision="ladder counts",
        annotations=[
            *({**shared, "xref": "paper", "x": 0, "y": place, "text": words} for place, words in captions),
            *(
                {**shared, "x": sum(kinds.values()), "xshift": 5, "y": place, "text": words}
                for place, (_, words, kinds) in enumerate(rows)
                if words
            ),
        ],
        xaxis={"visible": False, "range": [0, 1.35 * longest]},
        yaxis={
            "range": [len(rows) - 0.4, -0.6],
            "tickmode": "array",
            "tickvals": list(range(len(rows))),
            "ticktext": [label for label, *_ in rows],
            "ticks": "",
            "showgrid": False,
            "showline": False,
        },
    )


# -- rungs ---------------------------------------------------------------------------------------


def _bands(brackets: Brackets, layout: RungLines, theme: Theme) -> Iterator[Trace]:
    """Draw a band behind the trials of each rung that may be promoted, and the promotion line at its end."""
    xs: list[float | None] = []
    ys: list[float | None] = []
    lines_x: list[float | None] = []
    lines_y: list[float | None] = []
    for rung, rung_line in _rungs(brackets, layout):
        if not rung.entitled:
            continue
        cut = rung_line.cut(rung.entitled)
        outline = [(rung_line.left, rung_line.y), *cut, (rung_line.left, cut[-1][1]), (rung_line.left, rung_line.y)]
        xs += [*(x for x, _ in outline), None]
        ys += [*(y for _, y in outline), None]
        lines_x += [*(x for x, _ in cut), None]
        lines_y += [*(y for _, y in cut), None]
    if xs:
        band = {"fill": "toself", "fillcolor": theme.band, "showlegend": False}
        yield _line("may be promoted", xs, ys, {"width": 0}, **band)
        yield _line("promotion line", lines_x, lines_y, {"width": 1.6, "color": theme.edge})


def _draw_rungs(brackets: Brackets, layout: RungLines, theme: Theme) -> Iterator[Trace]:
    """Draw a line for each rung, thick where trials are expected."""
    rung_lines = [rung_line for _, rung_line in _rungs(brackets, layout)]
    ys = [y for rung_line in rung_lines for y in (rung_line.y, rung_line.y, None)]
    for name, ends, line in (
        ("rungs", [rung_line.right for rung_line in rung_lines], {"width": 1.0, "color": theme.grid}),
        ("room for trials", [rung_line.end for rung_line in rung_lines], {"width": 2.4, "color": theme.faint}),
    ):
        xs = [x for rung_line, end in zip(rung_lines, ends, strict=True) for x in (rung_line.left, end, None)]
        yield _line(name, xs, ys, line, showlegend=False)


def _progress_lines(risers: Sequence[_Dot], brackets: Brackets, layout: RungLines, theme: Theme) -> Trace:
    """Draw a line for each training trial from the rung below to its point."""
    bottoms = {rung.length: rung_line.bottom for rung, rung_line in _rungs(brackets, layout)}
    return _line(
        "training progress",
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


def _captions(history: History, brackets: Brackets, layout: RungLines, theme: Theme) -> Iterator[dict[str, Any]]:
    shared = {"showarrow": False, "xanchor": "left", "font": {"size": 11, "color": theme.muted}}
    for bracket, rung_lines, view in zip(brackets, layout, history.ladder.brackets, strict=True):
        words = f"{view.created:,} of {view.planned:,}"
        if len(brackets) <= _FEW_BRACKETS:
            words += " trial" if view.planned == 1 else " trials"
        if len(brackets) > 1:
            words = f"<b>bracket {view.number}</b><br>{words}"
        yield {**shared, "x": rung_lines[0].left, "y": 1, "yref": "paper", "yanchor": "bottom", "yshift": 4,
               "align": "left", "text": words}  # fmt: skip
        for rung, rung_line in zip(bracket, rung_lines, strict=True):
            if rung.ranked or rung.dropped_out:
                last = rung is bracket[-1]
                count = f"{len(rung.ranked):,} completed" if last else f"{len(rung.ranked):,} → {rung.promoted:,}"
                yield {
                    **shared,
                    "xanchor": "right",
                    "x": rung_line.right,
                    "y": rung_line.y,
                    "yanchor": "top",
                    "text": count,
                }


def _subtitle(history: History) -> str:
    if history.spec.search.open_ended:
        return "Best on the left. Each trial trains until its code returns."
    divisor = float(history.spec.search.divisor)
    if all(len(bracket.rungs) == 1 for bracket in history.ladder.brackets):
        return "Best on the left. Every trial trains to full length."
    share = float(history.spec.search.share_audited)
    audits = f", and {100 * share:g}% of promotions are audits" if share else ""
    return f"Best on the left. The top 1 in {divisor:g} at each rung are promoted{audits}."
