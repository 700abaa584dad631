"""Where the output of workers and trials goes."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from ashwood.trial.regular import open_to_append, open_to_read

_TAIL_LINES = 20
_TAIL_BYTES = 8_000
_SUMMARY_LINES = 1_000
_SUMMARY_BYTES = 100_000
_LONGEST_SUMMARY = 500
_ESCAPE_SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_PREFIX = re.compile(r"\[[^\]]{1,40}\](<\w+>)?:? ?")
"""What launchers put before each line of a process, such as ``[rank0]: ``."""
_OF_LAUNCHER = re.compile(
    r"(subprocess\.|torch\.distributed\.elastic\.\S*)?(CalledProcessError|ChildFailedError|SignalException)\b"
)
_SAYS_SOMETHING = re.compile(r"[^\W_]")
_SAYS_NOTHING = re.compile(
    r"To enable traceback see|error_file: <N/A>|^note: run with `|^Execution halted|^Node\.js v\d"
)
_LABEL = re.compile(r"^traceback +: ")
_HEADER = re.compile(r"--- \d{4}-\d\d-\d\d ")
_OWNER = re.compile(rb"--- \d{4}-\d\d-\d\d \d\d:\d\d:\d\d experiment ([0-9a-f]{1,64}), trial ")


def trial_log(logs: str | Path, trial: int) -> Path:
    """The file that keeps what a trial prints, in all its attempts."""
    return Path(logs, f"trial-{trial}.log")


def worker_log(logs: str | Path, slot: int) -> Path:
    """The file that keeps what a worker prints outside trials, such as while it imports the training code."""
    return Path(logs, f"worker-{slot}.log")


def logged_experiment(log: Path) -> str | None:
    """Return the identity of the experiment in the first header of a trial's log, or None if it has none."""
    try:
        with open_to_read(log) as file:
            found = _OWNER.match(file.read(_TAIL_BYTES))
    except OSError:
        return None
    return None if found is None else found[1].decode()


def tail(log: Path) -> str:
    """The last lines that the latest attempt left in a log, as an appendix to an error message; empty if none."""
    lines = _last_lines(log)
    return "\n".join(("", f"The last lines of {log}:", *lines)) if lines else ""


def summary(log: Path, raised: bool = True) -> str:
    """Return the line of the latest attempt's output that says best why it failed, or an empty text.

    That is the exception of the last Python traceback, unless a launcher raised it because a process that it had
    started failed; else the last line that isn't decoration.

    Args:
        log: the trial's log.
        raised: whether an exception may have ended the process that trained; False: those in the log were handled.
    """
    lines = [_ESCAPE_SEQUENCE.sub("", line) for line in _last_lines(log, _SUMMARY_BYTES, _SUMMARY_LINES)]
    exceptions = [text for text in _exceptions(lines) if raised and not _OF_LAUNCHER.match(text)]
    said = exceptions or [
        line.strip() for line in lines if _SAYS_SOMETHING.search(line) and not _SAYS_NOTHING.search(line)
    ]
    return _LABEL.sub("", said[-1])[:_LONGEST_SUMMARY] if said else ""


def _exceptions(lines: Iterable[str]) -> Iterator[str]:
    """Yield the line after each Python traceback, which names the exception."""
    inside = False
    for line in lines:
        text = _PREFIX.sub("", line)
        if text.startswith("Traceback (most recent call last):"):
            inside = True
        elif inside and text and not text[0].isspace():
            inside = False
            yield text.strip()


def _last_lines(log: Path, size: int = _TAIL_BYTES, count: int = _TAIL_LINES) -> list[str]:
    try:
        with open_to_read(log) as file:
            data, end = b"", 1
            while len(data) < min(size, end):  # It was trimmed between both calls if there is less than it should be.
                end = file.seek(0, os.SEEK_END)
                file.seek(max(0, end - size))
                data = file.read()
            lines = data.decode(errors="replace").splitlines()
    except OSError:
        return []
    begins = max((number for number, line in enumerate(lines, start=1) if _HEADER.match(line)), default=0)
    return lines[begins:][-count:]


def flush(*streams: TextIO | None) -> bool:
    """Write out what is buffered, of C libraries too; False: something can't be written, the disk may be full."""
    written = True
    for stream in streams:
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            written = False
        except (AttributeError, ValueError):  # replaced or closed by training code
            continue
    if ctypes := sys.modules.get("ctypes"):  # numeric libraries have loaded it; too slow to load just for this
        ctypes.CDLL(None).fflush(None)
    return written


class Output:
    """The standard output and error of this process, down to the descriptors.

    C libraries and child processes write to descriptors 1 and 2, so those are what is redirected.
    Output is lost where it can't be written; nothing else fails for that.
    """

    def __init__(self) -> None:
        """Take what the descriptors lead to now as the place for output between trials."""
        self._home = os.dup(1)
        self._streams = [_stream(1), _stream(2)]
        sys.stdout, sys.stderr = self._streams

    def enter(self, log: Path, header: str) -> None:
        """Append to a trial's log from now on, after a line that says what begins."""
        self._flush()
        with suppress(OSError):
            with open_to_append(log) as file:
                _redirect_to(file.fileno())
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
        if not flush(sys.stdout, sys.stderr, *self._streams):
            with suppress(OSError), Path(os.devnull).open("wb") as file:
                _redirect_to(file.fileno())  # or it would turn up in the log of the next trial
            flush(sys.stdout, sys.stderr, *self._streams)


def _redirect_to(descriptor: int) -> None:
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)


def _stream(descriptor: int) -> TextIO:
    # Closing it, as training code may, leaves the descriptor open.
    return open(descriptor, "w", buffering=1, errors="backslashreplace", closefd=False)
