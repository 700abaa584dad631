"""Films as pictures and as files."""

from __future__ import annotations

import sys
from base64 import b64decode
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from ashwood.errors import AshwoodError
from ashwood.figures.animation import Part, animate
from ashwood.figures.stage import WIDTH, Stage
from ashwood.search.settings import Method
from ashwood.views.scene import Film
from tests.views.simulate import Workers, asha, power_law, spec_of
from tests.views.test_timeline import timeline_of


@pytest.fixture(scope="module")
def parts() -> list[Part]:
    return make_parts(faults=(0.1, 0.05, 0.05))


def make_parts(faults: tuple[float, float, float]) -> list[Part]:
    made = []
    for method in (Method.SYNC_HALVING, Method.ASYNC_HALVING):
        ran = Workers(spec_of(asha(16, method=method)), power_law(1), workers=3, faults=faults)
        ran.run()
        made.append(Part(Film(timeline_of(ran)), str(method), "on three workers"))
    return made


def draw(parts: list[Part], out: Path) -> int:
    return animate(parts, out, headline="both", seconds=1.0, fps=6)


def test_a_picture_does_not_depend_on_what_was_drawn_before(parts: list[Part]) -> None:
    used, moments = Stage(parts, "both"), [0.9, 0.0, 0.4]
    for moment in moments:
        drawn = used.frame(used.seconds * moment, cut=True)
        fresh = Stage(parts, "both").frame(used.seconds * moment, cut=True)
        assert np.array_equal(drawn, fresh)


def test_dots_glide_to_where_they_belong() -> None:
    stage = Stage(make_parts(faults=(0.0, 0.0, 0.0)), "both")
    there = stage.frame(stage.seconds, cut=True).astype(int)
    stage.frame(stage.seconds / 2, cut=True)
    apart = [np.count_nonzero(np.abs(stage.frame(stage.seconds) - there) > 50) for _ in range(14)]
    assert apart[0] > 0
    assert apart[-1] == 0


def test_names_are_no_formulas(parts: list[Part]) -> None:
    assert Stage([parts[0]._replace(title="at most $5$x", subtitle="$_$")], "both").frame(0.0).any()


def test_a_gif_repeats_and_rests_at_its_end(parts: list[Part], tmp_path: Path) -> None:
    frames = draw(parts, tmp_path / "film.gif")
    with Image.open(tmp_path / "film.gif") as film:
        assert (film.width, film.info["loop"]) == (WIDTH, 0)
        assert film.convert("RGB").getpixel((1, 1)) == (255, 255, 255)
        durations = [frame.info["duration"] for frame in ImageSequence.Iterator(film)]
    assert 2 <= len(durations) <= frames  # frames that are equal are one that lasts longer
    assert durations[-1] >= 250


def test_a_page_holds_its_video(parts: list[Part], tmp_path: Path) -> None:
    draw(parts, tmp_path / "film.html")
    page = (tmp_path / "film.html").read_text()
    assert "<video controls" in page
    before, video = page.split('src="data:video/mp4;base64,')
    assert b64decode(video.partition('"')[0])[4:8] == b"ftyp"
    assert "http" not in before


def test_a_search_that_nobody_worked_on_can_be_filmed(tmp_path: Path) -> None:
    film = Film(timeline_of(Workers(spec_of(asha(4)), power_law(1))))
    assert draw([Part(film, "nothing", "at all")], tmp_path / "film.gif") > 0


def test_what_cannot_be_written_is_said_before_anything_is_drawn(parts: list[Part], tmp_path: Path) -> None:
    with pytest.raises(AshwoodError, match=r"must end in \.gif, \.mp4 or \.html"):
        draw(parts, tmp_path / "film.avi")
    with pytest.raises(AshwoodError, match="there is no directory"):
        draw(parts, tmp_path / "nowhere" / "film.gif")


@pytest.mark.parametrize(("missing", "ending"), [("matplotlib", ".gif"), ("imageio_ffmpeg", ".mp4")])
def test_without_its_libraries_it_says_what_to_install(
    missing: str, ending: str, parts: list[Part], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(AshwoodError, match=r"pip install 'ashwood\[animate\]'"):
        draw(parts, tmp_path / f"film{ending}")
