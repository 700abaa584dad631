"""Head files: missing entries of a log are detected and named."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ashwood.errors import EventLogError, NotFound
from ashwood.eventlog import head
from ashwood.eventlog.head import HeadedLog, head_path, read_head
from ashwood.eventlog.home import Home, open_home
from ashwood.eventlog.sqlite import SqliteStore
from ashwood.experiment.entry import Entry
from ashwood.testing.records import edge_case_entries, full_spec
from tests.postgres import PostgresServer

LENGTH = len(edge_case_entries())


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with open_home(tmp_path, create=True) as opened:
        opened.directory(opened.store.create(full_spec(), at=1.0))
        yield opened


def backup(home: Home, to: Path) -> None:
    """Copy the database of a home in its present state."""
    assert isinstance(home.store, SqliteStore)
    with closing(SqliteStore(to)) as copy:
        home.store._connection.backup(copy._connection)


def restore(home: Home, copy: Path) -> Home:
    home.close()
    for file in home.path.glob("ashwood.db*"):
        file.unlink()
    shutil.copy(copy, home.path / "ashwood.db")
    return open_home(home.path)


def test_check_accepts_log_that_contains_the_head(home: Home) -> None:
    with home.log(1) as log:
        assert log.check() is None
        log.append(edge_case_entries())
    assert log.last() == LENGTH
    written = home.log(1).check()
    assert written is not None
    assert written.seq == LENGTH
    home.store.log(1).append(
        edge_case_entries()
    )  # A driver that is killed does not write the head for its last entries.
    assert home.log(1).check() == written
    assert home.missing(1) is None


def test_head_is_written_at_most_once_a_second(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr("ashwood.eventlog.head.os.fsync", synced.append)
    now = 100.0
    monkeypatch.setattr("ashwood.eventlog.head.time.monotonic", lambda: now)
    with home.log(1) as log:
        for _ in range(10):
            log.append(edge_case_entries())
        first, path = read_head(head_path(home.path, 1)), head_path(home.path, 1)
        assert first is not None
        assert first.seq == LENGTH
        assert len(synced) == 2  # The directory and the file, once each.
        now += head.PERIOD
        log.append(edge_case_entries())
        second = read_head(path)
        assert second is not None
        assert second.seq == 11 * LENGTH
        log.append(edge_case_entries()[:1])
    last = read_head(path)
    assert last is not None
    assert last.seq == 11 * LENGTH + 1
    assert len(synced) == 4


def test_check_names_missing_entries_of_restored_database(home: Home, tmp_path: Path) -> None:
    with home.log(1) as log:
        log.append(edge_case_entries()[:2])
        backup(home, tmp_path / "backup.db")
        log.append(edge_case_entries()[2:])
    with restore(home, tmp_path / "backup.db") as older:
        with pytest.raises(EventLogError, match=r"experiment 1: entries 3 to 6 are missing") as raised:
            older.log(1).check()
        message = str(raised.value)
        assert "ashwood export 1 --until 2 --out FILE.ashwood" in message
        assert message == f"experiment 1: {older.missing(1)}"
        assert older.damage(older.store.record(1)) == older.missing(1)
        head_path(older.path, 1).unlink()
        older.log(1).check()


def test_check_rejects_older_log_that_was_continued(home: Home, tmp_path: Path) -> None:
    with home.log(1) as log:
        log.append(edge_case_entries()[:2])
        backup(home, tmp_path / "backup.db")
        log.append(edge_case_entries()[2:])
    with restore(home, tmp_path / "backup.db") as older:
        older.store.log(1).append([Entry(9.0, *entry[1:]) for entry in edge_case_entries()])
        with pytest.raises(EventLogError, match=r"entry 6 is not the one that .*head names"):
            older.log(1).check()


def test_check_numbers_names_experiments_missing_from_database(home: Home, tmp_path: Path) -> None:
    backup(home, tmp_path / "backup.db")
    for number in (2, 3):
        home.directory(home.store.create(full_spec(), at=1.0))
        with home.log(number) as log:
            log.append(edge_case_entries())
    home.check_numbers()
    with restore(home, tmp_path / "backup.db") as older:
        with pytest.raises(EventLogError, match="does not have experiments 2, 3, but their files are in"):
            older.check_numbers()
        with pytest.raises(NotFound, match=r"no experiment 3 .*Its files are in .*experiments/3.*Restore both"):
            older.store.spec(3)
    for file in home.path.glob("ashwood.db*"):
        file.unlink()
    with pytest.raises(EventLogError, match="does not have experiments 2, 3, but their files are in"):
        open_home(home.path)
    assert not (home.path / "ashwood.db").exists()
    left_out = list[int]()
    with open_home(home.path, create=True) as new:
        numbers = [new.create(full_spec(), at=1.0, left_out=left_out.append) for _ in range(2)]
    assert (numbers, left_out) == ([1, 4], [2, 3])


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 128, b"x", b"6 4.0 4 12 13\n", b"\xff" * 128, b"1 " * 64, b"9" * 500, b"1e400 1 1 1 1"]
)
def test_damaged_head_is_ignored(home: Home, content: bytes) -> None:
    with home.log(1) as log:
        log.append(edge_case_entries())
    head_path(home.path, 1).write_bytes(content)
    assert home.log(1).check() is None
    with home.log(1) as log:
        log.append(edge_case_entries())
    written = home.log(1).check()
    assert written is not None
    assert written.seq == 2 * LENGTH


def test_pipe_or_link_in_place_of_head_is_ignored(home: Home, tmp_path: Path) -> None:
    path = head_path(home.path, 1)
    os.mkfifo(path)
    with home.log(1) as log:
        assert log.check() is None
        log.append(edge_case_entries())
    path.unlink()
    (tmp_path / "elsewhere").write_text("precious")
    path.symlink_to(tmp_path / "elsewhere")
    with home.log(1) as log:
        assert log.check() is None
        log.append(edge_case_entries())
    assert (tmp_path / "elsewhere").read_text() == "precious"


def test_append_succeeds_if_head_cannot_be_written(home: Home) -> None:
    shutil.rmtree(home.path / "experiments")
    with home.log(1) as log:
        assert log.append(edge_case_entries()) == LENGTH


def test_check_names_missing_entries_of_older_postgres_dump(
    postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASHWOOD_FILES", str(tmp_path))
    url = postgres.fresh_database()
    with open_home(url, create=True) as home:
        home.directory(home.store.create(full_spec(), at=1.0))
        with home.log(1) as log:
            log.append(edge_case_entries())
        home.check_numbers()
    with open_home(url) as home:
        store = home.store
        store._query("DELETE FROM entries WHERE seq > 2 RETURNING 1")  # type: ignore[attr-defined]
        store._query("UPDATE logs SET head = 2 RETURNING 1")  # type: ignore[attr-defined]
        with pytest.raises(EventLogError, match="entries 3 to 6 are missing"):
            home.log(1).check()
        # Another machine deletes the experiment; its files here stay, and are no error.
        store.delete(1)
        home.check_numbers()


def test_head_of_another_codec_version_is_compared_by_time(home: Home) -> None:
    entry = edge_case_entries()[0]
    written = head.Head.of(1, entry)
    assert written.names(1, entry)
    assert not written._replace(digest=1).names(1, entry)
    assert written._replace(digest=1, version=written.version - 1).names(1, entry)
    assert not written._replace(version=written.version - 1).names(1, entry._replace(at=2.0))
    assert isinstance(home.log(1), HeadedLog)
