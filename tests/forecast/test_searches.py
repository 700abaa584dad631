"""Tests of forecasts of time and cost, by hand if possible, and against simulated experiments."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from ashwood.backends.simulated import SimulatedBackend
from ashwood.engine.simulate import simulate as run_simulated
from ashwood.experiment.decisions import DeleteCheckpoint
from ashwood.experiment.entry import Entry
from ashwood.experiment.events import CheckpointSaved
from ashwood.experiment.experiment import Experiment
from ashwood.experiment.spec import CheckpointPolicy
from ashwood.forecast.conditions import Conditions, simulate
from ashwood.forecast.costs import Costs
from ashwood.forecast.searches import (
    Prices,
    SearchForecast,
    alternatives,
    forecast_alternatives,
    forecast_search,
    forecast_storage,
    full_trainings,
    in_mode,
    simulate_checkpoints,
)
from ashwood.forecast.training import Exchangeable, PowerLaw
from ashwood.search.settings import AUTO_DEFAULTS, Method, Mode, Sampler, SearchSettings
from tests.views.simulate import asha, spec_of

NO_PRICES = Prices()
COSTS = Costs(start=4.0, restore=1.0, save=2.0)


def forecast(
    settings: SearchSettings,
    conditions: Conditions,
    prices: Prices = NO_PRICES,
    count: int = 19,
) -> SearchForecast:
    courses = [simulate(settings, number=number, conditions=conditions) for number in range(count)]
    return forecast_search(settings, conditions, prices, courses)


def test_forecast_of_random_search_by_hand() -> None:
    settings = asha(6, method=Method.RANDOM, max_length=10)
    conditions = Conditions(workers=4, unit_seconds=3.0, spread=1.0, costs=COSTS)
    found = forecast(settings, conditions, Prices(worker_hour=2.0, checkpoint_bytes=5.0))
    each = 4 + 30 + 2
    assert found.seconds == (2 * each,) * 3
    assert found.worker_hours.middle == pytest.approx(4 * 2 * each / 3600)
    assert found.cost is not None
    assert found.cost.high == pytest.approx(2 * found.worker_hours.high)
    assert found.utilisation.middle == pytest.approx(6 / 8)
    assert found.tail_seconds.middle == each
    assert found.first_end_seconds.middle == 34
    assert found.paused.high == 0
    assert found.full_length.low == 6
    assert found.checkpoints is found.disk_bytes is None


def test_full_trainings_by_hand() -> None:
    settings = asha(6, max_length=10)
    conditions = Conditions(workers=4, unit_seconds=3.0, costs=COSTS, launch=100.0)
    each = 4 + 30 + 2
    assert full_trainings(settings, conditions, 100 + 2 * each - 1) == 4
    assert full_trainings(settings, conditions, 100 + 2 * each) == 8
    assert full_trainings(replace(settings, max_concurrent_trials=3), conditions, 100 + 2 * each) == 6


def test_launch_time_varies_and_is_added() -> None:
    settings = asha(6, method=Method.RANDOM, max_length=10)
    at_once = forecast(settings, Conditions(workers=4, spread=1.0))
    later = forecast(settings, Conditions(workers=4, spread=1.0, launch=100.0))
    assert 80 < later.seconds.middle - at_once.seconds.middle < 125
    assert later.seconds.high > 1.1 * later.seconds.middle
    assert later.tail_seconds == pytest.approx(at_once.tail_seconds)
    assert later.first_end_seconds.middle > 80


def test_worker_hours_include_idle_workers() -> None:
    settings = asha(40, max_concurrent_trials=4)
    few, many = (forecast(settings, Conditions(workers=workers, spread=1.0)) for workers in (4, 16))
    assert many.seconds == few.seconds
    assert many.worker_hours.middle == pytest.approx(4 * few.worker_hours.middle)
    assert many.utilisation.middle == pytest.approx(few.utilisation.middle / 4)


def test_unknown_conditions_widen_range() -> None:
    settings = asha(60, max_length=16)
    known = forecast(settings, Conditions(workers=1, spread=1.5))
    unsure = forecast(settings, Conditions(workers=1, spread=1.5, unit_trials=2))
    vague = forecast(settings, Conditions(workers=1, spread=1.5, spread_trials=2))
    assert unsure.seconds.high / unsure.seconds.low > 1.3 * known.seconds.high / known.seconds.low
    assert vague.seconds.high / vague.seconds.low > 1.1 * known.seconds.high / known.seconds.low
    certain = forecast(settings, Conditions(workers=1, spread=1.0, unit_trials=2, spread_trials=2))
    assert certain == forecast(settings, Conditions(workers=1, spread=1.0))


@pytest.mark.parametrize(
    "settings",
    [
        asha(60),
        asha(60, stop_once=True),
        asha(50, mode=Mode.AGGRESSIVE, max_concurrent_trials=0),
        asha(50, method=Method.SYNC_HALVING),
        asha(40, method=Method.ASYNC_HALVING, max_length=27, divisor=Fraction(3)),
    ],
    ids=lambda settings: f"{settings.method}{'-stop' * settings.stop_once}",
)
def test_range_holds_for_experiments(settings: SearchSettings) -> None:
    """The experiments have other learning curves than the simulations of the preview."""
    conditions = Conditions(workers=6, unit_seconds=2.0, spread=1.4, costs=COSTS)
    found = forecast(settings, conditions, count=99)
    hits = 0
    for seed in range(30):
        spec = replace(spec_of(settings), seed=seed)
        training = PowerLaw(max_length=settings.max_length, unit_seconds=2.0, spread=1.4)
        backend = SimulatedBackend(spec, training, 6, costs=COSTS)
        run_simulated(Experiment(spec), backend)
        hits += found.seconds.low <= backend.clock.now <= found.seconds.high
    # It is 80 % of 30, within three standard deviations of a binomial distribution.
    assert 18 <= hits <= 30


def test_simulations_of_different_searches_have_same_draws() -> None:
    settings, conditions = asha(8, max_length=4), Conditions(workers=4)
    rows = list(forecast_alternatives(settings, conditions, Prices()))
    again = list(forecast_alternatives(settings, conditions, Prices()))
    assert rows == again
    assert [row.simulations for row in rows] == [99] * len(rows)


# -- alternatives -------------------------------------------------------------------------------


def test_alternatives_are_other_modes_and_methods() -> None:
    found = list(alternatives(asha(200, max_length=256)))
    assert [(each.method, each.mode) for each in found[:3]] == [
        (Method.ADAPTIVE_ASHA, Mode.AGGRESSIVE),
        (Method.ADAPTIVE_ASHA, Mode.CONSERVATIVE),
        (Method.ADAPTIVE_ASHA, Mode.AUTO),
    ]
    assert [each.method for each in found[3:]] == [Method.SYNC_HALVING, Method.RANDOM]
    assert {each.max_trials for each in found} == {200}


def test_equal_alternative_is_left_out() -> None:
    found = list(alternatives(asha(200, max_length=2)))  # Only mode auto has room for more than one rung.
    assert [each.mode for each in found if each.method is Method.ADAPTIVE_ASHA] == [Mode.AUTO]


def test_alternatives_ignore_bracket_rungs() -> None:
    found = list(alternatives(asha(200, max_length=256, bracket_rungs=(3,))))
    assert [each.mode for each in found if each.method is Method.ADAPTIVE_ASHA] == list(Mode)
    assert not any(each.bracket_rungs for each in found)


def test_in_mode_replaces_only_default_settings() -> None:
    standard = asha(200)
    auto = in_mode(standard, Mode.AUTO)
    assert (auto.divisor, auto.max_rungs, auto.sampler) == (
        AUTO_DEFAULTS.divisor,
        AUTO_DEFAULTS.max_rungs,
        Sampler.DENSITY,
    )
    assert in_mode(auto, Mode.STANDARD) == standard
    chosen = replace(standard, divisor=Fraction(3), max_rungs=4)
    assert in_mode(chosen, Mode.AUTO) == replace(
        chosen, mode=Mode.AUTO, sampler=Sampler.DENSITY, audit=AUTO_DEFAULTS.audit
    )
    assert in_mode(in_mode(chosen, Mode.AUTO), Mode.STANDARD) == chosen


@pytest.mark.parametrize("method", [Method.GRID, Method.SINGLE])
def test_no_alternatives_for_fixed_trials(method: Method) -> None:
    assert not list(alternatives(asha(1, method=method)))


# -- checkpoints --------------------------------------------------------------------------------


class Kept:
    """Return the largest number of checkpoints that existed at once, according to the log."""

    def __init__(self) -> None:
        self.now = self.most = 0

    def observe(self, entries: list[Entry]) -> None:
        for entry in entries:
            self.now += isinstance(entry.event, CheckpointSaved)
            self.most = max(self.most, self.now)
            self.now -= sum(isinstance(each, DeleteCheckpoint) for each in entry.decisions)


def test_forecast_of_storage_shows_effect_of_max_size() -> None:
    settings = asha(60)
    prices = Prices(checkpoint_bytes=100.0, policy=CheckpointPolicy(), max_size=1_000)
    limited = forecast_storage(settings, Conditions(workers=6), prices)
    assert limited.checkpoints.middle > 30
    assert limited.limited is not None
    assert limited.repeated is not None
    # A new checkpoint exists beside the old ones for a moment, and those of running trials stay.
    assert limited.limited.high <= 10 + 1 + 6
    tight = forecast_storage(settings, Conditions(workers=6), replace(prices, max_size=100))
    assert tight.repeated is not None
    assert tight.repeated.middle > limited.repeated.middle
    unknown = forecast_storage(settings, Conditions(workers=6), replace(prices, checkpoint_bytes=None))
    assert (unknown.bytes, unknown.limited, unknown.repeated) == (None, None, None)
    assert unknown.checkpoints == limited.checkpoints


@pytest.mark.parametrize(
    "policy",
    [
        CheckpointPolicy(),
        CheckpointPolicy(save_experiment_best=3, save_trial_best=0, save_trial_latest=0),
        CheckpointPolicy(save_trial_best=2, save_trial_latest=3),
        None,
    ],
)
@pytest.mark.parametrize("stop_once", [False, True])
def test_simulated_checkpoints_match_experiment(policy: CheckpointPolicy | None, stop_once: bool) -> None:
    settings = asha(60, stop_once=stop_once)
    counts = simulate_checkpoints(settings, Conditions(workers=6), policy)
    spec = replace(spec_of(settings), checkpoint_policy=policy)
    kept = Kept()
    backend = SimulatedBackend(spec, Exchangeable(noise=0.2, spread=1.3), 6, costs=Costs(save=0.5))
    run_simulated(Experiment(spec), backend, observers=[kept.observe])  # type: ignore[list-item]
    assert 0.9 * min(counts) - 2 <= kept.most <= 1.1 * max(counts) + 2
