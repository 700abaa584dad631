"""Learning curves: those of the first trials, before the others."""

from __future__ import annotations

from math import inf, nan

import pytest

from ashwood.errors import AshwoodError
from ashwood.figures.curves import draw_learning_curves
from ashwood.views.chronicle import Chronicle
from ashwood.views.curves import By, curve, leading
from tests.figures.told import is_safe, told, trials_of


@pytest.fixture(scope="module")
def known() -> Chronicle:
    return told(60)


@pytest.mark.parametrize("by", ["metric", "length"])
def test_the_first_trials_have_a_line_each(known: Chronicle, by: By) -> None:
    lines = {
        trials_of(trace)[0]: trace
        for trace in draw_learning_curves(known, top=7, by=by).data
        if trace.name != "other trials"
    }
    first = leading(known.progress.trials, 7, by)
    assert set(lines) == {row.id for row in first}
    for row in first:
        lengths, values = curve(known.history.reports.of(row.id), known.spec.metric)
        assert list(lines[row.id].x) == list(lengths)
        assert list(lines[row.id].y) == list(values)
    assert len({trace.line.color for trace in lines.values()}) == 7


def test_the_best_is_drawn_last_and_widest(known: Chronicle) -> None:
    lines = [trace for trace in draw_learning_curves(known, top=5).data if trace.name != "other trials"]
    assert trials_of(lines[-1])[0] == known.progress.trials.best()[0].id
    assert max(lines, key=lambda line: line.line.width) is lines[-1]


def test_logarithmic_axes(known: Chronicle) -> None:
    layout = draw_learning_curves(known, log_x=True, log_y=True).layout
    assert (layout.xaxis.type, layout.yaxis.type) == ("log", "log")
    assert all(-10 < end < 10 for end in layout.yaxis.range)


def test_values_that_are_no_numbers_are_gaps() -> None:
    odd = {3: nan, 5: inf, 6: -inf}
    known = told(10, curve=lambda trial, length: odd.get(length, 1.0 / length + trial))
    figure = draw_learning_curves(known)
    assert '"y":[null' not in figure.to_json()
    assert is_safe(figure)


@pytest.mark.parametrize("stop_after", [0, 2])
def test_before_the_first_report_it_says_so(stop_after: int) -> None:
    assert (
        "No trial has reported yet" in draw_learning_curves(told(8, stop_after=stop_after)).layout.annotations[0].text
    )


def test_a_metric_that_nobody_reported_is_named(known: Chronicle) -> None:
    figure = draw_learning_curves(known, metric="<b>accuracy")
    assert "No trial has reported &lt;b&gt;accuracy yet" in figure.layout.annotations[0].text


def test_an_order_that_there_is_not_is_refused(known: Chronicle) -> None:
    with pytest.raises(AshwoodError, match=r"by 'name': expected metric or length"):
        draw_learning_curves(known, by="name")  # type: ignore[arg-type]
