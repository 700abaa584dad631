"""Tests that a proposed search fits its budget, that many more trials would not, and of budgets that are too small."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ashwood.forecast.conditions import Conditions, simulate
from ashwood.forecast.costs import Costs
from ashwood.forecast.plan import MOST_TRIALS, Budget, Plan, TooTight, is_ample, make_plan
from ashwood.forecast.searches import Prices, SearchForecast, forecast_search
from ashwood.search.plan import plan_search
from ashwood.search.settings import Method, Mode, SearchSettings
from ashwood.views.plain import plain
from tests.views.simulate import asha

HOUR = 3600.0


@pytest.fixture(autouse=True)
def _few_simulations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make fewer simulations, so that ranges are rougher and tests ten times as fast."""
    monkeypatch.setattr("ashwood.forecast.plan._ROUGH", 400)
    monkeypatch.setattr("ashwood.forecast.plan._CLOSER", 800)


def fit(search: SearchSettings, conditions: Conditions, **budget: float) -> Plan:
    return make_plan(search, conditions, Budget(**budget), Prices())


def seen(settings: SearchSettings, conditions: Conditions, count: int = 49) -> SearchForecast:
    courses = [simulate(settings, number=100 + number, conditions=conditions) for number in range(count)]
    return forecast_search(settings, conditions, Prices(), courses)


def test_proposal_fits_and_many_more_trials_do_not() -> None:
    conditions = Conditions(workers=4, unit_seconds=10.0, spread=1.3, costs=Costs(start=2.0, save=1.0), launch=5.0)
    plan = fit(asha(1, max_length=16), conditions, seconds=HOUR / 4)
    proposal = plan.proposal
    assert proposal.seconds.high <= HOUR / 4 == plan.most_seconds
    # These simulations have other draws than those of the plan.
    assert seen(proposal.settings, conditions).seconds.middle < HOUR / 4
    more = replace(proposal.settings, max_trials=2 * proposal.trials)
    assert seen(more, conditions).seconds.middle > HOUR / 4
    assert proposal.settings.mode is Mode.STANDARD
    assert plan.rungs == ((1, 4, 16), (4, 16))
    assert all(other.seconds.high <= HOUR / 4 for other in plan.alternatives)
    aggressive, conservative, auto, random = plan.alternatives
    assert auto.settings.mode is Mode.AUTO
    assert aggressive.trials > proposal.trials > conservative.trials > random.trials
    assert random.settings.method is Method.RANDOM
    assert json.loads(json.dumps(plain(plan))) == plain(plan)


def test_worker_hours_limit_counts_all_workers() -> None:
    assert Budget(seconds=HOUR / 2).most_seconds(5) == HOUR / 2
    assert Budget(worker_hours=2.5).most_seconds(5) == HOUR / 2
    assert Budget(worker_hours=2.5, seconds=HOUR).most_seconds(5) == HOUR / 2
    assert Budget(worker_hours=10.0, seconds=HOUR / 2).most_seconds(5) == HOUR / 2


@pytest.mark.parametrize(("most", "used"), [(16, 18), (0, 0), (30, 30)])
def test_max_concurrent_trials_is_raised_to_workers(most: int, used: int) -> None:
    search = asha(1, max_length=2, max_concurrent_trials=most)
    plan = fit(search, Conditions(workers=18, unit_seconds=100.0, spread=1.0), seconds=250.0)
    assert plan.proposal.settings.max_concurrent_trials == used


def test_few_trials_get_one_bracket() -> None:
    plan = fit(asha(1, max_length=64), Conditions(workers=4, unit_seconds=10.0, spread=1.2), seconds=HOUR / 2)
    assert plan.proposal.settings.mode is Mode.AGGRESSIVE
    standard = next(other for other in plan.alternatives if other.settings.mode is Mode.STANDARD)
    assert not is_ample(standard.settings)
    assert len(plan_search(plan.proposal.settings).brackets) == 1


def test_plan_in_requested_mode() -> None:
    conditions = Conditions(workers=2, unit_seconds=60.0)
    plan = make_plan(asha(1, max_length=4), conditions, Budget(seconds=HOUR / 3), Prices(), mode=Mode.AUTO)
    assert plan.proposal.settings.mode is Mode.AUTO
    assert Mode.STANDARD in {other.settings.mode for other in plan.alternatives}


def test_alternative_in_auto_mode_uses_most_of_the_time() -> None:
    # The time of this search grows faster than its number of trials, so the pace of few trials misleads.
    plan = fit(asha(1, max_length=27), Conditions(workers=8, unit_seconds=40.0), seconds=6 * HOUR)
    (auto,) = (each for each in plan.alternatives if each.settings.mode is Mode.AUTO)
    assert 0.7 * plan.most_seconds < auto.seconds.high <= plan.most_seconds


def test_plan_keeps_stop_once() -> None:
    plan = fit(asha(1, max_length=4, stop_once=True), Conditions(workers=2, unit_seconds=60.0), seconds=HOUR / 3)
    assert plan.proposal.settings.stop_once


def test_too_tight_budget_names_least_time() -> None:
    conditions = Conditions(workers=4, unit_seconds=10.0, spread=1.0, costs=Costs(start=2.0, save=1.0))
    with pytest.raises(TooTight) as caught:
        fit(asha(1, max_length=100), conditions, seconds=503.0)
    assert caught.value.seconds == 2 + 1_000 + 1
    assert caught.value.most_length == 50
    with pytest.raises(TooTight) as caught:
        fit(asha(1, max_length=100), conditions, seconds=2.5)
    assert caught.value.most_length == 0


def test_plan_has_at_most_most_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ashwood.forecast.plan.MOST_TRIALS", 120)
    plan = fit(asha(1, max_length=1), Conditions(workers=500, unit_seconds=0.1, spread=1.0), seconds=100 * HOUR)
    assert [each.trials for each in (plan.proposal, *plan.alternatives)] == [120] * 5
    assert MOST_TRIALS == 10_000


def test_plan_needs_limit_and_workers() -> None:
    with pytest.raises(ValueError, match="workers"):
        fit(asha(1), Conditions(), seconds=HOUR)
    with pytest.raises(ValueError, match="empty"):
        fit(asha(1), Conditions(workers=2))


@given(
    length=st.integers(1, 30),
    workers=st.integers(1, 4),
    trainings=st.floats(0.5, 4.0),
    spread=st.sampled_from([None, 1.0, 1.5]),
)
@hypothesis_settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_proposal_fits(length: int, workers: int, trainings: float, spread: float | None) -> None:
    conditions, bound = Conditions(workers=workers, spread=spread), trainings * length
    try:
        plan = fit(asha(1, max_length=length), conditions, seconds=bound)
    except TooTight as error:
        least, most_length = error.seconds, error.most_length
    else:
        least, most_length = 0.0, 0
        for forecast in (plan.proposal, *plan.alternatives):
            assert 1 <= forecast.trials <= MOST_TRIALS
            assert forecast.seconds.high <= bound
    assert least == 0 or (least > bound and most_length <= length)
