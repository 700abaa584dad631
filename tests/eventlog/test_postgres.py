"""PostgreSQL store: lost connections, old schemas, missing servers, databases and privileges, and full disks."""

import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ashwood.errors import AshwoodError, DiskFull, EventLogError, NotFound
from ashwood.eventlog import postgres as module
from ashwood.eventlog.codec import VERSION, digest_of, encode_spec, to_row
from ashwood.eventlog.port import Answer, ExperimentRecord
from ashwood.eventlog.postgres import PostgresStore
from ashwood.eventlog.reserve import ReserveFile
from ashwood.experiment.events import KillRequested, PauseRequested
from ashwood.experiment.lifecycle import ExperimentState
from ashwood.testing.records import a_driver, edge_case_entries, full_spec
from tests.mounts import small_disk
from tests.postgres import PostgresServer, find_programs

WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"

# Joined at run time, so that the source lines in a traceback do not contain it.
SECRET = "-".join(["a", "secret"])


@pytest.fixture
def url(postgres: PostgresServer) -> str:
    return postgres.fresh_database()


@pytest.fixture
def store(url: str) -> Iterator[PostgresStore]:
    with closing(PostgresStore(url)) as store:
        yield store


def kill_connection(url: str, store: PostgresStore) -> None:
    assert store._connection is not None
    with psycopg.connect(url, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 10000)", [store._connection.info.backend_pid])


def wait_for_lock(connection: psycopg.Connection[Any]) -> None:
    """Wait until some connection to the database is blocked by a lock."""
    deadline = time.monotonic() + 60
    while connection.execute(WAITING).fetchone() == (0,):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def a_writer(url: str) -> str:
    """Create a role that may write all tables that exist now, and return its URL."""
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute("DROP ROLE IF EXISTS writer")
        admin.execute("CREATE ROLE writer LOGIN")
        admin.execute("GRANT USAGE ON SCHEMA ashwood TO writer")
        admin.execute("GRANT ALL ON ALL TABLES IN SCHEMA ashwood TO writer")
    return url.replace("//ashwood@", "//writer@")


def a_reader(url: str) -> str:
    """Return the URL for a role with read-only access to the present tables."""
    with psycopg.connect(url, autocommit=True) as admin:
        if not admin.execute("SELECT 1 FROM pg_roles WHERE rolname = 'reader'").fetchone():
            admin.execute("CREATE ROLE reader LOGIN")
        admin.execute("GRANT USAGE ON SCHEMA ashwood TO reader")
        admin.execute("GRANT SELECT ON ALL TABLES IN SCHEMA ashwood TO reader")
    return url.replace("//ashwood@", "//reader@")


# -- durability and concurrency -----------------------------------------------------------------


def test_commits_are_synchronous(store: PostgresStore) -> None:
    assert [store._query(f"SHOW {name}")[0][0] for name in ("synchronous_commit", "fsync")] == ["on", "on"]


def test_stores_that_open_at_once_make_one_schema(url: str) -> None:
    numbers = list[int]()
    barrier = threading.Barrier(6, timeout=60)

    def open_store() -> None:
        barrier.wait()
        with closing(PostgresStore(url)) as store:
            numbers.append(store.create(full_spec(), at=1.0))

    threads = [threading.Thread(target=open_store) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers) == [1, 2, 3, 4, 5, 6]


def make_old_schema(url: str, version: int) -> ExperimentRecord:
    """Make a schema of an older Ashwood with one experiment, and return the record of the experiment."""
    text, log_entries = encode_spec(full_spec()), edge_case_entries()
    with psycopg.connect(url, autocommit=True) as old:
        old.execute("CREATE SCHEMA ashwood")
        old.execute("SET search_path = ashwood")
        old.execute("CREATE TABLE schema_version (version INTEGER NOT NULL)")
        old.execute("INSERT INTO schema_version VALUES (%s)", [version])
        for script in module._MIGRATIONS[:version]:
            old.execute(script)
        old.execute(
            "INSERT INTO experiments (created_at, name, version, spec, digest, state, summary, labels)"
            " VALUES (1.0, 'old', %s, %s, %s, 'errored', '{}', '[]')",
            [VERSION, text, digest_of(text)],
        )
        old.execute("INSERT INTO logs (experiment, head) VALUES (1, %s)", [len(log_entries)])
        for seq, entry in enumerate(log_entries, start=1):
            old.execute("INSERT INTO entries VALUES (1, %s, %s, %s, %s, %s)", [*to_row(seq, entry)])
        old.execute('INSERT INTO requests (experiment, at, version, body) VALUES (1, 1, 1, \'{"is":"KillRequested"}\')')
    return ExperimentRecord(1, 1.0, "old", ExperimentState.ERRORED, {})


@pytest.mark.parametrize("version", [1, 2, 3])
def test_old_schema_is_migrated(url: str, version: int) -> None:
    """The rows have no digests, so they are read without a check."""
    record, log_entries = make_old_schema(url, version), edge_case_entries()
    with closing(PostgresStore(url)) as store:
        assert store.record(1) == record
        assert store.identity
        assert store.upgraded
        assert [request for _, request in store.pending(1)] == [KillRequested()]
        assert len(list(store.log(1).read())) == len(log_entries)
        store.annotate(1, name="new")
        store.set_note(1, None, "note")
        assert store.notes(1) == {None: "note"}
        assert store.log(1).append(log_entries, summary={"fraction": 1.0}) == 2 * len(log_entries)
        assert store.record(1) == record._replace(name="new", summary={"fraction": 1.0})


@pytest.mark.parametrize("version", [1, 2, 3])
def test_old_schema_can_be_read_without_privilege_to_upgrade(url: str, version: int) -> None:
    record = make_old_schema(url, version)
    with closing(PostgresStore(a_reader(url))) as store:
        assert store.experiments() == [record]
        assert store.spec(1) == full_spec()
        assert store.lease(1) is None
        assert [request for _, request in store.pending(1)] == [KillRequested()]
        assert len(list(store.log(1).read())) == len(edge_case_entries())
        assert store.identity == ""
        assert (store.notes(1), store.note_digests(1)) == ({}, {})
        with pytest.raises(EventLogError, match=rf"can only read version {version} of the schema, .* ashwood list"):
            store.annotate(1, name="new")
        PostgresStore(url).close()
        assert store.experiments() == [record], "the owner has upgraded the schema meanwhile"
    with closing(PostgresStore(a_reader(url))) as store:
        assert store.experiments() == [record]
        assert store.identity


def test_identity_is_the_same_for_all_urls_of_a_database(url: str) -> None:
    with closing(PostgresStore(url)) as one, closing(PostgresStore(url.replace("127.0.0.1", "localhost"))) as same:
        assert one.identity == same.identity != ""
        assert not one.upgraded
        with psycopg.connect(url, autocommit=True) as admin:
            admin.execute("DROP SCHEMA ashwood CASCADE")
        with closing(PostgresStore(url)) as another:
            assert another.identity not in ("", one.identity)


def test_experiments_do_not_wait_for_each_other(url: str, store: PostgresStore) -> None:
    """Other experiments commit during a transaction of one experiment."""
    one, other = (store.create(full_spec(), at=1.0) for _ in range(2))
    with psycopg.connect(url) as busy:
        busy.execute("UPDATE ashwood.logs SET head = head WHERE experiment = %s", [one])
        busy.execute("UPDATE ashwood.experiments SET name = name WHERE id = %s", [one])
        store._query("SET lock_timeout = '5s'")
        log = store.log(other, store.take_lease(other, a_driver()))
        request = store.post(other, PauseRequested(), at=1.0)
        log.append(edge_case_entries(), summary={}, answers={request: Answer(None)})
        store.create(full_spec(), at=1.0)
        store.experiments()


# -- lost connections ---------------------------------------------------------------------------


def test_lost_connection_is_opened_again(url: str, store: PostgresStore) -> None:
    log = store.log(store.create(full_spec(), at=1.0))
    kill_connection(url, store)
    assert log.append(edge_case_entries()) == len(edge_case_entries())
    kill_connection(url, store)
    assert len(list(log.read())) == len(edge_case_entries())


@pytest.mark.parametrize("arrives", [True, False])
def test_transaction_is_committed_once_if_connection_is_lost_at_commit(
    url: str, store: PostgresStore, monkeypatch: pytest.MonkeyPatch, arrives: bool
) -> None:
    """The connection is lost after the server has committed, or before COMMIT arrives at the server."""
    lose = False
    commit = psycopg.Transaction.__exit__

    def commit_and_lose(self: psycopg.Transaction, *error: Any) -> Any:
        nonlocal lose
        if not lose:
            return commit(self, *error)
        lose = False
        if arrives:
            commit(self, *error)
        kill_connection(url, store)
        return self.connection.execute("SELECT 1")  # Raises the error of a lost connection.

    monkeypatch.setattr(psycopg.Transaction, "__exit__", commit_and_lose)

    lose = True
    experiment = store.create(full_spec(), at=1.0)
    assert [record.id for record in store.experiments()] == [experiment]
    lose = True
    token = store.take_lease(experiment, a_driver())
    log = store.log(experiment, token)
    lose = True
    request = store.post(experiment, PauseRequested(), at=1.0)
    assert store.pending(experiment) == [(request, PauseRequested())]
    lose = True
    assert log.append(edge_case_entries(), answers={request: Answer(None)}) == len(edge_case_entries())
    assert len(list(log.read())) == len(edge_case_entries())
    assert log.append(edge_case_entries()) == 2 * len(edge_case_entries())
    lose = True
    store.beat(experiment, token)
    lease = store.lease(experiment)
    assert lease is not None
    assert lease.beat == 1
    lose = True
    store.delete(experiment)
    assert store.experiments() == []


def test_repeated_transaction_waits_for_unfinished_commit(
    url: str, store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network fails unnoticed by the server, so the transaction is still open when it is repeated."""
    experiment = store.create(full_spec(), at=1.0)
    token = store.take_lease(experiment, a_driver())
    commit = psycopg.Transaction.__exit__
    lost: list[psycopg.Connection[Any]] = []

    def lose(self: psycopg.Transaction, *error: Any) -> Any:
        if lost:
            return commit(self, *error)
        lost.append(self.connection)
        store._connection = None
        raise psycopg.OperationalError("the network has failed")

    def commit_late() -> None:
        with psycopg.connect(url, autocommit=True) as other:
            wait_for_lock(other)
        lost[0].pgconn.exec_(b"COMMIT")

    monkeypatch.setattr(psycopg.Transaction, "__exit__", lose)
    server = threading.Thread(target=commit_late)
    server.start()
    store.beat(experiment, token)
    server.join()
    lost[0].close()
    lease = store.lease(experiment)
    assert lease is not None
    assert lease.beat == 1


def test_append_continues_after_server_restart(postgres: PostgresServer, store: PostgresStore) -> None:
    log = store.log(store.create(full_spec(), at=1.0))
    appended = list[int]()
    restarted = threading.Event()

    def append() -> None:
        while not restarted.is_set():
            appended.append(log.append(edge_case_entries()))

    thread = threading.Thread(target=append)
    thread.start()
    try:
        for mode in ("fast", "immediate"):
            known = len(appended)
            while thread.is_alive() and len(appended) < known + 10:
                thread.join(0.01)
            postgres.restart(mode)
    finally:
        restarted.set()
        thread.join()
    lengths = [len(edge_case_entries()) * number for number in range(1, len(appended) + 1)]
    assert appended == lengths
    assert len(list(log.read())) == lengths[-1]


def test_canceled_statement_is_repeated(url: str, store: PostgresStore) -> None:
    log = store.log(store.create(full_spec(), at=1.0))
    assert store._connection is not None
    backend = store._connection.info.backend_pid
    with psycopg.connect(url) as busy, psycopg.connect(url, autocommit=True) as admin:
        busy.execute("SELECT * FROM ashwood.logs FOR UPDATE")
        appended = list[int]()
        thread = threading.Thread(target=lambda: appended.append(log.append(edge_case_entries())))
        thread.start()
        for _ in range(2):
            wait_for_lock(admin)
            assert admin.execute("SELECT pg_cancel_backend(%s)", [backend]).fetchone() == (True,)
        wait_for_lock(admin)
        busy.rollback()
        thread.join()
    assert appended == [len(edge_case_entries())]


def test_statement_timeout_of_a_role_does_not_apply(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute("DROP ROLE IF EXISTS hasty")
        admin.execute("CREATE ROLE hasty LOGIN SUPERUSER")
        admin.execute("ALTER ROLE hasty SET statement_timeout = '10s'")
    with closing(PostgresStore(url.replace("//ashwood@", "//hasty@"))) as store:
        assert store._query("SHOW statement_timeout") == [("0",)]


@contextmanager
def hurry_once_it_waits(store: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Call `hurry` in a signal handler of this thread, as the second Ctrl-C does, as soon as the store waits."""
    monkeypatch.setattr(module, "_HURRY_SECONDS", 0.0)
    former = signal.signal(signal.SIGUSR1, lambda *_: store.hurry())
    main = threading.get_ident()

    def send() -> None:
        while store._busy_since is None:
            time.sleep(0.001)
        signal.pthread_kill(main, signal.SIGUSR1)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        thread.join()
        signal.signal(signal.SIGUSR1, former)


def test_hurry_ends_a_statement_that_waits_for_the_server(
    url: str, store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = store.create(full_spec(), at=1.0)
    log = store.log(experiment)
    with psycopg.connect(url) as other:
        other.execute("LOCK TABLE ashwood.logs")
        ended = pytest.raises(EventLogError, match="the server does not answer, and Ctrl-C ended the wait for it")
        with ended, hurry_once_it_waits(store, monkeypatch):
            log.append(edge_case_entries())
        with pytest.raises(EventLogError, match="the server does not answer"):
            store.release_lease(experiment, 1)
    store.hurry(on=False)
    assert list(log.read()) == []
    assert log.append(edge_case_entries()) == len(edge_case_entries())


def test_hurry_ends_the_wait_for_a_server_that_is_down(store: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = store.create(full_spec(), at=1.0)
    assert store._connection is not None
    store._connection.close()
    port = store._parameters["port"]
    store._parameters["port"] = "1"
    with pytest.raises(EventLogError), hurry_once_it_waits(store, monkeypatch):
        store.record(experiment)
    store.hurry(on=False)
    store._parameters["port"] = port
    assert store.record(experiment).id == experiment


# -- missing servers, databases and privileges --------------------------------------------------


def test_error_names_unreachable_server_without_password(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        EventLogError, match=r"postgresql://127.0.0.1:1/db: .*check that the server is running"
    ) as raised:
        PostgresStore(f"postgresql://me:{SECRET}@127.0.0.1:1/db")
    assert SECRET not in "".join(traceback.format_exception(raised.value))
    with closing(PostgresStore(postgres.fresh_database())) as store:
        store.create(full_spec(), at=1.0)
        monkeypatch.setattr(module, "_RECONNECT_SECONDS", 0.2)
        assert store._connection is not None
        store._connection.close()
        store._parameters["port"] = "1"
        with pytest.raises(EventLogError, match="check that the server is running"):
            store.experiments()


def test_error_names_missing_database(postgres: PostgresServer) -> None:
    with pytest.raises(EventLogError, match=r'database "nowhere" does not exist; .*createdb nowhere'):
        PostgresStore(postgres.url("nowhere"))


def test_error_of_invalid_url_does_not_contain_password() -> None:
    with pytest.raises(EventLogError, match="expected postgresql://USER") as raised:
        PostgresStore(f"postgresql://me:{SECRET}%ZZ@127.0.0.1/db")
    assert SECRET not in "".join(traceback.format_exception(raised.value))
    with pytest.raises(EventLogError) as raised:
        PostgresStore(f"postgresql://me:{SECRET}@127.0.0.1:1/db?sslmode={SECRET}")
    assert SECRET not in "".join(traceback.format_exception(raised.value))


def test_error_names_grants_for_missing_privileges(postgres: PostgresServer, url: str) -> None:
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute("CREATE ROLE guest LOGIN")
    guest = url.replace("//ashwood@", "//guest@")
    with pytest.raises(EventLogError, match=r'GRANT CREATE ON DATABASE "postgres" TO "guest"'):
        PostgresStore(guest)
    PostgresStore(url).close()
    with pytest.raises(EventLogError, match=r'GRANT USAGE .*; GRANT ALL ON ALL TABLES .* TO "guest"') as raised:
        PostgresStore(guest)
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(str(raised.value).partition("administrator to run: ")[2])
    with closing(PostgresStore(guest)) as store:
        assert store.log(store.create(full_spec(), at=1.0)).append(edge_case_entries()) == len(edge_case_entries())


def test_store_without_create_does_not_make_schema(url: str) -> None:
    with pytest.raises(NotFound, match="there are no experiments in postgresql://127"):
        PostgresStore(url, create=False)
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT to_regnamespace('ashwood')").fetchone() == (None,)
    PostgresStore(url).close()
    PostgresStore(url, create=False).close()


def test_schema_of_newer_ashwood_is_refused(url: str, store: PostgresStore) -> None:
    store._query("UPDATE schema_version SET version = 99 RETURNING 1")
    with pytest.raises(EventLogError, match="upgrade Ashwood"):
        PostgresStore(url)


def test_schema_without_version_row_is_refused(url: str, store: PostgresStore) -> None:
    store._query("DELETE FROM schema_version RETURNING 1")
    with pytest.raises(EventLogError, match=r"schema_version has 0 rows, but must have one: .*backup"):
        PostgresStore(url)


def test_error_names_grants_for_role_that_may_only_read(url: str, store: PostgresStore) -> None:
    experiment = store.create(full_spec(), at=1.0)
    with closing(PostgresStore(a_reader(url))) as reader:
        assert [record.id for record in reader.experiments()] == [experiment]
        with pytest.raises(EventLogError, match=r'permission denied .*GRANT ALL ON ALL TABLES .* TO "reader"'):
            reader.annotate(experiment, name="new")


def test_error_names_grants_for_empty_schema_of_administrator(url: str) -> None:
    a_guest = url.replace("//ashwood@", "//newcomer@")
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute("DROP ROLE IF EXISTS newcomer")
        admin.execute("CREATE ROLE newcomer LOGIN")
        admin.execute("CREATE SCHEMA ashwood")
        admin.execute("GRANT CREATE ON DATABASE postgres TO newcomer")
        try:
            with pytest.raises(EventLogError, match=r'GRANT USAGE, CREATE ON SCHEMA ashwood TO "newcomer"'):
                PostgresStore(a_guest)
        finally:
            admin.execute("REVOKE CREATE ON DATABASE postgres FROM newcomer")


def test_error_says_how_to_install_missing_psycopg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(AshwoodError, match=r"pip install 'ashwood\[postgres\]'"):
        PostgresStore("postgresql://localhost/db")


def test_importing_engine_does_not_import_psycopg() -> None:
    code = "import sys, ashwood.engine; sys.exit('psycopg' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_full_disk_of_server_raises_disk_full(store: PostgresStore) -> None:
    with pytest.raises(DiskFull, match="the server's disk is full"):
        store._query("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '53100', MESSAGE = 'could not extend file'; END $$")


def reserved(store: PostgresStore) -> int:
    [(size,)] = store._query("SELECT pg_relation_size('ashwood.ballast')")
    return int(size)


def test_reserve_fills_table_once_and_leaves_no_rows(url: str, store: PostgresStore) -> None:
    for _ in range(2):
        store.reserve()
        assert reserved(store) == 4 << 20
    assert store._query("SELECT count(*) FROM ballast") == [(0,)], "a dump would contain them"
    for _ in range(2):
        store.release()
        assert reserved(store) == 0


def test_roles_with_grants_from_before_notes_can_use_notes(url: str) -> None:
    make_old_schema(url, 3)
    writer_url = a_writer(url)
    reader_url = a_reader(url)
    PostgresStore(url).close()
    with closing(PostgresStore(writer_url)) as writer:
        writer.set_note(1, 3, "note")
        writer.set_note(1, 4, "other")
        writer.set_note(1, 4, "")
    with closing(PostgresStore(reader_url)) as reader:
        assert reader.notes(1) == {3: "note"}
        with pytest.raises(EventLogError, match="permission denied"):
            reader.set_note(1, 3, "")


def test_role_with_grants_from_before_upgrade_can_reserve(url: str) -> None:
    make_old_schema(url, 2)
    writer_url = a_writer(url)
    PostgresStore(url).close()
    with closing(PostgresStore(writer_url)) as store:
        store.reserve()
        store.release()
        assert reserved(store) == 0


def test_released_reserve_makes_room_on_full_disk_of_server(tmp_path: Path, open_directory: Path) -> None:
    programs = find_programs()
    with small_disk(open_directory / "disk", "64m") as disk:
        server = PostgresServer(disk.path, programs)
        server.start()
        try:
            with (
                closing(PostgresStore(server.url())) as store,
                ReserveFile(tmp_path / "ballast", also=store) as reserve,
            ):
                log = store.log(store.create(full_spec(), at=1.0))
                fill(disk.path / "filler")
                with pytest.raises(DiskFull, match="the server's disk is full"):
                    log.append(edge_case_entries() * 1000)
                fill(disk.path / "filler more")
                reserve.release()
                assert log.append(edge_case_entries()) == len(edge_case_entries())
                for name in ("filler", "filler more"):
                    (disk.path / name).unlink()
                reserve.reserve()
            with closing(PostgresStore(server.url())) as store:
                assert reserved(store) == 4 << 20, "other drivers share the reserve, so it must stay"
        finally:
            server.stop("immediate")


def fill(path: Path) -> None:
    """Write to a file until the disk is full."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(1 << 12))


def test_read_names_damaged_and_missing_entries(store: PostgresStore) -> None:
    log = store.log(store.create(full_spec(), at=1.0))
    log.append(edge_case_entries())
    store._query("UPDATE entries SET body = body || ' ' WHERE seq = 3 RETURNING 1")
    with pytest.raises(EventLogError, match=r"entry 3 of experiment 1 .* digest is wrong"):
        list(log.read())
    store._query("DELETE FROM entries WHERE seq > 4 RETURNING 1")
    with pytest.raises(EventLogError, match=r"entry 5 of experiment 1 is missing"):
        list(log.read(after=4))
