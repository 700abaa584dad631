"""Tests of the states of a recorded search over time."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given

from ashwood.experiment.entry import fold
from ashwood.experiment.events import DriverStarted
from ashwood.experiment.lifecycle import TrialState
from ashwood.figures.playback import Playback, qualities
from ashwood.search.settings import Method
from ashwood.views.progress import Progress
from tests.views.simulate import Workers, asha, power_law, spec_of
from tests.views.streams import runs


def playback_of(ran: Workers) -> Playback:
    return Playback(fold(Progress(ran.spec), ran.entries))


@given(ran=runs())
def test_last_moment_agrees_with_ladder_and_spending(ran: Workers) -> None:
    progress = fold(Progress(ran.spec), ran.entries)
    playback, spending = Playback(progress), progress.trials.spending
    moment = playback.at(playback.seconds)
    assert moment.is_last
    assert playback.seconds == pytest.approx(spending.driver_seconds)
    idle = spending.slot_seconds - spending.busy_seconds
    assert moment.idle == pytest.approx(idle / spending.slot_seconds if spending.slot_seconds else 0.0)
    assert repr(moment.brackets) == repr(progress.ladder.now())
    assert moment.completed == progress.trials.states[TrialState.COMPLETED]


@given(ran=runs())
def test_each_moment_is_consistent(ran: Workers) -> None:
    playback = playback_of(ran)
    before = 0
    for number in range(12):
        moment = playback.at(playback.seconds * number / 11)
        busy = [span.trial for span in moment.workers.values() if span is not None]
        assert len(set(busy)) == len(busy)
        for trial in moment.training:
            assert 0.0 <= trial.progress <= 1.0
            span = moment.workers[trial.slot]
            assert span is not None
            assert span.trial == trial.trial
        for rungs in moment.brackets:
            for rung, above in pairwise(rungs):
                assert len(above.ranked) <= rung.promoted or ran.spec.search.stop_once
        assert 0.0 <= moment.idle <= 1.0
        assert moment.completed >= before
        before = moment.completed


def test_sync_halving_promotes_from_complete_rungs_only() -> None:
    settings = asha(27, method=Method.SYNC_HALVING, max_length=9, divisor=Fraction(3), num_rungs=3)
    ran = Workers(spec_of(settings), power_law(1), workers=4)
    ran.run()
    playback = playback_of(ran)
    for number in range(200):
        moment = playback.at(playback.seconds * number / 199)
        for rung, expected in zip(moment.brackets[0], (27, 9, 3), strict=True):
            assert not rung.promoted or len(rung.ranked) == expected
    assert [len(rung.ranked) for rung in moment.brackets[0]] == [27, 9, 3]


def test_playback_leaves_out_time_without_driver() -> None:
    ran = Workers(spec_of(asha(12)), power_law(1), workers=2)
    ran.run(stop_after=10)
    paused = ran.entries[-1].at
    ran.clock.now += 10_000.0
    ran.run()
    playback = playback_of(ran)
    again = next(entry.at for entry in ran.entries if entry.at > paused and isinstance(entry.event, DriverStarted))
    assert again - paused == 10_000.0
    assert playback.elapsed(again) == pytest.approx(playback.elapsed(paused))
    assert playback.elapsed(paused) == pytest.approx(paused - ran.entries[0].at)
    assert playback.seconds == pytest.approx(ran.entries[-1].at - ran.entries[0].at - 10_000.0)


def test_quality_ranks_longer_trials_higher() -> None:
    ran = Workers(spec_of(asha(20, method=Method.ASYNC_HALVING)), power_law(1))
    ran.run()
    found = qualities([playback_of(ran).ladder])
    paths = playback_of(ran).ladder.paths
    best = max(found, key=found.__getitem__)
    assert (found[best], min(found.values()), len(found)) == (1.0, 0.0, 20)
    assert paths[best].state is TrialState.COMPLETED
    assert sorted(found, key=found.__getitem__) == sorted(
        found, key=lambda trial: (len(paths[trial].arrivals), -paths[trial].arrivals[-1].metric)
    )


def test_moment_of_unstarted_experiment_is_empty() -> None:
    playback = playback_of(Workers(spec_of(asha(4)), power_law(1)))
    moment = playback.at(0.0)
    assert (playback.seconds, moment.workers, moment.training, moment.idle) == (0.0, {}, [], 0.0)
