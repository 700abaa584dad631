"""SQLite store: durability, damaged rows, old schemas, copies of the files, and full and read-only disks."""

import errno
import gc
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from ashwood.errors import DiskFull, EventLogError
from ashwood.eventlog.codec import VERSION
from ashwood.eventlog.lease import is_driven
from ashwood.eventlog.port import UnreadableRequest
from ashwood.eventlog.reserve import ReserveFile
from ashwood.eventlog.sqlite import SqliteStore
from ashwood.experiment.events import DriverStarted, KillRequested, PauseRequested
from ashwood.experiment.lifecycle import ExperimentState
from ashwood.testing.records import a_driver, edge_case_entries, full_spec
from tests.mounts import small_disk

LOGS = Path(__file__).parent / "logs"

APPEND = """
import sys
from pathlib import Path
from ashwood.eventlog.sqlite import SqliteStore
from ashwood.testing.records import a_driver, full_spec, edge_case_entries

store = SqliteStore(Path(sys.argv[1]))
log = store.log(store.create(full_spec(), at=1.0), token := store.take_lease(1, a_driver()))
print("appending", flush=True)
while True:
    log.append(edge_case_entries())
    store.beat(1, token)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ashwood.db"


def test_commits_use_wal_mode_and_synchronous_full(path: Path) -> None:
    with closing(SqliteStore(path)) as store:
        assert durability(store) == ["wal", 2]
        experiment = store.create(full_spec(), at=1.0)
        store.beat(experiment, store.take_lease(experiment, a_driver()))
        assert durability(store) == ["wal", 2]


def test_post_is_durable_and_does_not_block_the_driver(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver can commit during the fsync of `post`."""
    synced: list[int] = []
    with closing(SqliteStore(path)) as store, closing(SqliteStore(path)) as driver:
        log = driver.log(store.create(full_spec(), at=1.0))

        def fsync(file: int) -> None:
            assert driver.pending(1) == [(1, PauseRequested())]
            log.append(edge_case_entries())
            synced.append(os.fstat(file).st_ino)

        monkeypatch.setattr(os, "fsync", fsync)
        store.post(1, PauseRequested(), at=1.0)
        assert synced == [(path.parent / "ashwood.db-wal").stat().st_ino]
        assert durability(store) == ["wal", 2]


@pytest.mark.parametrize(("number", "kind"), [(errno.EIO, EventLogError), (errno.ENOSPC, DiskFull)])
def test_post_fails_if_fsync_fails(
    path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[Exception]
) -> None:
    def fsync(file: int) -> None:
        raise OSError(number, "fsync failed")

    monkeypatch.setattr(os, "fsync", fsync)
    with closing(SqliteStore(path)) as store:
        store.create(full_spec(), at=1.0)
        with pytest.raises(kind, match="fsync failed"):
            store.post(1, PauseRequested(), at=1.0)


def durability(store: SqliteStore) -> list[Any]:
    return [store._query(f"PRAGMA {name}")[0][0] for name in ("journal_mode", "synchronous")]


def test_reading_does_not_block_the_writer(path: Path) -> None:
    with closing(SqliteStore(path)) as writer, closing(SqliteStore(path)) as reader:
        log = writer.log(writer.create(full_spec(), at=1.0))
        log.append(edge_case_entries())
        reading = reader.log(1).read()
        next(reading)
        log.append(edge_case_entries())
        assert len(list(reading)) == len(edge_case_entries()) - 1
        assert len(list(reader.log(1).read())) == 2 * len(edge_case_entries())


# -- damage -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("DELETE FROM entries WHERE seq = 3", "entry 3 of experiment 1 is missing"),
        ("DELETE FROM entries WHERE seq >= 3", "entry 3 of experiment 1 is missing"),
        ("UPDATE entries SET body = replace(body, '/a/b c', '/a/b d') WHERE seq = 3", "entry 3 .* digest is wrong"),
        ("UPDATE entries SET body = '' WHERE seq = 3", "entry 3 .* digest is wrong"),
        ("UPDATE entries SET at = 2.5 WHERE seq = 3", "entry 3 .* digest is wrong"),
        ("UPDATE entries SET at = 'noon' WHERE seq = 3", "entry 3 .* damaged"),
        ("UPDATE entries SET version = 'two' WHERE seq = 3", "entry 3 .* damaged"),
        ("UPDATE entries SET digest = NULL WHERE seq = 3", "entry 3 .* digest is wrong"),
        ("UPDATE entries SET digest = digest + 1 WHERE seq = 3", "entry 3 .* digest is wrong"),
        ("UPDATE entries SET seq = -seq WHERE seq IN (3, 4)", "entry 3 of experiment 1 is missing"),
        ("UPDATE entries SET seq = 67 WHERE seq = 3", "entry 3 of experiment 1 is missing"),
        ("UPDATE entries SET seq = -3 WHERE seq = 3", "entry 3 of experiment 1 is missing"),
        ("UPDATE entries SET version = 99 WHERE seq = 3", "entry 3 .* upgrade Ashwood"),
        ("UPDATE entries SET version = 1, body = '{' WHERE seq = 3", "entry 3 .* is damaged"),
        ("UPDATE entries SET version = 1, body = '[]' WHERE seq = 3", "entry 3 .* is damaged"),
        ("""UPDATE entries SET version = 1, body = '{"event":{"is":"Unheard"}}' WHERE seq = 3""", "entry 3 .* damaged"),
        (
            """UPDATE entries SET version = 1, body = '{"event":{"is":"AttemptEnded"}}' WHERE seq = 3""",
            "entry 3 .* damaged",
        ),
    ],
)
def test_read_yields_entries_before_damage_and_names_damaged_entry(path: Path, damage: str, message: str) -> None:
    with closing(SqliteStore(path)) as store:
        log = store.log(store.create(full_spec(), at=1.0))
        log.append(edge_case_entries())
        store._connection.execute(damage)
        reading = log.read()
        assert [next(reading)[0], next(reading)[0]] == [1, 2]
        with pytest.raises(EventLogError, match=message) as raised:
            next(reading)
    assert str(path) in str(raised.value)
    assert "saved with: ashwood export 1 --until 2 --out FILE.ashwood" in str(raised.value)


def test_read_stops_at_first_entry_with_a_wrong_number(path: Path) -> None:
    """The next rows have the right numbers, but the log must not be read with a gap."""
    with closing(SqliteStore(path)) as store:
        log = store.log(store.create(full_spec(), at=1.0))
        log.append(edge_case_entries())
        query = store._query

        def wrong_number(sql: str, *values: object) -> list[Any]:
            # A damaged key does not change the position of its row, so the row is returned between its neighbours.
            rows = query(sql, *values)
            return [(67, *row[1:]) if row[0] == 3 and len(row) == 5 else row for row in rows]

        store._query = wrong_number  # type: ignore[method-assign]
        reading = log.read()
        assert [next(reading)[0], next(reading)[0]] == [1, 2]
        with pytest.raises(EventLogError, match="entry 3 of experiment 1 is missing"):
            next(reading)


@pytest.mark.parametrize("value", ["'x'", "x'ff00'", "1.5", "cast(x'7bff' AS TEXT)", "''", str(2**63 - 1)])
@pytest.mark.parametrize(
    "column", ["created_at", "name", "labels", "archived", "about_digest", "state", "summary", "state_digest"]
)
def test_damaged_experiment_column_does_not_break_the_list(path: Path, column: str, value: str) -> None:
    with closing(SqliteStore(path)) as store:
        for _ in range(2):
            store.log(store.create(full_spec(), at=1.0)).append(edge_case_entries(), summary={"fraction": 0.5})
        sound = store.record(2)
        store._connection.execute(f"UPDATE experiments SET {column} = {value} WHERE id = 1")
        damaged, other = store.experiments()
        assert other == sound
        assert damaged.damage is not None
        assert damaged.state is ExperimentState.ERRORED


@pytest.mark.parametrize("value", ["'x'", "x'ff00'", "1.5", "cast(x'7bff' AS TEXT)", "''"])
@pytest.mark.parametrize("column", ["head", "beat", "driver", "driver_digest", "seen"])
def test_damaged_lease_column_does_not_break_the_log(path: Path, column: str, value: str) -> None:
    with closing(SqliteStore(path)) as store:
        token = store.take_lease(store.create(full_spec(), at=1.0), a_driver())
        log = store.log(1, token)
        log.append(edge_case_entries())
        store._connection.execute(f"UPDATE logs SET {column} = {value}")
        lease = store.lease(1)
        assert lease is not None
        assert is_driven(store, 1) in (True, False)
        assert len(list(store.log(1).read())) == len(edge_case_entries())
        assert store.log(1, token).append(edge_case_entries()) == 2 * len(edge_case_entries())


@pytest.mark.parametrize(
    "value", ["'x'", "x'ff00'", "1.5", "cast(x'7bff' AS TEXT)", "''", "-1", "1e300", str(2**63 - 1)]
)
def test_damaged_token_is_replaced_by_a_new_one(path: Path, value: str) -> None:
    with closing(SqliteStore(path)) as store:
        store.release_lease(1, store.take_lease(store.create(full_spec(), at=1.0), a_driver()))
        store._connection.execute(f"UPDATE logs SET token = {value}")
        token = store.take_lease(1, a_driver())
        assert token > 1
        assert store.log(1, token).append(edge_case_entries()) == len(edge_case_entries())
        store.release_lease(1, token)
        assert store.take_lease(1, a_driver()) == token + 1


@pytest.mark.parametrize("value", ["'x'", "x'ff00'", "1.5", "cast(x'7bff' AS TEXT)", "''", str(2**63 - 1)])
@pytest.mark.parametrize("column", ["at", "version", "body", "digest"])
def test_damaged_request_column_makes_request_unreadable(path: Path, column: str, value: str) -> None:
    with closing(SqliteStore(path)) as store:
        request = store.post(store.create(full_spec(), at=1.0), PauseRequested(), at=1.0)
        store._connection.execute(f"UPDATE requests SET {column} = {value}")
        [(number, unreadable)] = store.pending(1)
        assert number == request
        assert isinstance(unreadable, UnreadableRequest)


@pytest.mark.parametrize("value", ["'x'", "x'ff00'", "1.5", "cast(x'7bff' AS TEXT)", "''"])
@pytest.mark.parametrize("column", ["version", "spec", "digest"])
def test_damaged_spec_column_is_reported_with_experiment(path: Path, column: str, value: str) -> None:
    with closing(SqliteStore(path)) as store:
        store.create(full_spec(), at=1.0)
        store._connection.execute(f"UPDATE experiments SET {column} = {value}")
        with pytest.raises(EventLogError, match=r"experiment 1: .* is damaged"):
            store.spec(1)


@pytest.mark.parametrize("value", ["'x'", "x'ff00'", "1.5", "cast(x'7bff' AS TEXT)", "''"])
@pytest.mark.parametrize("column", ["seq", "at", "version", "body", "digest"])
def test_damaged_entry_column_is_reported_with_entry(path: Path, column: str, value: str) -> None:
    with closing(SqliteStore(path)) as store:
        log = store.log(store.create(full_spec(), at=1.0))
        log.append(edge_case_entries())
        store._connection.execute(f"UPDATE entries SET {column} = {value} WHERE seq = 3")
        with pytest.raises(EventLogError, match=r"entry [23] of experiment 1"):
            list(log.read())


def test_swapped_entries_are_detected(path: Path) -> None:
    with closing(SqliteStore(path)) as store:
        log = store.log(store.create(full_spec(), at=1.0))
        log.append(edge_case_entries())
        for old, new in ((3, -1), (4, 3), (-1, 4)):
            store._connection.execute("UPDATE entries SET seq = ? WHERE seq = ?", (new, old))
        with pytest.raises(EventLogError, match=r"entry 3 .* digest is wrong"):
            list(log.read())


def test_changed_spec_is_reported_with_experiment(path: Path) -> None:
    with closing(SqliteStore(path)) as store:
        store.create(full_spec(), at=1.0)
        store._connection.execute("UPDATE experiments SET spec = replace(spec, '0.9', '0.8')")
        with pytest.raises(EventLogError, match=r"experiment 1: .* digest is wrong"):
            store.spec(1)
        store._connection.execute("UPDATE experiments SET version = 99")
        with pytest.raises(EventLogError, match=r"experiment 1: .* upgrade Ashwood"):
            store.spec(1)


def test_file_of_newer_ashwood_is_refused(path: Path) -> None:
    with closing(SqliteStore(path)) as store:
        store._connection.execute("PRAGMA user_version = 99")
    with pytest.raises(EventLogError, match="upgrade Ashwood"):
        SqliteStore(path)


def test_file_of_another_program_is_refused(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE theirs (x)")
    with pytest.raises(EventLogError, match="another program"):
        SqliteStore(path)
    path.write_text("not a database, but long enough for the header of one" * 20)
    with pytest.raises(EventLogError, match="not an Ashwood store"):
        SqliteStore(path)


def test_error_asks_to_check_missing_directory(tmp_path: Path) -> None:
    with pytest.raises(EventLogError, match="check that the directory exists and that you may write to it"):
        SqliteStore(tmp_path / "nowhere" / "ashwood.db")


# -- old versions -----------------------------------------------------------------------------


def test_store_of_version_1_is_migrated(path: Path) -> None:
    shutil.copy(LOGS / "version-1.db", path)
    with closing(SqliteStore(path)) as store:
        check_version_1(store)
        log = store.log(3, store.take_lease(3, a_driver()))
        assert log.append(edge_case_entries()) == 51 + len(edge_case_entries())
        store.post(3, PauseRequested(), at=1.0)
    with closing(SqliteStore(path)) as store:
        entries = [entry for _, entry in store.log(3).read()]
        assert [repr(entry) for entry in entries[51:]] == [repr(entry) for entry in edge_case_entries()]
        store._connection.execute("DELETE FROM entries WHERE experiment = 1 AND seq > 400")
        with pytest.raises(EventLogError, match="entry 401 of experiment 1 is missing"):
            list(store.log(1).read())


@pytest.mark.parametrize("version", [2, 3, 4])
def test_home_of_schema_2_is_migrated(path: Path, version: int) -> None:
    """Old rows have no digests, so they are read without a check; new rows have digests."""
    shutil.copy(LOGS / f"version-{version}.db", path)
    with closing(sqlite3.connect(path)) as old:
        assert old.execute("PRAGMA user_version").fetchone() == (2,)
        old.execute(
            'INSERT INTO requests (experiment, at, version, body) VALUES (1, 1.0, 2, \'{"is":"KillRequested"}\')'
        )
        old.commit()
    with closing(SqliteStore(path)) as store:
        records = store.experiments()
        assert records
        assert all(record.damage is None for record in records)
        assert [request for _, request in store.pending(1)] == [KillRequested()]
        for record in records:
            log = store.log(record.id)
            assert sum(1 for _ in log.read()) == log.last() > 0
        store.annotate(1, name="new")
        store.set_note(1, 2, "note")
        assert store.notes(1) == {2: "note"}
        store.log(1).append([], summary={})
    with closing(SqliteStore(path)) as store:
        assert store.record(1) == records[0]._replace(name="new", summary={})
        store._connection.execute("UPDATE experiments SET name = 'x', summary = '{\"fraction\":1}'")
        damage = store.record(1).damage
        assert damage is not None
        assert "name" in damage
        assert "summary" in damage


def check_version_1(store: SqliteStore) -> None:
    records = store.experiments()
    assert [record.state for record in records] == [
        ExperimentState.COMPLETED,
        ExperimentState.PAUSED,
        ExperimentState.RUNNING,
    ]
    assert {record.labels for record in records} == {("old",)}
    assert not any(record.archived for record in records)
    for record, length in zip(records, (494, 67, 51), strict=True):
        entries = list(store.log(record.id).read())
        assert [seq for seq, _ in entries] == list(range(1, length + 1))
        assert entries[0][1].event == DriverStarted(2)
        assert store.spec(record.id).search.max_trials in (60, 8)
        assert store.spec(record.id).checkpoint_policy is None
        assert store.lease(record.id) is None
        assert store.pending(record.id) == []


def test_every_codec_version_has_a_log() -> None:
    """Each log was written by the Ashwood of its time, to test that changes of record shapes do not break old logs."""
    versions = {int(file.stem.removeprefix("version-")) for file in LOGS.glob("version-*.db")}
    assert set(range(1, VERSION)) <= versions


# -- copies -----------------------------------------------------------------------------------


def test_copy_during_writes_is_a_consistent_store(path: Path, tmp_path: Path) -> None:
    orders = (("", "-wal"), ("-wal", ""), ("",))
    lengths: dict[tuple[str, ...], list[int]] = {order: [] for order in orders}
    with a_driver_that_appends(path), closing(SqliteStore(path)) as store:
        for number in range(5):
            for order in orders:
                target = tmp_path / f"copy-{number}{''.join(order)}.db"
                for ending in order:
                    shutil.copy(f"{path}{ending}", f"{target}{ending}")
                    wait_for_commits(store, 10)  # Simulates a slow copy program.
                lengths[order].append(length_of(target))
    for order in orders[:2]:
        assert lengths[order] == sorted(lengths[order])
        assert lengths[order][-1] > 0
    assert length_of(path) >= max(lengths[orders[0]] + lengths[orders[1]])


@contextmanager
def a_driver_that_appends(path: Path) -> Iterator[None]:
    with subprocess.Popen([sys.executable, "-c", APPEND, str(path)], stdout=subprocess.PIPE, text=True) as driver:
        try:
            assert driver.stdout is not None
            assert driver.stdout.readline() == "appending\n"
            yield
        finally:
            driver.kill()


def wait_for_commits(store: SqliteStore, count: int) -> None:
    def head() -> int:
        return int(store._query("SELECT head FROM logs")[0][0])

    deadline, wanted = time.monotonic() + 60, head() + count * len(edge_case_entries())
    while head() < wanted:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def length_of(path: Path) -> int:
    """Return the number of entries in a store, and check that it is consistent."""
    with closing(SqliteStore(path)) as store:
        assert store._query("PRAGMA integrity_check") == [("ok",)]
        if not store.experiments():
            return 0
        length = sum(1 for _ in store.log(1).read())
    assert length % len(edge_case_entries()) == 0  # A commit is either complete or absent.
    return length


# -- full disks -------------------------------------------------------------------------------


def test_full_disk_raises_disk_full_and_loses_nothing(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk, closing(SqliteStore(disk.path / "ashwood.db")) as store:
        experiment = store.create(full_spec(), at=1.0)
        token = store.take_lease(experiment, a_driver())
        log = store.log(experiment, token)
        written = fill(lambda: log.append(edge_case_entries() * 5))
        with pytest.raises(DiskFull):
            log.append(edge_case_entries() * 5)
        assert len(list(log.read())) == written * 5 * len(edge_case_entries())
        disk.resize("4m")
        assert log.append(edge_case_entries() * 5) == (written + 1) * 5 * len(edge_case_entries())
        assert len(list(log.read())) == (written + 1) * 5 * len(edge_case_entries())
        assert store._query("PRAGMA integrity_check") == [("ok",)]


def fill(write: Callable[[], object]) -> int:
    """Write until the disk is full, and return the number of successful calls."""
    for times in range(100_000):
        try:
            write()
        except DiskFull as error:
            assert "free some space" in str(error)  # noqa: PT017
            return times
    raise AssertionError("the disk did not become full")


def test_making_store_on_full_disk_raises_disk_full(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        filler = disk.path / "filler"
        with pytest.raises(OSError, match="No space"):
            filler.write_bytes(bytes(2 << 20))
        with pytest.raises(DiskFull):
            SqliteStore(disk.path / "ashwood.db")
        filler.unlink()
        with closing(SqliteStore(disk.path / "ashwood.db")) as store:
            assert store.create(full_spec(), at=1.0) == 1


def test_released_reserve_file_makes_room_for_entries(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk, closing(SqliteStore(disk.path / "ashwood.db")) as store:
        reserve = ReserveFile(disk.path / "ballast", 256 << 10)
        reserve.reserve()
        log = store.log(store.create(full_spec(), at=1.0))
        fill(lambda: log.append(edge_case_entries() * 5))
        fill(lambda: log.append(edge_case_entries()[:1]))
        reserve.release()
        log.append(edge_case_entries())
        fill(lambda: log.append(edge_case_entries() * 5))
        with pytest.raises(DiskFull, match=r"less than 0\.25 MiB of free space"):
            reserve.reserve()
        assert not (disk.path / "ballast").exists()
        reserve.release()


def test_reserve_writes_file_once_and_replaces_short_file(tmp_path: Path) -> None:
    reserve = ReserveFile(tmp_path / "ballast", 1 << 16)
    reserve.reserve()
    first = (tmp_path / "ballast").stat()
    assert first.st_blocks * 512 >= 1 << 16
    reserve.reserve()
    assert (tmp_path / "ballast").stat().st_mtime_ns == first.st_mtime_ns
    (tmp_path / "ballast").write_bytes(b"too short")
    reserve.reserve()
    assert (tmp_path / "ballast").stat().st_size == 1 << 16
    with pytest.raises(EventLogError, match="check that you may write to its directory"):
        ReserveFile(tmp_path / "nowhere" / "ballast").reserve()


# -- read-only disks --------------------------------------------------------------------------


def test_store_on_read_only_disk_can_be_read(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        with closing(SqliteStore(disk.path / "ashwood.db")) as store:
            store.log(store.create(full_spec(), at=1.0)).append(edge_case_entries())
        disk.forbid_writing()
        with closing(SqliteStore(disk.path / "ashwood.db")) as store:
            assert len(list(store.log(1).read())) == len(edge_case_entries())
            assert store.spec(1) == full_spec()
            with pytest.raises(EventLogError, match="check that the directory exists and that you may write to it"):
                store.log(1).append(edge_case_entries())
            assert len(list(store.log(1).read())) == len(edge_case_entries())


def test_old_store_on_read_only_disk_can_be_read(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        shutil.copy(LOGS / "version-1.db", disk.path / "ashwood.db")
        disk.forbid_writing()
        with closing(SqliteStore(disk.path / "ashwood.db")) as store:
            check_version_1(store)
            with pytest.raises(EventLogError, match="check that the directory exists and that you may write to it"):
                store.annotate(1, name="new")


def test_write_ahead_log_on_read_only_disk_is_an_error(tmp_path: Path) -> None:
    with closing(SqliteStore(tmp_path / "ashwood.db")) as store, small_disk(tmp_path / "disk") as disk:
        store.create(full_spec(), at=1.0)
        for ending in ("", "-wal"):
            shutil.copy(tmp_path / f"ashwood.db{ending}", disk.path / f"ashwood.db{ending}")
        disk.forbid_writing()
        with pytest.raises(EventLogError, match=r"ashwood\.db-wal .* copy both files"):
            SqliteStore(disk.path / "ashwood.db")


def test_unreferenced_store_closes_its_connection(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "ashwood.db")
    connection = store._connection
    del store
    gc.collect()
    with pytest.raises(sqlite3.ProgrammingError, match="closed database"):
        connection.execute("SELECT 1")
