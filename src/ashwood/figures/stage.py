"""Films side by side, under a headline and a clock: a frame for every moment."""

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

from ashwood.figures.animation import Part
from ashwood.figures.layout import Layout, outline
from ashwood.figures.palette import BAND, IDLE, INK, MUTED, PAPER, quality_colour
from ashwood.figures.panel import Panel, area, brief, moving
from ashwood.views.scene import qualities

WIDTH = 900
_DPI = 100
_MARGIN = 22
_GUTTER = 32
_HEADER, _HEADLINE = 52, 24
_FOOTER, _LEGEND = 36, 18
# How far a dot gets on its way in a frame: fast enough to keep up, slow enough to be followed.
_PULL = 0.5

Region: TypeAlias = tuple[slice, slice]
_NOWHERE: Region = (slice(0), slice(0))


class Stage:
    """Draws films side by side.

    Attributes:
        seconds: how long the longest of them takes, in its own time.
    """

    def __init__(self, parts: Sequence[Part], headline: str) -> None:
        self.seconds = max(1e-9, *(part.film.seconds for part in parts))
        width = (WIDTH - 2 * _MARGIN - _GUTTER * (len(parts) - 1)) / len(parts)
        layouts = [
            Layout(part.film, _MARGIN + (width + _GUTTER) * number, _HEADER, width) for number, part in enumerate(parts)
        ]
        # Video wants even numbers.
        height = 2 * round((max(layout.bottom for layout in layouts) + _FOOTER) / 2)
        figure = Figure(figsize=(WIDTH / _DPI, height / _DPI), dpi=_DPI, facecolor=PAPER)
        self._canvas = FigureCanvasAgg(figure)
        self._axes = figure.add_axes((0, 0, 1, 1))
        self._axes.axis("off")
        found = qualities([part.film for part in parts])
        self._panels = [
            Panel(
                part.film,
                layout,
                self._axes,
                title=part.title,
                subtitle=part.subtitle,
                qualities=found,
                seconds=self.seconds,
            )
            for part, layout in zip(parts, layouts, strict=True)
        ]
        self._axes.text(_MARGIN, _HEADLINE, headline, fontsize=10, color=MUTED, va="center")
        clock = self._axes.text(WIDTH - _MARGIN, _HEADLINE, "", fontsize=15, fontweight="bold", color=INK)
        clock.set(va="center", ha="right")
        self._clock = moving(clock)
        _draw_legend(self._axes, height - _LEGEND)
        self._axes.set_xlim(0, WIDTH)
        self._axes.set_ylim(height, 0)
        self._canvas.draw()  # type: ignore[no-untyped-call]
        self._picture = np.asarray(self._canvas.buffer_rgba())  # type: ignore[no-untyped-call]
        self._blank = self._picture.copy()
        # The same with the words that hold now, and of each of them where it is.
        self._ground = self._picture.copy()
        self._words = [self._clock, *(text for panel in self._panels for text in panel.words)]
        self._written: dict[Text, tuple[str, Region]] = {}

    def frame(self, elapsed: float, *, cut: bool = False) -> NDArray[np.uint8]:
        """The picture, height × width × RGB, after so many seconds; after a ``cut`` everything is in place at once."""
        self._clock.set_text(brief(min(elapsed, self.seconds)))
        for panel in self._panels:
            panel.show(elapsed, 1.0 if cut else _PULL)
        self._write()
        self._picture[:] = self._ground
        for panel in self._panels:
            panel.paste(self._picture)
            for artist in panel.movers:
                self._axes.draw_artist(artist)
        return self._picture[:, :, :3].copy()

    def _write(self) -> None:
        """Write the words that have changed; text is what takes longest to draw."""
        for text in self._words:
            said, region = self._written.get(text, ("", _NOWHERE))
            if text.get_text() == said:
                continue
            self._picture[:] = self._ground
            self._picture[region] = self._blank[region]
            self._axes.draw_artist(text)
            self._ground[region] = self._blank[region]
            region = self._region(text)
            self._ground[region] = self._picture[region]
            self._written[text] = (text.get_text(), region)

    def _region(self, text: Text) -> Region:
        box, height = text.get_window_extent(), len(self._picture)
        rows = slice(max(0, height - ceil(box.y1) - 1), height - floor(box.y0) + 1)
        return rows, slice(max(0, floor(box.x0) - 1), ceil(box.x1) + 1)


def _draw_legend(axes: Axes, y: float) -> None:
    words: dict[str, Any] = {"fontsize": 7.5, "color": MUTED, "va": "center"}
    x = float(_MARGIN)
    for place in range(5):
        axes.scatter([x + 4 + 10 * place], [y], s=area(4.3), color=quality_colour(place / 4), linewidths=0)
    axes.text(x + 58, y, "trials, the darker the better they turned out", **words)
    axes.scatter([x + 322], [y], s=area(3.9), facecolor=PAPER, edgecolor=quality_colour(0.7), linewidths=0.8)
    axes.text(x + 332, y, "went on to the next rung", **words)
    axes.add_patch(Polygon(outline(x + 486, y - 6, 16, 12), facecolor=BAND))
    axes.text(x + 508, y, "good enough to go on, by now", **words)
    axes.add_patch(Polygon(outline(x + 696, y - 6, 16, 12), facecolor=IDLE))
    axes.text(x + 718, y, "worker with nothing to do", **words)
