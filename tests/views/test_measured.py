"""Tests that measurements of a log of a simulation find the times that were simulated."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings

from ashwood.backends.simulated import SimulatedBackend
from ashwood.engine.simulate import simulate
from ashwood.experiment.decisions import CreateTrial, PauseTrial
from ashwood.experiment.entry import Entry, fold
from ashwood.experiment.events import (
    AttemptEnded,
    AttemptStarted,
    CheckpointSaved,
    DriverStarted,
    ValidationReported,
)
from ashwood.experiment.experiment import Experiment
from ashwood.forecast.conditions import Conditions
from ashwood.forecast.costs import Costs
from ashwood.forecast.training import Exchangeable
from ashwood.search.settings import Method, SearchSettings
from ashwood.search.vocabulary import Created, Waits
from ashwood.views.measured import Measured, Measuring
from tests.views import streams
from tests.views.simulate import Workers, asha, spec_of

COSTS = Costs(start=3.0, restore=1.0, save=0.5)


def measure(settings: SearchSettings, *, spread: float = 1.5, period: int | None = None) -> Measured:
    measuring = Measuring()
    spec = spec_of(settings)
    training = Exchangeable(unit_seconds=2.0, spread=spread, noise=0.4)
    backend = SimulatedBackend(spec, training, 6, costs=COSTS, period=period)

    def observe(entries: Sequence[Entry]) -> None:
        fold(measuring, entries)

    simulate(Experiment(spec), backend, observers=[observe])
    found = measuring.result()
    assert found is not None
    return found


@pytest.mark.parametrize("method", [Method.ADAPTIVE_ASHA, Method.ASYNC_HALVING, Method.SYNC_HALVING])
@pytest.mark.parametrize("period", [None, 1])
def test_measured_times_match_simulated_costs(method: Method, period: int | None) -> None:
    found = measure(asha(60, method=method), period=period)
    assert found.trials == 60
    assert found.unit_seconds == pytest.approx(2.0, rel=0.15)
    assert found.spread == pytest.approx(1.5, rel=0.15)
    assert found.start == pytest.approx(3.0, rel=0.1)
    assert found.restore == pytest.approx(1.0, rel=0.3)
    assert found.save == pytest.approx(0.5)
    conditions = Conditions.from_measured(found, 3)
    assert (conditions.workers, conditions.unit_seconds, conditions.spread) == (3, found.unit_seconds, found.spread)
    assert conditions.costs == Costs(start=found.start, restore=found.restore, save=found.save)


def test_equal_trials_have_no_spread() -> None:
    found = measure(asha(60), spread=1.0, period=1)
    assert (found.unit_seconds, found.spread, found.start) == pytest.approx((2.0, 1.0, 3.0))
    assert found.unit_error == pytest.approx(1.0)


def test_pace_includes_start_if_trials_report_once() -> None:
    found = measure(asha(12, method=Method.RANDOM), spread=1.0)
    assert found.start == 0.0
    assert found.unit_seconds == pytest.approx((3 + 64 * 2) / 64)


def test_trial_stopped_without_checkpoint_measures_no_save() -> None:
    found = measure(asha(60, stop_once=True), period=1)
    assert found.save == pytest.approx(0.5)


def test_empty_log_has_no_result() -> None:
    assert Measuring().result() is None


def test_times_of_one_trial_by_hand() -> None:
    measuring = Measuring()
    created = CreateTrial(0, 0, 0, {}, 1, 4, Created(0, 0))
    for at, event, decisions in (
        (100.0, DriverStarted(1), (created,)),
        (107.0, AttemptStarted(0, 1, 0, 0), ()),  # It takes 7 seconds to launch the worker.
        (112.0, ValidationReported(0, 1, 1, {"loss": 0.5}), ()),
        (114.0, ValidationReported(0, 1, 2, {"loss": 0.5}), ()),
        (118.0, ValidationReported(0, 1, 4, {"loss": 0.5}), (PauseTrial(0, 1, Waits(0, 1, 1, 0)),)),
        (120.0, CheckpointSaved(0, 1, 4, "trial-0/length-4-attempt-1"), ()),
        (121.0, AttemptEnded(0, 1, 4), (CreateTrial(1, 0, 1, {}, 2, 4, Created(0, 1)),)),
        (121.5, AttemptStarted(1, 1, 0, 0), ()),
        (126.5, ValidationReported(1, 1, 1, {"loss": 0.5}), ()),
        (128.5, ValidationReported(1, 1, 2, {"loss": 0.5}), ()),
    ):
        measuring.apply(Entry(at, event, decisions))
    found = measuring.result()
    assert found is not None
    assert (found.trials, found.unit_seconds, found.spread, found.launch) == (2, 2.0, None, 7.0)
    assert found.start == 3.0 + 0.25  # The second start was half a second late, which is a quarter on average.
    assert (found.restore, found.save) == (0.0, 3.0)
    assert 1.3 < found.unit_error < 2.0


@given(ran=streams.runs())
@hypothesis_settings(max_examples=50)
def test_any_log_can_be_measured(ran: Workers) -> None:
    measuring = fold(Measuring(), ran.entries)
    found = measuring.result()
    if found is not None:
        assert found.trials > 0
        assert min(found.unit_seconds, found.launch, found.start, found.restore, found.save) >= 0
        assert found.unit_error >= 1
        assert found.spread is None or found.spread >= 1
