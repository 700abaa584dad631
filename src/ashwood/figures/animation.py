"""Films of searches, as files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ashwood.errors import AshwoodError
from ashwood.figures.extras import check_matplotlib
from ashwood.views.scene import Film

if TYPE_CHECKING:
    from ashwood.figures.reel import Picture
    from ashwood.figures.stage import Stage

FORMATS = (".gif", ".mp4", ".html")
"""The endings of files that films can be written to."""

# Short jobs come first; they get a little more of the film's time than of the search's.
_WARP = 1.6
# Seconds at the end in which dots come to rest, and for which the last picture stays.
_SETTLING, _RESTING = 0.5, 2.0
_SAMPLES = (0.05, 0.3, 0.6, 1.0)


class Part(NamedTuple):
    """A film that is shown beside others, and what it is called: a few words and a line."""

    film: Film
    title: str
    subtitle: str


def animate(parts: Sequence[Part], out: Path, *, headline: str, seconds: float, fps: int) -> int:
    """Write films side by side to a file whose ending says its format; returns the number of its frames.

    Args:
        parts: what to show, from left to right; all by the same clock.
        out: the file: one of `FORMATS`.
        headline: a line above all of it.
        seconds: how long it takes.
        fps: frames per second.

    Raises:
        AshwoodError: the format is none of these, a library that it takes is not installed, or the file can't be
            written.
    """
    ending = out.suffix.lower()
    if ending not in FORMATS:
        raise AshwoodError(f"--out {out}: the file must end in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
    if not out.parent.is_dir():
        raise AshwoodError(f"can't write {out}: there is no directory {out.parent}")
    check_matplotlib()
    from ashwood.figures.reel import WRITERS, Reel
    from ashwood.figures.stage import Stage

    stage = Stage(parts, headline)
    rest = min(_RESTING, seconds / 4)
    settling = round(min(_SETTLING, seconds / 8) * fps)
    moving = max(2, round((seconds - rest) * fps) - settling)
    reel = Reel(
        frames=lambda: _frames(stage, moving, settling),
        samples=[stage.frame(stage.seconds * moment, cut=True) for moment in _SAMPLES],
        fps=fps,
        rest=rest,
        title=headline,
    )
    try:
        WRITERS[ending](reel, out)
    except OSError as error:
        raise AshwoodError(f"can't write {out}: {error.strerror or error}") from error
    return moving + settling


def _frames(stage: Stage, moving: int, settling: int) -> Iterator[Picture]:
    for number in range(moving + settling):
        share = min(1.0, number / (moving - 1))
        yield stage.frame(stage.seconds * share**_WARP, cut=number == 0)
