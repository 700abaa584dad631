"""A headless browser that prints pages as PDF and takes pictures of them."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ashwood.errors import AshwoodError
from ashwood.terminal.output import writing

VARIABLE: Final = "ASHWOOD_BROWSER"
"""Environment variable with the browser to use, a command or a path."""

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
    # Figures with many points are drawn with WebGL, which needs a graphics card or this software renderer.
    "--enable-unsafe-swiftshader",
    "--disable-dev-shm-usage",
    "--mute-audio",
    "--metrics-recording-only",
    "--password-store=basic",
    "--use-mock-keychain",
    # The page is self-contained.  A dead proxy and no name resolution keep the browser off the network, too.
    "--proxy-server=http://127.0.0.1:9",
    "--host-resolver-rules=MAP * ~NOTFOUND",
)
SECONDS: Final = 120.0
"""Time limit of one page."""

# Limit in the page's virtual time, which the browser advances without waiting for timers.
_VIRTUAL_MILLISECONDS: Final = 30_000
_PICTURE_WIDTH: Final = 1_120
# Browsers truncate larger pictures.
_MOST_PIXELS: Final = 16_384
_READY: Final = re.compile(r"<html[^>]* data-ready")
_HEIGHT: Final = re.compile(r'<html[^>]* data-height="(\d+)"')


class Browser:
    """A browser of the Chromium family.

    Attributes:
        path: path of its program.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def print_page(self, page: str, out: Path) -> None:
        """Write a page as a PDF.  It is opened with the fragment ``#paper``, so that it can use a layout for print.

        Raises:
            AshwoodError: the browser failed or took too long.
        """
        with self._open(page) as opened:
            opened.run("#paper", "--no-pdf-header-footer", f"--print-to-pdf={opened.path / 'out.pdf'}")
            opened.publish("out.pdf", b"%PDF-", out)

    def take_picture(self, page: str, out: Path) -> None:
        """Write a whole page as a PNG.

        It is opened with the fragment ``#picture`` twice: first to read its height from an attribute that it sets,
        then to take the picture in a window of that height.

        Raises:
            AshwoodError: the browser failed or took too long.
        """
        with self._open(page) as opened:
            dom = opened.run("#picture", f"--window-size={_PICTURE_WIDTH},900", "--dump-dom")
            height = _HEIGHT.search(dom)
            if _READY.search(dom) is None or height is None:
                raise AshwoodError(f"{self.path} opened the report, but did not draw its figures")
            pixels = int(height[1])
            scale = 2 if 2 * pixels <= _MOST_PIXELS else 1
            opened.run(
                "#picture",
                f"--window-size={_PICTURE_WIDTH},{min(pixels, _MOST_PIXELS)}",
                f"--force-device-scale-factor={scale}",
                f"--screenshot={opened.path / 'out.png'}",
            )
            opened.publish("out.png", b"\x89PNG", out)

    @contextmanager
    def _open(self, page: str) -> Iterator[_OpenPage]:
        with tempfile.TemporaryDirectory(prefix="ashwood-report-", ignore_cleanup_errors=True) as directory:
            yield _OpenPage(self.path, page, Path(directory))


def find_browser() -> Browser:
    """Return the browser that ``ASHWOOD_BROWSER`` names, or the first one that is installed.

    Raises:
        AshwoodError: no browser is found.
    """
    command = os.environ.get(VARIABLE)
    if command:
        path = shutil.which(command)
        if path is None:
            raise AshwoodError(f"{VARIABLE}: there is no program {command!r}; set it to a Chromium-based browser")
        return Browser(path)
    for candidate in _candidates():
        if (path := shutil.which(candidate)) is not None:
            return Browser(path)
    raise AshwoodError(
        f"a PDF or a picture needs a browser, and none was found: looked for {', '.join(COMMANDS)}"
        f"{' and in /Applications' if sys.platform == 'darwin' else ''}. Install one, set {VARIABLE} to yours, or "
        "write --out report.html and print that from any browser"
    )


def _candidates() -> Iterator[str]:
    yield from COMMANDS
    if sys.platform == "darwin":
        yield from _APPLICATIONS
        yield from (str(Path.home()) + path for path in _APPLICATIONS)


class _OpenPage:
    """A page in a temporary directory, with the profile of the browser and the file that the browser writes."""

    def __init__(self, browser: str, page: str, path: Path) -> None:
        self._browser = browser
        self.path = path
        self._page = path / "report.html"
        self._page.write_text(page, encoding="utf-8")

    def run(self, fragment: str, *flags: str) -> str:
        """Open the page with a fragment and flags, and return the standard output of the browser."""
        # Chromium refuses to run as root in its sandbox. Running without the sandbox is safe here: the page is our own.
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        profile = f"--user-data-dir={self.path / 'profile'}"
        budget = f"--virtual-time-budget={_VIRTUAL_MILLISECONDS}"
        return _run([self._browser, *_FLAGS, *sandbox, profile, budget, *flags, self._page.as_uri() + fragment])

    def publish(self, name: str, magic: bytes, out: Path) -> None:
        """Write the browser's file ``name`` to ``out``, if it begins with ``magic``.

        Raises:
            AshwoodError: the browser wrote no such file, or ``out`` cannot be written.
        """
        made = self.path / name
        content = made.read_bytes() if made.exists() else b""
        if not content.startswith(magic):
            raise AshwoodError(f"{self._browser} exited without writing the file; is it a Chromium-based browser?")
        write_whole(out, content)


def _run(command: Sequence[str]) -> str:
    try:
        process = subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # A browser is many processes.  In a session of their own they can be killed together.
            start_new_session=True,
        )
    except OSError as error:
        raise AshwoodError(f"cannot run {command[0]}: {error.strerror}") from error
    try:
        out, errors = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        raise AshwoodError(f"{command[0]} did not finish the report in {SECONDS:.0f} s") from None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    if process.returncode:
        lines = errors.decode(errors="replace").strip().splitlines() or ["no error message"]
        raise AshwoodError(f"{command[0]} failed (exit code {process.returncode}): {lines[-1]}")
    return out.decode(errors="replace")


def write_whole(out: Path, content: bytes) -> None:
    """Write a file atomically, so that no reader ever sees a part of it.

    Raises:
        AshwoodError: the file cannot be written.
    """
    beside = out.with_name(f".{out.name}.{os.urandom(8).hex()}.part")
    try:
        with writing(out):
            beside.write_bytes(content)
            beside.replace(out)
    finally:
        beside.unlink(missing_ok=True)
