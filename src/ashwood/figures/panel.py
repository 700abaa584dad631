"""One search drawn as it stands: rungs as shelves, trials as dots that climb them, workers below.

What never changes is drawn once; what moves is drawn anew for each frame.
"""

from __future__ import annotations

from collections.abc import Mapping
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
from ashwood.search.settings import Method
from ashwood.search.vocabulary import TrialId
from ashwood.views.scene import Film, RungScene, Scene, Standing
from ashwood.views.wording import format_length

RGBA: TypeAlias = tuple[float, float, float, float]
ArtistT = TypeVar("ArtistT", bound=Artist)

# With more workers than this, their boxes have no room for words, or trials none for a line to their worker.
_FEW_WORKERS = 12
_MANY_WORKERS = 40
_FADED = 0.35
# Rows of so many pixels are set apart.
_ROOMY = 4
_COUNTERS = (0.0, 0.25, 0.5, 0.755)


class Dot(NamedTuple):
    """A trial's dot."""

    place: Point
    radius: float
    colour: RGBA


def moving(artist: ArtistT) -> ArtistT:
    """An artist that is left out of what is drawn once."""
    artist.set_animated(True)
    return artist


def area(radius: float) -> float:
    """The size of a marker, as matplotlib counts it, of a radius in pixels at 100 of them an inch."""
    return (2 * radius * 0.72) ** 2


class Panel:
    """A film, drawn into a part of the axes."""

    def __init__(
        self,
        film: Film,
        layout: Layout,
        axes: Axes,
        *,
        title: str,
        subtitle: str,
        qualities: Mapping[TrialId, float],
        seconds: float,
    ) -> None:
        """Draw what never changes, and make what will move.

        Args:
            film: what to draw.
            layout: where.
            axes: on what; in pixels, from the top left.
            title: a few words.
            subtitle: a line.
            qualities: how good each trial turned out, from 0 to 1.
            seconds: which time the right end of the workers over time stands for.
        """
        self._film = film
        self._layout = layout
        self._colours = {trial: to_rgba(quality_colour(quality)) for trial, quality in qualities.items()}
        self._is_synchronous = film.timeline.spec.search.method is Method.SYNC_HALVING
        self._is_finished = all(path.ended is not None for path in film.timeline.paths.values())
        self._expected = [[len(rung.seats) for rung in rungs] for rungs in film.scene(film.seconds).brackets]
        self._places: dict[TrialId, Point] = {}
        # Names are people's: a $ in them is no formula.
        words: dict[str, Any] = {"va": "center", "parse_math": False}
        axes.text(layout.left, layout.title, title, fontsize=13, fontweight="bold", color=INK, **words)
        axes.text(layout.left, layout.subtitle, subtitle, fontsize=8.5, color=MUTED, **words)
        self._notes = self._draw_shelves(axes)
        self._counters = self._draw_counters(axes)
        self._draw_workers(axes)
        self._bands = self._add(axes, PolyCollection([], facecolors=BAND, edgecolors="none"))
        self._beams = self._add(axes, LineCollection([], linewidths=1.6, capstyle="round"))
        self._boxes = self._add(axes, PolyCollection([], edgecolors="none"))
        self._now = self._add(axes, LineCollection([], colors=INK, linewidths=0.8))
        self._rings = moving(axes.scatter([], [], facecolors=PAPER, linewidths=0.8))
        self._dots = moving(axes.scatter([], [], linewidths=0))
        self._crosses = moving(axes.scatter([], [], marker="x", color=TROUBLE, linewidths=1, s=10))
        self._seconds = seconds
        self._past = _paint_past(film, layout, seconds)
        self._seen = 0

    @property
    def words(self) -> list[Text]:
        """Texts that change now and then, and that nothing moves across."""
        return [*self._counters, *chain.from_iterable(self._notes)]

    @property
    def movers(self) -> list[Artist]:
        """What to draw for each frame, from back to front."""
        return [self._now, self._bands, self._beams, self._boxes, self._rings, self._crosses, self._dots]

    def paste(self, picture: NDArray[np.uint8]) -> None:
        """Put the past of the workers into a picture."""
        left, top, height = round(self._layout.workers_left), round(self._layout.strip), len(self._past)
        picture[top : top + height, left : left + self._seen] = self._past[:, : self._seen]

    def show(self, elapsed: float, pull: float) -> None:
        """Move everything to where it is at a moment; dots only the share ``pull`` of their way there."""
        scene = self._film.scene(elapsed)
        self._show_rungs(scene)
        self._show_trials(scene, pull)
        self._show_beams(scene)
        self._show_workers(scene)
        self._show_counters(scene)

    # -- what never changes -------------------------------------------------------------------

    def _draw_shelves(self, axes: Axes) -> list[list[Text]]:
        timeline = self._film.timeline
        notes: list[list[Text]] = []
        for bracket, (shelves, lengths) in enumerate(zip(self._layout.shelves, timeline.lengths, strict=True)):
            notes.append([])
            if len(timeline.lengths) > 1:
                x, y, colour = shelves[0].left - self._layout.words, self._layout.caption, rung_colour(bracket, 0, 1)
                axes.text(x, y, f"bracket {bracket}", fontsize=9, fontweight="bold", color=colour, va="center")
            for shelf, length in zip(shelves, lengths, strict=True):
                axes.plot([shelf.left, shelf.right], [shelf.y, shelf.y], color=LINE, lw=1.4, solid_capstyle="round")
                x, words = shelf.left - self._layout.words, format_length(length, timeline.spec.unit)
                axes.text(x, shelf.y, words, fontsize=8, fontweight="bold", color=INK, va="center")
                note = axes.text(x, shelf.y + 8, "", fontsize=7.5, color=MUTED, va="top", linespacing=1.5)
                notes[-1].append(moving(note))
        return notes

    def _draw_counters(self, axes: Axes) -> list[Text]:
        timeline, layout = self._film.timeline, self._layout
        longest = format_length(timeline.spec.search.max_length, timeline.spec.unit)
        captions = ("of worker time idle", f"reached {longest}", "until the first did", "until all was done")
        counters = []
        for share, caption in zip(_COUNTERS, captions, strict=True):
            x = layout.left + (layout.right - layout.left) * share
            axes.text(x, layout.counters + 18, caption, fontsize=7.5, color=MUTED, va="center")
            text = axes.text(x, layout.counters, "", fontsize=12, fontweight="bold", color=INK, va="center")
            counters.append(moving(text))
        return counters

    def _draw_workers(self, axes: Axes) -> None:
        layout = self._layout
        workers, middle = format_length(layout.slots, "workers"), layout.ground + layout.box / 2
        axes.text(layout.left, middle, workers, fontsize=8, fontweight="bold", color=INK, va="center")
        axes.text(layout.left, layout.strip + 6, "and their past", fontsize=7.5, color=MUTED, va="center")
        ground = outline(layout.workers_left, layout.strip, layout.right - layout.workers_left, layout.strip_height)
        axes.add_patch(Polygon(ground, facecolor="#f7f8fa", edgecolor="none"))
        for slot in range(layout.slots):
            box = layout.worker(slot)
            axes.add_patch(Polygon(box, facecolor=IDLE, edgecolor="none"))
            if layout.slots <= _FEW_WORKERS:
                x, y = (box[0][0] + box[2][0]) / 2, (box[0][1] + box[2][1]) / 2
                axes.text(x, y, "idle", fontsize=7, color=MUTED, va="center", ha="center")

    def _add(self, axes: Axes, artist: _Collection) -> _Collection:
        axes.add_collection(artist, autolim=False)
        return moving(artist)

    # -- what moves ---------------------------------------------------------------------------

    def _show_rungs(self, scene: Scene) -> None:
        bands: list[Outline] = []
        rings: list[Point] = []
        sizes: list[float] = []
        colours: list[RGBA] = []
        crosses: list[Point] = []
        for bracket, rungs in enumerate(scene.brackets):
            for number, rung in enumerate(rungs):
                shelf = self._layout.shelves[bracket][number]
                self._notes[bracket][number].set_text(self._note(rung, bracket, number))
                if rung.complete or not self._is_synchronous:
                    bands += shelf.behind(rung.entitled)
                for rank, seat in enumerate(rung.seats):
                    if seat.standing is Standing.WENT_ON:
                        rings.append(shelf.place(rank))
                        sizes.append(area(shelf.radius * 0.9))
                        colours.append(self._colour(seat.trial))
                crosses += [(shelf.right - 4 - 7 * place, shelf.y - 6) for place in range(len(rung.dropped_out))]
        self._bands.set_verts(bands)
        self._rings.set_offsets(_array(rings))
        self._rings.set_sizes(np.array(sizes))
        self._rings.set_edgecolor(colours)
        self._crosses.set_offsets(_array(crosses))

    def _note(self, rung: RungScene, bracket: int, number: int) -> str:
        here = len(rung.seats)
        if not here:
            return ""
        if self._is_synchronous and not rung.complete:
            return f"{here} of {self._expected[bracket][number]} here"
        if number == len(self._layout.shelves[bracket]) - 1:
            return f"{here} here"
        went_on = sum(seat.standing is Standing.WENT_ON for seat in rung.seats)
        return f"{here} here,\n{went_on} went on"

    def _show_trials(self, scene: Scene, pull: float) -> None:
        dots = self._wanted(scene)
        for trial, dot in dots.items():
            x, y = dot.place
            from_x, from_y = self._places.get(trial, dot.place)
            self._places[trial] = (from_x + (x - from_x) * pull, from_y + (y - from_y) * pull)
        self._dots.set_offsets(_array([self._places[trial] for trial in dots]))
        self._dots.set_sizes(np.array([area(dot.radius) for dot in dots.values()]))
        self._dots.set_facecolor([dot.colour for dot in dots.values()])

    def _wanted(self, scene: Scene) -> dict[TrialId, Dot]:
        """Where each trial belongs."""
        layout = self._layout
        dots: dict[TrialId, Dot] = {}
        for shelves, rungs in zip(layout.shelves, scene.brackets, strict=True):
            for shelf, rung in zip(shelves, rungs, strict=True):
                for rank, seat in enumerate(rung.seats):
                    if seat.standing is not Standing.WENT_ON:
                        faded = _FADED if seat.standing is Standing.OUT else 1.0
                        colour = (*self._colour(seat.trial)[:3], faded)
                        dots[seat.trial] = Dot(shelf.place(rank), shelf.radius, colour)
        for trial, bracket, towards, slot, progress in scene.climbers:
            if slot is not None:
                place = (layout.lane(bracket, slot), layout.height(bracket, towards, progress))
                dots[trial] = Dot(place, layout.climbing, self._colour(trial))
        return dots

    def _show_beams(self, scene: Scene) -> None:
        """Tie each trial to the worker that trains it."""
        beams, colours = [], []
        layout = self._layout
        if len(layout.shelves) == 1 and layout.slots <= _MANY_WORKERS:
            for climber in scene.climbers:
                if climber.slot is not None:
                    lane = layout.lane(0, climber.slot)
                    top = layout.height(0, climber.rung, climber.progress)
                    beams.append([(lane, layout.ground), (lane, top)])
                    colours.append(to_rgba(rung_colour(0, climber.rung, len(layout.shelves[0])), 0.4))
        self._beams.set_segments(beams)
        self._beams.set_color(colours)

    def _show_workers(self, scene: Scene) -> None:
        """Cover the boxes of workers that have something to do, or aren't there."""
        layout = self._layout
        colours = dict.fromkeys(range(layout.slots), PAPER)
        for slot, span in scene.workers if not scene.over else ():
            if span is None:
                del colours[slot]
            else:
                colours[slot] = rung_colour(span.bracket, span.rung, len(layout.shelves[span.bracket]))
        self._boxes.set_verts([layout.worker(slot) for slot in colours])
        self._boxes.set_color(list(colours.values()))
        self._seen = round(scene.at / self._seconds * self._past.shape[1])
        x = layout.workers_left + self._seen
        self._now.set_segments([] if scene.over else [[(x, layout.strip - 2), (x, layout.bottom + 1)]])

    def _show_counters(self, scene: Scene) -> None:
        first = "–" if scene.first_completed is None else brief(scene.first_completed)
        end = brief(self._film.seconds) if scene.over and self._is_finished else "–"
        for text, words in zip(self._counters, (f"{scene.idle:.0%}", str(scene.completed), first, end), strict=True):
            text.set_text(words)

    def _colour(self, trial: TrialId) -> RGBA:
        return self._colours.get(trial) or to_rgba(quality_colour(0.0))


_Collection = TypeVar("_Collection", LineCollection, PolyCollection)


def brief(seconds: float) -> str:
    """A time at a glance, which also changes at a pace to read: 42 s, 77 min, 2.6 h, 3.1 d."""
    for unit, per, most in (("s", 1, 120), ("min", 60, 7_200)):
        if seconds < most:
            return f"{seconds / per:.0f} {unit}"
    return f"{seconds / 3_600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} d"


def _paint_past(film: Film, layout: Layout, seconds: float) -> NDArray[np.uint8]:
    """Worker × time as pixels, all of it."""
    columns = round(layout.right) - round(layout.workers_left)
    pixels = np.full((round(layout.strip_height), columns, 4), 255, dtype=np.uint8)
    each = len(pixels) / layout.slots
    inset = 1 if each >= _ROOMY else 0

    def paint(slot: int, begin: float, end: float, colour: str) -> None:
        top = int(slot * each)
        bottom = max(top + 1, int((slot + 1) * each) - inset)
        first, last = (round(film.elapsed(at) / seconds * columns) for at in (begin, end))
        pixels[top:bottom, first : max(last, first + 1)] = np.array(to_rgba(colour)) * 255

    timeline = film.timeline
    for gap in timeline.gaps():
        paint(*gap, IDLE)
    for span in timeline.spans:
        colour = rung_colour(span.bracket, span.rung, len(timeline.lengths[span.bracket]))
        paint(span.slot, span.begin, timeline.until if span.end is None else span.end, colour)
    return pixels


def _array(points: list[Point]) -> NDArray[np.float64]:
    return np.array(points, dtype=float).reshape(-1, 2)
