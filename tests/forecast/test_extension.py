"""Forecasts of an extension: they count what the extended search then trains."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from ashwood.errors import SearchError
from ashwood.experiment.checkpoints import Checkpoint
from ashwood.experiment.entry import fold
from ashwood.forecast.extension import ExtensionForecast, LostTraining, forecast_extension
from ashwood.forecast.time_left import Forecaster
from ashwood.search.settings import NO_LENGTH, Method, SearchSettings
from ashwood.views.progress import Progress
from tests.views.simulate import Workers, power_law, spec_of


def ran(settings: SearchSettings, max_size: int | None = None, seed: int = 3) -> Workers:
    """Return workers that have run a search to its end; each trial takes 10 s for one unit on average."""
    workers = Workers(replace(spec_of(settings), max_size=max_size), power_law(seed), workers=2, size=10)
    workers.run()
    return workers


def forecast(
    ran: Workers, max_trials: int | None, max_length: int | None, saved: dict[int, int] | None = None
) -> ExtensionForecast:
    kept = [Checkpoint(trial, str(length), length, None) for trial, length in (saved or {}).items()]
    return forecast_extension(
        ran.experiment,
        fold(Progress(ran.spec), ran.entries),
        list(ran.experiment.checkpoints) if saved is None else kept,
        max_trials=max_trials,
        max_length=max_length,
        workers=2,
        now=ran.clock(),
        is_driven=False,
    )


def test_forecast_counts_what_a_random_search_trains() -> None:
    workers = ran(SearchSettings(method=Method.RANDOM, max_length=10, max_trials=8))
    found = forecast(workers, 10, 15)
    assert (found.created, found.continued, found.length, found.lost) == (2, 8, 8 * 5 + 2 * 15, [])
    assert found.seconds is not None
    before = workers.clock()
    workers.extend(10, 15)
    workers.run()
    assert found.seconds.low / 2 < workers.clock() - before < 2 * found.seconds.high
    progress = fold(Progress(workers.spec), workers.entries)
    assert progress.length_trained == 8 * 10 + found.length
    assert (progress.length_repeated, progress.trials_planned, progress.spec.search.max_length) == (0, 10, 15)
    assert Forecaster(progress).forecast().total_length == progress.length_trained


def test_forecast_names_trials_that_train_again() -> None:
    workers = ran(SearchSettings(method=Method.RANDOM, max_length=10, max_trials=3))
    found = forecast(workers, None, 12, {0: 10, 1: 4})
    assert found.lost == [LostTraining(1, 10, 4, 1.0), LostTraining(2, 10, 0, 1.0)]
    assert (found.repeated, found.length) == (16, 3 * 2 + 16)


def test_forecast_of_halving_search_agrees_with_its_rest() -> None:
    workers = ran(SearchSettings(method=Method.ASYNC_HALVING, max_length=9, max_trials=27, divisor=Fraction(3)))
    before = fold(Progress(workers.spec), workers.entries).length_trained
    found = forecast(workers, None, 30)
    assert found.settings.bracket_lengths == ((1, 3, 9, 27, 30),)
    workers.extend(None, 30)
    paused = fold(Progress(workers.spec), workers.entries)
    assert Forecaster(paused).forecast().fraction < 1
    workers.run()
    trained = fold(Progress(workers.spec), workers.entries).length_trained - before
    assert found.length == pytest.approx(trained, rel=0.5)


@pytest.mark.parametrize("max_size", [None, 20])
def test_forecast_counts_training_repeated_because_of_max_size(max_size: int | None) -> None:
    settings = SearchSettings(method=Method.ASYNC_HALVING, max_length=9, max_trials=27, divisor=Fraction(3))
    forecasts, lengths, repeated = [], 0, 0
    for seed in range(4):  # One search repeats training or does not, so only the mean of several can be compared.
        workers = ran(settings, max_size, seed)
        before = fold(Progress(workers.spec), workers.entries)
        lengths -= before.length_trained + before.length_repeated
        repeated -= before.repeated_for_size
        forecasts.append(forecast(workers, 81, 27))
        workers.extend(81, 27)
        workers.run()
        after = fold(Progress(workers.spec), workers.entries)
        lengths += after.length_trained + after.length_repeated
        repeated += after.repeated_for_size
    assert {found.max_size for found in forecasts} == {max_size}
    assert (repeated > 0) == (max_size is not None)
    assert sum(found.repeated + found.repeated_for_size for found in forecasts) == pytest.approx(repeated, rel=0.5)
    assert sum(found.length for found in forecasts) == pytest.approx(lengths, rel=0.2)


def test_forecast_without_length_counts_trials_only() -> None:
    workers = ran(SearchSettings(method=Method.RANDOM, max_length=10, max_trials=3))
    with pytest.raises(SearchError, match="max_length must be more than the present 10"):
        forecast(workers, None, 10)
    workers.spec = spec_of(SearchSettings(method=Method.RANDOM, max_length=NO_LENGTH, max_trials=3))
    open_ended = Workers(workers.spec, power_law(3))
    found = forecast(open_ended, 5, None)
    assert (found.created, found.seconds) == (5, None)
