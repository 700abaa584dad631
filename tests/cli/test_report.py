"""``ashwood report``: the page, and its PDF and PNG from a real browser."""

from __future__ import annotations

import os
import re
import struct
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser as PageBrowser

from ashwood.api import browser
from ashwood.api.browser import VARIABLE, Browser, find_browser
from ashwood.api.report import make_page
from ashwood.errors import AshwoodError
from ashwood.eventlog.home import open_home
from ashwood.experiment.entry import Entry, fold
from ashwood.search.space import Double, Space
from ashwood.views.history import History
from tests.browser import chromium
from tests.dashboard.homes import add, append, ran
from tests.views.simulate import asha, spec_of

from .conftest import RANDOM, Workplace

__all__ = ["chromium"]


def _browser() -> Browser | None:
    try:
        return find_browser()
    except AshwoodError:
        return None


needs_browser = pytest.mark.skipif(_browser() is None and "CI" not in os.environ, reason="no browser is installed")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A workplace whose experiment 1 is completed."""
    workplace = Workplace(tmp_path_factory.mktemp("finished"))
    workplace.write(RANDOM)
    workplace.ashwood("run", "toy.yaml", "--workers", "2")
    return workplace


def test_report_is_one_page(finished: Workplace) -> None:
    said = finished.ashwood("report", "1", "--out", "report.html")
    assert re.fullmatch(r"Wrote report\.html \(\d\.\d MB\)\.\n", said)
    page = (finished.path / "report.html").read_text()
    assert "max_trials: 6" in page
    assert "completed" in page
    assert not list(finished.path.glob(".report*"))


def test_experiment_writes_report(finished: Workplace) -> None:
    from ashwood import open_experiment

    out = finished.path / "from_python.html"
    open_experiment(1, home=finished.path / ".ashwood").report(out)
    assert out.read_text().startswith("<!doctype html>")


def test_report_of_experiment_that_ends_during_reading_shows_it_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = ran()
    half = len(workers.entries) // 2
    with open_home(tmp_path, create=True) as home:
        experiment = add(home, workers, until=half)

        def slowly(views: History, _: Iterable[Entry]) -> History:
            append(home, experiment, views.spec, workers.entries[half:], workers.entries[:half])
            return fold(views, workers.entries)

        monkeypatch.setattr("ashwood.api.report.fold", slowly)
        assert '<span class="state good">completed</span>' in make_page(home, experiment)


def test_report_refuses_path_that_cannot_be_written(finished: Workplace) -> None:
    assert "must end in .html" in finished.ashwood("report", "1", "--out", "report.docx", code=1)
    assert "no directory no/such" in finished.ashwood("report", "1", "--out", "no/such/report.html", code=1)
    assert "no experiment" in finished.ashwood("report", "7", "--out", "report7.html", code=1)
    assert not (finished.path / "report7.html").exists()


def test_report_without_browser_says_what_to_do(finished: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(finished.path))
    monkeypatch.setattr(browser, "_APPLICATIONS", ())
    said = finished.ashwood("report", "1", "--out", "report.pdf", code=1)
    assert "chromium, chromium-browser" in said
    assert "write --out report.html and print that" in said


def test_a_browser_can_be_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(VARIABLE, str(_program(tmp_path, "exit 0")))
    assert find_browser().path == str(tmp_path / "browser")
    monkeypatch.setenv(VARIABLE, "no-such-browser")
    with pytest.raises(AshwoodError, match=f"{VARIABLE}: there is no program 'no-such-browser'"):
        find_browser()


def _program(directory: Path, script: str) -> Path:
    path = directory / "browser"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("exit 0", "without writing the file"),
        ("echo starting >&2; echo no display >&2; exit 3", r"failed \(exit code 3\): no display"),
    ],
)
def test_a_browser_that_fails_leaves_no_file(tmp_path: Path, script: str, words: str) -> None:
    out = tmp_path / "report.pdf"
    with pytest.raises(AshwoodError, match=words):
        Browser(str(_program(tmp_path, script))).print_page("<p>", out)
    assert not out.exists()


def test_hung_browser_is_killed_with_all_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browser, "SECONDS", 0.3)
    # As long as anybody holds its output, reading it would wait.
    program = _program(tmp_path, f"{sys.executable} -c 'import time; time.sleep(100)' & wait")
    with pytest.raises(AshwoodError, match="did not finish"):
        Browser(str(program)).print_page("<p>", tmp_path / "report.pdf")


def test_picture_without_drawn_figures_is_an_error(tmp_path: Path) -> None:
    program = _program(tmp_path, """echo '<html data-height="100"><p>'""")
    with pytest.raises(AshwoodError, match="did not draw its figures"):
        Browser(str(program)).take_picture("<p>", tmp_path / "report.png")


@pytest.mark.slow
@needs_browser
def test_report_as_pdf(finished: Workplace) -> None:
    assert "Wrote report.pdf (" in finished.ashwood("report", "1", "--out", "report.pdf")
    written = (finished.path / "report.pdf").read_bytes()
    assert written.startswith(b"%PDF-")
    assert 3 <= len(re.findall(rb"/Type\s*/Page\b", written)) <= 9


@pytest.mark.slow
@needs_browser
def test_a_picture_has_room_for_many_hyperparameters_with_long_names(tmp_path: Path, chromium: PageBrowser) -> None:
    space = Space({f"a_rather_long_hyperparameter_{number}": Double(0.0, 1.0, count=1) for number in range(10)})
    with open_home(tmp_path, create=True) as home:
        add(home, ran(20, spec=replace(spec_of(asha(20)), space=space)))
        (tmp_path / "report.html").write_text(make_page(home, 1))
    with chromium.new_context(viewport={"width": 1_120, "height": 900}) as context:
        page = context.new_page()
        page.goto((tmp_path / "report.html").as_uri() + "#picture")
        page.wait_for_selector("html[data-ready]", state="attached")
        tables = page.locator(".wide")
        assert tables.count() >= 2
        assert [each.evaluate("(box) => box.scrollWidth > box.clientWidth") for each in tables.all()].count(True) == 0


@pytest.mark.slow
@needs_browser
def test_report_as_png(finished: Workplace) -> None:
    assert "Wrote report.png (" in finished.ashwood("report", "1", "--out", "report.png")
    written = (finished.path / "report.png").read_bytes()
    assert written.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", written[16:24])
    assert width == 2 * 1_120
    assert height > 4_000
