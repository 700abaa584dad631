"""Tests of previews against simulated experiments: exact numbers, minima, and how often ranges hold."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings

from ashwood.forecast.arrivals import expected_arrivals, expected_length, guaranteed_arrivals, total_length
from ashwood.forecast.conditions import Conditions, affordable, simulate
from ashwood.forecast.play import Arrivals
from ashwood.forecast.preview import Estimate, Preview, end, preview, reach
from ashwood.forecast.searches import Prices
from ashwood.search.plan import plan_search
from ashwood.search.settings import Method, Mode, SearchSettings
from tests.views import streams
from tests.views.simulate import Workers, arrivals_of, asha, power_law, spec_of


def real_run(settings: SearchSettings, *, seed: int, workers: int, noise: float = 0.05) -> Arrivals:
    ran = Workers(spec_of(settings), power_law(seed, noise), workers=workers, seed=seed)
    ran.run()
    return arrivals_of(ran.experiment)


def quantities(shown: Preview, arrivals: Arrivals) -> list[tuple[Estimate, float]]:
    """Yield each estimate of a preview with the real number."""
    plan = plan_search(shown.settings)
    total = total_length(plan, arrivals)
    everything = shown.total_trials * shown.settings.max_length
    return [
        *((row.reach, reach(plan, arrivals, row.length)) for row in shown.lengths),
        *((row.end, end(plan, arrivals, row.length)) for row in shown.lengths),
        *(
            (estimate, count)
            for bracket in shown.brackets
            for estimate, count in zip(bracket.reach, arrivals[bracket.number], strict=True)
        ),
        (shown.full_length, sum(counts[-1] for counts in arrivals)),
        (shown.total_length, total),
        (shown.share, total / everything),
    ]


# -- ranges -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        asha(100),
        asha(100, stop_once=True),
        pytest.param(asha(60, method=Method.ASYNC_HALVING, max_length=27, divisor=Fraction(3)), marks=pytest.mark.slow),
        asha(100, audit=Fraction("0.2")),
        asha(30, mode=Mode.CONSERVATIVE, max_length=16, divisor=Fraction(2)),
        pytest.param(asha(60, mode=Mode.AGGRESSIVE, max_concurrent_trials=0), marks=pytest.mark.slow),
    ],
    ids=["standard", "stop_once", "async", "audit", "conservative", "aggressive"],
)
@pytest.mark.parametrize("workers", [2, pytest.param(8, marks=pytest.mark.slow)])
def test_ranges_hold_as_often_as_they_claim(settings: SearchSettings, workers: int) -> None:
    shown = preview(settings, simulations=99)
    hits: list[bool] = []
    totals: list[bool] = []
    for seed in range(30):
        for noise in (0.02, 0.5):
            outcomes = quantities(shown, real_run(settings, seed=seed, workers=workers, noise=noise))
            assert all(estimate.least is None or value >= estimate.least for estimate, value in outcomes)
            hits += [e.low <= value <= e.high for e, value in outcomes if not e.exact]
            totals.append(shown.total_length.low <= outcomes[-2][1] <= shown.total_length.high)
    # Whole numbers can be equal to an end of a range, so ranges hold a little more often.
    assert 0.85 <= sum(hits) / len(hits) <= 0.995
    assert 0.8 <= sum(totals) / len(totals) <= 1.0


def test_preview_forecasts_audits_and_their_training() -> None:
    share = Fraction("0.2")
    shown = preview(asha(400, mode=Mode.AGGRESSIVE, audit=share), simulations=99)
    assert shown.audits is not None
    promotions = sum(estimate.middle for estimate in shown.brackets[0].reach[1:])
    assert shown.audits.promotions.middle == pytest.approx(float(share) * promotions, rel=0.15)
    # Without early stopping, a promotion from rung 0 trains 3, one from rung 1 12, and so on.
    assert 3 * shown.audits.promotions.middle < shown.audits.length.middle < 0.3 * shown.total_length.middle
    assert preview(asha(400), simulations=1).audits is None
    assert preview(asha(1, audit=share)).audits is None
    json.dumps(shown.to_json())


def test_expected_arrivals_of_large_search_with_audits_are_close_to_simulated() -> None:
    settings = asha(8_000, mode=Mode.AGGRESSIVE, audit=Fraction("0.3"))
    simulated = simulate(settings, number=0, conditions=Conditions(workers=16)).arrivals[0]
    for expected, found in zip(expected_arrivals(settings)[0], simulated, strict=True):
        assert expected == pytest.approx(found, rel=0.15)


def test_preview_with_number_of_workers() -> None:
    settings = asha(40, max_concurrent_trials=16)
    assert preview(settings, conditions=Conditions(workers=1), simulations=19).workers == 1
    enough, plenty = (
        simulate(settings, number=3, conditions=Conditions(workers=workers)).arrivals for workers in (16, 1_000)
    )
    assert enough == plenty


# -- exact numbers ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        asha(50, method=Method.SYNC_HALVING),
        asha(50, method=Method.SYNC_HALVING, divisor=Fraction(3, 2), stop_once=True),
        asha(9, method=Method.RANDOM),
        asha(9, method=Method.RANDOM, stop_once=True),
        asha(9, method=Method.GRID),
        asha(1, method=Method.SINGLE),
        asha(1),
    ],
    ids=lambda settings: f"{settings.method}-{settings.max_trials}",
)
@pytest.mark.parametrize("workers", [1, 5])
def test_exact_numbers_hold_exactly(settings: SearchSettings, workers: int) -> None:
    shown = preview(settings)
    assert shown.exact
    assert shown.simulations == 0
    for estimate, value in quantities(shown, real_run(settings, seed=workers, workers=workers)):
        assert estimate.exact
        assert estimate.middle == value


def test_sync_halving_by_hand() -> None:
    shown = preview(asha(50, method=Method.SYNC_HALVING, max_length=64, num_rungs=3))
    assert [(row.length, row.reach.middle, row.end.middle) for row in shown.lengths] == [
        (4, 50, 38),
        (16, 12, 9),
        (64, 3, 3),
    ]
    assert shown.total_length.middle == 50 * 4 + 12 * 12 + 3 * 48
    assert shown.share.middle == pytest.approx(shown.total_length.middle / (50 * 64))
    assert shown.full_length.middle == 3


# -- minima -------------------------------------------------------------------------------------


@given(ran=streams.workers(faults=False))
def test_minima_hold_for_any_reports(ran: Workers) -> None:
    settings = ran.spec.search
    ran.run()
    least = guaranteed_arrivals(settings, ran.experiment.search.plan)
    for bracket, minima in zip(arrivals_of(ran.experiment), least, strict=True):
        assert all(count >= minimum for count, minimum in zip(bracket, minima, strict=True))


@pytest.mark.parametrize("stop_once", [False, True])
def test_minima_are_reached_in_the_worst_case(stop_once: bool) -> None:
    settings = asha(64, method=Method.ASYNC_HALVING, max_length=64, num_rungs=4, stop_once=stop_once)
    ran = Workers(spec_of(settings), lambda trial, _: float(trial), workers=1)
    ran.run()
    expected = (64, 1, 1, 1) if stop_once else (64, 16, 4, 1)
    assert arrivals_of(ran.experiment) == (expected,)
    assert guaranteed_arrivals(settings, plan_search(settings)) == (expected,)


def test_small_bracket_trains_one_trial_to_the_end() -> None:
    settings = asha(3, bracket_rungs=(3,))
    assert guaranteed_arrivals(settings, plan_search(settings)) == ((3, 1, 1),)


# -- the rest -----------------------------------------------------------------------------------


@given(settings=streams.settings())
@hypothesis_settings(max_examples=50)
def test_preview_adds_up_and_is_reproducible(settings: SearchSettings) -> None:
    shown = preview(settings, simulations=5)
    assert shown == preview(settings, simulations=5)
    assert json.loads(json.dumps(shown.to_json())) == shown.to_json()
    assert shown.total_trials == shown.lengths[0].reach.middle == sum(b.trials for b in shown.brackets)
    assert shown.lengths[-1].length == settings.max_length
    assert shown.full_length == shown.lengths[-1].end
    for estimate, _ in quantities(shown, guaranteed_arrivals(settings, plan_search(settings))):
        assert (estimate.least or 0) <= estimate.low <= estimate.middle <= estimate.high
    for shorter, longer in zip(shown.lengths, shown.lengths[1:], strict=False):
        assert shorter.reach.middle >= longer.reach.middle
    # Replicates train in addition to all trials.
    assert 0 < shown.share.low <= shown.share.high <= 1 + settings.replicates / settings.max_trials


def test_number_of_simulations_suits_range() -> None:
    assert preview(asha(20), conditions=Conditions(workers=1)).simulations == 199
    assert affordable(500, step=20, budget=20_000) == 39
    assert affordable(3_000, step=20, budget=20_000) == 19
    assert affordable(1, step=10, budget=20_000) == 99


def test_to_json_has_all_fields() -> None:
    data = preview(asha(20, divisor=Fraction(5, 2)), simulations=3).to_json()
    assert data["settings"]["method"] == "adaptive_asha"
    assert data["settings"]["divisor"] == 2.5
    assert data["simulations"] == 3
    assert set(data["lengths"][0]["reach"]) == {"least", "low", "middle", "high"}
    assert data["full_length"] == data["lengths"][-1]["reach"]


@pytest.mark.parametrize("stop_once", [False, True])
def test_small_sample_predicts_large_search(stop_once: bool) -> None:
    settings = asha(6_000, max_length=256, stop_once=stop_once)
    simulated = [simulate(settings, number=number).arrivals for number in range(2)]
    mean = sum(total_length(plan_search(settings), arrivals) for arrivals in simulated) / 2
    assert expected_length(settings) == pytest.approx(mean, rel=0.05)


def test_expected_length_is_within_range() -> None:
    for stop_once in (False, True):
        settings = asha(200, stop_once=stop_once)
        shown = preview(settings, simulations=39)
        assert shown.total_length.low < expected_length(settings) < shown.total_length.high
        arrivals = expected_arrivals(settings)
        assert [counts[0] for counts in arrivals] == [bracket.trials for bracket in shown.brackets]


def test_sample_has_rungs_of_search() -> None:
    settings = asha(20_000, method=Method.ASYNC_HALVING, max_length=4**6, num_rungs=7)
    assert [len(counts) for counts in expected_arrivals(settings)] == [7]


def test_expectations_of_exact_methods_are_exact() -> None:
    settings = asha(50, method=Method.SYNC_HALVING)
    assert expected_length(settings) == preview(settings).total_length.middle
    assert expected_length(replace(settings, method=Method.RANDOM, max_trials=7)) == 7 * settings.max_length


# -- with an forecast ----------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [asha(12), asha(12, method=Method.SYNC_HALVING), asha(5, method=Method.RANDOM)])
def test_forecast_does_not_change_preview(settings: SearchSettings) -> None:
    conditions = Conditions(workers=4, unit_seconds=3.0)
    shown = preview(settings, conditions=conditions, prices=Prices(worker_hour=2.0), simulations=19)
    bare = preview(settings, conditions=conditions, simulations=19)
    assert replace(shown, forecast=None, beside=(), full_trainings=None) == bare
    data = json.loads(json.dumps(shown.to_json()))
    assert set(data["forecast"]["seconds"]) == {"low", "middle", "high"}
    assert data["forecast"]["cost"]["middle"] == 2 * data["forecast"]["worker_hours"]["middle"]
    assert len(data["beside"]) == len(shown.beside)


def test_forecast_needs_number_of_workers() -> None:
    with pytest.raises(ValueError, match="number of workers"):
        preview(asha(10), prices=Prices())
