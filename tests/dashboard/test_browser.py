"""Tests of the pages in a real browser, for homes in which nothing runs: layout, safety, accessibility."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from ashwood.errors import RequestRefused
from ashwood.eventlog.home import open_home
from ashwood.eventlog.port import ExperimentId
from ashwood.experiment.events import AttemptFailed, Request
from ashwood.search.draw import unit_draw
from ashwood.search.settings import Mode
from tests.browser import NARROW, WIDE, Theme, Window, axe, chromium, violations, window
from tests.cli.conftest import wait_until
from tests.views.simulate import Workers, asha, power_law, spec_of

from .homes import NASTY, Steered, add, append, nasty_spec, ran
from .serving import shown

__all__ = ["chromium"]

TABS = ("overview", "trials", "curves", "hyperparameters", "timeline", "budget", "events", "config")
DONE, INTERRUPTED, CREATED, PAUSED, ERRORED = 1, 2, 3, 4, 5
PHONE = (390, 844)
WIDE_AND_TALL = (WIDE[0], 2600)
NARROW_AND_TALL = (NARROW[0], 2600)
BOTH: tuple[Theme, ...] = ("light", "dark")
TOO_WIDE = """() => {
  const wide = (element) => element.scrollWidth > element.clientWidth + 1;
  const scrolls = (element) => ['auto', 'scroll', 'clip'].includes(getComputedStyle(element).overflowX);
  const cards = [...document.querySelectorAll('main .card')].filter((card) => wide(card) && !scrolls(card));
  return [document.documentElement, ...cards]
    .filter((element) => wide(element))
    .map((element) => element.textContent.trim().slice(0, 40));
}"""
TOKEN = "a-token-of-this-test"


def every_state(path: Path) -> Path:
    """A home with experiments in every state that needs no driver."""
    with open_home(path, create=True) as home:
        whole = with_nasty_errors(ran())
        add(home, whole)
        add(home, whole, until=len(whole.entries) // 2)
        home.store.create(spec_of(asha(8)), at=2_000.0)
        add(home, ran(stop_after=100))
        failing = Workers(spec_of(asha(3)), power_law(1), faults=(1.0, 0.0, 0.0))
        failing.run()
        add(home, with_nasty_errors(failing))
    return path


def with_nasty_errors(workers: Workers) -> Workers:
    """Add markup to the errors of training code."""
    for at, entry in enumerate(workers.entries):
        if isinstance(entry.event, AttemptFailed):
            event = entry.event._replace(error=f"boom {NASTY}\nTraceback")
            workers.entries[at] = entry._replace(event=event)
    return workers


class Refusing(Steered):
    """Steering that refuses every request."""

    def ask(self, experiment: ExperimentId, request: Request) -> None:
        super().ask(experiment, request)
        raise RequestRefused(f"experiment {experiment} can't be ended; wait {NASTY}")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with shown(every_state(tmp_path_factory.mktemp("home")), Refusing()) as url:
        yield url


def fits(seen: Window) -> None:
    """Check that the page does not scroll sideways, except in elements that are made for it."""
    too_wide: list[str] = []

    def fit() -> bool:
        too_wide[:] = seen.page.evaluate(TOO_WIDE)
        return too_wide == []

    try:
        wait_until(fit, seconds=10)  # charts follow a moment later
    except AssertionError:
        pytest.fail(f"{seen.page.url} at {seen.page.viewport_size}: too wide: {too_wide}")


def is_good(seen: Window, *, themes: tuple[Theme, ...] = ("light",)) -> None:
    """Check layout at two widths and accessibility, the contrast in each of the themes."""
    assert violations(seen.page) == [], seen.page.url
    for theme in themes[1:]:
        seen.use(theme, WIDE_AND_TALL)
        seen.settled()
        assert violations(seen.page, rules=("color-contrast",)) == [], (seen.page.url, theme)
    # Charts are drawn anew for each: the other width first, where that is the one that it has.
    has = seen.page.viewport_size or {"width": 0}
    for size in sorted((NARROW_AND_TALL, WIDE_AND_TALL), key=lambda size: size[0] != has["width"]):
        seen.use("light", size)
        fits(seen)


def nothing_ran(page: Page) -> None:
    """Check that text of users did not become an element."""
    assert page.locator("img[src=x], main script").count() == 0, page.url


def test_every_tab_of_an_experiment(chromium: Browser, url: str) -> None:
    with window(chromium, url, size=WIDE_AND_TALL, scripts=(axe(),)) as seen:
        seen.open(f"/experiments/{DONE}")
        seen.says(f"nasty {NASTY}", f"l{NASTY}", f"d{NASTY}", f"a{NASTY}")
        hovers_are_text(seen)
        clicks_open_trials(seen)
        for tab in TABS:
            seen.page.get_by_role("tab", name=tab).click()
            expect(seen.page.get_by_role("tab", name=tab)).to_have_attribute("aria-selected", "true")
            seen.settled()
            nothing_ran(seen.page)
            is_good(seen)
        seen.says(f"name: nasty {NASTY}")


def test_card_says_whether_early_stopping_can_be_believed(chromium: Browser, tmp_path: Path) -> None:
    def misleading(trial: int, length: int) -> float:
        return unit_draw(1, trial, 16 if length >= 16 else length)

    workers = Workers(spec_of(asha(300, mode=Mode.AGGRESSIVE)), misleading, workers=8)
    workers.run()
    with open_home(tmp_path, create=True) as home:
        add(home, workers)
        add(home, ran(spec=nasty_spec(asha(4, max_rungs=1))))
    with shown(tmp_path) as url, window(chromium, url, size=WIDE_AND_TALL, scripts=(axe(),)) as seen:
        seen.open("/experiments/1")
        seen.says("Early stopping cannot be trusted", "ashwood run --from 1 --set searcher.mode=conservative")
        seen.page.get_by_text("Reasons").click()
        seen.says("rung 0 (1 epoch) and rung 1 (4 epochs): agreement ")
        is_good(seen, themes=BOTH)
        figure = seen.page.locator("section.figure").filter(has_text="Does a rung predict a later one?")
        figure.get_by_label("Rungs").select_option("1-2")
        expect(figure.get_by_text("rank at rung 2 (16 epochs)")).to_be_visible()
        figure.locator(".scatterlayer .point").first.click(force=True)
        expect(seen.page.get_by_role("heading", name="Trial ")).to_be_visible()
        seen.go("/experiments/2")
        expect(seen.page.get_by_text("Can early stopping be believed?")).to_have_count(0)


def test_every_other_page(chromium: Browser, url: str) -> None:
    with window(chromium, url, size=WIDE_AND_TALL, scripts=(axe(),)) as seen:
        for path, texts in {
            "/": (f"nasty {NASTY}", f"l{NASTY}", "interrupted", "paused", "errored"),
            f"/compare?ids={DONE},{INTERRUPTED}": (
                f"#1 nasty {NASTY}",
                f"a{NASTY}",
                "Hyperparameters of the best trial",
            ),
            f"/experiments/{DONE}/trials/{first_failed(url)}": (f"boom {NASTY}", f"h{NASTY}"),
            "/nowhere": ("There is no such page.",),
        }.items():
            seen.go(path)
            seen.says(*texts)
            nothing_ran(seen.page)
            is_good(seen, themes=BOTH)


def test_page_says_why_an_experiment_does_not_run(chromium: Browser, url: str) -> None:
    with window(chromium, url) as seen:
        for path, texts in {
            f"/experiments/{INTERRUPTED}": ("The driver process has stopped.", "ashwood resume 2"),
            f"/experiments/{CREATED}": ("No trials yet",),
            f"/experiments/{ERRORED}": ("The experiment is errored: every trial failed",),
            f"/experiments/{PAUSED}": ("The experiment is paused", "ashwood resume 4"),
        }.items():
            seen.go(path)
            seen.says(*texts)
            nothing_ran(seen.page)


def test_phones(chromium: Browser, url: str) -> None:
    with window(chromium, url, size=PHONE) as seen:
        for path in ("/", f"/experiments/{DONE}", f"/experiments/{DONE}/trials/1", "/preview", "/reference"):
            seen.go(path)
            fits(seen)


def first_failed(url: str) -> int:
    """Return a trial of the first experiment that has failed."""
    with urlopen(f"{url}/api/v1/experiments/{DONE}/trials?sort=-failures&limit=1") as answer:
        return int(json.load(answer)["rows"][0]["trial"])


def hovers_are_text(seen: Window) -> None:
    """Check that tips of the ladder contain text of users as text."""
    mouse = seen.page.mouse
    point = seen.page.locator(".scatterlayer .point").first
    said = seen.page.locator(".hoverlayer").filter(has_text=f"kind = a{NASTY[:36]}")

    def hovered() -> bool:
        # The page may still be moving: again, then, from where nothing is.
        box = point.bounding_box()
        if box is not None:
            mouse.move(1, 1)
            mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, steps=3)
            seen.page.evaluate("() => new Promise(requestAnimationFrame)")
        return said.count() == 1

    wait_until(hovered)
    nothing_ran(seen.page)


def clicks_open_trials(seen: Window) -> None:
    """Where the mouse is over one."""
    seen.page.mouse.down()
    seen.page.mouse.up()
    expect(seen.page.get_by_role("heading", name="Trial ")).to_be_visible()
    seen.page.go_back()
    expect(seen.page.get_by_role("tab", name=TABS[0])).to_be_visible()


def test_preview(chromium: Browser, url: str) -> None:
    with window(chromium, url, size=WIDE_AND_TALL, scripts=(axe(),)) as seen:
        seen.open("/preview")
        seen.says("Paste an experiment file")
        seen.page.get_by_role("button", name="Insert example").click()
        expect(seen.page.get_by_role("heading", name="Plan of digits")).to_be_visible()
        is_good(seen)
        editor = seen.page.locator("textarea")
        editor.fill(editor.input_value().replace("max_trials: 100", "max_trials: 100\n  audit: 0.3"))
        seen.says("Expected audits: ", "Each promotes a trial that is drawn at random")
        editor.fill(f"{editor.input_value()}checkpoint_storage: {{max_size: 5MB}}\n")
        seen.says("Enter the size of a checkpoint to see the effect of max_size.")
        seen.page.get_by_label("Checkpoint size in MB").fill("1")
        seen.says("without max_size", "max_size 5", "repeated training (epochs)")
        is_good(seen)
        editor.fill(editor.input_value().replace("max_trials: 100", f'max_trials: "{NASTY}"'))
        expect(seen.page.locator(".gutter .bad")).to_have_text("12")
        seen.says("max_trials")
        nothing_ran(seen.page)
        is_good(seen, themes=BOTH)


def test_empty_home_says_what_to_do(chromium: Browser, tmp_path: Path) -> None:
    open_home(tmp_path, create=True).close()
    with shown(tmp_path) as url, window(chromium, url, scripts=(axe(),)) as seen:
        seen.open()
        seen.says("No experiments yet", "ashwood run", "read only")
        is_good(seen)
        seen.page.get_by_role("link", name="Open the preview").click()
        seen.settled()
        seen.page.go_back()
        with open_home(tmp_path) as home:
            add(home, ran(4))
        seen.says("completed")


def test_everything_can_be_done_with_keys(chromium: Browser, url: str) -> None:
    with window(chromium, url) as seen:
        page, keys = seen.page, seen.page.keyboard
        seen.open()
        rows = page.locator("tbody tr")
        keys.press("/")
        keys.type("paused")
        expect(rows).to_have_count(1)
        keys.press("Control+A")
        keys.press("Delete")
        expect(rows).to_have_count(5)
        tab_to(page, page.get_by_role("button", name="Best", exact=True))
        keys.press("Enter")
        expect(page.locator("th[aria-sort]")).to_contain_text("Best")
        focused = page.locator(":focus")
        expect(focused).to_have_text("Best▼")
        keys.press("Enter")
        expect(page.locator("th[aria-sort=ascending]")).to_contain_text("Best")
        expect(rows.first).to_contain_text("#1")
        tab_to(page, page.locator("tbody th a[tabindex='0']"))
        keys.press("Home")
        keys.press("ArrowDown")
        expect(focused).to_have_attribute("href", re.compile("/experiments/[24]"))
        keys.press("ArrowUp")
        keys.press("Enter")
        expect(page.locator("h1")).to_contain_text("nasty")
        keys.press("2")
        expect(page.get_by_role("tab", name="Trials")).to_have_attribute("aria-selected", "true")
        expect(rows).to_have_count(20)
        keys.press("/")
        keys.type("state=completed")
        expect(rows).to_have_count(2)
        tab_to(page, page.locator("tbody th a[tabindex='0']"))
        keys.press("Enter")
        expect(page.locator("h1")).to_have_text("Trial 11")
        page.go_back()
        expect(page.get_by_label("Filter the trials")).to_have_value("state=completed")
        page.go_forward()
        expect(page.locator("h1")).to_have_text("Trial 11")
        keys.press("u")
        expect(page.locator("h1")).to_contain_text("nasty")
        tab_to(page, page.get_by_role("button", name="Rename…"))
        keys.press("Enter")
        expect(page.get_by_role("dialog")).to_be_visible()
        expect(focused).to_have_value(f"nasty {NASTY}")
        keys.press("Escape")
        expect(page.get_by_role("dialog")).to_have_count(0)
        expect(focused).to_have_text("Rename…")
        keys.press("g")
        keys.press("e")
        expect(page.locator("h1")).to_have_text("Experiments")
        keys.press("?")
        expect(page.get_by_role("dialog")).to_contain_text("to the filter")


def test_rows_of_the_list_have_actions(chromium: Browser, tmp_path: Path) -> None:
    steered = Steered()
    with shown(every_state(tmp_path), steered) as url, window(chromium, url, scripts=(axe(),)) as seen:
        page, keys = seen.page, seen.page.keyboard
        seen.open()
        row = page.locator("tbody tr")
        expect(page.get_by_role("button", name="Resume experiment")).to_have_count(3)
        page.get_by_role("button", name=f"Resume experiment {PAUSED}").click()
        seen.says(f"Experiment {PAUSED} is resumed.")
        assert steered.asked == [(PAUSED, "activate")]

        actions = row.filter(has_text=f"#{DONE}").locator("summary")
        tab_to(page, page.locator("tbody th a[tabindex='0']"))
        keys.press("End")
        tab_to(page, actions)
        keys.press("Enter")
        expect(page.get_by_role("button", name="Delete…")).to_be_in_viewport()
        assert violations(page) == []
        with page.expect_download() as downloading:
            page.get_by_role("link", name="Report (HTML)").click()
        assert "<html" in downloading.value.path().read_text()
        expect(page.get_by_role("button", name="Delete…")).to_be_hidden()
        actions.click()
        page.get_by_role("button", name="Delete…").click()
        expect(page.get_by_role("dialog")).to_contain_text("Delete experiment 1, nasty")
        page.get_by_role("dialog").get_by_role("button", name="Delete experiment").click()
        seen.says("Experiment 1 is deleted.")
        assert steered.asked[1:] == [(DONE, "delete")]
        nothing_ran(page)


def tab_to(page: Page, target: Locator) -> None:
    """Press Tab until something has the focus."""
    for _ in range(60):
        if target.evaluate("(element) => element === document.activeElement"):
            return
        page.keyboard.press("Tab")
    pytest.fail(f"Tab never comes to {target}")


def test_columns_are_moved_and_resized_with_keys(chromium: Browser, url: str) -> None:
    with window(chromium, url) as seen:
        page, keys = seen.page, seen.page.keyboard
        seen.open(f"/experiments/{DONE}?tab=trials")
        heads = page.locator("thead th")
        expect(heads.nth(2)).to_contain_text("State")
        page.get_by_role("button", name="State", exact=True).focus()
        keys.press("Shift+ArrowRight")
        expect(heads.nth(3)).to_contain_text("State")
        expect(page.locator(":focus")).to_contain_text("State")
        width = heads.nth(3).bounding_box()
        keys.press("+")
        assert width is not None
        wait_until(lambda: (heads.nth(3).bounding_box() or width)["width"] > width["width"] + 8)
        page.reload()
        seen.settled()
        expect(heads.nth(3)).to_contain_text("State")
        # The heading and the first column stay while the table scrolls.
        box = page.locator(".scroll-box")
        before = page.locator("thead th").nth(1).bounding_box()
        box.evaluate("(element) => element.scrollTo(200, 80)")
        assert page.locator("thead th").nth(1).bounding_box() == before


def test_selected_trials_are_compared_and_exported(chromium: Browser, url: str) -> None:
    with window(chromium, url, size=WIDE_AND_TALL, scripts=(axe(),)) as seen:
        page, keys = seen.page, seen.page.keyboard
        seen.open(f"/experiments/{DONE}?tab=trials")
        tab_to(page, page.locator("tbody th a[tabindex='0']"))
        for _ in range(2):
            keys.press("x")
            keys.press("ArrowDown")
        seen.says("2 trials selected")
        with page.expect_download() as downloading:
            page.get_by_role("region", name="Selected trials").get_by_role("link", name="CSV").click()
        assert len(downloading.value.path().read_text().splitlines()) == 3
        page.get_by_role("button", name="Compare", exact=True).click()
        seen.says("Comparison of 2 trials")
        expect(page).to_have_url(re.compile("compare=[0-9]+,[0-9]+"))
        is_good(seen, themes=BOTH)
        nothing_ran(page)
        page.reload()
        seen.says("Comparison of 2 trials")
        page.get_by_role("button", name="Close").click()
        expect(page.get_by_text("Comparison of 2 trials")).to_have_count(0)


def test_filter_without_matches_offers_known_values(chromium: Browser, url: str) -> None:
    with window(chromium, url, scripts=(axe(),)) as seen:
        seen.open(f"/experiments/{DONE}?tab=trials&q=state%3Derored")
        seen.says("No trials match.", "Values of state:")
        is_good(seen)
        seen.page.get_by_role("button", name="completed", exact=True).click()
        expect(seen.page.locator("tbody tr")).to_have_count(2)


def test_cause_of_failures_leads_to_their_trials(chromium: Browser, url: str) -> None:
    with window(chromium, url, scripts=(axe(),)) as seen:
        seen.open(f"/experiments/{ERRORED}")
        seen.page.get_by_role("link", name="3 × boom").click()
        expect(seen.page.locator("tbody tr")).to_have_count(3)
        nothing_ran(seen.page)
        seen.page.locator("tbody th a").first.click()
        expect(seen.page.locator(".trial-error")).to_contain_text(f"boom {NASTY}")
        nothing_ran(seen.page)
        is_good(seen)


def test_experiment_is_shared_and_previewed(chromium: Browser, url: str) -> None:
    with window(chromium, url, scripts=(axe(),)) as seen:
        page = seen.page
        seen.open(f"/experiments/{DONE}")
        page.get_by_text("Share", exact=True).click()
        with page.expect_download() as downloading:
            page.get_by_role("link", name="Experiment file").click()
        assert NASTY in downloading.value.path().read_text()
        page.get_by_role("link", name="New search…").click()
        expect(page.get_by_role("heading", name="New search from #1")).to_be_visible()
        expect(page.locator("textarea")).to_have_value(re.compile(re.escape(NASTY)))
        expect(page.get_by_label("Workers")).to_have_value("4")
        is_good(seen)
        nothing_ran(page)


def test_events_of_one_kind_are_shown(chromium: Browser, url: str) -> None:
    with window(chromium, url, scripts=(axe(),)) as seen:
        seen.open(f"/experiments/{DONE}?tab=events")
        seen.page.get_by_role("button", name="Failures").click()
        expect(seen.page).to_have_url(re.compile("kind=failures"))
        expect(seen.page.locator(".events > li").first).to_contain_text(re.compile("failed|invalid"))
        is_good(seen)


def test_choices_stay_after_a_reload(chromium: Browser, url: str) -> None:
    with window(chromium, url) as seen:
        page = seen.page
        seen.open(f"/experiments/{DONE}")
        page.get_by_role("tab", name="Trials").click()
        page.get_by_label("Filter the trials").fill("bracket=1")
        page.get_by_role("button", name="Trial", exact=True).click()
        expect(page.locator("tbody tr")).to_have_count(5)
        expect(page.locator("th[aria-sort=descending]")).to_contain_text("Trial")
        expect(page).to_have_url(re.compile("q=bracket"))
        # The heading is there before the order.
        trials = page.locator("tbody tr th")
        wait_until(lambda: trials.all_inner_texts() == sorted(trials.all_inner_texts(), key=int, reverse=True))
        before = page.locator("tbody").inner_text()
        page.get_by_label("Colours").click()
        page.reload()
        seen.settled()
        assert page.locator("tbody").inner_text() == before
        expect(page.get_by_label("Filter the trials")).to_have_value("bracket=1")
        expect(page.get_by_role("tab", name="Trials")).to_have_attribute("aria-selected", "true")
        expect(page.locator("html")).to_have_attribute("data-theme", "light")
        page.go_back()
        expect(page.get_by_role("tab", name="Overview")).to_have_attribute("aria-selected", "true")


def test_refusal_is_shown_in_its_dialog(chromium: Browser, url: str) -> None:
    with window(chromium, url, scripts=(axe(),)) as seen:
        seen.open(f"/experiments/{PAUSED}")
        seen.page.get_by_role("button", name="Kill…").click()
        asking = seen.page.get_by_role("dialog")
        assert violations(seen.page) == []
        asking.get_by_role("button", name="Kill experiment").click()
        expect(asking.get_by_role("alert")).to_contain_text(f"can't be ended wait {NASTY}")
        seen.refused(409)
        nothing_ran(seen.page)
        asking.get_by_role("button", name="Keep running").click()
        expect(asking).to_have_count(0)


def test_lost_connection_is_shown_and_restored(chromium: Browser, tmp_path: Path) -> None:
    whole = ran()
    half = len(whole.entries) // 2
    with open_home(tmp_path, create=True) as home:
        add(home, whole, until=half)
    with ExitStack() as first:
        url = first.enter_context(shown(tmp_path))
        with window(chromium, url) as seen:
            seen.open("/experiments/1")
            seen.says("interrupted")
            expect(seen.page.locator("#live")).to_have_text("live")
            expect(seen.page.locator("#banner")).to_be_hidden()
            before = seen.page.locator(".facts").inner_text()
            with seen.without_server():
                first.close()
                seen.says("The connection to the server is lost.")
                expect(seen.page.locator("#live")).to_have_text("offline")
                assert seen.page.locator(".facts").inner_text() == before, "what was shown stays"
                with open_home(tmp_path) as home:
                    append(home, ExperimentId(1), whole.experiment.spec, whole.entries[half:], whole.entries[:half])
                with shown(tmp_path, port=urlsplit(url).port or 0):
                    seen.page.get_by_role("button", name="Try now").click()
                    expect(seen.page.locator("#banner")).to_be_hidden()
                    seen.says("completed", "283 epochs")
                    expect(seen.page.locator(".badge").first).to_have_text("✓completed")


@pytest.mark.slow
def test_earlier_parts_of_a_log_are_complete(chromium: Browser, tmp_path: Path) -> None:
    written = b"".join(f"line {number} ✓ ".encode() + b"\xff\xfe\n" for number in range(12_000))
    with open_home(tmp_path, create=True) as home:
        add(home, ran(4))
        log = home.logs(ExperimentId(1)) / "trial-0.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_bytes(written)
    with shown(tmp_path) as url, window(chromium, url) as seen:
        seen.open("/experiments/1/trials/0")
        earlier = seen.page.get_by_role("button", name="Earlier")
        for kilobytes in (131, 197):
            earlier.click()
            seen.says(f"the last {kilobytes} kB of")
        earlier.click()
        expect(earlier).to_be_hidden()
        assert seen.page.locator(".log").text_content() == written.decode(errors="replace")


def test_token_is_requested_once(chromium: Browser, tmp_path: Path) -> None:
    with open_home(tmp_path, create=True) as home:
        add(home, ran(4))
    with shown(tmp_path, token=TOKEN) as url:
        with window(chromium, url) as seen:
            seen.page.goto(url)
            seen.says("ashwood ui", "?token=")
            seen.refused(401)
        with window(chromium, url) as seen:
            seen.open(f"/experiments/1?tab=trials&token={TOKEN}")
            assert urlsplit(seen.page.url).query == "tab=trials"
            expect(seen.page.locator("tbody tr")).to_have_count(4)
            seen.open()
            seen.says("completed")


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Two thousand trials."""
    home = tmp_path_factory.mktemp("many")
    with open_home(home, create=True) as opened:
        spec = spec_of(asha(2_000, max_length=16, max_concurrent_trials=0))
        workers = Workers(spec, power_law(3), workers=16)
        workers.run()
        add(opened, workers)
    with shown(home) as url:
        yield url


@pytest.mark.slow
def test_ladder_of_thousands_of_trials(chromium: Browser, many: str) -> None:
    with window(chromium, many) as seen:
        page = seen.page
        seen.open("/experiments/1")
        ladder = page.get_by_role("region", name="The ladder")
        drawn = ladder.locator(".dots").first
        tip = ladder.locator(".plot-tip")
        box = ladder.locator(".plot").bounding_box()
        assert box is not None

        def met(words: str) -> bool:
            """Whether such a trial is met on the lowest step, from the left to the right."""
            for x in range(100, 400, 4):
                page.mouse.move(box["x"] + x, box["y"] + box["height"] - 140)
                if tip.is_visible() and words in tip.inner_text():
                    return True
            return False

        # Whoever is hidden is not met any more.
        assert met("stopped")
        with_all = drawn.evaluate("(canvas) => canvas.toDataURL()")
        legend = ladder.locator(".legend .traces").filter(has_text="stopped")
        legend.locator(".legendtoggle").click()
        wait_until(lambda: drawn.evaluate("(canvas) => canvas.toDataURL()") != with_all)
        assert not met("stopped")
        # Zoomed, everything is elsewhere; and back again.
        legend.locator(".legendtoggle").click()
        wait_until(lambda: drawn.evaluate("(canvas) => canvas.toDataURL()") == with_all)
        page.mouse.move(box["x"] + 100, box["y"] + 150)
        page.mouse.down()
        page.mouse.move(box["x"] + 300, box["y"] + 300, steps=3)
        page.mouse.up()
        wait_until(lambda: drawn.evaluate("(canvas) => canvas.toDataURL()") != with_all)
        expect(page).to_have_url(f"{many}/experiments/1")
        ladder.locator(".modebar-btn[data-val=reset]").click()
        wait_until(lambda: drawn.evaluate("(canvas) => canvas.toDataURL()") == with_all)
        assert met("promoted")
        trial = tip.inner_text().split()[1]
        page.mouse.down()
        page.mouse.up()
        expect(page).to_have_url(f"{many}/experiments/1/trials/{trial}")


# Two hundred trials side by side; then the first of them has been promoted.
GLIDE = """async () => {
  const [{ plotly }, { Points, apart }] = await Promise.all([import("/static/figure.js"), import("/static/points.js")]);
  const Plotly = await plotly();
  const plot = document.createElement("div");
  plot.style.setProperty("width", "600px");
  document.querySelector("main").append(plot);
  const x = Array.from({ length: 200 }, (_, at) => at);
  const figure = (up) => ({
    data: [{ type: "scattergl", mode: "markers", name: "trials", meta: { moves: true }, x,
      y: x.map((at) => (at === 0 ? up : 0)), customdata: x.map((at) => [at]),
      marker: { size: 6, color: "#ff0000", symbol: "circle" } }],
    layout: { width: 600, height: 400, xaxis: { range: [-1, 200] }, yaxis: { range: [-1, 4] } },
  });
  let points = null;
  const show = async (up) => {
    const { traces, groups } = apart(figure(up));
    await Plotly.react(plot, traces, figure(up).layout);
    points ??= new Points(plot, { signal: new AbortController().signal });
    points.show(groups);
  };
  const copy = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rows = (canvas) => {
    Object.assign(copy.canvas, { width: canvas.width, height: canvas.height });
    copy.drawImage(canvas, 0, 0);
    const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);
    const found = new Set();
    for (let at = 0; at < data.length; at += 4) if (data[at + 3]) found.add(Math.floor(at / 4 / canvas.width));
    return [...found];
  };
  const frame = () => new Promise(requestAnimationFrame);
  await show(0);
  const before = rows(points.still);
  await show(3);
  const heights = [];
  while (points.gliding) {
    heights.push(Math.min(...rows(points.above)));
    await frame();
  }
  return { before, heights, after: rows(points.still) };
}"""


def test_promoted_dot_among_many_is_animated(chromium: Browser, many: str) -> None:
    with window(chromium, many) as seen:
        seen.page.emulate_media(reduced_motion="no-preference")
        seen.open("/preview")
        told = seen.page.evaluate(GLIDE)
        heights = told["heights"]
        assert min(told["before"]) > min(told["after"]), "it ends higher"
        assert heights == sorted(heights, reverse=True), "it rises all the time"
        assert len(set(heights)) > 2, "in steps"


@pytest.mark.slow
def test_table_of_thousands_of_trials(chromium: Browser, many: str) -> None:
    with window(chromium, many) as seen:
        page = seen.page
        seen.open("/experiments/1")
        seen.says("2,000 of 2,000")
        expect(page.get_by_label("The ladder").locator(".dots").first).to_be_attached()
        page.get_by_role("tab", name="Trials").click()
        rows = page.locator("tbody tr")
        expect(rows).to_have_count(100)
        page.get_by_role("button", name="Trial", exact=True).click()
        expect(rows.first).to_contain_text("1999")
        page.get_by_role("button", name="Last").click()
        expect(rows.last.locator("th")).to_have_text("0")
        expect(page.get_by_label("Pages of the table")).to_contain_text("1,901–2,000 of 2,000 trials")
        page.get_by_role("tab", name="Hyperparameters").click()
        seen.settled()
        seen.says("of 2,000 trials; click an axis to keep all")  # the best tenth is chosen at first
