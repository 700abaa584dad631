"""Keys of a terminal: single ones, without Enter, and Ctrl-C."""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Final, NoReturn

_SIGNALS: Final = (signal.SIGWINCH, signal.SIGTERM)


class Keys:
    """What is pressed, as a context manager; there is nothing to press where standard input is no terminal.

    Whoever waits for a key also wakes up when the terminal's size changes.
    """

    def __init__(self) -> None:
        self._terminal = sys.stdin.fileno() if sys.stdin.isatty() else None
        self._as_it_was: list[Any] = []
        self._handlers: list[Any] = []
        self._wakeup = -1

    def __enter__(self) -> Keys:
        self._awake, self._signalled = os.pipe()
        for end in (self._awake, self._signalled):
            os.set_blocking(end, False)
        self._wakeup = signal.set_wakeup_fd(self._signalled, warn_on_full_buffer=False)
        self._handlers = [signal.signal(each, _terminated if each == signal.SIGTERM else _noted) for each in _SIGNALS]
        self._take()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._give_back()
        for each, handler in zip(_SIGNALS, self._handlers, strict=True):
            signal.signal(each, handler)
        signal.set_wakeup_fd(self._wakeup)
        os.close(self._awake)
        os.close(self._signalled)

    def wait(self, seconds: float) -> str:
        """What is pressed within so many seconds; empty: nothing, or the terminal has another size now."""
        sources = [self._awake] if self._terminal is None else [self._awake, self._terminal]
        ready, _, _ = select.select(sources, [], [], seconds)
        if self._awake in ready:
            os.read(self._awake, 1024)
        if self._terminal is None or self._terminal not in ready:
            return ""
        # Nothing at all can be read where the terminal is gone.
        return os.read(self._terminal, 1024).decode(errors="replace") or "\x04"

    def suspend(self) -> None:
        """Stop this process, as Ctrl-Z does, until its shell goes on with it."""
        self._give_back()
        os.kill(0, signal.SIGTSTP)
        self._take()

    def _take(self) -> None:
        if self._terminal is None:
            return
        self._as_it_was = termios.tcgetattr(self._terminal)
        tty.setcbreak(self._terminal)
        # Ctrl-Z as a key: whoever draws has to clear the screen first.
        changed = termios.tcgetattr(self._terminal)
        changed[6][termios.VSUSP] = bytes([os.fpathconf(self._terminal, "PC_VDISABLE")])
        termios.tcsetattr(self._terminal, termios.TCSANOW, changed)

    def _give_back(self) -> None:
        if self._terminal is not None:
            termios.tcsetattr(self._terminal, termios.TCSADRAIN, self._as_it_was)


@contextmanager
def ending_on_ctrl_c() -> Iterator[None]:
    """Let Ctrl-C raise KeyboardInterrupt in the body, if a person at a terminal can press it.

    A shell without job control (a script, a CI job, ``make test &``) starts background jobs with SIGINT ignored.
    Their children inherit that, and a command that waits or follows something would then ignore Ctrl-C for ever, even
    on a terminal of its own. If standard input isn't a terminal, SIGINT stays ignored: the shell gives such a job
    /dev/null to read, and a Ctrl-C on the terminal is meant for another job of it.
    """
    if sys.stdin is None or not sys.stdin.isatty() or signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _noted(number: int, frame: FrameType | None) -> None:
    """The wake-up is all."""


def _terminated(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001 a handler's arguments
    sys.exit(128 + number)
