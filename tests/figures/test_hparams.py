"""The figures of metric by hyperparameters: scatter plot, heat map and parallel coordinates."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from math import log10, nan
from typing import Any

import numpy as np
import pytest

from ashwood.figures import parallel
from ashwood.figures.hparams import draw_heatmap, draw_scatter
from ashwood.figures.parallel import draw_parallel_coordinates
from ashwood.figures.theme import DARK
from ashwood.search.draw import unit_draw
from ashwood.search.settings import Method, Sampler
from ashwood.search.space import Categorical, Const, Double, Int, Log, Space
from ashwood.views.history import History
from ashwood.views.hparams import varied
from ashwood.views.results import comparable, last_results
from ashwood.views.wording import format_length
from tests.figures.simulated import CONDITIONAL, LINK, SCRIPT, SPACE, is_safe, simulated, trials_of

NESTED = f"model.{LINK}"


@pytest.fixture(scope="module")
def known() -> History:
    return simulated(80)


@pytest.fixture(scope="module")
def without_results() -> History:
    return simulated(8, stop_after=2)


def value(known: History, trial: int, *path: str) -> Any:
    found: Any = known.progress.trials.rows[trial].hparams
    for name in path:
        found = found[name]
    return found


# -- one hyperparameter --------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "path"), [("lr", ("lr",)), ("drop", ("drop",)), (NESTED, ("model", LINK))])
def test_scatter_point_is_trial_at_its_value_and_result(known: History, name: str, path: tuple[str, ...]) -> None:
    figure = draw_scatter(known, name)
    drawn = {
        (trial, x, y)
        for trace in figure.data
        for trial, x, y in zip(trials_of(trace), trace.x.tolist(), trace.y.tolist(), strict=True)
    }
    results = last_results(known.ladder)
    assert drawn == {(result.trial, float(value(known, result.trial, *path)), result.metric) for result in results}
    assert figure.layout.xaxis.type == ("log" if name == "lr" else None)
    counts = Counter(format_length(result.length, "epochs") for result in results)
    assert {trace.name: len(trace.x) for trace in figure.data} == counts
    assert is_safe(figure)


def test_scatter_separates_categories_that_look_equal(known: History) -> None:
    figure = draw_scatter(known, "opt", theme=DARK)
    assert list(figure.layout.xaxis.ticktext) == ["adam", "&lt;script&gt;alert(1)&lt;/scr…", "null", "true", "1"]
    for trace in figure.data:
        for (trial, _), x in zip(trace.customdata, trace.x, strict=True):
            place = ["adam", SCRIPT, None, True, 1][round(x)]
            assert value(known, trial, "opt") is place or value(known, trial, "opt") == place
    assert is_safe(figure)


# -- two hyperparameters -------------------------------------------------------------------------


@pytest.mark.parametrize("summary", ["best", "mean"])
@pytest.mark.parametrize(("x", "y"), [("lr", "drop"), ("opt", NESTED), (NESTED, "opt")])
def test_heatmap_cell_shows_summary_of_its_results(known: History, x: str, y: str, summary: Any) -> None:
    heat = draw_heatmap(known, x, y, summary=summary).data[0]
    compared = comparable(known.ladder, 50)
    assert compared is not None
    metrics = [result.metric for result in compared.results]
    counts = [int(text.rpartition("<br>")[2].split()[0]) for row in heat.text for text in row]
    assert sum(counts) == len(metrics)
    cells = np.asarray(heat.z).ravel()
    assert np.isnan(cells).tolist() == [count == 0 for count in counts]
    if summary == "best":
        assert np.nanmin(cells) == min(metrics)
    else:
        assert np.nansum(cells * counts) == pytest.approx(sum(metrics))


def test_heatmap_title_says_which_results_are_compared(known: History) -> None:
    figure = draw_heatmap(known)
    compared = comparable(known.ladder, 50)
    assert compared is not None
    assert f"{len(compared.results)} results at {compared.length} epoch" in figure.layout.title.text
    assert is_safe(figure)


def test_heatmap_needs_two_hyperparameters(known: History) -> None:
    alone = simulated(8)
    alone.progress.spec = replace(alone.spec, space=Space({"lr": Log(-5, -1), "width": Const(3)}))
    assert "fewer than two" in draw_heatmap(alone).layout.annotations[0].text
    assert "fewer than two" in draw_heatmap(known, "lr", "lr").layout.annotations[0].text


# -- all hyperparameters -------------------------------------------------------------------------


def dimensions(figure: Any) -> dict[str, Any]:
    return {dimension.name: dimension for dimension in figure.data[0].dimensions}


def test_parallel_line_has_values_of_its_trial(known: History) -> None:
    figure = draw_parallel_coordinates(known)
    shown = dimensions(figure)
    results = {result.trial: result for result in last_results(known.ladder)}
    trials = figure.data[0].customdata.tolist()
    assert set(trials) == set(results)
    assert len(shown) == len(varied(known.spec.space)) + 2
    assert shown["lr"]["values"] == pytest.approx([log10(value(known, trial, "lr")) for trial in trials], abs=1e-5)
    assert shown["drop"]["values"] == pytest.approx([value(known, trial, "drop") for trial in trials], abs=1e-5)
    trained = shown["trained (epochs)"]
    assert trained.label == "trained<br>(epochs)"  # On one line it would overlap with its neighbours.
    assert trained["values"] == pytest.approx([log10(results[trial].length) for trial in trials], abs=1e-5)


def test_parallel_metric_axis_has_best_on_top(known: History) -> None:
    figure = draw_parallel_coordinates(known)
    trace = figure.data[0]
    metric = trace.dimensions[-1]
    assert metric.range[0] > metric.range[1]
    best = min(last_results(known.ladder), key=lambda result: result.metric)
    assert trace.customdata[int(np.argmax(trace.line.color))] == best.trial
    bigger = simulated(20)
    bigger.progress.spec = replace(bigger.spec, smaller_is_better=False)
    bigger.ladder.spec = bigger.spec
    metric = draw_parallel_coordinates(bigger).data[0].dimensions[-1]
    assert metric.range[0] < metric.range[1]


def test_parallel_ticks_show_values_and_are_unique(known: History) -> None:
    shown = dimensions(draw_parallel_coordinates(known))
    lr = shown["lr"]
    named = {word: place for word, place in zip(lr.ticktext, lr.tickvals, strict=True) if word[0].isdigit()}
    assert named == pytest.approx({"1e-05": -5, "0.0001": -4, "0.001": -3, "0.01": -2, "0.1": -1})
    for dimension in shown.values():
        if dimension.ticktext is not None:
            assert len(set(dimension.ticktext)) == len(dimension.ticktext) == len(dimension.tickvals)


def test_parallel_selects_best_tenth_of_many_lines(known: History, monkeypatch: pytest.MonkeyPatch) -> None:
    assert draw_parallel_coordinates(known).data[0].dimensions[-1].constraintrange is None
    monkeypatch.setattr(parallel, "_CROWDED", 10)
    figure = draw_parallel_coordinates(known)
    metric = figure.data[0].dimensions[-1]
    low, high = metric.constraintrange
    chosen = sum(low <= each <= high for each in metric["values"])
    assert chosen == pytest.approx(0.1 * len(metric["values"]), abs=2)
    assert "The best 10% are selected" in figure.layout.title.text


def test_parallel_counts_trials_without_finite_result() -> None:
    known = simulated(40, curve=lambda trial, length: nan if trial % 2 else trial + 1 / length)
    figure = draw_parallel_coordinates(known)
    assert all(trial % 2 == 0 for trial in figure.data[0].customdata)
    assert f"{len(last_results(known.ladder))} trials (" in figure.layout.title.text
    assert "without a result left out" in figure.layout.title.text


def test_parallel_labels_are_escaped(known: History) -> None:
    figure = draw_parallel_coordinates(known)
    # Tick labels are not checked: Plotly shows them as plain text.
    for dimension in figure.data[0].dimensions:
        dimension.ticktext = None
    assert is_safe(figure)


def test_trials_without_value_of_hyperparameter_are_left_out() -> None:
    known = simulated(8)
    known.progress.spec = replace(
        known.spec,
        space=Space(
            {"lr": Log(-5, -1), "drop": Double(-3, 5), "opt": Categorical(("adam", SCRIPT)), "gone": Int(1, 900)}
        ),
    )
    for figure in (draw_parallel_coordinates(known), draw_scatter(known, "gone"), draw_heatmap(known, "gone", "drop")):
        assert "No trial has been compared" in figure.layout.annotations[0].text


def test_conditional_hyperparameters_show_only_trials_that_have_them() -> None:
    known = simulated(60, space=CONDITIONAL, sampler=Sampler.DENSITY)
    rows = known.progress.trials.rows
    results = last_results(known.ladder)
    having = {result.trial for result in results if "sgd" in rows[result.trial].hparams}
    assert 0 < len(having) < len(results)
    scatter = draw_scatter(known, "sgd.momentum")
    assert {trial for trace in scatter.data for trial in trials_of(trace)} == having
    heatmap = draw_heatmap(known, "sgd.momentum", "width")  # No trial has both.
    assert not heatmap.data or not np.isfinite(np.array(heatmap.data[0].z, dtype=float)).any()

    drawn = draw_parallel_coordinates(known)
    lines = drawn.data[0].customdata
    assert len(lines) == len(results)
    for name in ("sgd.momentum", "sgd.nesterov", "layers", "width"):
        axis = dimensions(drawn)[name]
        assert axis.ticktext[0] == parallel.ABSENT_LABEL
        assert axis.tickvals[0] == axis.range[0] < min(axis.tickvals[1:])
        (one,) = (each for each in varied(CONDITIONAL) if each.name == name)
        absent = [one.number(rows[trial].hparams) is None for trial in lines]
        assert [value == pytest.approx(axis.tickvals[0]) for value in axis["values"]] == absent
    assert list(dimensions(drawn)["size"].ticktext) == ["small", "medium", "large"]
    assert dimensions(drawn)["batch"].range == (16, 512)


def test_figures_without_results_or_hyperparameters_show_message(without_results: History) -> None:
    history = without_results
    for figure in (draw_scatter(history), draw_heatmap(history), draw_parallel_coordinates(history)):
        assert "No trial has been compared" in figure.layout.annotations[0].text
    history.progress.spec = replace(history.spec, space=Space({"width": Const(3)}))
    for figure in (draw_scatter(history), draw_parallel_coordinates(history)):
        assert "varies no hyperparameter" in figure.layout.annotations[0].text


def test_most_important_hyperparameters_are_shown_first() -> None:
    def curve(trial: int, length: int) -> float:
        place: float = SPACE.sample(7, 0, trial)["drop"]
        return 1.0 + place + 0.01 * unit_draw(3, "noise", trial)

    known = simulated(150, curve=curve, method=Method.RANDOM, max_length=3)
    assert draw_scatter(known).layout.xaxis.title.text == "drop"
    assert draw_heatmap(known).layout.xaxis.title.text == "drop"
    assert draw_parallel_coordinates(known).data[0].dimensions[0].label == "drop"


def test_heatmap_ticks_of_integers_are_integers() -> None:
    space = Space({"units": Int(8, 128), "lr": Log(-4, 0)})
    figure = draw_heatmap(simulated(150, space=space, method=Method.RANDOM, max_length=3), "units", "lr")
    words = figure.layout.xaxis.ticktext
    assert words[0] == "8"
    assert all(word.isdigit() for word in words)
    assert "units 8 to " in figure.data[0].text[0][0]


def test_logarithmic_heatmap_has_values_in_its_hover_texts() -> None:
    space = Space({"units": Int(8, 128), "lr": Log(-4, 0)})
    known = simulated(150, space=space, curve=lambda trial, length: 10.0 ** -(trial % 4), max_length=3)
    linear, log = (draw_heatmap(known, log_metric=choice).data[0] for choice in (False, True))
    assert np.allclose(np.log10(np.array(linear.z, dtype=float)), np.array(log.z, dtype=float), equal_nan=True)
    assert np.allclose(np.array(linear.z), np.array(log.customdata), equal_nan=True)
    words = [float(word) for word in log.colorbar.ticktext]
    assert words == pytest.approx([10**tick for tick in log.colorbar.tickvals], rel=0.01)
