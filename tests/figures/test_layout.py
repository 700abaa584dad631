"""The layout of an animation: elements are inside the picture and don't overlap."""

from __future__ import annotations

from itertools import pairwise

import pytest

from ashwood.figures.layout import Layout
from ashwood.figures.playback import Playback
from ashwood.search.settings import Method, Mode, SearchSettings
from tests.figures.test_playback import playback_of
from tests.views.simulate import Workers, asha, power_law, spec_of

SEARCHES = [
    asha(1),
    asha(40, method=Method.ASYNC_HALVING),
    asha(700, method=Method.SYNC_HALVING),
    asha(60, mode=Mode.CONSERVATIVE, max_length=256),
    asha(9, method=Method.RANDOM),
]


def simulated(settings: SearchSettings, workers: int = 4) -> Playback:
    ran = Workers(spec_of(settings), power_law(1), workers=workers)
    ran.run()
    return playback_of(ran)


def layout_of(settings: SearchSettings, width: float, workers: int = 4) -> Layout:
    return Layout(simulated(settings, workers), 22.0, 52.0, width)


@pytest.mark.parametrize("settings", SEARCHES)
@pytest.mark.parametrize("width", [412.0, 856.0])
def test_trials_at_a_rung_do_not_overlap(settings: SearchSettings, width: float) -> None:
    playback = simulated(settings)
    layout = Layout(playback, 22.0, 52.0, width)
    for rung_lines, rungs in zip(layout.rung_lines, playback.at(playback.seconds).brackets, strict=True):
        tops = [rung_line.y for rung_line in rung_lines[1:]] + [0.0]
        for rung_line, rung, above in zip(rung_lines, rungs, tops, strict=True):
            positions = [rung_line.position(rank) for rank in range(len(rung.ranked))]
            radius = rung_line.radius
            assert len(set(positions)) == len(positions) > 0
            assert all(rung_line.left <= x - radius < x + radius <= rung_line.right for x, _ in positions)
            assert all(above < y - radius < y + radius <= rung_line.y for _, y in positions)
    for left, right in pairwise(layout.rung_lines):
        assert left[0].right + layout.label_width < right[0].left


def test_equal_lengths_of_brackets_are_equally_high() -> None:
    layout = layout_of(asha(60, mode=Mode.CONSERVATIVE, max_length=256), 856.0)
    assert len(layout.rung_lines) > 2
    assert len({rung_lines[-1].y for rung_lines in layout.rung_lines}) == 1


def test_training_trial_moves_up_straight_above_its_worker() -> None:
    layout = layout_of(asha(40, method=Method.ASYNC_HALVING), 412.0, workers=5)
    for slot in range(5):
        (left, top), (right, _), (_, bottom), _ = layout.worker(slot)
        assert layout.training_x(0, slot) == pytest.approx((left + right) / 2)
        assert (top, bottom) == (layout.workers_top, layout.workers_top + layout.box)
    heights = [layout.training_y(0, rung, progress) for rung in range(3) for progress in (0.0, 0.5, 1.0)]
    assert heights == sorted(heights, reverse=True)
    assert layout.training_y(0, 0, 0.0) < layout.workers_top


def test_highlight_covers_exactly_the_first_ranks() -> None:
    rung_line = layout_of(asha(700, method=Method.SYNC_HALVING), 412.0).rung_lines[0][0]
    assert rung_line.rows > 1

    def covered(count: int, rank: int) -> bool:
        x, y = rung_line.position(rank)
        return any(a[0] < x < c[0] and a[1] < y < c[1] for a, _, c, _ in rung_line.highlight(count))

    for count in range(3 * rung_line.rows):
        assert [covered(count, rank) for rank in range(20)] == [rank < count for rank in range(20)]
