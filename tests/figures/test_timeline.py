"""The figure of workers over time: its spans agree with the view."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from ashwood.errors import AshwoodError
from ashwood.figures import Figures
from ashwood.figures.theme import LIGHT
from tests.views.simulate import Workers, asha, power_law, spec_of
from tests.views.test_timeline import timeline_of


@pytest.fixture(scope="module")
def ran() -> Workers:
    workers = Workers(spec_of(asha(30)), power_law(3), workers=3, faults=(0.1, 0.0, 0.0))
    workers.run()
    return workers


def figures(ran: Workers) -> Figures:
    return Figures(ran.spec, lambda: ran.entries)


def test_timeline_has_one_trace_per_bracket_and_rung(ran: Workers) -> None:
    timeline = timeline_of(ran)
    bars = [trace for trace in figures(ran).timeline().data if trace.type == "bar"]
    idle, *work = bars
    assert idle.name == "idle"
    assert [(bar.legendgroup, bar.name) for bar in work] == [
        (f"bracket {bracket}", f"{length} epochs")
        for bracket, lengths in enumerate(timeline.ladder.lengths)
        for length in lengths
    ]
    assert sum(len(bar.x) for bar in work) == len(timeline.spans)
    seconds = sum(span.end - span.begin for span in timeline.spans if span.end is not None)
    # The axis counts in minutes.
    assert sum(sum(bar.x) for bar in work) * 60 == pytest.approx(seconds)
    assert len({bar.marker.color for bar in work}) == len(work)


def test_hover_text_has_trial_lengths_metric_and_outcome(ran: Workers) -> None:
    first = timeline_of(ran).spans[0]
    bar = figures(ran).timeline().data[1]
    trial, attempt, start, length, metric, outcome = bar.customdata[0]
    assert (trial, attempt, start, length) == (first.trial, first.attempt, first.start, first.length)
    assert metric == f"{first.metric:.6g}"
    assert outcome.startswith(f"{first.how} after ")
    assert f"rung {first.rung}" in bar.hovertemplate


def test_failures_are_marked(ran: Workers) -> None:
    marks = {trace.name: len(trace.x) for trace in figures(ran).timeline().data if trace.type == "scatter"}
    assert marks == {"failed": sum(span.how == "failed" for span in timeline_of(ran).spans)}
    assert marks["failed"] > 0


def test_timeline_without_workers_shows_message() -> None:
    figure = Figures(spec_of(asha(4)), lambda: ()).timeline()
    assert "no worker has run yet" in figure.layout.title.text


def test_names_are_escaped(ran: Workers) -> None:
    spec = replace(ran.spec, name="lr <1 & more")
    assert "lr &lt;1 &amp; more" in Figures(spec, lambda: ran.entries).timeline().layout.title.text


def test_missing_plotly_error_says_what_to_install(ran: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plotly", None)
    monkeypatch.delitem(sys.modules, "plotly.graph_objects", raising=False)
    with pytest.raises(AshwoodError, match=r"pip install 'ashwood\[figures\]'"):
        figures(ran).timeline()


def test_higher_rungs_are_darker() -> None:
    for bracket in range(5):
        colours = [LIGHT.rung_colour(bracket, rung, 5) for rung in range(5)]
        brightness = [sum(int(colour[at : at + 2], 16) for at in (1, 3, 5)) for colour in colours]
        assert brightness == sorted(brightness, reverse=True)
        assert len(set(brightness)) == 5
    assert LIGHT.rung_colour(0, 0, 1) == LIGHT.rung_colour(0, 4, 5)
