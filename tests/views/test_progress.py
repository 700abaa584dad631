"""Tests of progress: counts against the experiment, and steady forecasts."""

from __future__ import annotations

import json
import pickle
from itertools import pairwise

import pytest
from hypothesis import given

from ashwood.experiment.decisions import Warn
from ashwood.experiment.entry import Entry, fold
from ashwood.experiment.events import (
    AttemptFailed,
    AttemptStarted,
    DriverStarted,
    DriverStopped,
    Event,
    ExtendRequested,
    HparamsInvalid,
    PauseRequested,
    SettingsChanged,
    ValidationReported,
)
from ashwood.experiment.experiment import Experiment
from ashwood.experiment.lifecycle import ExperimentState, TrialState
from ashwood.forecast.time_left import Forecast, Forecaster
from ashwood.search.settings import Method, SearchSettings
from ashwood.views.progress import Progress
from tests.views.simulate import Workers, asha, power_law, spec_of
from tests.views.streams import runs, workers


def progress_of(ran: Workers) -> Progress:
    return fold(Progress(ran.spec), ran.entries)


def history(settings: SearchSettings, *events: Event) -> Progress:
    spec = spec_of(settings)
    progress, experiment = Progress(spec), Experiment(spec)
    for at, event in enumerate(events):
        progress.apply(Entry(float(at), event, experiment.handle(event)))
    return progress


def report(trial: int, length: int) -> ValidationReported:
    return ValidationReported(trial, 1, length, {"loss": 0.5})


@given(ran=runs())
def test_progress_agrees_with_the_experiment(ran: Workers) -> None:
    progress = progress_of(ran)
    assert progress.state is ran.experiment.state
    assert progress.reports == sum(isinstance(entry.event, ValidationReported) for entry in ran.entries)
    planned = [
        trial
        for trial, found in ran.experiment.trials.items()
        if trial not in ran.experiment.search.replicates.created and found.state is not TrialState.INVALID
    ]
    assert progress.trials_created == len(planned) <= progress.trials_planned
    assert progress.replicates_created == len(ran.experiment.search.replicates.created)
    assert progress.failed_attempts == sum(isinstance(entry.event, AttemptFailed) for entry in ran.entries)
    warnings = [decision.message for entry in ran.entries for decision in entry.decisions if isinstance(decision, Warn)]
    assert progress.warnings == len(warnings)
    assert list(progress.recent_warnings) == warnings[-20:]
    if (best := progress.best) is not None:
        metrics = (
            row.metric for row in progress.trials.rows.values() if row.state != "invalid" and row.original is None
        )
        finite = [metric for metric in metrics if metric is not None]
        assert best.metric == (min if ran.spec.smaller_is_better else max)(finite)
    if (seen := progress.seen) is not None:
        reports = (row.seen for row in progress.trials.rows.values() if row.state != "invalid" and row.original is None)
        finite = [metric for metric in reports if metric is not None]
        assert seen.metric == (min if ran.spec.smaller_is_better else max)(finite)
        assert best is None or progress.trials.improves(seen.metric, best.metric)


@given(ran=runs())
def test_summaries_are_json_and_forecasts_are_shares(ran: Workers) -> None:
    progress = fold(Progress(ran.spec), ran.entries)
    summary = Forecaster(progress).summary()
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    total, fraction, seconds, _ = Forecaster(progress).forecast(ran.entries[-1].at)
    assert 0.0 <= fraction <= 1.0
    assert total >= progress.length_trained
    assert seconds is None or seconds >= 0.0
    if progress.state.ended:
        assert (fraction, seconds) == (1.0, 0.0)
    elif progress.state is ExperimentState.PAUSED:
        assert seconds is None


@given(ran=workers(faults=False))
def test_forecast_of_ended_search_is_complete(ran: Workers) -> None:
    progress = fold(Progress(ran.spec), ran.run()[:-1])
    assert Forecaster(progress).forecast().total_length == pytest.approx(progress.length_trained)
    assert Forecaster(progress).forecast().fraction == pytest.approx(1.0)


@pytest.mark.parametrize(
    "settings",
    [
        asha(60),
        asha(60, stop_once=True),
        asha(60, method=Method.ASYNC_HALVING, max_length=256),
        asha(60, method=Method.SYNC_HALVING),
        asha(30, method=Method.RANDOM),
    ],
    ids=lambda settings: f"{settings.method}{'-stop' * settings.stop_once}",
)
@pytest.mark.parametrize("slots", [1, 8])
def test_forecast_is_steady_and_about_right(settings: SearchSettings, slots: int) -> None:
    ran = Workers(spec_of(settings), power_law(3), workers=slots, seed=5)
    progress = Progress(ran.spec)
    forecaster = Forecaster(progress)
    forecasts: list[tuple[float, Forecast]] = []
    for entry in ran.run():
        progress.apply(entry)
        if not progress.state.ended:
            forecasts.append((entry.at, forecaster.forecast(entry.at)))
    trained, begin, end = progress.length_trained, ran.entries[0].at, ran.entries[-1].at
    fractions = [forecast.fraction for _, forecast in forecasts]
    assert fractions[0] == 0.0
    assert fractions[-1] == pytest.approx(1.0, abs=0.02)
    # It can become smaller after an unexpected promotion, but only a little.
    assert all(after > before - 0.04 for before, after in pairwise(fractions))
    assert all(0.6 * trained < forecast.total_length < 1.5 * trained for _, forecast in forecasts)
    halfway = begin + (end - begin) / 2
    seconds = next(forecast.seconds for at, forecast in forecasts if at >= halfway)
    assert seconds is not None
    assert 0.3 * (end - halfway) < seconds < 2.0 * (end - halfway)


def test_no_time_left_before_first_report() -> None:
    spec = spec_of(asha(20))
    experiment, progress = Experiment(spec), Progress(spec)
    assert progress.state is ExperimentState.CREATED
    assert Forecaster(progress).forecast(1.0).seconds is None
    progress.apply(Entry(1.0, started := DriverStarted(2), experiment.handle(started)))
    assert Forecaster(progress).forecast(2.0).seconds is None
    assert progress.best is None
    assert progress.summary()["trials"] == {"running": 2}


def test_best_has_trial_length_and_time() -> None:
    spec = spec_of(asha(20, max_length=64))
    experiment, progress = Experiment(spec), Progress(spec)
    for at, event in (
        (1.0, DriverStarted(2)),
        (2.0, ValidationReported(1, 1, 1, {"loss": 0.5})),
        (3.0, ValidationReported(0, 1, 1, {"loss": 0.7})),
    ):
        progress.apply(Entry(at, event, experiment.handle(event)))
    assert progress.best is not None
    assert progress.best._asdict() == {"trial": 1, "metric": 0.5, "length": 1, "at": 2.0}
    assert progress.summary()["best"] == {"trial": 1, "metric": 0.5, "length": 1, "at": 2.0}


@pytest.mark.parametrize("later", [ExtendRequested(max_length=8), SettingsChanged({"max_time": 60.0})])
def test_invalid_point_of_a_grid_stays_left_out_of_the_planned_trials(later: Event) -> None:
    started = DriverStarted(2), AttemptStarted(0, 1, 0, 0), AttemptStarted(1, 1, 1, 0)
    grid = asha(2, method=Method.GRID, max_length=4)
    progress = history(grid, *started, HparamsInvalid(1, 1, "too wide"), later)
    assert progress.ladder.brackets[0].planned == 1


def test_trial_that_an_extension_reopens_trains_to_the_new_length() -> None:
    search = asha(2, method=Method.RANDOM, max_length=4)
    started = DriverStarted(1), AttemptStarted(0, 1, 0, 0)
    paused = report(0, 4), PauseRequested(), DriverStopped(), ExtendRequested(max_length=8), DriverStarted(1)
    progress = history(search, *started, *paused)
    assert [row.target for row in progress.trials.rows.values()] == [8, 4]


def test_value_is_computed_once_until_the_next_entry() -> None:
    progress, calls = history(asha(4), DriverStarted(1)), list[int]()

    def compute() -> int:
        calls.append(progress.reports)
        return progress.reports

    assert [progress.once("reports", compute) for _ in range(3)] == [0, 0, 0]
    progress.apply(Entry(9.0, report(0, 1), ()))
    assert [progress.once("reports", compute) for _ in range(3)] == [1, 1, 1]
    assert calls == [0, 1]
    restored: Progress = pickle.loads(pickle.dumps(progress))
    assert restored.once("reports", lambda: 7) == 7, "a snapshot has computed values"
