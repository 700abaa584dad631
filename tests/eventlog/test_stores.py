"""All stores: the contract of stores, and damaged rows in SQL databases."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from ashwood.errors import EventLogError, ExperimentBusy
from ashwood.eventlog.codec import VERSION
from ashwood.eventlog.driver import is_alive
from ashwood.eventlog.port import Answer, UnreadableRequest
from ashwood.eventlog.postgres import PostgresStore
from ashwood.eventlog.sql import SqlStore
from ashwood.eventlog.sqlite import SqliteStore
from ashwood.experiment.entry import Entry
from ashwood.experiment.events import PauseRequested, TrialKillRequested
from ashwood.testing.records import a_driver, edge_case_entries, full_spec
from ashwood.testing.store import StoreContract
from tests.eventlog.memory_store import MemoryStore
from tests.eventlog.store_model import BesideTheModel
from tests.postgres import PostgresServer

UNREADABLE_REQUESTS = [
    (VERSION + 1, '{"is":"PauseRequested","why":""}', "upgrade Ashwood"),
    (VERSION, '{"is":"SomethingNew"}', "SomethingNew"),
    (VERSION, '{"is":"PauseRequested","reason":"x"}', "reason"),
    (VERSION, '{"is":"TrialKillRequested","trial":"x"}', "wrong type"),
    (VERSION, '{"is":"TrialStopRequested","trial":[1]}', "wrong type"),
    (VERSION, '{"is":"SettingsChanged","settings":5}', "wrong type"),
    (VERSION, '{"is":"AddTrialRequested","hparams":[1],"extra":false}', "wrong type"),
    (VERSION, '{"is":["PauseRequested"]}', "damaged"),
    (VERSION, "{", "damaged"),
    (VERSION, "", "damaged"),
    (VERSION, "[]", "damaged"),
    (VERSION, "null", "damaged"),
    (VERSION, "[" * 100_000, "damaged"),
]


class ModelledStoreContract(StoreContract):
    """The contract of stores, and a comparison with the simplest store."""

    def test_store_behaves_like_memory_store(self, tmp_path: Path) -> None:
        # Two connections take turns.
        class Machine(BesideTheModel):
            def __init__(machine) -> None:  # noqa: N805 - self is the contract
                super().__init__(lambda: self.open_store(tmp_path), connections=2 if self.durable else 1)

        few = settings(max_examples=10, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck))
        run_state_machine_as_test(Machine, settings=few)


class SqlStoreContract(ModelledStoreContract):
    """The contract of stores in SQL databases: also with damaged rows."""

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

    def corrupt(self, store: SqlStore, change: str) -> None:
        """Run an UPDATE statement that damages rows."""
        table = change.split()[1]
        store._query(f"{change} RETURNING {'id' if table in ('experiments', 'requests') else 'experiment'}")

    @pytest.mark.parametrize(
        "change",
        [
            "UPDATE experiments SET state = 'completed' WHERE id = 2",
            "UPDATE experiments SET state = 'nonsense' WHERE id = 2",
            "UPDATE experiments SET summary = '{' WHERE id = 2",
            "UPDATE experiments SET summary = '\"text\"' WHERE id = 2",
            "UPDATE experiments SET summary = '{\"fraction\":0.6}' WHERE id = 2",
            "UPDATE experiments SET summary = '{\"best\":5}', state_digest = NULL WHERE id = 2",
            "UPDATE experiments SET summary = '{\"trials\":[1]}', state_digest = NULL WHERE id = 2",
            "UPDATE experiments SET summary = '[[[', state_digest = NULL WHERE id = 2",
            "UPDATE experiments SET state_digest = 7 WHERE id = 2",
        ],
    )
    def test_damaged_state_is_rebuilt_from_the_log(self, tmp_path: Path, change: str) -> None:
        with self.open_store(tmp_path) as opened:
            store = cast("SqlStore", opened)
            for _ in range(3):
                log = store.log(store.create(full_spec(), at=1.0))
                log.append([*edge_case_entries()[:-1], Entry(4.0, PauseRequested(), ())], summary={"fraction": 0.5})
            sound = store.experiments()
            self.corrupt(store, change)
            first, damaged, last = store.experiments()
            assert (first, last) == (sound[0], sound[2])
            assert damaged == sound[1]._replace(summary={}, damage=damaged.damage)
            assert damaged.damage is not None
            assert "ashwood verify 2 --repair" in damaged.damage
            assert store.record(2) == damaged
            store.log(2).append([], summary={"fraction": 0.5})
            assert store.experiments() == sound

    @pytest.mark.parametrize(
        ("change", "shown"),
        [
            ("UPDATE experiments SET name = 'other'", {"name": "other"}),
            ("UPDATE experiments SET labels = '{'", {"labels": ("a", "b")}),
            ("UPDATE experiments SET labels = '[1]'", {"labels": ("a", "b")}),
            ("UPDATE experiments SET labels = 'null', about_digest = NULL", {"labels": ("a", "b")}),
            ("UPDATE experiments SET archived = 7", {"archived": False}),
            ("UPDATE experiments SET created_at = 1e300", {"created_at": 0.0}),
            ("UPDATE experiments SET created_at = -5, about_digest = NULL", {"created_at": 0.0}),
        ],
    )
    def test_damaged_about_column_is_replaced_until_annotate(
        self, tmp_path: Path, change: str, shown: dict[str, Any]
    ) -> None:
        with self.open_store(tmp_path) as opened:
            store = cast("SqlStore", opened)
            sound = store.record(store.create(full_spec(), at=1.0))
            store.annotate(1, name=sound.name)
            self.corrupt(store, change)
            damaged = store.record(1)
            assert damaged == sound._replace(damage=damaged.damage, **shown)
            assert damaged.damage is not None
            assert "ashwood verify 1 --repair" in damaged.damage
            store.annotate(1, name="new")
            assert store.record(1) == sound._replace(**{**shown, "name": "new"})

    @pytest.mark.parametrize("head", [0, 2, -3])
    def test_head_below_the_last_entry_is_corrected(self, tmp_path: Path, head: int) -> None:
        with self.open_store(tmp_path) as opened:
            store = cast("SqlStore", opened)
            store.log(store.create(full_spec(), at=1.0)).append(edge_case_entries())
            self.corrupt(store, f"UPDATE logs SET head = {head}")
            log = store.log(1)
            assert log.last() == len(edge_case_entries())
            assert len(list(log.read())) == len(edge_case_entries())
            assert store.record(1).damage is None
            assert log.append(edge_case_entries()) == 2 * len(edge_case_entries())
            assert store._query("SELECT head FROM logs") == [(2 * len(edge_case_entries()),)]

    def test_head_above_the_last_entry_is_reported_as_damage(self, tmp_path: Path) -> None:
        with self.open_store(tmp_path) as opened:
            store = cast("SqlStore", opened)
            store.log(store.create(full_spec(), at=1.0)).append(edge_case_entries())
            self.corrupt(store, f"UPDATE logs SET head = {2**40}")
            damage = store.record(1).damage
            assert damage is not None
            assert f"entries 7 to {2**40} of its log are missing" in damage
            with pytest.raises(EventLogError, match="entry 7 of experiment 1 is missing"):
                list(store.log(1).read())

    @pytest.mark.parametrize(
        "driver",
        ["", "{", "[]", '["a", "b", "c", "d"]', '["a", 1, "c", 2, 3]', '{"host": 1}', '["here", 2, "machine", 7]'],
    )
    def test_damaged_driver_becomes_an_unknown_driver(self, tmp_path: Path, driver: str) -> None:
        with self.open_store(tmp_path) as opened:
            store = cast("SqlStore", opened)
            token = store.take_lease(store.create(full_spec(), at=1.0), a_driver())
            self.corrupt(store, f"UPDATE logs SET driver = '{driver}'")
            lease = store.lease(1)
            assert lease is not None
            assert lease.token == token
            assert is_alive(lease.driver) is None
            with pytest.raises(ExperimentBusy, match="unknown machine"):
                store.take_lease(1, a_driver(2))
            store.beat(1, token)
            assert store.take_lease(1, a_driver(2), over=store.lease(1)) > token

    def test_damaged_request_is_unreadable(self, tmp_path: Path) -> None:
        with self.open_store(tmp_path) as opened:
            store = cast("SqlStore", opened)
            request = store.post(store.create(full_spec(), at=1.0), TrialKillRequested(3), at=1.0)
            self.corrupt(store, "UPDATE requests SET body = replace(body, '3', '4')")
            [(number, unreadable)] = store.pending(1)
            assert number == request
            assert isinstance(unreadable, UnreadableRequest)


class TestMemoryStore(ModelledStoreContract):
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
