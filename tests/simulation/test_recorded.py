"""Models that repeat recorded trials."""

import pytest

from ashwood.experiment.entry import fold
from ashwood.search.settings import Method
from ashwood.simulation.recorded import Curve, Point, Recorded
from ashwood.simulation.training import Setting, Trained
from ashwood.views.chronicle import Chronicle
from ashwood.views.recorded import recorded
from tests.views.simulate import Workers, asha, power_law, spec_of

LONG = Curve([Point(1, 1.0), Point(4, 0.4), Point(8, 0.2)], 2.0)
OTHER = Curve([Point(1, 3.0), Point(4, 2.0), Point(8, 1.9)], 5.0)
SHORT = Curve([Point(1, 2.8)], 1.0)


def train(record: Recorded, trial: int, begin: int, end: int, seed: int = 0) -> Trained:
    return record.train(Setting(trial, seed), begin, end)


def test_recorded_trial_repeats_its_curve() -> None:
    record = Recorded([LONG, OTHER, SHORT])
    assert train(record, 0, 0, 4) == Trained(8.0, 0.4)
    assert train(record, 0, 4, 8) == Trained(8.0, 0.2)
    assert train(record, 0, 4, 6).loss == pytest.approx(0.3)
    assert train(record, 0, 0, 20).loss == 0.2


def test_stopped_trial_continues_parallel_to_nearest_longer_curve() -> None:
    record = Recorded([SHORT, LONG, OTHER])
    assert train(record, 0, 1, 4) == pytest.approx((3.0, 1.8))
    assert train(record, 0, 0, 8).loss == pytest.approx(1.7)


def test_unrecorded_trials_repeat_recorded_ones() -> None:
    record = Recorded([LONG, OTHER])
    losses = {train(record, 100 + seed, 0, 8, seed).loss for seed in range(20)}
    assert losses == {0.2, 1.9}


@pytest.mark.parametrize("curves", [[], [Curve([], 1.0)]])
def test_recorded_without_points_raises(curves: list[Curve]) -> None:
    with pytest.raises(ValueError, match="needs"):
        Recorded(curves)


def test_recorded_repeats_metrics_of_event_log() -> None:
    spec = spec_of(asha(27, method=Method.RANDOM, max_length=9))
    ran = Workers(spec, power_law(3), workers=3, period=1)
    history = fold(Chronicle(spec), ran.run())
    record = recorded(history)
    for trial in history.progress.trials.rows:
        for report in history.history.reports.of(trial):
            assert train(record, trial, 0, report.length).loss == pytest.approx(report.metrics["loss"])
        assert 5.0 <= train(record, trial, 0, 1).seconds <= 15.0
