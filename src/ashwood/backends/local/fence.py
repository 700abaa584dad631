"""No process of a former driver lives on into the time of the next.

Workers, what is forked from them, and the commands that they run hold one file of the experiment
locked for as long as they live; the lock belongs to a file description that they inherit, so no
process can die without letting go of it.  The driver itself never holds it longer than it takes to
start a worker.  Whoever can lock the file alone knows that nobody is left.
"""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ashwood.backends.local.warden import GRACE
from ashwood.errors import BackendError
from ashwood.trial.sharing import share

_MARGIN = 2.0
_EVICTION_SECONDS = 30.0
_LOOK_AGAIN_SECONDS = 1.0
_UNSEEN_SECONDS = 5.0
_TICK = 0.02
_PROCESSES = Path("/proc")


@contextmanager
def held(path: Path | None) -> Iterator[tuple[int, ...]]:
    """Descriptors for a process that is started in this context to inherit, by which it holds the fence.

    None of them where there is no fence.
    """
    if path is None:
        yield ()
        return
    # A description of its own for each worker: one that the driver kept would make it a holder itself.
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        share(path)
        fcntl.flock(file, fcntl.LOCK_SH)
        yield (file,)
    finally:
        os.close(file)


def is_held(path: Path) -> bool:
    """Return whether a process holds the fence ``path``, which need not exist."""
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
    """Wait until no process of a former driver is left; call it before the first worker of a new one starts.

    Workers that outlived their driver save what they can and leave.  Those that hold ``path`` after the
    grace, with a margin for the warden to end them, are killed: exactly the processes that hold its lock.

    Args:
        path: the fence of the experiment, as in `LocalBackend`; it needn't be there.
        grace: seconds that workers have to save and leave, the warden's.
        on_wait: called once if there is somebody to wait for, with how many processes there are (0: it
            can't be told) and how many seconds they have at most.
        sleep: called many times a second while it waits, with a moment's seconds.

    Raises:
        BackendError: a process holds the file that can't be found or killed.
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
        # Another look is for what a process forked while it was found and killed; and one that is about to be
        # gone shows nothing any more but still holds the lock.
        if _becomes_free(file, _LOOK_AGAIN_SECONDS if holders else _UNSEEN_SECONDS, sleep):
            return
        if not holders:
            raise BackendError(
                f"{path} is held by a process of the former driver that can't be found: it runs on another machine "
                f"or for another user. End it (where it runs, 'fuser -v {path}' names it) and try again"
            )
        if time.monotonic() >= deadline:
            names = ", ".join(map(str, holders))
            raise BackendError(
                f"{path} is held by processes of the former driver that can't be killed: {names}. "
                "End them and try again"
            )


def _holders(file: int, path: Path) -> list[int]:
    """Processes, this one aside, that hold the lock; none where the system doesn't tell."""
    with suppress(OSError):
        processes = [int(entry.name) for entry in _PROCESSES.iterdir() if entry.name.isdigit()]
        return [process for process in processes if process != os.getpid() and _holds(process, file, path)]
    return []


def _holds(process: int, file: int, path: Path) -> bool:
    """Whether the process has that very file open by a description that is locked; a mere reader is none of ours."""
    try:
        links = list((_PROCESSES / str(process) / "fd").iterdir())
    except OSError:  # it is gone, or another user's
        return False
    for link in links:
        with suppress(OSError):
            # The name first: to examine a stranger's file may block, where its file system doesn't answer.
            if path.name not in str(link.readlink()) or not os.path.samestat(link.stat(), os.fstat(file)):
                continue
            if "FLOCK" in (_PROCESSES / str(process) / "fdinfo" / link.name).read_text():
                return True
    return False


def _kill(process: int, file: int, path: Path) -> None:
    with suppress(ProcessLookupError, PermissionError):
        handle = os.pidfd_open(process)
        try:
            if _holds(process, file, path):  # still it, and no other process that got its number
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        finally:
            os.close(handle)
