"""A browser without a window, to print pages and to take pictures of them."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from ashwood.errors import AshwoodError

VARIABLE: Final = "ASHWOOD_BROWSER"
"""Names the browser to use: a command or a path."""

COMMANDS: Final = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chromium-headless-shell",
    "chrome",
    "microsoft-edge",
    "msedge",
    "brave-browser",
)
_APPLICATIONS: Final = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge",
)
_FLAGS: Final = (
    "--headless=new",
    "--hide-scrollbars",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-extensions",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    # Figures of many points are drawn by a graphics card, or what stands for one.
    "--enable-unsafe-swiftshader",
    "--disable-dev-shm-usage",
    "--mute-audio",
    "--metrics-recording-only",
    "--password-store=basic",
    "--use-mock-keychain",
    # A page that says what it needs asks nobody; neither does the browser.
    "--proxy-server=http://127.0.0.1:9",
    "--host-resolver-rules=MAP * ~NOTFOUND",
)
SECONDS: Final = 120.0
"""How long a page may take."""

# Of the page's own time, which runs ahead while it waits for nothing but a clock.
_VIRTUAL_MILLISECONDS: Final = 30_000
_PICTURE_WIDTH: Final = 1_120
# Larger pictures are cut by browsers.
_MOST_PIXELS: Final = 16_384
_READY: Final = re.compile(r"<html[^>]* data-ready")
_HEIGHT: Final = re.compile(r'<html[^>]* data-height="(\d+)"')


class Browser:
    """A browser of the Chromium family.

    Attributes:
        path: the command.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def print_page(self, page: str, out: Path) -> None:
        """Write a page as a PDF; its address ends in ``#paper``, so that it knows.

        Raises:
            AshwoodError: the browser failed, or took too long.
        """
        with _Desk(self.path, page) as desk:
            desk.run("#paper", "--no-pdf-header-footer", f"--print-to-pdf={desk.path / 'out.pdf'}")
            desk.keep("out.pdf", b"%PDF-", out)

    def take_picture(self, page: str, out: Path) -> None:
        """Write all of a page as a PNG; its address ends in ``#picture``, and it says how high it is.

        Raises:
            AshwoodError: the browser failed, or took too long.
        """
        with _Desk(self.path, page) as desk:
            said = desk.run("#picture", f"--window-size={_PICTURE_WIDTH},900", "--dump-dom")
            height = _HEIGHT.search(said)
            if _READY.search(said) is None or height is None:
                raise AshwoodError(f"{self.path} opened the report, but its figures were not drawn")
            pixels = int(height[1])
            scale = 2 if 2 * pixels <= _MOST_PIXELS else 1
            desk.run(
                "#picture",
                f"--window-size={_PICTURE_WIDTH},{min(pixels, _MOST_PIXELS)}",
                f"--force-device-scale-factor={scale}",
                f"--screenshot={desk.path / 'out.png'}",
            )
            desk.keep("out.png", b"\x89PNG", out)


def find_browser() -> Browser:
    """The browser that ``ASHWOOD_BROWSER`` names, or the first that is installed.

    Raises:
        AshwoodError: there is none.
    """
    wanted = os.environ.get(VARIABLE)
    if wanted:
        path = shutil.which(wanted)
        if path is None:
            raise AshwoodError(f"{VARIABLE}: there is no program {wanted!r}; it names a browser of the Chromium family")
        return Browser(path)
    for candidate in _candidates():
        if (path := shutil.which(candidate)) is not None:
            return Browser(path)
    raise AshwoodError(
        f"a PDF or a picture takes a browser, and there is none here: looked for {', '.join(COMMANDS)}"
        f"{' and in /Applications' if sys.platform == 'darwin' else ''}. Install one, name yours in {VARIABLE}, or "
        "write --out report.html and print that from any browser"
    )


def _candidates() -> Iterator[str]:
    yield from COMMANDS
    if sys.platform == "darwin":
        yield from _APPLICATIONS
        yield from (str(Path.home()) + path for path in _APPLICATIONS)


class _Desk:
    """A directory for a page, a browser's profile and what it makes; gone afterwards."""

    def __init__(self, browser: str, page: str) -> None:
        self._browser = browser
        self._directory = tempfile.TemporaryDirectory(prefix="ashwood-report-", ignore_cleanup_errors=True)
        self.path = Path(self._directory.name)
        self._page = self.path / "report.html"
        self._page.write_text(page, encoding="utf-8")

    def __enter__(self) -> _Desk:
        return self

    def __exit__(self, *_: object) -> None:
        self._directory.cleanup()

    def run(self, fragment: str, *flags: str) -> str:
        """Open the page; returns what the browser printed."""
        command = [
            self._browser,
            *_FLAGS,
            # As root Chromium refuses to run in its own sandbox; the page is ours, and can't reach out of itself.
            *(["--no-sandbox"] if os.geteuid() == 0 else []),
            f"--user-data-dir={self.path / 'profile'}",
            f"--virtual-time-budget={_VIRTUAL_MILLISECONDS}",
            *flags,
            self._page.as_uri() + fragment,
        ]
        return _run(command)

    def keep(self, name: str, magic: bytes, out: Path) -> None:
        """Move what was made to its place, if it is what it should be."""
        made = self.path / name
        content = made.read_bytes() if made.exists() else b""
        if not content.startswith(magic):
            raise AshwoodError(f"{self._browser} ended without having written the file; is it a Chromium?")
        write_whole(out, content)


def _run(command: Sequence[str]) -> str:
    try:
        process = subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # A browser is many processes; they end together.
            start_new_session=True,
        )
    except OSError as error:
        raise AshwoodError(f"{command[0]} can't be run: {error.strerror}") from error
    try:
        out, said = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        raise AshwoodError(f"{command[0]} did not finish the report in {SECONDS:.0f} s") from None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    if process.returncode:
        lines = said.decode(errors="replace").strip().splitlines() or ["it didn't say why"]
        raise AshwoodError(f"{command[0]} failed (exit code {process.returncode}): {lines[-1]}")
    return out.decode(errors="replace")


def write_whole(out: Path, content: bytes) -> None:
    """Write a file so that no reader ever sees a part of it.

    Raises:
        AshwoodError: it can't be written.
    """
    beside = out.with_name(f".{out.name}.{os.urandom(8).hex()}.part")
    try:
        beside.write_bytes(content)
        beside.replace(out)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise AshwoodError(f"can't write {out}: {error.strerror}") from error
