"""The steps say what the ladder says, and who stands there in which order."""

from __future__ import annotations

from hypothesis import given

from ashwood.search.rung import ranking_key
from ashwood.views.ladder import Ladder
from ashwood.views.scene import Film, Standing
from ashwood.views.steps import Step, steps
from tests.views.simulate import Workers
from tests.views.streams import runs
from tests.views.test_timeline import timeline_of


@given(ran=runs())
def test_steps_say_what_the_ladder_says(ran: Workers) -> None:
    ladder = Ladder(ran.experiment.spec.search)
    for _, event, decisions in ran.entries:
        ladder.apply(event, decisions)
    for bracket, told in zip(steps(timeline_of(ran)), ladder.brackets, strict=True):
        for step, rung in zip(bracket, told.rungs, strict=True):
            assert (step.length, step.arrived, step.went_on) == (rung.length, rung.arrived, rung.promoted)
            assert len(step.dropped_out) == rung.failed
            assert {stand.trial for stand in step.stands if stand.standing is Standing.WAITS} == rung.waiting
            assert {riser.trial for riser in step.risers} == rung.training


@given(ran=runs())
def test_they_are_the_last_scene_of_the_film(ran: Workers) -> None:
    timeline = timeline_of(ran)
    film = Film(timeline)
    scene = film.scene(film.seconds)
    for bracket, rungs in zip(steps(timeline), scene.brackets, strict=True):
        for step, rung in zip(bracket, rungs, strict=True):
            assert [(stand.trial, stand.standing) for stand in step.stands] == list(rung.seats)
            assert list(step.dropped_out) == list(rung.dropped_out)
            assert step.entitled in (rung.entitled, max(1, rung.entitled))


@given(ran=runs())
def test_the_best_stand_first(ran: Workers) -> None:
    sign = 1 if ran.experiment.spec.smaller_is_better else -1

    def is_ranked(step: Step) -> bool:
        keys = [ranking_key(stand.trial, sign * stand.metric) for stand in step.stands]
        return keys == sorted(keys)

    assert all(is_ranked(step) for bracket in steps(timeline_of(ran)) for step in bracket)


@given(ran=runs())
def test_who_is_on_the_way_is_between_two_steps(ran: Workers) -> None:
    for bracket in steps(timeline_of(ran)):
        for step in bracket:
            assert all(0.0 <= riser.progress <= 1.0 for riser in step.risers)
