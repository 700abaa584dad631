"""The pages in a real browser while a real experiment trains: what changes shows, and buttons do what they say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser import Window, chromium, window
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
    """A window on the dashboard of a workplace."""
    with dashboard(workplace) as ui, window(chromium, f"http://{ui.url.netloc}") as seen:
        yield seen


def dots(page: Page) -> dict[str, tuple[float, float]]:
    """Where the trials stand on the ladder."""
    points: list[list[Any]] = page.evaluate(
        """() => [...document.querySelectorAll('.scatterlayer .point')].map((point) => {
          const at = point.getBoundingClientRect();
          return [point.__data__?.id, Math.round(at.x), Math.round(at.y)];
        }).filter(([id]) => id)"""
    )
    return {str(name): (x, y) for name, x, y in points}


def test_what_happens_shows_without_a_reload(workplace: Workplace, chromium: Browser) -> None:
    with workplace.driving("run", "toy.yaml") as driver, watched(workplace, chromium) as seen:
        page = seen.page
        seen.open()
        page.get_by_role("link", name="live", exact=True).click()
        seen.says("running", "2 of 4")
        fact = page.locator(".fact")
        expect(fact.filter(has_text="Reports").locator("b")).to_have_text("0")
        page.evaluate("() => (window.same = true)")
        seen.settled()
        before = dots(page)
        (workplace.path / "go-0").touch()
        (workplace.path / "go-1").touch()
        wait_until(lambda: promoted(before, dots(page)))
        expect(fact.filter(has_text="Reports").locator("b")).not_to_have_text("0")
        page.goto(page.url + "/trials/0")
        expect(page.locator(".log")).to_contain_text(f"epoch 1 {NASTY}")
        (workplace.path / "go").touch()
        assert driver.wait(60) == 0
        page.go_back()
        seen.says("completed", "4 of 4")


def promoted(before: dict[str, tuple[float, float]], now: dict[str, tuple[float, float]]) -> bool:
    """Whether a dot that was there stands higher."""
    return any(name in before and y < before[name][1] - 20 for name, (_, y) in now.items())
