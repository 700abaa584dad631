"""The worker reaper: a process that ends the workers of a driver after the driver has died.

It reads process groups from the driver on standard input, one per line: ``+GROUP`` to watch it, ``-GROUP`` when it has
ended.  When the driver is gone, workers see their sockets close and get a grace period to save.  A group whose leader
has ended, or that is left after the grace period, is killed.

The system reuses process numbers.  So a group's leader is identified by its number and its start time.

The driver runs this file by path, with ``python -I -S``.  It imports only a few modules of the standard library, so
that the process starts fast and stays small.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time

GRACE = 10.0
"""Seconds that workers get to save their trials after the driver has died."""
_TICK = 0.05


def watch(source: int, parent: int) -> dict[int, bytes]:
    """Read groups until the driver is gone, and return those that are left, each with its leader's start time.

    Args:
        source: descriptor of the pipe from the driver.
        parent: process number of the driver.
    """
    groups: dict[int, bytes] = {}
    tail = b""
    while True:
        # A child that the driver forked may hold the pipe open after the driver has died, and then the pipe has no end.
        # So this process also looks once a second whether it has a new parent, as orphans do.
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
    """Wait up to ``grace`` seconds for the leaders of groups to end, and kill what is left of each group."""
    # The driver may have died before it could announce the group of a job. So the groups of the workers' children are
    # added.
    for group in list(groups):
        groups.update((job, start_of(job)) for job in _jobs(group))
    deadline = time.monotonic() + grace
    while groups:
        late = time.monotonic() > deadline
        for group, start in sorted(groups.items()):
            # The number of a group is reused only after the last process of the group has ended, so there is nothing
            # left to kill.
            if is_other(group, start):
                del groups[group]
            elif late or not _alive(group):
                del groups[group]
                signal_group(group)
        time.sleep(_TICK)


def _jobs(worker: int) -> list[int]:
    """Return the children of a worker that lead process groups of their own: its jobs."""
    try:
        with open(f"/proc/{worker}/task/{worker}/children", "rb") as children:  # noqa: PTH123 - as below
            return [process for process in map(int, children.read().split()) if _is_job(process, worker)]
    except OSError:
        return []


def _is_job(child: int, worker: int) -> bool:
    try:  # A process that began a session of its own is a daemon of the training code, which may outlive the worker.
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
    """Return whether a process number now belongs to another process than the one that started at ``start``."""
    now = start_of(process)
    return bool(now) and now != start


def start_of(process: int) -> bytes:
    """Return the start time of a process as /proc shows it, or an empty value if it has ended or there is no /proc."""
    return b"".join(_stat(process)[19:20])


def _stat(process: int) -> list[bytes]:
    """Return the fields of ``/proc/PROCESS/stat`` from the state on, or an empty list if they can't be read."""
    try:
        with open(f"/proc/{process}/stat", "rb") as stat:  # noqa: PTH123 - pathlib would double the start-up time
            # The field before the state is the program's name in parentheses, which may itself contain ")" and spaces.
            return stat.read().rpartition(b")")[2].split()
    except OSError:
        return []


def signal_group(group: int, number: int = signal.SIGKILL) -> None:
    """Send a signal to a process group, unless it has ended or belongs to another user."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return


def signal_groups(groups: dict[int, bytes], number: int = signal.SIGKILL) -> None:
    """Send a signal to process groups, each with its leader's start time, except to those whose number was reused."""
    for group, start in groups.items():
        if not is_other(group, start):
            signal_group(group, number)


if __name__ == "__main__":
    # Signals for the driver, such as Ctrl-C in its terminal, must not end the process that cleans up after it.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    end(watch(0, int(sys.argv[1])), float(sys.argv[2]))
