"""Reservation of the GPUs of this machine, so that two drivers do not train on the same one.

A GPU is reserved by a lock on a file that is named after its UUID.  So all drivers of all users lock the same file,
even if they use different names for the GPU.  The lock belongs to an open file description.  The workers on the GPU
inherit it, so the GPU stays reserved until the driver and all of them have ended.  A file without a lock reserves
nothing.

Cores are not reserved.  Drivers that use them lock files too, but only to warn each other.
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
from typing import Self

from ashwood.backends.local.slots import Machine, plan_here
from ashwood.checkpoints.regular import open_lock
from ashwood.errors import MachineError
from ashwood.experiment.spec import ExperimentSpec

LOCKS = "ASHWOOD_LOCKS"
"""Environment variable with the directory of the lock files."""

# The same for all users, unlike a directory that TMPDIR names.
_DIRECTORIES = ("/run/lock", "/tmp")  # noqa: S108
_STICKY = stat.S_ISVTX | stat.S_IWOTH
_ALL = ""
_RETRY_SECONDS = 0.5
_LONGEST_USER = 400


class Reservation:
    """The cores and GPUs that a driver may use, reserved until it is closed and all workers on them have ended.

    Attributes:
        machine: the cores and GPUs.
        workers: number of workers that may run there, or None for as many as fit.
    """

    def __init__(self, machine: Machine, workers: int | None, locks: Mapping[str, int]) -> None:
        """Take over the descriptors of locks, each by the name of its GPU, or by ``""`` if it is for all workers."""
        self.machine = machine
        self.workers = workers
        self._locks = locks

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
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
    """Reserve GPUs for the workers of an experiment, and wait if too few are free for one trial.

    If other drivers use some of the GPUs, this driver gets the rest, and fewer workers.  On a machine without GPUs,
    nothing is reserved.

    Args:
        spec: the experiment.
        workers: number of workers, or None for as many as fit.
        who: description of this driver that other drivers show, such as ``experiment 3``.
        share: whether to use GPUs that other drivers have reserved.  Drivers that do not share avoid all of them.
        say: function that is called with a message if other drivers use some of the GPUs, or the cores.
        on_wait: function that is called with a description of the missing GPUs and their users whenever that changes.
        sleep: function that waits for a number of seconds; it may raise an exception to end the wait.

    Raises:
        MachineError: not even one trial fits on the machine, or a lock file cannot be used.
    """
    machine, _ = plan_here(spec, workers)  # This raises an error before any wait if a trial can never fit.
    if not machine.gpus:
        return Reservation(machine, workers, _mark_cores(who, (lambda _: None) if share else say))
    per_trial = spec.slots_per_trial
    most = len(machine.gpus) // per_trial
    wanted = most if workers is None else min(workers, most)
    if share:
        used = machine._replace(gpus=machine.gpus[: wanted * per_trial])
        return Reservation(machine, workers, _lock_gpus(used, len(used.gpus), who, exclusive=False)[0])
    announced = ""
    while True:
        locks, users = _lock_gpus(machine, wanted * per_trial, who, exclusive=True)
        groups = len(locks) // per_trial
        # Release GPUs that are too few for another trial, perhaps all of them.  Two drivers that both kept too few for
        # one trial would wait for each other for ever.
        _close(locks.pop(gpu) for gpu in list(locks)[groups * per_trial :])
        if groups:
            break
        what = "a free GPU" if per_trial == 1 else f"{per_trial} free GPUs"
        if (now := f"{what} (in use: {_in_use(users)})") != announced:
            announced = now
            on_wait(now)
        sleep(_RETRY_SECONDS)
    if groups < wanted:
        say(
            f"this run uses {len(locks)} of the {len(machine.gpus)} GPUs ({', '.join(locks)}). In use by others: "
            f"{_in_use(users)}. To use all of them nevertheless: --share"
        )
        if workers is not None:  # Each GPU gets as many workers as if all GPUs were free.
            workers = sum(number % most < groups for number in range(workers))
    return Reservation(machine._replace(gpus=tuple(locks)), workers, locks)


def _lock_gpus(
    machine: Machine, most: int, who: str, *, exclusive: bool
) -> tuple[dict[str, int], dict[str, list[str]]]:
    """Lock up to ``most`` GPUs, and return the descriptor of each, and the GPUs that each other driver uses."""
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
    """Lock the first free one of a series of numbered files, and warn about drivers that have locked others."""
    mine: dict[str, int] = {}
    others: list[str] = []
    with suppress(MachineError):  # These locks only inform other drivers, so trials can run without them.
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
    """Lock a file, write ``who`` into it, and return its descriptor.

    If another driver has locked it, return that driver's description instead.
    """
    path = _path(name)
    try:
        with suppress(FileExistsError):
            path.parent.mkdir(parents=True)
        while True:
            descriptor = open_lock(path)
            try:
                fcntl.flock(descriptor, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
                # A clean-up of the directory may delete the file between open() and flock().  Then other drivers create
                # a new file, and a lock on the old one reserves nothing.
                if not _is_at(descriptor, path):
                    os.close(descriptor)
                    continue
            except BlockingIOError:
                user = _read(descriptor)
                os.close(descriptor)
                return user
            except BaseException:
                os.close(descriptor)
                raise
            with suppress(OSError):  # The file belongs to another user and is read-only, or the disk is full.
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, who.encode(), 0)
            return descriptor
    except OSError as error:
        raise MachineError(
            f"Cannot lock {path}, which shows other Ashwood runs that this one uses a GPU: {error.strerror}. Remove "
            f"the file, or set {LOCKS} to a writable directory, or use GPUs without reserving them (--share)"
        ) from error


def _path(name: str) -> Path:
    given = os.environ.get(LOCKS)
    return Path(given or _shared_directory(), f"ashwood-{name}.lock")


def _shared_directory() -> str:
    """Return a directory of this machine in which all users may create files but not delete those of others."""
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
    """Return the content of a lock file, a description of its driver.

    Unprintable characters are removed, because any user may have written the file.
    """
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
    # A UUID already begins with GPU- or MIG-, so the word GPU is not written before it.
    return f"GPU{'' if len(gpus) == 1 else 's'} {names}" if gpus[0].isdecimal() else names
