"""A store in one SQLite file in WAL mode, with one fsync for each commit.

In WAL mode, readers do not block the writer, and the writer does not block readers.  With ``synchronous=FULL`` a commit
survives a power loss, not only the end of the process.

Commits stay in the write-ahead log (``-wal``) until that is large, so the main file rarely changes while a driver runs.
A copy of both files is therefore a consistent store, in whatever order and at whatever time the files were copied.
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

from ashwood.checkpoints.sharing import how_to_share, owner_name, share
from ashwood.checkpoints.trees import sync as sync_to_disk
from ashwood.errors import DiskFull, EventLogError
from ashwood.eventlog.head import head_path
from ashwood.eventlog.port import ExperimentId
from ashwood.eventlog.reserve import FULL, has_room
from ashwood.eventlog.sql import SqlStore, Sync, Transaction
from ashwood.eventlog.wal import Tail, close_deleted, find_tail, has_wal, shm_of, truncate_tail, wal_of

APPLICATION_ID: Final = 0x41736877  # "Ashw"
_BUSY_SECONDS: Final = 30.0
_WAL_PAGES: Final = 16_384  # 64 MiB in pages of 4 KiB
_MAX_NAMED: Final = 20
"""Maximum number of experiments that an error message names."""

# One script for each schema version.  A store that is opened runs the scripts that its file has not had yet.
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
    """
    CREATE TABLE notes (
        experiment INTEGER NOT NULL REFERENCES experiments (id) ON DELETE CASCADE,
        trial INTEGER NOT NULL,
        text TEXT NOT NULL,
        digest INTEGER NOT NULL,
        PRIMARY KEY (experiment, trial)
    );
    """,
)

T = TypeVar("T")

# A damaged text may not be valid UTF-8.  Without "replace", one such text would make the whole query fail; with it, the
# digest of the row does not match.
_text: Final = partial(str, encoding="utf-8", errors="replace")


class SqliteStore(SqlStore):
    """A store in an SQLite file; see `ashwood.eventlog.port.Store`.

    Attributes:
        path: path of the file.
        unverified: which part of the write-ahead log could not be verified, or None if all of it could.
        damage: damage of the write-ahead log if the file was opened with ``allow_damage``, otherwise None.  A store
            with damage is read-only.
    """

    NOW = "((julianday('now') - 2440587.5) * 86400.0)"

    def __init__(self, path: Path, *, allow_damage: bool = False) -> None:
        """Open the file, or make it if it does not exist.  It is opened read-only if it cannot be written.

        Args:
            path: path of the file.
            allow_damage: whether to open a file with a damaged write-ahead log, to read what precedes the damage.

        Raises:
            DiskFull: there is not enough disk space to make or migrate the file.
            EventLogError: the file cannot be opened, its write-ahead log is damaged, or it is not a store of this or an
                older Ashwood.
        """
        self.path = path
        self.name = str(path)
        self.unverified: str | None = None
        self.damage: EventLogError | None = None
        # When the read-only connection reads, SQLite checks all frames of the write-ahead log.  This connection stays
        # open until the other one has read, so that SQLite does not check them again.
        with _translated_errors(path), ExitStack() as stack:
            _share_files(path)
            reader = _open_reader(path)
            tail = None
            if reader is not None:
                stack.callback(reader.close)
                tail = find_tail(path)
            if tail is not None and tail.has_commit:
                self.unverified = f"{wal_of(path)} ends with a commit that is damaged or incomplete, so it was not read"
            if reader is not None and tail is not None and tail.is_damage:
                self.damage = _damaged(path, tail, reader)
                if not allow_damage:
                    raise self.damage
                # When a connection that can write is closed, SQLite would delete what follows the damage.  So only the
                # read-only connection is used.
                stack.pop_all()
                self._connection = reader
            else:
                self._connection = _connect(path)
            try:
                self._prepare()
                self._opened = _file_identity(path)
            except BaseException:
                self._connection.close()
                raise
        # Users of the Python API do not close experiments, so the connection is closed with the last reference to the
        # store.  At exit the process ends anyway.
        weakref.finalize(self, _close, self._connection).atexit = False

    def close(self) -> None:
        """Close the file."""
        self._connection.close()
        close_deleted()

    def is_gone(self) -> bool:
        """Return whether the file was deleted or replaced since it was opened, which SQLite does not notice."""
        return _file_identity(self.path) != self._opened

    def drop_damaged_commits(self, backup: Path) -> None:
        """Delete the commits from the damage of the write-ahead log on; then the store must be opened again.

        Args:
            backup: path for a copy of the whole write-ahead log.

        Raises:
            OSError: the copy or the write-ahead log cannot be written.
        """
        truncate_tail(self.path, backup)

    def integrity(self) -> Sequence[str]:
        """Return the first problems that SQLite finds in the structure of the file, or an empty list."""
        try:
            rows = self._connection.execute(f"PRAGMA integrity_check({_MAX_NAMED})").fetchall()
        except sqlite3.Error as error:
            return [str(error)]
        # A line that begins with *** is a heading.
        return [line for (text,) in rows for line in str(text).splitlines() if line != "ok" and line[:3] != "***"]

    def _hint(self, experiment: ExperimentId) -> str:
        """Return a hint for a missing experiment whose files are in the home, otherwise an empty text."""
        head = head_path(self.path.parent, experiment)
        if not head.exists():
            return ""
        return (
            f". Its files are in {head.parent}: was {self.path.name} or {wal_of(self.path).name} deleted, or replaced "
            "by an older one? Restore both"
        )

    def _check_not_replaced(self, cause: EventLogError | None = None) -> None:
        if self.is_gone():
            raise EventLogError(
                f"{self.path} was deleted or replaced while this process used it: nothing more can be recorded"
            ) from cause

    def _query(self, sql: str, *values: object) -> list[Any]:
        try:
            with _translated_errors(self.path):
                return self._connection.execute(sql, values).fetchall()
        except EventLogError as error:
            self._check_not_replaced(error)
            raise

    def _commit(self, work: Callable[[Transaction], T], sync: Sync = Sync.WITHIN) -> T:
        run = self._connection.execute
        # SQLite would write to the deleted file without an error.
        self._check_not_replaced()
        with _translated_errors(self.path):
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
                # A commit with ``synchronous=FULL`` does the same, but it blocks other writers during the fsync.
                sync_to_disk(wal_of(self.path))
        return result

    def _prepare(self) -> None:
        run = self._connection.execute
        found = run("PRAGMA application_id").fetchone()[0]
        tables = run("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if found != APPLICATION_ID and (found or tables):
            raise EventLogError(f"{self.path} is an SQLite file of another program: choose another --home")
        done = run("PRAGMA user_version").fetchone()[0]
        if done > len(_MIGRATIONS):
            raise EventLogError(f"{self.path} was written by a newer Ashwood: upgrade Ashwood to read it")
        if done < len(_MIGRATIONS):
            if done and _is_read_only(self._connection, done):
                self._use_migrated_copy()
            else:
                if run("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
                    raise EventLogError(
                        f"{self.path}: its file system does not support SQLite's write-ahead log, as is the case for "
                        "some network file systems; choose a local --home, or PostgreSQL"
                    )
                self._migrate()
                # Moves the schema into the main file.  So the main file is a store even if its write-ahead log is lost.
                run("PRAGMA wal_checkpoint(PASSIVE)")
        run = self._connection.execute
        run(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}")
        run("PRAGMA synchronous = FULL")
        run("PRAGMA foreign_keys = ON")

    def _migrate(self) -> None:
        self._connection.create_function("labels_of", 1, _labels_of, deterministic=True)
        run = self._connection.execute
        run("BEGIN IMMEDIATE")
        # Read again under the lock, because another process may have migrated the file meanwhile.
        done = run("PRAGMA user_version").fetchone()[0]
        for script in _MIGRATIONS[done:]:
            for statement in script.split(";"):
                run(statement)
        run(f"PRAGMA application_id = {APPLICATION_ID}")
        run(f"PRAGMA user_version = {len(_MIGRATIONS)}")
        run("COMMIT")

    def _use_migrated_copy(self) -> None:
        """Use a migrated copy in memory of an older file that cannot be written."""
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
    """Make the file if it does not exist, and share it and the files that SQLite makes with the users of the directory.

    SQLite gives files that it makes later the permissions of the main file.

    Raises:
        EventLogError: this user may not read the file, or may write its directory but not the file.
    """
    with contextlib.suppress(OSError):  # The file exists, or SQLite reports why it cannot be made.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
    beside = [file for file in (wal_of(path), shm_of(path)) if file.exists()]
    for file in (path, *beside):
        share(file)
    if not path.exists() or os.access(path, os.R_OK | os.W_OK):
        return
    if not os.access(path, os.R_OK):
        raise EventLogError(f"you may not read {path}: it belongs to {owner_name(path)}, who can give you access")
    if os.access(path.parent, os.W_OK):
        # To read the file, SQLite would make the -wal and -shm files.  They would belong to this user, so the owner
        # could not write to the database any more.
        raise EventLogError(
            f"{path}: you may write its directory but not the file. Reading it would lock out its owner, so nothing "
            f"was done. Ask {owner_name(path)} to share it with the group: chmod -R g+wX {path.parent}"
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
    """Return a read-only connection that has read from the database, or None if there is no write-ahead log.

    A connection that can write deletes the write-ahead log when it is closed as the last one.  This one does not.
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
    except sqlite3.Error:  # The error occurs again, and is reported, when the database is opened for writing.
        connection.close()
        return None
    return connection


def _damaged(path: Path, tail: Tail, reader: sqlite3.Connection) -> EventLogError:
    known: list[tuple[object, object]] = []
    with contextlib.suppress(sqlite3.Error):
        known = reader.execute("SELECT experiment, max(seq) FROM entries GROUP BY experiment").fetchall()
    saved = ", ".join(f"--until {last} for experiment {experiment}" for experiment, last in known[-_MAX_NAMED:])
    if len(known) > _MAX_NAMED:
        saved = f"{saved} (the last {_MAX_NAMED} of {len(known)} experiments)"
    save = f", or save the earlier entries with: ashwood export ID --until N --out FILE.ashwood ({saved})"
    return EventLogError(
        f"{wal_of(path)}: frame {tail.first} of {tail.last} is damaged, so the commits from there on cannot be read. "
        f"Nothing was changed; restore {path.name} and {wal_of(path).name} from a backup{save if known else ''}"
    )


def _close(connection: sqlite3.Connection) -> None:
    # The garbage collector may call this in any thread.  So connections are opened with check_same_thread=False.
    with contextlib.suppress(sqlite3.ProgrammingError):
        connection.close()


def _file_identity(path: Path) -> tuple[int, int] | None:
    """Return the identity (device, inode) of the file at a path, or None if there is no file."""
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_dev, about.st_ino


def _connect_unwritable(path: Path) -> sqlite3.Connection:
    """Return a connection to a database in a directory that cannot be written.

    SQLite cannot make the ``-shm`` file there, through which processes share the write-ahead log.  Without one, it can
    read only the main file, and only as a file that no process changes (``immutable``).
    """
    if has_wal(path):
        raise EventLogError(
            f"{path}: you cannot write to {path.parent}, and without that {wal_of(path).name} cannot be read: "
            "copy both files to a directory where you can write, and choose it with --home"
        )
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?immutable=1", uri=True, isolation_level=None, check_same_thread=False
    )
    connection.text_factory = _text
    return connection


def _is_read_only(connection: sqlite3.Connection, user_version: int) -> bool:
    try:
        # Writes the present value.  BEGIN IMMEDIATE is no test: it succeeds on a read-only database.
        connection.execute(f"PRAGMA user_version = {user_version}")
    except sqlite3.OperationalError as error:
        if _code(error) != sqlite3.SQLITE_READONLY:
            raise
        return True
    return False


def _labels_of(spec: str) -> str:
    with contextlib.suppress(ValueError, KeyError, TypeError):  # Reading a damaged spec raises an error later.
        return json.dumps(json.loads(spec)["labels"])
    return "[]"


@contextmanager
def _translated_errors(path: Path) -> Iterator[None]:
    """Translate errors of SQLite and of the operating system, with advice on what to do."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        if _is_full(error, path):
            raise DiskFull(f"{path}: the disk is full ({error}); free some space") from error
        raise EventLogError(f"{path}: {error}{_advice(path, str(error))}") from error


def _code(error: sqlite3.Error) -> int:
    """Return the primary error code: the low byte, without the extension that names the system call."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _is_full(error: sqlite3.Error | OSError, path: Path) -> bool:
    if isinstance(error, OSError):
        return error.errno in FULL
    if _code(error) == sqlite3.SQLITE_FULL:
        return True
    # A full disk can also appear as a general I/O error, for example of the -shm file.
    return _code(error) in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN) and not has_room(path.parent)


def _advice(path: Path, message: str) -> str:
    if "readonly" in message or "unable to open" in message:
        for file in (path, wal_of(path), shm_of(path)):
            if file.exists() and not os.access(file, os.W_OK) and not os.statvfs(file).f_flag & os.ST_RDONLY:
                return f"; you may not write {file}: {how_to_share(file, path.parent)}"
        return "; check that the directory exists and that you may write to it"
    if "malformed" in message or "not a database" in message:
        return "; the file is damaged or not an Ashwood store: restore it from a backup, or choose another --home"
    if "locked" in message:
        return f"; another process has held the lock for {_BUSY_SECONDS:g} seconds"
    return ""
