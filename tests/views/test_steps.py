"""Tests of the current rungs and their ranked trials."""

from __future__ import annotations

from hypothesis import given

from ashwood.experiment.entry import Entry
from ashwood.search.rung import ranking_key
from ashwood.views.ladder import Ladder
from ashwood.views.scene import Film, Standing
from ashwood.views.steps import Step, steps
from tests.views.simulate import Workers
from tests.views.streams import runs
from tests.views.test_timeline import timeline_of


@given(ran=runs())
def test_steps_agree_with_ladder(ran: Workers) -> None:
    ladder = Ladder(ran.experiment.spec.search)
    for _, event, decisions in ran.entries:
        ladder.apply(Entry(0.0, event, decisions))
    for bracket, told in zip(steps(timeline_of(ran)), ladder.brackets, strict=True):
        for step, rung in zip(bracket, told.rungs, strict=True):
            assert (step.length, step.arrived, step.went_on) == (rung.length, rung.arrived, rung.promoted)
            assert len(step.dropped_out) == rung.failed
            assert {stand.trial for stand in step.stands if stand.standing is Standing.WAITS} == rung.waiting
            assert {riser.trial for riser in step.risers} == rung.training


@given(ran=runs())
def test_steps_agree_with_last_scene(ran: Workers) -> None:
    timeline = timeline_of(ran)
    film = Film(timeline)
    scene = film.scene(film.seconds)
    for bracket, rungs in zip(steps(timeline), scene.brackets, strict=True):
        for step, rung in zip(bracket, rungs, strict=True):
            assert [(stand.trial, stand.standing) for stand in step.stands] == list(rung.seats)
            assert list(step.dropped_out) == list(rung.dropped_out)
            assert step.entitled in (rung.entitled, max(1, rung.entitled))


@given(ran=runs())
def test_trials_at_a_rung_are_sorted_best_first(ran: Workers) -> None:
    sign = 1 if ran.experiment.spec.smaller_is_better else -1

    def is_ranked(step: Step) -> bool:
        keys = [ranking_key(stand.trial, sign * stand.metric) for stand in step.stands]
        return keys == sorted(keys)

    assert all(is_ranked(step) for bracket in steps(timeline_of(ran)) for step in bracket)


@given(ran=runs())
def test_training_trials_have_progress_between_rungs(ran: Workers) -> None:
    for bracket in steps(timeline_of(ran)):
        for step in bracket:
            assert all(0.0 <= riser.progress <= 1.0 for riser in step.risers)
