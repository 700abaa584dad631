"""The directories of dead workers that a new worker on the same node deletes."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ashwood.backends.ray import node_worker
from ashwood.backends.ray.node_worker import _LOCK, NodeFiles, _claimed, _directories_of, _sweep
from ashwood.backends.ray.staging import Staged, checkpoints_in
from ashwood.checkpoints import open_storage
from ashwood.experiment.events import CheckpointSaved
from ashwood.testing.backend import job

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
    monkeypatch.setattr(node_worker, "_base", lambda: base)
    return base


def staged(directory: Path) -> Path:
    """Save a checkpoint in a worker's directory, and return the checkpoint's directory."""
    open_storage(directory / "checkpoints").save(CHECKPOINT, lambda path: (path / "model").write_text("weights"))
    return directory / "checkpoints" / CHECKPOINT


def age(directory: Path, days: float) -> None:
    """Set the modification time of a directory and of everything in it."""
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


def test_sweep_deletes_old_directories_of_dead_workers(base: Path) -> None:
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
        original: Callable[[Path], object] = getattr(node_worker, name)

        def call(path: Path) -> object:
            seen.append((name, is_locked()))
            return original(path)

        monkeypatch.setattr(node_worker, name, call)

    watched("_sweep")
    watched("held")
    with _claimed(directory):
        assert seen == [("_sweep", True), ("held", True)]
        assert not is_locked()


def safe_and_unsafe(worker: Path) -> tuple[Path, Path]:
    """Save two checkpoints as a worker does that dies before the second one is stored elsewhere; return both."""
    staging = Staged(checkpoints_in(worker), None)
    names = ["trial-0/length-4-attempt-1", "trial-0/length-8-attempt-1"]
    for name in names:
        staging.storage.save(name, lambda path: (path / "model").write_text("weights"))
    staging.delete_older(CheckpointSaved(0, 1, 4, names[0]))
    (worker / "logs").mkdir()
    return staging.path_of(names[0]), staging.path_of(names[1])


def test_new_worker_keeps_only_copies_of_dead_workers_of_its_experiment(base: Path) -> None:
    dead, living = base / "key" / "node" / "0-0-dead", base / "key" / "node" / "1-0-living"
    another, former = base / "other" / "node" / "0-0-dead", base / "key" / "former node" / "0-0-dead"
    kept = [staged(another)]
    for worker in (dead, former):
        safe, unsafe = safe_and_unsafe(worker)
        kept.append(unsafe)
        assert safe.is_dir()
    (base / "key" / "node" / "2-0-empty" / "logs").mkdir(parents=True)
    with process_that_holds(living_lock(living)):
        kept.append(staged(living))
        with _claimed(base / "key" / "node" / "3-0-mine"):
            assert sorted(base.rglob("length-*")) == sorted(kept), "the next driver may collect these"
    assert not (base / "key" / "node" / "2-0-empty").exists()
    assert sorted(path.name for path in dead.iterdir()) == ["checkpoints", "safe"]


def test_new_worker_deletes_fetched_checkpoints_of_dead_worker(base: Path) -> None:
    dead = base / "key" / "node" / "0-0-dead"
    staging = Staged(checkpoints_in(dead), None)
    staging.check(None)
    assert staging.lacks(job(attempt=2, target=8, length=4, checkpoint=CHECKPOINT))
    staged(dead)
    with _claimed(base / "key" / "node" / "1-0-mine"):
        assert not dead.exists()


def test_new_worker_keeps_checkpoints_of_latest_dead_workers(base: Path) -> None:
    for number in range(6):
        age(staged(base / "key" / "node" / f"{number}-0-dead").parents[2], days=6 - number)
    with _claimed(base / "key" / "node" / "6-0-mine"):
        left = sorted(path.name for path in (base / "key" / "node").iterdir())
    assert left == [*(f"{number}-0-dead" for number in (2, 3, 4, 5)), "6-0-mine"]


def test_clean_waits_for_workers_that_are_about_to_end(base: Path) -> None:
    worker, another = base / "key" / "node" / "0-0-ends", base / "other" / "node" / "0-0-another"
    staged(another)
    with process_that_holds(living_lock(worker)):
        staged(worker)
        cleaning = threading.Thread(target=lambda: NodeFiles("key", "node").clean(60.0))
        cleaning.start()
        cleaning.join(0.2)
        assert cleaning.is_alive()
        assert worker.exists()
    cleaning.join()
    assert list(base.iterdir()) == [base / "other"]
    assert another.exists()


def living_lock(worker: Path) -> Path:
    worker.mkdir(parents=True)
    return worker / _LOCK


def test_trial_directories_stay_until_abandoned_or_cleaned(base: Path) -> None:
    former, other = (_directories_of(key) / "3-0123abcd" for key in ("key", "other"))
    for directory in (former, other):
        directory.mkdir(parents=True)
        (directory / "scratch").touch()
    with _claimed(base / "key" / "node" / "0-0-mine"):
        assert former.is_dir(), "the next attempt on this machine uses it"
        age(base, days=8)
        _sweep(base)
        assert former.is_dir(), "a trial may use it now"
        assert not other.exists()
    NodeFiles("key", "node").clear()
    assert former.is_dir()
    NodeFiles("key", "another node").clean(0.0)
    assert not former.exists()
