"""Draws one search of an animation: rungs as lines, trials as dots that move up, and workers below.

Elements that never change are drawn once.  Elements that move are drawn again for each frame.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_rgba
from matplotlib.patches import Polygon
from matplotlib.text import Text
from numpy.typing import NDArray

from ashwood.figures.layout import Layout, Outline, Point, outline
from ashwood.figures.palette import BAND, IDLE, INK, LINE, MUTED, PAPER, TROUBLE, quality_colour, rung_colour
from ashwood.figures.playback import Moment, Playback
from ashwood.search.settings import Method
from ashwood.search.vocabulary import TrialId
from ashwood.views.ladder import RungRanking, Standing
from ashwood.views.wording import format_length

RGBA: TypeAlias = tuple[float, float, float, float]
ArtistT = TypeVar("ArtistT", bound=Artist)

# With more workers than this, their boxes are too small for a text.
_FEW_WORKERS = 12
# With more workers than this, the lines from workers to their trials are too dense to read.
_MANY_WORKERS = 40
_FADED = 0.35
# Rows of the timeline with at least this height, in pixels, have a gap between them.
_ROOMY = 4
_COUNTERS = (0.0, 0.25, 0.5, 0.755)


class Dot(NamedTuple):
    """The position and look of a trial's dot."""

    position: Point
    radius: float
    colour: RGBA


def mark_moving(artist: ArtistT) -> ArtistT:
    """Exclude an artist from the background that is drawn once, and return it."""
    artist.set_animated(True)
    return artist


def marker_size(radius: float) -> float:
    """Return Matplotlib's size of a round marker, in square points, for a radius in pixels at 100 dpi.

    A point is 1/72 inch, so a pixel is 0.72 points.
    """
    return (2 * radius * 0.72) ** 2


class Panel:
    """A search drawn into a part of the axes."""

    def __init__(
        self,
        playback: Playback,
        layout: Layout,
        axes: Axes,
        *,
        title: str,
        subtitle: str,
        qualities: Mapping[TrialId, float],
        seconds: float,
    ) -> None:
        """Draw the elements that never change, and create those that move.

        Args:
            playback: the recorded search to draw.
            layout: the positions to draw at.
            axes: the axes to draw on, in pixels from the top left.
            title: a short title.
            subtitle: a line of details.
            qualities: final quality of each trial, from 0 (worst) to 1 (best).
            seconds: elapsed time at the right end of the timeline.
        """
        self._playback = playback
        self._layout = layout
        self._colours = {trial: to_rgba(quality_colour(quality)) for trial, quality in qualities.items()}
        self._is_synchronous = playback.ladder.spec.search.method is Method.SYNC_HALVING
        self._is_finished = all(path.ended is not None for path in playback.ladder.paths)
        self._expected = [[len(rung.ranked) for rung in rungs] for rungs in playback.at(playback.seconds).brackets]
        self._positions: dict[TrialId, Point] = {}
        # Users choose these texts.  Matplotlib would read a $ in them as the start of a formula.
        style: dict[str, Any] = {"va": "center", "parse_math": False}
        axes.text(layout.left, layout.title, title, fontsize=13, fontweight="bold", color=INK, **style)
        axes.text(layout.left, layout.subtitle, subtitle, fontsize=8.5, color=MUTED, **style)
        self._notes = self._draw_rungs(axes)
        self._counters = self._draw_counters(axes)
        self._draw_workers(axes)
        self._bands = self._add(axes, PolyCollection([], facecolors=BAND, edgecolors="none"))
        self._links = self._add(axes, LineCollection([], linewidths=1.6, capstyle="round"))
        self._boxes = self._add(axes, PolyCollection([], edgecolors="none"))
        self._now = self._add(axes, LineCollection([], colors=INK, linewidths=0.8))
        self._rings = mark_moving(axes.scatter([], [], facecolors=PAPER, linewidths=0.8))
        self._dots = mark_moving(axes.scatter([], [], linewidths=0))
        self._crosses = mark_moving(axes.scatter([], [], marker="x", color=TROUBLE, linewidths=1, s=10))
        self._seconds = seconds
        self._timeline_pixels = _paint_timeline(playback, layout, seconds)
        self._shown_columns = 0

    @property
    def texts(self) -> list[Text]:
        """Texts that change in some frames only and that no other element overlaps."""
        return [*self._counters, *chain.from_iterable(self._notes)]

    @property
    def moving_artists(self) -> list[Artist]:
        """The elements to draw in each frame, from back to front."""
        return [self._now, self._bands, self._links, self._boxes, self._rings, self._crosses, self._dots]

    def draw_timeline(self, picture: NDArray[np.uint8]) -> None:
        """Copy the timeline of the workers, up to the moment shown, into a picture."""
        left, top = round(self._layout.workers_left), round(self._layout.timeline_top)
        pixels = self._timeline_pixels[:, : self._shown_columns]
        picture[top : top + len(pixels), left : left + self._shown_columns] = pixels

    def show(self, elapsed: float, step: float) -> None:
        """Update all elements to a moment.  Dots move by the share ``step``, from 0 to 1, of their remaining way."""
        moment = self._playback.at(elapsed)
        self._show_rungs(moment)
        self._show_trials(moment, step)
        self._show_links(moment)
        self._show_workers(moment)
        self._show_counters(moment)

    # -- elements that never change -----------------------------------------------------------

    def _draw_rungs(self, axes: Axes) -> list[list[Text]]:
        ladder = self._playback.ladder
        notes: list[list[Text]] = []
        for bracket, (rung_lines, lengths) in enumerate(zip(self._layout.rung_lines, ladder.lengths, strict=True)):
            notes.append([])
            if len(ladder.brackets) > 1:
                x, y, colour = (
                    rung_lines[0].left - self._layout.label_width,
                    self._layout.caption,
                    rung_colour(bracket, 0, 1),
                )
                axes.text(x, y, f"bracket {bracket}", fontsize=9, fontweight="bold", color=colour, va="center")
            for rung_line, length in zip(rung_lines, lengths, strict=True):
                axes.plot(
                    [rung_line.left, rung_line.right],
                    [rung_line.y, rung_line.y],
                    color=LINE,
                    lw=1.4,
                    solid_capstyle="round",
                )
                x, words = rung_line.left - self._layout.label_width, format_length(length, ladder.spec.unit)
                axes.text(x, rung_line.y, words, fontsize=8, fontweight="bold", color=INK, va="center")
                note = axes.text(x, rung_line.y + 8, "", fontsize=7.5, color=MUTED, va="top", linespacing=1.5)
                notes[-1].append(mark_moving(note))
        return notes

    def _draw_counters(self, axes: Axes) -> list[Text]:
        spec, layout = self._playback.ladder.spec, self._layout
        longest = format_length(spec.search.max_length, spec.unit)
        captions = ("of worker time idle", f"reached {longest}", "time to the first", "time in all")
        counters = []
        for share, caption in zip(_COUNTERS, captions, strict=True):
            x = layout.left + (layout.right - layout.left) * share
            axes.text(x, layout.counters + 18, caption, fontsize=7.5, color=MUTED, va="center")
            text = axes.text(x, layout.counters, "", fontsize=12, fontweight="bold", color=INK, va="center")
            counters.append(mark_moving(text))
        return counters

    def _draw_workers(self, axes: Axes) -> None:
        layout = self._layout
        workers, middle = format_length(layout.slots, "workers"), layout.workers_top + layout.box / 2
        axes.text(layout.left, middle, workers, fontsize=8, fontweight="bold", color=INK, va="center")
        axes.text(layout.left, layout.timeline_top + 6, "over time", fontsize=7.5, color=MUTED, va="center")
        workers_top = outline(
            layout.workers_left, layout.timeline_top, layout.right - layout.workers_left, layout.timeline_height
        )
        axes.add_patch(Polygon(workers_top, facecolor="#f7f8fa", edgecolor="none"))
        for slot in range(layout.slots):
            box = layout.worker(slot)
            axes.add_patch(Polygon(box, facecolor=IDLE, edgecolor="none"))
            if layout.slots <= _FEW_WORKERS:
                x, y = (box[0][0] + box[2][0]) / 2, (box[0][1] + box[2][1]) / 2
                axes.text(x, y, "idle", fontsize=7, color=MUTED, va="center", ha="center")

    def _add(self, axes: Axes, artist: _Collection) -> _Collection:
        axes.add_collection(artist, autolim=False)
        return mark_moving(artist)

    # -- elements that move -------------------------------------------------------------------

    def _show_rungs(self, moment: Moment) -> None:
        bands: list[Outline] = []
        rings: list[Point] = []
        sizes: list[float] = []
        colours: list[RGBA] = []
        crosses: list[Point] = []
        for bracket, rungs in enumerate(moment.brackets):
            for number, rung in enumerate(rungs):
                rung_line = self._layout.rung_lines[bracket][number]
                is_complete = self._is_complete(rungs, bracket, number)
                self._notes[bracket][number].set_text(self._note(rung, bracket, number, is_complete=is_complete))
                if is_complete or not self._is_synchronous:
                    bands += rung_line.highlight(rung.entitled)
                for rank, each in enumerate(rung.ranked):
                    if each.standing is Standing.PROMOTED:
                        rings.append(rung_line.position(rank))
                        sizes.append(marker_size(rung_line.radius * 0.9))
                        colours.append(self._colour(each.trial))
                crosses += [
                    (rung_line.right - 4 - 7 * place, rung_line.y - 6) for place in range(len(rung.dropped_out))
                ]
        self._bands.set_verts(bands)
        self._rings.set_offsets(_array(rings))
        self._rings.set_sizes(np.array(sizes))
        self._rings.set_edgecolor(colours)
        self._crosses.set_offsets(_array(crosses))

    def _is_complete(self, rungs: Sequence[RungRanking], bracket: int, number: int) -> bool:
        """Return whether all trials have arrived that ever reach a rung."""
        arrived, expected = len(rungs[number].ranked), self._expected[bracket][number]
        return 0 < arrived >= expected and not any(rung.training for rung in rungs[: number + 1])

    def _note(self, rung: RungRanking, bracket: int, number: int, *, is_complete: bool) -> str:
        reached = len(rung.ranked)
        if not reached:
            return ""
        if self._is_synchronous and not is_complete:
            return f"{reached} of {self._expected[bracket][number]}\nreached"
        if number == len(self._layout.rung_lines[bracket]) - 1:
            return f"{reached} reached"
        return f"{reached} reached,\n{rung.promoted} promoted"

    def _show_trials(self, moment: Moment, step: float) -> None:
        dots = self._targets(moment)
        for trial, dot in dots.items():
            x, y = dot.position
            from_x, from_y = self._positions.get(trial, dot.position)
            self._positions[trial] = (from_x + (x - from_x) * step, from_y + (y - from_y) * step)
        self._dots.set_offsets(_array([self._positions[trial] for trial in dots]))
        self._dots.set_sizes(np.array([marker_size(dot.radius) for dot in dots.values()]))
        self._dots.set_facecolor([dot.colour for dot in dots.values()])

    def _targets(self, moment: Moment) -> dict[TrialId, Dot]:
        """Return the dot of each trial at its target position; dots move towards it over several frames."""
        layout = self._layout
        dots: dict[TrialId, Dot] = {}
        for rung_lines, rungs in zip(layout.rung_lines, moment.brackets, strict=True):
            for rung_line, rung in zip(rung_lines, rungs, strict=True):
                for rank, each in enumerate(rung.ranked):
                    if each.standing is not Standing.PROMOTED:
                        faded = _FADED if each.standing is Standing.OUT else 1.0
                        colour = (*self._colour(each.trial)[:3], faded)
                        dots[each.trial] = Dot(rung_line.position(rank), rung_line.radius, colour)
        for trial, bracket, towards, slot, progress in moment.training:
            place = (layout.training_x(bracket, slot), layout.training_y(bracket, towards, progress))
            dots[trial] = Dot(place, layout.training_radius, self._colour(trial))
        return dots

    def _show_links(self, moment: Moment) -> None:
        """Draw a line from each trial to the worker that trains it."""
        links, colours = [], []
        layout = self._layout
        if len(layout.rung_lines) == 1 and layout.slots <= _MANY_WORKERS:
            for _, _, rung, slot, progress in moment.training:
                lane, top = layout.training_x(0, slot), layout.training_y(0, rung, progress)
                links.append([(lane, layout.workers_top), (lane, top)])
                colours.append(to_rgba(rung_colour(0, rung, len(layout.rung_lines[0])), 0.4))
        self._links.set_segments(links)
        self._links.set_color(colours)

    def _show_workers(self, moment: Moment) -> None:
        """Cover the boxes of workers that train in the colour of the rung, and of absent workers in white.

        The box of an idle worker stays visible, because it is part of the background that is drawn once.
        """
        layout = self._layout
        colours = dict.fromkeys(range(layout.slots), PAPER)
        for slot, span in moment.workers.items() if not moment.is_last else ():
            if span is None:
                del colours[slot]
            else:
                colours[slot] = rung_colour(span.bracket, span.rung, len(layout.rung_lines[span.bracket]))
        self._boxes.set_verts([layout.worker(slot) for slot in colours])
        self._boxes.set_color(list(colours.values()))
        self._shown_columns = round(moment.at / self._seconds * self._timeline_pixels.shape[1])
        x = layout.workers_left + self._shown_columns
        self._now.set_segments([] if moment.is_last else [[(x, layout.timeline_top - 2), (x, layout.bottom + 1)]])

    def _show_counters(self, moment: Moment) -> None:
        first = "–" if moment.first_completed is None else short_duration(moment.first_completed)
        end = short_duration(self._playback.seconds) if moment.is_last and self._is_finished else "–"
        for text, words in zip(self._counters, (f"{moment.idle:.0%}", str(moment.completed), first, end), strict=True):
            text.set_text(words)

    def _colour(self, trial: TrialId) -> RGBA:
        return self._colours.get(trial) or to_rgba(quality_colour(0.0))


_Collection = TypeVar("_Collection", LineCollection, PolyCollection)


def short_duration(seconds: float) -> str:
    """Return a duration in one unit, such as 42 s, 77 min, 2.6 h or 3.1 d.

    It has few digits, so that it doesn't change too fast to read during an animation.
    """
    for unit, per, most in (("s", 1, 120), ("min", 60, 7_200)):
        if seconds < most:
            return f"{seconds / per:.0f} {unit}"
    return f"{seconds / 3_600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} d"


def _paint_timeline(playback: Playback, layout: Layout, seconds: float) -> NDArray[np.uint8]:
    """Return the complete timeline of workers (rows) over time (columns) as an RGBA picture."""
    columns = round(layout.right) - round(layout.workers_left)
    pixels = np.full((round(layout.timeline_height), columns, 4), 255, dtype=np.uint8)
    each = len(pixels) / layout.slots
    inset = 1 if each >= _ROOMY else 0

    def paint(slot: int, begin: float, end: float, colour: str) -> None:
        top = int(slot * each)
        bottom = max(top + 1, int((slot + 1) * each) - inset)
        first, last = (round(playback.elapsed(at) / seconds * columns) for at in (begin, end))
        pixels[top:bottom, first : max(last, first + 1)] = np.array(to_rgba(colour)) * 255

    timeline = playback.timeline
    for gap in timeline.gaps():
        paint(*gap, IDLE)
    for span in timeline.spans:
        colour = rung_colour(span.bracket, span.rung, len(layout.rung_lines[span.bracket]))
        paint(span.slot, span.begin, timeline.until if span.end is None else span.end, colour)
    return pixels


def _array(points: list[Point]) -> NDArray[np.float64]:
    return np.array(points, dtype=float).reshape(-1, 2)
