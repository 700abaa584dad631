"""The command line inside a job of a Ray cluster: what `ashwood.cli.remote` has sent for.

A job has one output. So that the other end can tell what is what, everything but standard output is framed, and what
stands before the first frame is not ours.
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

from ashwood.errors import AshwoodError
from ashwood.trial.sharing import make_shared, share_tree

SUBMISSION: Final = "ASHWOOD_SUBMISSION"
"""The variable that says that the work directory came with the job; its value tells what stayed behind."""

CALLED: Final = "ASHWOOD_CALLED"
"""The variable that says what stands before a command where this job was asked for."""

Kind = Literal["begin", "out", "err", "experiment"]

_OPEN: Final = "\x1b_ashwood "
_CLOSE: Final = "\x1b\\"
_FRAME: Final = re.compile(rf"{re.escape(_OPEN)}(begin|err|experiment) (.*?){re.escape(_CLOSE)}", re.DOTALL)

_in_a_job = False


def frame(kind: Kind, text: str = "") -> str:
    """Text that isn't standard output, for the other end."""
    return f"{_OPEN}{kind} {text}{_CLOSE}"


class Frames:
    """Takes the output of a job apart, in pieces of any size."""

    def __init__(self) -> None:
        self._rest = ""

    def feed(self, text: str) -> Iterator[tuple[Kind, str]]:
        """What is complete now."""
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
    """Where a frame starts that has not ended yet; else where the text ends."""
    start = text.find(_OPEN)
    if start >= 0:
        return start
    start = text.rfind(_OPEN[0])
    return start if start >= 0 and _OPEN.startswith(text[start:]) else len(text)


class _Framed(io.TextIOBase):
    """Standard error, on standard output."""

    encoding = "utf-8"
    errors = "replace"

    def writable(self) -> bool:
        return True

    def write(self, text: str, /) -> int:
        if not isinstance(text, str):  # who prints tries whether this is a stream of bytes
            raise TypeError(f"text, not {type(text).__name__}")
        if text:
            sys.stdout.write(frame("err", text))
            sys.stdout.flush()
        return len(text)


def is_in_a_job() -> bool:
    """Whether this process is a job that a command line elsewhere waits for."""
    return _in_a_job


def called() -> str:
    """What a person types before a command that comes next: with ``--on URL``, where the cluster is elsewhere."""
    return os.environ.get(CALLED, "ashwood")


def announce(experiment: int) -> None:
    """Tell who waits for it which experiment this job drives."""
    if _in_a_job:
        sys.stdout.write(frame("experiment", str(experiment)))
        sys.stdout.flush()


def submission() -> dict[str, Any] | None:
    """What is told of the work directory that came with this job; None: none did."""
    told = os.environ.get(SUBMISSION)
    return None if told is None else dict(json.loads(told))


def settle(file: Path, code: Path) -> Path:
    """Copy the work directory to where it stays: Ray removes its own when it needs the room, or with the cluster.

    Returns:
        the experiment file, there.

    Raises:
        AshwoodError: it can't be copied.
    """
    try:
        make_shared(code)
        target = Path(tempfile.mkdtemp(prefix="submitted-", dir=code))
        shutil.copytree(file.parent, target, symlinks=True, dirs_exist_ok=True)
        share_tree(target)
    except OSError as error:
        raise AshwoodError(f"the work directory can't be kept in {code}: {error}") from error
    return target / file.name


def main() -> None:
    """Run the command line in the home directory, so that experiments live in ``~/.ashwood`` there."""
    global _in_a_job
    from ashwood.cli.main import main as ashwood

    arguments = sys.argv[1:]
    if arguments[0] == "run":
        arguments[1] = os.path.abspath(arguments[1])  # noqa: PTH100 as it is written, links and all
    os.chdir(Path.home())
    os.environ.pop("ASHWOOD_ON", None)  # it is here already
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="replace", line_buffering=True)
    _in_a_job = True
    sys.stdout.write(frame("begin"))
    sys.stderr = _Framed()
    sys.argv = ["ashwood", *arguments]
    ashwood()


if __name__ == "__main__":
    # As a module that others import too, so that there is one of it.
    from ashwood.cli import job

    job.main()
