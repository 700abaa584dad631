"""Where things are: on the picture, and not on top of one another."""

from __future__ import annotations

from itertools import pairwise

import pytest

from ashwood.figures.layout import Layout
from ashwood.search.settings import Method, Mode, SearchSettings
from ashwood.views.scene import Film
from tests.views.simulate import Workers, asha, power_law, spec_of
from tests.views.test_timeline import timeline_of

SEARCHES = [
    asha(1),
    asha(40, method=Method.ASYNC_HALVING),
    asha(700, method=Method.SYNC_HALVING),
    asha(60, mode=Mode.CONSERVATIVE, max_length=256),
    asha(9, method=Method.RANDOM),
]


def film_of(settings: SearchSettings, workers: int = 4) -> Film:
    ran = Workers(spec_of(settings), power_law(1), workers=workers)
    ran.run()
    return Film(timeline_of(ran))


def layout_of(settings: SearchSettings, width: float, workers: int = 4) -> Layout:
    return Layout(film_of(settings, workers), 22.0, 52.0, width)


@pytest.mark.parametrize("settings", SEARCHES)
@pytest.mark.parametrize("width", [412.0, 856.0])
def test_every_trial_has_a_place_of_its_own(settings: SearchSettings, width: float) -> None:
    film = film_of(settings)
    layout = Layout(film, 22.0, 52.0, width)
    for shelves, rungs in zip(layout.shelves, film.scene(film.seconds).brackets, strict=True):
        tops = [shelf.y for shelf in shelves[1:]] + [0.0]
        for shelf, rung, above in zip(shelves, rungs, tops, strict=True):
            places = [shelf.place(rank) for rank in range(len(rung.seats))]
            assert len(set(places)) == len(places) > 0
            assert all(shelf.left <= x - shelf.radius < x + shelf.radius <= shelf.right for x, _ in places)
            assert all(above < y - shelf.radius < y + shelf.radius <= shelf.y for _, y in places)
    for left, right in pairwise(layout.shelves):
        assert left[0].right + layout.words < right[0].left


def test_brackets_have_equal_lengths_at_equal_heights() -> None:
    layout = layout_of(asha(60, mode=Mode.CONSERVATIVE, max_length=256), 856.0)
    assert len(layout.shelves) > 2
    assert len({shelves[-1].y for shelves in layout.shelves}) == 1


def test_a_trial_climbs_straight_above_its_worker() -> None:
    layout = layout_of(asha(40, method=Method.ASYNC_HALVING), 412.0, workers=5)
    for slot in range(5):
        (left, top), (right, _), (_, bottom), _ = layout.worker(slot)
        assert layout.lane(0, slot) == pytest.approx((left + right) / 2)
        assert (top, bottom) == (layout.ground, layout.ground + layout.box)
    heights = [layout.height(0, rung, progress) for rung in range(3) for progress in (0.0, 0.5, 1.0)]
    assert heights == sorted(heights, reverse=True)
    assert layout.height(0, 0, 0.0) < layout.ground


def test_the_best_are_marked_up_to_the_last_of_them() -> None:
    shelf = layout_of(asha(700, method=Method.SYNC_HALVING), 412.0).shelves[0][0]
    assert shelf.rows > 1

    def covered(count: int, rank: int) -> bool:
        x, y = shelf.place(rank)
        return any(a[0] < x < c[0] and a[1] < y < c[1] for a, _, c, _ in shelf.behind(count))

    for count in range(3 * shelf.rows):
        assert [covered(count, rank) for rank in range(20)] == [rank < count for rank in range(20)]
