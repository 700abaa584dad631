"""A home whose experiment is running: what happens last in a made one arrives while somebody looks."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path

from ashwood.engine import open_home
from ashwood.experiment.events import ValidationReported
from ashwood.experiment.lifecycle import ExperimentState
from benchmarks.dashboard import made
from benchmarks.dashboard.made import EXPERIMENT, Size
from benchmarks.dashboard.served import dashboard
from benchmarks.ours import python_path

_COMMITS_PER_SECOND = 100


class Running:
    """A copy of a made home in the middle of its experiment.

    Attributes:
        path: the home.
        rate: how many reports a second are to arrive.
    """

    def __init__(self, size: Size) -> None:
        """Make it, if it isn't there, with what a dashboard keeps of it."""
        self._made = made.home(size)
        self.path = self._made.with_name(f"{self._made.name}-running")
        self._size = size
        self.rate = size.rate
        self._kept = self.path / "experiments" / str(EXPERIMENT) / "history"
        self._backup = self._kept.with_suffix(".first")
        if not (self.path / "made").exists():
            shutil.rmtree(self.path, ignore_errors=True)
            shutil.copytree(self._made, self.path, ignore=shutil.ignore_patterns("made"))
            self._kept.unlink(missing_ok=True)
            (self.path / "made").write_text("")
        self.rewind()
        # Also where it was made before: what a dashboard keeps holds for the code that kept it.
        with dashboard(self.path) as served:
            served.wait_until_read(EXPERIMENT)
        if self._kept.exists():
            shutil.copy(self._kept, self._backup)

    def rewind(self) -> None:
        """Take back what has arrived."""
        with open_home(self._made) as home:
            cut = home.store.log(EXPERIMENT).last() - self._size.tail
        with closing(sqlite3.connect(self.path / "ashwood.db")) as database, database:
            database.execute("DELETE FROM entries WHERE experiment = ? AND seq > ?", (EXPERIMENT, cut))
            database.execute("UPDATE logs SET head = ?, driver = NULL WHERE experiment = ?", (cut, EXPERIMENT))
            database.execute("UPDATE experiments SET state = ? WHERE id = ?", (ExperimentState.RUNNING, EXPERIMENT))
        if self._backup.exists():
            shutil.copy(self._backup, self._kept)

    @contextmanager
    def driven(self, commits: Path) -> Iterator[None]:
        """A process that owns the experiment and appends; it writes down each commit: place and time."""
        arguments = [str(self._made), str(self.path), str(self.rate), str(commits)]
        driver = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.dashboard.running", *arguments],
            env={"PYTHONPATH": python_path()},
            stdin=subprocess.PIPE,
        )
        try:
            while not commits.exists() or not commits.read_text():
                if driver.poll() is not None:
                    raise RuntimeError("the driver has ended")
                time.sleep(0.01)
            yield
            if driver.poll() is not None:
                raise RuntimeError("everything had arrived before the measurement was over")
        finally:
            driver.terminate()
            driver.wait()


def read_commits(path: Path) -> list[tuple[int, float]]:
    """The place of the last entry of each commit, and when it was made."""
    lines = path.read_text().splitlines()
    return [(int(seq), float(at)) for seq, at in map(str.split, lines)]


def _drive(source: Path, target: Path, reports_per_second: float, commits: Path) -> None:
    with open_home(source) as tape, open_home(target) as home, home.lease(EXPERIMENT) as lease:
        log = home.store.log(EXPERIMENT, lease.token)
        entries = tape.store.log(EXPERIMENT).read(after=log.last())
        batch = max(1, round(reports_per_second / _COMMITS_PER_SECOND))
        due = time.monotonic()
        with commits.open("w", buffering=1) as written:
            while piece := [entry for _, entry in islice(entries, batch)]:
                seq = log.append(piece)
                written.write(f"{seq} {time.time()}\n")
                lease.beat()
                due += sum(isinstance(entry.event, ValidationReported) for entry in piece) / reports_per_second
                time.sleep(max(0.0, due - time.monotonic()))


if __name__ == "__main__":
    _drive(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]), Path(sys.argv[4]))
