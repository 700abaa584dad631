"""Tests of forks in a real browser: a search is changed and started from a page, and completes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, expect

from ashwood.cli import run
from ashwood.cli.ui import HomeSteering
from ashwood.errors import AshwoodError
from tests.browser import Window, axe, chromium, violations, window
from tests.cli.conftest import RANDOM, Workplace, wait_until
from tests.cli.test_ui import dashboard

__all__ = ["chromium"]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A workplace with a completed experiment, of which a value was given on the command line."""
    place = Workplace(tmp_path_factory.mktemp("forks"))
    place.write(RANDOM)
    place.ashwood("run", "toy.yaml", "--workers", "2", "--set", "searcher.max_trials=4")
    return place


@pytest.fixture(scope="module")
def url(workplace: Workplace) -> Iterator[str]:
    with dashboard(workplace) as ui:
        yield f"http://{ui.url.netloc}"


@pytest.fixture
def seen(chromium: Browser, url: str) -> Iterator[Window]:
    with window(chromium, url, scripts=(axe(),)) as opened:
        yield opened


def edit(seen: Window, old: str, new: str) -> None:
    area = seen.page.get_by_role("textbox", name="Experiment file")
    assert old in area.input_value()
    area.fill(area.input_value().replace(old, new))


def start(seen: Window) -> Locator:
    """Open the dialog that starts the search, and return it."""
    seen.page.get_by_role("button", name="Start this search…").click()
    return seen.page.get_by_role("dialog")


def test_changed_search_is_started_and_completes(workplace: Workplace, seen: Window) -> None:
    page = seen.page
    seen.open("/experiments/1")
    page.get_by_role("link", name="New search…").click()
    edit(seen, "max_trials: 4", "max_trials: 5")
    edit(seen, "name: toy", "name: wider")
    expect(page.get_by_role("heading", name="Plan of wider")).to_be_visible()
    dialog = start(seen)
    expect(dialog.get_by_role("heading")).to_have_text("Start wider?")
    expect(dialog).to_contain_text("5 trials, each up to 2 epochs.")
    expect(dialog).to_contain_text("the training code and the environment of experiment 1")
    assert violations(page) == []
    dialog.get_by_role("button", name="Start search").press("Enter")
    expect(page.get_by_role("heading", name="wider", level=1)).to_be_visible()
    number = int(page.url.rpartition("/")[2])
    wait_until(lambda: workplace.json("describe", str(number))["state"] == "completed")
    seen.says("completed", "5 of 5")
    expect(page.get_by_role("link", name="forked from #1")).to_have_attribute("href", "/experiments/1")
    assert violations(page) == []
    described = workplace.json("describe", str(number))
    assert described["provenance"]["from"] == 1
    assert described["provenance"]["changed"] == ["name", "searcher.max_trials"]
    output = workplace.ashwood("describe", str(number))
    assert "run from experiment 1 with changes (name, searcher.max_trials), with Ashwood" in output
    assert [each["from"] for each in workplace.json("list")][:2] == [None, 1]
    assert "(from 1)" in workplace.ashwood("list")
    page.get_by_role("link", name="Experiments", exact=True).first.click()
    seen.says("forked from #1")


def test_other_code_is_refused_in_the_dialog(workplace: Workplace, seen: Window) -> None:
    before = len(workplace.json("list"))
    seen.open("/preview?from=1")
    edit(seen, "entrypoint: train:train", "entrypoint: other:train")
    seen.says("Plan of toy")
    dialog = start(seen)
    dialog.get_by_role("button", name="Start search").click()
    expect(dialog.get_by_role("alert")).to_contain_text("entrypoint: a search that is started here must not change it")
    expect(dialog.get_by_role("alert")).to_contain_text(f"cd {workplace.path} && ashwood run FILE")
    assert violations(seen.page) == []
    dialog.get_by_role("button", name="Cancel").click()
    expect(dialog).to_have_count(0)
    seen.refused(422)
    assert len(workplace.json("list")) == before


def test_search_that_does_not_fit_the_machine_says_so(workplace: Workplace, seen: Window) -> None:
    before = len(workplace.json("list"))
    seen.open("/preview?from=1")
    edit(seen, "name: toy", "name: large\nresources: {slots_per_trial: 1000}")
    seen.says("Plan of large")
    dialog = start(seen)
    dialog.get_by_role("button", name="Start search").click()
    expect(dialog.get_by_role("alert")).to_contain_text("resources.slots_per_trial: is 1000")
    seen.refused(422)
    assert len(workplace.json("list")) == before


def test_driver_that_does_not_start_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Workplace(tmp_path)
    place.write(RANDOM)
    place.ashwood("run", "toy.yaml", "--workers", "2")

    def fail(*_: object) -> None:
        raise AshwoodError("the driver printed nothing")

    monkeypatch.setattr(run, "activate_experiment", fail)
    steering = HomeSteering(str(tmp_path / ".ashwood"))
    with pytest.raises(AshwoodError, match="experiment 2 was created, but could not be started: the driver printed"):
        steering.fork(1, RANDOM)
    (tmp_path / "train.py").unlink()
    tmp_path.rename(tmp_path.with_name("moved"))
    moved = HomeSteering(str(tmp_path.with_name("moved") / ".ashwood"))
    with pytest.raises(AshwoodError, match="directory of the training code does not exist: "):
        moved.fork(1, RANDOM)


def test_pages_without_source_or_rights_have_no_button(workplace: Workplace, chromium: Browser, seen: Window) -> None:
    seen.open("/preview")
    seen.page.get_by_role("button", name="Insert example").click()
    seen.says("Run this search")
    expect(seen.page.get_by_role("button", name="Start this search…")).to_have_count(0)
    with (
        dashboard(workplace, "--read-only") as ui,
        window(chromium, f"http://{ui.url.netloc}") as other,
    ):
        other.open("/preview?from=1")
        other.says("Run this search")
        expect(other.page.get_by_role("button", name="Start this search…")).to_have_count(0)
        status, answer = ui.ask("/api/v1/experiments/1/fork", {"text": "name: x"})
        assert (status, "can be changed here" in answer["error"]["what"]) == (403, True)


def test_command_gets_values_of_a_fork_as_text(tmp_path: Path) -> None:
    """The values that are allowed reach the command as they are, also those with signs of the shell."""
    place = Workplace(tmp_path)
    text = RANDOM.replace("train:train", "python command.py --x {x} --opt {opt}").replace(
        "hyperparameters: {", "hyperparameters: {opt: {type: categorical, vals: ['$(touch pwned)', b]}, "
    )
    place.write(text)
    (tmp_path / "command.py").write_text(
        "import sys, ashwood\n"
        "trial = ashwood.get_trial()\n"
        "assert sys.argv[4] == trial.hparams.opt, sys.argv\n"
        "for epoch in trial.epochs():\n"
        "    trial.report(loss=float(sys.argv[2]))\n"
    )
    place.ashwood("run", "toy.yaml", "--workers", "2")
    with dashboard(place) as ui:
        evil = text.replace("vals: [", "vals: ['; touch pwned', ")
        status, answer = ui.ask("/api/v1/experiments/1/fork", {"text": evil})
        assert status == 422
        assert "hyperparameters.opt: " in answer["error"]["what"]
        fork = text.replace("max_trials: 6", "max_trials: 3").replace(", b]", "]")
        status, answer = ui.ask("/api/v1/experiments/1/fork", {"text": fork})
        assert (status, answer["id"]) == (200, 2)
        wait_until(lambda: place.json("describe", "2")["state"] == "completed")
    assert {trial["hparams.opt"] for trial in place.json("trials", "2")} == {"$(touch pwned)"}
    assert not (tmp_path / "pwned").exists()
