"""Where the budget went, as a figure: what it draws is what the view says."""

from __future__ import annotations

from typing import Any

import pytest

from ashwood.figures.spending import draw_spending
from ashwood.figures.theme import DARK
from ashwood.views.budget import budget
from tests.figures.told import is_safe, told


def named(figure: Any, name: str) -> Any:
    return next(trace for trace in figure.data if trace.name.startswith(name))


@pytest.mark.parametrize("stop_after", [None, 120])
def test_bars_are_training_and_lines_what_was_expected(stop_after: int | None) -> None:
    known = told(60, stop_after=stop_after, faults=0.01)
    spent = budget(known)
    shares = [share for bracket in spent.shares for share in bracket]
    figure = draw_spending(known, theme=DARK)
    assert list(named(figure, "trained").y) == [share.trained for share in shares]
    assert [y for y in named(figure, "expected").y if y is not None][::2] == [share.expected for share in shares]
    assert len(set(named(figure, "trained").marker.color)) == len(shares)
    assert is_safe(figure)


def test_the_time_of_workers_is_all_there() -> None:
    figure = draw_spending(told(60, faults=0.05))
    time = [trace for trace in figure.data if trace.yaxis == "y2"]
    assert sum(trace.x[0] for trace in time) == pytest.approx(1.0)
    assert [trace.name.rpartition(" ")[0] for trace in time] in (
        ["workers train", "train again", "are idle"],
        ["workers train", "are idle"],
    )


def test_before_a_driver_started_it_says_so() -> None:
    assert "No driver" in draw_spending(told(8, stop_after=0)).layout.annotations[0].text
