"""The Ray backend: a worker a slot, as many as there is room and use for, wherever Ray finds it."""

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
from types import TracebackType
from typing import Any, Self

from ashwood import __version__
from ashwood.backends.local.backend import check_command
from ashwood.backends.local.trimmer import LogTrimmer
from ashwood.backends.port import Abort, Command, StartAttempt, Suspend
from ashwood.backends.ray import fleet
from ashwood.backends.ray.cluster import Cluster, receive
from ashwood.backends.ray.fleet import Fate, Fleet, Process, Worker
from ashwood.backends.ray.freight import SMALL, as_text, from_text, load
from ashwood.backends.ray.movers import Haul, Movers
from ashwood.backends.ray.outpost import Orders
from ashwood.backends.ray.wire import Message, Wire, packed, unpacked
from ashwood.backends.waker import Waker
from ashwood.errors import BackendError, CheckpointError, StorageUnreachable
from ashwood.experiment.events import (
    ABORTED,
    AttemptEnded,
    AttemptFailed,
    AttemptPreempted,
    AttemptStarted,
    CapacityChanged,
    Event,
    LastWord,
)
from ashwood.experiment.spec import ExperimentSpec
from ashwood.search.vocabulary import TrialId
from ashwood.trial.regular import open_to_append
from ashwood.trial.run import blame
from ashwood.trial.sharing import make_shared
from ashwood.trial.storage import Storage, is_remote, open_storage
from ashwood.trial.storage.port import is_foreign

_CARE_SECONDS = 1.0
_CLOSE_SECONDS = 3.0
_MOVERS = 8
_FOLLOWERS_SECONDS = 3.0
"""Time that the other processes of a trial have to end when one has ended in good order."""


class RayBackend:
    """Runs attempts on a cluster; see `ashwood.backends.port.Backend`."""

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
        process_per_attempt: bool | None = None,
        idle_seconds: float | None = None,
        number: int = 0,
    ) -> None:
        """Look the cluster over; workers are asked for when they are needed.

        Args:
            spec: the experiment.
            cluster: where its trials run.
            key: of the experiment: what no other experiment has, of this home or of another.
            checkpoints: storage of the checkpoints, an absolute directory or a URL.
            shared: whether the nodes reach it as well; otherwise checkpoints travel.
            logs: directory for what trials and workers print.
            workers: how many workers at most; None: as many as there is use for.
            process_per_attempt: see `ashwood.backends.local.LocalBackend`.
            idle_seconds: how long workers that nobody needs are kept; None: a minute.
            number: number of the experiment in its home.

        Raises:
            ClusterError: no trial fits on any node.
            BackendError: the command names an unknown hyperparameter.
            StorageUnreachable: checkpoints can't be kept.
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
        self._wakened = False
        self._selector.register(self._waker, selectors.EVENT_READ, self._woken)
        self._selector.register(self._listener, selectors.EVENT_READ, self._answer)
        orders = Orders(
            worker=0,
            rank=0,
            processes=shape.processes,
            address=self._listener.getsockname()[:2],
            token=token,
            key=key,
            spec=replace(spec, workdir="" if cluster.ships else spec.workdir, config_text="", provenance={}),
            checkpoints=self._checkpoints if shared else None,
            marker=None if self._marker is None else self._marker.name,
            logs=str(self._logs),
            cores=max(1, int(shape.share.get("CPU", 1))),
            process_per_attempt=process_per_attempt,
            number=number,
        )
        idle = fleet.IDLE_SECONDS if idle_seconds is None else idle_seconds
        self._fleet = Fleet(
            cluster, shape, orders, most=workers, idle_seconds=idle, wake=self.wake, release=self._forget
        )
        self._movers = Movers(_MOVERS)
        self._callers: set[Wire] = set()
        self._held: list[tuple[list[Haul], LastWord]] = []
        self._moved: queue.SimpleQueue[tuple[Process, Message, Haul | None]] = queue.SimpleQueue()
        self._live: dict[tuple[TrialId, int], Worker | None] = {}
        self._waiting: deque[StartAttempt] = deque()
        self._events: deque[Event] = deque()
        self._told = 0
        self._news = ""
        self._proved = False
        self._care_due = 0.0
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def slots(self) -> int:
        """How many workers are there."""
        return len(self._fleet.ready)

    @property
    def littered(self) -> bool:
        """Whether workers may have left something on their nodes."""
        return self._fleet.littered

    def expect(self, attempts: int | None) -> None:
        """Have as many workers as the search has use for."""
        self._fleet.want(attempts)

    # -- commands -----------------------------------------------------------------------------

    def dispatch(self, commands: Sequence[Command]) -> None:
        """Carry commands out; see `ashwood.backends.port.Backend`."""
        if self._closed:
            raise BackendError("the backend is closed")
        for command in commands:
            attempt = command.trial, command.attempt
            if isinstance(command, StartAttempt):
                if attempt not in self._live:
                    self._live[attempt] = None
                    self._waiting.append(command)
            elif attempt in self._live:
                self._pass_on(command, self._live[attempt])
        self._assign()

    def _pass_on(self, command: Command, worker: Worker | None) -> None:
        if worker is not None:
            worker.aborted |= isinstance(command, Abort)
            worker.suspended |= isinstance(command, Suspend)
            # Where several train together, the first leaves when it can, and takes the others along.
            (worker.processes[0] if isinstance(command, Suspend) else worker).send(packed(command))
            return
        start = next((start for start in self._waiting if start[:2] == command[:2]), None)
        if start is None:  # it has ended, which nobody has been told yet
            return
        if isinstance(command, Abort):
            self._waiting.remove(start)
            self._end(AttemptFailed(start.trial, start.attempt, ABORTED))
        elif isinstance(command, Suspend):
            self._waiting.remove(start)
            self._end(AttemptEnded(start.trial, start.attempt, start.length))

    def _end(self, word: LastWord) -> None:
        self._live[word.trial, word.attempt] = None
        self._events.append(word)
        self.wake()

    def _assign(self) -> None:
        """Give what waits to workers that are free, those that had the trial before first."""
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
        """What happened since the last call; see `ashwood.backends.port.Backend`."""
        deadline = None if timeout is None else time.monotonic() + timeout
        self._wakened = False
        while True:
            self._take_care()
            self._settle()
            if self._events or self._wakened:
                break
            now = time.monotonic()
            if deadline is not None and now >= deadline and timeout:
                break
            until = self._care_due if deadline is None else min(deadline, self._care_due)
            ready = self._selector.select(max(0.0, until - now))
            for key, _ in ready:
                key.data()
            if not ready and timeout == 0:
                break
        events = list(self._events)
        self._events.clear()
        for event in events:
            if isinstance(event, LastWord):
                del self._live[event.trial, event.attempt]
        return events

    def _woken(self) -> None:
        self._waker.rest()
        self._wakened = True

    def _take_care(self) -> None:
        if time.monotonic() >= self._care_due:
            self._fleet.staff()
            for worker in self._fleet.ready.values():
                for process in worker.processes:
                    if process.wire is not None:
                        process.wire.flush()
                if worker.since is not None and time.monotonic() >= worker.since + _FOLLOWERS_SECONDS:
                    self._abort(worker)
            self._care_due = time.monotonic() + _CARE_SECONDS

    def _settle(self) -> None:
        """See to what other threads have left, and to what follows from all of it."""
        while not self._moved.empty():
            process, message, haul = self._moved.get()
            if haul is not None:
                self._haul_ended(process, haul)
            process.send(message)
        while not self._fleet.fates.empty():
            self._note(self._fleet.fates.get())
        self._assign()
        if self.slots != self._told:
            self._told = self.slots
            self._events.append(CapacityChanged(self.slots, dict(self._fleet.per_node), self._news))
            self._news = ""

    # -- who calls ------------------------------------------------------------------------------

    def _answer(self) -> None:
        with suppress(OSError):  # it has hung up again
            sock, _ = self._listener.accept()
            sock.setblocking(True)
            wire = Wire(sock, partial(self._watch, sock))  # to wait for one worker would hold up all others
            self._callers.add(wire)
            self._selector.register(sock, selectors.EVENT_READ, partial(self._greet, wire, sock))

    def _watch(self, sock: socket.socket, full: bool) -> None:
        """Wait until a socket can be read, or also until it can be written if it is full."""
        with suppress(KeyError, ValueError):  # its worker has been given up
            data = self._selector.get_key(sock).data
            self._selector.modify(sock, selectors.EVENT_READ | (selectors.EVENT_WRITE if full else 0), data)

    def _greet(self, wire: Wire, sock: socket.socket) -> None:
        try:
            process = self._fleet.greet(wire)
        except PermissionError:
            self._callers.remove(wire)
            self._selector.unregister(sock)
            wire.close()
            return
        if process is None:
            return
        self._callers.remove(wire)
        self._selector.modify(sock, selectors.EVENT_READ, partial(self._hear, process))
        self._news = f"node {process.node} joined"
        self._check_versions(process)
        self._hear(process)

    def _check_versions(self, process: Process) -> None:
        about = process.about
        here, python = __version__, platform.python_version()
        if about is not None and (about.ashwood, _minor(about.python)) != (here, _minor(python)):
            self._break(
                process,
                f"a worker runs Ashwood {about.ashwood} on Python {about.python}, the driver Ashwood {here} on Python "
                f"{python}: install the same on all machines, or leave out ship_code: false",
            )

    def _hear(self, process: Process) -> None:
        if process.wire is None or process.wire.gone:
            return
        process.wire.flush()
        self._take_all(process, process.wire)
        if process.wire.gone:
            self._lose(process.worker, f"the worker on node {process.node} was lost")

    def _take_all(self, process: Process, wire: Wire) -> bool:
        messages = wire.receive()
        for message in messages:
            self._take(process, message)
        return bool(messages)

    def _take(self, process: Process, message: Message) -> None:
        match message:
            case ["log", name, text]:
                log = self._logs / Path(name).name
                with suppress(OSError), open_to_append(log) as file:
                    file.write(text.encode("latin-1"))
                self._trimmer.look_at(log)
            case ["offer", name, text]:
                self._offered(process, name, text)
            case ["need", name]:
                self._movers.submit(process, partial(self._deliver, process, name))
            case ["broken", error]:
                self._break(process, error)
            case ["gone", leaves_files]:
                self._fleet.littered |= leaves_files
                process.worker.left = len(process.worker.processes) == 1
                self._forget(process.worker)
            case _:
                event = unpacked(message)
                if event is not None:
                    self._tell(event, process)

    def _tell(self, event: Any, process: Process) -> None:
        worker = process.worker
        if worker.attempt is None or worker.attempt[:2] != (event.trial, event.attempt):
            return
        if process is not worker.processes[0]:
            if isinstance(event, LastWord):
                self._follower_ended(event, process)
            return
        if isinstance(event, AttemptStarted):
            self._proved = True
            self._fleet.prove(worker)
            event = event._replace(slot=worker.slot, node=worker.node)
        if isinstance(event, LastWord):
            # Whatever the word is: with a failure the engine looks for checkpoints of which it was not told.
            worker.word = AttemptFailed(event.trial, event.attempt, ABORTED) if worker.aborted else event
            self._process_ended(process, at_once=worker.suspended)
        elif not worker.aborted:
            self._events.append(event)

    def _follower_ended(self, word: LastWord, process: Process) -> None:
        """One of several processes of an attempt, not the first, has ended; where it failed, all have.

        Unless the first leaves in good order, and the others only miss it.
        """
        worker = process.worker
        if isinstance(word, AttemptFailed) and not worker.aborted and worker.blame is None:
            rank = worker.processes.index(process)
            worker.blame = word._replace(error=f"rank {rank} on node {process.node}: {word.error}")
        self._process_ended(process, at_once=False)

    def _process_ended(self, process: Process, *, at_once: bool) -> None:
        """The attempt has ended when all of its processes have; those that are left get a little time."""
        worker = process.worker
        process.busy = False
        worker.since = worker.since or time.monotonic()
        if any(other.busy for other in worker.processes):
            if at_once:
                self._abort(worker)
        elif worker.word is not None:
            word = _in_all(worker.word, worker.blame)
            worker.take(None)
            self._end(word)

    def _abort(self, worker: Worker) -> None:
        if worker.attempt is not None:
            for process in worker.processes:
                if process.busy:
                    process.send(packed(Abort(*worker.attempt[:2])))

    # -- who goes -------------------------------------------------------------------------------

    def _note(self, fate: Fate) -> None:
        worker = fate.process.worker
        if worker.number in self._fleet.pending:
            self._forget(worker)
            if _by_its_node(fate.error):
                self._fleet.staff()
            else:
                self._fleet.failed_to_start(worker, _words(fate.error))
        elif worker.number in self._fleet.ready:
            for process in worker.processes:  # Ray may tell sooner than what was said last has been heard
                while process.wire is not None and self._take_all(process, process.wire):
                    pass
            self._lose(worker, f"the worker on node {fate.process.node} was lost: {_words(fate.error)}")

    def _break(self, process: Process, error: str) -> None:
        """The training code can't run there.  If it could elsewhere, that node is to blame."""
        where = f"{error}\nThat was on node {process.node} of the cluster."
        if not self._proved:
            raise BackendError(where)
        self._lose(process.worker, where)
        self._fleet.failed_to_start(process.worker, where)

    def _lose(self, worker: Worker, why: str) -> None:
        attempt, aborted = worker.attempt, worker.aborted
        self._fleet.suspect(worker)
        self._forget(worker)
        self._news = why
        if attempt is not None:
            word = worker.word
            worker.take(None)
            lost: LastWord = AttemptPreempted(attempt.trial, attempt.attempt, why)
            # Where several train together, those that miss the lost one fail, which is no fault of theirs.
            if word is not None and not isinstance(word, AttemptFailed):
                lost = word
            self._end_after_hauls(worker, AttemptFailed(attempt.trial, attempt.attempt, ABORTED) if aborted else lost)
        self._fleet.staff()

    def _forget(self, worker: Worker) -> None:
        for process in worker.processes:
            if process.wire is not None:
                with suppress(KeyError, ValueError):
                    self._selector.unregister(process.wire)
        self._fleet.remove(worker)

    def wake(self) -> None:
        """Make `next_events` return early."""
        self._waker.wake()

    # -- checkpoints that travel ----------------------------------------------------------------

    def _offered(self, process: Process, name: str, text: str | None) -> None:
        haul = Haul()
        process.hauls.append(haul)
        trial, _, _ = name.partition("/")
        self._movers.submit(trial, partial(self._fetch, process, name, text, haul))

    def _fetch(self, process: Process, name: str, text: str | None, haul: Haul) -> None:
        try:
            receive(self._storage, name, self._chunks(process, name, text, haul))
        except Exception as error:  # noqa: BLE001 - told to the worker, which goes on
            why = f"the checkpoint {name} can't be kept: {error}"
            self._reply(process, ["refused", name, why, blame(error)], haul)
        else:
            self._reply(process, ["kept", name], haul)

    def _chunks(self, process: Process, name: str, text: str | None, haul: Haul) -> Iterator[bytes]:
        if text is not None:
            yield from from_text(text)
        elif not haul.dropped:
            import ray

            for chunk in process.actor.read.options(num_returns="streaming").remote(name):
                yield ray.get(chunk)
                if haul.dropped:
                    break
        if not haul.keep():
            raise BackendError("its worker is gone")

    def _end_after_hauls(self, worker: Worker, word: LastWord) -> None:
        """The attempt ends when nothing of it arrives any more: what starts next is to find all of it."""
        open_ = [haul for process in worker.processes for haul in process.hauls if not haul.drop()]
        if open_:
            self._held.append((open_, word))
        else:
            self._end(word)

    def _haul_ended(self, process: Process, haul: Haul) -> None:
        process.hauls.remove(haul)
        for held in self._held[:]:
            hauls, word = held
            if haul in hauls:
                hauls.remove(haul)
                if not hauls:
                    self._held.remove(held)
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
        except Exception as error:  # noqa: BLE001 - told to the worker, which goes on
            self._reply(process, ["missing", name, f"the checkpoint {name} can't be delivered: {error}", blame(error)])
        else:
            self._reply(process, ["delivered", name, text])

    def _write(self, process: Process, name: str, directory: Path) -> None:
        import ray

        for number, chunk in enumerate(load(directory)):
            ray.get(process.actor.write.remote(name, chunk, first=number == 0))
        ray.get(process.actor.write.remote(name, None, first=False))

    def _reply(self, process: Process, message: Message, haul: Haul | None = None) -> None:
        self._moved.put((process, message, haul))
        self.wake()

    def _leave_marker(self, token: str) -> Path:
        directory = Path(self._checkpoints)
        marker = directory / f".driver-{token}"
        try:
            make_shared(directory)
            marker.touch()
        except OSError as error:
            raise StorageUnreachable(f"checkpoints can't be kept in {directory}: {error.strerror}") from error
        return marker

    # -- the end ----------------------------------------------------------------------------------

    def close(self) -> None:
        """End every process that is left; what workers have still to tell of their output is heard."""
        if self._closed:
            return
        self._closed = True
        self._selector.unregister(self._listener)
        self._fleet.want(0)
        for worker in [*self._fleet.pending.values()]:
            self._forget(worker)
        for worker in self._fleet.everybody():
            worker.send(["leave"])
        deadline = time.monotonic() + _CLOSE_SECONDS
        with suppress(BackendError):
            while self._fleet.ready and (left := deadline - time.monotonic()) > 0:
                for key, _ in self._selector.select(left):
                    key.data()
        for worker in list(self._fleet.everybody()):
            self._forget(worker)
        for wire in self._callers:
            wire.close()
        self._movers.close()
        self._trimmer.close()
        self._selector.close()
        self._listener.close()
        self._waker.close()
        if self._marker is not None:
            self._marker.unlink(missing_ok=True)


def _in_all(word: LastWord, blame: AttemptFailed | None) -> LastWord:
    """How an attempt ended in all, by the word of its first process and the failure of another."""
    if blame is None or not isinstance(word, AttemptFailed):
        return word
    return blame if word.error == ABORTED else word._replace(error=f"{word.error}\n{blame.error}")


def _minor(version: str) -> list[str]:
    return version.split(".")[:2]


def _by_its_node(error: BaseException | None) -> bool:
    """Whether an actor has ended because its node did, which is no fault of what it was to run."""
    return getattr(error, "preempted", False) or "node has died" in _words(error)


def _words(error: BaseException | None) -> str:
    if error is None:
        return "it left"
    text: Any = getattr(error, "error_msg", None) or str(error)
    return str(text).strip() or type(error).__name__
