"""Writes animations of searches to GIF, MP4 and HTML files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ashwood.errors import AshwoodError
from ashwood.figures.extras import check_matplotlib
from ashwood.figures.playback import Part

if TYPE_CHECKING:
    from ashwood.figures.frames import FrameRenderer
    from ashwood.figures.writers import Picture

FORMATS = (".gif", ".mp4", ".html")
"""File name extensions of the formats that an animation can have."""

# An exponent above 1 plays the beginning of a search more slowly than its end, because the first
# jobs are the shortest.
_TIME_EXPONENT = 1.6
# Seconds at the end in which dots reach their positions, and for which the last frame stays.
_SETTLING, _RESTING = 0.5, 2.0
# Shares of the search's time whose frames together have every colour of the animation.
_SAMPLES = (0.05, 0.3, 0.6, 1.0)


def animate(parts: Sequence[Part], out: Path, *, headline: str, seconds: float, fps: int) -> int:
    """Write an animation of searches side by side, and return its number of frames.

    Args:
        parts: the searches, from left to right; all share one clock.
        out: the file, whose extension is one of `FORMATS` and sets the format.
        headline: a line above the searches.
        seconds: duration of the animation.
        fps: frames per second.

    Raises:
        AshwoodError: the extension is not supported, a library is not installed, or the file can't be written.
    """
    ending = out.suffix.lower()
    if ending not in FORMATS:
        raise AshwoodError(f"--out {out}: the file must end in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
    if not out.parent.is_dir():
        raise AshwoodError(f"can't write {out}: there is no directory {out.parent}; create it first")
    check_matplotlib()
    from ashwood.figures.frames import FrameRenderer
    from ashwood.figures.writers import WRITERS, FrameSequence

    renderer = FrameRenderer(parts, headline)
    rest = min(_RESTING, seconds / 4)
    settling = round(min(_SETTLING, seconds / 8) * fps)
    moving = max(2, round((seconds - rest) * fps) - settling)
    sequence = FrameSequence(
        frames=lambda: _frames(renderer, moving, settling),
        samples=[renderer.frame(renderer.seconds * moment, cut=True) for moment in _SAMPLES],
        fps=fps,
        rest=rest,
        title=headline,
    )
    try:
        WRITERS[ending](sequence, out)
    except OSError as error:
        raise AshwoodError(f"can't write {out}: {error.strerror or error}") from error
    return moving + settling


def _frames(renderer: FrameRenderer, moving: int, settling: int) -> Iterator[Picture]:
    for number in range(moving + settling):
        share = min(1.0, number / (moving - 1))
        yield renderer.frame(renderer.seconds * share**_TIME_EXPONENT, cut=number == 0)
