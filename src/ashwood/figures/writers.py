"""Writes frames to a file: a GIF, an MP4 video, or an HTML page with a video player."""

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
_QUALITY = "23"  # constant rate factor of H.264: a smaller one gives a better picture and a larger file


class FrameSequence(NamedTuple):
    """The frames of an animation.

    Attributes:
        frames: returns an iterator over the frames.
        samples: a few frames that together have all colours.
        fps: frames per second.
        rest: seconds for which the last frame stays.
        title: title of an HTML page.
    """

    frames: Callable[[], Iterator[Picture]]
    samples: list[Picture]
    fps: int
    rest: float
    title: str


def write_gif(sequence: FrameSequence, out: Path) -> None:
    """Write a GIF that repeats forever.

    All frames share one palette.  So a pixel that doesn't change has the same number in the next frame, and the
    format stores only the changed part of each frame.
    """
    palette = _Palette(sequence.samples)
    first, *others = (palette.image(frame) for frame in sequence.frames())
    durations = [round(1_000 / sequence.fps)] * len(others) + [round(1_000 * sequence.rest)]
    first.save(out, format="GIF", save_all=True, append_images=others, duration=durations, loop=0)


class _Palette:
    """The colours of a GIF.

    Pillow's own mapping is approximate: it would tint the white background.  Here each colour is rounded to one of
    64 levels per channel, and a table holds the nearest colour of the palette for each combination.
    """

    def __init__(self, samples: list[Picture]) -> None:
        image = Image.fromarray(np.concatenate(samples)).quantize(_COLOURS)
        colours = np.array(image.getpalette(), dtype=np.float32).reshape(-1, 3)
        # The lightest colour of the palette is the background, which must be pure white.
        colours[colours.sum(axis=1).argmax()] = 255
        self._colours = colours.astype(np.uint8).tobytes()
        scale = np.linspace(0, 255, _LEVELS, dtype=np.float32)
        greens_and_blues = np.stack(np.meshgrid(scale, scale, indexing="ij"), axis=-1)
        distances = ((greens_and_blues[:, :, None] - colours[:, 1:]) ** 2).sum(axis=-1)
        # Index of the nearest colour by the levels of red, green and blue.  One level of red at a time, to save memory.
        self._nearest = np.stack([(distances + (red - colours[:, 0]) ** 2).argmin(axis=-1) for red in scale])
        self._level = np.round(np.arange(256) * (_LEVELS - 1) / 255).astype(np.uint8)

    def image(self, picture: Picture) -> Image.Image:
        """Return a picture in these colours."""
        red, green, blue = np.moveaxis(self._level[picture], -1, 0)
        image = Image.fromarray(self._nearest[red, green, blue].astype(np.uint8))
        image.putpalette(self._colours)
        return image


def write_mp4(sequence: FrameSequence, out: Path) -> None:
    """Write an H.264 video, which browsers and video players support.

    Raises:
        AshwoodError: imageio-ffmpeg is not installed.
    """
    height, width, _ = sequence.samples[0].shape
    options = ["-crf", _QUALITY, "-preset", "medium", "-tune", "animation", "-movflags", "+faststart"]
    writer = ffmpeg().write_frames(
        str(out),
        (width, height),
        fps=sequence.fps,
        codec="libx264",
        quality=None,
        macro_block_size=2,
        output_params=options,
    )
    writer.send(None)
    # The video has no way to show the last frame longer, so it is repeated.
    frame: Picture | None = None
    for frame in sequence.frames():
        writer.send(np.ascontiguousarray(frame))
    for _ in range(round(sequence.rest * sequence.fps) if frame is not None else 0):
        writer.send(np.ascontiguousarray(frame))
    writer.close()


def write_html(sequence: FrameSequence, out: Path) -> None:
    """Write an HTML page that contains the video and a player with a pause button and a slider.

    Raises:
        AshwoodError: imageio-ffmpeg is not installed.
    """
    with TemporaryDirectory() as directory:
        video = Path(directory) / "animation.mp4"
        write_mp4(sequence, video)
        content = b64encode(video.read_bytes()).decode("ascii")
    page = _PAGE.format(title=escape(sequence.title), width=sequence.samples[0].shape[1], content=content)
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
"""The function that writes each format, by file name extension."""
