"""The figure of the budget: its bars agree with the view."""

from __future__ import annotations

from typing import Any

import pytest

from ashwood.figures.spending import draw_spending
from ashwood.figures.theme import DARK
from ashwood.forecast.budget import budget
from tests.figures.simulated import is_safe, simulated


def named(figure: Any, name: str) -> Any:
    return next(trace for trace in figure.data if trace.name.startswith(name))


@pytest.mark.parametrize("stop_after", [None, 120])
def test_bars_show_training_and_lines_show_expectation(stop_after: int | None) -> None:
    known = simulated(60, stop_after=stop_after, faults=0.01)
    spent = budget(known)
    shares = [share for bracket in spent.shares for share in bracket]
    figure = draw_spending(known, theme=DARK)
    assert list(named(figure, "trained").y) == [share.trained for share in shares]
    assert [y for y in named(figure, "expected").y if y is not None][::2] == [share.expected for share in shares]
    assert len(set(named(figure, "trained").marker.color)) == len(shares)
    assert is_safe(figure)


def test_shares_of_worker_time_add_up_to_one() -> None:
    figure = draw_spending(simulated(60, faults=0.05))
    time = [trace for trace in figure.data if trace.yaxis == "y2"]
    assert sum(trace.x[0] for trace in time) == pytest.approx(1.0)
    assert [trace.name.rpartition(" ")[0] for trace in time] in (
        ["worker time: training", "repeated training", "idle"],
        ["worker time: training", "idle"],
    )


def test_figure_before_driver_starts_shows_message() -> None:
    assert "No driver" in draw_spending(simulated(8, stop_after=0)).layout.annotations[0].text
