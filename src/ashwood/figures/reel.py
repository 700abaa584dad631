"""Frames as files: GIF, MP4, or a page with a player in it."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ashwood.figures.extras import ffmpeg

Picture: TypeAlias = NDArray[np.uint8]

_COLOURS = 128
_LEVELS = 64
_QUALITY = "23"  # of H.264: less is better, and larger


class Reel(NamedTuple):
    """Frames to be written.

    Attributes:
        frames: makes them, from the first to the last.
        samples: a few that have all colours.
        fps: how many are shown in a second.
        rest: seconds for which the last one is shown.
        title: of a page.
    """

    frames: Callable[[], Iterator[Picture]]
    samples: list[Picture]
    fps: int
    rest: float
    title: str


def write_gif(reel: Reel, out: Path) -> None:
    """Write a GIF that repeats for ever; one palette for all frames, so that what doesn't change costs nothing."""
    palette = _Palette(reel.samples)
    first, *others = (palette.image(frame) for frame in reel.frames())
    durations = [round(1_000 / reel.fps)] * len(others) + [round(1_000 * reel.rest)]
    first.save(out, format="GIF", save_all=True, append_images=others, duration=durations, loop=0)


class _Palette:
    """The colours of a GIF.  Pillow's own search takes a colour near the nearest, and paper would be tinted."""

    def __init__(self, samples: list[Picture]) -> None:
        image = Image.fromarray(np.concatenate(samples)).quantize(_COLOURS)
        colours = np.array(image.getpalette(), dtype=np.float32).reshape(-1, 3)
        colours[colours.sum(axis=1).argmax()] = 255
        self._colours = colours.astype(np.uint8).tobytes()
        scale = np.linspace(0, 255, _LEVELS, dtype=np.float32)
        greens_and_blues = np.stack(np.meshgrid(scale, scale, indexing="ij"), axis=-1)
        apart = ((greens_and_blues[:, :, None] - colours[:, 1:]) ** 2).sum(axis=-1)
        # By levels of red, green and blue.
        self._nearest = np.stack([(apart + (red - colours[:, 0]) ** 2).argmin(axis=-1) for red in scale])
        self._level = np.round(np.arange(256) * (_LEVELS - 1) / 255).astype(np.uint8)

    def image(self, picture: Picture) -> Image.Image:
        """A picture in these colours."""
        red, green, blue = np.moveaxis(self._level[picture], -1, 0)
        image = Image.fromarray(self._nearest[red, green, blue].astype(np.uint8))
        image.putpalette(self._colours)
        return image


def write_mp4(reel: Reel, out: Path) -> None:
    """Write a video that any player and browser plays.

    Raises:
        AshwoodError: imageio-ffmpeg is not installed.
    """
    height, width, _ = reel.samples[0].shape
    options = ["-crf", _QUALITY, "-preset", "medium", "-tune", "animation", "-movflags", "+faststart"]
    writer = ffmpeg().write_frames(
        str(out),
        (width, height),
        fps=reel.fps,
        codec="libx264",
        quality=None,
        macro_block_size=2,
        output_params=options,
    )
    writer.send(None)
    frame: Picture | None = None
    for frame in reel.frames():
        writer.send(np.ascontiguousarray(frame))
    for _ in range(round(reel.rest * reel.fps) if frame is not None else 0):
        writer.send(np.ascontiguousarray(frame))
    writer.close()


def write_html(reel: Reel, out: Path) -> None:
    """Write a page that holds the video itself, with a player to pause it and to go to any moment.

    Raises:
        AshwoodError: imageio-ffmpeg is not installed.
    """
    with TemporaryDirectory() as directory:
        video = Path(directory) / "film.mp4"
        write_mp4(reel, video)
        content = b64encode(video.read_bytes()).decode("ascii")
    page = _PAGE.format(title=escape(reel.title), width=reel.samples[0].shape[1], content=content)
    out.write_text(page, encoding="utf-8")


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<style>
  body {{ margin: 0; display: grid; place-items: center; min-height: 100vh; background: #fff; font-family: sans-serif }}
  video {{ width: min(100vw, {width}px) }}
</style>
</head>
<body>
<video controls autoplay muted loop playsinline src="data:video/mp4;base64,{content}">{title}</video>
</body>
</html>
"""

WRITERS = {".gif": write_gif, ".mp4": write_mp4, ".html": write_html}
"""How to write each kind of file."""
