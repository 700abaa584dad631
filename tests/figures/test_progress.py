"""The best so far, of one experiment and of several."""

from __future__ import annotations

from typing import Any

import pytest

from ashwood.errors import AshwoodError
from ashwood.experiment.entry import fold
from ashwood.figures import Figures, compare
from ashwood.figures.axes import AGAINST, Against
from ashwood.figures.progress import draw_best_so_far
from ashwood.figures.theme import DARK
from ashwood.views.history import History
from tests.figures.simulated import SCRIPT, is_safe, simulated, spec, trials_of
from tests.views.simulate import Workers, power_law


def steps_of(figure: Any, name: str = "best so far") -> Any:
    return next(trace for trace in figure.data if trace.name == name)


@pytest.mark.parametrize("against", AGAINST)
def test_steps_of_line_are_improvements(against: Against) -> None:
    known = simulated(40, stop_after=200)
    figure = draw_best_so_far(known, against=against)
    line = steps_of(figure)
    assert line.line.shape == "hv"
    assert list(line.y)[:-1] == [each.metric for each in known.improvements]
    assert trials_of(line)[:-1] == [each.trial for each in known.improvements]
    assert list(line.x) == sorted(line.x)
    spending = known.progress.trials.spending
    until = {"trials": len(known.progress.trials.rows), "units": spending.trained}
    if against in until:
        assert line.x[-1] == until[against]
    assert figure.layout.shapes[0].y0 == known.improvements[-1].metric
    assert is_safe(figure)


@pytest.mark.parametrize("against", ["time", "trials"])
def test_results_are_behind_line_and_none_is_better(against: Against) -> None:
    known = simulated(40)
    results, line = draw_best_so_far(known, against=against).data
    assert len(results.x) == len(known.progress.trials.best(1_000))
    assert min(results.y) == pytest.approx(line.y[-1], rel=1e-6)
    assert max(results.x) <= max(line.x) + 1e-4


def test_comparison_refuses_unknown_axis() -> None:
    with pytest.raises(AshwoodError, match=r"against 'money': expected time, trials or units"):
        compare({"one": simulated(4)}, against="money")  # type: ignore[arg-type]


def test_best_so_far_before_first_report_shows_message() -> None:
    assert "No trial has reported yet" in draw_best_so_far(simulated(8, stop_after=2)).layout.annotations[0].text
    assert "No trial has reported yet" in compare({"one": simulated(8, stop_after=2)}).layout.annotations[0].text


def test_comparison_has_one_colour_per_experiment_and_names_those_without_reports() -> None:
    several = {SCRIPT: simulated(20), "other": simulated(10), "silent": simulated(8, stop_after=2)}
    figure = compare(several, against="trials")
    assert len({trace.line.color for trace in figure.data}) == len(figure.data) == 2
    assert "silent" in figure.layout.title.text
    assert is_safe(figure)


def test_comparison_accepts_figures_and_histories() -> None:
    ran = Workers(spec(20), power_law(3))
    ran.run()
    figures = Figures(ran.spec, lambda: ran.entries)
    figure = compare({"figures": figures, "told": fold(History(ran.spec), ran.entries)}, theme=DARK)
    one, other = figure.data
    assert list(one.y) == list(other.y)
    assert figure.layout.paper_bgcolor == figures.dark.ladder().layout.paper_bgcolor == DARK.paper
