"""Homes in a directory, and homes in PostgreSQL with files on this machine."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from ashwood.engine import open_home
from ashwood.errors import EventLogError, ExperimentBusy, NotFound
from ashwood.eventlog.home import with_own_storage
from ashwood.eventlog.wal import wal_of
from ashwood.experiment.decisions import Asked, EndExperiment, LeaveExperiment
from ashwood.experiment.entry import Entry
from ashwood.experiment.events import CancelRequested, DriverStarted, DriverStopped
from ashwood.experiment.lifecycle import ExperimentState
from ashwood.testing.records import full_spec
from tests.mounts import small_disk
from tests.postgres import PostgresServer


def test_open_home_makes_and_opens_directory(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="ashwood run FILE"):
        open_home(tmp_path / "home")
    with open_home(str(tmp_path / "home"), create=True) as home:
        assert home.name == str(home.path) == str(tmp_path / "home")
        assert home.directory(1).is_dir()
        assert home.logs(1).parent == home.directory(1) == home.path / "experiments" / "1"
    with open_home(tmp_path / "home"):
        pass


def test_checkpoints_are_in_home_or_in_storage_of_spec(tmp_path: Path) -> None:
    with open_home(tmp_path, create=True) as home:
        inside = replace(full_spec(), checkpoint_storage=None)
        assert home.checkpoints(7, inside) == f"{home.path}/experiments/7/checkpoints"
        own = replace(full_spec(), checkpoint_storage="s3://bucket/x/toy-20260101-000000-abcdef")
        assert home.checkpoints(7, own) == "s3://bucket/x/toy-20260101-000000-abcdef"
        # A spec of version 1 has no checkpoint policy, and its experiments shared one storage.
        old = replace(full_spec(), checkpoint_storage="/data", checkpoint_policy=None)
        assert home.checkpoints(7, old) == "/data/experiment-7"


def test_with_own_storage_gives_each_experiment_a_new_folder() -> None:
    spec = replace(full_spec(), name="déjà vu: 2", checkpoint_storage="s3://bucket/x?endpoint_url=http://there")
    one, other = (with_own_storage(spec, 0.0).checkpoint_storage for _ in range(2))
    assert one is not None
    assert re.fullmatch(r"s3://bucket/x/d-j-vu-2-19700101-000000-[0-9a-f]{6}\?endpoint_url=http://there", one)
    assert one != other
    again = with_own_storage(replace(spec, checkpoint_storage=one), 0.0).checkpoint_storage
    assert again is not None
    assert again.count("/") == one.count("/"), "the new folder must not be inside the old one"


def test_create_gives_each_experiment_a_new_identity(tmp_path: Path) -> None:
    with open_home(tmp_path, create=True) as home:
        first, second = (home.store.spec(home.create(full_spec(), at=1.0)).identity for _ in range(2))
        assert "" != first != second != ""


def test_create_skips_numbers_whose_directory_holds_files(tmp_path: Path) -> None:
    with open_home(tmp_path, create=True) as home:
        (home.directory(home.create(full_spec(), at=1.0)) / "snapshot").write_text("")
        home.directory(2)  # An empty directory.
        (tmp_path / "experiments" / "3").write_text("no directory")
    for file in tmp_path.glob("ashwood.db*"):
        file.unlink()
    with open_home(tmp_path, create=True) as home:
        left_out = list[int]()
        assert home.create(full_spec(), at=1.0, left_out=left_out.append) == 2
        assert home.create(full_spec(), at=1.0, left_out=left_out.append) == 4
        assert left_out == [1, 3]
        assert [record.id for record in home.store.experiments()] == [2, 4]


def test_open_home_refuses_write_ahead_log_without_database(tmp_path: Path) -> None:
    # SQLite would delete the write-ahead log, which contains the latest entries.
    with open_home(tmp_path, create=True) as home:
        home.create(full_spec(), at=1.0)
        (tmp_path / "ashwood.db").rename(tmp_path / "elsewhere")
        for create in (True, False):
            with pytest.raises(
                EventLogError, match=r"ashwood.db is missing, but its write-ahead log ashwood.db-wal exists"
            ):
                open_home(tmp_path, create=create)
        assert (tmp_path / "ashwood.db-wal").stat().st_size > 0


def test_append_fails_if_database_was_deleted(tmp_path: Path) -> None:
    with open_home(tmp_path, create=True) as home:
        experiment = home.create(full_spec(), at=1.0)
        with home.lease(experiment) as lease:
            log = home.store.log(experiment, lease.token)
            for file in tmp_path.glob("ashwood.db*"):
                file.unlink()
            with pytest.raises(EventLogError, match="was deleted or replaced"):
                log.append([Entry(1.0, DriverStarted(1), ())])
            with open_home(tmp_path, create=True) as other:
                other.create(full_spec(), at=1.0)
            with pytest.raises(EventLogError, match="was deleted or replaced"):
                log.append([Entry(1.0, DriverStarted(1), ())])


def test_active_experiment_without_driver_is_interrupted(tmp_path: Path) -> None:
    with open_home(tmp_path, create=True) as home:
        experiment = home.store.create(full_spec(), at=1.0)
        assert not home.is_interrupted(home.store.record(experiment))
        with home.lease(experiment) as lease:
            log = home.store.log(experiment, lease.token)
            log.append([Entry(1.0, DriverStarted(1), ())])
            assert home.is_driven(experiment)
            assert not home.is_interrupted(home.store.record(experiment))
            with pytest.raises(ExperimentBusy):
                home.lease(experiment)
            log.append([Entry(1.0, CancelRequested(), (LeaveExperiment(ExperimentState.CANCELED, Asked("cancel")),))])
        assert not home.is_driven(experiment)
        assert home.store.record(experiment).state is ExperimentState.STOPPING
        assert home.is_interrupted(home.store.record(experiment))


def test_read_only_home_can_be_read(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "4m") as disk:
        with open_home(disk.path / "home", create=True) as home:
            home.store.create(full_spec(), at=1.0)
        disk.forbid_writing()
        with open_home(disk.path / "home") as home:
            [record] = home.store.experiments()
            assert not home.is_interrupted(record)
            assert home.checkpoints(1, home.store.spec(1)) == "s3://elsewhere/x"
            assert not home.logs(1).exists()
            with pytest.raises(EventLogError, match=r"cannot make .*experiments/1: Read-only"):
                home.directory(1)


def test_home_in_postgresql_has_files_on_this_machine(
    postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres.fresh_database().replace("ashwood@", "ashwood:secret@")
    database = url.rpartition("/")[2]
    monkeypatch.setenv("ASHWOOD_FILES", str(tmp_path / "files"))
    monkeypatch.setenv("ASHWOOD_HOME", url)
    with pytest.raises(NotFound, match="no experiments in postgresql://127"):
        open_home()
    with open_home(create=True) as home:
        experiment = home.store.create(full_spec(), at=1.0)
        assert home.path == tmp_path / "files" / f"postgresql-{home.identity}"
        assert home.name == f"postgresql://127.0.0.1:{postgres.port}/{database}"
        with home.lease(experiment):
            assert home.is_driven(experiment)
    monkeypatch.delenv("ASHWOOD_FILES")
    monkeypatch.setenv("HOME", str(tmp_path))
    with open_home(url) as home:
        assert home.path.parent == tmp_path / ".ashwood"


# -- links --------------------------------------------------------------------------------------------


def test_home_opened_by_link_is_the_same_home(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with open_home(tmp_path / "link" / "home", create=True) as home:
        experiment = home.create(full_spec(), at=1.0)
        with open_home(tmp_path / "real" / "home") as same:
            assert (same.identity, same.path, same.name) == (home.identity, home.path, home.name)
            assert same.directory(experiment) == home.directory(experiment)


def test_circular_links_to_home_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "one").symlink_to(tmp_path / "other")
    (tmp_path / "other").symlink_to(tmp_path / "one")
    with pytest.raises(EventLogError, match=r"symbolic links"):
        open_home(tmp_path / "one" / "home", create=True)


def test_write_ahead_log_is_found_if_the_database_is_a_link(tmp_path: Path) -> None:
    """SQLite puts the write-ahead log beside the file that the link leads to."""
    (tmp_path / "home").mkdir()
    (tmp_path / "disk").mkdir()
    (tmp_path / "home" / "ashwood.db").symlink_to(tmp_path / "disk" / "db")
    with open_home(tmp_path / "home", create=True) as home:
        home.create(full_spec(), at=1.0)
        assert wal_of(tmp_path / "home" / "ashwood.db") == tmp_path / "disk" / "db-wal"
        assert wal_of(tmp_path / "home" / "ashwood.db").exists()


@pytest.mark.parametrize("deleted", [True, False])
def test_experiment_that_ends_during_check_is_not_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deleted: bool
) -> None:
    with open_home(tmp_path, create=True) as home:
        experiment = home.store.create(full_spec(), at=1.0)
        home.store.log(experiment).append([Entry(2.0, DriverStarted(4), ())])
        record = home.store.record(experiment)
        assert home.is_interrupted(record)

        def end_meanwhile(_: int) -> bool:
            if deleted:
                home.store.delete(experiment)
            else:
                ended = EndExperiment(ExperimentState.COMPLETED, "the search is done")
                home.store.log(experiment).append([Entry(3.0, DriverStopped(), (ended,))])
            return False

        monkeypatch.setattr(home, "is_driven", end_meanwhile)
        assert not home.is_interrupted(record)
