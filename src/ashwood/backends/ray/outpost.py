"""A worker on another machine: an actor that runs one attempt at a time, in a local backend of one slot.

It outlives the driver long enough to save what it trains, and then ends itself; the actor is
detached for that.  Its training process never outlives it.
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
from ashwood.backends.local.fence import held, is_held
from ashwood.backends.local.setup import ALONE, Team
from ashwood.backends.local.slots import Machine, visible_gpus
from ashwood.backends.local.warden import GRACE
from ashwood.backends.port import Abort, Command, StartAttempt, Suspend
from ashwood.backends.ray.freight import arriving, from_text, load, unload
from ashwood.backends.ray.staging import Direct, Inbox, Staged, Staging, checkpoints_in, strip
from ashwood.backends.ray.wire import Hello, Message, Wire, packed, unpacked
from ashwood.errors import AshwoodError, BackendError
from ashwood.experiment.events import (
    ABORTED,
    AttemptEnded,
    AttemptFailed,
    CheckpointDamaged,
    CheckpointSaved,
    Event,
    LastWord,
    StorageFailed,
)
from ashwood.experiment.spec import ExperimentSpec
from ashwood.trial.directory import FOLDER
from ashwood.trial.limited import read_pieces
from ashwood.trial.regular import open_to_read
from ashwood.trial.run import blame
from ashwood.trial.storage import Storage, open_storage
from ashwood.trial.storage.trees import remove_tree

_CONNECT_SECONDS = 20.0
_WELCOME_SECONDS = 120.0
_SHIP_SECONDS = 0.5
_ABANDONED_SECONDS = 7 * 24 * 3600
_LOOK_AGAIN_SECONDS = 0.05
_MOST_KEPT = 4
"""How many directories of dead workers with checkpoints that nothing else has stay on a machine."""
_LOCK = "worker.lock"
"""File in a worker's directory that the worker holds locked for as long as it lives."""


class Orders(NamedTuple):
    """What a worker is told once.

    Attributes:
        worker: which of the driver's workers it is.
        rank: which of the processes that work on one trial together.
        processes: how many those are.
        address: where the driver listens.
        token: by which the driver knows its workers.
        key: of the experiment, different from that of all others.
        spec: the experiment; an empty work directory stands for the one that Ray made.
        checkpoints: where all workers reach checkpoints; None: at the driver alone.
        marker: name of a file that the driver left there, where it is a directory; None: it left none.
        logs: the driver's directory of logs, for messages.
        cores: how many CPU cores belong to a trial here.
        process_per_attempt: see `ashwood.backends.local.LocalBackend`.
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
    process_per_attempt: bool | None
    number: int = 0


class Outpost:
    """The actor; needs several threads, of which `serve` takes one for as long as it works."""

    def __init__(self, orders: Orders) -> None:
        """Take the orders, and work by them from now on."""
        import ray

        context = ray.get_runtime_context()
        self._orders = orders
        self._node_id = context.get_node_id()
        self._address: str = ray.util.get_node_ip_address()
        self._node = node_name(self._address, self._node_id)
        self._directory = _home_of(orders.key, self._node_id) / f"{orders.worker}-{orders.rank}-{os.urandom(4).hex()}"
        self._staging: Staging = (
            Direct(orders.checkpoints)
            if orders.checkpoints is not None and "://" not in orders.checkpoints
            else Staged(checkpoints_in(self._directory), orders.checkpoints)
        )
        self._deliveries: dict[str, _Delivery] = {}
        # Not when the driver asks for it: it may have died while the actor waited for its place.
        self._service = threading.Thread(target=self._work, name="ashwood-service", daemon=True)
        self._service.start()

    def serve(self) -> None:
        """Return when the work for the driver is over."""
        self._service.join()

    def _work(self) -> None:
        """Work for the driver until it sends the worker away, or is gone; then end this process.

        A driver that lives ends the actor itself.
        """
        import ray

        try:
            if self._serve():
                return
        except Exception:  # noqa: BLE001 - Ray keeps what is printed
            traceback.print_exc()
        group = ray.util.get_current_placement_group()
        if group is not None and self._orders.rank == 0:
            ray.util.remove_placement_group(group)  # it would keep its share for ever
        ray.kill(ray.get_runtime_context().current_actor)

    def read(self, name: str) -> Iterator[bytes]:
        """The checkpoint that was offered under a name, as `ashwood.backends.ray.freight` has it."""
        with self._staging.storage.fetch(name) as directory:
            yield from load(directory)

    def write(self, name: str, chunk: bytes | None, *, first: bool) -> None:
        """Take a chunk of a checkpoint that is wanted here; None: that was all.

        Raises:
            OSError: it can't be written.
        """
        if first and (broken_off := self._deliveries.pop(name, None)) is not None:
            with suppress(Exception):
                broken_off.finish()
        delivery = self._deliveries.get(name)
        if delivery is None:
            delivery = self._deliveries[name] = _Delivery(self._staging.place(name))
        if chunk is not None:
            delivery.put(chunk)
        else:
            del self._deliveries[name]
            delivery.finish()

    def _serve(self) -> bool:
        """Returns whether the driver lives."""
        try:
            sock = socket.create_connection(self._orders.address, timeout=_CONNECT_SECONDS)
        except OSError:  # nobody is there any more
            return False
        sock.settimeout(None)
        wire = Wire(sock)
        about = Hello(
            self._orders.worker,
            self._orders.rank,
            self._node,
            self._node_id,
            self._address,
            _free_port(self._address),
            os.getpid(),
            __version__,
            platform.python_version(),
        )
        wire.send(["hello", self._orders.token, about])
        with ExitStack() as claim:
            try:
                claim.enter_context(_claimed(self._directory))
                self._staging.check(self._orders.marker)
                team, inbox = _team(self._orders, wire)
                service = _Service(
                    self._orders,
                    team,
                    wire,
                    inbox,
                    self._staging,
                    self._directory / "logs",
                    _directories_of(self._orders.key),
                )
            except (AshwoodError, OSError) as error:
                wire.send(["broken", str(error)])
                while wire.receive(wait=True):
                    pass
            else:
                service.run()
            if not self._staging.holds_more:
                remove_tree(self._directory.parent, self._directory.name, ignore_errors=True)
        lives = not wire.gone
        wire.send(["gone", any(_directories_of(self._orders.key).glob("*"))])
        return lives


class Salvage:
    """An actor that hands out what workers saved on its node when their driver was gone."""

    def __init__(self, key: str, node_id: str) -> None:
        """Look for what belongs to an experiment on a node."""
        self._home = _home_of(key, node_id)

    def names(self) -> list[str]:
        """The checkpoints."""
        return [stored.name for storage in self._storages() for stored in storage.complete()]

    def read(self, name: str) -> Iterator[bytes]:
        """One of them, as `ashwood.backends.ray.freight` has it."""
        for storage in self._storages():
            if name in (stored.name for stored in storage.complete()):
                with storage.fetch(name) as directory:
                    yield from load(directory)
                return

    def clear(self) -> None:
        """Remove all of it."""
        remove_tree(self._home.parent, self._home.name, ignore_errors=True)

    def clean(self, seconds: float) -> None:
        """Remove what the experiment has on this machine, also of nodes that were here before.

        Args:
            seconds: how long to wait for workers that are about to end.
        """
        experiment = self._home.parent
        deadline = time.monotonic() + seconds
        while any(map(is_held, experiment.glob(f"*/*/{_LOCK}"))) and time.monotonic() < deadline:
            time.sleep(_LOOK_AGAIN_SECONDS)
        remove_tree(experiment.parent, experiment.name, ignore_errors=True)

    def _storages(self) -> list[Storage]:
        return [open_storage(checkpoints_in(path)) for path in sorted(self._home.glob("*")) if path.is_dir()]


def node_name(address: str, node_id: str) -> str:
    """A node for people: its address, and enough of its number to tell it from others there."""
    return f"{address}/{node_id[:6]}"


def _base() -> Path:
    return Path(tempfile.gettempdir(), f"ashwood-ray-{os.getuid()}")


def _home_of(key: str, node_id: str) -> Path:
    return _base() / key / node_id


def _directories_of(key: str) -> Path:
    """Return the folder of the directories of an experiment's trials on this machine, which all its workers share."""
    return _base() / key / FOLDER


def _own_base() -> Path:
    """The base, which is this user's and nobody else's.

    Raises:
        PermissionError: somebody else was there first.
    """
    base = _base()
    with suppress(FileExistsError):
        base.mkdir(mode=0o700)
    if base.is_symlink() or base.stat().st_uid != os.getuid():
        raise PermissionError(f"{base} belongs to another user: remove it, or set TMPDIR for Ray's workers")
    return base


@contextmanager
def _claimed(directory: Path) -> Iterator[None]:
    """Create a worker's directory and hold its lock, so that no sweep deletes it; sweep the base first.

    Raises:
        OSError: the directory cannot be created or locked.
    """
    base = _own_base()
    with ExitStack() as lock:
        whole = os.open(base, os.O_RDONLY)
        try:
            # One worker at a time: no sweep may delete the directories above the new one while it is created,
            # or the new one before it is locked.
            fcntl.flock(whole, fcntl.LOCK_EX)
            _sweep(base)
            _clear_dead(directory.parent.parent)
            directory.mkdir(parents=True)
            lock.enter_context(held(directory / _LOCK))
        finally:
            os.close(whole)
        yield


def _clear_dead(experiment: Path) -> None:
    """Delete what dead workers of an experiment left in its directory on this machine.

    The next driver may collect checkpoints that nothing else has, so those of the workers that died last stay.  What
    the others lost has been trained again since.
    """
    with_more = []
    for directory in experiment.glob("*/*"):
        if directory.parent.name == FOLDER:
            continue
        with suppress(OSError):
            if is_held(directory / _LOCK):
                continue
            if strip(directory):
                with_more.append((_changed_at(directory), directory))
            else:
                remove_tree(directory.parent, directory.name, ignore_errors=True)
    for _, directory in sorted(with_more)[:-_MOST_KEPT]:
        remove_tree(directory.parent, directory.name, ignore_errors=True)


def _sweep(base: Path) -> None:
    """Delete directories of dead workers and of trials in which nothing has changed for a week.

    Until then a driver may come back for the checkpoints in them.  A trial's directory stays as long as a worker of its
    experiment lives.
    """
    oldest = time.time() - _ABANDONED_SECONDS
    for directory in base.glob("*/*/*"):
        with suppress(OSError):
            is_of_trial = directory.parent.name == FOLDER
            locks = directory.parent.parent.glob(f"*/*/{_LOCK}") if is_of_trial else [directory / _LOCK]
            if _changed_at(directory) < oldest and not any(map(is_held, locks)):
                remove_tree(directory.parent, directory.name, ignore_errors=True)
    for parent in (*base.glob("*/*"), *base.glob("*")):
        with suppress(OSError):  # workers' directories are in it
            parent.rmdir()


def _changed_at(directory: Path) -> float:
    """Return the newest time of modification of a directory and of everything in it."""
    return max(path.lstat().st_mtime for path in (directory, *directory.rglob("*")))


class _Delivery:
    """A checkpoint on its way here, unpacked as it comes."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._chunks: queue.Queue[bytes | None] = queue.Queue(maxsize=1)
        self._trouble: list[BaseException] = []
        self._thread = threading.Thread(target=self._unload, name="ashwood-delivery", daemon=True)
        self._thread.start()

    def put(self, chunk: bytes) -> None:
        """Take a chunk."""
        self._chunks.put(chunk)

    def finish(self) -> None:
        """Wait until it is there."""
        self._chunks.put(None)
        self._thread.join()
        if self._trouble:
            raise self._trouble[0]

    def _unload(self) -> None:
        chunks = iter(self._chunks.get, None)
        try:
            _unpack(chunks, self._directory)
        except BaseException as error:  # noqa: BLE001 - told in `finish`
            self._trouble.append(error)
        for _ in chunks:  # so that nobody waits for room
            pass


def _unpack(chunks: Iterable[bytes], place: Path) -> None:
    with arriving(place) as directory:
        unload(chunks, directory)


class _Service:
    """Between the driver and the local backend: commands in, events, logs and checkpoints out."""

    def __init__(
        self,
        orders: Orders,
        team: Team,
        wire: Wire,
        inbox: Inbox,
        staging: Staging,
        logs: Path,
        directories: Path | None = None,
    ) -> None:
        self._orders = orders
        self._wire = wire
        self._staging = staging
        self._logs = _Logs(logs, orders.worker, orders.spec.max_log_size)
        self._backend = LocalBackend(
            _settled(orders.spec, team),
            checkpoints=staging.place_of_all,
            logs=logs,
            directories=directories,
            workers=1,
            machine=Machine(orders.cores, _gpus()),
            process_per_attempt=orders.process_per_attempt,
            grace=0.0,
            team=team,
            number=orders.number,
        )
        self._inbox = inbox
        self._start: StartAttempt | None = None
        self._foreign: tuple[str, str] | None = None
        self._unkept: deque[CheckpointSaved] = deque()
        self._refused: tuple[str, str] | None = None
        self._last_word: LastWord | None = None
        self._live: tuple[int, int] | None = None
        self._leaves = False
        self._shipped = 0.0

    def run(self) -> None:
        """Work until the driver sends this worker away, or is gone."""
        threading.Thread(target=self._listen, name="ashwood-ears", daemon=True).start()
        with self._backend:
            try:
                while not self._leaves and not self._wire.gone:
                    self._turn(_SHIP_SECONDS)
                if not self._leaves:
                    self._save_for_the_next()
            except BackendError as error:
                self._wire.send(["broken", self._for_people(str(error))])
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
        self._tell(events)
        while not self._inbox.empty():
            self._obey(self._inbox.get())
        if time.monotonic() >= self._shipped + _SHIP_SECONDS:
            self._ship_logs()

    def _save_for_the_next(self) -> None:
        """The driver is gone: let the trial save, and put that where the next driver finds it."""
        self._staging.hurries = True
        while not self._inbox.empty():
            self._obey(self._inbox.get())
        if self._live is not None:
            if self._last_word is not None:
                self._end(self._last_word)
            elif self._start is not None:
                self._end(AttemptEnded(*self._live, self._start.length))
            else:
                self._backend.dispatch([Suspend(*self._live)])
        deadline = time.monotonic() + GRACE
        while self._live is not None and time.monotonic() < deadline:
            self._turn(0.1)

    # -- what the driver says ---------------------------------------------------------------------

    def _obey(self, message: Message) -> None:
        match message:
            case ["leave"]:
                self._leaves = True
            case ["gone"]:
                pass
            case ["kept", name]:
                self._settle(name, None)
            case ["refused", name, why, cause]:
                self._settle(name, (why, cause))
            case ["delivered", name, text]:
                self._take_delivery(name, text)
            case ["missing", name, why, cause]:
                self._cannot_begin(name, why, cause)
            case _:
                if (command := unpacked(message)) is not None:
                    self._command(command)

    def _command(self, command: Command) -> None:
        if isinstance(command, StartAttempt):
            if self._wire.gone:  # who wanted that is dead
                return
            self._live = command.trial, command.attempt
            self._start = command
            self._refused = None
            self._staging.hurries = False
            if self._staging.lacks(command):
                self._staging.procure(command, self._wire, self._inbox, self._backend.wake)
            else:
                self._begin()
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

    def _take_delivery(self, name: str, text: str | None) -> None:
        if self._start is None or self._start.checkpoint != name:
            return  # ended while its checkpoint was on the way
        if text is not None:
            try:
                _unpack(from_text(text), self._staging.place(name))
            except OSError as error:
                self._cannot_begin(name, f"the checkpoint {name} can't be kept here: {error}", blame(error))
                return
        self._begin()

    def _begin(self) -> None:
        start, self._start = self._start, None
        if start is None:
            return
        local = self._staging.localized(start.checkpoint)
        self._foreign = None if local == start.checkpoint else (str(local), str(start.checkpoint))
        self._backend.dispatch([start._replace(checkpoint=local)])

    def _cannot_begin(self, name: str, why: str, cause: str) -> None:
        """The checkpoint to start from is not here; ``cause``: it is "damaged", or as `blame` has it."""
        if self._start is None or self._live is None or self._start.checkpoint != name:
            return  # ended while its checkpoint was on the way
        live = self._live
        self._end(CheckpointDamaged(*live, name, why) if cause == "damaged" else _failed(live, why, cause))

    # -- what the local backend says ----------------------------------------------------------------

    def _tell(self, events: Iterable[Event]) -> None:
        told: list[Message] = []
        for event in events:
            if isinstance(event, CheckpointSaved) and self._staging.publishes:
                self._unkept.append(event)
                self._staging.publish(event, self._wire, self._inbox, self._backend.wake)
            elif isinstance(event, LastWord):
                self._wire.send(*told)
                told = []
                self._end(self._named_as_told(event))
            else:
                told.append(packed(event))
        if told:
            self._wire.send(*told)

    def _named_as_told(self, event: LastWord) -> LastWord:
        if isinstance(event, AttemptFailed | StorageFailed):
            return event._replace(error=self._for_people(event.error))
        if isinstance(event, CheckpointDamaged) and self._foreign is not None and event.path == self._foreign[0]:
            return event._replace(path=self._foreign[1])
        return event

    def _for_people(self, text: str) -> str:
        return text.replace(str(self._logs.directory), self._orders.logs)

    def _settle(self, name: str, trouble: tuple[str, str] | None) -> None:
        """A checkpoint is safe, or can't be kept."""
        saved = next((each for each in self._unkept if each.path == name), None)
        if saved is None:
            return
        self._unkept.remove(saved)
        self._refused = trouble
        if trouble is None:
            self._staging.forget_older(saved)
            self._wire.send(packed(saved))
        if self._last_word is not None:
            self._end(self._last_word)
        elif trouble is not None and trouble[1] and self._live is not None and self._start is None:
            # The storage has failed for as long as it is tried: the trial stops where it is, and is not blamed.
            self._staging.hurries = True
            self._backend.dispatch([Suspend(*self._live)])

    def _end(self, word: LastWord) -> None:
        """The attempt has ended, as soon as what it saved is safe."""
        self._start = None
        self._last_word = word
        if self._unkept and not self._wire.gone:
            return
        if self._refused is not None and isinstance(word, AttemptEnded):
            word = _failed((word.trial, word.attempt), *self._refused)
        self._ship_logs()
        self._wire.send(packed(word))
        self._live = self._last_word = None

    def _ship_logs(self) -> None:
        self._shipped = time.monotonic()
        for name, text in self._logs.news(None if self._live is None else self._live[0]):
            self._wire.send(["log", name, text])


def _failed(attempt: tuple[int, int], why: str, cause: str) -> AttemptFailed | StorageFailed:
    return StorageFailed(*attempt, why, cause) if cause else AttemptFailed(*attempt, why)


class _Logs:
    """What trials and the worker have printed since somebody looked."""

    def __init__(self, directory: Path, worker: int, limit: int | None) -> None:
        self.directory = directory
        self._worker = worker
        self._limit = limit
        self._read: dict[Path, int] = {}

    def news(self, trial: int | None) -> Iterator[tuple[str, str]]:
        """The driver's file, and what is to be appended to it; those of other trials than ``trial`` are removed."""
        for file in sorted(self.directory.glob("*.log")):
            with suppress(OSError), open_to_read(file) as stream:
                name = f"worker-{self._worker}.log" if file.stem.startswith("worker-") else file.name
                for data, end in read_pieces(stream, self._limit, self._read.get(file, 0)):
                    self._read[file] = end
                    yield name, data.decode("latin-1")
            if file.stem.startswith("trial-") and file.stem != f"trial-{trial}":
                file.unlink()
                self._read.pop(file, None)


def _settled(spec: ExperimentSpec, team: Team) -> ExperimentSpec:
    """The experiment as it is on this machine: Ray chose the directory, and gives the trial all that is here."""
    return replace(
        spec,
        workdir=spec.workdir or str(Path.cwd()),
        slots_per_trial=max(1, len(_gpus())),
        environment={**_variables(team), **spec.environment},
    )


def _variables(team: Team) -> dict[str, str]:
    """What ``torch.distributed`` and others that train on several machines look for; one process a machine."""
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


def _team(orders: Orders, wire: Wire) -> tuple[Team, Inbox]:
    """Who trains together, and what the driver has said besides; waits until all are there."""
    inbox: Inbox = queue.SimpleQueue()
    welcome, *rest = wire.receive(wait=True, seconds=_WELCOME_SECONDS) or [["leave"]]
    if welcome[0] != "welcome":
        raise BackendError("the driver has given this worker up")
    for message in rest:
        inbox.put(message)
    if orders.processes == 1:
        return ALONE, inbox
    return Team(orders.rank, orders.processes, f"{welcome[1]}:{welcome[2]}"), inbox


def _free_port(address: str) -> int:
    with socket.create_server((address, 0)) as server:
        return int(server.getsockname()[1])


def _gpus() -> tuple[str, ...]:
    """Those that Ray gives; where it gives none, no others are looked for."""
    return tuple(visible_gpus(os.environ.get("CUDA_VISIBLE_DEVICES", "")))
