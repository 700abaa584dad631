"""Snapshot files: reading and writing, and safety from files of other users."""

from __future__ import annotations

import io
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from ashwood.engine.loop import Engine
from ashwood.eventlog import fold_cache
from ashwood.eventlog.fold_cache import FOLDING_PACKAGES, LogSnapshot, read_snapshot, write_snapshot
from ashwood.experiment.entry import Entry, fold
from ashwood.experiment.events import DriverStarted
from ashwood.experiment.experiment import Experiment
from ashwood.testing.records import full_spec
from ashwood.views.history import History
from ashwood.views.progress import Progress
from tests.engine.instant_backend import InstantBackend
from tests.engine.test_loop import SPEC, new_log, objective
from tests.eventlog.memory_store import MemoryStore


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, MemoryStore]:
    """A snapshot file and the store with its log."""
    store, path = MemoryStore(), tmp_path / "snapshot"
    store.create(full_spec(), at=1.0)
    entry = Entry(2.0, DriverStarted(4), ())
    store.log(1).append([entry])
    write_snapshot(path, LogSnapshot("me", {"a": 1, "b": 2}, 1, entry))
    return path, store


def test_read_snapshot_returns_requested_part(saved: tuple[Path, MemoryStore]) -> None:
    path, store = saved
    found = read_snapshot(path, "me", store.log(1), ["a"])
    assert found is not None
    assert found.parts == {"a": 1}
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_parts_of_snapshot_can_be_read_separately(saved: tuple[Path, MemoryStore]) -> None:
    path, store = saved
    for names, parts in (((), {}), (("b",), {"b": 2}), (("b", "a"), {"a": 1, "b": 2})):
        found = read_snapshot(path, "me", store.log(1), names)
        assert found is not None
        assert found.parts == parts
    assert read_snapshot(path, "me", store.log(1), ["c"]) is None


def test_snapshot_of_another_experiment_is_ignored(saved: tuple[Path, MemoryStore]) -> None:
    path, store = saved
    assert read_snapshot(path, "another", store.log(1), ["a"]) is None


def test_pipe_or_link_in_place_of_snapshot_is_ignored(saved: tuple[Path, MemoryStore]) -> None:
    path, store = saved
    path.rename(path.with_name("moved"))
    path.symlink_to("moved")
    assert read_snapshot(path, "me", store.log(1), ["a"]) is None
    path.unlink()
    os.mkfifo(path)
    assert read_snapshot(path, "me", store.log(1), ["a"]) is None


def test_snapshot_that_other_users_could_write_is_not_unpickled(
    saved: tuple[Path, MemoryStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, store = saved
    monkeypatch.setattr("pickle.load", lambda *_: pytest.fail("read"))
    for mode in (0o666, 0o620, 0o602):
        path.chmod(mode)
        assert read_snapshot(path, "me", store.log(1), ["a"]) is None
    path.chmod(0o600)
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    assert read_snapshot(path, "me", store.log(1), ["a"]) is None


def test_write_snapshot_is_private_for_any_umask_and_does_not_follow_links(
    tmp_path: Path, saved: tuple[Path, MemoryStore]
) -> None:
    path, store = saved
    elsewhere = tmp_path / "elsewhere"
    path.with_name("snapshot.new").symlink_to(elsewhere)
    before = os.umask(0)
    try:
        write_snapshot(path, LogSnapshot("me", {"a": 2}, 1, next(entry for _, entry in store.log(1).read())))
    finally:
        os.umask(before)
    found = read_snapshot(path, "me", store.log(1), ["a"])
    assert found is not None
    assert found.parts == {"a": 2}
    assert not elsewhere.exists()


def test_snapshot_of_other_code_is_not_unpickled(
    saved: tuple[Path, MemoryStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, store = saved
    monkeypatch.setattr("pickle.load", lambda *_: pytest.fail("read"))
    monkeypatch.setattr(fold_cache, "_code_digest", lambda: b"other")
    assert read_snapshot(path, "me", store.log(1), ["a"]) is None


class _Classes(pickle.Unpickler):
    """An unpickler that collects the modules of all classes in a pickle."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        self.modules: set[str] = set()

    def find_class(self, module: str, name: str) -> Any:
        self.modules.add(module)
        return super().find_class(module, name)


def test_folding_packages_are_all_packages_that_snapshots_depend_on() -> None:
    log = new_log()
    progress, history = Progress(SPEC), History(SPEC)
    experiment = Experiment(SPEC)
    Engine(experiment, log, InstantBackend(objective)).run()
    fold(progress, (entry for _, entry in log.read()))
    fold(history, (entry for _, entry in log.read()))
    unpickler = _Classes(pickle.dumps((experiment, progress.parts(), history.details)))
    unpickler.load()
    pickled = {module for module in unpickler.modules if module.startswith("ashwood.")}
    grimp = pytest.importorskip("grimp", reason="import-linter is not installed")
    imports = grimp.build_graph("ashwood")
    folding = pickled.union(*(imports.find_upstream_modules(module) for module in pickled))
    packages = {module.split(".")[1] for module in folding if module.count(".") > 1}
    assert packages == set(FOLDING_PACKAGES)


def test_large_snapshot_is_written_and_read_with_heartbeats(tmp_path: Path) -> None:
    store, path, entry = MemoryStore(), tmp_path / "snapshot", Entry(2.0, DriverStarted(4), ())
    store.create(full_spec(), at=1.0)
    store.log(1).append([entry])
    beats: list[str] = []
    state = list(range(1_000_000))
    write_snapshot(path, LogSnapshot("me", {"a": state}, 1, entry), beat=lambda: beats.append("write"))
    found = read_snapshot(path, "me", store.log(1), ["a"], beat=lambda: beats.append("read"))
    assert found is not None
    assert found.parts["a"] == state
    chunks = path.stat().st_size // (1 << 18)
    assert chunks > 10
    assert beats.count("write") > chunks
    assert beats.count("read") > chunks
