"""A worker on a node: an actor that runs one attempt at a time, in a local backend with one slot.

If the driver dies, the actor lives on until its trial is saved, and then ends itself.  Therefore it is
a detached actor.  Its training process never outlives it.
"""

from __future__ import annotations

import fcntl
import os
import platform
import queue
import socket
import tempfile
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ashwood import __version__
from ashwood.backends.local.backend import LocalBackend
from ashwood.backends.local.reaper import GRACE
from ashwood.backends.local.setup import ALONE, Team
from ashwood.backends.local.slots import Machine, visible_gpus
from ashwood.backends.local.worker_lock import held, is_held
from ashwood.backends.port import Abort, Command, StartAttempt, Suspend
from ashwood.backends.ray.staging import Inbox, Staged, Staging, checkpoints_in, strip
from ashwood.backends.ray.transfer import from_text, pack_directory, unpack_directory
from ashwood.backends.ray.wire import Hello, Message, Wire, packed, unpacked
from ashwood.checkpoints import Storage, open_storage
from ashwood.checkpoints.directory import FOLDER
from ashwood.checkpoints.limited import read_pieces
from ashwood.checkpoints.regular import open_to_read
from ashwood.checkpoints.scratch import private_directory
from ashwood.checkpoints.trees import atomic_directory, remove_tree
from ashwood.errors import AshwoodError, BackendError
from ashwood.experiment.events import (
    ABORTED,
    AttemptEnded,
    AttemptFailed,
    CheckpointDamaged,
    CheckpointSaved,
    Event,
    FinalEvent,
    StorageFailed,
)
from ashwood.experiment.spec import ExperimentSpec
from ashwood.trial.run import blame

_CONNECT_SECONDS = 20.0
_WELCOME_SECONDS = 120.0
_SHIP_SECONDS = 0.5
_ABANDONED_SECONDS = 7 * 24 * 3600
_LOOK_AGAIN_SECONDS = 0.05
_MOST_KEPT = 4
"""Largest number of directories of dead workers that are kept for checkpoints of which they have the only copy."""
_LOCK = "worker.lock"
"""Name of the file in a worker's directory on which the worker holds a lock until it ends."""


class WorkerConfig(NamedTuple):
    """The configuration of a worker process, which the driver passes to the actor.

    Attributes:
        worker: number of the worker; the driver never reuses one.
        rank: rank of the process among those of the worker.
        processes: number of processes that train a trial together.
        address: host and port at which the driver listens.
        token: secret by which the driver recognizes its workers.
        key: key of the experiment, which no other experiment has.
        spec: the experiment; an empty work directory stands for the one that Ray has created.
        checkpoints: checkpoint storage that all workers can reach, or None if only the driver can reach it.
        marker: name of a file that the driver created in a storage that is a directory, or None.
        logs: the driver's directory of logs, for messages.
        cores: number of CPU cores of a trial on this node.
        number: number of the experiment in its home.
    """

    worker: int
    rank: int
    processes: int
    address: tuple[str, int]
    token: str
    key: str
    spec: ExperimentSpec
    checkpoints: str | None
    marker: str | None
    logs: str
    cores: int
    number: int = 0


class NodeWorker:
    """The actor of one process of a worker.

    It needs several threads: a call of `serve` occupies one of them until the worker ends.
    """

    def __init__(self, config: WorkerConfig) -> None:
        """Start to work for the driver that ``config`` names."""
        import ray

        context = ray.get_runtime_context()
        self._config = config
        self._node_id = context.get_node_id()
        self._address: str = ray.util.get_node_ip_address()
        self._node = node_name(self._address, self._node_id)
        self._directory = _home_of(config.key, self._node_id) / f"{config.worker}-{config.rank}-{os.urandom(4).hex()}"
        self._staging: Staging = (
            Staging(config.checkpoints)
            if config.checkpoints is not None and "://" not in config.checkpoints
            else Staged(checkpoints_in(self._directory), config.checkpoints)
        )
        self._deliveries: dict[str, _Delivery] = {}
        # Started here and not in `serve`: the driver may have died while Ray looked for a node, and then nothing calls
        # `serve`, and the actor would stay for ever.
        self._service = threading.Thread(target=self._work, name="ashwood-service", daemon=True)
        self._service.start()

    def serve(self) -> None:
        """Return when the worker has ended its work."""
        self._service.join()

    def _work(self) -> None:
        """Work for the driver until it dismisses the worker, or dies.

        If the driver died, end this process.  Otherwise the driver kills the actor.
        """
        import ray

        try:
            if self._serve():
                return
        except Exception:  # noqa: BLE001 - the traceback goes to Ray's log of this process
            traceback.print_exc()
        group = ray.util.get_current_placement_group()
        if group is not None and self._config.rank == 0:
            ray.util.remove_placement_group(group)  # a detached group would keep its resources for ever
        ray.kill(ray.get_runtime_context().current_actor)

    def read(self, name: str) -> Iterator[bytes]:
        """Yield an offered checkpoint in chunks, for `transfer.unpack_directory`."""
        with self._staging.storage.fetch(name) as directory:
            yield from pack_directory(directory)

    def write(self, name: str, chunk: bytes | None, *, first: bool) -> None:
        """Unpack the next chunk of a checkpoint that this worker needs, or complete it if the chunk is None.

        Args:
            name: the checkpoint.
            chunk: the chunk, or None after the last one.
            first: whether this is the first chunk; what an interrupted delivery left is replaced.

        Raises:
            OSError: the chunk can't be written.
        """
        if first and (interrupted := self._deliveries.pop(name, None)) is not None:
            with suppress(Exception):
                interrupted.finish()
        delivery = self._deliveries.get(name)
        if delivery is None:
            delivery = self._deliveries[name] = _Delivery(self._staging.path_of(name))
        if chunk is not None:
            delivery.put(chunk)
        else:
            del self._deliveries[name]
            delivery.finish()

    def _serve(self) -> bool:
        """Work for the driver, and return whether it is still alive at the end."""
        try:
            sock = socket.create_connection(self._config.address, timeout=_CONNECT_SECONDS)
        except OSError:  # the driver has ended
            return False
        sock.settimeout(None)
        wire = Wire(sock)
        about = Hello(
            self._config.worker,
            self._config.rank,
            self._node,
            self._node_id,
            self._address,
            _free_port(self._address),
            os.getpid(),
            __version__,
            platform.python_version(),
        )
        wire.send(["hello", self._config.token, about])
        with ExitStack() as claim:
            try:
                claim.enter_context(_claimed(self._directory))
                self._staging.check(self._config.marker)
                team, inbox = _team(self._config, wire)
                service = _Service(
                    self._config,
                    team,
                    wire,
                    inbox,
                    self._staging,
                    self._directory / "logs",
                    _directories_of(self._config.key),
                )
            except (AshwoodError, OSError) as error:
                wire.send(["broken", str(error)])
                while wire.receive(wait=True):
                    pass
            else:
                service.run()
            if not self._staging.has_only_copies:
                remove_tree(self._directory.parent, self._directory.name, ignore_errors=True)
        driver_alive = not wire.gone
        wire.send(["gone", any(_directories_of(self._config.key).glob("*"))])
        return driver_alive


class NodeFiles:
    """An actor that reads and deletes the files that workers of an experiment left on its node."""

    def __init__(self, key: str, node_id: str) -> None:
        """Give access to the files of the experiment ``key`` on a node."""
        self._home = _home_of(key, node_id)

    def names(self) -> list[str]:
        """Return the names of the checkpoints that workers left on the node."""
        return [stored.name for storage in self._storages() for stored in storage.complete()]

    def read(self, name: str) -> Iterator[bytes]:
        """Yield a checkpoint in chunks, for `transfer.unpack_directory`."""
        for storage in self._storages():
            if name in (stored.name for stored in storage.complete()):
                with storage.fetch(name) as directory:
                    yield from pack_directory(directory)
                return

    def clear(self) -> None:
        """Delete the experiment's files of this node."""
        remove_tree(self._home.parent, self._home.name, ignore_errors=True)

    def clean(self, seconds: float) -> None:
        """Delete all files of the experiment on this machine, including those of earlier nodes on it.

        Args:
            seconds: longest wait for workers that are about to end.
        """
        experiment = self._home.parent
        deadline = time.monotonic() + seconds
        while any(map(is_held, experiment.glob(f"*/*/{_LOCK}"))) and time.monotonic() < deadline:
            time.sleep(_LOOK_AGAIN_SECONDS)
        remove_tree(experiment.parent, experiment.name, ignore_errors=True)

    def _storages(self) -> list[Storage]:
        return [open_storage(checkpoints_in(path)) for path in sorted(self._home.glob("*")) if path.is_dir()]


def node_name(address: str, node_id: str) -> str:
    """Return the name of a node for messages: its address and the first digits of its id.

    Several nodes can have the same address, for example in tests.
    """
    return f"{address}/{node_id[:6]}"


def _base() -> Path:
    return Path(tempfile.gettempdir(), f"ashwood-ray-{os.getuid()}")


def _home_of(key: str, node_id: str) -> Path:
    return _base() / key / node_id


def _directories_of(key: str) -> Path:
    """Return the parent of an experiment's trial directories on this machine, which all of its workers share."""
    return _base() / key / FOLDER


@contextmanager
def _claimed(directory: Path) -> Iterator[None]:
    """Create a worker's directory and hold its lock, so that no sweep deletes it; sweep the base first.

    Raises:
        OSError: the directory cannot be created or locked.
    """
    base = private_directory(_base())
    with ExitStack() as lock:
        whole = os.open(base, os.O_RDONLY)
        try:
            # One worker at a time: no sweep may delete the parents of the new directory while it is created, or the
            # new directory before it is locked.
            fcntl.flock(whole, fcntl.LOCK_EX)
            _sweep(base)
            _clear_dead(directory.parent.parent)
            directory.mkdir(parents=True)
            lock.enter_context(held(directory / _LOCK))
        finally:
            os.close(whole)
        yield


def _clear_dead(experiment: Path) -> None:
    """Delete the files that dead workers of an experiment left in its directory on this machine.

    A worker may have the only copy of a checkpoint, which the next driver can collect.  So the directories of the
    `_MOST_KEPT` latest of these workers stay.  What was lost with the others has been trained again since.
    """
    with_only_copies = []
    for directory in experiment.glob("*/*"):
        if directory.parent.name == FOLDER:
            continue
        with suppress(OSError):
            if is_held(directory / _LOCK):
                continue
            if strip(directory):
                with_only_copies.append((_changed_at(directory), directory))
            else:
                remove_tree(directory.parent, directory.name, ignore_errors=True)
    for _, directory in sorted(with_only_copies)[:-_MOST_KEPT]:
        remove_tree(directory.parent, directory.name, ignore_errors=True)


def _sweep(base: Path) -> None:
    """Delete the directories of dead workers and of trials in which no file has changed for a week.

    Until then, a driver may be started again and collect the checkpoints in them.  A trial's directory stays as long as
    a worker of its experiment lives.
    """
    oldest = time.time() - _ABANDONED_SECONDS
    for directory in base.glob("*/*/*"):
        with suppress(OSError):
            is_of_trial = directory.parent.name == FOLDER
            locks = directory.parent.parent.glob(f"*/*/{_LOCK}") if is_of_trial else [directory / _LOCK]
            if _changed_at(directory) < oldest and not any(map(is_held, locks)):
                remove_tree(directory.parent, directory.name, ignore_errors=True)
    for parent in (*base.glob("*/*"), *base.glob("*")):
        with suppress(OSError):  # it is not empty
            parent.rmdir()


def _changed_at(directory: Path) -> float:
    """Return the latest modification time of a directory and of everything in it."""
    return max(path.lstat().st_mtime for path in (directory, *directory.rglob("*")))


class _Delivery:
    """A checkpoint that arrives from the driver, unpacked chunk by chunk in a thread."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._chunks: queue.Queue[bytes | None] = queue.Queue(maxsize=1)
        self._errors: list[BaseException] = []
        self._thread = threading.Thread(target=self._unload, name="ashwood-delivery", daemon=True)
        self._thread.start()

    def put(self, chunk: bytes) -> None:
        """Unpack a chunk; waits until the chunk before it is unpacked."""
        self._chunks.put(chunk)

    def finish(self) -> None:
        """Wait until the checkpoint is complete.

        Raises:
            Exception: the error because of which it could not be unpacked.
        """
        self._chunks.put(None)
        self._thread.join()
        if self._errors:
            raise self._errors[0]

    def _unload(self) -> None:
        chunks = iter(self._chunks.get, None)
        try:
            _unpack(chunks, self._directory)
        except BaseException as error:  # noqa: BLE001 - raised by `finish`
            self._errors.append(error)
        # After an error, the remaining chunks are taken from the queue, which holds only one: otherwise `put` blocks.
        for _ in chunks:
            pass


def _unpack(chunks: Iterable[bytes], path: Path) -> None:
    with atomic_directory(path) as directory:
        unpack_directory(chunks, directory)


class _Service:
    """Connects the driver with the local backend: passes commands in, and events, logs and checkpoints out.

    An attempt passes through these states:

    - It waits for its checkpoint: ``_start`` is its command, and the local backend does not know it yet.
    - It runs: ``_live`` is set, ``_start`` is None.
    - It has ended here, but some of its checkpoints are not stored yet: ``_final_event`` holds its end back.
    """

    def __init__(
        self,
        config: WorkerConfig,
        team: Team,
        wire: Wire,
        inbox: Inbox,
        staging: Staging,
        logs: Path,
        directories: Path | None = None,
    ) -> None:
        self._config = config
        self._wire = wire
        self._staging = staging
        self._logs = _Logs(logs, config.worker, config.spec.max_log_size)
        self._backend = LocalBackend(
            _spec_here(config.spec, team),
            checkpoints=staging.root,
            logs=logs,
            directories=directories,
            workers=1,
            machine=Machine(config.cores, _gpus()),
            grace=0.0,
            team=team,
            number=config.number,
        )
        self._inbox = inbox
        self._start: StartAttempt | None = None
        self._foreign: tuple[str, str] | None = None
        self._unpublished: deque[CheckpointSaved] = deque()
        self._refused: tuple[str, str] | None = None
        self._final_event: FinalEvent | None = None
        self._live: tuple[int, int] | None = None
        self._leaves = False
        self._shipped = 0.0

    def run(self) -> None:
        """Work until the driver dismisses this worker, or dies."""
        threading.Thread(target=self._listen, name="ashwood-receive", daemon=True).start()
        with self._backend:
            try:
                while not self._leaves and not self._wire.gone:
                    self._turn(_SHIP_SECONDS)
                if not self._leaves:
                    self._save_for_next_driver()
            except BackendError as error:
                self._wire.send(["broken", self._with_driver_paths(str(error))])
                while not self._leaves and not self._wire.gone:
                    self._leaves = self._inbox.get()[0] == "leave"
        self._ship_logs()

    def _listen(self) -> None:
        while messages := self._wire.receive(wait=True):
            for message in messages:
                self._inbox.put(message)
            self._backend.wake()
        self._inbox.put(["gone"])
        self._backend.wake()

    def _turn(self, seconds: float) -> None:
        events = self._backend.next_events(seconds)
        self._send_events(events)
        while not self._inbox.empty():
            self._handle(self._inbox.get())
        if time.monotonic() >= self._shipped + _SHIP_SECONDS:
            self._ship_logs()

    def _save_for_next_driver(self) -> None:
        """Suspend the trial after the driver has died, so that the next driver finds its checkpoint."""
        self._staging.hurries = True
        while not self._inbox.empty():
            self._handle(self._inbox.get())
        if self._live is not None:
            if self._final_event is not None:
                self._end(self._final_event)
            elif self._start is not None:
                self._end(AttemptEnded(*self._live, self._start.length))
            else:
                self._backend.dispatch([Suspend(*self._live)])
        deadline = time.monotonic() + GRACE
        while self._live is not None and time.monotonic() < deadline:
            self._turn(0.1)

    # -- messages from the driver and from the staging threads ------------------------------------

    def _handle(self, message: Message) -> None:
        match message:
            case ["leave"]:
                self._leaves = True
            case ["gone"]:
                pass
            case ["kept", name]:
                self._published(name, None)
            case ["refused", name, why, cause]:
                self._published(name, (why, cause))
            case ["delivered", name, text]:
                self._delivered(name, text)
            case ["missing", name, why, cause]:
                self._cannot_start(name, why, cause)
            case _:
                if (command := unpacked(message)) is not None:
                    self._command(command)

    def _command(self, command: Command) -> None:
        if isinstance(command, StartAttempt):
            if self._wire.gone:  # the driver that sent it is dead, and the next one starts the attempt elsewhere
                return
            self._live = command.trial, command.attempt
            self._start = command
            self._refused = None
            self._staging.hurries = False
            if self._staging.lacks(command):
                self._staging.fetch(command, self._wire, self._inbox, self._backend.wake)
            else:
                self._start_attempt()
            return
        if (command.trial, command.attempt) != self._live:
            return
        if isinstance(command, Suspend | Abort):
            self._staging.hurries = True
        if self._start is None:
            self._backend.dispatch([command])
        elif isinstance(command, Abort):
            self._end(AttemptFailed(*self._live, ABORTED))
        elif isinstance(command, Suspend):
            self._end(AttemptEnded(*self._live, self._start.length))

    def _delivered(self, name: str, text: str | None) -> None:
        if self._start is None or self._start.checkpoint != name:
            return  # the attempt ended while its checkpoint was on the way
        if text is not None:
            try:
                _unpack(from_text(text), self._staging.path_of(name))
            except OSError as error:
                why = f"the checkpoint {name} can't be written on this node: {error}"
                self._cannot_start(name, why, blame(error))
                return
        self._start_attempt()

    def _start_attempt(self) -> None:
        start, self._start = self._start, None
        if start is None:
            return
        local = self._staging.localized(start.checkpoint)
        self._foreign = None if local == start.checkpoint else (str(local), str(start.checkpoint))
        self._backend.dispatch([start._replace(checkpoint=local)])

    def _cannot_start(self, name: str, why: str, cause: str) -> None:
        """End an attempt whose checkpoint can't be fetched, because of ``cause``: "damaged", or a result of `blame`."""
        if self._start is None or self._live is None or self._start.checkpoint != name:
            return  # the attempt ended while its checkpoint was on the way
        live = self._live
        self._end(CheckpointDamaged(*live, name, why) if cause == "damaged" else _failed(live, why, cause))

    # -- events of the local backend ----------------------------------------------------------------

    def _send_events(self, events: Iterable[Event]) -> None:
        messages: list[Message] = []
        for event in events:
            if isinstance(event, CheckpointSaved) and self._staging.publishes:
                # The event is sent when the checkpoint is stored (`_published`): the driver must be able to use a
                # checkpoint as soon as it knows of it.
                self._unpublished.append(event)
                self._staging.publish(event, self._wire, self._inbox, self._backend.wake)
            elif isinstance(event, FinalEvent):
                self._wire.send(*messages)
                messages = []
                self._end(self._with_driver_names(event))
            else:
                messages.append(packed(event))
        if messages:
            self._wire.send(*messages)

    def _with_driver_names(self, event: FinalEvent) -> FinalEvent:
        """Replace paths on this machine by the names that the driver uses."""
        if isinstance(event, AttemptFailed | StorageFailed):
            return event._replace(error=self._with_driver_paths(event.error))
        if isinstance(event, CheckpointDamaged) and self._foreign is not None and event.path == self._foreign[0]:
            return event._replace(path=self._foreign[1])
        return event

    def _with_driver_paths(self, text: str) -> str:
        return text.replace(str(self._logs.directory), self._config.logs)

    def _published(self, name: str, failure: tuple[str, str] | None) -> None:
        """Handle a checkpoint that is stored, or could not be for the reason and cause in ``failure``."""
        saved = next((each for each in self._unpublished if each.path == name), None)
        if saved is None:
            return
        self._unpublished.remove(saved)
        self._refused = failure
        if failure is None:
            self._staging.delete_older(saved)
            self._wire.send(packed(saved))
        if self._final_event is not None:
            self._end(self._final_event)
        elif failure is not None and failure[1] and self._live is not None and self._start is None:
            # The storage failed through all retries.  The trial is suspended, and the end is recorded as a failure of
            # the storage, which does not count against the trial.
            self._staging.hurries = True
            self._backend.dispatch([Suspend(*self._live)])

    def _end(self, word: FinalEvent) -> None:
        """Send the end of the attempt, or hold it back until all checkpoints of the attempt are stored."""
        self._start = None
        self._final_event = word
        if self._unpublished and not self._wire.gone:
            return
        if self._refused is not None and isinstance(word, AttemptEnded):
            word = _failed((word.trial, word.attempt), *self._refused)
        self._ship_logs()
        self._wire.send(packed(word))
        self._live = self._final_event = None

    def _ship_logs(self) -> None:
        self._shipped = time.monotonic()
        for name, text in self._logs.unread(None if self._live is None else self._live[0]):
            self._wire.send(["log", name, text])


def _failed(attempt: tuple[int, int], why: str, cause: str) -> AttemptFailed | StorageFailed:
    return StorageFailed(*attempt, why, cause) if cause else AttemptFailed(*attempt, why)


class _Logs:
    """The log files of trials and of the worker on this machine, and how far each was sent to the driver."""

    def __init__(self, directory: Path, worker: int, limit: int | None) -> None:
        self.directory = directory
        self._worker = worker
        self._limit = limit
        self._read: dict[Path, int] = {}

    def unread(self, trial: int | None) -> Iterator[tuple[str, str]]:
        """Yield new output: the name of the driver's log file, and the text to append to it.

        Files of trials other than ``trial`` are deleted after they are read.
        """
        for file in sorted(self.directory.glob("*.log")):
            with suppress(OSError), open_to_read(file) as stream:
                name = f"worker-{self._worker}.log" if file.stem.startswith("worker-") else file.name
                for data, end in read_pieces(stream, self._limit, self._read.get(file, 0)):
                    self._read[file] = end
                    yield name, data.decode("latin-1")
            if file.stem.startswith("trial-") and file.stem != f"trial-{trial}":
                file.unlink()
                self._read.pop(file, None)


def _spec_here(spec: ExperimentSpec, team: Team) -> ExperimentSpec:
    """Return the experiment as the local backend on this node needs it.

    Ray may have chosen the work directory, and the single slot gets all GPUs that Ray gives to this process.
    """
    return replace(
        spec,
        workdir=spec.workdir or str(Path.cwd()),
        slots_per_trial=max(1, len(_gpus())),
        environment={**_variables(team), **spec.environment},
    )


def _variables(team: Team) -> dict[str, str]:
    """Return the environment variables that ``torch.distributed`` reads, for one process per machine."""
    if team.rendezvous is None:
        return {}
    host, _, port = team.rendezvous.rpartition(":")
    return {
        "MASTER_ADDR": host,
        "MASTER_PORT": port,
        "RANK": str(team.rank),
        "WORLD_SIZE": str(team.world_size),
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": "1",
    }


def _team(config: WorkerConfig, wire: Wire) -> tuple[Team, Inbox]:
    """Wait until all processes of the worker have connected; return their team, and the messages received so far.

    Raises:
        BackendError: the driver has dismissed this worker, or does not answer.
    """
    inbox: Inbox = queue.SimpleQueue()
    welcome, *rest = wire.receive(wait=True, seconds=_WELCOME_SECONDS) or [["leave"]]
    if welcome[0] != "welcome":
        raise BackendError("the driver has dismissed this worker")
    for message in rest:
        inbox.put(message)
    if config.processes == 1:
        return ALONE, inbox
    return Team(config.rank, config.processes, f"{welcome[1]}:{welcome[2]}"), inbox


def _free_port(address: str) -> int:
    with socket.create_server((address, 0)) as server:
        return int(server.getsockname()[1])


def _gpus() -> tuple[str, ...]:
    """Return the GPUs that Ray gives to this process.

    If Ray gives it none, the variable is empty or missing, and the GPUs of the machine must not be used.
    """
    return tuple(visible_gpus(os.environ.get("CUDA_VISIBLE_DEVICES", "")))
