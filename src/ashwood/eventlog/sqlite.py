"""The durable record in one SQLite file: write-ahead log, one fsync a commit.

Readers never block the writer, nor the writer them.  ``synchronous=FULL`` makes a commit
survive a power loss, not only the death of the process.

What is committed stays in the write-ahead log (``-wal``) until that is large, so the main
file hardly ever changes while a driver runs: both files copied at any time, in any order,
are a store as it was at one time.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from ashwood.errors import DiskFull, EventLogError
from ashwood.eventlog.ballast import FULL, has_room
from ashwood.eventlog.head import head_path
from ashwood.eventlog.port import ExperimentId
from ashwood.eventlog.sql import SqlStore, Sync, Transaction
from ashwood.eventlog.wal import Tail, close_deleted, cut_off, find_tail, has_wal, shm_of, wal_of
from ashwood.trial.sharing import how_to_share, owner_name, share

APPLICATION_ID: Final = 0x41736877  # "Ashw"
_BUSY_SECONDS: Final = 30.0
_WAL_PAGES: Final = 16_384  # of 4 KiB: 64 MiB
_MOST_NAMED: Final = 20
"""How many experiments an error message names."""

# One script a schema version; a store runs those that it hasn't yet.
_MIGRATIONS: Final = (
    """
    CREATE TABLE experiments (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        created_at REAL NOT NULL,
        name TEXT NOT NULL,
        version INTEGER NOT NULL,
        spec TEXT NOT NULL,
        state TEXT NOT NULL,
        summary TEXT NOT NULL
    );
    CREATE TABLE entries (
        experiment INTEGER NOT NULL REFERENCES experiments (id) ON DELETE CASCADE,
        seq INTEGER NOT NULL,
        at REAL NOT NULL,
        version INTEGER NOT NULL,
        body TEXT NOT NULL,
        PRIMARY KEY (experiment, seq)
    ) WITHOUT ROWID;
    """,
    """
    ALTER TABLE experiments ADD COLUMN digest INTEGER;
    ALTER TABLE experiments ADD COLUMN labels TEXT NOT NULL DEFAULT '[]';
    ALTER TABLE experiments ADD COLUMN archived INTEGER NOT NULL DEFAULT 0;
    UPDATE experiments SET labels = labels_of(spec);
    ALTER TABLE entries ADD COLUMN digest INTEGER;
    CREATE TABLE logs (
        experiment INTEGER PRIMARY KEY REFERENCES experiments (id) ON DELETE CASCADE,
        head INTEGER NOT NULL DEFAULT 0,
        token INTEGER NOT NULL DEFAULT 0,
        beat INTEGER NOT NULL DEFAULT 0,
        driver TEXT,
        seen REAL
    );
    INSERT INTO logs (experiment, head)
        SELECT id, (SELECT coalesce(max(seq), 0) FROM entries WHERE experiment = id) FROM experiments;
    CREATE TABLE requests (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        experiment INTEGER NOT NULL REFERENCES experiments (id) ON DELETE CASCADE,
        at REAL NOT NULL,
        version INTEGER NOT NULL,
        body TEXT NOT NULL,
        answered INTEGER NOT NULL DEFAULT 0,
        refused TEXT
    );
    CREATE INDEX unanswered ON requests (experiment, id) WHERE answered = 0;
    """,
    """
    ALTER TABLE experiments ADD COLUMN about_digest INTEGER;
    ALTER TABLE experiments ADD COLUMN state_digest INTEGER;
    ALTER TABLE logs ADD COLUMN driver_digest INTEGER;
    ALTER TABLE requests ADD COLUMN digest INTEGER;
    """,
)

T = TypeVar("T")

# A damaged text that is not UTF-8 must be found by its digest, and not fail all rows that are read with it.
_text: Final = partial(str, encoding="utf-8", errors="replace")


class SqliteStore(SqlStore):
    """All experiments of a home in one file; see `ashwood.eventlog.port.Store`.

    Attributes:
        path: the file.
        unverified: what of the write-ahead log could not be verified, or None if all of it could.
        damage: damage of the write-ahead log, if the file was opened in spite of it; it is then read-only.
    """

    NOW = "((julianday('now') - 2440587.5) * 86400.0)"

    def __init__(self, path: Path, *, salvage: bool = False) -> None:
        """Open the file, made if it isn't there.  Where it can't be written, it can be read.

        Args:
            path: the file.
            salvage: whether to open a file with a damaged write-ahead log, for reading what precedes the damage.

        Raises:
            DiskFull: there is no room to make or migrate it.
            EventLogError: it can't be opened, its write-ahead log is damaged, or it is no store of this or an older
                Ashwood.
        """
        self.path = path
        self.name = str(path)
        self.unverified: str | None = None
        self.damage: EventLogError | None = None
        # The reader stays open until the other connection has read, so that SQLite does not check the log again.
        with _explained(path), ExitStack() as stack:
            _share_files(path)
            reader = _open_reader(path)
            tail = None
            if reader is not None:
                stack.callback(reader.close)
                tail = find_tail(path)
            if tail is not None and tail.has_commit:
                self.unverified = f"{wal_of(path)} ends with a commit that is damaged or incomplete, and was not read"
            if reader is not None and tail is not None and tail.is_damage:
                self.damage = _damaged(path, tail, reader)
                if not salvage:
                    raise self.damage
                # SQLite would delete what follows the damage when a connection that can write is closed.
                stack.pop_all()
                self._connection = reader
            else:
                self._connection = _connect(path)
            try:
                self._prepare()
                self._opened = _file_at(path)
            except BaseException:
                self._connection.close()
                raise
        # An experiment of the Python API is never closed, so its connection closes with the store.
        weakref.finalize(self, _close, self._connection).atexit = False

    def close(self) -> None:
        """Close the file."""
        self._connection.close()
        close_deleted()

    def is_gone(self) -> bool:
        """Return whether the file was deleted or replaced since it was opened; SQLite does not report it."""
        return _file_at(self.path) != self._opened

    def drop_damaged_commits(self, aside: Path) -> None:
        """Give up the commits from the damage of the write-ahead log on; open the store anew after that.

        Args:
            aside: the file for a copy of the whole write-ahead log.

        Raises:
            OSError: it cannot be written.
        """
        cut_off(self.path, aside)

    def integrity(self) -> Sequence[str]:
        """Return what SQLite finds wrong with the structure of the file, at most some lines."""
        try:
            rows = self._connection.execute(f"PRAGMA integrity_check({_MOST_NAMED})").fetchall()
        except sqlite3.Error as error:
            return [str(error)]
        return [line for (text,) in rows for line in str(text).splitlines() if line != "ok" and line[:3] != "***"]

    def _hint(self, experiment: ExperimentId) -> str:
        """Return a hint if the experiment's files are in the home."""
        head = head_path(self.path.parent, experiment)
        if not head.exists():
            return ""
        return (
            f". Its files are in {head.parent}: was {self.path.name}, or {wal_of(self.path).name}, deleted or replaced "
            "by an older one? Restore both"
        )

    def _check_there(self, cause: EventLogError | None = None) -> None:
        if self.is_gone():
            raise EventLogError(
                f"{self.path} was deleted or replaced while this process used it: nothing more can be recorded"
            ) from cause

    def _query(self, sql: str, *values: object) -> list[Any]:
        try:
            with _explained(self.path):
                return self._connection.execute(sql, values).fetchall()
        except EventLogError as error:
            self._check_there(error)
            raise

    def _commit(self, work: Callable[[Transaction], T], sync: Sync = Sync.WITHIN) -> T:
        run = self._connection.execute
        self._check_there()
        with _explained(self.path):
            if sync is not Sync.WITHIN:
                run("PRAGMA synchronous = NORMAL")
            try:
                run("BEGIN IMMEDIATE")
                result = work(_Transaction(self._connection))
                run("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    run("ROLLBACK")
                raise
            finally:
                if sync is not Sync.WITHIN:
                    run("PRAGMA synchronous = FULL")
            if sync is Sync.AFTER:
                self._sync()
        return result

    def _sync(self) -> None:
        """What a commit with ``synchronous=FULL`` does, but without keeping others from writing meanwhile."""
        wal = os.open(wal_of(self.path), os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(wal)
        finally:
            os.close(wal)

    def _prepare(self) -> None:
        run = self._connection.execute
        found = run("PRAGMA application_id").fetchone()[0]
        tables = run("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if found != APPLICATION_ID and (found or tables):
            raise EventLogError(f"{self.path} is an SQLite file of another program")
        done = run("PRAGMA user_version").fetchone()[0]
        if done > len(_MIGRATIONS):
            raise EventLogError(f"{self.path} was written by a newer Ashwood: upgrade Ashwood to read it")
        if done < len(_MIGRATIONS):
            if done and _is_read_only(self._connection, done):
                self._read_a_copy()
            else:
                if run("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
                    raise EventLogError(
                        f"{self.path}: its file system can't do what SQLite's write-ahead log needs, as some "
                        "network file systems can't; choose a local --home, or PostgreSQL"
                    )
                self._migrate()
                # From here on the main file is a store by itself, whatever becomes of the other.
                run("PRAGMA wal_checkpoint(PASSIVE)")
        run = self._connection.execute
        run(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}")
        run("PRAGMA synchronous = FULL")
        run("PRAGMA foreign_keys = ON")

    def _migrate(self) -> None:
        self._connection.create_function("labels_of", 1, _labels_of, deterministic=True)
        run = self._connection.execute
        run("BEGIN IMMEDIATE")
        # Read again under the lock: another process may have been faster.
        done = run("PRAGMA user_version").fetchone()[0]
        for script in _MIGRATIONS[done:]:
            for statement in script.split(";"):
                run(statement)
        run(f"PRAGMA application_id = {APPLICATION_ID}")
        run(f"PRAGMA user_version = {len(_MIGRATIONS)}")
        run("COMMIT")

    def _read_a_copy(self) -> None:
        """An older file that can't be brought up to date where it is: its copy in memory can."""
        copy = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        copy.text_factory = _text
        with contextlib.closing(self._connection):
            self._connection.backup(copy)
        self._connection = copy
        self._migrate()
        copy.execute("PRAGMA query_only = ON")


class _Transaction:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def run(self, sql: str, *values: object) -> list[Any]:
        return self._connection.execute(sql, values).fetchall()

    def run_many(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        self._connection.executemany(sql, rows)

    def insert(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        values = ", ".join("?" * len(columns))
        self.run_many(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({values})", rows)  # noqa: S608


def _share_files(path: Path) -> None:
    """Make the file if there is none, and give it and those that SQLite puts beside it the rights of their directory.

    SQLite gives the files that it makes the rights of the main file.

    Raises:
        EventLogError: this user may not read the file, or may write its directory but not the file.
    """
    with contextlib.suppress(OSError):  # It exists, or SQLite says why it cannot be made.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
    beside = [file for file in (wal_of(path), shm_of(path)) if file.exists()]
    for file in (path, *beside):
        share(file)
    if not path.exists() or os.access(path, os.R_OK | os.W_OK):
        return
    if not os.access(path, os.R_OK):
        raise EventLogError(f"{path}: you may not read it; it belongs to {owner_name(path)}, who can allow that")
    if os.access(path.parent, os.W_OK):
        # SQLite would make files beside it that belong to this user, so that the owner could not write any more.
        raise EventLogError(
            f"{path}: you may write its directory but not the file, and reading it that way would lock out its owner. "
            f"Ask {owner_name(path)} to share it with the group: chmod -R g+wX {path.parent}"
        )


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    connection.text_factory = _text
    try:
        connection.execute("SELECT count(*) FROM sqlite_master")
    except sqlite3.OperationalError as error:
        connection.close()
        if _code(error) not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY) or os.access(path.parent, os.W_OK):
            raise
        return _connect_unwritable(path)
    except BaseException:
        connection.close()
        raise
    return connection


def _open_reader(path: Path) -> sqlite3.Connection | None:
    """Return a connection that has read, or None if there is no write-ahead log.

    It cannot write.  So it leaves the write-ahead log as it is, also when it is closed as the last connection.
    """
    if not has_wal(path):
        return None
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro",
        uri=True,
        timeout=_BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )
    connection.text_factory = _text
    try:
        connection.execute("SELECT count(*) FROM sqlite_master")
    except sqlite3.Error:  # What is wrong is said when the database is opened for writing.
        connection.close()
        return None
    return connection


def _damaged(path: Path, tail: Tail, reader: sqlite3.Connection) -> EventLogError:
    known: list[tuple[object, object]] = []
    with contextlib.suppress(sqlite3.Error):
        known = reader.execute("SELECT experiment, max(seq) FROM entries GROUP BY experiment").fetchall()
    saved = ", ".join(f"--until {last} for experiment {experiment}" for experiment, last in known[-_MOST_NAMED:])
    if len(known) > _MOST_NAMED:
        saved = f"{saved} (the last {_MOST_NAMED} of {len(known)} experiments)"
    save = f", or save what was recorded before with: ashwood export ID --until N --out FILE.ashwood ({saved})"
    return EventLogError(
        f"{wal_of(path)}: frame {tail.first} of {tail.last} is damaged, so the commits from there on cannot be read. "
        f"Nothing was changed; restore {path.name} and {wal_of(path).name} from a backup{save if known else ''}"
    )


def _close(connection: sqlite3.Connection) -> None:
    # The garbage collector may call this in any thread, which is why connections do not check their thread.
    with contextlib.suppress(sqlite3.ProgrammingError):
        connection.close()


def _file_at(path: Path) -> tuple[int, int] | None:
    """Return the identity (device, inode) of the file at a path, or None if there is no file."""
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_dev, about.st_ino


def _connect_unwritable(path: Path) -> sqlite3.Connection:
    """Where the files through which processes share a store can't be made, it doesn't change either."""
    if has_wal(path):
        raise EventLogError(
            f"{path}: {path.parent} can't be written, and what is in {wal_of(path).name} can't be read without: "
            "copy both files to a directory that can be written, and name that with --home"
        )
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?immutable=1", uri=True, isolation_level=None, check_same_thread=False
    )
    connection.text_factory = _text
    return connection


def _is_read_only(connection: sqlite3.Connection, user_version: int) -> bool:
    try:
        # Writes what is there: BEGIN IMMEDIATE takes what it can get, and says nothing.
        connection.execute(f"PRAGMA user_version = {user_version}")
    except sqlite3.OperationalError as error:
        if _code(error) != sqlite3.SQLITE_READONLY:
            raise
        return True
    return False


def _labels_of(spec: str) -> str:
    with contextlib.suppress(ValueError, KeyError, TypeError):  # damaged: who reads the spec will be told
        return json.dumps(json.loads(spec)["labels"])
    return "[]"


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        if _is_full(error, path):
            raise DiskFull(f"{path}: there is no room on the disk ({error}); free some space") from error
        raise EventLogError(f"{path}: {error}{_advice(path, str(error))}") from error


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF  # without the extension, which tells the system call


def _is_full(error: sqlite3.Error | OSError, path: Path) -> bool:
    if isinstance(error, OSError):
        return error.errno in FULL
    if _code(error) == sqlite3.SQLITE_FULL:
        return True
    # A file that can't grow may also show as an error of the system call that wanted it to.
    return _code(error) in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN) and not has_room(path.parent)


def _advice(path: Path, message: str) -> str:
    if "readonly" in message or "unable to open" in message:
        for file in (path, wal_of(path), shm_of(path)):
            if file.exists() and not os.access(file, os.W_OK) and not os.statvfs(file).f_flag & os.ST_RDONLY:
                return f"; you may not write {file}: {how_to_share(file, path.parent)}"
        return "; is the directory there, and may you write to it?"
    if "malformed" in message or "not a database" in message:
        return "; the file is damaged or no Ashwood store: restore it from a backup, or choose another --home"
    if "locked" in message:
        return f"; another process has held it for {_BUSY_SECONDS:g} seconds"
    return ""
