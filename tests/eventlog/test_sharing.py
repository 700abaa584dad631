"""Homes that a group shares: two users work with each other's files."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from ashwood.backends.local.worker_lock import held, is_held
from ashwood.checkpoints import open_storage
from ashwood.checkpoints.regular import open_to_append
from ashwood.checkpoints.sharing import make_shared, share_tree
from ashwood.engine import open_home
from ashwood.engine.removal import remove_experiment
from ashwood.engine.sources import keep_source
from ashwood.engine.worker_hosts import WorkerHost
from ashwood.errors import BackendError, EventLogError
from ashwood.eventlog import fold_cache
from ashwood.eventlog.files import claim_directory
from ashwood.eventlog.lease import take_lease
from ashwood.eventlog.reserve import ReserveFile
from ashwood.eventlog.sqlite import SqliteStore
from ashwood.experiment.entry import Entry
from ashwood.experiment.events import DriverStarted
from ashwood.testing.records import edge_case_entries, full_spec
from tests.users import ALICE, BOB, GROUP, as_user, shared_directory

SPEC = replace(full_spec(), checkpoint_storage=None)
CHECKPOINT = "trial-0/length-4-attempt-1"


@pytest.fixture
def home(open_directory: Path) -> Path:
    """An empty directory for a home that Alice shares with a group."""
    return shared_directory(open_directory)


def permissions(path: Path) -> tuple[str, int, int]:
    """Return the mode, the user and the group of a file."""
    about = path.lstat()
    return oct(stat.S_IMODE(about.st_mode)), about.st_uid, about.st_gid


def drive(home: Path, number: int | None = None) -> int:
    """Write every kind of file that a driver and its workers write, for a new experiment or experiment ``number``."""
    with open_home(home, create=True) as opened:
        experiment = opened.create(SPEC, at=1.0) if number is None else number
        directory = opened.directory(experiment)
        attempt = 1 if number is None else 2
        with (
            opened.lease(experiment) as lease,
            ReserveFile(directory / "ballast", 1 << 12),
            opened.log(experiment, lease.token) as log,
            held(directory / "workers.lock"),
        ):
            log.append(edge_case_entries())
            fold_cache.write_snapshot(
                opened.snapshot(experiment), fold_cache.LogSnapshot("", {}, 1, edge_case_entries()[0])
            )
            make_shared(opened.logs(experiment))
            with open_to_append(opened.logs(experiment) / "trial-0.log") as file:
                file.write(b"a line\n")
            storage = open_storage(directory / "checkpoints")
            storage.save(f"trial-0/length-4-attempt-{attempt}", write_model)
            keep_source(opened, storage.locate(f"trial-0/length-4-attempt-{attempt}"))
            for name in ("ashwood.db", "ashwood.db-wal", "ashwood.db-shm", f"experiments/{experiment}/ballast"):
                mode, _, group = permissions(home / name)
                assert (int(mode, 8) & 0o660, group) == (0o660, GROUP), name
    return experiment


def write_model(directory: Path) -> None:
    (directory / "layers").mkdir()
    (directory / "layers" / "model").write_text("weights")


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_files_in_shared_home_get_permissions_of_directory(home: Path, umask: int) -> None:
    as_user(ALICE, lambda: drive(home), umask=umask)
    found = {str(path.relative_to(home)): permissions(path) for path in home.rglob("*")}
    assert found.pop("experiments/1/snapshot")[0] == "0o600", "it contains pickles"
    assert {"ashwood.db", "experiments/1/head", "experiments/1/workers.lock", "sources/.lock"} < found.keys()
    assert f"experiments/1/checkpoints/{CHECKPOINT}/layers/model" in found
    for name, (mode, user, group) in found.items():
        wanted = 0o2770 if (home / name).is_dir() else 0o660
        assert (int(mode, 8) & 0o2770, user, group) == (wanted, ALICE, GROUP), name


def test_files_in_private_directory_stay_private(open_directory: Path) -> None:
    home = shared_directory(open_directory, 0o2750)
    as_user(ALICE, lambda: SqliteStore(home / "ashwood.db").close(), umask=0o077)
    as_user(ALICE, lambda: make_shared(home / "experiments" / "1"), umask=0o077)
    assert permissions(home / "ashwood.db")[0] == "0o600"
    assert permissions(home / "experiments" / "1")[0] == "0o2700"


def test_files_get_the_group_of_a_directory_without_setgid(open_directory: Path) -> None:
    home = shared_directory(open_directory, 0o775)

    def work() -> None:
        SqliteStore(home / "ashwood.db").close()
        make_shared(home / "experiments" / "1")

    as_user(ALICE, work, umask=0o077)
    assert permissions(home / "ashwood.db") == ("0o660", ALICE, GROUP)
    assert permissions(home / "experiments" / "1") == ("0o770", ALICE, GROUP)


def test_files_are_not_shared_with_group_of_other_users(open_directory: Path) -> None:
    """All users may write to the directory, but its group does not contain the user."""
    home = shared_directory(open_directory, 0o777)
    os.chown(home, 0, 0)
    as_user(ALICE, lambda: SqliteStore(home / "ashwood.db").close(), umask=0o077)
    assert permissions(home / "ashwood.db") == ("0o600", ALICE, ALICE)


@pytest.mark.parametrize(("first", "second"), [(ALICE, BOB), (BOB, ALICE)])
def test_user_can_continue_and_delete_experiment_of_another(home: Path, first: int, second: int) -> None:
    def remove(number: int) -> None:
        with open_home(home) as opened:
            remove_experiment(opened, number)

    number = as_user(first, lambda: drive(home), umask=0o077)
    assert as_user(second, lambda: drive(home, number), umask=0o077) == number
    assert as_user(first, lambda: drive(home, number)) == number
    as_user(second, lambda: remove(number))
    assert list((home / "experiments").iterdir()) == []


def test_reading_shared_home_does_not_lock_out_owner(home: Path) -> None:
    as_user(ALICE, lambda: drive(home))
    assert as_user(BOB, lambda: names(home)) == [SPEC.name]
    as_user(ALICE, rename(home, "new"))
    assert as_user(BOB, lambda: names(home)) == ["new"]


def test_reading_is_refused_if_it_would_lock_out_owner(home: Path) -> None:
    as_user(ALICE, lambda: drive(home))
    (home / "ashwood.db").chmod(0o644)  # The mode that version 0.1.0 used.
    before = sorted(home.iterdir())
    with pytest.raises(EventLogError, match=rf"you may write its directory .* user {ALICE} .* chmod -R g\+"):
        as_user(BOB, lambda: names(home))
    assert sorted(home.iterdir()) == before
    as_user(ALICE, rename(home, "new"))
    assert as_user(BOB, lambda: names(home)) == ["new"], "opening the file as its owner must share it"


def test_errors_name_owner_of_home_with_read_only_access(home: Path) -> None:
    home.chmod(0o2755)
    as_user(ALICE, lambda: drive_privately(home))
    assert as_user(BOB, lambda: names(home)) == [SPEC.name]
    with pytest.raises(EventLogError, match=rf"you may not write .*ashwood.db: it belongs to user {ALICE}, .*chmod"):
        as_user(BOB, rename(home, "new"))
    (home / "ashwood.db").chmod(0o600)
    with pytest.raises(EventLogError, match=rf"you may not read .*ashwood.db: it belongs to user {ALICE}"):
        as_user(BOB, lambda: names(home))
    home.chmod(0o700)
    with pytest.raises(EventLogError, match=rf"you may not read {home}: it belongs to user {ALICE}"):
        as_user(BOB, lambda: names(home))


def test_error_names_owner_of_experiment_directory(home: Path) -> None:
    number = as_user(ALICE, lambda: drive(home))
    (home / "experiments" / str(number)).chmod(0o755)  # The mode that version 0.1.0 used.

    def make() -> None:
        with open_home(home) as opened:
            opened.directory(number)

    with pytest.raises(EventLogError, match=rf"write {home}/experiments/{number}: .* user {ALICE}, .*g\+rwX {home}\."):
        as_user(BOB, make)


def test_worker_lock_is_seen_by_another_user(home: Path) -> None:
    number = as_user(ALICE, lambda: drive(home))
    lock = home / "experiments" / str(number) / "workers.lock"
    with held(lock):
        assert as_user(BOB, lambda: is_held(lock))
    assert not as_user(BOB, lambda: is_held(lock))


def test_share_tree_does_not_follow_links(home: Path, open_directory: Path) -> None:
    def link() -> None:
        (home / "tree").mkdir()
        (home / "tree" / "link").symlink_to(open_directory / "private")

    (open_directory / "private").write_text("")
    (open_directory / "private").chmod(0o600)
    as_user(ALICE, link)
    share_tree(home / "tree")
    assert permissions(open_directory / "private")[0] == "0o600"


def names(home: Path) -> list[str]:
    with open_home(home) as opened:
        return [record.name for record in opened.store.experiments()]


def rename(home: Path, name: str) -> Callable[[], None]:
    def do() -> None:
        with open_home(home) as opened:
            opened.store.annotate(1, name=name)

    return do


def drive_privately(home: Path) -> None:
    with closing(SqliteStore(home / "ashwood.db")) as store, take_lease(store, store.create(SPEC, at=1.0)) as lease:
        store.log(1, lease.token).append([Entry(1.0, DriverStarted(1), ())])


def test_error_names_owner_of_worker_lock(home: Path) -> None:
    number = as_user(ALICE, lambda: drive(home))
    (home / "experiments" / str(number) / "workers.lock").chmod(0o644)  # The mode that version 0.1.0 used.

    def clear() -> None:
        with open_home(home) as opened:
            WorkerHost(opened, number, SPEC).clear(lambda _: None, lambda *_: None)

    with pytest.raises(BackendError, match=rf"workers.lock, which workers lock: .* user {ALICE}, .*g\+rwX {home}"):
        as_user(BOB, clear)


def test_group_can_share_directory_of_postgres_database(open_directory: Path) -> None:
    root = shared_directory(open_directory)
    path = root / "postgresql-1f"

    def use(number: int) -> None:
        claim_directory(path, "1f", "postgresql://host/db")
        make_shared(path / "experiments" / str(number))
        (path / "experiments" / "1" / "file").write_text("")
        (path / "experiments" / "1" / "file").unlink()

    as_user(ALICE, lambda: use(1), umask=0o077)
    as_user(BOB, lambda: use(2), umask=0o077)
    assert permissions(path / "database") == ("0o660", ALICE, GROUP)
