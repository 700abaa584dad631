"""Which process drives, and whether it still lives: the part of a lease that a machine can know of itself."""

from __future__ import annotations

import os
import socket
import subprocess
import time
import uuid
from contextlib import suppress
from functools import cache
from pathlib import Path

from ashwood.eventlog.port import Driver

_PROC = Path("/proc")


def this_driver() -> Driver:
    """This process."""
    return Driver(socket.gethostname(), os.getpid(), _machine(), _started(os.getpid()))


def is_alive(driver: Driver) -> bool | None:
    """Whether a driver's process lives; None: it can't be known, for example because it is on another machine."""
    if driver.machine != _machine():
        return None
    try:
        return _started(driver.process) == driver.started
    except ProcessLookupError:
        return False
    except OSError:  # hidden from this user
        return None


@cache
def _machine() -> str:
    """Return what is the same for two processes only if they see the same process ids and start times."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        namespaces = [str((_PROC / "self/ns/pid").readlink())]
        with suppress(FileNotFoundError):  # Linux has had time namespaces since version 5.6.
            namespaces.append(str((_PROC / "self/ns/time").readlink()))
        return " ".join((socket.gethostname(), boot, *namespaces))
    except OSError:
        # Not Linux: that processes of different boots started at different times has to do.
        return f"{socket.gethostname()} {uuid.getnode():x}"


def _started(process: int) -> int:
    """When a living process started, in ticks since the boot.

    Raises:
        ProcessLookupError: there is none of that number.
        OSError: it can't be seen.
    """
    if not (_PROC / "self/stat").exists():
        return _started_by_ps(process)
    try:
        stat = (_PROC / str(process) / "stat").read_bytes()
    except FileNotFoundError:
        os.kill(process, 0)  # tells one that is hidden from one that isn't there
        raise
    state, *fields = stat.rpartition(b")")[2].split()  # behind the program's name, which may hold anything
    if state in (b"Z", b"X"):
        raise ProcessLookupError
    return int(fields[18])


def _started_by_ps(process: int) -> int:
    """The same in seconds since 1970, where there is no /proc."""
    command = ["ps", "-o", "stat=,lstart=", "-p", str(process)]
    said = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"})  # noqa: S603
    state, _, started = said.stdout.strip().partition(" ")
    if not started or state.startswith("Z"):
        raise ProcessLookupError
    return int(time.mktime(time.strptime(started.strip())))
