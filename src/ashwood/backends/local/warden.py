"""Sees to it that no worker outlives the driver, whatever happens to it.

A process of its own, run by path, importing next to nothing: it reads process groups
from the driver, ``+GROUP`` and ``-GROUP`` a line.  When the driver is gone it gives the
workers, which see that for themselves, a grace to save what they can; a group whose
leader has left, or that outstays the grace, is killed with all that is in it.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time

GRACE = 10.0
"""Seconds that workers get to save their trials when the driver is gone."""
_TICK = 0.05


def watch(source: int, parent: int) -> set[int]:
    """Keep the book of groups until the driver is gone; returns those that it left."""
    groups: set[int] = set()
    tail = b""
    while True:
        # A forked child of the driver may hold the pipe open, so its end alone isn't trusted.
        readable, _, _ = select.select([source], [], [], 1.0)
        data = os.read(source, 1 << 16) if readable else b""
        if not data and (readable or os.getppid() != parent):
            return groups
        *lines, tail = (tail + data).split(b"\n")
        for line in lines:
            (groups.add if line[:1] == b"+" else groups.discard)(int(line[1:]))


def end(groups: set[int], grace: float) -> None:
    """Wait for the groups' leaders to leave, then kill what is left."""
    deadline = time.monotonic() + grace
    while groups:
        late = time.monotonic() > deadline
        for group in sorted(groups):
            if late or not _alive(group):
                groups.discard(group)
                _kill(group)
        time.sleep(_TICK)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return not _is_zombie(process)


def _is_zombie(process: int) -> bool:
    try:
        with open(f"/proc/{process}/stat", "rb") as stat:  # noqa: PTH123 - pathlib would double the start-up time
            return stat.read().rpartition(b")")[2].split()[0] == b"Z"
    except OSError:
        return False


def _kill(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    end(watch(0, int(sys.argv[1])), float(sys.argv[2]))
