"""Which hyperparameters matter: what is known to matter does."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from ashwood.errors import AshwoodError
from ashwood.figures import importance
from ashwood.figures.importance import draw_importance, importances
from ashwood.search.draw import unit_draw
from ashwood.search.settings import Method
from ashwood.search.space import Const, Space
from ashwood.views.chronicle import Chronicle
from ashwood.views.results import comparable
from tests.figures.told import is_safe, spec, told

optuna = pytest.importorskip("optuna")


def decided_by(name: str) -> Chronicle:
    """Random search in which one hyperparameter decides how good a trial turns out."""
    space = spec().space

    def curve(trial: int, length: int) -> float:
        value = space.sample(7, 0, trial)[name]
        place = value / 0.5 if name == "drop" else 0.2 * ["adam", None, True].count(value)
        return 3 * place + 1 / length + 0.3 * unit_draw(3, "noise", trial)

    return told(150, curve=curve, method=Method.RANDOM, max_length=3)


@pytest.mark.parametrize("name", ["drop", "opt"])
def test_what_decides_comes_first(name: str) -> None:
    figure = draw_importance(decided_by(name))
    bars = figure.data[0]
    assert sum(bars.x) == pytest.approx(1.0)
    assert list(bars.x) == sorted(bars.x)
    assert figure.layout.yaxis.ticktext[-1] == name
    assert bars.x[-1] > 0.5


def test_it_says_what_was_compared_and_nothing_is_markup() -> None:
    known = told(80)
    figure = draw_importance(known)
    results = comparable(known.timeline, 50)
    assert results is not None
    assert f"{len(results.results)} results after {results.length} epoch" in figure.layout.title.text
    assert "PED-ANOVA" in figure.layout.title.text
    assert is_safe(figure)


def test_of_many_results_some_are_taken_and_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importance, "_MOST", 30)
    assert "28 of 56 results" in draw_importance(told(80)).layout.title.text


@pytest.mark.parametrize("trials", [8, 15])
def test_too_few_results_are_no_reason_to_say_anything(trials: int) -> None:
    assert "Too few results yet: 20 at one length" in draw_importance(told(trials)).layout.annotations[0].text


def test_before_any_result_and_without_hyperparameters_it_says_so() -> None:
    known = told(8, stop_after=2)
    assert "No trial has been compared" in draw_importance(known).layout.annotations[0].text
    known.spec = replace(known.spec, space=Space({"width": Const(3)}))
    assert "varies no hyperparameter" in draw_importance(known).layout.annotations[0].text


def test_where_nothing_differs_nothing_matters() -> None:
    known = told(60, curve=lambda trial, length: 1.0)
    assert "don't differ" in draw_importance(known).layout.annotations[0].text


def test_the_library_is_left_as_it_was() -> None:
    known = told(60)
    results = comparable(known.timeline, 50)
    assert results is not None
    verbosity = optuna.logging.get_verbosity()
    importances(known, results.results, 0.2)
    assert optuna.logging.get_verbosity() == verbosity


def test_without_optuna_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    known = told(60)
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.setitem(sys.modules, "optuna.importance", None)
    with pytest.raises(AshwoodError, match=r"pip install 'ashwood\[figures,importance\]'"):
        draw_importance(known)
