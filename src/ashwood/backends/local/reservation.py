"""Reservation of the GPUs of this machine, so that two drivers do not train on the same one.

A GPU is reserved by a lock on a file, which is named after its UUID: the same file however a driver names the GPU, for
all users of the machine.  The lock belongs to an open file description.  The workers on the GPU inherit it, so the GPU
stays reserved until the driver and all of them have ended, and no longer.  A file that nothing locks means nothing.

Cores are not reserved.  Drivers that use them lock files too, only to know of each other.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self

from ashwood.backends.local.slots import Machine, plan, survey
from ashwood.errors import MachineError
from ashwood.experiment.spec import ExperimentSpec
from ashwood.trial.regular import open_lock

LOCKS = "ASHWOOD_LOCKS"
"""Environment variable with the directory of the lock files."""

# The same for all users, unlike a directory that TMPDIR names.
_DIRECTORIES = ("/run/lock", "/tmp")  # noqa: S108
_STICKY = stat.S_ISVTX | stat.S_IWOTH
_ALL = ""
_RETRY_SECONDS = 0.5
_LONGEST_USER = 400


class Reservation:
    """What a driver may use of this machine, reserved until it is closed and all workers on it have ended.

    Attributes:
        machine: the cores and GPUs that the driver may use.
        workers: how many workers may run there, or None for as many as fit.
    """

    def __init__(self, machine: Machine, workers: int | None, locks: Mapping[str, int]) -> None:
        """Take over locks: descriptors by the GPU that each reserves, or by ``""`` if it is for all workers."""
        self.machine = machine
        self.workers = workers
        self._locks = locks

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _close(self._locks.values())

    def inherited(self, gpus: Sequence[str]) -> tuple[int, ...]:
        """Return the descriptors that a worker on these GPUs must hold for as long as it lives."""
        return tuple(lock for name, lock in self._locks.items() if name in (_ALL, *gpus))


def reserve(
    spec: ExperimentSpec,
    workers: int | None,
    who: str,
    *,
    share: bool = False,
    say: Callable[[str], None] = lambda _: None,
    on_wait: Callable[[str], None] = lambda _: None,
    sleep: Callable[[float], None] = time.sleep,
) -> Reservation:
    """Reserve GPUs for an experiment's workers; wait if too few are free for one trial.

    If some of the GPUs are in use, the driver gets the others, and fewer workers.  On a machine without GPUs nothing is
    reserved.

    Args:
        spec: the experiment.
        workers: how many workers, or None for as many as fit.
        who: what uses the GPUs, in words for other drivers to show.
        share: use all GPUs, whatever other drivers have reserved.  A driver that does not share avoids them.
        say: called with a message if GPUs are left to other drivers, or if another driver uses the cores.
        on_wait: called with what is waited for, and by whom it is used, when that changes.
        sleep: called with a number of seconds again and again while it waits; it may raise an exception to end that.

    Raises:
        MachineError: not even one trial fits, or a lock file cannot be used.
    """
    environment = dict(os.environ)
    machine = survey(environment | dict(spec.environment))
    plan(spec, machine, workers, environment)  # What never fits is not waited for.
    if not machine.gpus:
        return Reservation(machine, workers, _mark_cores(who, (lambda _: None) if share else say))
    per_trial = spec.slots_per_trial
    most = len(machine.gpus) // per_trial
    wanted = most if workers is None else min(workers, most)
    if share:
        used = machine._replace(gpus=machine.gpus[: wanted * per_trial])
        return Reservation(machine, workers, _lock_gpus(used, len(used.gpus), who, exclusive=False)[0])
    told = ""
    while True:
        locks, users = _lock_gpus(machine, wanted * per_trial, who, exclusive=True)
        groups = len(locks) // per_trial
        # Those that are too few for another trial, perhaps all: two drivers that keep some would wait for each other.
        _close(locks.pop(gpu) for gpu in list(locks)[groups * per_trial :])
        if groups:
            break
        what = "a free GPU" if per_trial == 1 else f"{per_trial} free GPUs"
        if (now := f"{what} (in use: {_in_use(users)})") != told:
            told = now
            on_wait(now)
        sleep(_RETRY_SECONDS)
    if groups < wanted:
        say(
            f"this run uses {len(locks)} of the {len(machine.gpus)} GPUs ({', '.join(locks)}). In use by others: "
            f"{_in_use(users)}. To use all of them nevertheless: --share"
        )
        if workers is not None:  # As many on each GPU as if all were free.
            workers = sum(number % most < groups for number in range(workers))
    return Reservation(machine._replace(gpus=tuple(locks)), workers, locks)


def _lock_gpus(
    machine: Machine, most: int, who: str, *, exclusive: bool
) -> tuple[dict[str, int], dict[str, list[str]]]:
    """Lock up to ``most`` GPUs; return the descriptors by GPU, and the other GPUs by what uses them."""
    locks: dict[str, int] = {}
    users: dict[str, list[str]] = {}
    try:
        for gpu in machine.gpus:
            if len(locks) == most:
                break
            uuid = machine.uuids.get(gpu, gpu)
            lock = _lock(f"gpu-{re.sub('[^A-Za-z0-9-]', '_', uuid)}", who, exclusive=exclusive)
            if isinstance(lock, int):
                locks[gpu] = lock
            else:
                users.setdefault(lock, []).append(gpu)
    except BaseException:
        _close(locks.values())
        raise
    return locks, users


def _mark_cores(who: str, say: Callable[[str], None]) -> dict[str, int]:
    """Lock the first of some numbered files that is free, and name the drivers that have locked others."""
    mine: dict[str, int] = {}
    others: list[str] = []
    with suppress(MachineError):  # Nothing is wrong with the trials.
        for number in count():
            name = f"cores-{number}"
            if mine and not _path(name).exists():
                break
            lock = _lock(name, who, exclusive=True)
            if not isinstance(lock, int):
                others.append(lock)
            elif mine:
                os.close(lock)
            else:
                mine[_ALL] = lock
    if others:
        say(f"another Ashwood run uses this machine's cores ({'; '.join(others)}): trials may train more slowly")
    return mine


def _lock(name: str, who: str, *, exclusive: bool) -> int | str:
    """Lock a file and write ``who`` into it; return its descriptor, or what has locked it already."""
    path = _path(name)
    try:
        with suppress(FileExistsError):
            path.parent.mkdir(parents=True)
        while True:
            descriptor = open_lock(path)
            try:
                fcntl.flock(descriptor, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
                if not _is_at(descriptor, path):  # It was deleted meanwhile, perhaps by what tidies the directory up.
                    os.close(descriptor)
                    continue
            except BlockingIOError:
                user = _read(descriptor)
                os.close(descriptor)
                return user
            except BaseException:
                os.close(descriptor)
                raise
            with suppress(OSError):  # The file is another user's and closed to this one, or the disk is full.
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, who.encode(), 0)
            return descriptor
    except OSError as error:
        raise MachineError(
            f"Cannot lock {path}, which tells other Ashwood runs that this one uses a GPU: {error.strerror}. Remove "
            f"the file, or set {LOCKS} to a directory that you may write, or use GPUs without reserving them (--share)"
        ) from error


def _path(name: str) -> Path:
    given = os.environ.get(LOCKS)
    return Path(given or _shared_directory(), f"ashwood-{name}.lock")


def _shared_directory() -> str:
    """Return a directory on this machine in which all users may make files, but not delete those of others."""
    for directory in _DIRECTORIES:
        with suppress(OSError):
            if os.stat(directory).st_mode & _STICKY == _STICKY:  # noqa: PTH116 - as for a string
                return directory
    return tempfile.gettempdir()


def _is_at(descriptor: int, path: Path) -> bool:
    with suppress(OSError):
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    return False


def _read(descriptor: int) -> str:
    """Return what has locked a file, as the file says, which other users may have written."""
    try:
        text = os.pread(descriptor, _LONGEST_USER, 0).decode(errors="replace")
    except OSError:
        text = ""
    return "".join(each for each in text if each.isprintable()) or "another process"


def _close(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _in_use(users: Mapping[str, Sequence[str]]) -> str:
    return "; ".join(f"{_named(gpus)} by {user}" for user, gpus in users.items())


def _named(gpus: Sequence[str]) -> str:
    names = ", ".join(gpus)
    return f"GPU{'' if len(gpus) == 1 else 's'} {names}" if gpus[0].isdecimal() else names  # A UUID says what it is.
