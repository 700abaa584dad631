"""Tests of the charts in a real browser: their switches, the address, links between charts, and printing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from math import log10
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from ashwood.eventlog.home import open_home
from ashwood.search.draw import unit_draw
from ashwood.search.settings import Method, SearchSettings
from ashwood.search.space import Categorical, Double, Int, Log, Space
from tests.browser import axe, chromium, violations, window
from tests.cli.conftest import wait_until
from tests.views.simulate import Workers, asha, spec_of

from .homes import add
from .serving import shown

__all__ = ["chromium"]

SPACE = Space(
    {
        "units": Int(8, 128),
        "activation": Categorical(("relu", "tanh", None)),
        "slope": Double(0.0, 1.0, when={"activation": "relu"}),
        "optimizer": {"learning_rate": Log(-4.0, 0.0)},
    }
)
PHONE = (390, 844)
TALL = (1440, 2600)


def searched(settings: SearchSettings) -> Workers:
    """A search with losses from 0.1 to 10, which the learning rate decides."""

    def curve(trial: int, length: int) -> float:
        rate: float = SPACE.sample(7, 0, trial)["optimizer"]["learning_rate"]
        far = abs(log10(rate) + 2.0)
        return (0.1 + far) * (1 + 4 / length) * (1 + 0.1 * unit_draw(1, "noise", trial))

    workers = Workers(replace(spec_of(settings), space=SPACE, name="charts"), curve, period=1)
    workers.run()
    return workers


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    path: Path = tmp_path_factory.mktemp("home")
    with open_home(path, create=True) as home:
        add(home, searched(asha(80, method=Method.ASYNC_HALVING, max_length=16)))
        add(home, searched(asha(30, method=Method.RANDOM, max_length=16)))
        half = searched(asha(80, method=Method.ASYNC_HALVING, max_length=16))
        add(home, half, until=len(half.entries) // 2)
    with shown(path) as url:
        yield url


def card(page: Page, title: str) -> Locator:
    return page.locator("section.figure").filter(has=page.get_by_role("heading", name=title, exact=True))


def axis_type(page: Page, title: str) -> str:
    found: str = card(page, title).locator(".plot").evaluate("(plot) => plot._fullLayout?.yaxis?.type ?? ''")
    return found


def test_scale_is_automatic_and_kept_in_address(chromium: Browser, url: str) -> None:
    with window(chromium, url, scripts=(axe(),)) as seen:
        page = seen.page
        seen.open("/experiments/1")
        box = card(page, "Best so far").get_by_label("Log y")
        expect(box).to_be_checked()
        assert axis_type(page, "Best so far") == "log"
        box.focus()
        page.keyboard.press("Space")
        wait_until(lambda: axis_type(page, "Best so far") == "linear")
        expect(page).to_have_url(re.compile(r"best_so_far\.log_y=false"))
        card(page, "Best so far").get_by_label("Zoom to best 10%").check()
        expect(page).to_have_url(re.compile(r"best_so_far\.zoom=true"))
        page.reload()
        seen.settled()
        expect(box).not_to_be_checked()
        expect(card(page, "Best so far").get_by_label("Zoom to best 10%")).to_be_checked()
        page.go_back()
        expect(card(page, "Best so far").get_by_label("Zoom to best 10%")).not_to_be_checked()
        expect(box).not_to_be_checked()
        page.go_back()
        wait_until(lambda: axis_type(page, "Best so far") == "log")
        expect(box).to_be_checked()
        assert violations(page) == []


def test_most_important_hyperparameter_is_shown_and_named(chromium: Browser, url: str) -> None:
    with window(chromium, url, size=TALL, scripts=(axe(),)) as seen:
        page = seen.page
        seen.open("/experiments/1?tab=hyperparameters")
        expect(page.locator(".takeaway")).to_contain_text("optimizer.learning_rate")
        expect(card(page, "Metric by hyperparameter")).to_contain_text(
            "optimizer.learning_rate and each trial's result"
        )
        expect(page.locator(".parallel .label").first).to_contain_text("learning_rate")
        assert violations(page) == []


def test_selection_on_axis_filters_table_and_scatter(chromium: Browser, url: str) -> None:
    with window(chromium, url, size=TALL, scripts=(axe(),)) as seen:
        page = seen.page
        seen.open("/experiments/1?tab=hyperparameters")
        axis = page.locator(".parallel").get_by_role("slider", name="loss", exact=True)
        axis.focus()
        for _ in range(15):
            page.keyboard.press("ArrowUp")
        selected = page.get_by_role("region", name="Selected trials")
        expect(selected).to_contain_text(re.compile(r"\d+ trials? in the selected ranges"))
        rows = selected.locator("tbody tr")
        kept = rows.count()
        assert 0 < kept <= 20
        expect(page.locator(".scatterlayer .point.dim").first).to_be_attached()
        rows.first.hover()
        expect(page.locator(".scatterlayer .point.lit")).to_have_count(1)
        expect(page.locator(".parallel path.lit")).to_have_attribute("d", re.compile("^M"))
        assert violations(page) == []
        axis.focus()
        page.keyboard.press("Escape")
        expect(selected).to_be_hidden()
        expect(page.locator(".scatterlayer .point.dim")).to_have_count(0)


@pytest.mark.parametrize(
    ("experiment", "ranges", "filtered"),
    [
        (1, {"loss": ["ArrowUp"] * 16}, r"result\.loss<=\S+"),
        (1, {"loss": ["ArrowUp"] * 6 + ["PageDown"] * 3}, r"result\.loss>=\S+ result\.loss<=\S+"),
        (
            1,
            {"optimizer.learning_rate": ["ArrowUp"] * 8 + ["PageDown"] * 4},
            r"optimizer\.learning_rate>=\S+ optimizer\.learning_rate<=\S+",
        ),
        (1, {"trained (epochs)": ["ArrowUp"] * 5, "units": ["PageDown"] * 10}, r"result_length>=\S+ units<=\d+"),
        (1, {"activation": ["ArrowUp"] * 6}, r"activation=tanh,null"),
        (1, {"activation": ["ArrowUp"] * 14}, r"activation=null"),
        (1, {"slope": ["ArrowUp"] * 3}, r"slope>=\S+"),
        (1, {"slope": ["PageDown"] * 19}, r"slope="),
        (1, {"slope": ["PageDown"] * 10}, r"trial=[\d,]+"),
        (3, {"activation": ["ArrowUp"] * 14}, r"activation=null result!="),
        (3, {"units": ["ArrowUp"] * 3, "loss": ["ArrowUp"] * 6}, r"units>=\S+ result\.loss<=\S+"),
    ],
)
def test_selection_on_axes_opens_as_filter_of_trials(
    chromium: Browser, url: str, experiment: int, ranges: dict[str, list[str]], filtered: str
) -> None:
    with window(chromium, url, size=TALL) as seen:
        page = seen.page
        seen.open(f"/experiments/{experiment}?tab=hyperparameters")
        for name, keys in ranges.items():
            page.locator(".parallel").get_by_role("slider", name=name, exact=True).focus()
            for key in keys:
                page.keyboard.press(key)
        link = page.get_by_role("link", name="in the Trials tab")
        listed = page.get_by_role("region", name="Selected trials").locator("tbody th")
        count = int(str(page.locator(".hint.note").first.text_content()).split()[0])
        expect(link).to_have_text(re.compile(rf"Show {count} trials? in the Trials tab"))
        expect(listed).to_have_count(min(count, 20))
        shown_trials = set(listed.all_inner_texts())
        page.set_viewport_size({"width": TALL[0], "height": 400})  # The link is below the first screen.
        link.click()
        wait_until(lambda: page.evaluate("scrollY") == 0)
        expect(page.get_by_label("Filter the trials")).to_have_value(re.compile(rf"^{filtered}$"))
        expect(page.get_by_label("Pages of the table")).to_contain_text(re.compile(rf"^{count} trials?, of \d+ in all"))
        assert shown_trials <= set(page.locator("tbody th").all_inner_texts())
        page.reload()
        expect(page.locator("tbody tr")).to_have_count(count)
        page.go_back()
        expect(page.get_by_role("tab", name="Hyperparameters")).to_have_attribute("aria-selected", "true")


def test_null_and_absent_values_look_different(chromium: Browser, url: str) -> None:
    with window(chromium, url, size=TALL) as seen:
        page = seen.page
        seen.open("/experiments/1?tab=trials&q=activation%3Dnull")
        row = page.locator("tbody tr").first
        expect(row).to_contain_text("null")
        heads = page.locator("thead th").all_inner_texts()
        cells = row.locator("th, td")
        assert cells.nth(heads.index("activation")).inner_text() == "null"
        assert cells.nth(heads.index("slope")).inner_text() == "–"
        null = page.locator("tbody tr").count()
        page.get_by_label("Filter the trials").fill("slope=")
        expect(page.locator("tbody tr").filter(has_text="tanh").first).to_be_visible()
        assert page.locator("tbody tr").count() > null
        row.locator("th a").click()
        expect(page.locator(".pairs").first).to_contain_text("activation")


def test_axes_can_be_chosen_and_ordered_with_keys(chromium: Browser, url: str) -> None:
    with window(chromium, url, size=TALL) as seen:
        page = seen.page
        seen.open("/experiments/1?tab=hyperparameters")
        labels = page.locator(".parallel .label title")
        first = labels.first.text_content()
        page.get_by_text("Axes", exact=True).focus()
        page.keyboard.press("Enter")
        page.get_by_role("checkbox", name="activation").focus()
        page.keyboard.press("Space")
        expect(labels.filter(has_text="activation")).to_have_count(0)
        page.get_by_label(f"Move {first} to the right").focus()
        page.keyboard.press("Enter")
        expect(labels.nth(1)).to_have_text(str(first))
        expect(page).to_have_url(re.compile(r"parallel_coordinates\.axes="))
        page.reload()
        seen.settled()
        expect(labels.nth(1)).to_have_text(str(first))
        expect(labels.filter(has_text="activation")).to_have_count(0)


def test_learning_curves_can_be_grouped(chromium: Browser, url: str) -> None:
    with window(chromium, url, size=TALL, scripts=(axe(),)) as seen:
        page = seen.page
        seen.open("/experiments/1?tab=curves")
        curves = card(page, "Learning curves")
        expect(page.locator(".side i.line")).to_have_count(10)
        expect(curves.locator(".legend")).to_be_hidden()
        curves.get_by_label("Group by").select_option("activation")
        entry = curves.locator(".legend").get_by_role("button", name=re.compile("relu"))
        expect(entry).to_have_attribute("aria-pressed", "true")
        entry.focus()
        page.keyboard.press("Enter")
        expect(entry).to_have_attribute("aria-pressed", "false")
        curves.get_by_label("Smoothing %").select_option("80")
        expect(page).to_have_url(re.compile(r"learning_curves\.smooth=80"))
        assert violations(page) == []


def test_phone_shows_counts_per_rung(chromium: Browser, url: str) -> None:
    with window(chromium, url, size=PHONE, scripts=(axe(),)) as seen:
        page = seen.page
        seen.open("/experiments/1")
        ladder = card(page, "The ladder")
        expect(ladder.get_by_label("Counts only")).to_be_checked()
        seen.says("Number of trials at each rung")
        expect(ladder.locator(".legend")).to_contain_text("promoted")
        ladder.get_by_label("Counts only").uncheck()
        seen.says("Best on the left")
        assert violations(page) == []


def test_comparison_has_row_at_equal_training(chromium: Browser, url: str) -> None:
    with window(chromium, url, size=TALL, scripts=(axe(),)) as seen:
        page = seen.page
        seen.open("/compare?ids=1,2")
        seen.says("Best at equal training", "Marked rows differ", "(best)")
        expect(card(page, "Metric by hyperparameter").locator(".legend button")).to_have_count(2)
        card(page, "Best so far").get_by_label("x-axis").select_option("time")
        seen.says("Best at equal time")
        expect(page).to_have_url(re.compile("against=time"))
        page.go_back()
        seen.says("Best at equal training")
        assert violations(page) == []


def test_all_pages_show_result_of_recommended_trial(chromium: Browser, tmp_path: Path) -> None:
    settings = SearchSettings(method=Method.RANDOM, max_length=8, max_trials=4)
    spec = replace(spec_of(settings), space=SPACE, name="a-name with parts")
    ran = Workers(spec, lambda trial, length: 0.01 if (trial, length) == (2, 3) else 2 + trial + 8 / length, period=1)
    ran.run()
    with open_home(tmp_path, create=True) as home:
        add(home, ran)
        add(home, searched(replace(settings, replicates=1)))
    with shown(tmp_path) as url, window(chromium, url, size=(1100, 900)) as seen:
        page, lowest = seen.page, "(lowest seen 0.01 by trial 2 at 3 epochs)"
        seen.open("/experiments/1")
        best = page.locator(".fact").first
        expect(best.locator("b")).to_have_text("3")
        expect(best).to_contain_text("trial 0 at 8 epochs")
        expect(best).to_contain_text(lowest)
        expect(page.locator(".winner .metric b")).to_have_text("3")
        seen.open("/compare?ids=1,2")
        row = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name="Best trial", exact=True))
        expect(row).to_contain_text("Trial 0: 3 loss at 8 epochs")
        expect(row).to_contain_text(lowest)
        units = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name="units", exact=True))
        expect(units.locator("td").first).to_have_text(str(ran.experiment.spec.space.sample(7, 0, 0)["units"]))
        seen.open("/")
        expect(page.get_by_role("row").filter(has_text="#1").locator("b")).to_have_text("3")


def test_list_has_room_for_names_and_only_failures_are_red(chromium: Browser, tmp_path: Path) -> None:
    settings = SearchSettings(method=Method.RANDOM, max_length=8, max_trials=4, replicates=2)
    failing = Workers(replace(spec_of(settings), name="digits-random"), lambda *_: 1.0, faults=(0.3, 0, 0), period=1)
    failing.run()
    with open_home(tmp_path, create=True) as home:
        add(home, failing)
    with shown(tmp_path) as url, window(chromium, url, size=(1100, 900)) as seen:
        page = seen.page
        seen.open("/")
        name = page.get_by_role("link", name="digits-random")
        expect(name).to_be_visible()
        assert len(name.evaluate("(link) => [...link.getClientRects()]")) == 1
        expect(page.get_by_text("replicates")).to_have_class("muted")
        expect(page.get_by_text(re.compile("[0-9] failed"))).to_have_class("muted bad")


def test_budget_and_its_figure_agree_on_what_was_expected(chromium: Browser, url: str) -> None:
    with window(chromium, url) as seen:
        seen.open("/experiments/1?tab=budget")
        fact = seen.page.locator(".fact").filter(has_text="Expected").locator("b")
        expect(fact).to_have_text(re.compile(r"\d+ epochs"))
        number = str(fact.text_content()).split()[0]
        expect(card(seen.page, "Where the budget went")).to_contain_text(f"{number} expected for the whole search")


def test_figures_out_of_sight_are_drawn_before_printing(chromium: Browser, url: str) -> None:
    with window(chromium, url, size=(1440, 500)) as seen:
        page = seen.page
        seen.open("/experiments/1?tab=hyperparameters")
        heat = card(page, "Metric by two hyperparameters")
        assert not heat.evaluate("(card) => card.getBoundingClientRect().top < innerHeight")
        expect(heat.locator(".heatmaplayer image")).to_be_attached()
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        wait_until(lambda: heat.locator(".plot").evaluate("(plot) => plot._fullLayout.width") < 800)
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        wait_until(lambda: heat.locator(".plot").evaluate("(plot) => plot._fullLayout.width") > 800)
