"""Tests of the state of a search at any moment: consistent, and at the end equal to the ladder."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given

from ashwood.experiment.entry import Entry
from ashwood.experiment.events import DriverStarted
from ashwood.experiment.lifecycle import TrialState
from ashwood.search.settings import Method
from ashwood.views.ladder import Ladder
from ashwood.views.scene import Film, Standing, qualities
from ashwood.views.spending import Spending
from tests.views.simulate import Workers, asha, power_law, spec_of
from tests.views.streams import runs
from tests.views.test_timeline import timeline_of


def film_of(ran: Workers) -> Film:
    return Film(timeline_of(ran))


@given(ran=runs())
def test_last_scene_agrees_with_ladder_and_spending(ran: Workers) -> None:
    film, ladder, spending = film_of(ran), Ladder(ran.experiment.spec.search), Spending()
    for at, event, decisions in ran.entries:
        ladder.apply(Entry(0.0, event, decisions))
        spending.apply(Entry(at, event))
    scene = film.scene(film.seconds)
    assert scene.over
    assert film.seconds == pytest.approx(spending.driver_seconds)
    assert scene.idle_seconds == pytest.approx(spending.slot_seconds - spending.busy_seconds)
    for number, (rungs, bracket) in enumerate(zip(scene.brackets, ladder.brackets, strict=True)):
        for place, (rung, view) in enumerate(zip(rungs, bracket.rungs, strict=True)):
            standings = Counter(seat.standing for seat in rung.seats)
            assert (rung.length, len(rung.seats)) == (view.length, view.arrived)
            assert standings[Standing.WENT_ON] == view.promoted
            assert len(rung.dropped_out) == view.failed
            assert {seat.trial for seat in rung.seats if seat.standing is Standing.WAITS} == view.waiting
            towards = {
                climber.trial for climber in scene.climbers if (climber.bracket, climber.rung) == (number, place)
            }
            assert towards == view.training
    assert scene.completed == sum(trial.state is TrialState.COMPLETED for trial in ran.experiment.trials.values())


@given(ran=runs())
def test_each_scene_is_consistent(ran: Workers) -> None:
    film = film_of(ran)
    before, divisor = None, ran.experiment.spec.search.divisor
    for moment in range(12):
        scene = film.scene(film.seconds * moment / 11)
        slots = [worker.slot for worker in scene.workers]
        assert len(set(slots)) == len(slots)
        busy = {worker.slot: worker.span.trial for worker in scene.workers if worker.span is not None}
        assert len(set(busy.values())) == len(busy)
        for climber in scene.climbers:
            assert 0.0 <= climber.progress <= 1.0
            assert climber.slot is None or busy[climber.slot] == climber.trial
        for rungs in scene.brackets:
            for rung, above in pairwise(rungs):
                went_on = sum(seat.standing is Standing.WENT_ON for seat in rung.seats)
                assert len(above.seats) <= went_on or ran.experiment.spec.search.stop_once
                assert rung.entitled == int(Fraction(len(rung.seats) + len(rung.dropped_out)) / divisor)
        assert 0.0 <= scene.idle <= 1.0
        if before is not None:
            assert scene.idle_seconds >= before.idle_seconds - 1e-9
            assert (scene.created, scene.completed) >= (before.created, before.completed)
        before = scene


def test_sync_halving_rung_is_complete_before_promotion() -> None:
    settings = asha(27, method=Method.SYNC_HALVING, max_length=9, divisor=Fraction(3), num_rungs=3)
    ran = Workers(spec_of(settings), power_law(1), workers=4)
    ran.run()
    film = film_of(ran)
    for moment in range(200):
        scene = film.scene(film.seconds * moment / 199)
        for rung in scene.brackets[0]:
            if any(seat.standing is Standing.WENT_ON for seat in rung.seats):
                assert rung.complete
    assert [len(rung.seats) for rung in scene.brackets[0]] == [27, 9, 3]


def test_film_leaves_out_time_without_driver() -> None:
    ran = Workers(spec_of(asha(12)), power_law(1), workers=2)
    ran.run(stop_after=10)
    paused = ran.entries[-1].at
    ran.clock.now += 10_000.0
    ran.run()
    film = film_of(ran)
    again = next(entry.at for entry in ran.entries if entry.at > paused and isinstance(entry.event, DriverStarted))
    assert again - paused == 10_000.0
    assert film.elapsed(again) == pytest.approx(film.elapsed(paused))
    assert film.elapsed(paused) == pytest.approx(paused - ran.entries[0].at)
    assert film.seconds == pytest.approx(ran.entries[-1].at - ran.entries[0].at - 10_000.0)


def test_quality_ranks_longer_trials_higher() -> None:
    ran = Workers(spec_of(asha(20, method=Method.ASYNC_HALVING)), power_law(1))
    ran.run()
    found = qualities([film_of(ran)])
    paths = timeline_of(ran).paths
    best = max(found, key=found.__getitem__)
    assert (found[best], min(found.values()), len(found)) == (1.0, 0.0, 20)
    assert paths[best].state is TrialState.COMPLETED
    assert sorted(found, key=found.__getitem__) == sorted(
        found, key=lambda trial: (len(paths[trial].arrivals), -paths[trial].arrivals[-1].metric)
    )


def test_scene_of_unstarted_experiment_is_empty() -> None:
    film = Film(timeline_of(Workers(spec_of(asha(4)), power_law(1))))
    scene = film.scene(0.0)
    assert (film.seconds, scene.created, scene.workers, scene.climbers, scene.idle) == (0.0, 0, [], [], 0.0)
