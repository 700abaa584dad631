"""The durable record in a PostgreSQL database, for teams: several drivers, hundreds of experiments, one database.

Everything is in the schema ``ashwood``, made on first use.  A driver locks the one row of its own experiment and
nothing else, so experiments don't wait for each other.

**A connection may go at any time**, when the server restarts or the network fails, and nobody knows whether a COMMIT
that was under way has happened.  So each store numbers its transactions, and the first statement of each writes the
number into the store's row of ``writers``: what is repeated on a new connection finds its number there if it has
been done, and waits at that row if the server is still at it.

**A database has an identity**, a random number that is made with the schema.  It is part of what a dump contains, and
tells which directory holds the files of the database, however a URL names the server.

**A role that may only read** reads older schemas, too: each query sees the tables as the current schema has them.
"""

from __future__ import annotations

import getpass
import os
import secrets
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from ashwood.errors import AshwoodError, DiskFull, EventLogError, NotFound
from ashwood.eventlog.sql import SqlStore, Sync, Transaction

if TYPE_CHECKING:
    import psycopg

_RECONNECT_SECONDS: Final = 60.0
_FIRST_WAIT_SECONDS: Final = 0.05
_LONGEST_WAIT_SECONDS: Final = 2.0
_HURRY_SECONDS: Final = 1.0
_HURRY_CONNECT_SECONDS: Final = "2"

_CONNECTION: Final = {
    "connect_timeout": "10",
    "application_name": "ashwood",
    # A server that vanished without a word is noticed in half a minute, not in hours.
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "4",
    "tcp_user_timeout": "30000",
}
_SESSION: Final = (
    "SET search_path = ashwood",
    "SET synchronous_commit = on",
    "SET default_transaction_isolation = 'read committed'",
    # A client that vanished in a transaction holds its locks no longer than that.
    "SET idle_in_transaction_session_timeout = '30s'",
    "SET lock_timeout = '30s'",
    # A role or a database can have a limit that is meant for other programs.
    "SET statement_timeout = 0",
    "SET client_encoding = 'UTF8'",
)
_LOCK: Final = 0x41736877  # "Ashw": held while the schema is made

# Conflicts, deadlocks, long waits for a lock and canceled statements: the same transaction may succeed the next time.
_PASSING: Final = ("40001", "40P01", "55P03", "57014")
# The server says that it ends the connection.
_GONE: Final = ("57P01", "57P02", "57P03", "57P05", "25P03", "25P04")
_NO_RIGHT: Final = "42501"
_READ_ONLY: Final = "25006"

# One script a schema version, as in `ashwood.eventlog.sqlite`.
_MIGRATIONS: Final = (
    """
    CREATE TABLE experiments (
        id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        created_at DOUBLE PRECISION NOT NULL,
        name TEXT NOT NULL,
        version INTEGER NOT NULL,
        spec TEXT NOT NULL,
        digest BIGINT NOT NULL,
        state TEXT NOT NULL,
        summary TEXT NOT NULL,
        labels TEXT NOT NULL,
        archived INTEGER NOT NULL DEFAULT 0
    );
    CREATE TABLE entries (
        experiment BIGINT NOT NULL,
        seq BIGINT NOT NULL,
        at DOUBLE PRECISION NOT NULL,
        version INTEGER NOT NULL,
        body TEXT NOT NULL,
        digest BIGINT NOT NULL,
        PRIMARY KEY (experiment, seq)
    );
    CREATE TABLE logs (
        experiment BIGINT PRIMARY KEY REFERENCES experiments (id) ON DELETE CASCADE,
        head BIGINT NOT NULL DEFAULT 0,
        token BIGINT NOT NULL DEFAULT 0,
        beat BIGINT NOT NULL DEFAULT 0,
        driver TEXT,
        seen DOUBLE PRECISION
    ) WITH (fillfactor = 50);
    CREATE TABLE requests (
        id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        experiment BIGINT NOT NULL REFERENCES experiments (id) ON DELETE CASCADE,
        at DOUBLE PRECISION NOT NULL,
        version INTEGER NOT NULL,
        body TEXT NOT NULL,
        answered INTEGER NOT NULL DEFAULT 0,
        refused TEXT
    );
    CREATE INDEX unanswered ON requests (experiment, id) WHERE answered = 0;
    CREATE TABLE writers (
        id UUID PRIMARY KEY,
        transaction BIGINT NOT NULL,
        seen TIMESTAMPTZ NOT NULL
    ) WITH (fillfactor = 50);
    """,
    """
    ALTER TABLE experiments ADD COLUMN about_digest BIGINT, ADD COLUMN state_digest BIGINT;
    ALTER TABLE logs ADD COLUMN driver_digest BIGINT;
    ALTER TABLE requests ADD COLUMN digest BIGINT;
    """,
    """
    ALTER TABLE schema_version ADD COLUMN identity TEXT, ADD COLUMN upgraded BOOLEAN;
    -- Its rows are short enough for it to have no TOAST table, which TRUNCATE would need room for.
    CREATE UNLOGGED TABLE ballast (filler BIT(15200)) WITH (autovacuum_enabled = false, vacuum_truncate = false);
    DO $$
    DECLARE writer TEXT;
    BEGIN
        -- Roles that were granted rights on all tables have none on a new one.
        FOR writer IN
            SELECT DISTINCT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END
            FROM pg_class, aclexplode(relacl)
            WHERE pg_class.oid = CAST('entries' AS regclass) AND privilege_type = 'INSERT'
        LOOP
            EXECUTE 'GRANT ALL ON ballast TO ' || writer;
        END LOOP;
    END
    $$;
    """,
)

# What a query puts before its SELECT so that the tables of an older schema look like those of the current one.
_SHADOWS: Final = {
    1: """
    WITH experiments AS (
        SELECT *, CAST(NULL AS BIGINT) AS about_digest, CAST(NULL AS BIGINT) AS state_digest FROM ashwood.experiments
    ), logs AS (
        SELECT *, CAST(NULL AS BIGINT) AS driver_digest FROM ashwood.logs
    ), requests AS (
        SELECT *, CAST(NULL AS BIGINT) AS digest FROM ashwood.requests
    )
    """
}

_RESERVE_BYTES: Final = 4 << 20
# Four rows of 1,900 bytes a page. Random, because zeros take no room where a file system compresses.
_FILL: Final = """
    INSERT INTO ballast SELECT (
        SELECT CAST('x' || left(string_agg(md5(CAST(random() + number + part AS TEXT)), ''), 3800) AS BIT(15200))
        FROM generate_series(1, 119) AS part
    ) FROM generate_series(1, ?) AS number
"""
_ROW_BYTES: Final = 8192 // 4
_RESERVED: Final = "SELECT pg_relation_size('ashwood.ballast')"

_MARK: Final = """
    INSERT INTO writers VALUES (?, ?, now())
    ON CONFLICT (id) DO UPDATE SET transaction = EXCLUDED.transaction, seen = EXCLUDED.seen
    WHERE writers.transaction < EXCLUDED.transaction
    RETURNING transaction
"""

_TIDY: Final = """
    DELETE FROM writers WHERE id IN (
        SELECT id FROM writers WHERE seen < now() - interval '1 day' FOR UPDATE SKIP LOCKED
    )
"""

T = TypeVar("T")


class _Schema(NamedTuple):
    """What a database says of its schema.

    Attributes:
        version: number of the last migration that was run; 0 if there is no schema.
        identity: identity of the database; empty in schemas before version 3.
        upgraded: whether the schema is older than its identity.
    """

    version: int = 0
    identity: str = ""
    upgraded: bool = False


class PostgresStore(SqlStore):
    """All experiments of a database; see `ashwood.eventlog.port.Store`.

    Attributes:
        host: host and port of the server, as the URL has them.
        database: the database on it.
        identity: tells the database from all others; empty if its schema is older and cannot be upgraded.
        upgraded: whether the database is older than its identity.
    """

    NOW = "CAST(extract(epoch FROM clock_timestamp()) AS DOUBLE PRECISION)"

    def __init__(self, url: str, *, create: bool = True) -> None:
        """Connect to ``postgresql://USER:PASSWORD@HOST:PORT/DATABASE``, or what else libpq takes.

        Raises:
            AshwoodError: psycopg isn't installed.
            NotFound: there are no experiments in the database, and ``create`` is False.
            EventLogError: it can't be reached or used.
        """
        self._psycopg = _import_psycopg()
        self._parameters = self._parse(url)
        self._user = self._setting("user", _login())
        self.database = self._setting("dbname", self._user, variable="PGDATABASE")
        port = self._setting("port", "5432")
        self.host = self._setting("host", "localhost") + ("" if port == "5432" else f":{port}")
        self.name = f"postgresql://{self.host}/{self.database}"
        self._writer = uuid.uuid4()
        self._transactions = 0
        self._schema = _Schema()
        self._creates = False
        self._busy_since: float | None = None
        self._hurries = self._gave_up = False
        self._connection: psycopg.Connection[Any] | None = None
        with _Explained(self):
            self._connection = self._connect()
            try:
                self._prepare(create)
            except BaseException:
                self.close()
                raise

    @property
    def identity(self) -> str:
        """Identity of the database."""
        return self._schema.identity

    @property
    def upgraded(self) -> bool:
        """Whether the database is older than its identity."""
        return self._schema.upgraded

    def close(self) -> None:
        """Let go of the connection.  Idempotent."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def hurry(self, *, on: bool = True) -> None:
        """See `ashwood.eventlog.port.Store`."""
        self._hurries = on
        self._gave_up = self._gave_up and on
        # An answer that is just arriving is taken.
        if on and self._busy_since is not None and time.monotonic() >= self._busy_since + _HURRY_SECONDS:
            self.close()  # the connection is in the middle of a command
            raise EventLogError(f"{self.name}: the server does not answer, and Ctrl-C ended the wait for it")

    def _query(self, sql: str, *values: object) -> list[Any]:
        if self._schema.version in _SHADOWS:  # It may have been upgraded since.
            self._schema = self._persistently(self._read_schema)
        shadowed = _SHADOWS.get(self._schema.version, "") + sql
        return self._persistently(lambda connection: _Transaction(connection).run(shadowed, *values))

    def _commit(self, work: Callable[[Transaction], T], sync: Sync = Sync.WITHIN) -> T:
        if self._schema.version < len(_MIGRATIONS):
            raise EventLogError(
                f"{self.name}: version {self._schema.version} of its schema can only be read, and {self._user} may not "
                f'upgrade it to version {len(_MIGRATIONS)}: let the owner of the schema "ashwood" run a command of '
                "this Ashwood, for example: ashwood list --home URL"
            )
        self._transactions += 1
        number, results = self._transactions, list[T]()

        def attempt(connection: psycopg.Connection[Any]) -> T:
            with connection.transaction():
                transaction = _Transaction(connection)
                if sync is Sync.NEVER:
                    transaction.run("SET LOCAL synchronous_commit = off")
                if transaction.run(_MARK, self._writer, number):
                    if number == 1:
                        transaction.run(_TIDY)
                    results.append(work(transaction))
            return results[-1]

        return self._persistently(attempt)

    # -- room on the server's disk ----------------------------------------------------------------

    def reserve(self) -> None:
        """Have room on the server's disk that `release` frees, so that it can be recorded that the disk is full.

        All drivers share it.  It stays when they end.

        Raises:
            DiskFull: there is not that much room.
            EventLogError: the role may not do that.
        """

        def fill(connection: psycopg.Connection[Any]) -> None:
            # The rows are taken back, so that no dump contains them.  Their pages stay.
            with connection.transaction(force_rollback=True):
                run = _Transaction(connection).run
                run("SELECT pg_advisory_xact_lock(?)", _LOCK)
                if (missing := _RESERVE_BYTES - run(_RESERVED)[0][0]) > 0:
                    run(_FILL, -(-missing // _ROW_BYTES))

        if self._query(_RESERVED)[0][0] < _RESERVE_BYTES:
            self._persistently(fill)

    def release(self) -> None:
        """Free what was reserved.  Idempotent."""
        # What is wrong is for others to tell: this is called when something else went wrong already.
        with suppress(EventLogError):
            self._persistently(lambda connection: _Transaction(connection).run("TRUNCATE ballast"))

    # -- connections ------------------------------------------------------------------------------

    def _persistently(self, attempt: Callable[[psycopg.Connection[Any]], T]) -> T:
        """Try until it is done: again on a new connection where that was lost, for up to a minute.

        After `hurry` there is one try, and none after one that failed.
        """
        if self._hurries and self._gave_up:
            raise EventLogError(f"{self.name}: the server does not answer")
        self._busy_since = time.monotonic()
        try:
            return self._repeat(attempt)
        except BaseException:
            self._gave_up = self._hurries
            raise
        finally:
            self._busy_since = None

    def _repeat(self, attempt: Callable[[psycopg.Connection[Any]], T]) -> T:
        give_up_at, wait = None, _FIRST_WAIT_SECONDS
        while True:
            with _Explained(self):
                try:
                    if self._connection is None:
                        self._connection = self._connect()
                    return attempt(self._connection)
                except self._psycopg.Error as error:
                    if self._connection is not None and (self._connection.closed or error.sqlstate in _GONE):
                        self.close()
                    if self._connection is not None and error.sqlstate not in _PASSING:
                        raise
                    give_up_at = give_up_at or time.monotonic() + _RECONNECT_SECONDS
                    if self._hurries or time.monotonic() > give_up_at:
                        raise
            self._sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT_SECONDS)

    def _sleep(self, seconds: float) -> None:
        """Sleep in slices, as a signal handler that calls `hurry` does not end a sleep."""
        over_at = time.monotonic() + seconds
        while not self._hurries and (left := over_at - time.monotonic()) > 0:
            time.sleep(min(left, _FIRST_WAIT_SECONDS))

    def _connect(self) -> psycopg.Connection[Any]:
        timeout = {"connect_timeout": _HURRY_CONNECT_SECONDS} if self._hurries else {}
        connection: psycopg.Connection[Any] = self._psycopg.connect(**self._parameters | timeout, autocommit=True)
        try:
            for statement in _SESSION:
                connection.execute(statement)
        except BaseException:
            connection.close()
            raise
        return connection

    def _parse(self, url: str) -> dict[str, Any]:
        try:
            return {**_CONNECTION, **self._psycopg.conninfo.conninfo_to_dict(url)}
        except self._psycopg.ProgrammingError:
            # Its message may quote the password.
            raise EventLogError(
                "the URL of the PostgreSQL database can't be read: expected "
                "postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with special characters of the password as %XX"
            ) from None

    def _setting(self, name: str, default: str, *, variable: str | None = None) -> str:
        return str(self._parameters.get(name) or os.environ.get(variable or f"PG{name.upper()}") or default)

    # -- the schema -------------------------------------------------------------------------------

    def _prepare(self, create: bool) -> None:
        schema = self._persistently(self._read_schema)
        if not schema.version and not create:
            raise NotFound(f"there are no experiments in {self.name}; start one with 'ashwood run FILE --home URL'")
        if schema.version > len(_MIGRATIONS):
            raise EventLogError(
                f"{self.name} was written by a newer Ashwood: its schema is version {schema.version}, and this Ashwood "
                f"knows up to {len(_MIGRATIONS)}; upgrade Ashwood to read it"
            )
        self._creates = not schema.version
        if schema.version < len(_MIGRATIONS):
            schema = self._persistently(partial(self._migrate, schema))
        self._schema = schema

    def _migrate(self, found: _Schema, connection: psycopg.Connection[Any]) -> _Schema:
        """Bring the schema up to date if the role may do that, and return what it is now."""
        try:
            with connection.transaction():
                run = _Transaction(connection).run
                run("SELECT pg_advisory_xact_lock(?)", _LOCK)
                # Read again under the lock: another process may have been faster.
                schema = self._read_schema(connection)
                if not schema.version:
                    run("CREATE SCHEMA IF NOT EXISTS ashwood")
                    run("CREATE TABLE ashwood.schema_version (version INTEGER NOT NULL)")
                    run("INSERT INTO schema_version VALUES (0)")
                for script in _MIGRATIONS[schema.version :]:
                    run(script)
                run("UPDATE schema_version SET version = ?", len(_MIGRATIONS))
                run(
                    "UPDATE schema_version SET identity = ?, upgraded = ? WHERE identity IS NULL",
                    secrets.token_hex(8),
                    schema.version > 0,
                )
                return self._read_schema(connection)
        except self._psycopg.Error as error:
            if not found.version or error.sqlstate not in (_NO_RIGHT, _READ_ONLY):
                raise
            return found

    def _read_schema(self, connection: psycopg.Connection[Any]) -> _Schema:
        run = _Transaction(connection).run
        # Not to_regclass(): what that knows may be older than the lock.
        if not run("SELECT 1 FROM pg_tables WHERE schemaname = 'ashwood' AND tablename = 'schema_version'"):
            return _Schema()
        # Its columns change with its version, which a prepared statement does not allow.
        rows = connection.execute("SELECT * FROM ashwood.schema_version", prepare=False).fetchall()
        if len(rows) != 1:
            raise EventLogError(
                f"{self.name}: the table ashwood.schema_version has {len(rows)} rows, and must have one: was the "
                "database restored in part, or changed by hand? Restore it from a backup"
            )
        # Version 3 added the other columns.
        version, identity, upgraded = (*rows[0], "", False)[:3]
        return _Schema(int(version), identity or "", bool(upgraded))

    # -- messages ---------------------------------------------------------------------------------

    def explain(self, error: psycopg.Error) -> EventLogError:
        """What the user is told, without the password."""
        said = str(error).strip().replace("\n", " ")
        if password := self._parameters.get("password"):
            said = said.replace(password, "…")
        if error.sqlstate == "53100":
            return DiskFull(f"{self.name}: there is no room on the server's disk ({said}); free some space")
        return EventLogError(f"{self.name}: {said}{self._advice(error.sqlstate, said)}")

    def _advice(self, code: str | None, said: str) -> str:
        if code == _NO_RIGHT:
            rights = [f'CREATE ON DATABASE "{self.database}"']
            if "schema" in said and self._creates:  # An administrator has made it, and nothing in it.
                rights = ["USAGE, CREATE ON SCHEMA ashwood"]
            elif "database" not in said:  # the schema is there, and is another user's
                rights = ["USAGE ON SCHEMA ashwood", "ALL ON ALL TABLES IN SCHEMA ashwood"]
            return "; let an administrator run: " + " ".join(f'GRANT {right} TO "{self._user}";' for right in rights)
        if code == _READ_ONLY:
            return "; the server can only be read from: connect to the primary"
        if code == "55P03":
            return "; another process doesn't let go of it: see pg_stat_activity"
        if "password" in said or "authentication" in said:
            return "; check the user and the password in the URL (or PGPASSWORD, or ~/.pgpass)"
        if "database" in said and "does not exist" in said:
            return f"; check the name in the URL, or make it with: createdb {self.database}"
        if code is None or code.startswith("08"):
            return "; does the server run, and can it be reached from here?"
        return ""


class _Transaction:
    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    def run(self, sql: str, *values: object) -> list[Any]:
        cursor = self._connection.execute(sql.replace("?", "%s"), values or None)
        return cursor.fetchall() if cursor.description else []

    def run_many(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        with self._connection.cursor() as cursor:
            cursor.executemany(sql.replace("?", "%s"), rows)

    def insert(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        with (
            self._connection.cursor() as cursor,
            cursor.copy(f"COPY {table} ({', '.join(columns)}) FROM STDIN") as copy,
        ):
            for row in rows:
                copy.write_row(row)


class _Explained:
    """Turns psycopg's errors into ours; a context manager."""

    def __init__(self, store: PostgresStore) -> None:
        self._store = store

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, self._store._psycopg.Error):
            # Not "from error": its own words may hold the password.
            raise self._store.explain(error) from None


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in some containers
        return "postgres"


def _import_psycopg() -> Any:
    try:
        import psycopg
    except ImportError as error:
        raise AshwoodError(
            f"PostgreSQL needs a package that isn't there ({error}); install it with: pip install 'ashwood[postgres]'"
        ) from error
    return psycopg
