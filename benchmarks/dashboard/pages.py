"""Pages in a real browser: when they can be used, and when they are drawn."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from playwright.sync_api import Browser

PATIENCE = 300.0
"""Seconds that a page may take to reach a milestone."""


class Milestones(NamedTuple):
    """What is waited for on a page: by name, selectors that must all be there, with text in them or drawn.

    Attributes:
        path: of the page.
        marks: in the order in which they are waited for.
    """

    path: str
    marks: Mapping[str, Sequence[str]]


def experiment_page(experiment: int) -> Milestones:
    """The overview: usable with its header, its controls and the rows of its table; later its ladder."""
    return Milestones(
        f"/experiments/{experiment}",
        {
            "usable": (".experiment-head h1:not(:empty)", ".actions button", "#panel table tbody tr td"),
            "drawn": ("#panel .figure .plot .main-svg",),
        },
    )


def trials_page(experiment: int) -> Milestones:
    """The table of trials: usable with its header and its rows."""
    return Milestones(
        f"/experiments/{experiment}?tab=trials",
        {"usable": (".experiment-head h1:not(:empty)", ".actions button", "#panel table tbody tr td")},
    )


class Visit(NamedTuple):
    """A page was opened.

    Attributes:
        marks: milliseconds from the start of navigation to each milestone.
        longest_block: the longest time, in milliseconds, in which the page did not react, until the last of them; None:
            not all of them were reached.
    """

    marks: Mapping[str, float]
    longest_block: float | None


# Notes in the page itself when each milestone is first reached, by the page's own clock, which begins with navigation.
_WATCH = """
(marks) => {
  window.reached = {};
  window.blocked = 0;
  const left = new Map(Object.entries(marks));
  const look = () => {
    for (const [name, selectors] of left) {
      if (!selectors.every((each) => document.querySelector(each))) break;
      window.reached[name] = performance.now();
      left.delete(name);
    }
  };
  new MutationObserver(look).observe(document, { childList: true, subtree: true, attributes: true });
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) window.blocked = Math.max(window.blocked, entry.duration);
  }).observe({ type: "longtask", buffered: true });
}
"""


_TELL = "() => new Promise((tell) => setTimeout(() => tell({ reached: window.reached, blocked: window.blocked }), 50))"


@contextmanager
def browser() -> Iterator[Browser]:
    """A headless Chromium: the system's, else Playwright's own."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = shutil.which("chromium") or shutil.which("chromium-browser")
        arguments = ["--no-sandbox"] if os.getuid() == 0 else []
        opened = playwright.chromium.launch(executable_path=path, args=arguments)
        try:
            yield opened
        finally:
            opened.close()


def visit(opened: Browser, address: str, page: Milestones) -> Visit:
    """Open a page with nothing in the browser's cache, and wait for its last milestone, or for `PATIENCE`."""
    from playwright.sync_api import Error

    with opened.new_context(viewport={"width": 1440, "height": 900}) as context:
        tab = context.new_page()
        tab.add_init_script(f"({_WATCH})({json.dumps(page.marks)})")
        began = time.monotonic()
        tab.goto(address + page.path, wait_until="commit")
        reached: dict[str, float] = {}
        try:
            for name, selectors in page.marks.items():
                for selector in selectors:
                    tab.wait_for_selector(selector, state="attached", timeout=1000 * PATIENCE)
                reached[name] = 1000 * (time.monotonic() - began)
        except Error:  # it took too long, or the page crashed: what it says of itself may never come
            return Visit(reached, None)
        # A task that is still going on is told when it is over.
        told: dict[str, Any] = tab.evaluate(_TELL)
        return Visit(told["reached"], told["blocked"])


def visits(opened: Browser, address: str, page: Milestones, repeats: int) -> Visit:
    """Open a page several times: the median of each."""
    seen = [visit(opened, address, page) for _ in range(repeats)]
    blocks = [each.longest_block for each in seen if each.longest_block is not None]
    return Visit(
        {
            name: median(each.marks[name] for each in seen)
            for name in page.marks
            if all(name in each.marks for each in seen)
        },
        median(blocks) if len(blocks) == len(seen) else None,
    )
