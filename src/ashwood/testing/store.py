"""What any store of event logs must do.

An outside author subclasses in a few lines::

    class TestMyStore(StoreContract):
        @contextmanager
        def open_store(self, place):
            with closing(MyStore(place / "my.db")) as store:
                yield store
"""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from ashwood.errors import EventLogError, ExperimentBusy, LeaseLost, NotFound
from ashwood.eventlog.port import Answer, Entry, ExperimentRecord, LeaseState, Store
from ashwood.experiment.events import DriverStarted, KillRequested, PauseRequested
from ashwood.experiment.lifecycle import ExperimentState
from ashwood.testing.records import a_driver, entries_of_control, full_spec, telling_entries, telling_requests
from ashwood.testing.store_model import BesideTheModel


class StoreContract:
    """Tests that every store of event logs passes."""

    @abstractmethod
    def open_store(self, place: Path) -> AbstractContextManager[Store]:
        """Open the store at a place; the same place opened again holds what was written."""

    durable = True
    """Whether a store that is closed and opened again holds what it held."""

    def test_what_is_appended_is_read_back(self, tmp_path: Path) -> None:
        """To the last bit, in order, numbered without gaps."""
        with self.open_store(tmp_path) as store:
            log = store.log(store.create(full_spec(), at=1.0))
            entries = telling_entries() + entries_of_control()
            assert log.append(entries[:2]) == 2
            assert log.append(entries[2:]) == len(entries)
            read = list(log.read())
        assert [seq for seq, _ in read] == list(range(1, len(entries) + 1))
        # repr, because NaN is not equal to itself.
        assert [repr(entry) for _, entry in read] == [repr(entry) for entry in entries]

    def test_reading_from_the_middle(self, tmp_path: Path) -> None:
        """``after`` leaves out what is known."""
        with self.open_store(tmp_path) as store:
            log = store.log(store.create(full_spec(), at=1.0))
            log.append(telling_entries())
            assert [seq for seq, _ in log.read(after=4)] == [5, 6]
            assert log.last() == 6
            assert list(log.read(after=6)) == []

    def test_logs_are_apart(self, tmp_path: Path) -> None:
        """Entries of one experiment are no other's."""
        with self.open_store(tmp_path) as store:
            first, second = (store.log(store.create(full_spec(), at=1.0)) for _ in range(2))
            first.append(telling_entries())
            assert list(second.read()) == []
            assert second.last() == 0
            assert second.append(telling_entries()[:1]) == 1

    def test_a_spec_comes_back_whole(self, tmp_path: Path) -> None:
        """Every field, and the order of the hyperparameters."""
        with self.open_store(tmp_path) as store:
            experiment = store.create(full_spec(), at=1.0)
            spec = store.spec(experiment)
        assert spec == full_spec()
        assert [path for path, _ in spec.space.leaves()] == [path for path, _ in full_spec().space.leaves()]

    def test_the_list_follows_the_log(self, tmp_path: Path) -> None:
        """State and summary without reading logs."""
        with self.open_store(tmp_path) as store:
            experiment = store.create(full_spec(), at=12.5)
            log = store.log(experiment)
            assert store.record(experiment).state is ExperimentState.CREATED
            log.append([Entry(1.0, DriverStarted(1), ())], summary={"fraction": 0.5})
            assert store.record(experiment).state is ExperimentState.RUNNING
            log.append([Entry(2.0, PauseRequested(), ())])
            assert store.record(experiment).state is ExperimentState.PAUSING
            log.append(telling_entries()[-1:])
            [record] = store.experiments()
        assert record == ExperimentRecord(
            experiment, 12.5, full_spec().name, ExperimentState.ERRORED, {"fraction": 0.5}, ("a", "b")
        )

    def test_no_such_experiment(self, tmp_path: Path) -> None:
        """Is said, not answered with nothing."""
        with self.open_store(tmp_path) as store:
            asks: list[Callable[[int], Any]] = [
                store.spec,
                store.log,
                store.record,
                store.delete,
                store.annotate,
                lambda number: store.post(number, PauseRequested(), at=1.0),
                lambda number: store.take_lease(number, a_driver()),
            ]
            for ask in asks:
                with pytest.raises(NotFound, match="no experiment 3"):
                    ask(3)
            with pytest.raises(NotFound, match="no request 3"):
                store.answer(3)
            assert store.lease(3) is None

    def test_a_log_that_went_on_isnt_added_to(self, tmp_path: Path) -> None:
        """Two writers that don't know of each other can't mix their entries."""
        with self.open_store(tmp_path) as store:
            experiment = store.create(full_spec(), at=1.0)
            one, two = store.log(experiment), store.log(experiment)
            one.append(telling_entries()[:1])
            with pytest.raises(EventLogError, match="another process has added to it"):
                two.append(telling_entries())
            assert len(list(two.read())) == 1

    # -- what people call it --------------------------------------------------------------------

    def test_annotations(self, tmp_path: Path) -> None:
        """Change the list and nothing else."""
        with self.open_store(tmp_path) as store:
            experiment = store.create(full_spec(), at=1.0)
            before = store.record(experiment)
            store.annotate(experiment, name="new ✓")
            assert store.record(experiment) == before._replace(name="new ✓")
            store.annotate(experiment, labels=["x", "y, z"], archived=True)
            assert store.record(experiment) == before._replace(name="new ✓", labels=("x", "y, z"), archived=True)
            store.annotate(experiment, labels=[], archived=False)
            assert store.record(experiment) == before._replace(name="new ✓", labels=())
            assert store.spec(experiment) == full_spec()

    @pytest.mark.parametrize("name", ["a\0b", "a\udcffb", "\ud800"])
    def test_name_that_no_database_can_hold_is_refused(self, tmp_path: Path, name: str) -> None:
        """It would fail in one store and not in another."""
        with self.open_store(tmp_path) as store:
            with pytest.raises(EventLogError, match=r"the name .* choose another"):
                store.create(replace(full_spec(), name=name), at=1.0)
            experiment = store.create(full_spec(), at=1.0)
            with pytest.raises(EventLogError, match=r"the name .* choose another"):
                store.annotate(experiment, name=name)
            assert store.record(experiment).name == full_spec().name

    def test_refusal_is_stored_without_what_a_database_cannot_hold(self, tmp_path: Path) -> None:
        """It may quote what a user gave."""
        with self.open_store(tmp_path) as store:
            experiment = store.create(full_spec(), at=1.0)
            request = store.post(experiment, KillRequested(), at=1.0)
            store.log(experiment).append([], answers={request: Answer("no \0 or \udcff")})
            assert store.answer(request) == Answer("no \ufffd or \ufffd")

    def test_log_that_is_deleted_while_it_is_read_is_not_damaged(self, tmp_path: Path) -> None:
        """A reader that comes back for more learns that the experiment does not exist."""
        with self.open_store(tmp_path) as store:
            experiment = store.create(full_spec(), at=1.0)
            store.log(experiment).append(telling_entries() * 200)
            reader = store.log(experiment).read()
            next(reader)
            store.delete(experiment)
            with pytest.raises(NotFound, match=f"no experiment {experiment}"):
                list(reader)

    def test_what_is_deleted_is_gone(self, tmp_path: Path) -> None:
        """And its number isn't used again, nor is anything else touched."""
        with self.open_store(tmp_path) as store:
            kept, gone = store.create(full_spec(), at=1.0), store.create(full_spec(), at=2.0)
            for experiment in (kept, gone):
                store.log(experiment).append(telling_entries())
            asked, forgotten = (store.post(experiment, PauseRequested(), at=3.0) for experiment in (kept, gone))
            log = store.log(gone, store.take_lease(gone, a_driver()))
            store.delete(gone)
            assert [record.id for record in store.experiments()] == [kept]
            assert len(list(store.log(kept).read())) == len(telling_entries())
            assert store.pending(kept) == [(asked, PauseRequested())]
            assert store.pending(gone) == []
            with pytest.raises(NotFound, match="no request"):
                store.answer(forgotten)
            with pytest.raises(LeaseLost):
                log.append(telling_entries())
            new = store.create(full_spec(), at=4.0)
            assert new > gone
            assert list(store.log(new).read()) == []

    # -- leases -----------------------------------------------------------------------------------

    def test_one_owner_at_a_time(self, tmp_path: Path) -> None:
        """Who is told apart from who was."""
        with self.open_store(tmp_path) as store:
            experiment, other = (store.create(full_spec(), at=1.0) for _ in range(2))
            assert store.lease(experiment) is None
            token = store.take_lease(experiment, a_driver(1))
            lease = store.lease(experiment)
            assert lease is not None
            assert (lease.token, lease.driver) == (token, a_driver(1))
            assert -60 < lease.idle < 60
            with pytest.raises(ExperimentBusy, match="process 1 on here"):
                store.take_lease(experiment, a_driver(2))
            store.take_lease(other, a_driver(2))
            store.release_lease(experiment, token)
            assert store.lease(experiment) is None
            assert store.take_lease(experiment, a_driver(2)) > token
            store.release_lease(experiment, token)  # not ours any more: nothing happens
            assert store.lease(experiment) is not None

    def test_a_lease_is_taken_over_only_as_it_was_seen(self, tmp_path: Path) -> None:
        """A sign of life, or a new owner, makes what was seen worthless."""
        with self.open_store(tmp_path) as store:
            experiment = store.create(full_spec(), at=1.0)
            token = store.take_lease(experiment, a_driver(1))
            seen = store.lease(experiment)
            store.beat(experiment, token)
            assert store.lease(experiment) != seen
            with pytest.raises(ExperimentBusy, match="process 1"):
                store.take_lease(experiment, a_driver(2), over=seen)
            seen = store.lease(experiment)
            new = store.take_lease(experiment, a_driver(2), over=seen)
            assert new > token
            with pytest.raises(ExperimentBusy, match="process 2"):
                store.take_lease(experiment, a_driver(3), over=seen)
            with pytest.raises(LeaseLost, match="process 2"):
                store.beat(experiment, token)
            store.beat(experiment, new)
            store.release_lease(experiment, new)
            store.take_lease(experiment, a_driver(3), over=seen)  # nobody's: anybody may

    def test_who_lost_the_lease_adds_nothing(self, tmp_path: Path) -> None:
        """Neither entries nor answers nor a summary, even if the new owner did nothing yet."""
        with self.open_store(tmp_path) as store:
            experiment = store.create(full_spec(), at=1.0)
            request = store.post(experiment, PauseRequested(), at=1.0)
            log = store.log(experiment, store.take_lease(experiment, a_driver(1)))
            assert log.append(telling_entries()[:1]) == 1
            before = store.record(experiment)
            new = store.take_lease(experiment, a_driver(2), over=store.lease(experiment))
            for entries in (telling_entries(), []):
                with pytest.raises(LeaseLost, match=f"experiment {experiment} .*process 2"):
                    log.append(entries, summary={"late": True}, answers={request: Answer(None)})
            assert len(list(log.read())) == 1
            assert store.record(experiment) == before
            assert store.answer(request) is None
            assert store.log(experiment, new).append(telling_entries()) == 1 + len(telling_entries())
            store.release_lease(experiment, new)
            with pytest.raises(LeaseLost, match="released"):
                store.log(experiment, new).append(telling_entries())

    def test_of_many_that_want_a_lease_one_gets_it(self, tmp_path: Path) -> None:
        """Each with a connection of its own: first one that nobody has, then one that all saw go silent."""
        if not self.durable:
            pytest.skip("has no second connection")
        with self.open_store(tmp_path) as store:
            experiment = store.create(full_spec(), at=1.0)
            for seen in (None, "the owner"):
                over = store.lease(experiment) if seen else None
                assert len(self._race(tmp_path, experiment, over)) == 1

    def _race(self, place: Path, experiment: int, over: LeaseState | None) -> list[int]:
        racers = 4
        line, won = threading.Barrier(racers, timeout=60), list[int]()

        def run(number: int) -> None:
            with self.open_store(place) as store:
                line.wait()
                try:
                    store.take_lease(experiment, a_driver(number), over=over)
                except ExperimentBusy:
                    return
                won.append(number)

        threads = [threading.Thread(target=run, args=(number,)) for number in range(racers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return won

    # -- the inbox ----------------------------------------------------------------------------------

    def test_requests_wait_in_order_until_they_are_answered(self, tmp_path: Path) -> None:
        """With the entries that they caused, all or none."""
        with self.open_store(tmp_path) as store:
            experiment, other = (store.create(full_spec(), at=1.0) for _ in range(2))
            others = store.post(other, KillRequested(), at=1.0)
            numbers = [store.post(experiment, request, at=2.0) for request in telling_requests()]
            assert numbers == sorted(set(numbers))
            assert store.pending(experiment) == list(zip(numbers, telling_requests(), strict=True))
            log = store.log(experiment, store.take_lease(experiment, a_driver()))
            answers = {numbers[0]: Answer(None), numbers[2]: Answer("it is too late ☃")}
            assert log.append(telling_entries(), answers=answers) == len(telling_entries())
            assert [store.answer(number) for number in numbers[:3]] == [Answer(None), None, answers[numbers[2]]]
            assert [number for number, _ in store.pending(experiment)] == [numbers[1], *numbers[3:]]
            assert log.append([], answers=dict.fromkeys(numbers, Answer(None))) == len(telling_entries())
            assert store.pending(experiment) == []
            log.append([], answers={others: Answer(None)})  # not this one's to answer
            assert store.pending(other) == [(others, KillRequested())]

    # -- closing ----------------------------------------------------------------------------------

    def test_closing_loses_nothing(self, tmp_path: Path) -> None:
        """A store opened again is the same store: also leases, as drivers die, and requests."""
        if not self.durable:
            pytest.skip("lives as long as its process")
        with self.open_store(tmp_path) as store:
            experiment = store.create(full_spec(), at=1.0)
            store.log(experiment).append(telling_entries())
            token = store.take_lease(experiment, a_driver())
            request = store.post(experiment, PauseRequested(), at=1.0)
        with self.open_store(tmp_path) as store:
            lease = store.lease(experiment)
            assert lease is not None
            assert (lease.token, lease.driver) == (token, a_driver())
            assert store.pending(experiment) == [(request, PauseRequested())]
            log = store.log(experiment)
            assert len(list(log.read())) == len(telling_entries())
            assert log.append(telling_entries()) == 2 * len(telling_entries())
            assert store.create(full_spec(), at=2.0) != experiment

    def test_it_does_what_a_simple_one_does(self, tmp_path: Path) -> None:
        """Whatever is asked, in whatever order, on whichever of two connections."""

        class Machine(BesideTheModel):
            def __init__(machine) -> None:  # noqa: N805 - self is the contract
                super().__init__(lambda: self.open_store(tmp_path), connections=2 if self.durable else 1)

        few = settings(max_examples=10, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck))
        run_state_machine_as_test(Machine, settings=few)
