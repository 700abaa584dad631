"""The worker's end, with a driver that the test plays; its training process is real."""

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
from ashwood.backends.ray.outpost import Orders, Outpost, _Logs, _Service
from ashwood.backends.ray.staging import Direct, Staged
from ashwood.backends.ray.wire import Message, Wire, packed
from ashwood.errors import StorageUnreachable
from ashwood.experiment.spec import Length, Unit
from ashwood.testing.backend import PATIENCE, endless, job, toy_spec
from ashwood.trial.limited import trim
from ashwood.trial.storage import open_storage

from .fakes import connection


class Driver:
    """The other end of a worker's wire."""

    def __init__(self, directory: Path, **spec: Any) -> None:
        ours, theirs = connection()
        self._wire = Wire(ours)
        ours.settimeout(PATIENCE)
        self._heard: list[Message] = []
        self.staging = Staged(directory / "staged", None)
        self.staging.check(None)
        orders = Orders(
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
            process_per_attempt=None,
        )
        self._other_end = Wire(theirs)
        service = _Service(orders, ALONE, self._other_end, queue.SimpleQueue(), self.staging, directory / "logs")
        self._thread = threading.Thread(target=service.run)
        self._thread.start()

    def say(self, *messages: Message) -> None:
        self._wire.send(*messages)

    def start(self, attempt: StartAttempt) -> None:
        self.say(packed(attempt))

    def hear(self, kind: str) -> Message:
        """The next message of a kind."""
        while True:
            while not self._heard:
                self._heard.extend(self._wire.receive(wait=True))
                assert not self._wire.gone, f"it never said {kind}"
            message = self._heard.pop(0)
            if message[0] == kind:
                return message

    def refuse_until_the_end(self, why: str) -> Message:
        """Refuse all further checkpoints, and return the last message about the attempt."""
        while True:
            while not self._heard:
                self._heard.extend(self._wire.receive(wait=True))
            match self._heard.pop(0):
                case ["offer", name, *_]:
                    self.say(["refused", name, why, "unreachable"])
                case ["StorageFailed" | "AttemptFailed" | "AttemptEnded", *_] as message:
                    return message

    def deliver(self, name: str) -> None:
        open_storage(self.staging.place_of_all).save(name, lambda path: (path / "length").write_text("1"))
        self.say(["delivered", name, None])

    def die(self) -> None:
        self._wire.close()

    def wait_until_it_has_left(self) -> bool:
        self._thread.join(PATIENCE)
        self._other_end.close()
        return not self._thread.is_alive()


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:
    # It leaves because it has nothing to wait for any more, not because it has waited for long.
    monkeypatch.setattr("ashwood.backends.ray.outpost.GRACE", 1000 * PATIENCE)
    driver = Driver(tmp_path)
    yield driver
    driver.die()
    assert driver.wait_until_it_has_left()


def test_a_checkpoint_that_nobody_waits_for_any_more_starts_no_other(driver: Driver) -> None:
    late, wanted = "trial-0/length-1-attempt-1", "trial-1/length-1-attempt-1"
    driver.start(job(0, target=2, attempt=2, length=1, checkpoint=late))
    assert driver.hear("need") == ["need", late]
    driver.say(packed(Abort(0, 2)))
    driver.hear("AttemptFailed")
    driver.start(job(1, target=2, attempt=2, length=1, checkpoint=wanted))
    assert driver.hear("need") == ["need", wanted]
    driver.deliver(late)
    driver.say(["missing", late, "it is late", "damaged"], packed(Suspend(1, 2)))
    assert driver.hear("AttemptEnded") == ["AttemptEnded", 1, 2, 1]


def test_trial_stops_and_is_not_blamed_if_its_checkpoint_cannot_be_kept(tmp_path: Path) -> None:
    driver = Driver(tmp_path, min_checkpoint_period=Length(1, Unit.EPOCHS))
    driver.start(endless())
    _, name, _ = driver.hear("offer")
    driver.say(["refused", name, "the bucket is gone", "unreachable"])
    ended = driver.refuse_until_the_end("the bucket is gone")
    assert ended == ["StorageFailed", 0, 1, "the bucket is gone", "unreachable"]
    driver.die()
    assert driver.wait_until_it_has_left()


def test_trial_is_not_blamed_if_its_checkpoint_cannot_be_fetched(driver: Driver) -> None:
    driver.start(job(0, target=2, attempt=2, length=1, checkpoint="trial-0/length-1-attempt-1"))
    _, name = driver.hear("need")
    driver.say(["missing", name, "access is refused", "unreachable"])
    assert driver.hear("StorageFailed") == ["StorageFailed", 0, 2, "access is refused", "unreachable"]


def test_checkpoint_that_is_kept_late_has_the_metrics_of_its_length(tmp_path: Path) -> None:
    driver = Driver(tmp_path, min_checkpoint_period=Length(1, Unit.EPOCHS))
    driver.start(endless())
    _, name, _ = driver.hear("offer")
    while driver.hear("ValidationReported")[3] < 3:
        pass
    driver.say(["kept", name])
    assert driver.hear("CheckpointSaved") == ["CheckpointSaved", 0, 1, 1, name, {"loss": 1.0}]
    driver.die()
    assert driver.wait_until_it_has_left()


def test_who_waits_for_a_checkpoint_when_the_driver_dies_leaves_at_once(driver: Driver) -> None:
    driver.start(job(0, target=2, attempt=2, length=1, checkpoint="trial-0/length-1-attempt-1"))
    driver.hear("need")
    driver.die()
    assert driver.wait_until_it_has_left()


def test_who_has_saved_when_the_driver_dies_leaves_at_once(driver: Driver) -> None:
    driver.start(endless())
    driver.hear("ValidationReported")
    driver.say(["Suspend", 0, 1])
    _, name, _ = driver.hear("offer")
    driver.die()
    assert driver.wait_until_it_has_left()
    assert [stored.name for stored in driver.staging.storage.complete()] == [name]


def test_who_trains_when_the_driver_dies_saves(driver: Driver) -> None:
    driver.start(endless())
    driver.hear("ValidationReported")
    driver.die()
    assert driver.wait_until_it_has_left()
    (saved,) = driver.staging.storage.complete()
    assert saved.length >= 1


def test_what_a_dead_driver_wanted_last_is_not_begun(driver: Driver) -> None:
    driver.start(endless(0))
    driver.die()
    assert driver.wait_until_it_has_left()


def test_a_directory_that_is_another_one_for_the_driver_is_an_error_that_says_so(tmp_path: Path) -> None:
    staging = Direct(str(tmp_path))
    (tmp_path / ".driver-here").touch()
    staging.check(".driver-here")
    with pytest.raises(StorageUnreachable, match="isn't the same directory"):
        staging.check(".driver-elsewhere")


def test_a_delivery_that_broke_off_is_begun_anew(tmp_path: Path) -> None:
    from ashwood.backends.ray.freight import load

    source = tmp_path / "source"
    open_storage(source).save("trial-0/length-1-attempt-1", lambda path: (path / "model").write_text("weights"))
    chunks = list(load(source / "trial-0" / "length-1-attempt-1"))
    outpost: Any = Outpost.__new__(Outpost)
    outpost._staging, outpost._deliveries = Staged(tmp_path / "staged", None), {}
    outpost.write("trial-0/length-1-attempt-1", chunks[0][:700], first=True)
    for number, chunk in enumerate(chunks):
        outpost.write("trial-0/length-1-attempt-1", chunk, first=number == 0)
    outpost.write("trial-0/length-1-attempt-1", None, first=False)
    with outpost._staging.storage.fetch("trial-0/length-1-attempt-1") as there:
        assert (there / "model").read_text() == "weights"


def test_worker_ships_what_is_printed_once_also_if_its_log_is_trimmed(tmp_path: Path) -> None:
    log, logs = tmp_path / "trial-0.log", _Logs(tmp_path, 5, 100_000)
    lines = [f"{number:09}\n" for number in range(60_000)]
    shipped = ""
    for first in range(0, 60_000, 6_000):
        with log.open("a") as file:
            file.writelines(lines[first : first + 6_000])
        if first % 12_000:  # Otherwise it is trimmed before it is shipped.
            shipped += "".join(text for _, text in logs.news(0))
        trim(log, 100_000)
        news = list(logs.news(0))
        assert {name for name, _ in news} <= {"trial-0.log"}
        shipped += "".join(text for _, text in news)
    parts = re.split(r"\n\[\.\.\. \d+ bytes are left out .*\]\n", shipped)
    numbers = [int(line) for part in parts for line in part.split("\n")[1:-1]]
    assert numbers == sorted(set(numbers)), "nothing is shipped twice"
    assert len(parts) == 5
    assert shipped.endswith(lines[-1])
    assert list(logs.news(1)) == []
    assert not log.exists()
