from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import cast

import pytest

from ashwood.eventlog.codec import VERSION
from ashwood.eventlog.memory import MemoryStore
from ashwood.eventlog.port import Answer, UnreadableRequest
from ashwood.eventlog.postgres import PostgresStore
from ashwood.eventlog.sql import SqlStore
from ashwood.eventlog.sqlite import SqliteStore
from ashwood.experiment.events import PauseRequested
from ashwood.testing.records import full_spec
from ashwood.testing.store import StoreContract
from tests.postgres import PostgresServer

UNREADABLE_REQUESTS = [
    (VERSION + 1, '{"is":"PauseRequested","why":""}', "upgrade Ashwood"),
    (VERSION, '{"is":"SomethingNew"}', "SomethingNew"),
    (VERSION, '{"is":"PauseRequested","reason":"x"}', "reason"),
    (VERSION, '{"is":"TrialKillRequested","trial":"x"}', "wrong type"),
    (VERSION, '{"is":"TrialStopRequested","trial":[1]}', "wrong type"),
    (VERSION, '{"is":"SettingsChanged","settings":5}', "wrong type"),
    (VERSION, '{"is":["PauseRequested"]}', "damaged"),
    (VERSION, "{", "damaged"),
    (VERSION, "", "damaged"),
    (VERSION, "[]", "damaged"),
    (VERSION, "null", "damaged"),
    (VERSION, "[" * 100_000, "damaged"),
]


class SqlStoreContract(StoreContract):
    """What a store in an SQL database must do if its rows are damaged."""

    @pytest.mark.parametrize(("version", "body", "why"), UNREADABLE_REQUESTS)
    def test_unreadable_request_does_not_hide_the_others(
        self, tmp_path: Path, version: int, body: str, why: str
    ) -> None:
        with self.open_store(tmp_path) as opened:
            store = cast("SqlStore", opened)
            experiment = store.create(full_spec(), at=1.0)
            store._query(
                "INSERT INTO requests (experiment, at, version, body) VALUES (?, 1.0, ?, ?) RETURNING id",
                experiment,
                version,
                body,
            )
            request = store.post(experiment, PauseRequested(), at=1.0)
            (damaged, unreadable), sound = store.pending(experiment)
            assert isinstance(unreadable, UnreadableRequest)
            assert why in unreadable.why
            assert len(unreadable.why) < 500
            assert sound == (request, PauseRequested())
            store.log(experiment).append([], answers={damaged: Answer("no")})
            assert store.answer(damaged) == Answer("no")
            assert store.pending(experiment) == [sound]


class TestMemoryStore(StoreContract):
    durable = False

    @contextmanager
    def open_store(self, place: Path) -> Iterator[MemoryStore]:
        with closing(MemoryStore()) as store:
            yield store


class TestSqliteStore(SqlStoreContract):
    @contextmanager
    def open_store(self, place: Path) -> Iterator[SqliteStore]:
        with closing(SqliteStore(place / "ashwood.db")) as store:
            yield store


class TestPostgresStore(SqlStoreContract):
    @pytest.fixture(autouse=True)
    def _database(self, postgres: PostgresServer) -> None:
        self.url = postgres.fresh_database()

    @contextmanager
    def open_store(self, place: Path) -> Iterator[PostgresStore]:
        with closing(PostgresStore(self.url)) as store:
            yield store
