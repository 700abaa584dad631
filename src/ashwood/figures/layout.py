"""Positions of the elements of an animation's panel, in pixels from the top left."""

from __future__ import annotations

from math import ceil
from typing import NamedTuple, TypeAlias

from ashwood.figures.playback import Playback
from ashwood.views.timeline import Slot

Point: TypeAlias = tuple[float, float]
Outline: TypeAlias = list[Point]

_TITLE, _SUBTITLE, _COUNTERS = 8, 29, 58
_CAPTION, _CAPTION_HEIGHT = 100, 24
_RUNGS, _RUNGS_HEIGHT = 106, 300
_BELOW_RUNGS = 14
_BOX = 18
_ABOVE_TIMELINE = 8
_LABELS = 78
_ROW, _TIMELINE_LEAST, _TIMELINE_MOST = 7, 42, 98
_COLUMN_GAP = 16
_SMALLEST_TRAINING, _LARGEST_TRAINING = 1.5, 5.5
_LARGEST_PITCH, _SMALLEST_PITCH, _PITCH_STEP = 10.0, 0.5, 0.25
# Space between two rungs that stays free below the upper one, for its note and for trials that move towards it.
_FREE_BELOW = 26


def outline(x: float, y: float, width: float, height: float) -> Outline:
    """Return the corners of a rectangle."""
    return [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]


class RungLine(NamedTuple):
    """The line of a rung from ``left`` to ``right`` at ``y``, with ``rows`` of trials above it, ``pitch`` apart."""

    left: float
    right: float
    y: float
    pitch: float
    rows: int

    @property
    def radius(self) -> float:
        """Radius of a trial's dot."""
        return max(0.3, self.pitch * 0.43)

    def position(self, rank: int) -> Point:
        """Return the centre of the dot of a rank, counted from 0."""
        column, row = divmod(rank, self.rows)
        return self.left + (column + 0.5) * self.pitch, self.y - 2 - (row + 0.5) * self.pitch

    def highlight(self, count: int) -> list[Outline]:
        """Return the rectangles behind the first ``count`` ranks: full columns, and a part of the next one."""
        columns, rest = divmod(count, self.rows)
        bottom, width = self.y - 1, columns * self.pitch
        heights = (self.rows * self.pitch + 2, rest * self.pitch + 2)
        full = outline(self.left, bottom - heights[0], width, heights[0])
        partial = outline(self.left + width, bottom - heights[1], self.pitch, heights[1])
        return [*[full] * (columns > 0), *[partial] * (rest > 0)]


class Layout:
    """Positions in a panel.  From top to bottom: title, counters, rungs, a box for each worker, and their timeline.

    Left of the rungs of each bracket there is space for labels.

    Attributes:
        left: x of the left edge.
        right: x of the right edge.
        workers_left: x of the left edge of the workers' boxes and of the timeline.
        title: y of the title.
        subtitle: y of the subtitle.
        counters: y of the counters.
        caption: y of the names of brackets, if there are several.
        rung_lines: the rungs of each bracket, the shortest first; equal lengths are equally high.
        training_radius: radius of the dot of a training trial.
        workers_top: y of the top edge of the workers' boxes.
        box: height of the workers' boxes.
        timeline_top: y of the top edge of the timeline.
        slots: number of workers.
        timeline_height: height of the timeline.
        bottom: y of the bottom edge.
    """

    def __init__(self, playback: Playback, left: float, top: float, width: float) -> None:
        self.left, self.right, self.workers_left = left, left + width, left + _LABELS
        self.title, self.subtitle, self.counters = top + _TITLE, top + _SUBTITLE, top + _COUNTERS
        self.caption = top + _CAPTION
        several = len(playback.ladder.lengths) > 1
        self.workers_top = top + _RUNGS + _CAPTION_HEIGHT * several + _RUNGS_HEIGHT + _BELOW_RUNGS
        self.box = _BOX
        self.timeline_top = self.workers_top + _BOX + _ABOVE_TIMELINE
        self.slots = max(1, playback.timeline.slots)
        self.timeline_height = min(max(_ROW * self.slots, _TIMELINE_LEAST), _TIMELINE_MOST)
        self.bottom = self.timeline_top + self.timeline_height
        lengths = playback.ladder.lengths
        heights = sorted({length for bracket in lengths for length in bracket})
        step = _RUNGS_HEIGHT / len(heights)
        column = (width - _COLUMN_GAP * (len(lengths) - 1)) / len(lengths) - _LABELS
        lefts = [left + _LABELS + (_LABELS + column + _COLUMN_GAP) * number for number in range(len(lengths))]
        self.rung_lines = [
            [
                RungLine(
                    begin,
                    begin + column,
                    self.workers_top - step * (1 + heights.index(rung.length)),
                    *_grid(len(rung.ranked), column, step - _FREE_BELOW),
                )
                for rung in rungs
            ]
            for begin, rungs in zip(lefts, playback.at(playback.seconds).brackets, strict=True)
        ]
        self.training_radius = min(max(_SMALLEST_TRAINING, 0.3 * column / self.slots), _LARGEST_TRAINING)

    @property
    def label_width(self) -> float:
        """Width of the space for labels left of the rungs."""
        return _LABELS

    def training_x(self, bracket: int, slot: Slot) -> float:
        """Return the x of the trial that a worker trains; with a single bracket, it is right above the worker's box."""
        rung_line = self.rung_lines[bracket][0]
        return rung_line.left + (slot + 0.5) / self.slots * (rung_line.right - rung_line.left)

    def training_y(self, bracket: int, rung: int, progress: float) -> float:
        """Return y of a trial that trains towards a rung, at a progress from 0 to 1."""
        rung_lines = self.rung_lines[bracket]
        below = rung_lines[rung - 1].y if rung else self.workers_top
        return below - 8 + (rung_lines[rung].y - below + 2) * progress

    def worker(self, slot: Slot) -> Outline:
        """Return the box of a worker."""
        each = (self.right - self.workers_left) / self.slots
        inset = min(2.0, each * 0.1)
        return outline(self.workers_left + slot * each + inset, self.workers_top, each - 2 * inset, _BOX)


def _grid(most: int, width: float, height: float) -> tuple[float, int]:
    """Return the largest pitch, and its number of rows, with which ``most`` trials fit into the space."""
    pitch = _LARGEST_PITCH
    while pitch > _SMALLEST_PITCH:
        rows = max(1, ceil(most / max(1, int(width / pitch))))
        if rows * pitch <= height:
            return pitch, rows
        pitch -= _PITCH_STEP
    return _SMALLEST_PITCH, max(1, int(height / _SMALLEST_PITCH))
