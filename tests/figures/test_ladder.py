"""The ladder: who is where is what the views say."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from ashwood.figures import ladder
from ashwood.figures.ladder import draw_ladder
from ashwood.figures.theme import DARK, LIGHT, Theme
from ashwood.search.settings import Method
from ashwood.views.chronicle import Chronicle
from tests.figures.told import is_safe, told, trials_of


def trace(figure: Any, name: str) -> Any:
    return next(trace for trace in figure.data if trace.name == name and trace.customdata is not None)


@pytest.fixture(scope="module", params=[None, 150], ids=["over", "running"])
def known(request: pytest.FixtureRequest) -> Chronicle:
    return told(60, stop_after=request.param, faults=0.02)


def where(known: Chronicle) -> Counter[str]:
    """How many trials are what, by the ladder of the views."""
    rungs = [rung for bracket in known.progress.ladder.brackets for rung in bracket.rungs]
    lasts = [bracket.rungs[-1] for bracket in known.progress.ladder.brackets]
    return Counter(
        {
            "went on": sum(rung.promoted for rung in rungs),
            "now": sum(rung.arrived + rung.failed + len(rung.training) - rung.promoted for rung in rungs),
            "star": sum(rung.arrived for rung in lasts),
        }
    )


def test_every_trial_is_where_the_ladder_of_the_views_has_it(known: Chronicle) -> None:
    figure = draw_ladder(known)
    now, went_on = trace(figure, "trials"), trace(figure, "went on")
    expected = where(known)
    assert len(went_on.x) == expected["went on"]
    assert len(now.x) == expected["now"]
    assert Counter(now.marker.symbol)["star"] == expected["star"]
    assert sorted(trials_of(now)) == sorted(set(trials_of(now)))
    assert list(now.ids) == [str(trial) for trial in trials_of(now)]


def test_many_are_packed_and_say_the_same(known: Chronicle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ladder, "MANY", 10)
    figure = draw_ladder(known)
    kinds = {trace.name: len(trace.x) for trace in figure.data if trace.type == "scattergl"}
    expected = where(known)
    assert kinds.pop("went on") == expected["went on"]
    assert sum(kinds.values()) == expected["now"]
    assert "bdata" in figure.to_json()


def test_equal_lengths_are_equally_high_and_the_best_stand_left_of_the_line() -> None:
    known = told(60)
    figure = draw_ladder(known)
    heights = dict(zip(figure.layout.yaxis.tickvals, figure.layout.yaxis.ticktext, strict=True))
    lengths = sorted({length for bracket in known.progress.ladder.brackets for length in bracket.lengths})
    assert [heights[place] for place in range(len(lengths))] == [f"<b>{length}</b> epochs" for length in lengths]
    line = next(trace for trace in figure.data if trace.name == "promotion line")
    compared = [rung for bracket in known.progress.ladder.brackets for rung in bracket.rungs[:-1]]
    assert list(line.x).count(None) == sum(rung.arrived + rung.failed >= 4 for rung in compared)
    # Whoever is left of the line at the lowest step has gone on, as the search promises of the best.
    first = next(x for x in line.x if x is not None)
    stays = trace(figure, "trials")
    assert not [x for x, y in zip(stays.x, stays.y, strict=True) if 0 <= y < 0.6 and x < first - 20]


def test_hovering_tells_result_rank_and_hyperparameters() -> None:
    figure = draw_ladder(told(60))
    said = trace(figure, "trials").hovertext[0]
    assert "rank 1 of" in said or "rank " in said
    assert "lr = " in said
    assert "at 4 epochs" in said or "at 16 epochs" in said or "at 64 epochs" in said


@pytest.mark.parametrize("theme", [LIGHT, DARK])
@pytest.mark.parametrize("method", [Method.ADAPTIVE_ASHA, Method.SYNC_HALVING, Method.RANDOM])
def test_nothing_that_users_name_is_markup(theme: Theme, method: Method) -> None:
    figure = draw_ladder(told(30, method=method, faults=0.05), theme=theme)
    assert is_safe(figure)
    assert figure.layout.paper_bgcolor == theme.paper


def test_before_anything_happens_it_says_so() -> None:
    figure = draw_ladder(told(8, stop_after=0))
    assert "No trial" in figure.layout.annotations[0].text


def test_places_stay_while_others_come() -> None:
    few, more = (draw_ladder(told(60, stop_after=number)) for number in (100, 104))
    assert few.layout.uirevision == more.layout.uirevision
    assert few.layout.xaxis.range == more.layout.xaxis.range
    assert few.layout.yaxis.range == more.layout.yaxis.range
