"""Importance of hyperparameters and values of the best trials."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ashwood.search.draw import unit_draw
from ashwood.search.settings import Method
from ashwood.search.space import Categorical, Double, Int, Log, Space
from ashwood.views.history import History
from ashwood.views.hparams import varied
from ashwood.views.importance import FEWEST, Importance, best_values, by_importance, importance, takeaway
from tests.figures.simulated import CONDITIONAL, SPACE, simulated


@given(
    st.sampled_from([SPACE, CONDITIONAL]),
    st.integers(0, 120),
    st.sampled_from([Method.RANDOM, Method.ADAPTIVE_ASHA]),
)
def test_shares_of_any_search_add_up_to_one_and_fall(space: Space, trials: int, method: Method) -> None:
    known = simulated(trials + 1, space=space, method=method, max_length=16)
    found = importance(known.progress)
    names = [each.name for each in varied(space)]
    assert sorted(each.name for each in by_importance(known.progress)) == sorted(names)
    if found is None:
        assert takeaway(known.progress) is None
        return
    assert len(found.compared.results) >= FEWEST
    shares = list(found.shares.values())
    assert sum(shares) == pytest.approx(1.0)
    assert shares == sorted(shares, reverse=True)
    assert all(share >= 0 for share in shares)
    assert [each.name for each in by_importance(known.progress)][: len(shares)] == list(found.shares)


@pytest.mark.parametrize(("space", "tolerance"), [(SPACE, 1e-9), (CONDITIONAL, 0.03)])
@pytest.mark.parametrize("trials", [60, 150])
def test_shares_equal_those_of_optuna(space: Space, trials: int, tolerance: float) -> None:
    # Optuna rounds values in the middle of two points of the grid up or down, so that ordered categories differ a bit.
    known = simulated(trials, space=space)
    found = importance(known.progress)
    assert found is not None
    assert dict(found.shares) == pytest.approx(theirs(known, found), abs=tolerance)


def theirs(known: History, found: Importance) -> Mapping[str, float]:
    """Return the importance that Optuna computes from the same results."""
    optuna = pytest.importorskip("optuna")
    distributions = optuna.distributions
    trials = []
    for result in found.sample:
        values, kinds = {}, {}
        for each in varied(known.spec.space):
            number = each.number(known.progress.trials.rows[result.trial].hparams)
            if number is None:
                continue
            value: Any = each.position(number)
            kind = distributions.FloatDistribution(0.0, 1.0)
            if isinstance(each.kind, Categorical) and not each.kind.ordered:
                kind = distributions.CategoricalDistribution([str(place) for place in range(len(each.kind.vals))])
                value = str(int(number))
            elif isinstance(each.kind, Int) and each.kind.step is None and not each.kind.log:
                kind, value = distributions.IntDistribution(each.kind.minval, each.kind.maxval), int(number)
            values[each.name], kinds[each.name] = value, kind
        trials.append(optuna.trial.create_trial(params=values, distributions=kinds, value=result.metric))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study = optuna.create_study()
        study.add_trials(trials)
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=found.quantile)
        shares: Mapping[str, float] = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return shares


DECIDED = Space(
    {"lr": Log(-4.0, 0.0), "units": Int(8, 128), "act": Categorical(("relu", "tanh", "none")), "drop": Double(0, 1)}
)


def decided(*, smaller_is_better: bool = True) -> History:
    """Return a random search whose best trials have rates near 0.01 and the activation tanh."""

    def curve(trial: int, length: int) -> float:
        values = DECIDED.sample(7, 0, trial)
        far: float = abs(varied(DECIDED)[0].position(values["lr"]) - 0.5)
        penalty = 0.0 if values["act"] == "tanh" else 0.5
        return far + penalty + 0.001 * unit_draw(1, "noise", trial)

    return simulated(200, space=DECIDED, curve=curve, method=Method.RANDOM, max_length=3)


def test_best_values_are_those_of_deciding_hyperparameters() -> None:
    known = decided()
    found = importance(known.progress)
    assert found is not None
    assert list(found.shares)[:2] in (["lr", "act"], ["act", "lr"])
    told = {each.varied.name: each for each in best_values(known.progress, found)}
    assert told["act"].choices == ["tanh"]
    low, high = told["lr"].low, told["lr"].high
    assert low is not None
    assert high is not None
    assert 1e-3 < low < 1e-2 < high < 1e-1
    assert "drop" not in told


def test_takeaway_names_sample_and_values() -> None:
    said = takeaway(decided().progress)
    assert said is not None
    assert said.startswith("The best 10% (20 of 200 trials at 3 epochs) have ")
    assert "act tanh" in said
    assert " and lr 0.0" in said or "lr 0.0" in said
    assert said.endswith(".")


def test_takeaway_without_deciding_hyperparameters_says_so() -> None:
    known = simulated(200, space=Space({"drop": Double(0, 1)}), method=Method.RANDOM, max_length=3)
    said = takeaway(known.progress)
    assert said is not None
    assert said.endswith("have values from most of the range of every hyperparameter.")


def test_few_results_have_no_importance() -> None:
    known = simulated(FEWEST - 1, method=Method.RANDOM, max_length=3)
    assert importance(known.progress) is None
    assert [each.name for each in by_importance(known.progress)] == [each.name for each in varied(SPACE)]


def test_equal_results_have_no_shares() -> None:
    known = simulated(60, curve=lambda trial, length: 1.0)
    found = importance(known.progress)
    assert found is not None
    assert found.shares == {}
    assert takeaway(known.progress) is None
