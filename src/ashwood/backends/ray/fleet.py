"""The workers of one driver: asked for, greeted, lost, sent away."""

from __future__ import annotations

import queue
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from math import inf
from typing import Any, NamedTuple

from ashwood.backends.port import StartAttempt
from ashwood.backends.ray.cluster import NAMESPACE, Cluster
from ashwood.backends.ray.demand import CPU, GPU, MEMORY, Shape, room
from ashwood.backends.ray.movers import Haul
from ashwood.backends.ray.outpost import Orders, Outpost
from ashwood.backends.ray.wire import Hello, Message, Wire
from ashwood.errors import ClusterError
from ashwood.experiment.events import AttemptFailed, LastWord

IDLE_SECONDS = 60.0
_THREADS = 8
_FAILED_STARTS = 3
_LONGEST_HOLD_SECONDS = 60.0
_MOST_PENDING = 64
_AVOID_SECONDS = 60.0
_NODE_ID = "ray.io/node-id"


class Fate(NamedTuple):
    """A worker's actor has ended; ``error`` is what Ray says."""

    process: Process
    error: BaseException | None


class Process:
    """One process of a worker: an actor on a node.

    Attributes:
        worker: whose it is.
        actor: for Ray.
        wire: to it; None: it hasn't called yet.
        about: what it says of itself.
        busy: whether it works on the worker's attempt.
        hauls: its checkpoints that are on their way to the driver.
    """

    def __init__(self, worker: Worker, actor: Any) -> None:
        self.worker = worker
        self.actor = actor
        self.wire: Wire | None = None
        self.about: Hello | None = None
        self.busy = False
        self.hauls: list[Haul] = []

    @property
    def node(self) -> str:
        """Its machine, for people."""
        return "an unknown node" if self.about is None else self.about.node

    def send(self, *messages: Message) -> None:
        """Tell it something."""
        if self.wire is not None:
            self.wire.send(*messages)


class Worker:
    """What can work on one trial at a time: one process, or several on as many nodes.

    Attributes:
        number: which it is; it is never given again.
        slot: which slot it is.
        processes: by rank.
        placement: Ray's placement group, where there are several.
        attempt: what it works on.
        latest: the trial that it worked on last.
        asked_at: when it was asked for.
        idle_since: when it had nothing to do any more.
        aborted: whether its attempt is to end at once.
        suspended: whether its attempt is to end as soon as it can.
        word: how its attempt ended for its first process, while others have yet to end.
        blame: how it failed for another before that.
        since: when the first of all of them ended.
        left: whether it has ended by itself, and removed what it had on its node.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.slot = -1
        self.processes: list[Process] = []
        self.placement: Any = None
        self.attempt: StartAttempt | None = None
        self.latest = -1
        self.asked_at = self.idle_since = time.monotonic()
        self.aborted = False
        self.suspended = False
        self.word: LastWord | None = None
        self.blame: AttemptFailed | None = None
        self.since: float | None = None
        self.left = False

    @property
    def ready(self) -> bool:
        """Whether all of its processes have called."""
        return all(process.about is not None for process in self.processes)

    @property
    def node(self) -> str:
        """Where its first process is, for people."""
        return self.processes[0].node

    def send(self, *messages: Message) -> None:
        """Tell all of its processes something."""
        for process in self.processes:
            process.send(*messages)

    def take(self, attempt: StartAttempt | None) -> None:
        """Work on something; None: on nothing any more."""
        if attempt is not None:
            self.latest = attempt.trial
        self.attempt = attempt
        self.aborted = self.suspended = False
        self.word = self.blame = self.since = None
        for process in self.processes:
            process.busy = attempt is not None
        self.idle_since = time.monotonic()


class Fleet:
    """The workers.

    Attributes:
        ready: those that can work, by number.
        pending: those that have been asked for and aren't there yet, by number.
        fates: what Ray says of actors that have ended, from another thread.
        littered: whether a worker may have left something on its node.
    """

    def __init__(
        self,
        cluster: Cluster,
        shape: Shape,
        orders: Orders,
        *,
        most: int | None,
        idle_seconds: float,
        wake: Callable[[], None],
        release: Callable[[Worker], None],
    ) -> None:
        """Have no workers yet.

        Args:
            cluster: where.
            shape: what a worker takes.
            orders: what each is told, but for its own number.
            most: how many there may be; None: any number.
            idle_seconds: how long those that nobody needs are kept.
            wake: called from another thread when there is a fate.
            release: called with those that are given up; has to `remove` them.
        """
        self._cluster = cluster
        self._shape = shape
        self._orders = orders
        self._most = most
        self._idle_seconds = idle_seconds
        self._wake = wake
        self._release = release
        self._wanted: float = 0
        self._peak: float = 0
        self._peak_at = 0.0
        self._numbers = 0
        self._failed_starts = 0
        self._failed_at = self._hold_until = 0.0
        self._avoided: dict[str, float] = {}
        self.ready: dict[int, Worker] = {}
        self.pending: dict[int, Worker] = {}
        self.fates: queue.SimpleQueue[Fate] = queue.SimpleQueue()
        self.littered = False

    @property
    def per_node(self) -> Mapping[str, int]:
        """How many workers each node has."""
        return Counter(worker.node for worker in self.ready.values())

    # -- as many as are wanted --------------------------------------------------------------------

    def want(self, workers: int | None) -> None:
        """Have so many workers from now on; None: as many as there is room for."""
        self._wanted = min(inf if workers is None else workers, inf if self._most is None else self._most)
        self.staff()

    def staff(self) -> None:
        """Ask for workers that are missing, give up those that nobody has needed for long."""
        now = time.monotonic()
        if self._wanted >= self._peak or now >= self._peak_at + self._idle_seconds:
            self._peak, self._peak_at = self._wanted, now
        for _ in range(self._missing() if now >= self._hold_until else 0):
            self._launch()
        surplus = len(self.ready) + len(self.pending) - self._peak
        if surplus <= 0:  # nearly always, and this is asked whenever the search's appetite changes
            return
        idle = [
            worker
            for worker in reversed(self.ready.values())
            if worker.attempt is None and now >= worker.idle_since + self._idle_seconds
        ]
        for worker in [*self.pending.values(), *idle][: int(surplus)]:
            self._release(worker)

    def _missing(self) -> int:
        missing = self._wanted - len(self.ready) - len(self.pending)
        if missing == inf:
            # So that nodes that come are used, and whoever can add nodes sees that more would be.  Those that are about
            # to start have their share already, of which nothing is free any more.
            fitting = room(self._shape.share, self._cluster.free()) // self._shape.processes
            return min(max(1, fitting), _MOST_PENDING) - len(self.pending)
        return int(missing)

    def _launch(self) -> None:
        import ray

        worker = Worker(self._numbers)
        self._numbers += 1
        strategies = self._place(worker)
        share = dict(self._shape.share)
        options = {"num_cpus": share.pop(CPU, 0), "num_gpus": share.pop(GPU, 0)}
        if MEMORY in share:
            options["memory"] = int(share.pop(MEMORY))
        for rank in range(self._shape.processes):
            actor = (
                ray.remote(Outpost)
                .options(
                    **options,
                    **strategies(rank),
                    resources=share,
                    max_concurrency=_THREADS,
                    lifetime="detached",
                    name=f"{self._orders.key}-{self._orders.token[:8]}-{worker.number}-{rank}",
                    namespace=NAMESPACE,
                )
                .remote(self._orders._replace(worker=worker.number, rank=rank))
            )
            process = Process(worker, actor)
            worker.processes.append(process)
            actor.serve.remote().future().add_done_callback(lambda future, process=process: self._note(process, future))
        self.pending[worker.number] = worker

    def _place(self, worker: Worker) -> Callable[[int], dict[str, Any]]:
        if self._shape.processes == 1:
            return lambda _: self._elsewhere()
        from ray.util.placement_group import placement_group
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy as In

        worker.placement = placement_group(
            [dict(self._shape.share)] * self._shape.processes,
            strategy="STRICT_SPREAD",
            lifetime="detached",
            name=f"{self._orders.key}-{self._orders.token[:8]}-{worker.number}",
        )
        return lambda rank: {"scheduling_strategy": In(worker.placement, placement_group_bundle_index=rank)}

    def _elsewhere(self) -> dict[str, Any]:
        now = time.monotonic()
        self._avoided = {node: until for node, until in self._avoided.items() if now < until}
        if not self._avoided:
            return {}
        from ray.util.scheduling_strategies import NodeLabelSchedulingStrategy, NotIn

        return {"scheduling_strategy": NodeLabelSchedulingStrategy(hard={_NODE_ID: NotIn(*self._avoided)})}

    def _note(self, process: Process, future: Any) -> None:
        self.fates.put(Fate(process, future.exception()))
        self._wake()

    # -- they come ----------------------------------------------------------------------------------

    def greet(self, wire: Wire) -> Process | None:
        """Somebody has called; returns who, once it has said so.

        Raises:
            PermissionError: it is nobody of ours, or one that was given up.
        """
        about = wire.greeted(self._orders.token)
        if about is None:
            return None
        worker = self.pending.get(about.worker)
        if worker is None:
            raise PermissionError
        process = worker.processes[about.rank]
        process.wire, process.about = wire, about
        if worker.ready:
            del self.pending[worker.number]
            worker.slot = min(set(range(len(self.ready) + 1)) - {other.slot for other in self.ready.values()})
            worker.idle_since = time.monotonic()
            first = worker.processes[0].about
            worker.send(["welcome", first and first.address, first and first.port])
            self.ready[worker.number] = worker
        return process

    def prove(self, worker: Worker) -> None:
        """A worker has begun to train: if it is one that was asked for since, the trouble with others is over."""
        if worker.asked_at > self._failed_at:
            self._failed_starts = 0

    # -- they go ------------------------------------------------------------------------------------

    def suspect(self, worker: Worker) -> None:
        """A worker was lost: where its node is dead, nobody is sent there while Ray doesn't know."""
        for process in worker.processes:
            node = "" if process.about is None else process.about.node_id
            if node and node not in self._avoided and self._cluster.is_silent(node):
                self._avoided[node] = time.monotonic() + _AVOID_SECONDS

    def remove(self, worker: Worker) -> None:
        """Have a worker no more, whatever it does."""
        import ray

        self.ready.pop(worker.number, None)
        self.pending.pop(worker.number, None)
        self.littered |= not worker.left and any(process.about is not None for process in worker.processes)
        for process in worker.processes:
            if process.wire is not None:
                process.wire.close()
            with suppress(Exception):  # it is dead, or its node is
                ray.kill(process.actor)
        if worker.placement is not None:
            from ray.util.placement_group import remove_placement_group

            with suppress(Exception):
                remove_placement_group(worker.placement)

    def failed_to_start(self, worker: Worker, why: str) -> None:
        """A worker ended before it could work; those that were on their way with it may have met the same trouble.

        Raises:
            ClusterError: several have, one after the other, and there is none that can.
        """
        if worker.asked_at <= self._failed_at:
            return
        now = time.monotonic()
        self._failed_at = now
        self._failed_starts += 1
        further = self._failed_starts - _FAILED_STARTS
        if further < 0:
            return
        if not self.ready:
            raise ClusterError(f"workers can't be started on the cluster at {self._cluster.address}: {why}")
        self._hold_until = now + min(_LONGEST_HOLD_SECONDS, 2.0**further)

    def everybody(self) -> Iterator[Worker]:
        """All workers."""
        yield from [*self.ready.values(), *self.pending.values()]
