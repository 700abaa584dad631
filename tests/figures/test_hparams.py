"""Hyperparameters against the metric: what is drawn are the results, where they belong."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from math import log10, nan
from typing import Any

import numpy as np
import pytest

from ashwood.errors import AshwoodError
from ashwood.figures import parallel
from ashwood.figures.hparams import draw_heatmap, draw_scatter
from ashwood.figures.parallel import draw_parallel_coordinates
from ashwood.figures.theme import DARK
from ashwood.search.space import Categorical, Const, Double, Int, Log, Space
from ashwood.views.chronicle import Chronicle
from ashwood.views.hparams import varied
from ashwood.views.results import comparable, last_results
from ashwood.views.wording import format_length
from tests.figures.told import LINK, SCRIPT, is_safe, told, trials_of

NESTED = f"model.{LINK}"


@pytest.fixture(scope="module")
def known() -> Chronicle:
    return told(80)


@pytest.fixture(scope="module")
def silent() -> Chronicle:
    return told(8, stop_after=2)


def value(known: Chronicle, trial: int, *path: str) -> Any:
    found: Any = known.progress.trials.rows[trial].hparams
    for name in path:
        found = found[name]
    return found


# -- one -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "path"), [("lr", ("lr",)), ("drop", ("drop",)), (NESTED, ("model", LINK))])
def test_a_point_is_a_trial_at_its_value_and_its_result(known: Chronicle, name: str, path: tuple[str, ...]) -> None:
    figure = draw_scatter(known, name)
    drawn = {
        (trial, x, y)
        for trace in figure.data
        for trial, x, y in zip(trials_of(trace), trace.x.tolist(), trace.y.tolist(), strict=True)
    }
    results = last_results(known.timeline)
    assert drawn == {(result.trial, float(value(known, result.trial, *path)), result.metric) for result in results}
    assert figure.layout.xaxis.type == ("log" if name == "lr" else None)
    counts = Counter(format_length(result.length, "epochs") for result in results)
    assert {trace.name: len(trace.x) for trace in figure.data} == counts
    assert is_safe(figure)


def test_categories_stand_side_by_side_and_equal_looking_ones_apart(known: Chronicle) -> None:
    figure = draw_scatter(known, "opt", theme=DARK)
    assert list(figure.layout.xaxis.ticktext) == ["adam", "&lt;script&gt;alert(1)&lt;/scr…", "–", "true", "1"]
    for trace in figure.data:
        for (trial, _), x in zip(trace.customdata, trace.x, strict=True):
            place = ["adam", SCRIPT, None, True, 1][round(x)]
            assert value(known, trial, "opt") is place or value(known, trial, "opt") == place
    assert is_safe(figure)


def test_a_hyperparameter_that_there_is_not_is_refused(known: Chronicle) -> None:
    with pytest.raises(
        AshwoodError, match=r"varies no hyperparameter 'dorp', did you mean 'drop'\?; it varies: lr, drop"
    ):
        draw_scatter(known, "dorp")


# -- two -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("summary", ["best", "mean"])
@pytest.mark.parametrize(("x", "y"), [("lr", "drop"), ("opt", NESTED), (NESTED, "opt")])
def test_a_cell_sums_up_its_results(known: Chronicle, x: str, y: str, summary: Any) -> None:
    heat = draw_heatmap(known, x, y, summary=summary).data[0]
    all_of_them = comparable(known.timeline, 50)
    assert all_of_them is not None
    metrics = [result.metric for result in all_of_them.results]
    counts = [int(text.rpartition("<br>")[2].split()[0]) for row in heat.text for text in row]
    assert sum(counts) == len(metrics)
    cells = np.asarray(heat.z).ravel()
    assert np.isnan(cells).tolist() == [count == 0 for count in counts]
    if summary == "best":
        assert np.nanmin(cells) == min(metrics)
    else:
        assert np.nansum(cells * counts) == pytest.approx(sum(metrics))


def test_it_says_which_results_are_compared(known: Chronicle) -> None:
    figure = draw_heatmap(known)
    all_of_them = comparable(known.timeline, 50)
    assert all_of_them is not None
    assert f"{len(all_of_them.results)} results after {all_of_them.length} epoch" in figure.layout.title.text
    assert is_safe(figure)


def test_one_hyperparameter_makes_no_heat_map(known: Chronicle) -> None:
    alone = told(8)
    alone.spec = replace(alone.spec, space=Space({"lr": Log(-5, -1), "width": Const(3)}))
    assert "fewer than two" in draw_heatmap(alone).layout.annotations[0].text
    assert "fewer than two" in draw_heatmap(known, "lr", "lr").layout.annotations[0].text
    with pytest.raises(AshwoodError, match="summary 'worst': expected best or mean"):
        draw_heatmap(known, summary="worst")  # type: ignore[arg-type]


# -- all of them ---------------------------------------------------------------------------------


def dimensions(figure: Any) -> dict[str, Any]:
    return {dimension.label: dimension for dimension in figure.data[0].dimensions}


def test_a_line_is_a_trial(known: Chronicle) -> None:
    figure = draw_parallel_coordinates(known)
    shown = dimensions(figure)
    results = {result.trial: result for result in last_results(known.timeline)}
    trials = figure.data[0].customdata.tolist()
    assert set(trials) == set(results)
    assert len(shown) == len(varied(known.spec.space)) + 2
    assert shown["lr"]["values"] == pytest.approx([log10(value(known, trial, "lr")) for trial in trials], abs=1e-5)
    assert shown["drop"]["values"] == pytest.approx([value(known, trial, "drop") for trial in trials], abs=1e-5)
    trained = shown["trained (epochs)"]
    assert trained["values"] == pytest.approx([log10(results[trial].length) for trial in trials], abs=1e-5)


def test_good_is_up_and_the_best_stands_out(known: Chronicle) -> None:
    figure = draw_parallel_coordinates(known)
    trace = figure.data[0]
    metric = trace.dimensions[-1]
    assert metric.range[0] > metric.range[1]
    best = min(last_results(known.timeline), key=lambda result: result.metric)
    assert trace.customdata[int(np.argmax(trace.line.color))] == best.trial
    bigger = told(20)
    bigger.spec = replace(bigger.spec, smaller_is_better=False)
    bigger.timeline.spec = bigger.spec
    metric = draw_parallel_coordinates(bigger).data[0].dimensions[-1]
    assert metric.range[0] < metric.range[1]


def test_logarithmic_axes_have_the_real_numbers_and_no_two_ticks_say_the_same(known: Chronicle) -> None:
    shown = dimensions(draw_parallel_coordinates(known))
    lr = shown["lr"]
    named = {word: place for word, place in zip(lr.ticktext, lr.tickvals, strict=True) if word[0].isdigit()}
    assert named == pytest.approx({"1e-05": -5, "0.0001": -4, "0.001": -3, "0.01": -2, "0.1": -1})
    for dimension in shown.values():
        if dimension.ticktext is not None:
            assert len(set(dimension.ticktext)) == len(dimension.ticktext) == len(dimension.tickvals)


def test_of_many_lines_the_best_are_chosen(known: Chronicle, monkeypatch: pytest.MonkeyPatch) -> None:
    assert draw_parallel_coordinates(known).data[0].dimensions[-1].constraintrange is None
    monkeypatch.setattr(parallel, "_CROWDED", 10)
    figure = draw_parallel_coordinates(known)
    metric = figure.data[0].dimensions[-1]
    low, high = metric.constraintrange
    chosen = sum(low <= each <= high for each in metric["values"])
    assert chosen == pytest.approx(0.1 * len(metric["values"]), abs=2)
    assert "the best 10% are chosen" in figure.layout.title.text


def test_trials_without_a_finite_result_are_left_out_and_counted() -> None:
    known = told(40, curve=lambda trial, length: nan if trial % 2 else trial + 1 / length)
    figure = draw_parallel_coordinates(known)
    assert all(trial % 2 == 0 for trial in figure.data[0].customdata)
    assert f"{len(last_results(known.timeline))} trials, " in figure.layout.title.text
    assert "without a result left out" in figure.layout.title.text


def test_labels_are_no_markup(known: Chronicle) -> None:
    figure = draw_parallel_coordinates(known)
    # The words at the ticks alone: Plotly writes them as they are.
    for dimension in figure.data[0].dimensions:
        dimension.ticktext = None
    assert is_safe(figure)


def test_any_space_can_be_drawn() -> None:
    known = told(8)
    known.spec = replace(
        known.spec,
        space=Space(
            {"lr": Log(-5, -1), "drop": Double(-3, 5), "opt": Categorical(("adam", SCRIPT)), "gone": Int(1, 900)}
        ),
    )
    for figure in (draw_parallel_coordinates(known), draw_scatter(known, "gone"), draw_heatmap(known, "gone", "drop")):
        assert "No trial has been compared" in figure.layout.annotations[0].text


def test_without_results_and_without_hyperparameters_they_say_so(silent: Chronicle) -> None:
    for figure in (draw_scatter(silent), draw_heatmap(silent), draw_parallel_coordinates(silent)):
        assert "No trial has been compared" in figure.layout.annotations[0].text
    silent.spec = replace(silent.spec, space=Space({"width": Const(3)}))
    for figure in (draw_scatter(silent), draw_parallel_coordinates(silent)):
        assert "varies no hyperparameter" in figure.layout.annotations[0].text
