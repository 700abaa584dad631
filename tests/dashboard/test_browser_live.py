"""Tests of the pages in a real browser while a real experiment trains: live changes and buttons."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from ashwood.eventlog.home import open_home
from ashwood.eventlog.port import ExperimentId
from ashwood.experiment.events import (
    AddTrialRequested,
    CancelRequested,
    ExtendRequested,
    PauseRequested,
    Request,
    SettingsChanged,
    TrialKillRequested,
)
from tests.browser import Window, axe, chromium, violations, window
from tests.cli.conftest import Workplace, wait_until
from tests.cli.test_ui import dashboard

from .homes import NASTY

__all__ = ["chromium"]

TRAIN = f"""
import json, pathlib, time
import ashwood

NASTY = {NASTY!r}

def train(trial):
    start = 0
    if trial.checkpoint:
        start = json.loads((trial.checkpoint / "state.json").read_text())["epochs"]
    for epoch in trial.epochs():
        print("epoch", epoch, NASTY, flush=True)
        while not (pathlib.Path("go").exists() or pathlib.Path(f"go-{{epoch}}").exists()):
            time.sleep(0.01)
        trial.report(
            loss=abs(trial.hparams.x - 0.3) + 1 / (epoch + 1),
            **{{NASTY: epoch}},
            checkpoint=lambda directory: (directory / "state.json").write_text(json.dumps({{"epochs": epoch + 1}})),
        )
"""

EXPERIMENT = """
name: live
entrypoint: train:train
hyperparameters: {x: {type: double, minval: 0.0, maxval: 1.0}}
searcher:
  {name: async_halving, metric: loss, max_length: {epochs: 4}, max_trials: 4, divisor: 2,
   max_concurrent_trials: 2}
reproducibility: {experiment_seed: 5}
"""


@pytest.fixture
def workplace(tmp_path: Path) -> Workplace:
    place = Workplace(tmp_path)
    place.write(EXPERIMENT, TRAIN)
    return place


@contextmanager
def watched(workplace: Workplace, chromium: Browser) -> Iterator[Window]:
    """Open a window with the dashboard of a workplace."""
    with dashboard(workplace) as ui, window(chromium, f"http://{ui.url.netloc}", scripts=(axe(),)) as seen:
        yield seen


def asked(workplace: Workplace) -> list[Request]:
    """Return the requests in the event log."""
    with open_home(workplace.path / ".ashwood") as home:
        events = [entry.event for _, entry in home.store.log(ExperimentId(1)).read()]
    return [event for event in events if isinstance(event, Request)]


COLLECT_TOASTS = """() => {
    window.toasts = [];
    const keep = (change) => change.addedNodes.forEach((node) => toasts.push(node.textContent));
    const note = (changes) => changes.forEach(keep);
    new MutationObserver(note).observe(document.getElementById("toasts"), { childList: true });
}"""
"""Keeps what a page shows for some seconds: on a busy machine it is gone before a test looks."""


def offered(page: Page) -> set[str]:
    """Return the names of the checkpoints that a trial's page offers for download, without the trial."""
    links = page.get_by_role("link", name="Download").all()
    return {str(link.get_attribute("href")).removesuffix("/download").split("/")[-1] for link in links}


def kept_of(workplace: Workplace, page: Page) -> set[str]:
    """Return the names of a trial's checkpoints."""
    trial = page.url.rstrip("/").split("/")[-1]
    top = workplace.path / ".ashwood" / "experiments" / "1" / "checkpoints" / f"trial-{trial}"
    return {path.name for path in top.iterdir() if not path.name.startswith(".")}


def dots(page: Page) -> dict[str, tuple[float, float]]:
    """Return the positions of the trials on the ladder, relative to it, because the page above it can grow."""
    points: list[list[Any]] = page.evaluate(
        """() => [...document.querySelectorAll('.scatterlayer .point')].map((point) => {
          const at = point.getBoundingClientRect();
          const ladder = point.closest('svg').getBoundingClientRect();
          return [point.__data__?.id, Math.round(at.x - ladder.x), Math.round(at.y - ladder.y)];
        }).filter(([id]) => id)"""
    )
    return {str(name): (x, y) for name, x, y in points}


def test_changes_appear_without_a_reload(workplace: Workplace, chromium: Browser) -> None:
    with workplace.driving("run", "toy.yaml") as driver, watched(workplace, chromium) as seen:
        page = seen.page
        seen.open()
        page.get_by_role("link", name="live", exact=True).click()
        trained = page.locator(".fact").filter(has_text="Trained").locator("b")
        expect(trained).to_have_text("0 epochs")
        seen.says("running", "2 of 4", "Recent activity")
        wait_until(lambda: len(dots(page)) == 2)  # The ladder may first be drawn without the trials.
        before = dots(page)
        (workplace.path / "go-0").touch()
        (workplace.path / "go-1").touch()
        expect(trained).to_have_text("6 epochs")
        wait_until(lambda: promoted(before, dots(page)))
        page.get_by_role("tab", name="Trials").click()
        # It went on without a checkpoint, so those that have one may be before it.
        page.locator("tbody tr").filter(has_text="running").locator("th a").click()
        log, state = page.locator(".log"), page.locator(".title .badge")
        expect(log).to_contain_text(f"epoch 2 {NASTY}")
        expect(log).not_to_contain_text("epoch 3")
        expect(state).to_contain_text("running")
        expect(page.locator(".way")).to_contain_text("rank 1 of 2 at rung 1")
        expect(page.locator("figcaption").nth(1)).to_have_text(NASTY)
        (workplace.path / "go").touch()
        expect(log).to_contain_text("epoch 3")
        expect(state).to_contain_text("completed")
        assert page.locator("img[src=x]").count() == 0
        # A checkpoint that was offered before may be deleted when the experiment ends.
        assert driver.wait(60) == 0
        wait_until(lambda: offered(page) == kept_of(workplace, page))
        with page.expect_download() as downloading:
            page.get_by_role("link", name="Download").first.click()
        with tarfile.open(downloading.value.path()) as archive:
            assert "state.json" in {Path(name).name for name in archive.getnames()}
        page.go_back()
        expect(page.locator("tbody tr").first).to_contain_text("completed")
        page.go_back()
        expect(page.locator(".title .badge")).to_contain_text("completed")
        wait_until(lambda: any(name.startswith("1 at 2") for name in dots(page)))
        bests = page.get_by_role("region", name="New bests").locator("li")
        expect(bests.first).to_contain_text(re.compile(r"trial \d: loss \d"))
        assert page.get_by_text("Recent activity").count() == 0


def test_dialog_of_added_trial_knows_steps_conditions_and_constraints(workplace: Workplace, chromium: Browser) -> None:
    workplace.write(
        EXPERIMENT.replace(
            "hyperparameters: {x: {type: double, minval: 0.0, maxval: 1.0}}",
            """constraints: [x < 0.9]
hyperparameters:
  x: {type: double, minval: 0.0, maxval: 1.0}
  o: {type: categorical, vals: [small, large], ordered: true}
  n: {type: int, minval: 2, maxval: 8, step: 2, when: {o: small}}
  m: {type: int, minval: 1, maxval: 9, when: {n: ">= 4"}}""",
        )
    )
    with workplace.driving("run", "toy.yaml"), watched(workplace, chromium) as seen:
        seen.open("/experiments/1")
        seen.page.locator(".actions").get_by_role("button", name="Add trial…").click()
        dialog = seen.page.get_by_role("dialog")
        for words in ("2 to 8, step 2, only if o = small", "only if n >= 4", "ordered", "x < 0.9"):
            expect(dialog).to_contain_text(words)
        n, m = (dialog.locator(f"input[name={name}]") for name in "nm")
        n.fill("2")
        expect(m).to_be_disabled()
        n.fill("6")
        expect(m).to_be_enabled()
        m.fill("7")
        dialog.locator("select[name=o]").select_option(label="large")
        expect(n).to_be_disabled()
        expect(m).to_be_disabled()
        dialog.get_by_role("button", name="Add trial").click()
        expect(dialog).to_have_count(0)
        assert asked(workplace)[-1] == AddTrialRequested({"o": "large"})


def test_buttons_send_their_requests(workplace: Workplace, chromium: Browser) -> None:
    with workplace.driving("run", "toy.yaml") as driver, watched(workplace, chromium) as seen:
        page = seen.page
        dialog = page.get_by_role("dialog")
        state = page.locator(".title .badge")

        def press(name: str) -> None:
            page.locator(".actions").get_by_role("button", name=name).click()

        def answer(name: str) -> None:
            dialog.get_by_role("button", name=name).click()

        seen.open("/experiments/1/trials/0")
        press("Kill…")
        expect(dialog).to_contain_text("Kill trial 0?")
        answer("Keep running")
        expect(dialog).to_have_count(0)
        assert asked(workplace) == []
        press("Kill…")
        answer("Kill trial")
        expect(dialog).to_have_count(0)  # the page may hear of the kill before its request is answered
        expect(state).not_to_contain_text("running")
        assert isinstance(asked(workplace)[-1], TrialKillRequested)

        page.keyboard.press("u")
        press("Settings…")
        dialog.get_by_label("max_trials").fill("1")
        answer("Change")
        expect(dialog.get_by_role("alert")).to_contain_text("Correct the marked fields.")
        problem = re.compile("max_trials can't become 1: ")
        expect(dialog.get_by_label("Total number of trials")).to_have_accessible_description(problem)
        expect(dialog.get_by_label("Total number of trials")).to_be_focused()
        expect(dialog.locator("[aria-invalid]")).to_have_count(1)
        assert violations(page) == []
        seen.refused(409)
        dialog.get_by_label("max_trials").fill("6")
        dialog.get_by_label("max_concurrent_trials").fill("1")
        dialog.get_by_label("Maximum run time in hours").fill("2.5")
        dialog.get_by_label("Replicates").last.fill("1")
        page.evaluate(COLLECT_TOASTS)
        answer("Change")
        expect(dialog).to_have_count(0)
        wait_until(lambda: page.evaluate("toasts.length > 0"))
        assert "max_time is now 2 h 30 min" in page.evaluate("toasts.join()")
        seen.says("of 6", "at most 9000 s")  # in the events
        changed = asked(workplace)[-1]
        assert isinstance(changed, SettingsChanged)
        assert changed.settings == {
            "max_trials": 6,
            "max_concurrent_trials": 1,
            "max_time": 9_000,
            "replicates": 1,
        }

        press("Add trial…")
        answer("Add trial")
        expect(dialog.get_by_role("alert")).to_contain_text("at least one hyperparameter")
        seen.refused(409)
        x = dialog.locator("input[name=x]")
        x.fill("5")
        answer("Add trial")
        expect(x).to_have_accessible_description("5.0 is outside its range, 0 to 1")
        expect(x).to_be_focused()
        allow = "select “Allow values outside the space and broken constraints”"
        refused = f"Nothing was changed. Correct the marked fields, or {allow}."
        expect(dialog.get_by_role("alert")).to_have_text(refused)
        assert violations(page) == []
        seen.refused(409)
        x.fill("0.5")
        answer("Add trial")
        expect(dialog).to_have_count(0)
        assert asked(workplace)[-1] == AddTrialRequested({"x": 0.5})
        seen.says("trial requested, with x=0.5")  # in the events

        press("Extend…")
        answer("Extend and run")
        expect(dialog.get_by_role("alert")).to_contain_text("Enter at least one new value.")
        dialog.get_by_label("max_trials").fill("7")
        dialog.get_by_label("Replicates").last.fill("2")
        answer("Extend and run")
        expect(dialog).to_have_count(0)
        assert asked(workplace)[-1] == ExtendRequested(7, None, 2)
        seen.says("of 7")

        press("Pause")
        expect(state).to_contain_text("pausing")
        (workplace.path / "go-0").touch()
        assert driver.wait(60) == 3
        expect(state).to_contain_text("paused")
        seen.says("It can be resumed.")
        press("Resume")
        expect(state).to_contain_text("running")
        expect(page.locator(".fact").filter(has_text="Workers busy")).to_contain_text("1 of")

        press("Cancel…")
        expect(dialog).to_contain_text("Cancel experiment 1, live?")
        answer("Cancel experiment")
        expect(dialog).to_have_count(0)  # it was asked for
        (workplace.path / "go").touch()
        expect(state).to_contain_text("canceled")
        assert [type(each) for each in asked(workplace)][-2:] == [PauseRequested, CancelRequested]
        expect(page.locator(".actions").get_by_role("button", name="Pause")).to_have_count(0)


def promoted(before: dict[str, tuple[float, float]], now: dict[str, tuple[float, float]]) -> bool:
    """Return whether a dot has moved up."""
    return any(name in before and y < before[name][1] - 20 for name, (_, y) in now.items())
