"""One life of a driver: start it, hear what it acknowledges, deal blows, see it gone."""

import json
import os
import selectors
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from tests.torture.disks import Disk
from tests.torture.points import kill, reapers_of, workers_of
from tests.torture.schedule import Blow, Victim

_ROOT = Path(__file__).parents[2]
_MARK = "ASHWOOD_TORTURE_MARK"
_LONGEST = 90.0
"""Seconds after which a driver of these small experiments hangs."""


_DEADLY = (Victim.DRIVER, Victim.BOTH, Victim.REAPER_TOO)


class Hangs(Exception):
    """A driver neither ended nor did what it was waited for."""


class Place:
    """A directory with an experiment, and every process that ever works on it.

    Attributes:
        path: the directory.
        home: what ``--home`` takes.
        storage: the directory of its checkpoints.
        longest: seconds after which its drivers hang.
        more: what is special in the experiment's file.
    """

    def __init__(self, path: Path, *, home: str | None = None, disk: Disk | None = None) -> None:
        """``home``: a store elsewhere; ``disk``: record and checkpoints are on it."""
        self.path = path
        self.longest = _LONGEST
        self.more: dict[str, Any] = {}
        self.home = home or str((disk.path if disk else path) / "home")
        self.storage = (disk.path if disk else path) / "checkpoints"
        self._disk = disk
        self._mark = f"{_MARK}={uuid.uuid4()}"

    def environment(self) -> dict[str, str]:
        """The environment of its drivers, inherited by all their children."""
        name, _, value = self._mark.partition("=")
        kept = {key: text for key, text in os.environ.items() if not key.startswith("ASHWOOD_")}
        search = os.pathsep.join(filter(None, (str(_ROOT), str(_ROOT / "src"), kept.get("PYTHONPATH"))))
        return {**kept, name: value, "PYTHONPATH": search, "ASHWOOD_FILES": str(self.path / "files")}

    def session(self, *arguments: str, more: Mapping[str, str] | None = None) -> "Session":
        """Run a driver; ``more`` is added to its environment."""
        return Session(self, *arguments, more=more)

    def processes(self) -> list[int]:
        """The processes that live."""
        mark = self._mark.encode()
        return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and _carries(entry, mark)]

    def wait_until_empty(self, seconds: float) -> list[int]:
        """Wait for all processes to be gone; returns those that aren't."""
        deadline = time.monotonic() + seconds
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.01)
        return left

    def freeze(self) -> None:
        """Stop all processes; when this returns none is in a system call."""
        # Who starts a process waits in the kernel for it to leave the parent's memory (vfork); when the child is
        # stopped before, the parent never stands still.  Then all go on for a moment.
        while not self._stops_within(0.1):
            self.thaw()
            time.sleep(0.001)

    def _stops_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            processes = self.processes()
            for process in processes:
                kill(process, signal.SIGSTOP)
            if all(map(_stands_still, processes)) and self.processes() == processes:
                return True
            time.sleep(0.001)
        return False

    def thaw(self) -> None:
        """Let all processes go on."""
        for process in self.processes():
            kill(process, signal.SIGCONT)

    def lose_power(self) -> None:
        """Lose all processes and what isn't safely on the disk, then come up again."""
        assert self._disk is not None, "only a disk of its own can lose its power"
        # A real machine stops at once.  Here a system call that is on its way may return after the cut, and ext4 says
        # that it has synced what it lost; so they are all through first.
        self.freeze()
        self._disk.cut_power()
        self.end_all()
        self.wait_until_empty(_LONGEST)
        self._disk.restore_power()

    def end_all(self) -> None:
        """End whatever is left."""
        for process in self.processes():
            kill(process, signal.SIGKILL)


class Session:
    """A driver.  A context manager: nothing of it outlives the context but what a real driver leaves.

    Attributes:
        acknowledged: the entries that it printed, which it does after they are durable.
        returncode: of the driver; None: it lives.
        errors: what it wrote to standard error.
    """

    def __init__(self, place: Place, *arguments: str, more: Mapping[str, str] | None = None) -> None:
        """Run a command; ``more`` is added to its environment."""
        self.acknowledged: list[dict[str, Any]] = []
        self._place = place
        self.began = time.monotonic()
        self._errors = place.path / "errors"
        with self._errors.open("ab") as errors:
            self._errors_from = errors.tell()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.torture.driver", *arguments, "--home", place.home, "--json"],
                cwd=place.path,
                env=place.environment() | dict(more or {}),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                bufsize=0,
            )
        assert self._process.stdout is not None
        self._output = self._process.stdout.fileno()
        os.set_blocking(self._output, False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._output, selectors.EVENT_READ)
        self._handle = os.pidfd_open(self._process.pid)
        self._selector.register(self._handle, selectors.EVENT_READ)
        self._tail = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._selector.close()
        os.close(self._handle)
        assert self._process.stdout is not None
        self._process.stdout.close()

    @property
    def returncode(self) -> int | None:
        """How the driver ended; None: it lives."""
        return self._process.poll()

    @property
    def errors(self) -> str:
        """What the driver wrote to standard error."""
        return self._errors.read_bytes()[self._errors_from :].decode()

    def deal(self, blow: Blow) -> bool:
        """Wait for the blow's moment, and deal it; returns whether it hit somebody."""
        self.hear(lines=blow.lines)
        self.hear(until=self.began + blow.seconds if blow.lines == 0 else time.monotonic() + blow.seconds)
        return self.returncode is None and self._strike(blow.victim)

    def hear(self, *, lines: int | None = None, until: float | None = None) -> None:
        """Hear the driver until it has acknowledged so many entries, until a moment, or until it is gone."""
        longest = self._place.longest
        hangs = self.began + longest
        while self.returncode is None and (lines is None or len(self.acknowledged) < lines):
            now = time.monotonic()
            if until is not None and until <= now:
                return
            if hangs <= now:
                raise Hangs(f"the driver lives after {longest:g} s, its last words: {self.acknowledged[-1:]}")
            self._selector.select(min(hangs, until or hangs) - now)
            self._read()
        self._read()

    def hear_until(self, what: Callable[[], bool]) -> None:
        """Hear the driver until something is true of it, or it is gone."""
        while not what() and self.returncode is None:
            self.hear(lines=len(self.acknowledged) + 1)

    def kill(self) -> None:
        """Kill the driver."""
        self._process.kill()

    def interrupt(self) -> None:
        """Ctrl-C."""
        self._process.send_signal(signal.SIGINT)

    def _read(self) -> None:
        pieces = [self._tail]
        while True:
            try:
                data = os.read(self._output, 1 << 16)
            except BlockingIOError:
                break
            if not data:
                break
            pieces.append(data)
        *lines, self._tail = b"".join(pieces).split(b"\n")
        said = map(json.loads, lines)
        self.acknowledged.extend(line for line in said if "event" in line)

    @property
    def pid(self) -> int:
        """The driver's process."""
        return self._process.pid

    def _strike(self, victim: Victim) -> bool:
        driver = self._process.pid
        match victim:
            case Victim.WORKER:
                workers = workers_of(driver)
                return bool(workers) and kill(workers[len(self.acknowledged) % len(workers)])
            case Victim.FROZEN:
                kill(driver, signal.SIGSTOP)
                time.sleep(0.05)
                return kill(driver, signal.SIGCONT)
            case Victim.INTERRUPTED:
                kill(driver, signal.SIGINT)
            case Victim.POWER:
                self._place.lose_power()
        others = {Victim.BOTH: workers_of, Victim.REAPER_TOO: reapers_of}.get(victim, lambda _: [])(driver)
        if victim in _DEADLY:
            kill(driver)
        # The driver goes first, so that no worker's death costs a trial one of its restarts.
        for other in others:
            kill(other)
        self.hear()
        return True


def _stands_still(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()[0] in b"TtZX"
    except OSError:
        return True


def _carries(process: Path, mark: bytes) -> bool:
    try:
        return mark in (process / "environ").read_bytes()
    except OSError:  # gone, or another user's
        return False
