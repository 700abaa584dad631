"""Fakes for a Ray backend without Ray: tests play the workers, over real sockets."""

from __future__ import annotations

import platform
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ashwood import __version__
from ashwood.backends.ray.backend import RayBackend
from ashwood.backends.ray.cluster import Cluster
from ashwood.backends.ray.demand import Amounts, NodeResources
from ashwood.backends.ray.fleet import Fleet, Process, Worker
from ashwood.backends.ray.transfer import pack_directory
from ashwood.backends.ray.wire import Hello, Message, Wire
from ashwood.experiment.events import Event
from ashwood.testing.backend import PATIENCE, toy_spec


class FakeCluster(Cluster):
    """A cluster of one node with 4 CPUs.

    Attributes:
        room: number of free CPUs.
    """

    def __init__(self) -> None:
        self.address = "127.0.0.1:1"
        self.ships = self.autoscales = False
        self.room = 4.0

    def nodes(self) -> list[NodeResources]:
        """Return the only node."""
        return [NodeResources("node", "id", {"CPU": 4.0})]

    def answering(self) -> list[NodeResources]:
        """Return all nodes."""
        return self.nodes()

    def free(self) -> Amounts:
        """Return the free resources."""
        return {"CPU": self.room}

    def is_silent(self, node_id: str) -> bool:
        """Return False, because the node never dies."""
        return False


class FakeActor:
    """An actor from which the driver fetches checkpoints; ``before_chunk`` is called before each chunk."""

    def __init__(self) -> None:
        self.checkpoints: Path | None = None
        self.before_chunk: Callable[[str], object] = lambda _name: None
        self.read = SimpleNamespace(options=lambda **_: SimpleNamespace(remote=self._read))

    def _read(self, name: str) -> Iterator[bytes]:
        assert self.checkpoints is not None
        for chunk in pack_directory(self.checkpoints / name):
            self.before_chunk(name)
            yield chunk


class FakeWorker:
    """The worker's end of a connection, open until `disconnect` or `close_fake_workers`.

    Attributes:
        worker: the driver's record of this worker.
        sock: socket to the driver.
    """

    def __init__(self, backend: RayBackend, worker: Worker, **about: Any) -> None:
        """Connect to the driver and send the hello message."""
        self.worker = worker
        config = backend._fleet._config
        self.sock = socket.create_connection(config.address)
        self._wire = Wire(self.sock)
        self._received: list[Message] = []
        _open.append(self)
        versions = {"ashwood": __version__, "python": platform.python_version()}
        known = {"worker": worker.number, "node": "node", "node_id": "id", **versions, **about}
        self.send(["hello", config.token, [known.get(name, 0) for name in Hello._fields]])

    @property
    def actor(self) -> FakeActor:
        """The driver's handle of the actor."""
        actor: FakeActor = self.worker.processes[0].actor
        return actor

    def send(self, *messages: Message) -> None:
        """Send messages to the driver."""
        self._wire.send(*messages)

    def receive(self) -> Message:
        """Return the driver's next message after its welcome, or ["eof"] at the end of the connection."""
        while not self._received:
            self.sock.settimeout(PATIENCE)
            self._received.extend(message for message in self._wire.receive(wait=True) if message[0] != "welcome")
            if self._wire.gone:
                break
        return self._received.pop(0) if self._received else ["eof"]

    def disconnect(self) -> None:
        """Close the connection."""
        self._wire.close()


_open: list[FakeWorker] = []


def close_fake_workers() -> None:
    """Close the connections of all fake workers at the end of a test."""
    while _open:
        _open.pop().disconnect()


def requested_workers(monkeypatch: pytest.MonkeyPatch) -> list[Worker]:
    """Return a list that collects the workers that drivers request; none of them connects by itself."""
    requested: list[Worker] = []

    def launch(fleet: Fleet) -> None:
        worker = Worker(fleet._numbers)
        fleet._numbers += 1
        worker.processes.append(Process(worker, FakeActor()))
        fleet.pending[worker.number] = worker
        requested.append(worker)

    monkeypatch.setattr(Fleet, "_launch", launch)
    monkeypatch.setattr("ray.util.get_node_ip_address", lambda: "127.0.0.1")
    monkeypatch.setattr("ray.get", lambda chunk: chunk)
    monkeypatch.setattr("ray.kill", lambda _actor: None)
    return requested


def backend_on(cluster: FakeCluster, directory: Path, *, max_log_size: int | None = None, **more: Any) -> RayBackend:
    """Return a backend on a fake cluster."""
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
    """Collect events of the backend until ``what`` is true of them, and return them."""
    events: list[Event] = []
    for _ in range(int(PATIENCE * 10)):
        if what(events):
            return events
        events.extend(backend.next_events(timeout=0.1))
    raise AssertionError(f"the expected events did not arrive in time: {events}")


def connection() -> tuple[socket.socket, socket.socket]:
    """Return both ends of a connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
    return ours, theirs
