"""The figure of learning curves: emphasized trials in front of the others."""

from __future__ import annotations

from math import inf, nan

import numpy as np
import pytest

from ashwood.figures.curves import draw_learning_curves
from ashwood.views.curves import By, curve, leading
from ashwood.views.history import History
from tests.figures.simulated import is_safe, simulated, trials_of


@pytest.fixture(scope="module")
def known() -> History:
    return simulated(60)


@pytest.mark.parametrize("by", ["metric", "length"])
def test_each_top_trial_has_its_own_line(known: History, by: By) -> None:
    lines = {
        trials_of(trace)[0]: trace
        for trace in draw_learning_curves(known, top=7, by=by).data
        if trace.name != "other trials"
    }
    first = leading(known.progress.trials, 7, by)
    assert set(lines) == {row.id for row in first}
    for row in first:
        lengths, values = curve(known.details.reports.of(row.id), known.spec.metric)
        assert list(lines[row.id].x) == list(lengths)
        assert list(lines[row.id].y) == list(values)
    assert len({trace.line.color for trace in lines.values()}) == 7


def test_best_trial_is_drawn_last_and_widest(known: History) -> None:
    lines = [trace for trace in draw_learning_curves(known, top=5).data if trace.name != "other trials"]
    assert trials_of(lines[-1])[0] == known.progress.trials.best()[0].id
    assert max(lines, key=lambda line: line.line.width) is lines[-1]


def test_log_options_make_axes_logarithmic(known: History) -> None:
    layout = draw_learning_curves(known, log_x=True, log_y=True).layout
    assert (layout.xaxis.type, layout.yaxis.type) == ("log", "log")
    assert all(-10 < end < 10 for end in layout.yaxis.range)


def test_nan_and_infinite_values_are_gaps() -> None:
    odd = {3: nan, 5: inf, 6: -inf}
    known = simulated(10, curve=lambda trial, length: odd.get(length, 1.0 / length + trial))
    figure = draw_learning_curves(known)
    assert '"y":[null' not in figure.to_json()
    assert is_safe(figure)


@pytest.mark.parametrize("stop_after", [0, 2])
def test_figure_before_first_report_shows_message(stop_after: int) -> None:
    assert (
        "No trial has reported yet"
        in draw_learning_curves(simulated(8, stop_after=stop_after)).layout.annotations[0].text
    )


def test_message_names_metric_that_no_trial_reported(known: History) -> None:
    figure = draw_learning_curves(known, metric="<b>accuracy")
    assert "No trial has reported &lt;b&gt;accuracy yet" in figure.layout.annotations[0].text


def test_groups_have_mean_of_their_trials(known: History) -> None:
    figure = draw_learning_curves(known, group="opt")
    lines = [trace for trace in figure.data if trace.name]
    assert 1 < len(lines) <= 5
    reported = sum(row.id in known.details.reports for row in known.progress.trials.rows.values())
    assert f"{reported} trials" in figure.layout.title.text
    for line in lines:
        assert list(line.x) == sorted(line.x)
    assert is_safe(figure)


def test_stopped_trials_can_be_left_out(known: History) -> None:
    rows = known.progress.trials.rows
    figure = draw_learning_curves(known, top=20, by="length", stopped=False)
    shown = {int(trace.customdata[0][0]) for trace in figure.data if trace.customdata is not None}
    assert shown
    assert all(rows[trial].state != "stopped" for trial in shown)


def test_smoothing_narrows_lines(known: History) -> None:
    rough, smooth = (draw_learning_curves(known, top=1, smooth=weight).data[-1].y for weight in (0, 90))
    assert len(rough) == len(smooth)
    assert np.ptp(smooth) < np.ptp(rough)
