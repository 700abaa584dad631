"""Which directories of workers a new worker on the same node deletes."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ashwood.backends.ray import outpost
from ashwood.backends.ray.outpost import _LOCK, _claimed, _sweep
from ashwood.trial.storage import open_storage

CHECKPOINT = "trial-0/length-4-attempt-1"
HOLDER = """
import fcntl, sys
file = open(sys.argv[1], "a")
fcntl.flock(file, fcntl.LOCK_SH)
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    base = tmp_path / "base"
    base.mkdir(mode=0o700)
    monkeypatch.setattr(outpost, "_base", lambda: base)
    return base


def staged(directory: Path) -> Path:
    """Put a checkpoint into a worker's directory; returns that of the checkpoint."""
    open_storage(directory / "checkpoints").save(CHECKPOINT, lambda path: (path / "model").write_text("weights"))
    return directory / "checkpoints" / CHECKPOINT


def age(directory: Path, days: float) -> None:
    """Set the time of modification of a directory and of all in it."""
    then = time.time() - days * 24 * 3600
    for path in (*directory.rglob("*"), directory):
        os.utime(path, (then, then))


@contextmanager
def process_that_holds(lock: Path) -> Iterator[None]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "locked\n"
        yield
    finally:
        process.communicate("")


def test_sweep_keeps_old_directory_of_living_worker(base: Path) -> None:
    worker = base / "key" / "node" / "0-0-living"
    checkpoint = staged(worker)
    with process_that_holds(worker / _LOCK):
        age(base / "key", days=8)
        _sweep(base)
        assert checkpoint.is_dir()
    _sweep(base)
    assert not checkpoint.exists()


def test_sweep_keeps_new_checkpoint_in_old_directory_of_dead_worker(base: Path) -> None:
    worker = base / "key" / "node" / "0-0-dead"
    worker.mkdir(parents=True)
    age(base / "key", days=8)
    checkpoint = staged(worker)
    for directory in (worker, worker.parent, base / "key"):
        os.utime(directory, (0, 0))
    _sweep(base)
    assert checkpoint.is_dir()


def test_sweep_deletes_what_is_old_and_belongs_to_no_living_worker(base: Path) -> None:
    abandoned, recent = base / "key" / "node" / "0-0-abandoned", base / "key" / "node" / "1-0-recent"
    staged(abandoned)
    (abandoned / _LOCK).touch()
    staged(base / "other" / "node" / "0-0-abandoned")
    age(base, days=8)
    staged(recent)
    age(recent, days=6)
    _sweep(base)
    assert sorted(base.rglob("?-0-*")) == [recent]
    assert list(base.iterdir()) == [base / "key"]


def test_worker_locks_its_directory_while_it_lives(base: Path) -> None:
    directory = base / "key" / "node" / "0-0-mine"
    with _claimed(directory):
        checkpoint = staged(directory)
        age(base, days=8)
        with _claimed(base / "key" / "node" / "1-0-another"):
            assert checkpoint.is_dir()
    with _claimed(base / "key" / "node" / "2-0-another"):
        assert not directory.exists()


def test_no_sweep_runs_until_new_directory_is_locked(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = base / "key" / "node" / "0-0-mine"
    seen: list[tuple[str, bool]] = []

    def is_locked() -> bool:
        handle = os.open(base, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(handle)
        return False

    def watched(name: str) -> None:
        original: Callable[[Path], object] = getattr(outpost, name)

        def call(path: Path) -> object:
            seen.append((name, is_locked()))
            return original(path)

        monkeypatch.setattr(outpost, name, call)

    watched("_sweep")
    watched("held")
    with _claimed(directory):
        assert seen == [("_sweep", True), ("held", True)]
        assert not is_locked()
