"""The output of a job of a Ray cluster, which `ashwood.cli.job` writes and `ashwood.cli.remote` reads.

A job has one output stream. Everything except standard output is framed by escape sequences, so that the reader can
separate it. Output before the first frame is that of Ray or of Python and not of the command.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal

from ashwood.checkpoints.sharing import make_shared, share_tree
from ashwood.errors import AshwoodError

SUBMISSION: Final = "ASHWOOD_SUBMISSION"
"""Environment variable that is set if the work directory came with the job; a JSON object describes its source."""

Kind = Literal["begin", "out", "err", "experiment"]

_OPEN: Final = "\x1b_ashwood "
_CLOSE: Final = "\x1b\\"
_FRAME: Final = re.compile(rf"{re.escape(_OPEN)}(begin|err|experiment) (.*?){re.escape(_CLOSE)}", re.DOTALL)

_in_a_job = False


def frame(kind: Kind, text: str = "") -> str:
    """Return a text as a frame, which marks it as something other than standard output."""
    return f"{_OPEN}{kind} {text}{_CLOSE}"


class FrameParser:
    """A parser that separates the output of a job, in pieces of any size, into frames and standard output."""

    def __init__(self) -> None:
        self._rest = ""

    def feed(self, text: str) -> Iterator[tuple[Kind, str]]:
        """Add a piece, and yield each part that is complete now with its kind."""
        text = self._rest + text
        at = 0
        for found in _FRAME.finditer(text):
            if found.start() > at:
                yield "out", text[at : found.start()]
            kind: Any = found[1]
            yield kind, found[2]
            at = found.end()
        text = text[at:]
        end = _start_of_frame(text)
        self._rest = text[end:]
        if end:
            yield "out", text[:end]


def _start_of_frame(text: str) -> int:
    """Return the position at which an incomplete frame begins, or the length of the text if there is none."""
    start = text.find(_OPEN)
    if start >= 0:
        return start
    start = text.rfind(_OPEN[0])
    return start if start >= 0 and _OPEN.startswith(text[start:]) else len(text)


class _Framed(io.TextIOBase):
    """Standard error, framed and written to standard output."""

    encoding = "utf-8"
    errors = "replace"

    def writable(self) -> bool:
        return True

    def write(self, text: str, /) -> int:
        if not isinstance(text, str):  # click tests whether a stream accepts bytes
            raise TypeError(f"a text stream accepts str, not {type(text).__name__}")
        if text:
            sys.stdout.write(frame("err", text))
            sys.stdout.flush()
        return len(text)


def begin() -> None:
    """Note that this process is a job, and frame everything that it writes to standard error from now on."""
    global _in_a_job
    _in_a_job = True
    sys.stdout.write(frame("begin"))
    sys.stderr = _Framed()


def is_in_a_job() -> bool:
    """Return whether this process is a job that runs a command for a command line on another machine."""
    return _in_a_job


def announce(experiment: int) -> None:
    """Print the number of the experiment that this job drives, as a frame for the command line that waits for it."""
    if _in_a_job:
        sys.stdout.write(frame("experiment", str(experiment)))
        sys.stdout.flush()


def submission() -> dict[str, Any] | None:
    """Return the description of the work directory that came with this job, or None if none came."""
    text = os.environ.get(SUBMISSION)
    return None if text is None else dict(json.loads(text))


def copy_work_directory(file: Path, code: Path) -> Path:
    """Copy the work directory of the job to ``code``, because Ray may delete its own copy at any time.

    Returns:
        the path of the experiment file in the copy.

    Raises:
        AshwoodError: the directory cannot be copied.
    """
    try:
        make_shared(code)
        target = Path(tempfile.mkdtemp(prefix="submitted-", dir=code))
        shutil.copytree(file.parent, target, symlinks=True, dirs_exist_ok=True)
        share_tree(target)
    except OSError as error:
        raise AshwoodError(f"cannot copy the work directory to {code}: {error}") from error
    return target / file.name
