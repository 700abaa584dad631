"""The figure of importance: hyperparameters that are known to matter come first."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ashwood.figures.importance import draw_importance
from ashwood.search.draw import unit_draw
from ashwood.search.settings import Method
from ashwood.search.space import Const, Space
from ashwood.views.history import History
from ashwood.views.results import comparable
from tests.figures.simulated import CONDITIONAL, is_safe, simulated, spec

optuna = pytest.importorskip("optuna")


def decided_by(name: str) -> History:
    """Return a random search in which a single hyperparameter decides the metric, except for noise."""
    space = spec().space

    def curve(trial: int, length: int) -> float:
        value = space.sample(7, 0, trial)[name]
        place = value / 0.5 if name == "drop" else 0.2 * ["adam", None, True].count(value)
        return 3 * place + 1 / length + 0.3 * unit_draw(3, "noise", trial)

    return simulated(150, curve=curve, method=Method.RANDOM, max_length=3)


@pytest.mark.parametrize("name", ["drop", "opt"])
def test_deciding_hyperparameter_has_largest_share(name: str) -> None:
    figure = draw_importance(decided_by(name))
    bars = figure.data[0]
    assert sum(bars.x) == pytest.approx(1.0)
    assert list(bars.x) == sorted(bars.x)
    assert figure.layout.yaxis.ticktext[-1] == name
    assert bars.x[-1] > 0.5


def test_conditional_hyperparameter_is_judged_by_trials_that_have_it() -> None:
    def curve(trial: int, length: int) -> float:
        momentum: float = CONDITIONAL.sample(7, 0, trial).get("sgd", {}).get("momentum", 0.45)
        return 3 * momentum + 1 / length + 0.1 * unit_draw(3, "noise", trial)

    known = simulated(150, space=CONDITIONAL, curve=curve, method=Method.RANDOM, max_length=3)
    figure = draw_importance(known)
    assert figure.layout.yaxis.ticktext[-1] == "sgd.momentum"
    assert {"width", "layers", "size", "batch", "decay"} <= set(figure.layout.yaxis.ticktext)


def test_title_says_which_results_are_compared() -> None:
    known = simulated(80)
    figure = draw_importance(known)
    results = comparable(known.ladder, 50)
    assert results is not None
    assert f"{len(results.results)} results at {results.length} epoch" in figure.layout.title.text
    assert "PED-ANOVA" in figure.layout.title.text
    assert is_safe(figure)


def test_title_says_how_many_of_many_results_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ashwood.views.importance._MOST", 30)
    assert "28 of 56 results" in draw_importance(simulated(80)).layout.title.text


@pytest.mark.parametrize("trials", [8, 15])
def test_too_few_results_show_message(trials: int) -> None:
    assert "of 20 needed" in draw_importance(simulated(trials)).layout.annotations[0].text


def test_figure_without_results_or_hyperparameters_shows_message() -> None:
    known = simulated(8, stop_after=2)
    assert "No trial has been compared" in draw_importance(known).layout.annotations[0].text
    known.progress.spec = replace(known.spec, space=Space({"width": Const(3)}))
    assert "varies no hyperparameter" in draw_importance(known).layout.annotations[0].text


def test_equal_results_show_message() -> None:
    known = simulated(60, curve=lambda trial, length: 1.0)
    assert "don't differ" in draw_importance(known).layout.annotations[0].text
