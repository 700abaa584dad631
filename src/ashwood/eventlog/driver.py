"""The identity of a driver's process, and whether that process is alive."""

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
    """Return the identity of this process as a driver."""
    return Driver(socket.gethostname(), os.getpid(), _machine(), _started(os.getpid()))


def is_alive(driver: Driver) -> bool | None:
    """Return whether the process of a driver is alive, or None if that is not known.

    It is not known if the process is on another machine or in another container, or if this user may not see it.
    """
    if driver.machine != _machine():
        return None
    try:
        return _started(driver.process) == driver.started
    except ProcessLookupError:
        return False
    except OSError:  # The process exists, but this user may not see it.
        return None


@cache
def _machine() -> str:
    """Return a text that is equal for two processes only if equal process ids mean the same process to both."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        namespaces = [str((_PROC / "self/ns/pid").readlink())]
        with suppress(FileNotFoundError):  # Linux has had time namespaces since version 5.6.
            namespaces.append(str((_PROC / "self/ns/time").readlink()))
        return " ".join((socket.gethostname(), boot, *namespaces))
    except OSError:
        # Without /proc the boot is unknown.  Start times since 1970 distinguish processes of different boots instead.
        return f"{socket.gethostname()} {uuid.getnode():x}"


def _started(process: int) -> int:
    """Return when a process started: in clock ticks since the boot on Linux, otherwise in seconds since 1970.

    Raises:
        ProcessLookupError: no living process has this id.
        OSError: this user may not see the process.
    """
    if not (_PROC / "self/stat").exists():
        return _started_by_ps(process)
    try:
        stat = (_PROC / str(process) / "stat").read_bytes()
    except FileNotFoundError:
        # If /proc is mounted with hidepid, it hides processes of other users.  Signal 0 raises ProcessLookupError if
        # the process does not exist, and PermissionError if it belongs to another user.
        os.kill(process, 0)
        raise
    # The fields follow the program's name, which is in parentheses and may contain parentheses and spaces.
    state, *fields = stat.rpartition(b")")[2].split()
    if state in (b"Z", b"X"):  # It has ended, but its parent has not collected its exit status yet.
        raise ProcessLookupError
    return int(fields[18])


def _started_by_ps(process: int) -> int:
    """Return when a process started, in seconds since 1970, on a system without /proc."""
    command = ["ps", "-o", "stat=,lstart=", "-p", str(process)]
    ps = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"})  # noqa: S603
    state, _, started = ps.stdout.strip().partition(" ")
    if not started or state.startswith("Z"):
        raise ProcessLookupError
    return int(time.mktime(time.strptime(started.strip())))
