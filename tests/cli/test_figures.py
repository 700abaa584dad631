"""Figures and animations from the command line."""

from __future__ import annotations

import pytest

from ashwood.search.settings import Method

from .conftest import Workplace


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A workplace whose experiment 1 is completed."""
    workplace = Workplace(tmp_path_factory.mktemp("finished"))
    workplace.ashwood("run", "toy.yaml", "--workers", "2")
    return workplace


def test_timeline_is_self_contained_page(finished: Workplace) -> None:
    assert "Wrote timeline.html." in finished.ashwood("timeline", "1", "--out", "timeline.html")
    page = (finished.path / "timeline.html").read_text()
    assert "<script src=" not in page
    assert "workers busy" in page
    assert "bracket 1" in page


def test_a_timeline_of_another_format_is_refused(finished: Workplace) -> None:
    said = finished.ashwood("timeline", "1", "--out", "timeline.png", code=1)
    assert "must end in .html" in said
    assert "no/such" in finished.ashwood("timeline", "1", "--out", "no/such/page.html", code=1)


def test_figures_of_python_experiment(finished: Workplace) -> None:
    from ashwood import open_experiment

    experiment = open_experiment(1, home=finished.path / ".ashwood")
    assert experiment.figures.timeline().data[0].name == "idle"


def test_animate_simulates_synchronous_and_asynchronous_halving(workplace: Workplace) -> None:
    small = ("--workers", "2", "--trials", "9", "--seconds", "0.5", "--fps", "6")
    assert "Wrote asha.gif (" in workplace.ashwood("animate", "--out", "asha.gif", *small)
    assert (workplace.path / "asha.gif").read_bytes()[:6] == b"GIF89a"


def test_animate_draws_recorded_experiment(finished: Workplace) -> None:
    assert "Wrote search.gif (" in finished.ashwood("animate", "1", "--out", "search.gif", "--seconds", "0.5")
    assert (finished.path / "search.gif").stat().st_size > 10_000


def test_animation_has_recorded_number_of_workers(finished: Workplace) -> None:
    said = finished.ashwood("animate", "1", "--out", "search.gif", "--workers", "3", code=2)
    assert "are for a simulated search" in said


def test_simulated_searches_have_same_trials() -> None:
    from ashwood.cli.figures import simulated

    sync, asynchronous = (simulated(method, 4, 27, 1) for method in (Method.SYNC_HALVING, Method.ASYNC_HALVING))
    first = [[path.arrivals[0].metric for path in each.ladder.paths] for each in (sync, asynchronous)]
    assert first[0] == first[1]
    assert len(first[0]) == 27
