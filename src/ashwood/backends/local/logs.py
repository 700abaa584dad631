"""Log files of workers and trials: redirect output to them, and read errors from them."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from ashwood.checkpoints.regular import open_to_append, open_to_read

_TAIL_LINES = 20
_TAIL_BYTES = 8_000
_SUMMARY_LINES = 1_000
_SUMMARY_BYTES = 100_000
_LONGEST_SUMMARY = 500
_ESCAPE_SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_PREFIX = re.compile(r"\[[^\]]{1,40}\](<\w+>)?:? ?")
"""Prefix that launchers add to each line of a process, such as ``[rank0]: ``."""
_LAUNCHER_ERROR = re.compile(
    r"(subprocess\.|torch\.distributed\.elastic\.\S*)?(CalledProcessError|ChildFailedError|SignalException)\b"
)
_HAS_WORDS = re.compile(r"[^\W_]")
_BOILERPLATE = re.compile(
    r"To enable traceback see|error_file: <N/A>|^note: run with `|^Execution halted|^Node\.js v\d|"
    r"^The package determined is not installed"
)
_LABEL = re.compile(r"^traceback +: ")
_HEADER = re.compile(r"--- \d{4}-\d\d-\d\d ")
_OWNER = re.compile(rb"--- \d{4}-\d\d-\d\d \d\d:\d\d:\d\d experiment ([0-9a-f]{1,64}), trial ")


def trial_log(logs: str | Path, trial: int) -> Path:
    """Return the path of the log with the output of all attempts of a trial."""
    return Path(logs, f"trial-{trial}.log")


def worker_log(logs: str | Path, slot: int) -> Path:
    """Return the path of the log with a worker's output outside trials, such as during the import of training code."""
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
    """Return the last lines of the latest attempt in a log, to append to an error message, or an empty text."""
    lines = _last_lines(log)
    return "\n".join(("", f"The last lines of {log}:", *lines)) if lines else ""


def summary(log: Path, raised: bool = True) -> str:
    """Return the line of the latest attempt's output that best explains a failure, or an empty text.

    It is the exception of the last Python traceback, except those that launchers raise because a process has failed.
    If there is no traceback, it is the last line that contains words.

    Args:
        log: log of the trial.
        raised: whether an exception may have ended the training process; if not, tracebacks in the log are ignored.
    """
    lines = [_ESCAPE_SEQUENCE.sub("", line) for line in _last_lines(log, _SUMMARY_BYTES, _SUMMARY_LINES)]
    exceptions = [text for text in _exceptions(lines) if raised and not _LAUNCHER_ERROR.match(text)]
    candidates = exceptions or [
        line.strip() for line in lines if _HAS_WORDS.search(line) and not _BOILERPLATE.search(line)
    ]
    return _LABEL.sub("", candidates[-1])[:_LONGEST_SUMMARY] if candidates else ""


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
            while len(data) < min(size, end):  # Fewer bytes: the log was trimmed between seek and read.  Read again.
                end = file.seek(0, os.SEEK_END)
                file.seek(max(0, end - size))
                data = file.read()
            lines = data.decode(errors="replace").splitlines()
    except OSError:
        return []
    begins = max((number for number, line in enumerate(lines, start=1) if _HEADER.match(line)), default=0)
    return lines[begins:][-count:]


def flush(*streams: TextIO | None) -> bool:
    """Flush streams and the buffers of the C library, and return whether everything could be written."""
    written = True
    for stream in streams:
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            written = False
        except (AttributeError, ValueError):  # Training code has replaced or closed the stream.
            continue
    # C code that prints through stdio most likely comes with a numeric library, which has imported ctypes.  An import
    # just for this would be slow.
    if ctypes := sys.modules.get("ctypes"):
        ctypes.CDLL(None).fflush(None)
    return written


class OutputRedirect:
    """Redirects the standard output and error of this process.

    It redirects descriptors 1 and 2, because C libraries and child processes write to those.  Output that cannot be
    written is lost, but causes no error.
    """

    def __init__(self) -> None:
        """Use the files that descriptors 1 and 2 refer to now for output between trials."""
        self._home = os.dup(1)
        self._streams = [_stream(1), _stream(2)]
        sys.stdout, sys.stderr = self._streams

    def enter(self, log: Path, header: str) -> None:
        """Redirect output to the end of a trial's log, after a line with the time and ``header``."""
        self._flush()
        with suppress(OSError):
            with open_to_append(log) as file:
                _redirect_to(file.fileno())
            os.write(1, f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} {header}\n".encode())

    def leave(self) -> None:
        """Restore the output between trials, also if training code has replaced or closed ``sys.stdout``."""
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
                _redirect_to(file.fileno())  # Otherwise buffered output would get into the next log.
            flush(sys.stdout, sys.stderr, *self._streams)


def _redirect_to(descriptor: int) -> None:
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)


def _stream(descriptor: int) -> TextIO:
    # closefd=False: if training code closes the stream, the descriptor stays open.
    return open(descriptor, "w", buffering=1, errors="backslashreplace", closefd=False)
