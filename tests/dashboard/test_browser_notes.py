"""Tests of notes in a real browser: they are written with keys, followed live, and harmless."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, expect

from ashwood.cli.ui import HomeSteering
from ashwood.eventlog.home import open_home
from tests.browser import NARROW, Window, axe, chromium, violations, window

from .homes import NASTY, add, ran
from .serving import shown
from .test_browser import BOTH, PHONE, fits

__all__ = ["chromium"]

NOTE = f"""# Why {NASTY}

A **larger** batch, see [the issue](https://example.org/7), not [this](javascript:alert(3)).

![pixel](https://example.org/pixel.png)

- one `{"long" * 60}`
- two

```
{"x" * 300} = 1
```

| a | b |
|---|---|
| 1 | {NASTY} |
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    with open_home(tmp_path, create=True) as opened:
        add(opened, ran())
    return tmp_path


@pytest.fixture
def seen(home: Path, chromium: Browser) -> Iterator[Window]:
    with shown(home, HomeSteering(str(home))) as url, window(chromium, url, scripts=(axe(),)) as opened:
        yield opened


def note(seen: Window) -> Locator:
    return seen.page.get_by_role("region", name="Note")


def stored(home: Path) -> dict[int | None, str]:
    with open_home(home) as opened:
        return dict(opened.store.notes(1))


def test_note_is_written_and_shown_without_its_markup(home: Path, seen: Window) -> None:
    seen.open("/experiments/1")
    expect(note(seen)).to_contain_text("None yet")
    note(seen).get_by_role("button", name="Write a note").press("Enter")
    area = note(seen).get_by_role("textbox", name="Note")
    expect(area).to_be_focused()
    assert violations(seen.page) == []
    area.fill(NOTE)
    area.press("Control+Enter")
    seen.says("The note is saved.")
    expect(note(seen).get_by_role("button", name="Edit the note")).to_be_focused()
    expect(note(seen).locator("strong")).to_have_text("larger")
    expect(note(seen).locator("h3")).to_contain_text("<script>alert(1)</script><img src=x")
    expect(note(seen).get_by_role("link")).to_have_count(2)
    expect(note(seen).locator("script, img")).to_have_count(0)
    assert stored(home) == {None: NOTE}
    for theme in BOTH:
        for size in ((1440, 900), NARROW, PHONE):
            seen.use(theme, size)
            seen.settled()
            assert violations(seen.page) == [], (theme, size)
            fits(seen)


def test_note_of_trial_is_written_removed_and_marked_in_the_table(home: Path, seen: Window) -> None:
    seen.open("/experiments/1/trials/3")
    note(seen).get_by_role("button", name="Write a note").click()
    note(seen).get_by_role("textbox").fill("odd *trial*")
    note(seen).get_by_role("button", name="Save").click()
    expect(note(seen).locator("em")).to_have_text("trial")
    assert stored(home) == {3: "odd *trial*"}
    assert violations(seen.page) == []
    seen.go("/experiments/1?tab=trials")
    expect(seen.page.locator("tbody .noted")).to_have_count(1)
    expect(seen.page.get_by_role("link", name="note 3", exact=False)).to_have_count(1)
    assert violations(seen.page) == []
    seen.go("/experiments/1/trials/3")
    note(seen).get_by_role("button", name="Edit the note").click()
    note(seen).get_by_role("textbox").fill("")
    note(seen).get_by_role("textbox").press("Control+Enter")
    seen.says("The note is removed.")
    expect(note(seen)).to_contain_text("None yet")
    assert stored(home) == {}


def test_note_of_someone_else_appears_but_does_not_disturb_editing(home: Path, seen: Window) -> None:
    seen.open("/experiments/1")
    expect(note(seen)).to_contain_text("None yet")
    with open_home(home) as opened:
        opened.store.set_note(1, None, "from a terminal")
        expect(note(seen)).to_contain_text("from a terminal")
        note(seen).get_by_role("button", name="Edit the note").click()
        area = note(seen).get_by_role("textbox")
        expect(area).to_have_value("from a terminal")
        area.fill("mine")
        opened.store.set_note(1, None, "second")
        opened.store.annotate(1, labels=["now"])
    seen.says("now")
    expect(area).to_have_value("mine")
    # What was written outlives a visit to another page.
    seen.go("/experiments/1/trials/0")
    seen.go("/experiments/1")
    expect(note(seen)).to_contain_text("second")
    note(seen).get_by_role("button", name="Edit the note").click()
    expect(area).to_have_value("mine")
    note(seen).get_by_role("button", name="Discard changes").click()
    expect(note(seen)).to_contain_text("second")
    note(seen).get_by_role("button", name="Edit the note").click()
    expect(area).to_have_value("second")


def test_error_is_shown_in_the_card_and_keeps_the_text(home: Path, seen: Window) -> None:
    seen.open("/experiments/1")
    note(seen).get_by_role("button", name="Write a note").click()
    area = note(seen).get_by_role("textbox")
    area.fill("é" * 40_000)
    area.press("Control+Enter")
    expect(note(seen).get_by_role("alert")).to_contain_text("80000 bytes, and at most 65536 are stored")
    with open_home(home) as opened:
        opened.store.delete(1)
    area.fill("short")
    area.press("Control+Enter")
    expect(note(seen).get_by_role("alert")).to_contain_text("there is no experiment 1")
    expect(area).to_have_value("short")
    seen.refused(404)
    seen.wrong[:] = [each for each in seen.wrong if "404" not in each]


def test_read_only_dashboard_shows_notes_without_a_form(home: Path, chromium: Browser) -> None:
    with open_home(home) as opened:
        opened.store.set_note(1, None, "seen by *all*")
    with shown(home, read_only=True) as url, window(chromium, url, scripts=(axe(),)) as seen:
        seen.open("/experiments/1")
        expect(note(seen).locator("em")).to_have_text("all")
        expect(note(seen).get_by_role("button")).to_have_count(0)
        seen.go("/experiments/1/trials/0")
        expect(seen.page.get_by_role("heading", name="Hyperparameters")).to_be_visible()
        expect(note(seen)).to_have_count(0)
