"""The driver's end, with workers that the tests play: what real ones do too seldom to be waited for."""

from __future__ import annotations

import selectors
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from ashwood.backends.port import Abort
from ashwood.backends.ray import RayBackend
from ashwood.backends.ray.fleet import Fate, Process, Worker
from ashwood.backends.ray.wire import Message, packed
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
    LastWord,
    ValidationReported,
)
from ashwood.testing.backend import PATIENCE, job
from ashwood.trial.storage import open_storage

from .fakes import FakeActor, FakeCluster, FakeWorker, asked_for, backend_on, everybody_leaves, until


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Worker]:
    return asked_for(monkeypatch)


@pytest.fixture
def backend(cluster: FakeCluster, asked: list[Worker], tmp_path: Path) -> Iterator[RayBackend]:
    with backend_on(cluster, tmp_path) as backend:
        yield backend
        everybody_leaves()


def come(backend: RayBackend, *workers: Worker) -> list[FakeWorker]:
    """These workers call."""
    there = [FakeWorker(backend, worker) for worker in workers]
    until(backend, lambda _: all(worker.ready for worker in workers))
    return there


def at_work(backend: RayBackend, asked: list[Worker]) -> FakeWorker:
    """A worker that has been told to train trial 0."""
    backend.expect(1)
    (worker,) = come(backend, *asked)
    backend.dispatch([job()])
    worker.hear()
    return worker


def has_slots(backend: RayBackend, wanted: int, _: list[Event]) -> bool:
    return backend.slots == wanted


def ended(events: list[Event]) -> list[Event]:
    return [event for event in events if isinstance(event, LastWord)]


def test_what_a_worker_said_before_it_died_is_heard(backend: RayBackend, asked: list[Worker]) -> None:
    worker = at_work(backend, asked)
    report, end = ValidationReported(0, 1, 1, {"loss": 1.0}), AttemptEnded(0, 1, 1)
    worker.say(packed(AttemptStarted(0, 1, 0, 0)), packed(report))
    worker.say(packed(end))
    worker.hang_up()
    # Ray may be sooner to tell of its end.
    backend._fleet.fates.put(Fate(worker.worker.processes[0], RuntimeError("it was killed")))
    events = until(backend, ended)
    assert [event for event in events if isinstance(event, ValidationReported | LastWord)] == [report, end]


def test_driver_drops_everything_of_an_aborted_attempt_but_its_last_word(
    backend: RayBackend, asked: list[Worker]
) -> None:
    worker = at_work(backend, asked)
    name = "trial-0/length-1-attempt-1"
    worker.say(packed(AttemptStarted(0, 1, 0, 0)), packed(ValidationReported(0, 1, 1, {"loss": 1.0})))
    worker.say(packed(CheckpointSaved(0, 1, 1, name)), packed(AttemptEnded(0, 1, 1)))
    backend.dispatch([Abort(0, 1)])
    events = until(backend, ended)
    assert [event for event in events if not isinstance(event, CapacityChanged)] == [AttemptFailed(0, 1, ABORTED)]


def test_a_worker_to_which_nothing_can_be_said_is_lost(backend: RayBackend, asked: list[Worker]) -> None:
    worker = at_work(backend, asked)
    report = ValidationReported(0, 1, 1, {"loss": 1.0})
    worker.say(packed(report))
    wire = worker.worker.processes[0].wire
    assert wire is not None
    wire._give_up()  # as when its buffers are full, and it takes nothing
    wire.send(["refused", "this", "is lost", ""])
    events = until(backend, ended)
    assert [event for event in events if not isinstance(event, LastWord)][:1] == [report]
    assert isinstance(ended(events)[0], AttemptPreempted)
    assert worker.hear() == ["eof"]


def test_driver_sends_to_a_slow_worker_without_waiting_for_it(backend: RayBackend, asked: list[Worker]) -> None:
    worker = at_work(backend, asked)
    many = [["delivered", f"checkpoint-{number}", "x" * 60_000] for number in range(200)]
    for message in many:
        worker.worker.send(message)  # of which its connection holds only a part
    heard: list[Message] = []
    reads = threading.Thread(target=lambda: heard.extend(worker.hear() for _ in many))
    reads.start()
    until(backend, lambda _: not reads.is_alive())
    assert heard == many
    wire = worker.worker.processes[0].wire
    assert wire is not None
    assert backend._selector.get_key(wire).events == selectors.EVENT_READ


def test_workers_that_have_been_given_up_make_place_for_others(
    cluster: FakeCluster, asked: list[Worker], tmp_path: Path
) -> None:
    with backend_on(cluster, tmp_path, idle_seconds=0.0) as backend:
        there: list[FakeWorker] = []
        for wanted in (3, 1, 3, 1, 3):
            backend.expect(wanted)
            there += come(backend, *[worker for worker in asked if worker.number in backend._fleet.pending])
            backend._care_due = 0.0
            until(backend, partial(has_slots, backend, wanted))
            for worker in there:  # so that the numbers of their sockets are given again
                if worker.worker.number not in backend._fleet.ready:
                    worker.hang_up()
        everybody_leaves()


def test_workers_that_work_are_not_given_up(cluster: FakeCluster, asked: list[Worker], tmp_path: Path) -> None:
    with backend_on(cluster, tmp_path, idle_seconds=0.0) as backend:
        backend.expect(2)
        one, _ = come(backend, *asked)
        backend.dispatch([job()])
        assert one.hear()[0] == "StartAttempt"
        backend.expect(0)
        until(backend, lambda _: backend.slots == 1)
        one.say(packed(AttemptEnded(0, 1, 1)))
        backend._care_due = 0.0
        assert ended(until(backend, lambda _: backend.slots == 0)) == [AttemptEnded(0, 1, 1)]
        everybody_leaves()


def test_workers_that_are_about_to_start_are_not_given_up(
    backend: RayBackend, asked: list[Worker], cluster: FakeCluster
) -> None:
    backend.expect(None)
    assert len(asked) == 4
    cluster.room = 0.0  # it is theirs now
    backend._care_due = 0.0
    until(backend, lambda _: backend._care_due)
    come(backend, *asked[:4])
    backend._care_due = 0.0
    # One more than there is room for, so that whoever can add nodes sees it.
    until(backend, lambda _: len(asked) == 5)
    assert backend.slots == 4


def test_workers_that_never_start_end_the_experiment(backend: RayBackend, asked: list[Worker]) -> None:
    backend.expect(2)

    def fail_one_after_the_other() -> None:
        for _ in range(10):
            for worker in list(backend._fleet.pending.values()):
                backend._fleet.fates.put(Fate(worker.processes[0], RuntimeError("no such package")))
            backend._care_due = 0.0
            backend.next_events(timeout=0)

    with pytest.raises(BackendError, match="no such package"):
        fail_one_after_the_other()
    assert len(asked) == 6  # of one trouble all that were on their way suffer


def test_workers_that_never_start_are_no_trouble_for_those_that_work(backend: RayBackend, asked: list[Worker]) -> None:
    backend.expect(2)
    (worker,) = come(backend, asked[0])
    backend.dispatch([job()])
    for _ in range(10):
        for other in list(backend._fleet.pending.values()):
            backend._fleet.fates.put(Fate(other.processes[0], RuntimeError("no such package")))
        backend._care_due = 0.0
        backend.next_events(timeout=0)
    assert len(asked) < 10  # it isn't tried again all the time
    worker.say(packed(AttemptEnded(0, 1, 1)))
    assert ended(until(backend, ended)) == [AttemptEnded(0, 1, 1)]


def test_a_node_with_another_version_is_an_error_that_says_so(backend: RayBackend, asked: list[Worker]) -> None:
    backend.expect(1)
    FakeWorker(backend, asked[0], ashwood="0.0.1")
    with pytest.raises(BackendError, match=r"Ashwood 0\.0\.1"):
        until(backend, lambda _: False)


def test_who_comes_while_it_closes_is_sent_away(backend: RayBackend, asked: list[Worker]) -> None:
    backend.expect(2)
    (worker,) = come(backend, asked[0])
    late = FakeWorker(backend, asked[1])
    closing = threading.Thread(target=backend.close)
    closing.start()
    assert worker.hear() == ["leave"]
    worker.hang_up()
    closing.join(PATIENCE)
    assert not closing.is_alive()
    assert late.hear() == ["eof"]
    assert len(asked) == 2


# -- checkpoints that travel ------------------------------------------------------------------------


def saved(worker: FakeWorker, directory: Path, *lengths: int) -> list[str]:
    """Checkpoints of trial 0 on a worker's machine."""
    worker.actor.checkpoints = directory / "staged"
    names = [f"trial-0/length-{length}-attempt-1" for length in lengths]
    for name in names:
        open_storage(worker.actor.checkpoints).save(name, lambda path: (path / "model").write_text("weights"))
    return names


def test_checkpoints_of_a_trial_arrive_one_after_the_other(
    backend: RayBackend, asked: list[Worker], tmp_path: Path
) -> None:
    worker = at_work(backend, asked)
    first, second = saved(worker, tmp_path, 1, 2)
    order: list[str] = []
    both = threading.Event()

    def meanwhile(name: str) -> None:
        order.append(name)
        if name == first:
            both.wait(0.5)  # time for the other to get in its way
        else:
            both.set()

    worker.actor.meanwhile = meanwhile
    worker.say(["offer", first, None], ["offer", second, None])
    told: list[object] = []
    listening = threading.Thread(target=lambda: told.extend([worker.hear(), worker.hear()]))
    listening.start()
    until(backend, lambda _: len(told) == 2)
    assert told == [["kept", first], ["kept", second]]
    assert order == [first, second]


def test_a_checkpoint_that_is_nearly_here_is_kept_though_its_worker_dies(
    backend: RayBackend, asked: list[Worker], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = at_work(backend, asked)
    (name,) = saved(worker, tmp_path, 1)
    all_here, lost = threading.Event(), threading.Event()
    storage = backend._storage
    save = storage.save

    def slow(name: str, write: object, metrics: object = None) -> None:
        save(name, write, metrics)  # type: ignore[arg-type]
        all_here.set()
        lost.wait(PATIENCE)

    monkeypatch.setattr(storage, "save", slow)
    worker.say(["offer", name, None])
    until(backend, lambda _: all_here.is_set())
    worker.hang_up()
    until(backend, lambda _: backend.slots == 0)
    assert ended(list(backend.next_events(timeout=0))) == []
    lost.set()
    assert isinstance(ended(until(backend, ended))[0], AttemptPreempted)
    assert [stored.name for stored in storage.complete()] == [name]


def test_a_checkpoint_of_which_half_is_here_is_not_waited_for(
    backend: RayBackend, asked: list[Worker], tmp_path: Path
) -> None:
    worker = at_work(backend, asked)
    (name,) = saved(worker, tmp_path, 1)
    begun, goes_on = threading.Event(), threading.Event()

    def meanwhile(_: str) -> None:
        begun.set()
        goes_on.wait(PATIENCE)

    worker.actor.meanwhile = meanwhile
    worker.say(["offer", name, None])
    until(backend, lambda _: begun.is_set())
    worker.hang_up()
    assert isinstance(ended(until(backend, ended))[0], AttemptPreempted)
    goes_on.set()
    backend._movers.submit("trial-0", (done := threading.Event()).set)
    assert done.wait(PATIENCE)
    assert backend._storage.complete() == []


# -- trials on several nodes ------------------------------------------------------------------------


def test_who_misses_a_process_that_was_lost_has_not_failed(backend: RayBackend, asked: list[Worker]) -> None:
    backend.expect(1)
    asked[0].processes.append(Process(asked[0], FakeActor()))
    first, second = (FakeWorker(backend, asked[0], rank=rank) for rank in (0, 1))
    until(backend, lambda _: asked[0].ready)
    backend.dispatch([job()])
    first.say(packed(AttemptFailed(0, 1, "ConnectionResetError")))
    until(backend, lambda _: asked[0].word is not None)
    second.hang_up()
    (lost,) = ended(until(backend, ended))
    assert isinstance(lost, AttemptPreempted)


# -- what a former driver left ----------------------------------------------------------------------


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


def test_driver_limits_the_logs_that_workers_send(cluster: FakeCluster, asked: list[Worker], tmp_path: Path) -> None:
    with backend_on(cluster, tmp_path, max_log_size=100_000) as backend:
        worker = at_work(backend, asked)
        for _ in range(4):
            worker.say(["log", "trial-0.log", "a line\n" * 10_000])
        worker.say(["log", "trial-0.log", "the end\n"], packed(AttemptEnded(0, 1, 0)))
        until(backend, ended)
        everybody_leaves()
    text = (tmp_path / "logs" / "trial-0.log").read_text()
    assert len(text) <= 100_000
    assert "bytes are left out here" in text
    assert text.endswith("a line\nthe end\n")
