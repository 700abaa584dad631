"""A real browser for tests: Debian's Chromium, without a screen.

Use the fixture ``chromium``: one browser a module, as Playwright's loop runs in the thread of the tests while it is
open, and others need that thread for loops of their own.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, Literal, NoReturn
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Dialog, Error, Page, Request, expect, sync_playwright

from tests.cli.conftest import wait_until

# The first is the same engine without the windows of a browser. It takes a third less of the processor.
NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE_MS = 60_000
WIDE = (1440, 900)
NARROW = (1024, 768)

Theme = Literal["light", "dark"]


@contextmanager
def chromium_browser() -> Iterator[Browser]:
    """A browser that runs while the context is open; the test is skipped where none is installed."""
    program = find_program()
    expect.set_options(timeout=PATIENCE_MS)
    # Root has no sandbox.
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=sandbox, timeout=PATIENCE_MS)
        try:
            yield browser
        finally:
            browser.close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A running browser."""
    with chromium_browser() as browser:
        yield browser


def find_program() -> str:
    """Where Chromium is; skips the test where there is none."""
    for name in NAMES:
        if path := shutil.which(name):
            return path
    return _do_without("Chromium is not installed (Debian: apt-get install chromium-headless-shell)")


def _do_without(reason: str) -> NoReturn:
    """Skip the test; where everything is to be tried, fail."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


UNDRAWN = """(overlays) => overlays.filter((overlay) =>
    overlay.checkVisibility() && overlay.getBoundingClientRect().top < innerHeight && !overlay.querySelector(".failure")
).length"""
"""Counts the figures in sight that are still being drawn."""


@dataclass
class Window:
    """A page, and whatever is wrong with it.

    Attributes:
        page: Playwright's.
        url: of the server, without a path.
        wrong: errors of scripts, complaints in the console, dialogs, and requests to anybody but the server.
    """

    page: Page
    url: str
    wrong: list[str] = field(default_factory=list)
    away: bool = False

    def open(self, path: str = "/") -> None:
        """Open an address of the server."""
        self.page.goto(self.url + path)
        self.settled()

    def go(self, path: str) -> None:
        """To another address as a link leads there: nothing is loaded anew."""
        if not self.page.url.startswith(self.url):
            self.open(path)
            return
        self.page.evaluate(
            "(path) => { history.pushState(null, '', path); dispatchEvent(new PopStateEvent('popstate')); }", path
        )
        self.settled()

    def settled(self) -> None:
        """Wait until the page is there, with the figures that are in sight."""
        expect(self.page.locator("main:not([aria-busy]) > :not(.loading, noscript)")).to_have_count(1)
        # In one look: an overlay may go at any moment, and Playwright would wait for it to come back.
        overlays = self.page.locator(".plot-over")
        wait_until(lambda: overlays.evaluate_all(UNDRAWN) == 0)

    def use(self, theme: Theme, size: tuple[int, int] = WIDE) -> None:
        """Look at it in another way."""
        self.page.emulate_media(color_scheme=theme, reduced_motion="reduce")
        self.page.set_viewport_size({"width": size[0], "height": size[1]})

    @contextmanager
    def without_server(self) -> Iterator[None]:
        """While nobody answers, and what the console says about that is no complaint."""
        self.away = True
        try:
            yield
        finally:
            self.away = False

    def says(self, *texts: str) -> None:
        """These texts are to be seen, or come to be."""
        for text in texts:
            expect(self.page.locator("body")).to_contain_text(text, use_inner_text=True)

    def refused(self, status: int) -> None:
        """The server has refused something, which the console tells, too."""
        wanted = [each for each in self.wrong if f"status of {status} " in each]
        assert wanted, self.wrong
        self.wrong.remove(wanted[0])

    def _listen(self) -> None:
        self.page.set_default_timeout(PATIENCE_MS)
        self.page.on("console", self._console)
        self.page.on("pageerror", self._broken)
        self.page.on("dialog", self._dialog)
        self.page.on("request", self._asked)

    def _broken(self, error: Error) -> None:
        self.wrong.append(f"error: {error}")

    def _dialog(self, dialog: Dialog) -> None:
        self.wrong.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _console(self, message: ConsoleMessage) -> None:
        unreachable = self.away and "net::ERR_" in message.text
        if message.type in ("error", "warning") and not unreachable:
            self.wrong.append(f"console: {message.text}")

    def _asked(self, request: Request) -> None:
        address = urlsplit(request.url)
        if address.scheme not in ("data", "blob", "about") and f"{address.scheme}://{address.netloc}" != self.url:
            self.wrong.append(f"asked for {request.url}")


@contextmanager
def window(
    browser: Browser,
    url: str,
    *,
    theme: Theme = "light",
    size: tuple[int, int] = WIDE,
    scripts: tuple[str, ...] = (),
    **options: Any,
) -> Iterator[Window]:
    """A window of its own, with its own storage; at the end nothing may be wrong with it."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]}, color_scheme=theme, reduced_motion="reduce", **options
    )
    try:
        for script in scripts:
            context.add_init_script(script)
        opened = Window(context.new_page(), url)
        opened._listen()
        yield opened
        assert opened.wrong == [], opened.wrong
    finally:
        context.close()


def axe() -> str:
    """The source of axe-core, as a script of a window."""
    return (files("axe_playwright_python") / "axe.min.js").read_text()


def violations(page: Page, *, rules: tuple[str, ...] = ()) -> list[str]:
    """What axe-core has to say against a page, one line a node; with ``rules``, by these alone.

    Charts are taken as the pictures that they are, each with a name: not every dot of them is looked at.
    """
    options: dict[str, Any] = {"resultTypes": ["violations"]}
    if rules:
        options["runOnly"] = list(rules)
    found = page.evaluate("(options) => axe.run({exclude: ['.plot .main-svg']}, options)", options)
    return [
        f"{rule['id']} ({rule['impact']}): {' '.join(node['target'])}: {node['failureSummary']}"
        for rule in found["violations"]
        for node in rule["nodes"]
    ]


__all__ = ["NARROW", "WIDE", "Theme", "Window", "axe", "chromium", "violations", "window"]
