"""Draws the frames of an animation: searches side by side, under a headline and a clock."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor
from typing import Any, TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from matplotlib.text import Text
from numpy.typing import NDArray

from ashwood.figures.layout import Layout, outline
from ashwood.figures.panel import BAND, Panel, mark_moving, marker_size, short_duration
from ashwood.figures.playback import Part, qualities
from ashwood.figures.theme import LIGHT

WIDTH = 900
_DPI = 100
_MARGIN = 22
_GUTTER = 32
_HEADER, _HEADLINE = 52, 24
_FOOTER, _LEGEND = 36, 18
# Share of the remaining distance that a dot moves in each frame: fast enough to keep up with the search, slow enough to
# be followed by eye.
_STEP = 0.5

Region: TypeAlias = tuple[slice, slice]
_NOWHERE: Region = (slice(0), slice(0))


class FrameRenderer:
    """Draws searches side by side.

    Attributes:
        seconds: duration of the longest search, in the search's time.
    """

    def __init__(self, parts: Sequence[Part], headline: str) -> None:
        self.seconds = max(1e-9, *(part.playback.seconds for part in parts))
        width = (WIDTH - 2 * _MARGIN - _GUTTER * (len(parts) - 1)) / len(parts)
        layouts = [
            Layout(part.playback, _MARGIN + (width + _GUTTER) * number, _HEADER, width)
            for number, part in enumerate(parts)
        ]
        # The video codec needs an even height.
        height = 2 * round((max(layout.bottom for layout in layouts) + _FOOTER) / 2)
        figure = Figure(figsize=(WIDTH / _DPI, height / _DPI), dpi=_DPI, facecolor=LIGHT.paper)
        self._canvas = FigureCanvasAgg(figure)
        self._axes = figure.add_axes((0, 0, 1, 1))
        self._axes.axis("off")
        found = qualities([part.playback.ladder for part in parts])
        self._panels = [
            Panel(
                part.playback,
                layout,
                self._axes,
                title=part.title,
                subtitle=part.subtitle,
                qualities=found,
                seconds=self.seconds,
            )
            for part, layout in zip(parts, layouts, strict=True)
        ]
        self._axes.text(_MARGIN, _HEADLINE, headline, fontsize=10, color=LIGHT.muted, va="center")
        clock = self._axes.text(WIDTH - _MARGIN, _HEADLINE, "", fontsize=15, fontweight="bold", color=LIGHT.ink)
        clock.set(va="center", ha="right")
        self._clock = mark_moving(clock)
        _draw_legend(self._axes, height - _LEGEND)
        self._axes.set_xlim(0, WIDTH)
        self._axes.set_ylim(height, 0)
        self._canvas.draw()  # type: ignore[no-untyped-call]
        self._picture = np.asarray(self._canvas.buffer_rgba())  # type: ignore[no-untyped-call]
        self._blank = self._picture.copy()
        # The background of a frame is the blank picture with the current texts.  Each text is drawn only when it
        # changes; for that, its last string and the region that it covers are kept.
        self._background = self._picture.copy()
        self._texts = [self._clock, *(text for panel in self._panels for text in panel.texts)]
        self._drawn: dict[Text, tuple[str, Region]] = {}

    def frame(self, elapsed: float, *, cut: bool = False) -> NDArray[np.uint8]:
        """Return the picture, height × width × RGB, of the searches after ``elapsed`` seconds.

        Dots move a part of their way from where they were in the last frame.  With ``cut``, they are at their
        positions at once.
        """
        self._clock.set_text(short_duration(min(elapsed, self.seconds)))
        for panel in self._panels:
            panel.show(elapsed, 1.0 if cut else _STEP)
        self._update_texts()
        self._picture[:] = self._background
        for panel in self._panels:
            panel.draw_timeline(self._picture)
            for artist in panel.moving_artists:
                self._axes.draw_artist(artist)
        return self._picture[:, :, :3].copy()

    def _update_texts(self) -> None:
        """Draw the texts that have changed into the background; drawing text takes most of the time of a frame."""
        for text in self._texts:
            content, region = self._drawn.get(text, ("", _NOWHERE))
            if text.get_text() == content:
                continue
            # The canvas draws into self._picture.  Erase the old text there and in the background, draw the new
            # one, and copy its region to the background.
            self._picture[:] = self._background
            self._picture[region] = self._blank[region]
            self._axes.draw_artist(text)
            self._background[region] = self._blank[region]
            region = self._region(text)
            self._background[region] = self._picture[region]
            self._drawn[text] = (text.get_text(), region)

    def _region(self, text: Text) -> Region:
        """Return the rows and columns of the picture that a text covers; Matplotlib counts y from the bottom."""
        box, height = text.get_window_extent(), len(self._picture)
        rows = slice(max(0, height - ceil(box.y1) - 1), height - floor(box.y0) + 1)
        return rows, slice(max(0, floor(box.x0) - 1), ceil(box.x1) + 1)


def _draw_legend(axes: Axes, y: float) -> None:
    style: dict[str, Any] = {"fontsize": 7.5, "color": LIGHT.muted, "va": "center"}
    x = float(_MARGIN)
    for place in range(5):
        axes.scatter([x + 4 + 10 * place], [y], s=marker_size(4.3), color=LIGHT.quality_colour(place / 4), linewidths=0)
    axes.text(x + 58, y, "trials: the darker, the better the final result", **style)
    axes.scatter(
        [x + 322], [y], s=marker_size(3.9), facecolor=LIGHT.paper, edgecolor=LIGHT.quality_colour(0.7), linewidths=0.8
    )
    axes.text(x + 332, y, "promoted to the next rung", **style)
    axes.add_patch(Polygon(outline(x + 486, y - 6, 16, 12), facecolor=BAND))
    axes.text(x + 508, y, "may be promoted", **style)
    axes.add_patch(Polygon(outline(x + 696, y - 6, 16, 12), facecolor=LIGHT.idle))
    axes.text(x + 718, y, "idle worker", **style)
