"""The durable record in one SQLite file: write-ahead log, one fsync a commit.

Readers never block the writer, nor the writer them.  ``synchronous=FULL`` makes a commit
survive a power loss, not only the death of the process.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from ashwood.errors import EventLogError, NotFound
from ashwood.eventlog.codec import VERSION, decode_entry, decode_spec, encode_entry, encode_spec
from ashwood.eventlog.port import Entry, ExperimentId, ExperimentRecord, Seq
from ashwood.eventlog.state import state_after
from ashwood.experiment.lifecycle import ExperimentState
from ashwood.experiment.spec import ExperimentSpec

APPLICATION_ID: Final = 0x41736877  # "Ashw"
_BUSY_SECONDS: Final = 30.0

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
)


class SqliteStore:
    """All experiments of a home in one file; see `ashwood.eventlog.port.Store`."""

    def __init__(self, path: Path) -> None:
        """Open the file, made if it isn't there.

        Raises:
            EventLogError: it can't be opened, or is no store of this or an older Ashwood.
        """
        self.path = path
        with _explained(path):
            self._connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
            try:
                self._prepare()
            except BaseException:
                self._connection.close()
                raise

    def create(self, spec: ExperimentSpec, *, at: float) -> ExperimentId:
        """Take a new experiment in, with an empty log."""
        row = (at, spec.name, VERSION, encode_spec(spec), ExperimentState.CREATED, "{}")
        with _explained(self.path):
            (experiment,) = self._connection.execute(
                "INSERT INTO experiments (created_at, name, version, spec, state, summary) VALUES (?, ?, ?, ?, ?, ?)"
                " RETURNING id",
                row,
            ).fetchone()
        return int(experiment)

    def experiments(self) -> Sequence[ExperimentRecord]:
        """All experiments, the oldest first."""
        with _explained(self.path):
            rows = self._connection.execute(
                "SELECT id, created_at, name, state, summary FROM experiments ORDER BY id"
            ).fetchall()
        return [_record(row) for row in rows]

    def record(self, experiment: ExperimentId) -> ExperimentRecord:
        """One experiment."""
        return _record(self._row("id, created_at, name, state, summary", experiment))

    def spec(self, experiment: ExperimentId) -> ExperimentSpec:
        """What an experiment is."""
        version, text = self._row("version, spec", experiment)
        if version > VERSION:
            raise EventLogError(f"experiment {experiment} was made by a newer Ashwood: upgrade Ashwood to read it")
        return decode_spec(text)

    def log(self, experiment: ExperimentId) -> SqliteLog:
        """An experiment's log."""
        self._row("id", experiment)
        return SqliteLog(self.path, self._connection, experiment)

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def _row(self, columns: str, experiment: ExperimentId) -> Any:
        with _explained(self.path):
            # The columns are literals of this module.
            row = self._connection.execute(
                f"SELECT {columns} FROM experiments WHERE id = ?",  # noqa: S608
                (experiment,),
            ).fetchone()
        if row is None:
            known = [record.id for record in self.experiments()]
            there = f"there are {known[0]} to {known[-1]}" if known else "there are none yet"
            raise NotFound(f"there is no experiment {experiment} in {self.path}; {there} (see: ashwood list)")
        return row

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
            run("PRAGMA journal_mode = WAL")
            self._migrate()
        run("PRAGMA synchronous = FULL")
        run("PRAGMA foreign_keys = ON")

    def _migrate(self) -> None:
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


class SqliteLog:
    """The log of one experiment of a `SqliteStore`."""

    def __init__(self, path: Path, connection: sqlite3.Connection, experiment: ExperimentId) -> None:
        self._path = path
        self._connection = connection
        self._experiment = experiment
        self._last = self._find_last()

    def append(self, entries: Sequence[Entry], *, summary: Mapping[str, Any] | None = None) -> Seq:
        """Add entries, all or none; when this returns they survive a power loss."""
        rows = [
            (self._experiment, seq, entry.at, VERSION, encode_entry(entry))
            for seq, entry in enumerate(entries, start=self._last + 1)
        ]
        state = state_after(entries)
        run = self._connection.execute
        with _explained(self._path):
            run("BEGIN IMMEDIATE")
            try:
                # A second writer of this log would break the primary key, and nothing would be added.
                self._connection.executemany("INSERT INTO entries VALUES (?, ?, ?, ?, ?)", rows)
                if state is not None:
                    run("UPDATE experiments SET state = ? WHERE id = ?", (state, self._experiment))
                if summary is not None:
                    run("UPDATE experiments SET summary = ? WHERE id = ?", (json.dumps(summary), self._experiment))
                run("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    run("ROLLBACK")
                raise
        self._last += len(entries)
        return self._last

    def read(self, *, after: Seq = 0) -> Iterator[tuple[Seq, Entry]]:
        """The entries behind ``after``, in order."""
        expected = after
        with _explained(self._path):
            cursor = self._connection.execute(
                "SELECT seq, at, version, body FROM entries WHERE experiment = ? AND seq > ? ORDER BY seq",
                (self._experiment, after),
            )
            for seq, at, version, body in cursor:
                expected += 1
                if seq != expected:
                    raise EventLogError(f"{self._path}: entry {expected} of experiment {self._experiment} is missing")
                try:
                    yield seq, decode_entry(at, version, body)
                except EventLogError as error:
                    where = f"{self._path}: entry {seq} of experiment {self._experiment}"
                    raise EventLogError(f"{where}: {error}") from error

    def _find_last(self) -> Seq:
        with _explained(self._path):
            row = self._connection.execute(
                "SELECT coalesce(max(seq), 0) FROM entries WHERE experiment = ?", (self._experiment,)
            ).fetchone()
        return int(row[0])


def _record(row: Any) -> ExperimentRecord:
    experiment, created_at, name, state, summary = row
    return ExperimentRecord(experiment, created_at, name, ExperimentState(state), json.loads(summary))


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise EventLogError(f"{path}: {error}{_advice(str(error))}") from error


def _advice(message: str) -> str:
    if "disk is full" in message:
        return "; free some space, then go on with: ashwood resume"
    if "readonly" in message or "unable to open" in message:
        return "; is the directory there, and may you write to it?"
    if "malformed" in message or "not a database" in message:
        return "; the file is damaged or no Ashwood store: restore it from a backup, or choose another --home"
    if "locked" in message:
        return f"; another process has held it for {_BUSY_SECONDS:g} seconds"
    return ""
