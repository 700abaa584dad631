"""What a local storage leaves behind when it is cut short at any instant."""

from __future__ import annotations

import errno
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ashwood.checkpoints import MANIFEST, Storage, local, open_storage, trees
from ashwood.errors import CheckpointError, StorageUnreachable
from tests.checkpoints.storages import NAME, Files, contents, writes

_EFFECTS = frozenset({"open", "os.mkdir", "os.rename", "os.rmdir", "os.remove"})
_KILLED = 9


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return open_storage(tmp_path)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(str(tmp_path))


def kills(action: Callable[[], object]) -> Iterator[int]:
    """Do something in a process that dies before its first effect on files, then before its second, and so on."""
    for nth in range(1, 200):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # threads of other tests' servers sleep
            child = os.fork()
        if child == 0:
            try:
                _die_before(nth)
                action()
            finally:
                os._exit(0 if sys.exception() is None else 1)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code in (0, _KILLED)
        if code == 0:
            return
        yield nth
    raise AssertionError("it never comes to an end")


def _die_before(nth: int) -> None:
    left = nth

    def hook(event: str, _arguments: object) -> None:
        nonlocal left
        if event in _EFFECTS:
            left -= 1
            if left == 0:
                os._exit(_KILLED)

    sys.addaudithook(hook)


OLD, NEW = {"model.pt": b"old", "more.pt": b"x"}, {"model.pt": b"the new one", "a/b.pt": b"y"}


def save_new(storage: Storage) -> None:
    storage.save(NAME, writes(model="the new one", a__b="y"))


def test_killed_save_leaves_no_incomplete_checkpoint(storage: Storage, files: Files) -> None:
    for nth in kills(lambda: save_new(storage)):
        assert storage.complete() == [] or contents(storage, NAME) == NEW, f"killed before effect {nth}"
        for leftover in storage.leftovers():
            storage.delete(leftover.name)
        storage.delete(NAME)
        assert files.list() == []
    assert contents(storage, NAME) == NEW


def test_killed_replacement_leaves_old_or_new_checkpoint(storage: Storage, files: Files) -> None:
    storage.save(NAME, writes(model="old", more="x"))
    for nth in kills(lambda: save_new(storage)):
        assert [stored.name for stored in storage.complete()] == [NAME], f"killed before effect {nth}"
        assert contents(storage, NAME) in (OLD, NEW), f"killed before effect {nth}"
        storage.save(NAME, writes(model="old", more="x"))
        assert storage.leftovers() == []
    assert contents(storage, NAME) == NEW
    assert all(path.startswith(f"{NAME}/") for path in files.list())


def test_killed_deletion_leaves_complete_checkpoint_or_leftover(storage: Storage, files: Files) -> None:
    save_new(storage)
    for nth in kills(lambda: storage.delete(NAME)):
        assert storage.complete() == [] or contents(storage, NAME) == NEW, f"killed before effect {nth}"
        for leftover in storage.leftovers():
            storage.delete(leftover.name)
        save_new(storage)
    assert files.list() == []


def test_full_disk_raises_and_loses_only_new_checkpoint(
    storage: Storage, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.save(NAME, writes(model="old", more="x"))

    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = files.list()
    monkeypatch.setattr(os, "fsync", full)
    for name in (NAME, "trial-3/length-8-attempt-1"):
        with pytest.raises(OSError, match="No space left") as caught:
            storage.save(name, writes(model="new"))
        assert caught.value.errno == errno.ENOSPC
    assert files.list() == before
    assert contents(storage, NAME) == OLD


def test_checkpoint_that_is_being_written_is_leftover_and_not_complete(storage: Storage) -> None:
    seen = []

    def write(directory: Path) -> None:
        (directory / "model").write_text("half")
        seen.append((storage.complete(), storage.leftovers()))

    storage.save(NAME, write)
    [(complete, leftovers)] = seen
    assert complete == []
    assert [leftover.name for leftover in leftovers] == ["trial-3/.writing-length-4-attempt-1"]


def test_save_succeeds_if_empty_trial_directory_is_deleted_meanwhile(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = Path.mkdir
    made: list[Path] = []

    def mkdir(self: Path, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        if self.name.startswith(".writing") and not made:
            made.append(self)
            self.parent.rmdir()
        make(self, mode, parents, exist_ok)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    storage.save(NAME, writes(model="weights"))
    assert made
    assert contents(storage, NAME) == {"model.pt": b"weights"}


def test_absolute_names_are_deleted_only_inside_storage(storage: Storage, tmp_path: Path) -> None:
    inside = tmp_path / "trial-1" / "length-2-attempt-1"
    inside.mkdir(parents=True)
    (inside / "model").write_text("weights")
    with pytest.raises(CheckpointError, match="is not deleted"):
        open_storage(tmp_path / "another").delete(str(inside))
    storage.delete(str(inside))
    assert not inside.parent.exists()


def test_unmounted_storage_is_unreachable_not_damaged(tmp_path: Path) -> None:
    with pytest.raises(StorageUnreachable, match="is mounted"):
        contents(open_storage(tmp_path / "gone"), NAME)


@pytest.mark.skipif(os.geteuid() == 0, reason="everything is allowed to root")
def test_storage_without_permission_is_reported(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StorageUnreachable, match="Permission denied"):
        open_storage(tmp_path / "here").probe()


def test_storage_at_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageUnreachable, match=r"cannot save checkpoints in .*file.*set checkpoint_storage"):
        open_storage(tmp_path / "file").probe()


def test_probe_is_not_disturbed_by_another_with_the_same_process_id(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = [storage]  # another node, which probes between the write and the read of this one
    sync = trees.sync

    def sync_and_let_the_other_probe(path: Path) -> None:
        sync(path)
        if others:
            others.pop().probe()

    monkeypatch.setattr(local, "sync", sync_and_let_the_other_probe)
    storage.probe()
    assert others == []
    assert list(tmp_path.iterdir()) == []


def test_lost_process_does_not_delete_files_of_its_successor(storage: Storage, tmp_path: Path) -> None:
    unfinished = tmp_path / "trial-3" / ".writing-length-4-attempt-2"
    unfinished.mkdir(parents=True)
    storage.save("trial-3/length-4-attempt-1", writes(model="old"))
    assert unfinished.is_dir()
    storage.save("trial-3/length-8-attempt-3", writes(model="new"))
    assert not unfinished.exists()


@pytest.mark.parametrize("replace", [os.mkfifo, lambda path: path.symlink_to("elsewhere")])
def test_manifest_that_is_not_regular_file_is_damage_and_does_not_block(
    tmp_path: Path, replace: Callable[[Path], None]
) -> None:
    storage = open_storage(tmp_path)
    storage.save(NAME, writes(model="weights"))
    manifest = tmp_path / NAME / MANIFEST
    manifest.unlink()
    replace(manifest)
    with pytest.raises(CheckpointError), storage.fetch(NAME):
        pass
    assert storage.complete() == []
