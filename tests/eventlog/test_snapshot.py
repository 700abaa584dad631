"""Snapshots are pickles: only one's own are read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ashwood.eventlog.memory import MemoryStore
from ashwood.eventlog.port import Entry
from ashwood.eventlog.snapshot import Kept, find, keep
from ashwood.experiment.events import DriverStarted
from ashwood.testing.records import full_spec

ROOMS = ("views",)


@pytest.fixture
def kept(tmp_path: Path) -> tuple[Path, MemoryStore]:
    store, path = MemoryStore(), tmp_path / "snapshot"
    store.create(full_spec(), at=1.0)
    entry = Entry(2.0, DriverStarted(4), ())
    store.log(1).append([entry])
    keep(path, Kept({"a": 1}, 1, entry), ROOMS)
    return path, store


def test_what_was_kept_is_found(kept: tuple[Path, MemoryStore]) -> None:
    path, store = kept
    found = find(path, store.log(1), ROOMS)
    assert found is not None
    assert found.state == {"a": 1}
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_others_can_neither_put_nor_change_one(kept: tuple[Path, MemoryStore], monkeypatch: pytest.MonkeyPatch) -> None:
    path, store = kept
    monkeypatch.setattr("pickle.loads", lambda *_: pytest.fail("read"))
    for mode in (0o666, 0o620, 0o602):
        path.chmod(mode)
        assert find(path, store.log(1), ROOMS) is None
    path.chmod(0o600)
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    assert find(path, store.log(1), ROOMS) is None


def test_one_is_nobody_elses_to_change_whatever_the_umask(tmp_path: Path, kept: tuple[Path, MemoryStore]) -> None:
    path, store = kept
    elsewhere = tmp_path / "elsewhere"
    path.with_name("snapshot.new").symlink_to(elsewhere)
    before = os.umask(0)
    try:
        keep(path, Kept({"a": 2}, 1, next(entry for _, entry in store.log(1).read())), ROOMS)
    finally:
        os.umask(before)
    found = find(path, store.log(1), ROOMS)
    assert found is not None
    assert found.state == {"a": 2}
    assert not elsewhere.exists()


def test_one_of_other_code_is_not_even_unpickled(
    kept: tuple[Path, MemoryStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, store = kept
    monkeypatch.setattr("pickle.loads", lambda *_: pytest.fail("read"))
    assert find(path, store.log(1), ("search",)) is None
