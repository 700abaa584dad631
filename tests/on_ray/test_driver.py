"""The driver's end with fake workers, for events that are too rare with real ones."""

from __future__ import annotations

import selectors
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from ashwood.backends.port import Abort
from ashwood.backends.ray import fleet
from ashwood.backends.ray.backend import RayBackend
from ashwood.backends.ray.fleet import ActorExit, Process, Worker
from ashwood.backends.ray.wire import Message, packed
from ashwood.checkpoints import open_storage
from ashwood.errors import BackendError
from ashwood.experiment.events import (
    ABORTED,
    AttemptEnded,
    AttemptFailed,
    AttemptPreempted,
    AttemptStarted,
    CapacityChanged,
    CheckpointSaved,
    Event,
    FinalEvent,
    ValidationReported,
)
from ashwood.testing.backend import PATIENCE, job

from .fakes import FakeActor, FakeCluster, FakeWorker, backend_on, close_fake_workers, requested_workers, until


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


@pytest.fixture
def requested(monkeypatch: pytest.MonkeyPatch) -> list[Worker]:
    return requested_workers(monkeypatch)


@pytest.fixture
def backend(cluster: FakeCluster, requested: list[Worker], tmp_path: Path) -> Iterator[RayBackend]:
    with backend_on(cluster, tmp_path) as backend:
        yield backend
        close_fake_workers()


def connect(backend: RayBackend, *workers: Worker) -> list[FakeWorker]:
    """Connect fake workers for these requested ones, and return them."""
    there = [FakeWorker(backend, worker) for worker in workers]
    until(backend, lambda _: all(worker.ready for worker in workers))
    return there


def training_worker(backend: RayBackend, requested: list[Worker]) -> FakeWorker:
    """Return a worker that was sent trial 0."""
    backend.expect(1)
    (worker,) = connect(backend, *requested)
    backend.dispatch([job()])
    worker.receive()
    return worker


def has_slots(backend: RayBackend, wanted: int, _: list[Event]) -> bool:
    return backend.slots == wanted


def ended(events: list[Event]) -> list[Event]:
    return [event for event in events if isinstance(event, FinalEvent)]


def test_messages_sent_before_worker_died_are_handled(backend: RayBackend, requested: list[Worker]) -> None:
    worker = training_worker(backend, requested)
    report, end = ValidationReported(0, 1, 1, {"loss": 1.0}), AttemptEnded(0, 1, 1)
    worker.send(packed(AttemptStarted(0, 1, 0, 0)), packed(report))
    worker.send(packed(end))
    worker.disconnect()
    # Ray may report the exit before the messages are read.
    backend._fleet.exits.put(ActorExit(worker.worker.processes[0], RuntimeError("it was killed")))
    events = until(backend, ended)
    assert [event for event in events if isinstance(event, ValidationReported | FinalEvent)] == [report, end]


def test_driver_drops_all_events_of_aborted_attempt_but_the_final_one(
    backend: RayBackend, requested: list[Worker]
) -> None:
    worker = training_worker(backend, requested)
    name = "trial-0/length-1-attempt-1"
    worker.send(packed(AttemptStarted(0, 1, 0, 0)), packed(ValidationReported(0, 1, 1, {"loss": 1.0})))
    worker.send(packed(CheckpointSaved(0, 1, 1, name)), packed(AttemptEnded(0, 1, 1)))
    backend.dispatch([Abort(0, 1)])
    events = until(backend, ended)
    assert [event for event in events if not isinstance(event, CapacityChanged)] == [AttemptFailed(0, 1, ABORTED)]


def test_worker_that_cannot_be_sent_messages_is_lost(backend: RayBackend, requested: list[Worker]) -> None:
    worker = training_worker(backend, requested)
    report = ValidationReported(0, 1, 1, {"loss": 1.0})
    worker.send(packed(report))
    wire = worker.worker.processes[0].wire
    assert wire is not None
    wire._give_up()  # as if its buffers were full for too long
    wire.send(["refused", "this", "is lost", ""])
    events = until(backend, ended)
    assert [event for event in events if not isinstance(event, FinalEvent)][:1] == [report]
    assert isinstance(ended(events)[0], AttemptPreempted)
    assert worker.receive() == ["eof"]


def test_driver_sends_to_a_slow_worker_without_waiting_for_it(backend: RayBackend, requested: list[Worker]) -> None:
    worker = training_worker(backend, requested)
    many = [["delivered", f"checkpoint-{number}", "x" * 60_000] for number in range(200)]
    for message in many:
        worker.worker.send(message)  # the connection's buffers hold only a part of them
    heard: list[Message] = []
    reads = threading.Thread(target=lambda: heard.extend(worker.receive() for _ in many))
    reads.start()
    until(backend, lambda _: not reads.is_alive())
    assert heard == many
    wire = worker.worker.processes[0].wire
    assert wire is not None
    assert backend._selector.get_key(wire).events == selectors.EVENT_READ


def test_workers_can_be_released_and_requested_again(
    cluster: FakeCluster, requested: list[Worker], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "IDLE_SECONDS", 0.0)
    with backend_on(cluster, tmp_path) as backend:
        there: list[FakeWorker] = []
        for wanted in (3, 1, 3, 1, 3):
            backend.expect(wanted)
            there += connect(backend, *[worker for worker in requested if worker.number in backend._fleet.pending])
            backend._maintenance_due = 0.0
            until(backend, partial(has_slots, backend, wanted))
            for worker in there:  # so that the numbers of their sockets are used again
                if worker.worker.number not in backend._fleet.ready:
                    worker.disconnect()
        close_fake_workers()


def test_busy_worker_is_not_released(
    cluster: FakeCluster, requested: list[Worker], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "IDLE_SECONDS", 0.0)
    with backend_on(cluster, tmp_path) as backend:
        backend.expect(2)
        one, _ = connect(backend, *requested)
        backend.dispatch([job()])
        assert one.receive()[0] == "StartAttempt"
        backend.expect(0)
        until(backend, lambda _: backend.slots == 1)
        one.send(packed(AttemptEnded(0, 1, 1)))
        backend._maintenance_due = 0.0
        assert ended(until(backend, lambda _: backend.slots == 0)) == [AttemptEnded(0, 1, 1)]
        close_fake_workers()


def test_pending_workers_are_not_released(backend: RayBackend, requested: list[Worker], cluster: FakeCluster) -> None:
    backend.expect(None)
    assert len(requested) == 4
    cluster.room = 0.0  # these four use it now
    backend._maintenance_due = 0.0
    until(backend, lambda _: backend._maintenance_due)
    connect(backend, *requested[:4])
    backend._maintenance_due = 0.0
    # One more than fits, so that an autoscaler sees the demand.
    until(backend, lambda _: len(requested) == 5)
    assert backend.slots == 4


def test_repeated_failed_starts_raise_if_no_worker_is_ready(backend: RayBackend, requested: list[Worker]) -> None:
    backend.expect(2)

    def fail_one_after_the_other() -> None:
        for _ in range(10):
            for worker in list(backend._fleet.pending.values()):
                backend._fleet.exits.put(ActorExit(worker.processes[0], RuntimeError("no such package")))
            backend._maintenance_due = 0.0
            backend.next_events(timeout=0)

    with pytest.raises(BackendError, match="no such package"):
        fail_one_after_the_other()
    assert len(requested) == 6  # three failures, each of which two pending workers share


def test_failed_starts_do_not_disturb_ready_workers(backend: RayBackend, requested: list[Worker]) -> None:
    backend.expect(2)
    (worker,) = connect(backend, requested[0])
    backend.dispatch([job()])
    for _ in range(10):
        for other in list(backend._fleet.pending.values()):
            backend._fleet.exits.put(ActorExit(other.processes[0], RuntimeError("no such package")))
        backend._maintenance_due = 0.0
        backend.next_events(timeout=0)
    assert len(requested) < 10  # further starts are delayed
    worker.send(packed(AttemptEnded(0, 1, 1)))
    assert ended(until(backend, ended)) == [AttemptEnded(0, 1, 1)]


def test_worker_with_other_version_of_ashwood_raises(backend: RayBackend, requested: list[Worker]) -> None:
    backend.expect(1)
    FakeWorker(backend, requested[0], ashwood="0.0.1")
    with pytest.raises(BackendError, match=r"Ashwood 0\.0\.1"):
        until(backend, lambda _: False)


def test_worker_that_connects_during_close_is_dismissed(backend: RayBackend, requested: list[Worker]) -> None:
    backend.expect(2)
    (worker,) = connect(backend, requested[0])
    late = FakeWorker(backend, requested[1])
    closing = threading.Thread(target=backend.close)
    closing.start()
    assert worker.receive() == ["leave"]
    worker.disconnect()
    closing.join(PATIENCE)
    assert not closing.is_alive()
    assert late.receive() == ["eof"]
    assert len(requested) == 2


# -- transfers of checkpoints -----------------------------------------------------------------------


def saved(worker: FakeWorker, directory: Path, *lengths: int) -> list[str]:
    """Save checkpoints of trial 0 on a worker's node, and return their names."""
    worker.actor.checkpoints = directory / "staged"
    names = [f"trial-0/length-{length}-attempt-1" for length in lengths]
    for name in names:
        open_storage(worker.actor.checkpoints).save(name, lambda path: (path / "model").write_text("weights"))
    return names


def test_checkpoints_of_a_trial_are_received_in_order(
    backend: RayBackend, requested: list[Worker], tmp_path: Path
) -> None:
    worker = training_worker(backend, requested)
    first, second = saved(worker, tmp_path, 1, 2)
    order: list[str] = []
    both = threading.Event()

    def before_chunk(name: str) -> None:
        order.append(name)
        if name == first:
            both.wait(0.5)  # enough time for the second one to start, if it did not wait
        else:
            both.set()

    worker.actor.before_chunk = before_chunk
    worker.send(["offer", first, None], ["offer", second, None])
    replies: list[object] = []
    listening = threading.Thread(target=lambda: replies.extend([worker.receive(), worker.receive()]))
    listening.start()
    until(backend, lambda _: len(replies) == 2)
    assert replies == [["kept", first], ["kept", second]]
    assert order == [first, second]


def test_received_checkpoint_is_stored_though_its_worker_dies(
    backend: RayBackend, requested: list[Worker], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = training_worker(backend, requested)
    (name,) = saved(worker, tmp_path, 1)
    all_here, lost = threading.Event(), threading.Event()
    storage = backend._storage
    save = storage.save

    def slow(name: str, write: object, metrics: object = None) -> None:
        save(name, write, metrics)  # type: ignore[arg-type]
        all_here.set()
        lost.wait(PATIENCE)

    monkeypatch.setattr(storage, "save", slow)
    worker.send(["offer", name, None])
    until(backend, lambda _: all_here.is_set())
    worker.disconnect()
    until(backend, lambda _: backend.slots == 0)
    assert ended(list(backend.next_events(timeout=0))) == []
    lost.set()
    assert isinstance(ended(until(backend, ended))[0], AttemptPreempted)
    assert [stored.name for stored in storage.complete()] == [name]


def test_partly_received_checkpoint_is_dropped_if_its_worker_dies(
    backend: RayBackend, requested: list[Worker], tmp_path: Path
) -> None:
    worker = training_worker(backend, requested)
    (name,) = saved(worker, tmp_path, 1)
    begun, lost = threading.Event(), threading.Event()

    def before_chunk(_: str) -> None:
        begun.set()
        lost.wait(PATIENCE)

    worker.actor.before_chunk = before_chunk
    worker.send(["offer", name, None])
    until(backend, lambda _: begun.is_set())
    worker.disconnect()
    assert isinstance(ended(until(backend, ended))[0], AttemptPreempted)
    lost.set()
    backend._transfer_pool.submit("trial-0", (done := threading.Event()).set)
    assert done.wait(PATIENCE)
    assert backend._storage.complete() == []


# -- trials on several nodes ------------------------------------------------------------------------


def test_failure_of_one_process_after_loss_of_another_is_a_preemption(
    backend: RayBackend, requested: list[Worker]
) -> None:
    backend.expect(1)
    requested[0].processes.append(Process(requested[0], FakeActor()))
    first, second = (FakeWorker(backend, requested[0], rank=rank) for rank in (0, 1))
    until(backend, lambda _: requested[0].ready)
    backend.dispatch([job()])
    first.send(packed(AttemptFailed(0, 1, "ConnectionResetError")))
    until(backend, lambda _: requested[0].final_event is not None)
    second.disconnect()
    (lost,) = ended(until(backend, ended))
    assert isinstance(lost, AttemptPreempted)


# -- workers of an earlier driver -------------------------------------------------------------------


def test_next_driver_kills_waiting_actors_only_if_they_have_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    # Ray calls an actor PENDING_CREATION until it has noted that __init__ returned; by then it may train.
    actors = {
        "1": {"Name": "mine-waits", "Pid": 0},
        "2": {"Name": "mine-begins", "Pid": 4711},
        "3": {"Name": "another-waits", "Pid": 0},
    }
    killed: list[str] = []
    monkeypatch.setattr(
        "ray._private.state.actors",
        lambda actor_state_name: actors if actor_state_name == "PENDING_CREATION" else {},
    )
    monkeypatch.setattr("ray.get_actor", lambda name, _namespace: name)
    monkeypatch.setattr("ray.kill", killed.append)
    FakeCluster()._end_waiting("mine")
    assert killed == ["mine-waits"]


def test_driver_limits_size_of_received_logs(cluster: FakeCluster, requested: list[Worker], tmp_path: Path) -> None:
    with backend_on(cluster, tmp_path, max_log_size=100_000) as backend:
        worker = training_worker(backend, requested)
        for _ in range(4):
            worker.send(["log", "trial-0.log", "a line\n" * 10_000])
        worker.send(["log", "trial-0.log", "the end\n"], packed(AttemptEnded(0, 1, 0)))
        until(backend, ended)
        close_fake_workers()
    text = (tmp_path / "logs" / "trial-0.log").read_text()
    assert len(text) <= 100_000
    assert "bytes are left out here" in text
    assert text.endswith("a line\nthe end\n")
