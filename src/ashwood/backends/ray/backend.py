"""The Ray backend: one worker per slot, and as many slots as the search can use and the cluster can hold."""

from __future__ import annotations

import platform
import queue
import secrets
import selectors
import socket
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Self

from ashwood import __version__
from ashwood.backends.local.backend import check_command
from ashwood.backends.local.trimmer import LogTrimmer
from ashwood.backends.port import Abort, Command, StartAttempt, Suspend
from ashwood.backends.ray.cluster import Cluster, receive
from ashwood.backends.ray.fleet import ActorExit, Fleet, Process, Worker
from ashwood.backends.ray.node_worker import WorkerConfig
from ashwood.backends.ray.transfer import SMALL, Transfer, TransferPool, as_text, from_text, pack_directory
from ashwood.backends.ray.wire import Message, Wire, packed, unpacked
from ashwood.backends.waker import Waker
from ashwood.checkpoints import Storage, is_remote, open_storage
from ashwood.checkpoints.port import is_foreign
from ashwood.checkpoints.regular import open_to_append
from ashwood.checkpoints.sharing import make_shared
from ashwood.errors import BackendError, CheckpointError, StorageUnreachable
from ashwood.experiment.events import (
    ABORTED,
    AttemptEnded,
    AttemptFailed,
    AttemptPreempted,
    AttemptStarted,
    CapacityChanged,
    Event,
    FinalEvent,
)
from ashwood.experiment.spec import ExperimentSpec
from ashwood.search.vocabulary import TrialId
from ashwood.trial.run import blame

_MAINTENANCE_SECONDS = 1.0
_CLOSE_SECONDS = 3.0
_TRANSFER_THREADS = 8
_FOLLOWERS_SECONDS = 3.0
"""Seconds after the end of one process of an attempt until its other processes are aborted."""


class RayBackend:
    """A backend that runs attempts on a Ray cluster; see `ashwood.backends.port.Backend`."""

    def __init__(
        self,
        spec: ExperimentSpec,
        cluster: Cluster,
        *,
        key: str,
        checkpoints: str | Path,
        shared: bool,
        logs: Path,
        workers: int | None = None,
        number: int = 0,
    ) -> None:
        """Check that a trial fits on the cluster.  Workers are started when `expect` asks for them.

        Args:
            spec: the experiment.
            cluster: the cluster on which its trials run.
            key: a key that no other experiment has, in this home or in another one.
            checkpoints: storage of the checkpoints, an absolute directory or a URL.
            shared: whether the nodes can reach that storage; otherwise checkpoints are sent to and from the driver.
            logs: directory for the printed output of trials and workers.
            workers: largest number of workers, or None for as many as the search can use.
            number: number of the experiment in its home.

        Raises:
            ClusterError: no trial fits on any node.
            BackendError: the command names an unknown hyperparameter.
            StorageUnreachable: checkpoints can't be written to the storage.
        """
        import ray

        check_command(spec)
        shape = cluster.shape_for(spec)
        self._logs = logs.absolute()
        make_shared(self._logs)
        self._trimmer = LogTrimmer(spec.max_log_size)
        self._checkpoints = str(checkpoints)
        self._storage: Storage = open_storage(self._checkpoints)
        token = secrets.token_hex(16)
        self._marker = self._leave_marker(token) if shared and not is_remote(self._checkpoints) else None
        self._listener = socket.create_server((ray.util.get_node_ip_address(), 0))
        self._listener.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._waker = Waker()
        self._woken_up = False
        self._selector.register(self._waker, selectors.EVENT_READ, self._on_wake)
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        config = WorkerConfig(
            worker=0,
            rank=0,
            processes=shape.processes,
            address=self._listener.getsockname()[:2],
            token=token,
            key=key,
            spec=replace(spec, workdir="" if cluster.ships else spec.workdir, provenance={}),
            checkpoints=self._checkpoints if shared else None,
            marker=None if self._marker is None else self._marker.name,
            logs=str(self._logs),
            cores=max(1, int(shape.share.get("CPU", 1))),
            number=number,
        )
        self._fleet = Fleet(cluster, shape, config, most=workers, wake=self.wake, release=self._remove)
        self._transfer_pool = TransferPool(_TRANSFER_THREADS)
        self._unidentified: set[Wire] = set()
        self._delayed_ends: list[tuple[list[Transfer], FinalEvent]] = []
        self._replies: queue.SimpleQueue[tuple[Process, Message, Transfer | None]] = queue.SimpleQueue()
        self._live: dict[tuple[TrialId, int], Worker | None] = {}
        self._waiting: deque[StartAttempt] = deque()
        self._events: deque[Event] = deque()
        self._reported_slots = 0
        self._capacity_reason = ""
        self._any_started = False
        self._maintenance_due = 0.0
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def slots(self) -> int:
        """Number of workers that are ready to run attempts."""
        return len(self._fleet.ready)

    @property
    def left_files(self) -> bool:
        """Whether workers may have left files on their nodes."""
        return self._fleet.left_files

    def expect(self, attempts: int | None) -> None:
        """Start or end workers, so that there is one for each attempt that the search could run."""
        self._fleet.request(attempts)

    # -- commands -----------------------------------------------------------------------------

    def dispatch(self, commands: Sequence[Command]) -> None:
        """Execute commands; see `ashwood.backends.port.Backend`."""
        if self._closed:
            raise BackendError("the backend is closed")
        for command in commands:
            attempt = command.trial, command.attempt
            if isinstance(command, StartAttempt):
                if attempt not in self._live:
                    self._live[attempt] = None
                    self._waiting.append(command)
            elif attempt in self._live:
                self._forward(command, self._live[attempt])
        self._assign()

    def _forward(self, command: Command, worker: Worker | None) -> None:
        if worker is not None:
            worker.aborted |= isinstance(command, Abort)
            worker.suspended |= isinstance(command, Suspend)
            # If several processes train together, only the first one is suspended.  When it has ended, the others are
            # aborted (`_process_ended`).
            (worker.processes[0] if isinstance(command, Suspend) else worker).send(packed(command))
            return
        start = next((start for start in self._waiting if start[:2] == command[:2]), None)
        if start is None:  # The attempt has ended, but `next_events` has not returned its last event yet.
            return
        if isinstance(command, Abort):
            self._waiting.remove(start)
            self._end(AttemptFailed(start.trial, start.attempt, ABORTED))
        elif isinstance(command, Suspend):
            self._waiting.remove(start)
            self._end(AttemptEnded(start.trial, start.attempt, start.length))

    def _end(self, word: FinalEvent) -> None:
        self._live[word.trial, word.attempt] = None
        self._events.append(word)
        self.wake()

    def _assign(self) -> None:
        """Send waiting attempts to free workers, each to the worker that had its trial before if that one is free."""
        if not self._waiting:
            return
        free = [worker for worker in self._fleet.ready.values() if worker.attempt is None]
        while self._waiting and free:
            start = self._waiting.popleft()
            worker = next((worker for worker in free if worker.latest == start.trial), free[0])
            free.remove(worker)
            worker.take(start)
            self._live[start.trial, start.attempt] = worker
            worker.send(packed(start))

    # -- events -------------------------------------------------------------------------------

    def next_events(self, timeout: float | None) -> Sequence[Event]:
        """Return the events since the last call; see `ashwood.backends.port.Backend`."""
        deadline = None if timeout is None else time.monotonic() + timeout
        self._woken_up = False
        while True:
            self._maintain()
            self._handle_queued()
            if self._events or self._woken_up:
                break
            now = time.monotonic()
            # A timeout of 0 still reads once from the sockets, below.
            if deadline is not None and now >= deadline and timeout:
                break
            until = self._maintenance_due if deadline is None else min(deadline, self._maintenance_due)
            ready = self._selector.select(max(0.0, until - now))
            for key, _ in ready:
                key.data()
            if not ready and timeout == 0:
                break
        events = list(self._events)
        self._events.clear()
        for event in events:
            if isinstance(event, FinalEvent):
                del self._live[event.trial, event.attempt]
        return events

    def _on_wake(self) -> None:
        self._waker.drain()
        self._woken_up = True

    def _maintain(self) -> None:
        if time.monotonic() >= self._maintenance_due:
            self._fleet.adjust()
            for worker in self._fleet.ready.values():
                for process in worker.processes:
                    if process.wire is not None:
                        process.wire.flush()
                if worker.first_ended_at is not None and time.monotonic() >= worker.first_ended_at + _FOLLOWERS_SECONDS:
                    self._abort(worker)
            self._maintenance_due = time.monotonic() + _MAINTENANCE_SECONDS

    def _handle_queued(self) -> None:
        """Handle what other threads have queued, assign waiting attempts, and report a changed number of slots."""
        while not self._replies.empty():
            process, message, transfer = self._replies.get()
            if transfer is not None:
                self._transfer_ended(process, transfer)
            process.send(message)
        while not self._fleet.exits.empty():
            self._actor_exited(self._fleet.exits.get())
        self._assign()
        if self.slots != self._reported_slots:
            self._reported_slots = self.slots
            self._events.append(CapacityChanged(self.slots, dict(self._fleet.per_node), self._capacity_reason))
            self._capacity_reason = ""

    # -- connections and messages ----------------------------------------------------------------

    def _accept(self) -> None:
        with suppress(OSError):  # The worker has already closed the connection.
            sock, _ = self._listener.accept()
            sock.setblocking(True)
            # With `on_full`, sending never blocks: waiting for one slow worker would delay all others.
            wire = Wire(sock, partial(self._watch, sock))
            self._unidentified.add(wire)
            self._selector.register(sock, selectors.EVENT_READ, partial(self._identify, wire, sock))

    def _watch(self, sock: socket.socket, full: bool) -> None:
        """Select a socket for reading, and also for writing if its send buffer is full."""
        with suppress(KeyError, ValueError):  # The worker was removed, so its socket is no longer registered.
            data = self._selector.get_key(sock).data
            self._selector.modify(sock, selectors.EVENT_READ | (selectors.EVENT_WRITE if full else 0), data)

    def _identify(self, wire: Wire, sock: socket.socket) -> None:
        try:
            process = self._fleet.identify(wire)
        except PermissionError:
            self._unidentified.remove(wire)
            self._selector.unregister(sock)
            wire.close()
            return
        if process is None:
            return
        self._unidentified.remove(wire)
        self._selector.modify(sock, selectors.EVENT_READ, partial(self._receive, process))
        self._capacity_reason = f"node {process.node} joined"
        self._check_versions(process)
        self._receive(process)

    def _check_versions(self, process: Process) -> None:
        about = process.about
        here, python = __version__, platform.python_version()
        if about is not None and (about.ashwood, _minor(about.python)) != (here, _minor(python)):
            self._cannot_train(
                process,
                f"a worker runs Ashwood {about.ashwood} on Python {about.python}, but the driver runs Ashwood {here} "
                f"on Python {python}: install the same versions on all machines, or remove ship_code: false",
            )

    def _receive(self, process: Process) -> None:
        if process.wire is None or process.wire.gone:
            return
        process.wire.flush()
        self._handle_all(process, process.wire)
        if process.wire.gone:
            self._worker_lost(process.worker, f"the worker on node {process.node} was lost")

    def _handle_all(self, process: Process, wire: Wire) -> bool:
        messages = wire.receive()
        for message in messages:
            self._handle(process, message)
        return bool(messages)

    def _handle(self, process: Process, message: Message) -> None:
        match message:
            case ["log", name, text]:
                log = self._logs / Path(name).name
                with suppress(OSError), open_to_append(log) as file:
                    file.write(text.encode("latin-1"))
                self._trimmer.look_at(log)
            case ["offer", name, text]:
                self._checkpoint_offered(process, name, text)
            case ["need", name]:
                self._transfer_pool.submit(process, partial(self._deliver, process, name))
            case ["broken", error]:
                self._cannot_train(process, error)
            case ["gone", leaves_files]:
                self._fleet.left_files |= leaves_files
                process.worker.left_cleanly = len(process.worker.processes) == 1
                self._remove(process.worker)
            case _:
                event = unpacked(message)
                if event is not None:
                    self._handle_event(event, process)

    def _handle_event(self, event: Any, process: Process) -> None:
        worker = process.worker
        if worker.attempt is None or worker.attempt[:2] != (event.trial, event.attempt):
            return
        if process is not worker.processes[0]:
            if isinstance(event, FinalEvent):
                self._follower_ended(event, process)
            return
        if isinstance(event, AttemptStarted):
            self._any_started = True
            self._fleet.note_started(worker)
            event = event._replace(slot=worker.slot, node=worker.node)
        if isinstance(event, FinalEvent):
            # An aborted attempt is reported as failed, however it ended.  After a failure the engine looks in the
            # storage for checkpoints that were saved but not reported.
            worker.final_event = AttemptFailed(event.trial, event.attempt, ABORTED) if worker.aborted else event
            self._process_ended(process, at_once=worker.suspended)
        elif not worker.aborted:
            self._events.append(event)

    def _follower_ended(self, word: FinalEvent, process: Process) -> None:
        """Handle the end of a process of an attempt that is not its first one.

        Its failure makes the attempt fail, unless the first process ends without an error.  In that case the others
        fail only because they lose the connection to it.
        """
        worker = process.worker
        if isinstance(word, AttemptFailed) and not worker.aborted and worker.follower_failure is None:
            rank = worker.processes.index(process)
            worker.follower_failure = word._replace(error=f"rank {rank} on node {process.node}: {word.error}")
        self._process_ended(process, at_once=False)

    def _process_ended(self, process: Process, *, at_once: bool) -> None:
        """Record that a process of an attempt has ended, and end the attempt if it was the last one.

        The other processes are aborted, now if ``at_once``, otherwise after `_FOLLOWERS_SECONDS`.
        """
        worker = process.worker
        process.busy = False
        worker.first_ended_at = worker.first_ended_at or time.monotonic()
        if any(other.busy for other in worker.processes):
            if at_once:
                self._abort(worker)
        elif worker.final_event is not None:
            word = _combined(worker.final_event, worker.follower_failure)
            worker.take(None)
            self._end(word)

    def _abort(self, worker: Worker) -> None:
        if worker.attempt is not None:
            for process in worker.processes:
                if process.busy:
                    process.send(packed(Abort(*worker.attempt[:2])))

    # -- lost workers -----------------------------------------------------------------------------

    def _actor_exited(self, exit_: ActorExit) -> None:
        worker = exit_.process.worker
        if worker.number in self._fleet.pending:
            self._remove(worker)
            if _lost_with_node(exit_.error):
                self._fleet.adjust()
            else:
                self._fleet.failed_to_start(worker, _message_of(exit_.error))
        elif worker.number in self._fleet.ready:
            # Ray may report the exit before the last messages of the worker were read.  They are read first, so that
            # an attempt that had ended is not reported as preempted.
            for process in worker.processes:
                while process.wire is not None and self._handle_all(process, process.wire):
                    pass
            self._worker_lost(worker, f"the worker on node {exit_.process.node} was lost: {_message_of(exit_.error)}")

    def _cannot_train(self, process: Process, error: str) -> None:
        """Handle a worker that can't run the training code at all.

        If an attempt has already started on another worker, the node is at fault, and only this worker is lost.

        Raises:
            BackendError: no attempt has started anywhere.
        """
        where = f"{error}\nThis happened on node {process.node} of the cluster."
        if not self._any_started:
            raise BackendError(where)
        self._worker_lost(process.worker, where)
        self._fleet.failed_to_start(process.worker, where)

    def _worker_lost(self, worker: Worker, why: str) -> None:
        attempt, aborted = worker.attempt, worker.aborted
        self._fleet.avoid_dead_nodes(worker)
        self._remove(worker)
        self._capacity_reason = why
        if attempt is not None:
            word = worker.final_event
            worker.take(None)
            lost: FinalEvent = AttemptPreempted(attempt.trial, attempt.attempt, why)
            # If several processes train together, the others fail because the lost one is missing. So if the first
            # process reported a failure, the attempt ends as preempted instead. Any other end that it reported is kept.
            if word is not None and not isinstance(word, AttemptFailed):
                lost = word
            self._end_after_transfers(
                worker, AttemptFailed(attempt.trial, attempt.attempt, ABORTED) if aborted else lost
            )
        self._fleet.adjust()

    def _remove(self, worker: Worker) -> None:
        for process in worker.processes:
            if process.wire is not None:
                with suppress(KeyError, ValueError):
                    self._selector.unregister(process.wire)
        self._fleet.remove(worker)

    def wake(self) -> None:
        """Make `next_events` return early."""
        self._waker.wake()

    # -- transfers of checkpoints -----------------------------------------------------------------

    def _checkpoint_offered(self, process: Process, name: str, text: str | None) -> None:
        transfer = Transfer()
        process.transfers.append(transfer)
        trial, _, _ = name.partition("/")
        self._transfer_pool.submit(trial, partial(self._fetch, process, name, text, transfer))

    def _fetch(self, process: Process, name: str, text: str | None, transfer: Transfer) -> None:
        try:
            receive(self._storage, name, self._chunks(process, name, text, transfer))
        except Exception as error:  # noqa: BLE001 - sent to the worker, which decides whether to continue
            why = f"the checkpoint {name} can't be stored: {error}"
            self._reply(process, ["refused", name, why, blame(error)], transfer)
        else:
            self._reply(process, ["kept", name], transfer)

    def _chunks(self, process: Process, name: str, text: str | None, transfer: Transfer) -> Iterator[bytes]:
        if text is not None:
            yield from from_text(text)
        elif not transfer.dropped:
            import ray

            for chunk in process.actor.read.options(num_returns="streaming").remote(name):
                yield ray.get(chunk)
                if transfer.dropped:
                    break
        if not transfer.keep():
            raise BackendError("its worker was lost")

    def _end_after_transfers(self, worker: Worker, word: FinalEvent) -> None:
        """End an attempt of a lost worker after all of its checkpoints that have arrived are stored.

        The next attempt of the trial can start as soon as this one ends, and must find these checkpoints.
        """
        open_ = [transfer for process in worker.processes for transfer in process.transfers if not transfer.drop()]
        if open_:
            self._delayed_ends.append((open_, word))
        else:
            self._end(word)

    def _transfer_ended(self, process: Process, transfer: Transfer) -> None:
        process.transfers.remove(transfer)
        for held in self._delayed_ends[:]:
            transfers, word = held
            if transfer in transfers:
                transfers.remove(transfer)
                if not transfers:
                    self._delayed_ends.remove(held)
                    self._end(word)

    def _deliver(self, process: Process, name: str) -> None:
        text = None
        try:
            with self._storage.fetch(name) as directory:
                if not is_foreign(name) and self._storage.manifest(name).size <= SMALL:
                    text = as_text(directory)
                else:
                    self._write(process, name, directory)
        except CheckpointError as error:
            self._reply(process, ["missing", name, str(error), blame(error) or "damaged"])
        except Exception as error:  # noqa: BLE001 - sent to the worker, which ends the attempt
            self._reply(process, ["missing", name, f"the checkpoint {name} can't be sent: {error}", blame(error)])
        else:
            self._reply(process, ["delivered", name, text])

    def _write(self, process: Process, name: str, directory: Path) -> None:
        import ray

        for number, chunk in enumerate(pack_directory(directory)):
            ray.get(process.actor.write.remote(name, chunk, first=number == 0))
        ray.get(process.actor.write.remote(name, None, first=False))

    def _reply(self, process: Process, message: Message, transfer: Transfer | None = None) -> None:
        self._replies.put((process, message, transfer))
        self.wake()

    def _leave_marker(self, token: str) -> Path:
        directory = Path(self._checkpoints)
        marker = directory / f".driver-{token}"
        try:
            make_shared(directory)
            marker.touch()
        except OSError as error:
            raise StorageUnreachable(f"checkpoints can't be written to {directory}: {error.strerror}") from error
        return marker

    # -- the end ----------------------------------------------------------------------------------

    def close(self) -> None:
        """End all workers, and write what they still send of their output to the logs.  Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._selector.unregister(self._listener)
        self._fleet.request(0)
        for worker in [*self._fleet.pending.values()]:
            self._remove(worker)
        for worker in self._fleet.all_workers():
            worker.send(["leave"])
        deadline = time.monotonic() + _CLOSE_SECONDS
        with suppress(BackendError):
            while self._fleet.ready and (left := deadline - time.monotonic()) > 0:
                for key, _ in self._selector.select(left):
                    key.data()
        for worker in list(self._fleet.all_workers()):
            self._remove(worker)
        for wire in self._unidentified:
            wire.close()
        self._transfer_pool.close()
        self._trimmer.close()
        self._selector.close()
        self._listener.close()
        self._waker.close()
        if self._marker is not None:
            self._marker.unlink(missing_ok=True)


def _combined(word: FinalEvent, follower: AttemptFailed | None) -> FinalEvent:
    """Return how an attempt ended, from how its first process ended and how another one failed, if any did."""
    if follower is None or not isinstance(word, AttemptFailed):
        return word
    return follower if word.error == ABORTED else word._replace(error=f"{word.error}\n{follower.error}")


def _minor(version: str) -> list[str]:
    return version.split(".")[:2]


def _lost_with_node(error: BaseException | None) -> bool:
    """Return whether an actor ended because its node was lost, so that the training code is not the cause."""
    return getattr(error, "preempted", False) or "node has died" in _message_of(error)


def _message_of(error: BaseException | None) -> str:
    if error is None:
        return "its process exited"
    text: Any = getattr(error, "error_msg", None) or str(error)
    return str(text).strip() or type(error).__name__
