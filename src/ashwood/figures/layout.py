"""Where everything of a film's panel is, in pixels from the top left."""

from __future__ import annotations

from math import ceil
from typing import NamedTuple, TypeAlias

from ashwood.views.scene import Film
from ashwood.views.timeline import Slot

Point: TypeAlias = tuple[float, float]
Outline: TypeAlias = list[Point]

_TITLE, _SUBTITLE, _COUNTERS = 8, 29, 58
_CAPTION, _CAPTION_HEIGHT = 100, 24
_SHELVES, _SHELVES_HEIGHT = 106, 300
_BELOW_SHELVES = 14
_BOX = 18
_ABOVE_STRIP = 8
_LABELS = 78
_ROW, _STRIP_LEAST, _STRIP_MOST = 7, 42, 98
_COLUMN_GAP = 16
_SMALLEST_CLIMBING, _LARGEST_CLIMBING = 1.5, 5.5
_LARGEST_PITCH, _SMALLEST_PITCH, _PITCH_STEP = 10.0, 0.5, 0.25
# Of the space between two shelves: what trials need that arrive at the upper one.
_KEPT_FREE = 26


def outline(x: float, y: float, width: float, height: float) -> Outline:
    """The corners of a rectangle."""
    return [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]


class Shelf(NamedTuple):
    """A rung: a line from ``left`` to ``right`` at ``y`` with places on it, ``pitch`` apart, in so many ``rows``."""

    left: float
    right: float
    y: float
    pitch: float
    rows: int

    @property
    def radius(self) -> float:
        """Of a trial's dot."""
        return max(0.3, self.pitch * 0.43)

    def place(self, rank: int) -> Point:
        """The middle of the place of a rank, counted from 0."""
        column, row = divmod(rank, self.rows)
        return self.left + (column + 0.5) * self.pitch, self.y - 2 - (row + 0.5) * self.pitch

    def behind(self, count: int) -> list[Outline]:
        """The ground behind the first so many places."""
        columns, rest = divmod(count, self.rows)
        bottom, width = self.y - 1, columns * self.pitch
        heights = (self.rows * self.pitch + 2, rest * self.pitch + 2)
        whole = outline(self.left, bottom - heights[0], width, heights[0])
        begun = outline(self.left + width, bottom - heights[1], self.pitch, heights[1])
        return [*[whole] * (columns > 0), *[begun] * (rest > 0)]


class Layout:
    """The places of a panel, from top to bottom: title, counters, shelves, a box a worker, workers over time.

    Left of the shelves of each bracket there is room for words.

    Attributes:
        left: where it begins.
        right: where it ends.
        workers_left: where the workers' boxes begin.
        title: the line of its title.
        subtitle: the line of its subtitle.
        counters: the line of its counters.
        caption: the line above the shelves of each of several brackets.
        shelves: of each bracket, the shortest rung first; equal lengths are at equal heights.
        climbing: the radius of the dot of a trial that trains.
        ground: the top of the workers' boxes.
        box: their height.
        strip: the top of the workers over time.
        strip_height: their height.
        bottom: where it ends.
    """

    def __init__(self, film: Film, left: float, top: float, width: float) -> None:
        self.left, self.right, self.workers_left = left, left + width, left + _LABELS
        self.title, self.subtitle, self.counters = top + _TITLE, top + _SUBTITLE, top + _COUNTERS
        self.caption = top + _CAPTION
        several = len(film.timeline.lengths) > 1
        self.ground = top + _SHELVES + _CAPTION_HEIGHT * several + _SHELVES_HEIGHT + _BELOW_SHELVES
        self.box = _BOX
        self.strip = self.ground + _BOX + _ABOVE_STRIP
        self.slots = max(1, film.timeline.slots)
        self.strip_height = min(max(_ROW * self.slots, _STRIP_LEAST), _STRIP_MOST)
        self.bottom = self.strip + self.strip_height
        lengths = film.timeline.lengths
        heights = sorted({length for bracket in lengths for length in bracket})
        step = _SHELVES_HEIGHT / len(heights)
        column = (width - _COLUMN_GAP * (len(lengths) - 1)) / len(lengths) - _LABELS
        lefts = [left + _LABELS + (_LABELS + column + _COLUMN_GAP) * number for number in range(len(lengths))]
        self.shelves = [
            [
                Shelf(
                    begin,
                    begin + column,
                    self.ground - step * (1 + heights.index(rung.length)),
                    *_grid(len(rung.seats), column, step - _KEPT_FREE),
                )
                for rung in rungs
            ]
            for begin, rungs in zip(lefts, film.scene(film.seconds).brackets, strict=True)
        ]
        self.climbing = min(max(_SMALLEST_CLIMBING, 0.3 * column / self.slots), _LARGEST_CLIMBING)

    @property
    def words(self) -> float:
        """How much room there is for words left of the shelves."""
        return _LABELS

    def lane(self, bracket: int, slot: Slot) -> float:
        """Where the trial that a worker trains climbs: with a single bracket, straight above the worker's box."""
        shelf = self.shelves[bracket][0]
        return shelf.left + (slot + 0.5) / self.slots * (shelf.right - shelf.left)

    def height(self, bracket: int, rung: int, progress: float) -> float:
        """How high a trial has climbed towards a rung."""
        shelves = self.shelves[bracket]
        below = shelves[rung - 1].y if rung else self.ground
        return below - 8 + (shelves[rung].y - below + 2) * progress

    def worker(self, slot: Slot) -> Outline:
        """The box of a worker."""
        each = (self.right - self.workers_left) / self.slots
        inset = min(2.0, each * 0.1)
        return outline(self.workers_left + slot * each + inset, self.ground, each - 2 * inset, _BOX)


def _grid(most: int, width: float, height: float) -> tuple[float, int]:
    """The pitch and the rows with which so many places fit: as far apart as they may be."""
    pitch = _LARGEST_PITCH
    while pitch > _SMALLEST_PITCH:
        rows = max(1, ceil(most / max(1, int(width / pitch))))
        if rows * pitch <= height:
            return pitch, rows
        pitch -= _PITCH_STEP
    return _SMALLEST_PITCH, max(1, int(height / _SMALLEST_PITCH))
