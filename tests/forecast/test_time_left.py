"""Tests of the time left of running experiments, against the time that they then took."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import replace
from math import inf
from statistics import median

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ashwood.backends.simulated import SimulatedBackend
from ashwood.engine.simulate import simulate
from ashwood.experiment.entry import Entry, fold
from ashwood.experiment.events import AttemptStarted, DriverStarted, Event, SettingsChanged, ValidationReported
from ashwood.experiment.experiment import Experiment
from ashwood.experiment.lifecycle import ExperimentState
from ashwood.experiment.spec import ExperimentSpec
from ashwood.forecast.costs import Costs
from ashwood.forecast.play import play
from ashwood.forecast.time_left import Forecast, Forecaster
from ashwood.forecast.training import PowerLaw
from ashwood.search.settings import Method, Mode, SearchSettings
from ashwood.views.progress import Progress
from tests.views import streams
from tests.views.simulate import Workers, asha, spec_of

COSTS = Costs(start=2.0, restore=1.0, save=1.0)


class Watched:
    """A simulated experiment, and the forecasts during it."""

    def __init__(self, spec: ExperimentSpec, workers: int, *, every: float, spread: float = 1.5) -> None:
        self.progress = Progress(spec)
        forecaster = Forecaster(self.progress)
        self.forecasts: list[tuple[float, Forecast]] = []
        experiment = Experiment(spec)
        self.progress.search = experiment.search
        training = PowerLaw(max_length=spec.search.max_length, unit_seconds=2.0, spread=spread)
        backend = SimulatedBackend(spec, training, workers, costs=COSTS)
        due = 0.0

        def observe(entries: Sequence[Entry]) -> None:
            nonlocal due
            fold(self.progress, entries)
            at = entries[-1].at
            forecaster.look(at)
            if at >= due and self.progress.state is ExperimentState.RUNNING:
                due = at + every
                self.forecasts.append((at, forecaster.forecast(at)))

        simulate(experiment, backend, observers=[observe])
        self.end = backend.clock.now


def forecaster_of(ran: Workers, entries: Sequence[Entry]) -> Forecaster:
    """Return a forecaster of an experiment that has had these entries."""
    progress = Progress(ran.spec)
    progress.search = ran.experiment.search
    forecaster = Forecaster(fold(progress, entries))
    forecaster.look(entries[-1].at)
    return forecaster


@pytest.mark.parametrize(
    ("settings", "workers"),
    [
        (asha(60), 8),
        pytest.param(asha(40, max_length=256), 16, marks=pytest.mark.slow),
        (asha(60, stop_once=True), 8),
        (asha(24, method=Method.RANDOM), 8),
        (asha(40, method=Method.SYNC_HALVING), 8),
        (asha(80, mode=Mode.AGGRESSIVE, max_concurrent_trials=0), 30),
    ],
    ids=["standard", "long", "stop_once", "random", "sync", "many workers"],
)
def test_time_left_is_about_right_during_whole_search(settings: SearchSettings, workers: int) -> None:
    hits, ratios = [], []
    for seed in range(3):
        watched = Watched(replace(spec_of(settings), seed=seed), workers, every=25.0)
        for at, forecast in watched.forecasts:
            left, actual = forecast.time_left, watched.end - at
            if left is not None and actual > 0.02 * watched.end:
                assert 0 <= left.low <= left.middle <= left.high
                assert forecast.seconds == left.middle
                hits.append(left.low * 0.99 <= actual <= left.high * 1.01)
                ratios.append(left.middle / actual)
    assert len(hits) > 4
    # Forecasts of one experiment are right or wrong together, and there are few experiments, so the limits are wide.
    assert sum(hits) / len(hits) >= 0.5
    assert 0.7 < median(ratios) < 1.4


def test_time_left_includes_last_long_trials() -> None:
    """There are few long trials on many workers at the end, so the pace so far says nothing about it."""
    watched = Watched(replace(spec_of(asha(60, max_concurrent_trials=0)), seed=1), 30, every=1.0, spread=1.0)
    progress = watched.progress
    at, forecast = next((at, each) for at, each in watched.forecasts if at > 0.6 * watched.end)
    assert forecast.time_left is not None
    assert forecast.time_left.middle == pytest.approx(watched.end - at, rel=0.3)
    by_pace = progress.trials.spending.seconds_to_train(forecast.total_length * (1 - forecast.fraction), at)
    assert by_pace is None or by_pace < 0.3 * (watched.end - at)


def test_second_call_at_once_simulates_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    plays: list[int] = []

    def counted(*arguments: object, **more: object) -> object:
        plays.append(1)
        return play(*arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr("ashwood.forecast.time_left.play", counted)
    watched = Watched(spec_of(asha(40)), 4, every=60.0)
    before = len(plays)
    assert before > 10
    # There are many more entries than forecasts, and a second call shortly after has a result too.
    ran = Workers(spec_of(asha(40)), lambda trial, length: trial + 1 / length, workers=4)
    forecaster = forecaster_of(ran, ran.run(stop_after=60, crash=True))
    now = ran.entries[-1].at
    first = forecaster.forecast(now)
    after = len(plays)
    assert forecaster.forecast(now) == first
    assert forecaster.forecast(now + 0.01).time_left is not None
    assert len(plays) == after
    assert watched.end > 0


def test_very_large_search_is_estimated_by_pace() -> None:
    ran = Workers(spec_of(asha(1_300)), lambda trial, length: trial + 1 / length, workers=4)
    forecaster = forecaster_of(ran, ran.run(stop_after=60, crash=True))
    now = ran.entries[-1].at
    forecast = forecaster.forecast(now)
    assert forecast.time_left is None
    assert forecast.seconds is not None
    assert forecast.seconds > 0
    assert forecaster.forecast(now, patience=60.0).time_left is not None


def test_max_time_limits_time_left() -> None:
    spec = replace(spec_of(asha(40)), max_time=10_000.0)
    ran = Workers(spec, lambda trial, length: trial + 1 / length, workers=2)
    entries = ran.run(stop_after=40, crash=True)
    forecaster = forecaster_of(ran, entries)
    now = entries[-1].at
    unbound = forecaster.forecast(now).seconds
    assert unbound is not None
    settings = SettingsChanged({"max_time": now - entries[0].at + 5.0})
    forecaster.progress.apply(Entry(now, settings, ran.experiment.handle(settings)))
    assert forecaster.forecast(now).seconds == pytest.approx(5.0)


def test_pausing_experiment_has_no_simulated_time_left() -> None:
    ran = Workers(spec_of(asha(40)), lambda trial, length: trial + 1 / length, workers=2)
    forecaster = forecaster_of(ran, ran.run(stop_after=40))
    assert forecaster.forecast(ran.entries[-1].at).time_left is None


def test_snapshot_of_progress_leaves_out_search() -> None:
    ran = Workers(spec_of(asha(40)), lambda trial, length: trial + 1 / length, workers=2)
    forecaster = forecaster_of(ran, ran.run(stop_after=40, crash=True))
    progress = forecaster.progress
    forecaster.forecast(ran.entries[-1].at)
    experiment, again = pickle.loads(pickle.dumps((ran.experiment, progress)))
    assert again.expected_arrivals == progress.expected_arrivals
    assert again.search is None, "it belongs to the experiment"
    again.search = experiment.search
    forecaster = Forecaster(again)
    forecaster.look(ran.entries[-1].at)
    assert forecaster.forecast(ran.entries[-1].at).time_left is not None


@given(ran=streams.workers())
@hypothesis_settings(max_examples=20)
def test_forecast_works_at_any_moment(ran: Workers) -> None:
    for stop_after in (1, 7, 11, 30):
        if ran.experiment.state.ended:
            break
        ran.run(stop_after=stop_after, crash=True)
        forecaster = forecaster_of(ran, ran.entries)
        now = ran.entries[-1].at
        for later in (0.0, 3.0):
            left = forecaster.forecast(now + later).time_left
            assert left is None or 0 <= left.low <= left.middle <= left.high


@given(
    paces=st.lists(st.sampled_from([0.0, 1e-12, 1e-3, 1.0, 1e3, 1e12]), min_size=1, max_size=8),
    elapsed=st.sampled_from([0.0, 1e-9, 1.0, 1e9]),
)
@hypothesis_settings(max_examples=40)
def test_forecast_survives_extreme_durations(paces: list[float], elapsed: float) -> None:
    """An exception in a forecast would end the driver."""
    spec = spec_of(asha(12))
    experiment, progress = Experiment(spec), Progress(spec)
    progress.search = experiment.search
    forecaster = Forecaster(progress)
    at = 0.0

    def tell(event: Event) -> None:
        progress.apply(Entry(at, event, experiment.handle(event)))

    tell(DriverStarted(len(paces)))
    for slot in range(len(paces)):
        tell(AttemptStarted(slot, 1, slot, 0))
    for slot, pace in enumerate(paces):
        at += pace
        if experiment.trials[slot].target > 1:
            tell(ValidationReported(slot, 1, 1, {"loss": 0.5}))
    forecaster.look(at)
    left = forecaster.forecast(at + elapsed).time_left
    assert left is None or 0 <= left.low <= left.middle <= left.high < inf
