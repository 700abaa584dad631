"""What the stores in SQL databases have in common: everything but how to connect and what can go wrong.

The SQL is what SQLite and PostgreSQL both speak, with ``?`` for values.  Four tables: ``experiments``; ``entries``,
their logs; ``logs``, one narrow row an experiment: the head of its log and who may append; ``requests``, the inbox.

- **The head moves with the entries, in the same transaction**, so a log whose tail was cut off is recognised.
- **Moving it is the gate**: one UPDATE that checks the token of the lease and the place where the log ended, and locks
  the row.  Whoever comes late changes no row, and nothing is added.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum, auto
from itertools import count, takewhile
from typing import Any, ClassVar, Final, Protocol, TypeVar

from ashwood.errors import EventLogError, NotFound
from ashwood.eventlog.codec import (
    VERSION,
    Row,
    check_digest,
    check_version,
    decode_request,
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
    Entry,
    ExperimentId,
    ExperimentRecord,
    LeaseState,
    PendingRequest,
    RequestId,
    Seq,
    Token,
    UnreadableRequest,
)
from ashwood.eventlog.refusals import busy, lost, moved_on
from ashwood.eventlog.state import state_after
from ashwood.experiment.events import Request
from ashwood.experiment.lifecycle import ExperimentState
from ashwood.experiment.spec import ExperimentSpec

T = TypeVar("T")

_FIRST_CHUNK: Final = 250
_CHUNK: Final = 2_000
_RECORD: Final = "SELECT id, created_at, name, state, summary, labels, archived FROM experiments"


class Sync(Enum):
    """When what a transaction did is safe from a power loss."""

    WITHIN = auto()
    """Before anybody sees it."""
    AFTER = auto()
    """When the call returns; others may see it before, and don't wait for the disk."""
    NEVER = auto()
    """At some later time."""


class Transaction(Protocol):
    """Statements that take effect together."""

    def run(self, sql: str, *values: object) -> list[Any]:
        """Run one statement; returns its rows."""
        ...

    def run_many(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        """Run one statement once a row of values."""
        ...

    def insert(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Add rows, in the quickest way that the database has."""
        ...


class SqlStore(ABC):
    """All experiments of a home in one database; see `ashwood.eventlog.port.Store`.

    Attributes:
        name: what messages call the database.
    """

    NOW: ClassVar[str]
    """SQL for the seconds since 1970, by the clock of the database."""

    name: str

    @abstractmethod
    def _query(self, sql: str, *values: object) -> list[Any]:
        """The rows of one SELECT."""

    @abstractmethod
    def _commit(self, work: Callable[[Transaction], T], sync: Sync = Sync.WITHIN) -> T:
        """Do ``work`` in one transaction that can write, and commit it.

        When this returns, what was done has been done exactly once; when it raises, nothing has been done.  ``work``
        may be called again if the database asks for it.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of files and connections."""

    # -- experiments ----------------------------------------------------------------------------

    def create(self, spec: ExperimentSpec, *, at: float) -> ExperimentId:
        """Take a new experiment in, with an empty log."""
        text = encode_spec(spec)
        row = (at, spec.name, json.dumps(spec.labels), VERSION, text, digest_of(text), ExperimentState.CREATED, "{}")

        def work(transaction: Transaction) -> int:
            [(experiment,)] = transaction.run(
                "INSERT INTO experiments (created_at, name, labels, version, spec, digest, state, summary)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
                *row,
            )
            transaction.run("INSERT INTO logs (experiment) VALUES (?)", experiment)
            return int(experiment)

        return self._commit(work)

    def experiments(self) -> Sequence[ExperimentRecord]:
        """All experiments, the oldest first."""
        return [_record(*row) for row in self._query(f"{_RECORD} ORDER BY id")]

    def record(self, experiment: ExperimentId) -> ExperimentRecord:
        """One experiment."""
        return _record(*self._only(experiment, self._query(f"{_RECORD} WHERE id = ?", experiment)))

    def spec(self, experiment: ExperimentId) -> ExperimentSpec:
        """What an experiment is."""
        rows = self._query("SELECT version, spec, digest FROM experiments WHERE id = ?", experiment)
        version, text, digest = self._only(experiment, rows)
        try:
            check_version(version)
            if version > 1:
                check_digest(digest, text)
            return decode_spec(text)
        except EventLogError as error:
            raise EventLogError(f"{self.name}: experiment {experiment}: {error}") from error

    def log(self, experiment: ExperimentId, token: Token | None = None) -> SqlLog:
        """An experiment's log."""
        return SqlLog(self, experiment, token)

    def annotate(
        self,
        experiment: ExperimentId,
        *,
        name: str | None = None,
        labels: Sequence[str] | None = None,
        archived: bool | None = None,
    ) -> None:
        """Change what the list of experiments shows."""
        values = (
            name,
            None if labels is None else json.dumps(list(labels)),
            None if archived is None else int(archived),
            experiment,
        )
        rows = self._commit(
            lambda transaction: transaction.run(
                "UPDATE experiments SET name = coalesce(?, name), labels = coalesce(?, labels),"
                " archived = coalesce(?, archived) WHERE id = ? RETURNING id",
                *values,
            )
        )
        self._only(experiment, rows)

    def delete(self, experiment: ExperimentId) -> None:
        """Forget an experiment, its log and its requests."""

        def work(transaction: Transaction) -> list[Any]:
            # First the row that an append would lock, so that none slips in between.
            gone = transaction.run("DELETE FROM logs WHERE experiment = ? RETURNING experiment", experiment)
            transaction.run("DELETE FROM entries WHERE experiment = ?", experiment)
            transaction.run("DELETE FROM requests WHERE experiment = ?", experiment)
            transaction.run("DELETE FROM experiments WHERE id = ?", experiment)
            return gone

        self._only(experiment, self._commit(work))

    # -- leases -----------------------------------------------------------------------------------

    def lease(self, experiment: ExperimentId) -> LeaseState | None:
        """Who owns an experiment; None: nobody."""
        rows = self._query(
            f"SELECT token, beat, driver, {self.NOW} - seen FROM logs"  # noqa: S608
            " WHERE experiment = ? AND driver IS NOT NULL",
            experiment,
        )
        return LeaseState(rows[0][0], rows[0][1], Driver(*json.loads(rows[0][2])), rows[0][3]) if rows else None

    def take_lease(self, experiment: ExperimentId, driver: Driver, *, over: LeaseState | None = None) -> Token:
        """Own an experiment that nobody owns, or whose owner is still exactly ``over``."""
        token, beat = (over.token, over.beat) if over else (-1, -1)

        def work(transaction: Transaction) -> list[Any]:
            return transaction.run(
                f"UPDATE logs SET token = token + 1, beat = 0, driver = ?, seen = {self.NOW} WHERE experiment = ?"  # noqa: S608
                " AND (driver IS NULL OR (token = ? AND beat = ?)) RETURNING token",
                json.dumps(driver),
                experiment,
                token,
                beat,
            )

        if rows := self._commit(work):
            return int(rows[0][0])
        self._only(experiment, self._query("SELECT id FROM experiments WHERE id = ?", experiment))
        raise busy(self.lease(experiment))

    def beat(self, experiment: ExperimentId, token: Token) -> None:
        """Give a sign of life."""

        def work(transaction: Transaction) -> list[Any]:
            return transaction.run(
                f"UPDATE logs SET beat = beat + 1, seen = {self.NOW} WHERE experiment = ? AND token = ?"  # noqa: S608
                " AND driver IS NOT NULL RETURNING beat",
                experiment,
                token,
            )

        # One that a power loss takes back is no loss: its driver is gone as well.
        if not self._commit(work, Sync.NEVER):
            raise lost(experiment, self.lease(experiment))

    def release_lease(self, experiment: ExperimentId, token: Token) -> None:
        """Let go of an experiment."""
        self._commit(
            lambda transaction: transaction.run(
                "UPDATE logs SET driver = NULL WHERE experiment = ? AND token = ?", experiment, token
            )
        )

    # -- requests ---------------------------------------------------------------------------------

    def post(self, experiment: ExperimentId, request: Request, *, at: float) -> RequestId:
        """Leave a request for whoever drives the experiment, now or next."""
        row = (at, VERSION, encode_request(request), experiment)
        rows = self._commit(
            lambda transaction: transaction.run(
                "INSERT INTO requests (experiment, at, version, body) SELECT id, ?, ?, ? FROM experiments WHERE id = ?"
                " RETURNING id",
                *row,
            ),
            Sync.AFTER,
        )
        return int(self._only(experiment, rows)[0])

    def pending(self, experiment: ExperimentId) -> Sequence[tuple[RequestId, PendingRequest]]:
        """Return the requests that have no answer yet, the oldest first."""
        rows = self._query(
            "SELECT id, version, body FROM requests WHERE experiment = ? AND answered = 0 ORDER BY id", experiment
        )
        return [(number, _request(version, body)) for number, version, body in rows]

    def answer(self, request: RequestId) -> Answer | None:
        """What became of a request; None: it waits."""
        rows = self._query("SELECT answered, refused FROM requests WHERE id = ?", request)
        if not rows:
            raise NotFound(f"there is no request {request} in {self.name}")
        answered, refused = rows[0]
        return Answer(refused) if answered else None

    # -- messages ---------------------------------------------------------------------------------

    def _only(self, experiment: ExperimentId, rows: Sequence[Any]) -> Any:
        if rows:
            return rows[0]
        known = [number for (number,) in self._query("SELECT id FROM experiments ORDER BY id")]
        there = f"there are {known[0]} to {known[-1]}" if known else "there are none yet"
        raise NotFound(f"there is no experiment {experiment} in {self.name}; {there} (see: ashwood list)")


class SqlLog:
    """The log of one experiment of a `SqlStore`."""

    def __init__(self, store: SqlStore, experiment: ExperimentId, token: Token | None) -> None:
        self._store = store
        self._experiment = experiment
        self._token = token
        self._last = self.last()

    def append(
        self,
        entries: Sequence[Entry],
        *,
        summary: Mapping[str, Any] | None = None,
        answers: Mapping[RequestId, Answer] | None = None,
    ) -> Seq:
        """Add entries and answer requests, all or none; when this returns they survive a power loss."""
        rows = [(self._experiment, *to_row(seq, entry)) for seq, entry in enumerate(entries, start=self._last + 1)]
        answered = [(answer.refused, number, self._experiment) for number, answer in (answers or {}).items()]
        state = state_after(entries)
        text = None if summary is None else json.dumps(summary)

        def work(transaction: Transaction) -> bool:
            if not self._advance(transaction, len(rows)):
                return False
            if rows:
                transaction.insert("entries", ("experiment", *Row._fields), rows)
            if answered:
                transaction.run_many(
                    "UPDATE requests SET answered = 1, refused = ? WHERE id = ? AND experiment = ?", answered
                )
            if state is not None or text is not None:
                transaction.run(
                    "UPDATE experiments SET state = coalesce(?, state), summary = coalesce(?, summary) WHERE id = ?",
                    state,
                    text,
                    self._experiment,
                )
            return True

        if not self._store._commit(work):
            raise self._too_late()
        self._last += len(rows)
        return self._last

    def read(self, *, after: Seq = 0) -> Iterator[tuple[Seq, Entry]]:
        """The entries behind ``after``, in order, up to where the log ends now."""
        last = self.last()
        chunk = _FIRST_CHUNK  # whoever wants just a few needn't wait for many
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
            # A row with a wrong number ends what can be read, also if the rows behind it have the right numbers.
            numbered = takewhile(lambda pair: pair[0][0] == pair[1], zip(rows, count(after + 1), strict=False))
            try:
                for seq, entry in from_rows([Row._make(row) for row, _ in numbered]):
                    yield seq, entry
                    after = seq
            except EventLogError as error:
                raise self._damaged(after + 1, f"can't be used: {error}") from error
            if after < end:
                self.last()  # Raises NotFound if the experiment was deleted meanwhile.
                raise self._damaged(after + 1, "is missing")

    def _advance(self, transaction: Transaction, count: int) -> bool:
        owned, token = ("", ()) if self._token is None else (" AND token = ? AND driver IS NOT NULL", (self._token,))
        moved = transaction.run(
            f"UPDATE logs SET head = head + ? WHERE experiment = ? AND head = ?{owned} RETURNING head",  # noqa: S608
            count,
            self._experiment,
            self._last,
            *token,
        )
        return bool(moved)

    def _too_late(self) -> EventLogError:
        owner = self._store.lease(self._experiment)
        if self._token is not None and (owner is None or owner.token != self._token):
            return lost(self._experiment, owner)
        self.last()  # says so where there is no such experiment any more
        return moved_on(self._experiment, self._last)

    def last(self) -> Seq:
        """The place of the last entry."""
        rows = self._store._query("SELECT head FROM logs WHERE experiment = ?", self._experiment)
        return int(self._store._only(self._experiment, rows)[0])

    def _damaged(self, seq: Seq, why: str) -> EventLogError:
        save = f"; the entries before it can be saved with: ashwood export {self._experiment} --until {seq - 1}"
        return EventLogError(
            f"{self._store.name}: entry {seq} of experiment {self._experiment} {why}"
            + (f"{save} --out FILE.ashwood" if seq > 1 else "")
        )


def _request(version: int, body: str) -> PendingRequest:
    try:
        return decode_request(version, body)
    except EventLogError as error:
        return UnreadableRequest(str(error))


def _record(
    experiment: int, created_at: float, name: str, state: str, summary: str, labels: str, archived: int
) -> ExperimentRecord:
    return ExperimentRecord(
        experiment,
        created_at,
        name,
        ExperimentState(state),
        json.loads(summary),
        tuple(json.loads(labels)),
        bool(archived),
    )
