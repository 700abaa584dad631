"""A Ray backend without Ray: workers that tests play themselves, over the real wire."""

from __future__ import annotations

import platform
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ashwood import __version__
from ashwood.backends.ray import RayBackend
from ashwood.backends.ray.cluster import Cluster
from ashwood.backends.ray.demand import Amounts, Node
from ashwood.backends.ray.fleet import Fleet, Process, Worker
from ashwood.backends.ray.freight import load
from ashwood.backends.ray.wire import Hello, Message, Wire
from ashwood.experiment.events import Event
from ashwood.testing.backend import PATIENCE, toy_spec


class FakeCluster(Cluster):
    """One node.

    Attributes:
        room: CPUs that nobody uses.
    """

    def __init__(self) -> None:
        self.address = "127.0.0.1:1"
        self.ships = self.autoscales = False
        self.room = 4.0

    def nodes(self) -> list[Node]:
        """It."""
        return [Node("node", "id", {"CPU": 4.0})]

    def answering(self) -> list[Node]:
        """All of them."""
        return self.nodes()

    def free(self) -> Amounts:
        """What is free."""
        return {"CPU": self.room}

    def is_silent(self, node_id: str) -> bool:
        """It never dies."""
        return False


class FakeActor:
    """What the driver calls to fetch a checkpoint; ``meanwhile`` is called before each of its chunks."""

    def __init__(self) -> None:
        self.checkpoints: Path | None = None
        self.meanwhile: Callable[[str], object] = lambda _name: None
        self.read = SimpleNamespace(options=lambda **_: SimpleNamespace(remote=self._read))

    def _read(self, name: str) -> Iterator[bytes]:
        assert self.checkpoints is not None
        for chunk in load(self.checkpoints / name):
            self.meanwhile(name)
            yield chunk


class FakeWorker:
    """The other end of the wire, open until the test hangs up or is over (`everybody_leaves`).

    Attributes:
        worker: as the driver has it.
        sock: to the driver.
    """

    def __init__(self, backend: RayBackend, worker: Worker, **about: Any) -> None:
        """Call the driver."""
        self.worker = worker
        orders = backend._fleet._orders
        self.sock = socket.create_connection(orders.address)
        self._wire = Wire(self.sock)
        self._heard: list[Message] = []
        _there.append(self)
        versions = {"ashwood": __version__, "python": platform.python_version()}
        known = {"worker": worker.number, "node": "node", "node_id": "id", **versions, **about}
        self.say(["hello", orders.token, [known.get(name, 0) for name in Hello._fields]])

    @property
    def actor(self) -> FakeActor:
        """As the driver has it."""
        actor: FakeActor = self.worker.processes[0].actor
        return actor

    def say(self, *messages: Message) -> None:
        """Send."""
        self._wire.send(*messages)

    def hear(self) -> Message:
        """The next message from the driver, its greeting aside."""
        while not self._heard:
            self.sock.settimeout(PATIENCE)
            self._heard.extend(message for message in self._wire.receive(wait=True) if message[0] != "welcome")
            if self._wire.gone:
                break
        return self._heard.pop(0) if self._heard else ["eof"]

    def hang_up(self) -> None:
        """Be gone."""
        self._wire.close()


_there: list[FakeWorker] = []


def everybody_leaves() -> None:
    """At the end of a test."""
    while _there:
        _there.pop().hang_up()


def asked_for(monkeypatch: pytest.MonkeyPatch) -> list[Worker]:
    """The workers that drivers ask for from now on, of which none comes by itself."""
    asked: list[Worker] = []

    def launch(fleet: Fleet) -> None:
        worker = Worker(fleet._numbers)
        fleet._numbers += 1
        worker.processes.append(Process(worker, FakeActor()))
        fleet.pending[worker.number] = worker
        asked.append(worker)

    monkeypatch.setattr(Fleet, "_launch", launch)
    monkeypatch.setattr("ray.util.get_node_ip_address", lambda: "127.0.0.1")
    monkeypatch.setattr("ray.get", lambda chunk: chunk)
    monkeypatch.setattr("ray.kill", lambda _actor: None)
    return asked


def backend_on(cluster: FakeCluster, directory: Path, *, max_log_size: int | None = None, **more: Any) -> RayBackend:
    """A driver's end."""
    return RayBackend(
        toy_spec(directory, max_log_size=max_log_size),
        cluster,
        key="test",
        checkpoints=directory / "checkpoints",
        shared=False,
        logs=directory / "logs",
        **more,
    )


def until(backend: RayBackend, what: Callable[[list[Event]], object]) -> list[Event]:
    """Hear the backend until something is true of all events."""
    events: list[Event] = []
    for _ in range(int(PATIENCE * 10)):
        if what(events):
            return events
        events.extend(backend.next_events(timeout=0.1))
    raise AssertionError(f"it never came to that: {events}")


def connection() -> tuple[socket.socket, socket.socket]:
    """Both ends of one."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
    return ours, theirs
