"""The figure of the trust meter: its points agree with the view."""

from __future__ import annotations

from typing import Any

import pytest

from ashwood.errors import AshwoodError
from ashwood.figures.registry import draw
from ashwood.figures.theme import DARK
from ashwood.figures.trust import NOT_APPLICABLE, draw_trust
from ashwood.search.settings import Method
from ashwood.views.history import History
from ashwood.views.trust import RungPair
from tests.figures.simulated import is_safe, simulated


@pytest.fixture(scope="module")
def known() -> History:
    return simulated(60, faults=0.01)


def points(figure: Any) -> dict[int, tuple[float, float]]:
    return {
        trial: (x, y) for trace in figure.data for trial, x, y in zip(trace.customdata, trace.x, trace.y, strict=True)
    }


@pytest.mark.parametrize("pair", ["0-1", "1:0-1"])
def test_points_are_the_trials_with_results_at_both_rungs(known: History, pair: str) -> None:
    rungs = next(each for each in known.progress.trust.pairs() if str(each) == pair)
    compared = known.progress.trust.comparisons(rungs)
    ranks = draw_trust(known, pair, theme=DARK)
    assert points(ranks) == {each.trial: (each.rank, each.upper_rank) for each in compared}
    metrics = draw_trust(known, pair, "metric")
    assert points(metrics) == {each.trial: (each.metric, each.upper) for each in compared}
    assert is_safe(ranks)
    assert is_safe(metrics)


def test_hover_text_has_results_and_reason(known: History) -> None:
    (first, *_) = known.progress.trust.comparisons(RungPair(0, 0, 1))
    figure = draw_trust(known)
    texts = [text for trace in figure.data for text in trace.hovertext]
    (text,) = [each for each in texts if f"<b>trial {first.trial}</b>" in each]
    assert f"{first.metric:.6g}, rank {first.rank}<br>rung 1: " in text
    assert f"{first.upper:.6g}, rank {first.upper_rank}<br>" in text
    assert "promoted with rank " in text


def test_subtitle_has_the_agreement(known: History) -> None:
    reading = known.progress.trust.reading()
    assert reading is not None
    agreement = reading.pairs[0].agreement
    assert f"Agreement {agreement:.2f} (90 % interval" in draw_trust(known).layout.title.text


def test_figure_of_a_search_without_early_stopping_says_so() -> None:
    figure = draw_trust(simulated(8, method=Method.RANDOM))
    assert " ".join(figure.layout.annotations[0].text.split("<br>")) == NOT_APPLICABLE


def test_early_figure_names_the_rungs_without_results() -> None:
    text = draw_trust(simulated(30, stop_after=3)).layout.annotations[0].text
    assert "No trial has results at rung 0" in text.replace("<br>", " ")


def test_unknown_pair_is_refused(known: History) -> None:
    with pytest.raises(AshwoodError, match=r"pair: there is no '7-9'.*; there are: 0-1, "):
        draw("trust", known, {"pair": "7-9"})
