"""Tests of the improvements of the best metric."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ashwood.experiment.entry import fold
from ashwood.views import progress
from ashwood.views.progress import POINTS, Improvement, Progress, thinned
from tests.views.simulate import Workers, asha, spec_of


def improvements(seconds: list[float]) -> list[Improvement]:
    return [Improvement(at, 0, 1, -float(place), 0, 1, at) for place, at in enumerate(sorted(seconds))]


@given(st.lists(st.floats(0, 1e9), max_size=300), st.integers(3, 80))
def test_thinned_keeps_first_last_and_best_of_each_stretch(seconds: list[float], most: int) -> None:
    made = improvements(seconds)
    kept = thinned(made, most)
    assert len(kept) <= most
    assert (kept[:1], kept[-1:]) == (made[:1], made[-1:])
    assert kept == [each for each in made if each in kept]
    if len(made) > most:
        stretch = (made[-1].driven - made[0].driven) / (most - 2)
        for each in made:
            then = next(other for other in kept if other.metric <= each.metric)
            assert then.driven - each.driven <= stretch * 1.001


def test_progress_keeps_a_bounded_number_of_improvements(monkeypatch: pytest.MonkeyPatch) -> None:
    workers = Workers(spec_of(asha(1, max_length=4096)), lambda _, length: 1 / length, period=1)
    workers.run()
    whole, few = Progress(workers.experiment.spec), Progress(workers.experiment.spec)
    fold(whole, workers.entries)
    assert len(whole.improvements) > 1_000
    monkeypatch.setattr(progress, "_MOST_IMPROVEMENTS", 100)
    for entry in workers.entries:
        few.apply(entry)
        assert len(few.improvements) <= 100
    assert few.improvements[-1] == whole.improvements[-1]
    assert few.improvements[0] == whole.improvements[0]
    history = few.summary()["improvements"]
    assert len(history) <= POINTS
    assert history[-1][1] == float(f"{whole.improvements[-1].metric:.6g}")
