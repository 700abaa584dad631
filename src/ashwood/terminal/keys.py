"""Keys of a terminal: single key presses without Enter, and Ctrl-C."""

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
    """A context manager that reads key presses, if standard input is a terminal.

    A wait for a key also ends when the size of the terminal changes.
    """

    def __init__(self) -> None:
        self._terminal = sys.stdin.fileno() if sys.stdin.isatty() else None
        self._saved_mode: list[Any] = []
        self._handlers: list[Any] = []
        self._wakeup = -1

    def __enter__(self) -> Keys:
        self._awake, self._signalled = os.pipe()
        for end in (self._awake, self._signalled):
            os.set_blocking(end, False)
        self._wakeup = signal.set_wakeup_fd(self._signalled, warn_on_full_buffer=False)
        self._handlers = [signal.signal(each, _terminated if each == signal.SIGTERM else _ignored) for each in _SIGNALS]
        self._set_mode()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore_mode()
        for each, handler in zip(_SIGNALS, self._handlers, strict=True):
            signal.signal(each, handler)
        signal.set_wakeup_fd(self._wakeup)
        os.close(self._awake)
        os.close(self._signalled)

    def wait(self, seconds: float) -> str:
        """Return the keys that are pressed within ``seconds``; empty if there are none or the terminal was resized."""
        sources = [self._awake] if self._terminal is None else [self._awake, self._terminal]
        ready, _, _ = select.select(sources, [], [], seconds)
        if self._awake in ready:
            os.read(self._awake, 1024)
        if self._terminal is None or self._terminal not in ready:
            return ""
        # An empty read means that the terminal was closed. It is treated like Ctrl-D, which closes the display.
        return os.read(self._terminal, 1024).decode(errors="replace") or "\x04"

    def suspend(self) -> None:
        """Stop this process, as Ctrl-Z does, until its shell continues it."""
        self._restore_mode()
        os.kill(0, signal.SIGTSTP)
        self._set_mode()

    def _set_mode(self) -> None:
        """Let the terminal deliver keys at once, without Enter."""
        if self._terminal is None:
            return
        self._saved_mode = termios.tcgetattr(self._terminal)
        tty.setcbreak(self._terminal)
        # Ctrl-Z is read as a key instead of stopping the process, because the screen must be restored first.
        changed = termios.tcgetattr(self._terminal)
        changed[6][termios.VSUSP] = bytes([os.fpathconf(self._terminal, "PC_VDISABLE")])
        termios.tcsetattr(self._terminal, termios.TCSANOW, changed)

    def _restore_mode(self) -> None:
        if self._terminal is not None:
            termios.tcsetattr(self._terminal, termios.TCSADRAIN, self._saved_mode)


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


def _ignored(number: int, frame: FrameType | None) -> None:
    """Do nothing: the signal has already written to the wake-up descriptor."""


def _terminated(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001 a handler's arguments
    sys.exit(128 + number)
