"""What only SQLite has to do: files, power, full and read-only disks, damage."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from ashwood.errors import EventLogError
from ashwood.eventlog.sqlite import SqliteStore
from ashwood.testing.records import full_spec, telling_entries


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ashwood.db"


def test_commits_survive_a_power_loss(path: Path) -> None:
    with closing(SqliteStore(path)) as store:
        settings = [
            store._connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")
        ]
    assert settings == ["wal", 2]


def test_readers_see_a_running_experiment_and_do_not_block_it(path: Path) -> None:
    with closing(SqliteStore(path)) as writer, closing(SqliteStore(path)) as reader:
        log = writer.log(writer.create(full_spec(), at=1.0))
        log.append(telling_entries())
        reading = reader.log(1).read()
        next(reading)
        log.append(telling_entries())
        assert len(list(reading)) == len(telling_entries()) - 1
        assert len(list(reader.log(1).read())) == 2 * len(telling_entries())


def test_a_missing_entry_is_named(path: Path) -> None:
    with closing(SqliteStore(path)) as store:
        log = store.log(store.create(full_spec(), at=1.0))
        log.append(telling_entries())
        store._connection.execute("DELETE FROM entries WHERE seq = 3")
        with pytest.raises(EventLogError, match="entry 3 of experiment 1 is missing"):
            list(log.read())


@pytest.mark.parametrize("body", ['{"event":{"is":"Unheard"}}', "{", "[]", '{"event":{"is":"AttemptEnded"}}'])
def test_a_damaged_entry_is_named(path: Path, body: str) -> None:
    with closing(SqliteStore(path)) as store:
        log = store.log(store.create(full_spec(), at=1.0))
        log.append(telling_entries())
        store._connection.execute("UPDATE entries SET body = ? WHERE seq = 2", (body,))
        with pytest.raises(EventLogError, match="entry 2 of experiment 1 can't be used: the record is damaged"):
            list(log.read())


def test_records_of_a_newer_ashwood_are_refused(path: Path) -> None:
    with closing(SqliteStore(path)) as store:
        log = store.log(store.create(full_spec(), at=1.0))
        log.append(telling_entries())
        store._connection.execute("UPDATE entries SET version = 99 WHERE seq = 2")
        with pytest.raises(EventLogError, match=r"entry 2 .* upgrade Ashwood"):
            list(log.read())
        store._connection.execute("PRAGMA user_version = 99")
    with pytest.raises(EventLogError, match="upgrade Ashwood"):
        SqliteStore(path)


def test_files_of_others_are_left_alone(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE theirs (x)")
    with pytest.raises(EventLogError, match="another program"):
        SqliteStore(path)
    path.write_text("no database at all, but long enough to be looked at as one" * 20)
    with pytest.raises(EventLogError, match="no Ashwood store"):
        SqliteStore(path)


def test_a_directory_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(EventLogError, match="may you write to it"):
        SqliteStore(tmp_path / "nowhere" / "ashwood.db")
