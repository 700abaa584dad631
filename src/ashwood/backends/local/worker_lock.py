"""The worker lock: a file that tells a new driver whether processes of a former driver are left.

Workers, their forks and the commands that they run hold a shared lock on one file of the experiment (``workers.lock``)
for as long as they live.  The lock belongs to an open file description that they inherit, so the kernel releases it
when the last of them ends, however it ends.  The driver itself holds the lock only while it starts a worker.  If a
process can lock the file exclusively, no worker is left.
"""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ashwood.backends.local.reaper import GRACE
from ashwood.checkpoints.sharing import share
from ashwood.errors import BackendError

_MARGIN = 2.0
"""Seconds that the worker reaper gets after the grace period to end workers."""
_EVICTION_SECONDS = 30.0
"""Seconds after which killed processes that still hold the lock are reported as an error."""
_LOOK_AGAIN_SECONDS = 1.0
_UNSEEN_SECONDS = 5.0
"""Seconds for which the lock may be held although no holder is found, as by a process that is about to end."""
_TICK = 0.02
_PROCESSES = Path("/proc")


@contextmanager
def held(path: Path | None) -> Iterator[tuple[int, ...]]:
    """Lock a file and yield its descriptor; a process that is started in this context must inherit it.

    The tuple is empty if ``path`` is None.
    """
    if path is None:
        yield ()
        return
    # Each worker gets an open file description of its own, and the driver closes its descriptor after the start. A
    # driver that kept its descriptor would hold the lock itself, even when no worker is left.
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        share(path)
        fcntl.flock(file, fcntl.LOCK_SH)
        yield (file,)
    finally:
        os.close(file)


def is_held(path: Path) -> bool:
    """Return whether a process holds the worker lock ``path``.  The file need not exist."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not _is_free(file)
    finally:
        os.close(file)


def clear_former_workers(
    path: Path,
    *,
    grace: float = GRACE,
    on_wait: Callable[[int, float], None] | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Wait until no process of a former driver is left.  Call this before a new driver starts its first worker.

    Workers save and end by themselves after their driver has died.  After the grace period and a margin, processes that
    still hold the lock of ``path`` are killed, and no others.

    Args:
        path: the worker lock of the experiment, as for `LocalBackend`.  The file need not exist.
        grace: seconds that workers have to save and end, as for the worker reaper.
        on_wait: called once if there are processes to wait for, with their number (0 if it is unknown) and the
            greatest number of seconds that they have.
        sleep: called many times a second during the wait, with a fraction of a second.

    Raises:
        BackendError: a process that holds the lock can't be found or killed.
    """
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if _is_free(file):
            return
        patience = grace + _MARGIN
        if on_wait is not None:
            on_wait(len(_holders(file, path)), patience)
        if not _becomes_free(file, patience, sleep):
            _evict(file, path, sleep)
    finally:
        os.close(file)


def _is_free(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _becomes_free(file: int, seconds: float, sleep: Callable[[float], None]) -> bool:
    deadline = time.monotonic() + seconds
    while not _is_free(file):
        if time.monotonic() >= deadline:
            return False
        sleep(_TICK)
    return True


def _evict(file: int, path: Path, sleep: Callable[[float], None]) -> None:
    deadline = time.monotonic() + _EVICTION_SECONDS
    while True:
        holders = _holders(file, path)
        for process in holders:
            _kill(process, file, path)
        # One pass is not enough.  A process may have forked after the list was made, and then its child has the lock.
        # A process that is about to end shows no descriptors in /proc any more, but still holds the lock.
        if _becomes_free(file, _LOOK_AGAIN_SECONDS if holders else _UNSEEN_SECONDS, sleep):
            return
        if not holders:
            raise BackendError(
                f"{path} is locked by a process of the former driver that cannot be found: it runs on another machine "
                f"or as another user. End it and try again. On its machine, 'fuser -v {path}' shows its number"
            )
        if time.monotonic() >= deadline:
            names = ", ".join(map(str, holders))
            raise BackendError(
                f"{path} is locked by processes of the former driver that cannot be killed: {names}. "
                "End them and try again"
            )


def _holders(file: int, path: Path) -> list[int]:
    """Return the other processes that hold the lock, or an empty list if there is no /proc."""
    with suppress(OSError):
        processes = [int(entry.name) for entry in _PROCESSES.iterdir() if entry.name.isdigit()]
        return [process for process in processes if process != os.getpid() and _holds(process, file, path)]
    return []


def _holds(process: int, file: int, path: Path) -> bool:
    """Return whether a process has the file open with a lock on it.  Processes that only read the file do not count."""
    try:
        links = list((_PROCESSES / str(process) / "fd").iterdir())
    except OSError:  # The process has ended, or belongs to another user.
        return False
    for link in links:
        with suppress(OSError):
            # Compare names first: stat() on the file of an unrelated process blocks if its file system does not answer.
            if path.name not in str(link.readlink()) or not os.path.samestat(link.stat(), os.fstat(file)):
                continue
            if "FLOCK" in (_PROCESSES / str(process) / "fdinfo" / link.name).read_text():
                return True
    return False


def _kill(process: int, file: int, path: Path) -> None:
    with suppress(ProcessLookupError, PermissionError):
        # The process may end at any time, and its number may go to another process.  A pidfd always refers to the same
        # process.  So the pidfd is opened first, then the process is checked again, and the signal goes to the pidfd.
        handle = os.pidfd_open(process)
        try:
            if _holds(process, file, path):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        finally:
            os.close(handle)
