"""Colours of figures and animations on a light background.

Readers with a common colour blindness can distinguish them.  A rung has the hue of its bracket;
higher rungs are darker.  Better trials are darker.
"""

from __future__ import annotations

PAPER = "#ffffff"
INK = "#1b2733"
"""Main text."""
MUTED = "#66717d"
"""Secondary text."""
LINE = "#b9c1ca"
IDLE = "#d9dee4"
"""An idle worker."""
BAND = "#ffe59a"
"""The background of trials that may be promoted."""
TROUBLE = "#c1121f"
"""Attempts that failed or were killed."""

# From light to dark, after ColorBrewer (Harrower and Brewer 2003).
RAMPS = (
    ("#9ecae1", "#4292c6", "#2171b5", "#08306b"),
    ("#fdbe85", "#f98b3a", "#d94801", "#7f2704"),
    ("#99d8c9", "#41ae76", "#1b7f4b", "#00441b"),
    ("#fbb4c4", "#f768a1", "#ae017e", "#49006a"),
    ("#d9c8a9", "#b08d57", "#7a5c2e", "#3f2d12"),
)
QUALITIES = ("#f2dcb8", "#ef9d54", "#cc3d55", "#5b1049")


def rung_colour(bracket: int, rung: int, rungs: int) -> str:
    """Return the colour of a rung as ``#rrggbb``; the longest rung of every bracket is the darkest."""
    return blend(RAMPS[bracket % len(RAMPS)], rung / (rungs - 1) if rungs > 1 else 1.0)


def quality_colour(quality: float) -> str:
    """Return the colour of a trial as ``#rrggbb`` by its final quality, from 0 (worst) to 1 (best)."""
    return blend(QUALITIES, quality)


def blend(ramp: tuple[str, ...], position: float) -> str:
    """Return the colour at a position from 0 to 1 of a colour ramp."""
    place = min(max(position, 0.0), 1.0) * (len(ramp) - 1)
    below = min(int(place), len(ramp) - 2)
    share = place - below
    mixed = (
        round(a + (b - a) * share) for a, b in zip(_channels(ramp[below]), _channels(ramp[below + 1]), strict=True)
    )
    return "#" + "".join(f"{channel:02x}" for channel in mixed)


def _channels(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
