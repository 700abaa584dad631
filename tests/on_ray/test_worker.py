"""The worker's end with a fake driver; the training process is real."""

from __future__ import annotations

import queue
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ashwood.backends.local.setup import ALONE
from ashwood.backends.port import Abort, StartAttempt, Suspend
from ashwood.backends.ray.node_worker import NodeWorker, WorkerConfig, _Logs, _Service
from ashwood.backends.ray.staging import Staged, Staging
from ashwood.backends.ray.wire import Message, Wire, packed
from ashwood.checkpoints import open_storage
from ashwood.checkpoints.limited import trim
from ashwood.errors import StorageUnreachable
from ashwood.experiment.spec import Length, Unit
from ashwood.testing.backend import PATIENCE, endless, job, toy_spec

from .fakes import connection


class Driver:
    """The driver's end of a connection, and a worker at the other end, in a thread."""

    def __init__(self, directory: Path, **spec: Any) -> None:
        ours, theirs = connection()
        self._wire = Wire(ours)
        ours.settimeout(PATIENCE)
        self._received: list[Message] = []
        self.staging = Staged(directory / "staged", None)
        self.staging.check(None)
        config = WorkerConfig(
            worker=0,
            rank=0,
            processes=1,
            address=("", 0),
            token="",
            key="",
            spec=toy_spec(directory, **spec),
            checkpoints=None,
            marker=None,
            logs=str(directory / "driver-logs"),
            cores=1,
        )
        self._other_end = Wire(theirs)
        service = _Service(config, ALONE, self._other_end, queue.SimpleQueue(), self.staging, directory / "logs")
        self._thread = threading.Thread(target=service.run)
        self._thread.start()

    def send(self, *messages: Message) -> None:
        self._wire.send(*messages)

    def start(self, attempt: StartAttempt) -> None:
        self.send(packed(attempt))

    def receive(self, kind: str) -> Message:
        """Return the next message of a kind, skipping others."""
        while True:
            while not self._received:
                self._received.extend(self._wire.receive(wait=True))
                assert not self._wire.gone, f"the worker sent no message of kind {kind}"
            message = self._received.pop(0)
            if message[0] == kind:
                return message

    def refuse_until_end(self, why: str) -> Message:
        """Refuse all further checkpoints, and return the last message about the attempt."""
        while True:
            while not self._received:
                self._received.extend(self._wire.receive(wait=True))
            match self._received.pop(0):
                case ["offer", name, *_]:
                    self.send(["refused", name, why, "unreachable"])
                case ["StorageFailed" | "AttemptFailed" | "AttemptEnded", *_] as message:
                    return message

    def deliver(self, name: str) -> None:
        open_storage(self.staging.root).save(name, lambda path: (path / "length").write_text("1"))
        self.send(["delivered", name, None])

    def die(self) -> None:
        self._wire.close()

    def worker_exits(self) -> bool:
        self._thread.join(PATIENCE)
        self._other_end.close()
        return not self._thread.is_alive()


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:
    # With so long a grace period, a worker exits only because it has nothing to wait for.
    monkeypatch.setattr("ashwood.backends.ray.node_worker.GRACE", 1000 * PATIENCE)
    driver = Driver(tmp_path)
    yield driver
    driver.die()
    assert driver.worker_exits()


def test_late_checkpoint_of_aborted_attempt_starts_no_other_attempt(driver: Driver) -> None:
    late, wanted = "trial-0/length-1-attempt-1", "trial-1/length-1-attempt-1"
    driver.start(job(0, target=2, attempt=2, length=1, checkpoint=late))
    assert driver.receive("need") == ["need", late]
    driver.send(packed(Abort(0, 2)))
    driver.receive("AttemptFailed")
    driver.start(job(1, target=2, attempt=2, length=1, checkpoint=wanted))
    assert driver.receive("need") == ["need", wanted]
    driver.deliver(late)
    driver.send(["missing", late, "it is late", "damaged"], packed(Suspend(1, 2)))
    assert driver.receive("AttemptEnded") == ["AttemptEnded", 1, 2, 1]


def test_trial_stops_and_is_not_blamed_if_its_checkpoint_cannot_be_kept(tmp_path: Path) -> None:
    driver = Driver(tmp_path, min_checkpoint_period=Length(1, Unit.EPOCHS))
    driver.start(endless())
    _, name, _ = driver.receive("offer")
    driver.send(["refused", name, "the bucket is gone", "unreachable"])
    ended = driver.refuse_until_end("the bucket is gone")
    assert ended == ["StorageFailed", 0, 1, "the bucket is gone", "unreachable"]
    driver.die()
    assert driver.worker_exits()


def test_trial_is_not_blamed_if_its_checkpoint_cannot_be_fetched(driver: Driver) -> None:
    driver.start(job(0, target=2, attempt=2, length=1, checkpoint="trial-0/length-1-attempt-1"))
    _, name = driver.receive("need")
    driver.send(["missing", name, "access is refused", "unreachable"])
    assert driver.receive("StorageFailed") == ["StorageFailed", 0, 2, "access is refused", "unreachable"]


def test_checkpoint_that_is_kept_late_has_the_metrics_of_its_length(tmp_path: Path) -> None:
    driver = Driver(tmp_path, min_checkpoint_period=Length(1, Unit.EPOCHS))
    driver.start(endless())
    _, name, _ = driver.receive("offer")
    while driver.receive("ValidationReported")[3] < 3:
        pass
    driver.send(["kept", name])
    assert driver.receive("CheckpointSaved") == ["CheckpointSaved", 0, 1, 1, name, {"loss": 1.0}, 1]
    driver.die()
    assert driver.worker_exits()


def test_worker_waiting_for_checkpoint_exits_when_driver_dies(driver: Driver) -> None:
    driver.start(job(0, target=2, attempt=2, length=1, checkpoint="trial-0/length-1-attempt-1"))
    driver.receive("need")
    driver.die()
    assert driver.worker_exits()


def test_worker_with_saved_trial_exits_when_driver_dies(driver: Driver) -> None:
    driver.start(endless())
    driver.receive("ValidationReported")
    driver.send(["Suspend", 0, 1])
    _, name, _ = driver.receive("offer")
    driver.die()
    assert driver.worker_exits()
    assert [stored.name for stored in driver.staging.storage.complete()] == [name]


def test_training_worker_saves_when_driver_dies(driver: Driver) -> None:
    driver.start(endless())
    driver.receive("ValidationReported")
    driver.die()
    assert driver.worker_exits()
    (saved,) = driver.staging.storage.complete()
    assert saved.length >= 1


def test_last_command_of_dead_driver_starts_nothing(driver: Driver) -> None:
    driver.start(endless(0))
    driver.die()
    assert driver.worker_exits()


def test_storage_without_marker_of_driver_raises(tmp_path: Path) -> None:
    staging = Staging(str(tmp_path))
    (tmp_path / ".driver-here").touch()
    staging.check(".driver-here")
    with pytest.raises(StorageUnreachable, match="is not the same directory"):
        staging.check(".driver-elsewhere")


def test_interrupted_delivery_is_replaced_by_next_one(tmp_path: Path) -> None:
    from ashwood.backends.ray.transfer import pack_directory

    source = tmp_path / "source"
    open_storage(source).save("trial-0/length-1-attempt-1", lambda path: (path / "model").write_text("weights"))
    chunks = list(pack_directory(source / "trial-0" / "length-1-attempt-1"))
    worker: Any = NodeWorker.__new__(NodeWorker)
    worker._staging, worker._deliveries = Staged(tmp_path / "staged", None), {}
    worker.write("trial-0/length-1-attempt-1", chunks[0][:700], first=True)
    for number, chunk in enumerate(chunks):
        worker.write("trial-0/length-1-attempt-1", chunk, first=number == 0)
    worker.write("trial-0/length-1-attempt-1", None, first=False)
    with worker._staging.storage.fetch("trial-0/length-1-attempt-1") as there:
        assert (there / "model").read_text() == "weights"


def test_worker_sends_output_once_if_its_log_is_trimmed(tmp_path: Path) -> None:
    log, logs = tmp_path / "trial-0.log", _Logs(tmp_path, 5, 100_000)
    lines = [f"{number:09}\n" for number in range(60_000)]
    sent = ""
    for first in range(0, 60_000, 6_000):
        with log.open("a") as file:
            file.writelines(lines[first : first + 6_000])
        if first % 12_000:  # Otherwise it is trimmed before it is sent.
            sent += "".join(text for _, text in logs.unread(0))
        trim(log, 100_000)
        unread = list(logs.unread(0))
        assert {name for name, _ in unread} <= {"trial-0.log"}
        sent += "".join(text for _, text in unread)
    parts = re.split(r"\n\[\.\.\. \d+ bytes are left out .*\]\n", sent)
    numbers = [int(line) for part in parts for line in part.split("\n")[1:-1]]
    assert numbers == sorted(set(numbers)), "some output was sent twice"
    assert len(parts) == 5
    assert sent.endswith(lines[-1])
    assert list(logs.unread(1)) == []
    assert not log.exists()
