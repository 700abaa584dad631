"""Animations: the frames that are drawn, and the files that are written."""

from __future__ import annotations

import sys
from base64 import b64decode
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from ashwood.errors import AshwoodError
from ashwood.figures.animation import animate
from ashwood.figures.frames import WIDTH, FrameRenderer
from ashwood.figures.playback import Part
from ashwood.search.settings import Method
from tests.figures.test_playback import playback_of
from tests.views.simulate import Workers, asha, power_law, spec_of


@pytest.fixture(scope="module")
def parts() -> list[Part]:
    return make_parts(faults=(0.1, 0.05, 0.05))


def make_parts(faults: tuple[float, float, float]) -> list[Part]:
    made = []
    for method in (Method.SYNC_HALVING, Method.ASYNC_HALVING):
        ran = Workers(spec_of(asha(16, method=method)), power_law(1), workers=3, faults=faults)
        ran.run()
        made.append(Part(playback_of(ran), str(method), "on three workers"))
    return made


def draw(parts: list[Part], out: Path) -> int:
    return animate(parts, out, headline="both", seconds=1.0, fps=6)


def test_frame_after_cut_does_not_depend_on_earlier_frames(parts: list[Part]) -> None:
    used, moments = FrameRenderer(parts, "both"), [0.9, 0.0, 0.4]
    for moment in moments:
        drawn = used.frame(used.seconds * moment, cut=True)
        fresh = FrameRenderer(parts, "both").frame(used.seconds * moment, cut=True)
        assert np.array_equal(drawn, fresh)


def test_dots_move_to_their_positions_over_several_frames() -> None:
    renderer = FrameRenderer(make_parts(faults=(0.0, 0.0, 0.0)), "both")
    final = renderer.frame(renderer.seconds, cut=True).astype(int)
    renderer.frame(renderer.seconds / 2, cut=True)
    differing = [np.count_nonzero(np.abs(renderer.frame(renderer.seconds) - final) > 50) for _ in range(14)]
    assert differing[0] > 0
    assert differing[-1] == 0


def test_dollar_signs_in_names_are_not_formulas(parts: list[Part]) -> None:
    assert FrameRenderer([parts[0]._replace(title="at most $5$x", subtitle="$_$")], "both").frame(0.0).any()


def test_gif_repeats_and_shows_last_frame_longer(parts: list[Part], tmp_path: Path) -> None:
    frames = draw(parts, tmp_path / "search.gif")
    with Image.open(tmp_path / "search.gif") as image:
        assert (image.width, image.info["loop"]) == (WIDTH, 0)
        assert image.convert("RGB").getpixel((1, 1)) == (255, 255, 255)
        durations = [frame.info["duration"] for frame in ImageSequence.Iterator(image)]
    # Pillow writes equal frames as one that lasts longer.
    assert 2 <= len(durations) <= frames
    assert durations[-1] >= 250


def test_html_page_contains_its_video(parts: list[Part], tmp_path: Path) -> None:
    draw(parts, tmp_path / "search.html")
    page = (tmp_path / "search.html").read_text()
    assert "<video controls" in page
    before, video = page.split('src="data:video/mp4;base64,')
    assert b64decode(video.partition('"')[0])[4:8] == b"ftyp"
    assert "http" not in before


def test_search_without_any_training_can_be_animated(tmp_path: Path) -> None:
    playback = playback_of(Workers(spec_of(asha(4)), power_law(1)))
    assert draw([Part(playback, "title", "subtitle")], tmp_path / "search.gif") > 0


def test_unknown_format_and_missing_directory_are_refused(parts: list[Part], tmp_path: Path) -> None:
    with pytest.raises(AshwoodError, match=r"must end in \.gif, \.mp4 or \.html"):
        draw(parts, tmp_path / "search.avi")
    with pytest.raises(AshwoodError, match="there is no directory"):
        draw(parts, tmp_path / "missing" / "search.gif")


@pytest.mark.parametrize(("missing", "ending"), [("matplotlib", ".gif"), ("imageio_ffmpeg", ".mp4")])
def test_missing_library_error_says_what_to_install(
    missing: str, ending: str, parts: list[Part], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(AshwoodError, match=r"pip install 'ashwood\[animate\]'"):
        draw(parts, tmp_path / f"search{ending}")
