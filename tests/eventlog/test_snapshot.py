"""Snapshots are pickles: only one's own are read."""

from __future__ import annotations

import io
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from ashwood.engine.loop import Engine
from ashwood.eventlog import snapshot
from ashwood.eventlog.memory import MemoryStore
from ashwood.eventlog.port import Entry
from ashwood.eventlog.snapshot import FOLDING_PACKAGES, LogSnapshot, read_snapshot, write_snapshot
from ashwood.experiment.events import DriverStarted
from ashwood.experiment.experiment import Experiment
from ashwood.testing.records import full_spec
from ashwood.views.chronicle import Chronicle
from ashwood.views.progress import Progress
from tests.engine.instant_backend import InstantBackend
from tests.engine.test_loop import SPEC, new_log, objective


@pytest.fixture
def kept(tmp_path: Path) -> tuple[Path, MemoryStore]:
    store, path = MemoryStore(), tmp_path / "snapshot"
    store.create(full_spec(), at=1.0)
    entry = Entry(2.0, DriverStarted(4), ())
    store.log(1).append([entry])
    write_snapshot(path, LogSnapshot("me", {"a": 1, "b": 2}, 1, entry))
    return path, store


def test_what_was_kept_is_found(kept: tuple[Path, MemoryStore]) -> None:
    path, store = kept
    found = read_snapshot(path, "me", store.log(1), ["a"])
    assert found is not None
    assert found.parts == {"a": 1}
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_each_part_is_found_without_the_others(kept: tuple[Path, MemoryStore]) -> None:
    path, store = kept
    for names, parts in (((), {}), (("b",), {"b": 2}), (("b", "a"), {"a": 1, "b": 2})):
        found = read_snapshot(path, "me", store.log(1), names)
        assert found is not None
        assert found.parts == parts
    assert read_snapshot(path, "me", store.log(1), ["c"]) is None


def test_snapshot_of_another_experiment_is_none(kept: tuple[Path, MemoryStore]) -> None:
    path, store = kept
    assert read_snapshot(path, "another", store.log(1), ["a"]) is None


def test_a_pipe_or_a_link_in_its_place_is_not_read(kept: tuple[Path, MemoryStore]) -> None:
    path, store = kept
    path.rename(path.with_name("moved"))
    path.symlink_to("moved")
    assert read_snapshot(path, "me", store.log(1), ["a"]) is None
    path.unlink()
    os.mkfifo(path)
    assert read_snapshot(path, "me", store.log(1), ["a"]) is None


def test_others_can_neither_put_nor_change_one(kept: tuple[Path, MemoryStore], monkeypatch: pytest.MonkeyPatch) -> None:
    path, store = kept
    monkeypatch.setattr("pickle.load", lambda *_: pytest.fail("read"))
    for mode in (0o666, 0o620, 0o602):
        path.chmod(mode)
        assert read_snapshot(path, "me", store.log(1), ["a"]) is None
    path.chmod(0o600)
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    assert read_snapshot(path, "me", store.log(1), ["a"]) is None


def test_one_is_nobody_elses_to_change_whatever_the_umask(tmp_path: Path, kept: tuple[Path, MemoryStore]) -> None:
    path, store = kept
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


def test_one_of_other_code_is_not_even_unpickled(
    kept: tuple[Path, MemoryStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, store = kept
    monkeypatch.setattr("pickle.load", lambda *_: pytest.fail("read"))
    monkeypatch.setattr(snapshot, "_code_digest", lambda: b"other")
    assert read_snapshot(path, "me", store.log(1), ["a"]) is None


class _Classes(pickle.Unpickler):
    """Notes the modules of the classes in a pickle."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        self.modules: set[str] = set()

    def find_class(self, module: str, name: str) -> Any:
        self.modules.add(module)
        return super().find_class(module, name)


def test_snapshot_is_bound_to_every_package_that_folds_its_state() -> None:
    log = new_log()
    progress, chronicle = Progress(SPEC), Chronicle(SPEC)
    experiment = Experiment(SPEC)
    Engine(experiment, log, InstantBackend(objective)).run()
    for _, entry in log.read():
        progress.apply(*entry)
        chronicle.apply(*entry)
    unpickler = _Classes(pickle.dumps((experiment, progress.parts(), chronicle.history)))
    unpickler.load()
    pickled = {module for module in unpickler.modules if module.startswith("ashwood.")}
    grimp = pytest.importorskip("grimp", reason="import-linter is not installed")
    imports = grimp.build_graph("ashwood")
    folding = pickled.union(*(imports.find_upstream_modules(module) for module in pickled))
    packages = {module.split(".")[1] for module in folding if module.count(".") > 1}
    assert packages == set(FOLDING_PACKAGES)


def test_large_snapshot_is_written_and_read_with_beats_in_between(tmp_path: Path) -> None:
    store, path, entry = MemoryStore(), tmp_path / "snapshot", Entry(2.0, DriverStarted(4), ())
    store.create(full_spec(), at=1.0)
    store.log(1).append([entry])
    beats: list[str] = []
    state = list(range(1_000_000))
    write_snapshot(path, LogSnapshot("me", {"a": state}, 1, entry), beat=lambda: beats.append("write"))
    found = read_snapshot(path, "me", store.log(1), ["a"], beat=lambda: beats.append("read"))
    assert found is not None
    assert found.parts["a"] == state
    pieces = path.stat().st_size // (1 << 18)
    assert pieces > 10
    assert beats.count("write") > pieces
    assert beats.count("read") > pieces
