from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from ashwood.eventlog.memory import MemoryStore
from ashwood.eventlog.postgres import PostgresStore
from ashwood.eventlog.sqlite import SqliteStore
from ashwood.testing.store import StoreContract
from tests.postgres import PostgresServer


class TestMemoryStore(StoreContract):
    durable = False

    @contextmanager
    def open_store(self, place: Path) -> Iterator[MemoryStore]:
        with closing(MemoryStore()) as store:
            yield store


class TestSqliteStore(StoreContract):
    @contextmanager
    def open_store(self, place: Path) -> Iterator[SqliteStore]:
        with closing(SqliteStore(place / "ashwood.db")) as store:
            yield store


class TestPostgresStore(StoreContract):
    @pytest.fixture(autouse=True)
    def _database(self, postgres: PostgresServer) -> None:
        self.url = postgres.fresh_database()

    @contextmanager
    def open_store(self, place: Path) -> Iterator[PostgresStore]:
        with closing(PostgresStore(self.url)) as store:
            yield store
