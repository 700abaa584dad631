"""Where the output of workers and trials goes."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TextIO

_TAIL_LINES = 20
_TAIL_BYTES = 8_000


def trial_log(logs: str | Path, trial: int) -> Path:
    """The file that keeps what a trial prints, in all its attempts."""
    return Path(logs, f"trial-{trial}.log")


def worker_log(logs: str | Path, slot: int) -> Path:
    """The file that keeps what a worker prints outside trials, such as while it imports the training code."""
    return Path(logs, f"worker-{slot}.log")


def tail(log: Path) -> str:
    """The last lines of a log, as an appendix to an error message; empty where there are none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()[-_TAIL_LINES:]
    except OSError:
        return ""
    return "\n".join(("", f"The last lines of {log}:", *lines)) if lines else ""


def last_line(log: Path) -> str:
    """The last line that training code printed in its latest attempt, as the end of a headline; empty if none."""
    lines = [line for line in tail(log).splitlines() if line.strip()]
    return f": {lines[-1].strip()}" if lines and not lines[-1].startswith("--- ") else ""


class Output:
    """The standard output and error of this process, down to the descriptors.

    C libraries and child processes write to descriptors 1 and 2, so those are what is redirected.
    """

    def __init__(self) -> None:
        """Take what the descriptors lead to now as the place for output between trials."""
        self._home = os.dup(1)
        self._streams = [_stream(1), _stream(2)]
        sys.stdout, sys.stderr = self._streams

    def enter(self, log: Path, header: str) -> None:
        """Append to a trial's log from now on, after a line that says what begins."""
        self._flush()
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        os.close(descriptor)
        os.write(1, f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} {header}\n".encode())

    def leave(self) -> None:
        """Go back to the output between trials, whatever training code did to ``sys.stdout``."""
        self._flush()
        self._streams = [
            _stream(number) if stream.closed else stream for number, stream in enumerate(self._streams, start=1)
        ]
        sys.stdout, sys.stderr = self._streams
        os.dup2(self._home, 1)
        os.dup2(self._home, 2)

    def _flush(self) -> None:
        for stream in (sys.stdout, sys.stderr, *self._streams):
            with suppress(AttributeError, OSError, ValueError):  # replaced or closed by training code
                stream.flush()
        if ctypes := sys.modules.get("ctypes"):  # numeric libraries have loaded it; too slow to load just for this
            ctypes.CDLL(None).fflush(None)


def _stream(descriptor: int) -> TextIO:
    # Closing it, as training code may, leaves the descriptor open.
    return open(descriptor, "w", buffering=1, errors="backslashreplace", closefd=False)
