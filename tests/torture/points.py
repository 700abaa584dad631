"""Crash points: a process dies exactly before or after the n-th time that it does something.

Production code knows nothing of them: the driver (`tests.torture.driver`) and the training code
(`tests.torture.training`) patch it when the environment tells them to.
"""

import functools
import inspect
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

VARIABLE = "ASHWOOD_TORTURE_POINT"
DRIVER = "ASHWOOD_TORTURE_DRIVER"
"""Environment variable with the driver's process id, so that a worker can strike it."""

COUNT = "count"
"""The name of the point that kills nobody, but has every point that is reached written down."""

_STORE_METHODS = ("append", "create", "take_lease", "beat", "release_lease", "answer")
_FILE_CALLS = ("mkdir", "fsync", "rename", "replace")


class Point(NamedTuple):
    """Where to strike.

    Attributes:
        name: ``driver.append.before``, for example.
        hit: at which time, counted from 1 over all processes of a session.
        victim: ``driver``, ``worker`` or ``both``.
        counter: the file that counts.
    """

    name: str
    hit: int
    victim: str
    counter: Path

    def environment(self) -> dict[str, str]:
        """What a driver needs in its environment."""
        return {VARIABLE: "|".join(map(str, self))}


def armed() -> Point | None:
    """The point that the environment names."""
    text = os.environ.get(VARIABLE)
    if not text:
        return None
    name, hit, victim, counter = text.split("|")
    return Point(name, int(hit), victim, Path(counter))


def arm_driver() -> None:
    """Patch what the driver does."""
    os.environ[DRIVER] = str(os.getpid())
    point = armed()
    if point is None:
        return
    from ashwood.backends.local.backend import LocalBackend
    from ashwood.backends.local.process import WorkerProcess
    from ashwood.eventlog import sqlite  # noqa: F401 - so that its classes are there to be patched

    reach = functools.partial(_reach, point, in_driver=True)
    for module in [module for name, module in sys.modules.items() if name.startswith("ashwood.eventlog.")]:
        for _, cls in inspect.getmembers(module, inspect.isclass):
            if cls.__module__ == module.__name__ and not getattr(cls, "_is_protocol", False):
                for method in _STORE_METHODS:
                    _wrap(cls, method, f"driver.{method}", reach)
    _wrap(LocalBackend, "dispatch", "driver.dispatch", reach)
    _wrap(LocalBackend, "close", "driver.close", reach)
    _wrap(WorkerProcess, "__init__", "driver.spawn", reach)
    _wrap(WorkerProcess, "send", "driver.send", reach)
    _wrap(WorkerProcess, "read", "driver.receive", reach)
    for call in _FILE_CALLS:
        _wrap(os, call, f"driver.{call}", reach)


def arm_worker() -> None:
    """Patch what a worker does once it has loaded its training code."""
    point = armed()
    if point is None:
        return
    from ashwood.trial.channel import Channel

    reach = functools.partial(_reach, point, in_driver=False)
    _wrap(Channel, "send_lines", "worker.send", reach)
    _wrap(Channel, "receive", "worker.receive", reach)
    for call in _FILE_CALLS:
        _wrap(os, call, f"worker.{call}", reach)


def _wrap(owner: Any, attribute: str, name: str, reach: Callable[[str], None]) -> None:
    original = vars(owner).get(attribute)
    if not inspect.isroutine(original):
        return

    @functools.wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        reach(f"{name}.before")
        result = original(*args, **kwargs)
        reach(f"{name}.after")
        return result

    setattr(owner, attribute, wrapped)


def _reach(point: Point, name: str, *, in_driver: bool) -> None:
    if point.name == COUNT:
        _note(point.counter, f"{name}\n".encode())
    elif point.name == name and _note(point.counter, b".") == point.hit:
        _strike(point.victim, in_driver)


def _note(path: Path, data: bytes) -> int:
    """Append; returns the size of the file then."""
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(handle, data)
        return os.fstat(handle).st_size
    finally:
        os.close(handle)


def _strike(victim: str, in_driver: bool) -> None:
    if victim != "worker":
        if in_driver:
            for worker in workers_of(os.getpid()) if victim == "both" else ():
                kill(worker)
        else:
            kill(int(os.environ[DRIVER]))
    elif in_driver:
        for worker in workers_of(os.getpid())[:1]:
            kill(worker)
    if in_driver and victim != "worker":
        kill(os.getpid())
    if not in_driver and victim != "driver":
        kill(os.getpid())


def kill(process: int, number: int = signal.SIGKILL) -> bool:
    """Send a signal; returns whether the process was there."""
    try:
        os.kill(process, number)
    except ProcessLookupError:
        return False
    return True


def workers_of(driver: int) -> list[int]:
    """The worker processes of a driver."""
    return [child for child in _children(driver) if b"backends.local.worker" in _command(child)]


def reapers_of(driver: int) -> list[int]:
    """Return the worker reaper of a driver, if it has started one."""
    return [child for child in _children(driver) if b"reaper.py" in _command(child)]


def _children(process: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    except OSError:
        return []


def _command(process: int) -> bytes:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""
