"""Figures and films from the command line."""

from __future__ import annotations

import pytest

from .conftest import Workplace


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A workplace whose experiment 1 is completed."""
    workplace = Workplace(tmp_path_factory.mktemp("finished"))
    workplace.ashwood("run", "toy.yaml", "--workers", "2")
    return workplace


def test_a_timeline_is_a_page_that_needs_no_network(finished: Workplace) -> None:
    assert "Wrote timeline.html." in finished.ashwood("timeline", "1", "--out", "timeline.html")
    page = (finished.path / "timeline.html").read_text()
    assert "<script src=" not in page
    assert "workers busy" in page
    assert "bracket 1" in page


def test_a_timeline_of_another_format_is_refused(finished: Workplace) -> None:
    said = finished.ashwood("timeline", "1", "--out", "timeline.png", code=1)
    assert "must end in .html" in said
    assert "no/such" in finished.ashwood("timeline", "1", "--out", "no/such/page.html", code=1)


def test_an_experiment_has_figures(finished: Workplace) -> None:
    from ashwood import open_experiment

    experiment = open_experiment(1, home=finished.path / ".ashwood")
    assert experiment.figures.timeline().data[0].name == "idle"
