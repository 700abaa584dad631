"""The figure of the ladder: the positions of trials agree with the views."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from typing import Any

import pytest

from ashwood.figures import ladder
from ashwood.figures.ladder import draw_ladder
from ashwood.figures.theme import DARK, LIGHT, Theme
from ashwood.search.settings import Method
from ashwood.views.history import History
from tests.figures.simulated import is_safe, simulated, trials_of


def trace(figure: Any, name: str) -> Any:
    return next(trace for trace in figure.data if trace.name == name and trace.customdata is not None)


@pytest.fixture(scope="module", params=[None, 150], ids=["over", "running"])
def known(request: pytest.FixtureRequest) -> History:
    return simulated(60, stop_after=request.param, faults=0.02)


def counts(known: History) -> Counter[str]:
    """Return the expected number of points of each kind, from the views."""
    rungs = [rung for bracket in known.progress.ladder.brackets for rung in bracket.rungs]
    lasts = [bracket.rungs[-1] for bracket in known.progress.ladder.brackets]
    return Counter(
        {
            "promoted": sum(rung.promoted for rung in rungs),
            "now": sum(rung.arrived + rung.failed + len(rung.training) - rung.promoted for rung in rungs),
            "star": sum(rung.arrived for rung in lasts),
        }
    )


def test_ladder_has_same_counts_as_views(known: History) -> None:
    figure = draw_ladder(known)
    now, promoted = trace(figure, "trials"), trace(figure, "promoted")
    expected = counts(known)
    assert len(promoted.x) == expected["promoted"]
    assert len(now.x) == expected["now"]
    assert Counter(now.marker.symbol)["star"] == expected["star"]
    assert sorted(trials_of(now)) == sorted(set(trials_of(now)))
    assert list(now.ids) == [str(trial) for trial in trials_of(now)]


def test_packed_ladder_has_same_counts(known: History, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ladder, "MANY", 10)
    figure = draw_ladder(known)
    kinds = {trace.name: len(trace.x) for trace in figure.data if trace.type == "scattergl"}
    expected = counts(known)
    assert kinds.pop("promoted") == expected["promoted"]
    assert sum(kinds.values()) == expected["now"]
    assert "bdata" in figure.to_json()


@pytest.fixture(scope="module")
def audited() -> History:
    return simulated(60, audit=Fraction("0.4"))


def test_audits_are_marked_and_explained(audited: History) -> None:
    figure, rungs = draw_ladder(audited), [r for b in audited.progress.ladder.brackets for r in b.rungs]
    promoted, now = trace(figure, "promoted"), trace(figure, "trials")
    audits = [text for text in promoted.hovertext if "promoted as an audit, drawn at random" in text]
    assert len(audits) == Counter(promoted.marker.symbol)["diamond-open"] == sum(rung.audits for rung in rungs) > 3
    assert len(promoted.x) == sum(rung.promoted for rung in rungs)
    assert list(now.ids) == [str(trial) for trial in trials_of(now)]
    assert sorted(trials_of(now)) == sorted(set(trials_of(now)))
    assert "and 40% of promotions are audits" in figure.layout.title.text


def test_packed_audits_are_a_kind_that_does_not_move(audited: History, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ladder, "MANY", 10)
    found = {trace.name: trace for trace in draw_ladder(audited).data if trace.type == "scattergl"}
    rungs = [rung for bracket in audited.progress.ladder.brackets for rung in bracket.rungs]
    audits = found["promoted as an audit, drawn at random"]
    assert len(audits.x) == sum(rung.audits for rung in rungs)
    assert len(audits.x) + len(found["promoted"].x) == sum(rung.promoted for rung in rungs)
    assert not audits.meta["moves"]


def test_equal_lengths_are_equally_high_and_best_are_left_of_promotion_line() -> None:
    known = simulated(60)
    figure = draw_ladder(known)
    heights = dict(zip(figure.layout.yaxis.tickvals, figure.layout.yaxis.ticktext, strict=True))
    lengths = sorted({length for bracket in known.progress.ladder.brackets for length in bracket.lengths})
    assert [heights[place] for place in range(len(lengths))] == [f"<b>{length}</b> epochs" for length in lengths]
    line = next(trace for trace in figure.data if trace.name == "promotion line")
    compared = [rung for bracket in known.progress.ladder.brackets for rung in bracket.rungs[:-1]]
    assert list(line.x).count(None) == sum(rung.arrived + rung.failed >= 4 for rung in compared)
    # In a finished search, every trial left of the line at the lowest rung has been promoted.
    first = next(x for x in line.x if x is not None)
    not_promoted = trace(figure, "trials")
    assert not [x for x, y in zip(not_promoted.x, not_promoted.y, strict=True) if 0 <= y < 0.6 and x < first - 20]


def test_hover_text_has_result_rank_and_hyperparameters() -> None:
    figure = draw_ladder(simulated(60))
    text = trace(figure, "trials").hovertext[0]
    assert "rank " in text
    assert "lr = " in text
    assert "at 4 epochs" in text or "at 16 epochs" in text or "at 64 epochs" in text


@pytest.mark.parametrize(
    ("method", "subtitle"),
    [
        (Method.ADAPTIVE_ASHA, "Best on the left. The top 1 in 4 at each rung are promoted."),
        (Method.RANDOM, "Best on the left. Every trial trains to full length."),
    ],
)
def test_subtitle_says_which_trials_are_promoted(method: Method, subtitle: str) -> None:
    assert subtitle in draw_ladder(simulated(30, method=method)).layout.title.text


@pytest.mark.parametrize("theme", [LIGHT, DARK])
@pytest.mark.parametrize("method", [Method.ADAPTIVE_ASHA, Method.SYNC_HALVING, Method.RANDOM])
def test_names_are_escaped(theme: Theme, method: Method) -> None:
    figure = draw_ladder(simulated(30, method=method, faults=0.05), theme=theme)
    assert is_safe(figure)
    assert figure.layout.paper_bgcolor == theme.paper


def test_ladder_without_trials_shows_message() -> None:
    figure = draw_ladder(simulated(8, stop_after=0))
    assert "No trial" in figure.layout.annotations[0].text


def test_axes_stay_when_trials_are_added() -> None:
    few, more = (draw_ladder(simulated(60, stop_after=number)) for number in (100, 104))
    assert few.layout.uirevision == more.layout.uirevision
    assert few.layout.xaxis.range == more.layout.xaxis.range
    assert few.layout.yaxis.range == more.layout.yaxis.range
