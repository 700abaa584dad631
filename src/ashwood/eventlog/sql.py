"""The base class of stores in SQL databases: everything except connections, transactions and their errors.

Statements use only SQL that SQLite and PostgreSQL have in common, with ``?`` for values.  There are five tables:

- ``experiments``: specs, and what lists show of experiments;
- ``entries``: the entries of all event logs;
- ``logs``: one short row for each experiment, with the head (number of the last entry) and the lease;
- ``requests``: the inbox;
- ``notes``: the notes on experiments and trials; the trial -1 stands for the experiment itself.

**The head is set in the transaction that adds entries.**  So a log whose last entries are lost is recognised.

**Setting the head is the check of the lease.**  One UPDATE compares the token of the lease and the previous head, and
locks the row.  If another driver owns the experiment or has added entries, it changes no row, and nothing is added.
"""

from __future__ import annotations

import json
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from enum import Enum, auto
from functools import cached_property
from itertools import count, takewhile
from typing import Any, ClassVar, Final, Protocol, TypeVar

from ashwood.errors import EventLogError, NotFound
from ashwood.eventlog.codec import (
    VERSION,
    StoredEntry,
    check_digest,
    check_version,
    decode_spec,
    digest_of,
    encode_request,
    encode_spec,
    from_rows,
    to_row,
)
from ashwood.eventlog.port import (
    Answer,
    Driver,
    ExperimentId,
    ExperimentRecord,
    LeaseState,
    PendingRequest,
    RequestId,
    Seq,
    Token,
)
from ashwood.eventlog.refusals import busy, lost, moved_on
from ashwood.eventlog.rows import (
    ENDS,
    RECORD,
    RecordRow,
    about_digest,
    check_name,
    check_note,
    end_of_log,
    note_digest,
    read_about,
    read_lease,
    read_record,
    read_request,
    request_digest,
    state_digest,
    storable,
)
from ashwood.eventlog.state import state_after
from ashwood.experiment.entry import Entry
from ashwood.experiment.events import Request
from ashwood.experiment.lifecycle import ExperimentState
from ashwood.experiment.spec import ExperimentSpec
from ashwood.search.vocabulary import TrialId

T = TypeVar("T")

_FIRST_CHUNK: Final = 250
_CHUNK: Final = 2_000
_LARGEST_TOKEN: Final = 2**62
_NO_TRIAL: Final = -1
"""Value of the column ``trial`` for the note on the experiment itself."""


class Sync(Enum):
    """When the changes of a transaction become safe from a power loss."""

    WITHIN = auto()
    """Before other processes can see them."""
    AFTER = auto()
    """When the call returns; other processes may see the changes earlier, and need not wait for the disk to write."""
    NEVER = auto()
    """At some time after the call returns."""


class Transaction(Protocol):
    """A transaction that can write."""

    def run(self, sql: str, *values: object) -> list[Any]:
        """Run a statement and return its rows."""

    def run_many(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        """Run a statement once for each row of values."""

    def insert(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Add rows to a table in the fastest way that the database offers."""


class SqlStore(ABC):
    """A store in an SQL database; see `ashwood.eventlog.port.Store`.

    Attributes:
        name: name of the database for messages.
    """

    NOW: ClassVar[str]
    """SQL expression for the seconds since 1970 by the clock of the database."""

    name: str

    @abstractmethod
    def _query(self, sql: str, *values: object) -> list[Any]:
        """Run a SELECT statement and return its rows."""

    @abstractmethod
    def _commit(self, work: Callable[[Transaction], T], sync: Sync = Sync.WITHIN) -> T:
        """Call ``work`` with a transaction, commit it, and return the result of ``work``.

        When this returns, the transaction has been committed exactly once.  When it raises, it has not been committed.
        ``work`` may be called several times, because a transaction that fails may be repeated.
        """

    @abstractmethod
    def close(self) -> None:
        """Close files and connections."""

    def hurry(self, *, on: bool = True) -> None:  # noqa: ARG002 - `Store` requires it
        """Do nothing; a store with a server overrides this."""
        return

    def is_gone(self) -> bool:
        """Return False; a store in a file overrides this.  A server reports an error if its database is deleted."""
        return False

    # -- experiments ----------------------------------------------------------------------------

    def create(self, spec: ExperimentSpec, *, at: float) -> ExperimentId:
        """Add an experiment with an empty log, and return its number."""
        text, labels, state = encode_spec(spec), json.dumps(spec.labels), str(ExperimentState.CREATED)
        row = {
            "created_at": float(at),
            "name": check_name(spec.name),
            "labels": labels,
            "archived": 0,
            "about_digest": about_digest(float(at), spec.name, labels, 0),
            "version": VERSION,
            "spec": text,
            "digest": digest_of(text),
            "state": state,
            "summary": "{}",
            "state_digest": state_digest(state, "{}"),
        }

        def work(transaction: Transaction) -> int:
            [(experiment,)] = transaction.run(
                f"INSERT INTO experiments ({', '.join(row)}) VALUES ({', '.join('?' * len(row))}) RETURNING id",  # noqa: S608
                *row.values(),
            )
            transaction.run("INSERT INTO logs (experiment) VALUES (?)", experiment)
            return int(experiment)

        return self._commit(work)

    def experiments(self) -> Sequence[ExperimentRecord]:
        """Return the records of all experiments, the oldest first."""
        return [self._record(RecordRow(*row)) for row in self._query(f"{RECORD} ORDER BY id")]

    def record(self, experiment: ExperimentId) -> ExperimentRecord:
        """Return the record of an experiment."""
        return self._record(self._row(experiment))

    def spec(self, experiment: ExperimentId) -> ExperimentSpec:
        """Return the spec of an experiment."""
        with self._checked_spec(experiment) as (text, _):
            return decode_spec(text)

    def check_spec(self, experiment: ExperimentId) -> None:
        """Check the spec of an experiment without decoding it."""
        with self._checked_spec(experiment) as (text, has_digest):
            if not has_digest:
                decode_spec(text)

    @contextmanager
    def _checked_spec(self, experiment: ExperimentId) -> Iterator[tuple[str, bool]]:
        """Yield the text of a spec and whether its digest was checked; errors in the context name the experiment."""
        rows = self._query("SELECT version, spec, digest FROM experiments WHERE id = ?", experiment)
        version, text, digest = self._first(experiment, rows)
        advice = ""
        try:
            check_version(version)
            advice = "; restore the database from a backup"
            if version > 1:
                check_digest(digest, text)
            yield text, version > 1
        except EventLogError as error:
            raise EventLogError(
                f"{self.name}: experiment {experiment}: {error}{advice}. Other experiments are not affected"
            ) from error

    def change_spec(self, experiment: ExperimentId, spec: ExperimentSpec) -> None:
        """Replace the spec of an experiment; see `ashwood.eventlog.port.Store.change_spec`."""
        text = encode_spec(spec)

        def work(transaction: Transaction) -> list[Any]:
            return transaction.run(
                "UPDATE experiments SET version = ?, spec = ?, digest = ? WHERE id = ? RETURNING id",
                VERSION,
                text,
                digest_of(text),
                experiment,
            )

        self._first(experiment, self._commit(work))

    def log(self, experiment: ExperimentId, token: Token | None = None) -> SqlLog:
        """Return the log of an experiment."""
        return SqlLog(self, experiment, token)

    def annotate(
        self,
        experiment: ExperimentId,
        *,
        name: str | None = None,
        labels: Sequence[str] | None = None,
        archived: bool | None = None,
    ) -> None:
        """Change the name, the labels or the archived flag of an experiment."""

        def work(transaction: Transaction) -> list[Any]:
            # This UPDATE locks the row before it is read.  Otherwise two processes that change different fields at the
            # same time could read the same row, and one would undo the change of the other.
            rows = transaction.run("UPDATE experiments SET archived = archived WHERE id = ? RETURNING id", experiment)
            for row in transaction.run(f"{RECORD} WHERE id = ?", experiment):
                known, _ = read_about(RecordRow(*row), lambda: self.spec(experiment))
                about = (
                    known.created_at,
                    known.name if name is None else check_name(name),
                    json.dumps(list(known.labels if labels is None else labels)),
                    int(known.archived if archived is None else archived),
                )
                transaction.run(
                    "UPDATE experiments SET created_at = ?, name = ?, labels = ?, archived = ?, about_digest = ?"
                    " WHERE id = ?",
                    *about,
                    about_digest(*about),
                    experiment,
                )
            return rows

        self._first(experiment, self._commit(work))

    # -- notes ----------------------------------------------------------------------------------

    def notes(self, experiment: ExperimentId) -> Mapping[TrialId | None, str]:
        """Return the notes on an experiment and on its trials."""
        return {trial: text if isinstance(text, str) else "" for trial, text in self._notes("text", experiment)}

    def note_digests(self, experiment: ExperimentId) -> Mapping[TrialId | None, int]:
        """Return the stored digests of the notes."""
        return dict(self._notes("digest", experiment))

    def _notes(self, column: str, experiment: ExperimentId) -> Iterator[tuple[TrialId | None, Any]]:
        rows = self._query(f"SELECT trial, {column} FROM notes WHERE experiment = ? ORDER BY trial", experiment)  # noqa: S608
        if not rows:
            self._first(experiment, self._query("SELECT id FROM experiments WHERE id = ?", experiment))
        return ((None if trial == _NO_TRIAL else trial, value) for trial, value in rows)

    def set_note(self, experiment: ExperimentId, trial: TrialId | None, text: str) -> None:
        """Replace the note on a trial or on the experiment; an empty text removes it."""
        key, text = (_NO_TRIAL if trial is None else trial), check_note(text)

        def work(transaction: Transaction) -> list[Any]:
            # This UPDATE locks the row, so that the experiment is not deleted before its note is added.
            rows = transaction.run("UPDATE experiments SET archived = archived WHERE id = ? RETURNING id", experiment)
            if rows and text:
                transaction.run(
                    "INSERT INTO notes (experiment, trial, text, digest) VALUES (?, ?, ?, ?)"
                    " ON CONFLICT (experiment, trial) DO UPDATE SET text = excluded.text, digest = excluded.digest",
                    experiment,
                    key,
                    text,
                    note_digest(trial, text),
                )
            elif rows:
                transaction.run("DELETE FROM notes WHERE experiment = ? AND trial = ?", experiment, key)
            return rows

        self._first(experiment, self._commit(work))

    # -- deletion -------------------------------------------------------------------------------

    def delete(self, experiment: ExperimentId) -> None:
        """Delete an experiment, its log, its notes and its requests."""

        def work(transaction: Transaction) -> list[Any]:
            # The row of ``logs`` is deleted first, because `append` locks that row, too. So no entry can be added
            # between the deletion of the entries and that of the experiment.
            gone = transaction.run("DELETE FROM logs WHERE experiment = ? RETURNING experiment", experiment)
            transaction.run("DELETE FROM entries WHERE experiment = ?", experiment)
            transaction.run("DELETE FROM requests WHERE experiment = ?", experiment)
            transaction.run("DELETE FROM notes WHERE experiment = ?", experiment)
            transaction.run("DELETE FROM experiments WHERE id = ?", experiment)
            return gone

        self._first(experiment, self._commit(work))

    # -- leases -----------------------------------------------------------------------------------

    def lease(self, experiment: ExperimentId) -> LeaseState | None:
        """Return the lease of an experiment, or None if no driver owns it."""
        rows = self._query(
            f"SELECT token, beat, driver, driver_digest, {self.NOW} - seen FROM logs"  # noqa: S608
            " WHERE experiment = ? AND driver IS NOT NULL",
            experiment,
        )
        return read_lease(*rows[0]) if rows else None

    def take_lease(self, experiment: ExperimentId, driver: Driver, *, over: LeaseState | None = None) -> Token:
        """Take the lease of an experiment that has no owner, or whose lease is still equal to ``over``."""
        token, beat = (over.token, over.beat) if over else (-1, -1)
        text = json.dumps(driver)
        # A damaged token cannot be incremented.  It is replaced by a random one, which no earlier owner had.
        fresh = secrets.randbits(60)

        def work(transaction: Transaction) -> list[Any]:
            return transaction.run(
                f"UPDATE logs SET token = CASE WHEN token BETWEEN 0 AND {_LARGEST_TOKEN} THEN CAST(token AS BIGINT) + 1"  # noqa: S608
                f" ELSE CAST(? AS BIGINT) END, beat = 0, driver = ?, driver_digest = ?, seen = {self.NOW}"
                " WHERE experiment = ? AND (driver IS NULL OR (token = ? AND beat = ?)) RETURNING token",
                fresh,
                text,
                digest_of(text),
                experiment,
                token,
                beat,
            )

        if rows := self._commit(work):
            return int(rows[0][0])
        self._first(experiment, self._query("SELECT id FROM experiments WHERE id = ?", experiment))
        raise busy(self.lease(experiment))

    def beat(self, experiment: ExperimentId, token: Token) -> None:
        """Record a heartbeat of the owner."""

        def work(transaction: Transaction) -> list[Any]:
            return transaction.run(
                f"UPDATE logs SET beat = beat + 1, seen = {self.NOW} WHERE experiment = ? AND token = ?"  # noqa: S608
                " AND driver IS NOT NULL RETURNING beat",
                experiment,
                token,
            )

        # The heartbeat need not survive a power loss, because the driver does not survive it either.
        if not self._commit(work, Sync.NEVER):
            raise lost(experiment, self.lease(experiment))

    def release_lease(self, experiment: ExperimentId, token: Token) -> None:
        """Give a lease back, or do nothing if it is lost."""
        self._commit(
            lambda transaction: transaction.run(
                "UPDATE logs SET driver = NULL WHERE experiment = ? AND token = ?", experiment, token
            )
        )

    # -- requests ---------------------------------------------------------------------------------

    def post(self, experiment: ExperimentId, request: Request, *, at: float) -> RequestId:
        """Add a request to the inbox of an experiment, and return its number."""
        at, body = float(at), encode_request(request)
        row = (at, VERSION, body, request_digest(at, VERSION, body), experiment)
        rows = self._commit(
            lambda transaction: transaction.run(
                "INSERT INTO requests (experiment, at, version, body, digest)"
                " SELECT id, ?, ?, ?, ? FROM experiments WHERE id = ? RETURNING id",
                *row,
            ),
            Sync.AFTER,
        )
        return int(self._first(experiment, rows)[0])

    def pending(self, experiment: ExperimentId) -> Sequence[tuple[RequestId, PendingRequest]]:
        """Return the requests that have no answer yet, the oldest first."""
        rows = self._query(
            "SELECT id, at, version, body, digest FROM requests WHERE experiment = ? AND answered = 0 ORDER BY id",
            experiment,
        )
        return [(number, read_request(*request)) for number, *request in rows]

    def answer(self, request: RequestId) -> Answer | None:
        """Return the answer to a request, or None if it has none yet."""
        rows = self._query("SELECT answered, refused FROM requests WHERE id = ?", request)
        if not rows:
            raise NotFound(f"there is no request {request} in {self.name}")
        answered, refused = rows[0]
        return Answer(refused) if answered else None

    # -- rows that may be damaged -----------------------------------------------------------------

    def _row(self, experiment: ExperimentId) -> RecordRow:
        return RecordRow(*self._first(experiment, self._query(f"{RECORD} WHERE id = ?", experiment)))

    def _record(self, row: RecordRow) -> ExperimentRecord:
        return read_record(row, lambda: self.spec(row.id), lambda: self._rebuild_state(row))

    @cached_property
    def _rebuilt(self) -> dict[RecordRow, ExperimentState]:
        """A cache of the states that were rebuilt from logs, by the damaged row: lists are read often."""
        return {}

    def _rebuild_state(self, row: RecordRow) -> ExperimentState:
        """Return the state of an experiment after all entries of its log that can be read."""
        if row not in self._rebuilt:
            state = ExperimentState.CREATED
            with suppress(EventLogError, NotFound):
                for _, entry in self.log(row.id).read():
                    state = state_after([entry]) or state
            self._rebuilt[row] = state
        return self._rebuilt[row]

    # -- messages ---------------------------------------------------------------------------------

    def _first(self, experiment: ExperimentId, rows: Sequence[Any]) -> Any:
        """Return the first row, or raise NotFound if there is none because the experiment does not exist."""
        if rows:
            return rows[0]
        known = [number for (number,) in self._query("SELECT id FROM experiments ORDER BY id")]
        others = f"experiments are numbered {known[0]} to {known[-1]}" if known else "there are no experiments yet"
        if len(known) == 1:
            others = f"the only experiment is {known[0]}"
        raise NotFound(
            f"there is no experiment {experiment} in {self.name}; {others} (see: ashwood list){self._hint(experiment)}"
        )

    def _hint(self, experiment: ExperimentId) -> str:  # noqa: ARG002
        """Return a text for the end of the message that an experiment is not in the database."""
        return ""


class SqlLog:
    """The event log of one experiment in a `SqlStore`."""

    def __init__(self, store: SqlStore, experiment: ExperimentId, token: Token | None) -> None:
        self._store = store
        self._experiment = experiment
        self._token = token
        self._head, highest = self._ends()
        self._last = end_of_log(self._head, highest)
        self._listed: tuple[str, str] | None = None

    def append(
        self,
        entries: Sequence[Entry],
        *,
        summary: Mapping[str, Any] | None = None,
        answers: Mapping[RequestId, Answer] | None = None,
    ) -> Seq:
        """Add entries and answer requests, all or nothing; see `ashwood.eventlog.port.EventLog.append`."""
        rows = [(self._experiment, *to_row(seq, entry)) for seq, entry in enumerate(entries, start=self._last + 1)]
        answered = [
            (answer.refused and storable(answer.refused), number, self._experiment)
            for number, answer in (answers or {}).items()
        ]
        state = state_after(entries)
        listed = None if state is None and summary is None else self._list_columns(state, summary)

        def work(transaction: Transaction) -> bool:
            if not self._advance(transaction, len(rows)):
                return False
            if rows:
                transaction.insert("entries", ("experiment", *StoredEntry._fields), rows)
            if answered:
                transaction.run_many(
                    "UPDATE requests SET answered = 1, refused = ? WHERE id = ? AND experiment = ?", answered
                )
            if listed is not None:
                transaction.run(
                    "UPDATE experiments SET state = ?, summary = ?, state_digest = ? WHERE id = ?",
                    *listed,
                    state_digest(*listed),
                    self._experiment,
                )
            return True

        if not self._store._commit(work):
            raise self._rejected()
        self._last += len(rows)
        self._head, self._listed = self._last, listed or self._listed
        return self._last

    def read(self, *, after: Seq = 0) -> Iterator[tuple[Seq, Entry]]:
        """Yield the entries after ``after``, in order, up to the present end of the log."""
        last = self.last()
        # The first chunk is small, because some callers need only a few entries.
        chunk = _FIRST_CHUNK
        while after < last:
            end = min(after + chunk, last)
            chunk = min(2 * chunk, _CHUNK)
            rows = self._store._query(
                "SELECT seq, at, version, body, digest FROM entries"
                " WHERE experiment = ? AND seq > ? AND seq <= ? ORDER BY seq",
                self._experiment,
                after,
                end,
            )
            # Entries are read up to the first row that does not have the expected number.
            numbered = takewhile(lambda pair: pair[0][0] == pair[1], zip(rows, count(after + 1), strict=False))
            try:
                for seq, entry in from_rows([StoredEntry._make(row) for row, _ in numbered]):
                    yield seq, entry
                    after = seq
            except EventLogError as error:
                raise self._damaged(after + 1, f"cannot be read: {error}") from error
            if after < end:
                self.last()  # Raises NotFound if the experiment was deleted meanwhile.
                raise self._damaged(after + 1, "is missing")

    def _advance(self, transaction: Transaction, count: int) -> bool:
        """Set the head for ``count`` new entries, and return whether this log may append; see the module docstring."""
        owned, token = ("", ()) if self._token is None else (" AND token = ? AND driver IS NOT NULL", (self._token,))
        # SQLite can store a value of any type in the column.  A damaged head of another type, such as a text that is
        # not UTF-8, may change when it is read, so only its type is compared.
        same, head = ("head = ?", (self._head,)) if type(self._head) is int else ("typeof(head) <> 'integer'", ())
        moved = transaction.run(
            f"UPDATE logs SET head = ? WHERE experiment = ? AND {same}{owned} RETURNING head",  # noqa: S608
            self._last + count,
            self._experiment,
            *head,
            *token,
        )
        return bool(moved)

    def _rejected(self) -> EventLogError:
        """Return the error that says why the database rejected entries; raise NotFound if the experiment is gone."""
        owner = self._store.lease(self._experiment)
        if self._token is not None and (owner is None or owner.token != self._token):
            return lost(self._experiment, owner)
        self.last()  # Raises NotFound if the experiment was deleted meanwhile.
        return moved_on(self._experiment, self._last)

    def last(self) -> Seq:
        """Return the number of the last entry, or 0 if there is none."""
        return end_of_log(*self._ends())

    def _ends(self) -> tuple[Any, Any]:
        """Return the stored head of the log and the highest number of its entries."""
        rows = self._store._query(f"{ENDS} WHERE id = ?", self._experiment)
        head, highest = self._store._first(self._experiment, rows)
        return head, highest

    def _list_columns(self, state: ExperimentState | None, summary: Mapping[str, Any] | None) -> tuple[str, str]:
        """Return the columns of the state and the summary; the present value replaces an argument that is None."""
        if self._listed is None and (state is None or summary is None):
            record = ExperimentRecord(self._experiment, 0.0, "", ExperimentState.CREATED, {})
            with suppress(NotFound):  # If it was deleted meanwhile, the transaction is rejected.
                record = self._store.record(self._experiment)
            self._listed = str(record.state), json.dumps(record.summary)
        known = self._listed or ("", "")
        return known[0] if state is None else str(state), known[1] if summary is None else json.dumps(summary)

    def _damaged(self, seq: Seq, problem: str) -> EventLogError:
        save = f"; the entries before it can be saved with: ashwood export {self._experiment} --until {seq - 1}"
        return EventLogError(
            f"{self._store.name}: entry {seq} of experiment {self._experiment} {problem}"
            + (f"{save} --out FILE.ashwood" if seq > 1 else "")
        )
