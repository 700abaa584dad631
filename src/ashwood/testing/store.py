"""The contract of stores of event logs.

To test a new store, subclass the contract in a test module::

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

from ashwood.errors import AshwoodError, EventLogError, ExperimentBusy, LeaseLost, NotFound
from ashwood.eventlog.port import Answer, ExperimentRecord, LeaseState, Store
from ashwood.eventlog.rows import MOST_NOTE_BYTES
from ashwood.experiment.entry import Entry
from ashwood.experiment.events import DriverStarted, KillRequested, PauseRequested
from ashwood.experiment.lifecycle import ExperimentState
from ashwood.testing.records import a_driver, control_entries, edge_case_entries, full_spec, sample_requests


class StoreContract:
    """Tests that every store of event logs passes."""

    @abstractmethod
    def open_store(self, place: Path) -> AbstractContextManager[Store]:
        """Open the store in a directory; if it was opened there before, it has the same content."""

    durable = True
    """Whether the content of a store outlives its object, and several connections to it can be open."""

    def test_appended_entries_are_read_back(self, tmp_path: Path) -> None:
        """Entries are equal to the last bit, in order, and numbered without gaps."""
        with self.open_store(tmp_path) as store:
            log = store.log(store.create(full_spec(), at=1.0))
            entries = edge_case_entries() + control_entries()
            assert log.append(entries[:2]) == 2
            assert log.append(entries[2:]) == len(entries)
            read = list(log.read())
        assert [seq for seq, _ in read] == list(range(1, len(entries) + 1))
        # The texts are compared, because NaN is not equal to itself.
        assert [repr(entry) for _, entry in read] == [repr(entry) for entry in entries]

    def test_read_after_skips_earlier_entries(self, tmp_path: Path) -> None:
        """``after`` is the number of the last entry to skip."""
        with self.open_store(tmp_path) as store:
            log = store.log(store.create(full_spec(), at=1.0))
            log.append(edge_case_entries())
            assert [seq for seq, _ in log.read(after=4)] == [5, 6]
            assert log.last() == 6
            assert list(log.read(after=6)) == []

    def test_logs_of_experiments_are_separate(self, tmp_path: Path) -> None:
        """Entries of one experiment do not appear in another's log."""
        with self.open_store(tmp_path) as store:
            first, second = (store.log(store.create(full_spec(), at=1.0)) for _ in range(2))
            first.append(edge_case_entries())
            assert list(second.read()) == []
            assert second.last() == 0
            assert second.append(edge_case_entries()[:1]) == 1

    def test_spec_is_read_back(self, tmp_path: Path) -> None:
        """All fields are equal, and hyperparameters are in the same order."""
        with self.open_store(tmp_path) as store:
            experiment = store.create(full_spec(), at=1.0)
            spec = store.spec(experiment)
        assert spec == full_spec()
        assert [path for path, _ in spec.space.leaves()] == [path for path, _ in full_spec().space.leaves()]

    def test_list_of_experiments_follows_their_logs(self, tmp_path: Path) -> None:
        """The list has the state and the summary of each experiment, without reading its log."""
        with self.open_store(tmp_path) as store:
            experiment = store.create(full_spec(), at=12.5)
            log = store.log(experiment)
            assert store.record(experiment).state is ExperimentState.CREATED
            log.append([Entry(1.0, DriverStarted(1), ())], summary={"fraction": 0.5})
            assert store.record(experiment).state is ExperimentState.RUNNING
            log.append([Entry(2.0, PauseRequested(), ())])
            assert store.record(experiment).state is ExperimentState.PAUSING
            log.append(edge_case_entries()[-1:])
            [record] = store.experiments()
        assert record == ExperimentRecord(
            experiment, 12.5, full_spec().name, ExperimentState.ERRORED, {"fraction": 0.5}, ("a", "b")
        )

    def test_unknown_experiment_raises_not_found(self, tmp_path: Path) -> None:
        """Only the lease of an unknown experiment is None."""
        with self.open_store(tmp_path) as store:
            asks: list[Callable[[int], Any]] = [
                store.spec,
                store.log,
                store.record,
                store.delete,
                store.annotate,
                store.notes,
                store.note_digests,
                lambda number: store.set_note(number, None, "x"),
                lambda number: store.set_note(number, 0, ""),
                lambda number: store.post(number, PauseRequested(), at=1.0),
                lambda number: store.take_lease(number, a_driver()),
            ]
            for ask in asks:
                with pytest.raises(NotFound, match="no experiment 3"):
                    ask(3)
            with pytest.raises(NotFound, match="no request 3"):
                store.answer(3)
            assert store.lease(3) is None

    def test_append_raises_if_another_writer_appended(self, tmp_path: Path) -> None:
        """Two writers that do not know of each other cannot mix their entries."""
        with self.open_store(tmp_path) as store:
            experiment = store.create(full_spec(), at=1.0)
            one, two = store.log(experiment), store.log(experiment)
            one.append(edge_case_entries()[:1])
            with pytest.raises(EventLogError, match="another process has added to it"):
                two.append(edge_case_entries())
            assert len(list(two.read())) == 1

    # -- names and deletion ---------------------------------------------------------------------

    def test_annotate_changes_name_labels_and_archived(self, tmp_path: Path) -> None:
        """The list of experiments changes, but not the spec."""
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

    def test_note_is_replaced_as_a_whole(self, tmp_path: Path) -> None:
        """Notes on the experiment and on each trial are independent; an empty text removes one."""
        with self.open_store(tmp_path) as store:
            experiment, other = (store.create(full_spec(), at=1.0) for _ in range(2))
            assert (store.notes(experiment), store.note_digests(experiment)) == ({}, {})
            store.set_note(experiment, None, "# Why\n\n✓ 'quoted' \\ %s ?")
            store.set_note(experiment, 0, "zero")
            store.set_note(experiment, 7, "seven")
            before = store.note_digests(experiment)
            store.set_note(experiment, 7, "7")
            assert store.notes(experiment) == {None: "# Why\n\n✓ 'quoted' \\ %s ?", 0: "zero", 7: "7"}
            changed = {trial for trial, digest in store.note_digests(experiment).items() if before[trial] != digest}
            assert changed == {7}
            store.set_note(experiment, 0, "")
            store.set_note(experiment, None, "")
            assert store.notes(experiment) == {7: "7"}
            assert store.notes(other) == {}
            assert store.record(experiment) == store.record(other)._replace(id=experiment)
            store.delete(experiment)
            with pytest.raises(NotFound):
                store.notes(experiment)

    def test_longest_note_is_stored_and_longer_one_refused(self, tmp_path: Path) -> None:
        """The limit counts bytes, and the error says what to do."""
        with self.open_store(tmp_path) as store:
            experiment = store.create(full_spec(), at=1.0)
            longest = "é" * (MOST_NOTE_BYTES // 2)
            store.set_note(experiment, None, longest)
            with pytest.raises(AshwoodError, match=r"has 65,537 bytes, and at most 65,536 are stored: shorten it"):
                store.set_note(experiment, None, longest + "x")
            with pytest.raises(AshwoodError, match="NUL character"):
                store.set_note(experiment, None, "a\0b")
            assert store.notes(experiment) == {None: longest}

    @pytest.mark.parametrize("name", ["a\0b", "a\udcffb", "\ud800"])
    def test_name_that_no_database_can_hold_is_refused(self, tmp_path: Path, name: str) -> None:
        """All stores refuse the same names, so that experiments can be copied between them."""
        with self.open_store(tmp_path) as store:
            with pytest.raises(EventLogError, match=r"the name .* choose another"):
                store.create(replace(full_spec(), name=name), at=1.0)
            experiment = store.create(full_spec(), at=1.0)
            with pytest.raises(EventLogError, match=r"the name .* choose another"):
                store.annotate(experiment, name=name)
            assert store.record(experiment).name == full_spec().name

    def test_characters_that_no_database_can_hold_are_replaced_in_answers(self, tmp_path: Path) -> None:
        """An answer may quote a value that a user has entered."""
        with self.open_store(tmp_path) as store:
            experiment = store.create(full_spec(), at=1.0)
            request = store.post(experiment, KillRequested(), at=1.0)
            store.log(experiment).append([], answers={request: Answer("no \0 or \udcff")})
            assert store.answer(request) == Answer("no \ufffd or \ufffd")

    def test_read_raises_not_found_if_experiment_is_deleted_meanwhile(self, tmp_path: Path) -> None:
        """A log whose experiment is deleted during a read must not look damaged."""
        with self.open_store(tmp_path) as store:
            experiment = store.create(full_spec(), at=1.0)
            store.log(experiment).append(edge_case_entries() * 200)
            reader = store.log(experiment).read()
            next(reader)
            store.delete(experiment)
            with pytest.raises(NotFound, match=f"no experiment {experiment}"):
                list(reader)

    def test_delete_removes_one_experiment_for_good(self, tmp_path: Path) -> None:
        """The number of a deleted experiment is not used again, and other experiments do not change."""
        with self.open_store(tmp_path) as store:
            kept, gone = store.create(full_spec(), at=1.0), store.create(full_spec(), at=2.0)
            for experiment in (kept, gone):
                store.log(experiment).append(edge_case_entries())
            asked, forgotten = (store.post(experiment, PauseRequested(), at=3.0) for experiment in (kept, gone))
            log = store.log(gone, store.take_lease(gone, a_driver()))
            store.delete(gone)
            assert [record.id for record in store.experiments()] == [kept]
            assert len(list(store.log(kept).read())) == len(edge_case_entries())
            assert store.pending(kept) == [(asked, PauseRequested())]
            assert store.pending(gone) == []
            with pytest.raises(NotFound, match="no request"):
                store.answer(forgotten)
            with pytest.raises(LeaseLost):
                log.append(edge_case_entries())
            new = store.create(full_spec(), at=4.0)
            assert new > gone
            assert list(store.log(new).read()) == []

    # -- leases -----------------------------------------------------------------------------------

    def test_lease_has_one_owner_at_a_time(self, tmp_path: Path) -> None:
        """A new owner gets a token that differs from all earlier ones."""
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
            store.release_lease(experiment, token)  # This token has lost the lease, so the call changes nothing.
            assert store.lease(experiment) is not None

    def test_lease_is_taken_over_only_if_it_has_not_changed(self, tmp_path: Path) -> None:
        """A heartbeat or a new owner since the lease was read makes a takeover fail."""
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
            store.take_lease(experiment, a_driver(3), over=seen)  # With a free lease, ``over`` has no effect.

    def test_append_with_lost_lease_changes_nothing(self, tmp_path: Path) -> None:
        """After a lost lease, no entry, answer or summary is added, even if the new owner has written nothing yet."""
        with self.open_store(tmp_path) as store:
            experiment = store.create(full_spec(), at=1.0)
            request = store.post(experiment, PauseRequested(), at=1.0)
            log = store.log(experiment, store.take_lease(experiment, a_driver(1)))
            assert log.append(edge_case_entries()[:1]) == 1
            before = store.record(experiment)
            new = store.take_lease(experiment, a_driver(2), over=store.lease(experiment))
            for entries in (edge_case_entries(), []):
                with pytest.raises(LeaseLost, match=f"experiment {experiment} .*process 2"):
                    log.append(entries, summary={"late": True}, answers={request: Answer(None)})
            assert len(list(log.read())) == 1
            assert store.record(experiment) == before
            assert store.answer(request) is None
            assert store.log(experiment, new).append(edge_case_entries()) == 1 + len(edge_case_entries())
            store.release_lease(experiment, new)
            with pytest.raises(LeaseLost, match="released"):
                store.log(experiment, new).append(edge_case_entries())

    def test_one_of_several_concurrent_drivers_gets_the_lease(self, tmp_path: Path) -> None:
        """Drivers with separate connections try to get a free lease, and then to take over a lease, all at once."""
        if not self.durable:
            pytest.skip("the store has only one connection")
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

    def test_requests_are_pending_in_order_until_they_are_answered(self, tmp_path: Path) -> None:
        """Answers are stored together with the entries that the requests caused."""
        with self.open_store(tmp_path) as store:
            experiment, other = (store.create(full_spec(), at=1.0) for _ in range(2))
            others = store.post(other, KillRequested(), at=1.0)
            numbers = [store.post(experiment, request, at=2.0) for request in sample_requests()]
            assert numbers == sorted(set(numbers))
            assert store.pending(experiment) == list(zip(numbers, sample_requests(), strict=True))
            log = store.log(experiment, store.take_lease(experiment, a_driver()))
            answers = {numbers[0]: Answer(None), numbers[2]: Answer("it is too late ☃")}
            assert log.append(edge_case_entries(), answers=answers) == len(edge_case_entries())
            assert [store.answer(number) for number in numbers[:3]] == [Answer(None), None, answers[numbers[2]]]
            assert [number for number, _ in store.pending(experiment)] == [numbers[1], *numbers[3:]]
            assert log.append([], answers=dict.fromkeys(numbers, Answer(None))) == len(edge_case_entries())
            assert store.pending(experiment) == []
            log.append([], answers={others: Answer(None)})  # ignored, because the request is to another experiment
            assert store.pending(other) == [(others, KillRequested())]

    # -- closing ----------------------------------------------------------------------------------

    def test_reopened_store_has_the_same_content(self, tmp_path: Path) -> None:
        """Leases, whose drivers may have died, and requests are stored, too."""
        if not self.durable:
            pytest.skip("the content does not outlive the store's object")
        with self.open_store(tmp_path) as store:
            experiment = store.create(full_spec(), at=1.0)
            store.log(experiment).append(edge_case_entries())
            token = store.take_lease(experiment, a_driver())
            request = store.post(experiment, PauseRequested(), at=1.0)
        with self.open_store(tmp_path) as store:
            lease = store.lease(experiment)
            assert lease is not None
            assert (lease.token, lease.driver) == (token, a_driver())
            assert store.pending(experiment) == [(request, PauseRequested())]
            log = store.log(experiment)
            assert len(list(log.read())) == len(edge_case_entries())
            assert log.append(edge_case_entries()) == 2 * len(edge_case_entries())
            assert store.create(full_spec(), at=2.0) != experiment
