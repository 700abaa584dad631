"""The command line on a pseudo-terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .conftest import Workplace

CTRL_C, CTRL_Q, CTRL_S = "\x03", "\x11", "\x13"

_RUN = "from ashwood.cli.main import main; main()"
_CONTROL = "import fcntl, signal, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)"
"""Makes standard input the controlling terminal, so that Ctrl-C typed into it sends SIGINT."""


class Screen:
    """A terminal with a command on it."""

    def __init__(self, process: subprocess.Popen[bytes], terminal: int) -> None:
        self.process = process
        self.terminal = terminal
        self.written = ""

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.process.send_signal(signal.SIGWINCH)

    def press(self, key: str) -> None:
        os.write(self.terminal, key.encode())

    @property
    def shown(self) -> str:
        """Text written since the screen was last drawn from the top."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.written.rpartition("\x1b[H")[2])

    def wait_for(self, holds: Callable[[str], object], seconds: float = 60.0) -> str:
        deadline = time.monotonic() + seconds
        while not holds(shown := self.shown):
            assert time.monotonic() < deadline, shown
            assert self._read(0.1), shown
        return shown

    def left(self, code: int = 0, seconds: float = 60.0) -> str:
        """Wait until the command ends by itself with an exit code; return what stands on the main screen then."""
        deadline = time.monotonic() + seconds
        while self._read(1.0):
            assert time.monotonic() < deadline, self.shown
        assert self.process.wait(60) == code, self.shown
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.written.rpartition("\x1b[?1049l")[2])

    def _read(self, seconds: float) -> bool:
        if not select.select([self.terminal], [], [], seconds)[0]:
            return self.process.poll() is None
        try:
            self.written += os.read(self.terminal, 1 << 16).decode(errors="replace")
        except OSError:  # every process has closed the terminal
            return False
        return True


@contextmanager
def on_terminal(
    workplace: Workplace,
    *arguments: str,
    columns: int = 110,
    lines: int = 30,
    ignoring_sigint: bool = False,
    **more: str,
) -> Iterator[Screen]:
    """Run a command on a terminal of its own, which it controls.

    Args:
        workplace: directory to run it in.
        arguments: its arguments.
        columns: width of the terminal.
        lines: height of the terminal.
        ignoring_sigint: whether it starts as a background job of a shell without job control starts.
        more: environment variables.
    """
    terminal, its_end = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ASHWOOD_")}
    for name in ("COLUMNS", "LINES", "NO_COLOR"):
        environment.pop(name, None)
    ignore = "signal.signal(signal.SIGINT, signal.SIG_IGN)" if ignoring_sigint else "pass"
    with subprocess.Popen(
        [sys.executable, "-P", "-c", f"{_CONTROL}; {ignore}; {_RUN}", *arguments],
        cwd=workplace.path,
        env={**environment, "TERM": "xterm-256color", "PAGER": "cat", **more},
        stdin=its_end,
        stdout=its_end,
        stderr=its_end,
        start_new_session=True,
    ) as process:
        os.close(its_end)
        try:
            yield Screen(process, terminal)
        finally:
            process.kill()
            os.close(terminal)
