"""Sees to it that no worker outlives the driver, whatever happens to it.

A process of its own, run by path, importing next to nothing: it reads process groups
from the driver, ``+GROUP`` and ``-GROUP`` a line.  When the driver is gone it gives the
workers, which see that for themselves, a grace to save what they can; a group whose
leader has left, or that outstays the grace, is killed with all that is in it.  Numbers of
processes are given away again, so a leader is known by the moment of its start too.
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


def watch(source: int, parent: int) -> dict[int, bytes]:
    """Keep the book of groups until the driver is gone; returns those that it left, with their leaders' starts."""
    groups: dict[int, bytes] = {}
    tail = b""
    while True:
        # A forked child of the driver may hold the pipe open, so its end alone isn't trusted.
        readable, _, _ = select.select([source], [], [], 1.0)
        data = os.read(source, 1 << 16) if readable else b""
        if not data and (readable or os.getppid() != parent):
            return groups
        *lines, tail = (tail + data).split(b"\n")
        for line in lines:
            group = int(line[1:])
            if line[:1] == b"+":
                groups[group] = start_of(group)
            else:
                groups.pop(group, None)


def end(groups: dict[int, bytes], grace: float) -> None:
    """Wait for the groups' leaders to leave, then kill what is left."""
    for group in list(groups):
        groups.update((job, start_of(job)) for job in _jobs(group))
    deadline = time.monotonic() + grace
    while groups:
        late = time.monotonic() > deadline
        for group, start in sorted(groups.items()):
            if is_other(group, start):
                del groups[group]
            elif late or not _alive(group):
                del groups[group]
                _kill(group)
        time.sleep(_TICK)


def _jobs(worker: int) -> list[int]:
    """Jobs of a worker in groups of their own, of which the driver may not have lived to tell."""
    try:
        with open(f"/proc/{worker}/task/{worker}/children", "rb") as children:  # noqa: PTH123 - as below
            return [process for process in map(int, children.read().split()) if _is_job(process, worker)]
    except OSError:
        return []


def _is_job(child: int, worker: int) -> bool:
    try:  # what began a session of its own is none of ours, but meant to live on
        return os.getpgid(child) == child and os.getsid(child) == os.getsid(worker)
    except ProcessLookupError:
        return False


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return not _is_zombie(process)


def _is_zombie(process: int) -> bool:
    return _stat(process)[:1] == [b"Z"]


def is_other(process: int, start: bytes) -> bool:
    """Whether the number has passed to another process, which it does only when nobody is left in the group."""
    now = start_of(process)
    return bool(now) and now != start


def start_of(process: int) -> bytes:
    """When a process started, in the system's own terms; empty where it is gone, or the system doesn't tell."""
    return b"".join(_stat(process)[19:20])


def _stat(process: int) -> list[bytes]:
    """What /proc tells of a process, from its state on."""
    try:
        with open(f"/proc/{process}/stat", "rb") as stat:  # noqa: PTH123 - pathlib would double the start-up time
            return stat.read().rpartition(b")")[2].split()
    except OSError:
        return []


def _kill(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    end(watch(0, int(sys.argv[1])), float(sys.argv[2]))
