"""Make images/dashboard.png: the digits example in a real browser, while it runs.

Run on a machine that does nothing else, with Chromium on the PATH: ``make pictures``.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[1]
OUT = ROOT / "docs" / "images" / "dashboard.png"
_COLOURS = 64
_LATE_ENOUGH = 0.55
_ASHWOOD = [sys.executable, "-m", "ashwood"]


def main() -> None:
    """Run the search, and look when it is half done."""
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory) / "digits"
        shutil.copytree(ROOT / "examples" / "digits", place, ignore=shutil.ignore_patterns(".ashwood"))
        run = subprocess.Popen([*_ASHWOOD, "run", "digits.yaml", "--json"], cwd=place, stdout=subprocess.DEVNULL)
        _wait(place)
        with subprocess.Popen([*_ASHWOOD, "ui", "--no-open"], cwd=place, stdout=subprocess.PIPE, text=True) as ui:
            said = "" if ui.stdout is None else ui.stdout.readline()
            _look(said.split()[-1], place / "page.png")
            ui.terminate()
        run.terminate()
        run.wait()
        Image.open(place / "page.png").convert("RGB").quantize(_COLOURS).save(OUT, optimize=True)


def _wait(place: Path) -> None:
    while True:
        listed = subprocess.run([*_ASHWOOD, "list", "--json"], cwd=place, capture_output=True, text=True, check=False)
        found = json.loads(listed.stdout) if listed.returncode == 0 else []
        if found and found[0]["summary"].get("fraction", 0) > _LATE_ENOUGH:
            return


def _look(url: str, out: Path) -> None:
    with sync_playwright() as playwright:
        sandbox = ["--no-sandbox"] if sys.platform == "linux" else []
        program = shutil.which("chromium") or shutil.which("chromium-headless-shell")
        browser = playwright.chromium.launch(executable_path=program, args=sandbox)
        page = browser.new_page(viewport={"width": 1440, "height": 1130}, color_scheme="light")
        page.goto(f"{url}experiments/1")
        page.locator(".scatterlayer .point").first.wait_for()
        page.locator(".plot").nth(1).locator(".main-svg").first.wait_for()
        page.locator("#home").evaluate("(home) => { home.textContent = '~/digits/.ashwood'; }")
        page.screenshot(path=out)
        browser.close()


if __name__ == "__main__":
    main()
