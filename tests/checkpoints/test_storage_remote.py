"""What a remote storage does about failures, on fsspec's memory; for a real server see ``test_storage_s3.py``."""

from __future__ import annotations

import fcntl
import os
import tempfile
import uuid
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from ashwood.checkpoints import MANIFEST, ONCE, Storage, open_storage, patience
from ashwood.checkpoints.scratch import scratch
from ashwood.errors import CheckpointError, StorageUnreachable
from tests.checkpoints.storages import NAME, Files, contents, writes

OPERATIONS = ("put_file", "pipe_file", "cat_file", "get_file", "rm_file", "rm", "find")


@pytest.fixture
def url() -> str:
    return f"memory://{uuid.uuid4()}/prefix"


@pytest.fixture
def storage(url: str) -> Storage:
    return open_storage(url)


@pytest.fixture
def files(url: str) -> Files:
    return Files(url)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_FIRST_PAUSE", 0.0)


class Fault(BaseException):
    """Stands for the end of the process: nothing that handles errors sees it."""


def disturb(monkeypatch: pytest.MonkeyPatch, before: Callable[[str], object]) -> None:
    """Call ``before`` with the name of each operation before it is done."""
    for operation in OPERATIONS:
        original = getattr(MemoryFileSystem, operation)

        def disturbed(self: Any, *args: Any, _name: str = operation, _do: Any = original, **options: Any) -> Any:
            before(_name)
            return _do(self, *args, **options)

        monkeypatch.setattr(MemoryFileSystem, operation, disturbed)


def stop_at(nth: int) -> Callable[[str], None]:
    count = 0

    def before(_operation: str) -> None:
        nonlocal count
        count += 1
        if count == nth:
            raise Fault

    return before


def cut_short(action: Callable[[], object], nth: int) -> bool:
    """Whether an action was ended before its ``nth`` operation, as opposed to having none so many."""
    with pytest.MonkeyPatch.context() as patch:
        disturb(patch, stop_at(nth))
        try:
            action()
        except Fault:
            return True
    return False


def test_interrupted_upload_is_never_complete(storage: Storage, files: Files) -> None:
    nth = 1
    while cut_short(lambda: storage.save(NAME, writes(model="weights", a__b="x")), nth):
        assert storage.complete() == []
        with pytest.raises(CheckpointError):
            contents(storage, NAME)
        for leftover in storage.leftovers():
            storage.delete(leftover.name)
        assert files.list() == []
        nth += 1
    assert nth > 3
    assert contents(storage, NAME) == {"model.pt": b"weights", "a/b.pt": b"x"}


def test_leftovers_of_upload_are_not_part_of_next_one(storage: Storage, files: Files) -> None:
    files.write(f"{NAME}/shard-2.pt", b"of an upload that was cut short")
    storage.save(NAME, writes(model="weights"))
    assert contents(storage, NAME) == {"model.pt": b"weights"}


def test_interrupted_deletion_leaves_no_complete_checkpoint(storage: Storage, files: Files) -> None:
    storage.save(NAME, writes(model="weights", a__b="x"))
    nth = 1
    while cut_short(lambda: storage.delete(NAME), nth):
        if storage.complete():
            assert contents(storage, NAME) == {"model.pt": b"weights", "a/b.pt": b"x"}
        storage.save(NAME, writes(model="weights", a__b="x"))
        nth += 1
    assert files.list() == []


def test_temporary_failures_are_retried(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    failures: dict[str, int] = dict.fromkeys(OPERATIONS, 0)

    def before(operation: str) -> None:
        failures[operation] += 1
        if failures[operation] <= 3:
            raise OSError("the server has a cold")

    disturb(monkeypatch, before)
    storage.save(NAME, writes(model="weights"))
    assert contents(storage, NAME) == {"model.pt": b"weights"}
    storage.delete(NAME)
    assert storage.complete() == []


def test_permanent_failure_is_reported_with_url(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = open_storage(url, ONCE)
    storage.save(NAME, writes(model="weights"))

    def before(_operation: str) -> None:
        raise RuntimeError("the server is down")

    disturb(monkeypatch, before)
    actions: list[Callable[[], object]] = [
        lambda: storage.save(NAME, writes(model="new")),
        lambda: contents(storage, NAME),
        lambda: storage.delete(NAME),
        storage.complete,
        storage.probe,
    ]
    for action in actions:
        with pytest.raises(StorageUnreachable, match="the server is down") as caught:
            action()
        assert url in str(caught.value)


def test_missing_permission_is_reported_without_retry(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    tries = []

    def before(_operation: str) -> None:
        tries.append(1)
        raise PermissionError("Forbidden")

    disturb(monkeypatch, before)
    with pytest.raises(StorageUnreachable, match="Forbidden; check its credentials"):
        open_storage(url).probe()
    assert len(tries) == 1


def test_probe_is_not_disturbed_by_another_with_the_same_process_id(
    storage: Storage, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = [storage]  # another node, which probes between the write and the read of this one

    def before(operation: str) -> None:
        if operation == "cat_file" and others:
            others.pop().probe()

    disturb(monkeypatch, before)
    storage.probe()
    assert others == []
    assert files.list() == []


def test_full_local_disk_is_not_reported_as_storage_outage(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.save(NAME, writes(model="weights"))

    def before(operation: str) -> None:
        if operation == "get_file":
            raise OSError(28, "No space left on device")

    disturb(monkeypatch, before)
    with pytest.raises(OSError, match="No space left"):
        contents(storage, NAME)


def test_downloaded_checkpoint_is_deleted_after_use(storage: Storage) -> None:
    storage.save(NAME, writes(model="weights"))
    with storage.fetch(NAME) as directory:
        assert (directory / "model.pt").read_bytes() == b"weights"
        assert (directory / MANIFEST).exists()
    assert not directory.exists()


# -- temporary directories -------------------------------------------------------------------------


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_scratch_of_killed_process_is_removed_and_of_live_one_kept(temporary: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads of other tests' servers sleep
        child = os.fork()
    if child == 0:
        with scratch() as directory:
            (directory / "left").touch()
            os._exit(0)
    os.waitpid(child, 0)
    [left] = temporary.glob("ashwood-*/*")
    with scratch() as mine:
        assert not left.exists()
        with scratch() as other:
            assert mine.exists()
            assert other.exists()
    assert list(temporary.glob("ashwood-*/*")) == []


def test_scratch_base_lock_is_held_briefly(temporary: Path) -> None:
    with scratch() as directory:
        handle = os.open(directory.parent, os.O_RDONLY)
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(handle)


def test_scratch_base_that_is_link_is_not_used(temporary: Path) -> None:
    (temporary / f"ashwood-{os.getuid()}").symlink_to(temporary)
    with scratch() as directory:
        assert directory.parent.parent == temporary
        assert not directory.parent.is_symlink()
