"""A store in a PostgreSQL database, which several drivers on several machines can share.

All tables are in the schema ``ashwood``, which is made on first use.  A driver locks only the row of its experiment in
``logs``, so experiments do not wait for each other.

**Transactions are repeated safely.**  If the server restarts or the network fails during a COMMIT, the client does not
know whether the transaction was committed.  So each store numbers its transactions, and the first statement of each
transaction writes its number into the store's row of ``writers``.  When the transaction is repeated on a new connection
and had been committed, that statement finds its number in the row, and nothing is done again.  If the server is still
committing it, the statement waits for the lock on that row.

**A database has an identity**, a random number that is made with the schema.  A dump contains it, too.  It names the
directory of the database's files, because different URLs can lead to the same server.

**A role without write privileges can read older schemas.**  It cannot upgrade the schema, so common table expressions
make the tables look like those of the present schema.
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
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from ashwood.errors import AshwoodError, DiskFull, EventLogError, NotFound
from ashwood.eventlog.sql import SqlStore, Sync, Transaction

if TYPE_CHECKING:
    import psycopg

_RECONNECT_SECONDS: Final = 60.0
_FIRST_WAIT_SECONDS: Final = 0.05
_LONGEST_WAIT_SECONDS: Final = 2.0
# After `hurry`, a statement that has run for less than this may still end by itself.
_HURRY_SECONDS: Final = 1.0
_HURRY_CONNECT_SECONDS: Final = "2"

_CONNECTION: Final = {
    "connect_timeout": "10",
    "application_name": "ashwood",
    # A server that is unreachable without closing the connection is noticed after half a minute, not after hours.
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "4",
    "tcp_user_timeout": "30000",
}
_SESSION: Final = (
    "SET search_path = ashwood",
    "SET synchronous_commit = on",
    "SET default_transaction_isolation = 'read committed'",
    # A client that becomes unreachable in a transaction holds its locks for at most this time.
    "SET idle_in_transaction_session_timeout = '30s'",
    "SET lock_timeout = '30s'",
    # A role or a database may have a default limit that is meant for other programs.
    "SET statement_timeout = 0",
    "SET client_encoding = 'UTF8'",
)
_LOCK: Final = 0x41736877  # "Ashw", the advisory lock that is held while the schema or the reserve is changed.

# Error codes (SQLSTATE) of conflicts, deadlocks, timeouts of locks and canceled statements: a repetition may succeed.
_TRANSIENT: Final = ("40001", "40P01", "55P03", "57014")
# Error codes with which the server ends a connection.
_DISCONNECTED: Final = ("57P01", "57P02", "57P03", "57P05", "25P03", "25P04")
_NO_PRIVILEGE: Final = "42501"
_READ_ONLY: Final = "25006"
_DISK_FULL: Final = "53100"
_LOCK_NOT_AVAILABLE: Final = "55P03"

# One script for each schema version, as in `ashwood.eventlog.sqlite`.
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
    -- The reserve.  Its rows are so short that it has no TOAST table: TRUNCATE would need disk space for that.
    CREATE UNLOGGED TABLE ballast (filler BIT(15200)) WITH (autovacuum_enabled = false, vacuum_truncate = false);
    DO $$
    DECLARE writer TEXT;
    BEGIN
        -- Roles with privileges on the existing tables have none on a new table.
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
    """
    CREATE TABLE notes (
        experiment BIGINT NOT NULL REFERENCES experiments (id) ON DELETE CASCADE,
        trial BIGINT NOT NULL,
        text TEXT NOT NULL,
        digest BIGINT NOT NULL,
        PRIMARY KEY (experiment, trial)
    );
    DO $$
    DECLARE role TEXT; may TEXT;
    BEGIN
        -- Roles that may read or write experiments may do the same with their notes.
        FOR role, may IN
            SELECT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END, privilege_type
            FROM pg_class, aclexplode(relacl)
            WHERE pg_class.oid = CAST('experiments' AS regclass)
            AND privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
        LOOP
            EXECUTE 'GRANT ' || may || ' ON notes TO ' || role;
        END LOOP;
    END
    $$;
    """,
)

# For each older schema: common table expressions that make its tables look like those of the present schema.
_NO_NOTES: Final = """
    WITH notes AS (
        SELECT CAST(0 AS BIGINT) AS experiment, CAST(0 AS BIGINT) AS trial, '' AS text, CAST(0 AS BIGINT) AS digest
        WHERE FALSE
    )"""
_COMPATIBLE_TABLES: Final = {
    1: f"""
    {_NO_NOTES}, experiments AS (
        SELECT *, CAST(NULL AS BIGINT) AS about_digest, CAST(NULL AS BIGINT) AS state_digest FROM ashwood.experiments
    ), logs AS (
        SELECT *, CAST(NULL AS BIGINT) AS driver_digest FROM ashwood.logs
    ), requests AS (
        SELECT *, CAST(NULL AS BIGINT) AS digest FROM ashwood.requests
    )
    """,  # noqa: S608
    2: _NO_NOTES,
    3: _NO_NOTES,
}

_RESERVE_BYTES: Final = 4 << 20
# Four rows of 1,900 bytes fit into a page.  They are random, because a file system that compresses would store zeros in
# almost no space.
_FILL: Final = """
    INSERT INTO ballast SELECT (
        SELECT CAST('x' || left(string_agg(md5(CAST(random() + number + part AS TEXT)), ''), 3800) AS BIT(15200))
        FROM generate_series(1, 119) AS part
    ) FROM generate_series(1, ?) AS number
"""
_ROW_BYTES: Final = 8192 // 4
_RESERVED: Final = "SELECT pg_relation_size('ashwood.ballast')"

# Returns a row unless this transaction, or a later one of this store, has been committed before.
_NUMBER_TRANSACTION: Final = """
    INSERT INTO writers VALUES (?, ?, now())
    ON CONFLICT (id) DO UPDATE SET transaction = EXCLUDED.transaction, seen = EXCLUDED.seen
    WHERE writers.transaction < EXCLUDED.transaction
    RETURNING transaction
"""

# Skips rows that are locked, because their stores are in use.
_DELETE_OLD_WRITERS: Final = """
    DELETE FROM writers WHERE id IN (
        SELECT id FROM writers WHERE seen < now() - interval '1 day' FOR UPDATE SKIP LOCKED
    )
"""

T = TypeVar("T")


class _Schema(NamedTuple):
    """The row of the table ``schema_version``.

    Attributes:
        version: number of the last migration that was run, or 0 if there is no schema.
        identity: identity of the database, empty before schema version 3.
        upgraded: whether the schema was made before version 3 and upgraded, so that its identity is younger.
    """

    version: int = 0
    identity: str = ""
    upgraded: bool = False


class PostgresStore(SqlStore):
    """A store in a PostgreSQL database; see `ashwood.eventlog.port.Store`.

    Attributes:
        host: host and port of the server, as in the URL.
        database: name of the database.
    """

    NOW = "CAST(extract(epoch FROM clock_timestamp()) AS DOUBLE PRECISION)"

    def __init__(self, url: str, *, create: bool = True) -> None:
        """Connect to a database, and make or upgrade its schema.

        Args:
            url: ``postgresql://USER:PASSWORD@HOST:PORT/DATABASE``, or any connection string of libpq.
            create: whether to make the schema if it does not exist.

        Raises:
            AshwoodError: psycopg is not installed.
            NotFound: the database has no schema, and ``create`` is False.
            EventLogError: the database cannot be reached or used.
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
        with _TranslatedErrors(self):
            self._connection = self._connect()
            try:
                self._prepare(create)
            except BaseException:
                self.close()
                raise

    @property
    def identity(self) -> str:
        """Identity of the database, empty if its schema is older than version 3 and cannot be upgraded."""
        return self._schema.identity

    @property
    def upgraded(self) -> bool:
        """Whether the schema was made before databases had identities."""
        return self._schema.upgraded

    def close(self) -> None:
        """Close the connection.  Idempotent."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def hurry(self, *, on: bool = True) -> None:
        """From now on, do not wait for a server that does not answer; see `ashwood.eventlog.port.Store.hurry`."""
        self._hurries = on
        self._gave_up = self._gave_up and on
        # A statement that has just begun is not interrupted, because it probably ends at once.
        if on and self._busy_since is not None and time.monotonic() >= self._busy_since + _HURRY_SECONDS:
            # A connection that was interrupted in the middle of a statement cannot be used again.
            self.close()
            raise EventLogError(f"{self.name}: the server does not answer, and Ctrl-C ended the wait for it")

    def _query(self, sql: str, *values: object) -> list[Any]:
        if self._schema.version in _COMPATIBLE_TABLES:  # Another process may have upgraded it since.
            self._schema = self._retry(self._read_schema)
        statement = _COMPATIBLE_TABLES.get(self._schema.version, "") + sql
        return self._retry(lambda connection: _Transaction(connection).run(statement, *values))

    def _commit(self, work: Callable[[Transaction], T], sync: Sync = Sync.WITHIN) -> T:
        if self._schema.version < len(_MIGRATIONS):
            raise EventLogError(
                f"{self.name}: this Ashwood can only read version {self._schema.version} of the schema, and "
                f"{self._user} may not upgrade it to version {len(_MIGRATIONS)}. Ask the owner of the schema "
                '"ashwood" to run any command of this Ashwood, for example: ashwood list --home URL'
            )
        self._transactions += 1
        number, results = self._transactions, list[T]()

        def attempt(connection: psycopg.Connection[Any]) -> T:
            with connection.transaction():
                transaction = _Transaction(connection)
                if sync is Sync.NEVER:
                    transaction.run("SET LOCAL synchronous_commit = off")
                if transaction.run(_NUMBER_TRANSACTION, self._writer, number):
                    if number == 1:
                        transaction.run(_DELETE_OLD_WRITERS)
                    results.append(work(transaction))
            # If an earlier try was committed, this is the result of that try.
            return results[-1]

        return self._retry(attempt)

    # -- reserve on the server's disk -------------------------------------------------------------

    def reserve(self) -> None:
        """Reserve space on the server's disk, which `release` frees when the disk is full.

        All drivers share the reserve, and it stays when they end.

        Raises:
            DiskFull: there is not enough space.
            EventLogError: the role may not fill the table of the reserve.
        """

        def fill(connection: psycopg.Connection[Any]) -> None:
            # The rows are rolled back, so that no dump contains them.  The table keeps their pages on the disk.
            with connection.transaction(force_rollback=True):
                run = _Transaction(connection).run
                run("SELECT pg_advisory_xact_lock(?)", _LOCK)
                if (missing := _RESERVE_BYTES - run(_RESERVED)[0][0]) > 0:
                    run(_FILL, -(-missing // _ROW_BYTES))

        if self._query(_RESERVED)[0][0] < _RESERVE_BYTES:
            self._retry(fill)

    def release(self) -> None:
        """Free the reserve, as far as possible.  Idempotent; an error of the server is ignored."""
        # This is called while another error is handled.  An error of its own would hide that one.
        with suppress(EventLogError):
            self._retry(lambda connection: _Transaction(connection).run("TRUNCATE ballast"))

    # -- connections ------------------------------------------------------------------------------

    def _retry(self, attempt: Callable[[psycopg.Connection[Any]], T]) -> T:
        """Call ``attempt`` until it succeeds, for up to a minute; open a new connection if the old one is lost.

        After `hurry`, call it only once; if that fails, later calls fail at once.
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
        deadline, wait = None, _FIRST_WAIT_SECONDS
        while True:
            with _TranslatedErrors(self):
                try:
                    if self._connection is None:
                        self._connection = self._connect()
                    return attempt(self._connection)
                except self._psycopg.Error as error:
                    if self._connection is not None and (self._connection.closed or error.sqlstate in _DISCONNECTED):
                        self.close()
                    if self._connection is not None and error.sqlstate not in _TRANSIENT:
                        raise
                    deadline = deadline or time.monotonic() + _RECONNECT_SECONDS
                    if self._hurries or time.monotonic() > deadline:
                        raise
            self._sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT_SECONDS)

    def _sleep(self, seconds: float) -> None:
        """Sleep until the time is over or `hurry` is called."""
        # In short sleeps, because Python continues a sleep after a signal handler returns.
        end = time.monotonic() + seconds
        while not self._hurries and (left := end - time.monotonic()) > 0:
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
            # The original message may quote the password.
            raise EventLogError(
                "cannot parse the URL of the PostgreSQL database: expected "
                "postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with special characters of the password as %XX"
            ) from None

    def _setting(self, name: str, default: str, *, variable: str | None = None) -> str:
        return str(self._parameters.get(name) or os.environ.get(variable or f"PG{name.upper()}") or default)

    # -- the schema -------------------------------------------------------------------------------

    def _prepare(self, create: bool) -> None:
        schema = self._retry(self._read_schema)
        if not schema.version and not create:
            raise NotFound(f"there are no experiments in {self.name}; start one with 'ashwood run FILE --home URL'")
        if schema.version > len(_MIGRATIONS):
            raise EventLogError(
                f"{self.name} was written by a newer Ashwood: its schema is version {schema.version}, and this Ashwood "
                f"reads versions up to {len(_MIGRATIONS)}; upgrade Ashwood to read it"
            )
        self._creates = not schema.version
        if schema.version < len(_MIGRATIONS):
            schema = self._retry(partial(self._migrate, schema))
        self._schema = schema

    def _migrate(self, found: _Schema, connection: psycopg.Connection[Any]) -> _Schema:
        """Make or upgrade the schema, and return it; return ``found`` if the role may not upgrade it."""
        try:
            with connection.transaction():
                run = _Transaction(connection).run
                run("SELECT pg_advisory_xact_lock(?)", _LOCK)
                # Read again under the lock, because another process may have upgraded it meanwhile.
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
            if not found.version or error.sqlstate not in (_NO_PRIVILEGE, _READ_ONLY):
                raise
            return found

    def _read_schema(self, connection: psycopg.Connection[Any]) -> _Schema:
        run = _Transaction(connection).run
        # Not to_regclass(): it may use a cached catalog from before this transaction waited for the lock.
        if not run("SELECT 1 FROM pg_tables WHERE schemaname = 'ashwood' AND tablename = 'schema_version'"):
            return _Schema()
        # The columns of the table differ between versions, and a prepared statement fails if they change.
        rows = connection.execute("SELECT * FROM ashwood.schema_version", prepare=False).fetchall()
        if len(rows) != 1:
            raise EventLogError(
                f"{self.name}: the table ashwood.schema_version has {len(rows)} rows, but must have one: was the "
                "database restored only in part, or changed by hand? Restore it from a backup"
            )
        # The columns for the identity exist since version 3.
        version, identity, upgraded = (*rows[0], "", False)[:3]
        return _Schema(int(version), identity or "", bool(upgraded))

    # -- messages ---------------------------------------------------------------------------------

    def explain(self, error: psycopg.Error) -> EventLogError:
        """Return an error of Ashwood for an error of psycopg, without the password, with advice on what to do."""
        text = str(error).strip().replace("\n", " ")
        if password := self._parameters.get("password"):
            text = text.replace(password, "…")
        if error.sqlstate == _DISK_FULL:
            return DiskFull(f"{self.name}: the server's disk is full ({text}); free some space")
        return EventLogError(f"{self.name}: {text}{self._advice(error.sqlstate, text)}")

    def _advice(self, code: str | None, text: str) -> str:
        if code == _NO_PRIVILEGE:
            privileges = [f'CREATE ON DATABASE "{self.database}"']
            if "schema" in text and self._creates:  # An administrator has made the schema, but no tables.
                privileges = ["USAGE, CREATE ON SCHEMA ashwood"]
            elif "database" not in text:  # The schema and its tables exist and belong to another user.
                privileges = ["USAGE ON SCHEMA ashwood", "ALL ON ALL TABLES IN SCHEMA ashwood"]
            grants = " ".join(f'GRANT {privilege} TO "{self._user}";' for privilege in privileges)
            return f"; ask an administrator to run: {grants}"
        if code == _READ_ONLY:
            return "; this server is read-only: connect to the primary server"
        if code == _LOCK_NOT_AVAILABLE:
            return "; another process holds the lock: see pg_stat_activity"
        if "password" in text or "authentication" in text:
            return "; check the user and the password in the URL (or PGPASSWORD, or ~/.pgpass)"
        if "database" in text and "does not exist" in text:
            return f"; check its name in the URL, or create it with: createdb {self.database}"
        if code is None or code.startswith("08"):
            return "; check that the server is running and can be reached from this machine"
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


class _TranslatedErrors:
    """A context manager that translates errors of psycopg with `PostgresStore.explain`."""

    def __init__(self, store: PostgresStore) -> None:
        self._store = store

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, self._store._psycopg.Error):
            # Not "from error", because a traceback would show its message, which may contain the password.
            raise self._store.explain(error) from None


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # The user has no name, as in some containers.
        return "postgres"


def _import_psycopg() -> Any:
    try:
        import psycopg
    except ImportError as error:
        raise AshwoodError(
            f"PostgreSQL needs a package that is not installed ({error}): pip install 'ashwood[postgres]'"
        ) from error
    return psycopg
