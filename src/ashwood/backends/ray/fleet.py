"""The workers of one driver on a Ray cluster: how they are started, identified and removed."""

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
from ashwood.backends.ray.node_worker import NodeWorker, WorkerConfig
from ashwood.backends.ray.transfer import Transfer
from ashwood.backends.ray.wire import Hello, Message, Wire
from ashwood.errors import ClusterError
from ashwood.experiment.events import AttemptFailed, FinalEvent

IDLE_SECONDS = 60.0
"""Seconds after which an idle worker that the search does not need is ended."""
_THREADS = 8
_FAILED_STARTS = 3
_LONGEST_HOLD_SECONDS = 60.0
_MOST_PENDING = 64
_AVOID_SECONDS = 60.0
_NODE_ID = "ray.io/node-id"


class ActorExit(NamedTuple):
    """The end of a worker process's actor, with Ray's error, or None if it ended by itself."""

    process: Process
    error: BaseException | None


class Process:
    """A process of a worker: an actor on a node.

    Attributes:
        worker: the worker that it belongs to.
        actor: Ray's handle of the actor.
        wire: connection to it, or None until it has connected.
        about: its hello message, or None until it has connected.
        busy: whether it runs the worker's attempt.
        transfers: its checkpoints that are on their way to the driver.
    """

    def __init__(self, worker: Worker, actor: Any) -> None:
        self.worker = worker
        self.actor = actor
        self.wire: Wire | None = None
        self.about: Hello | None = None
        self.busy = False
        self.transfers: list[Transfer] = []

    @property
    def node(self) -> str:
        """Name of its node, for messages to the user."""
        return "an unknown node" if self.about is None else self.about.node

    def send(self, *messages: Message) -> None:
        """Send it messages, unless it has not connected yet."""
        if self.wire is not None:
            self.wire.send(*messages)


class Worker:
    """A worker, which runs one attempt at a time, in one process or in several on as many nodes.

    Attributes:
        number: unique number of the worker; never reused.
        slot: number of its slot, or -1 until it is ready.
        processes: its processes, by rank.
        placement: Ray's placement group, or None if it has one process.
        attempt: the attempt that it runs, or None.
        latest: the latest trial that it trained, or -1.
        asked_at: time when Ray was asked for it.
        idle_since: time when it became idle.
        aborted: whether its attempt was aborted.
        suspended: whether its attempt was asked to save and end.
        final_event: how the attempt ended in its first process, while other processes still run.
        follower_failure: the first failure of the attempt in a process other than the first one.
        first_ended_at: time when the attempt ended in the first of its processes that ended.
        left_cleanly: whether it ended by itself and removed its files.
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
        self.final_event: FinalEvent | None = None
        self.follower_failure: AttemptFailed | None = None
        self.first_ended_at: float | None = None
        self.left_cleanly = False

    @property
    def ready(self) -> bool:
        """Whether all of its processes have connected."""
        return all(process.about is not None for process in self.processes)

    @property
    def node(self) -> str:
        """Name of the node of its first process, for messages to the user."""
        return self.processes[0].node

    def send(self, *messages: Message) -> None:
        """Send messages to all of its processes."""
        for process in self.processes:
            process.send(*messages)

    def take(self, attempt: StartAttempt | None) -> None:
        """Set the attempt that the worker runs from now on, or None if it becomes idle."""
        if attempt is not None:
            self.latest = attempt.trial
        self.attempt = attempt
        self.aborted = self.suspended = False
        self.final_event = self.follower_failure = self.first_ended_at = None
        for process in self.processes:
            process.busy = attempt is not None
        self.idle_since = time.monotonic()


class Fleet:
    """The workers of one driver.

    Attributes:
        ready: workers that can run attempts, by number.
        pending: workers that were asked for and are not ready yet, by number.
        exits: ends of actors, put there by a thread of Ray.
        left_files: whether a worker may have left files on its node.
    """

    def __init__(
        self,
        cluster: Cluster,
        shape: Shape,
        config: WorkerConfig,
        *,
        most: int | None,
        wake: Callable[[], None],
        release: Callable[[Worker], None],
    ) -> None:
        """Start without workers; `request` starts them.

        Args:
            cluster: the cluster.
            shape: resources of a worker.
            config: configuration of all workers, except for their numbers and ranks.
            most: largest number of workers, or None for no bound.
            wake: called from another thread when `exits` has an item.
            release: called with each worker that is not needed; must `remove` it.
        """
        self._cluster = cluster
        self._shape = shape
        self._config = config
        self._most = most
        self._wake = wake
        self._release = release
        self._requested: float = 0
        self._peak: float = 0
        self._peak_at = 0.0
        self._numbers = 0
        self._failed_starts = 0
        self._failed_at = self._hold_until = 0.0
        self._avoided: dict[str, float] = {}
        self.ready: dict[int, Worker] = {}
        self.pending: dict[int, Worker] = {}
        self.exits: queue.SimpleQueue[ActorExit] = queue.SimpleQueue()
        self.left_files = False

    @property
    def per_node(self) -> Mapping[str, int]:
        """Number of workers on each node."""
        return Counter(worker.node for worker in self.ready.values())

    # -- number of workers ------------------------------------------------------------------------

    def request(self, workers: int | None) -> None:
        """Aim at this number of workers, or at as many as fit if it is None."""
        self._requested = min(inf if workers is None else workers, inf if self._most is None else self._most)
        self.adjust()

    def adjust(self) -> None:
        """Start missing workers, and release those that have not been needed for `IDLE_SECONDS`."""
        now = time.monotonic()
        # The peak is the largest number that was requested lately.  Only workers beyond it are surplus, so a short drop
        # in demand ends no worker.
        if self._requested >= self._peak or now >= self._peak_at + IDLE_SECONDS:
            self._peak, self._peak_at = self._requested, now
        for _ in range(self._missing() if now >= self._hold_until else 0):
            self._launch()
        surplus = len(self.ready) + len(self.pending) - self._peak
        if surplus <= 0:  # the usual case; return early, as the requested number changes often
            return
        idle = [
            worker
            for worker in reversed(self.ready.values())
            if worker.attempt is None and now >= worker.idle_since + IDLE_SECONDS
        ]
        for worker in [*self.pending.values(), *idle][: int(surplus)]:
            self._release(worker)

    def _missing(self) -> int:
        missing = self._requested - len(self.ready) - len(self.pending)
        if missing == inf:
            # At least one worker is always pending.  It starts when a node joins, and an autoscaler sees its unmet
            # demand.  Pending workers that Ray has placed already count against what is free.
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
                ray.remote(NodeWorker)
                .options(
                    **options,
                    **strategies(rank),
                    resources=share,
                    max_concurrency=_THREADS,
                    lifetime="detached",  # Ray ends all other actors together with the driver, before they could save
                    name=f"{self._config.key}-{self._config.token[:8]}-{worker.number}-{rank}",
                    namespace=NAMESPACE,
                )
                .remote(self._config._replace(worker=worker.number, rank=rank))
            )
            process = Process(worker, actor)
            worker.processes.append(process)
            actor.serve.remote().future().add_done_callback(
                lambda future, process=process: self._actor_exited(process, future)
            )
        self.pending[worker.number] = worker

    def _place(self, worker: Worker) -> Callable[[int], dict[str, Any]]:
        if self._shape.processes == 1:
            return lambda _: self._strategy()
        from ray.util.placement_group import placement_group
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy as In

        worker.placement = placement_group(
            [dict(self._shape.share)] * self._shape.processes,
            strategy="STRICT_SPREAD",
            lifetime="detached",
            name=f"{self._config.key}-{self._config.token[:8]}-{worker.number}",
        )
        return lambda rank: {"scheduling_strategy": In(worker.placement, placement_group_bundle_index=rank)}

    def _strategy(self) -> dict[str, Any]:
        """Return the scheduling options that keep a worker away from nodes that do not answer."""
        now = time.monotonic()
        self._avoided = {node: until for node, until in self._avoided.items() if now < until}
        if not self._avoided:
            return {}
        from ray.util.scheduling_strategies import NodeLabelSchedulingStrategy, NotIn

        return {"scheduling_strategy": NodeLabelSchedulingStrategy(hard={_NODE_ID: NotIn(*self._avoided)})}

    def _actor_exited(self, process: Process, future: Any) -> None:
        self.exits.put(ActorExit(process, future.exception()))
        self._wake()

    # -- connecting workers -------------------------------------------------------------------------

    def identify(self, wire: Wire) -> Process | None:
        """Return the process at the other end of a new connection, or None if its hello message is not complete.

        Raises:
            PermissionError: the other end is no worker of this driver, or a worker that was removed.
        """
        about = wire.greeted(self._config.token)
        if about is None:
            return None
        worker = self.pending.get(about.worker)
        if worker is None:
            raise PermissionError
        process = worker.processes[about.rank]
        process.wire, process.about = wire, about
        if worker.ready:
            del self.pending[worker.number]
            # The lowest number that no ready worker has, so that slots are numbered without gaps over time.
            worker.slot = min(set(range(len(self.ready) + 1)) - {other.slot for other in self.ready.values()})
            worker.idle_since = time.monotonic()
            first = worker.processes[0].about
            worker.send(["welcome", first and first.address, first and first.port])
            self.ready[worker.number] = worker
        return process

    def note_started(self, worker: Worker) -> None:
        """Note that a worker has started to train.

        If it was asked for after the latest failed start, the failed starts no longer count.
        """
        if worker.asked_at > self._failed_at:
            self._failed_starts = 0

    # -- lost and removed workers -------------------------------------------------------------------

    def avoid_dead_nodes(self, worker: Worker) -> None:
        """Place no new workers for a while on the nodes of a lost worker that no longer answer.

        Ray notices a dead node only after some 15 seconds, and would place workers there until then.
        """
        for process in worker.processes:
            node = "" if process.about is None else process.about.node_id
            if node and node not in self._avoided and self._cluster.is_silent(node):
                self._avoided[node] = time.monotonic() + _AVOID_SECONDS

    def remove(self, worker: Worker) -> None:
        """Close a worker's connections, kill its actors and free its resources."""
        import ray

        self.ready.pop(worker.number, None)
        self.pending.pop(worker.number, None)
        self.left_files |= not worker.left_cleanly and any(process.about is not None for process in worker.processes)
        for process in worker.processes:
            if process.wire is not None:
                process.wire.close()
            with suppress(Exception):  # the actor or its node may be dead already
                ray.kill(process.actor)
        if worker.placement is not None:
            from ray.util.placement_group import remove_placement_group

            with suppress(Exception):
                remove_placement_group(worker.placement)

    def failed_to_start(self, worker: Worker, why: str) -> None:
        """Count a worker that ended before it was ready, and delay further starts if several did in a row.

        Raises:
            ClusterError: several workers failed to start in a row, and no worker is ready.
        """
        # Workers that were asked for before the latest failure probably failed for the same reason: count them once.
        if worker.asked_at <= self._failed_at:
            return
        now = time.monotonic()
        self._failed_at = now
        self._failed_starts += 1
        further = self._failed_starts - _FAILED_STARTS
        if further < 0:
            return
        if not self.ready:
            raise ClusterError(f"cannot start workers on the cluster at {self._cluster.address}: {why}")
        self._hold_until = now + min(_LONGEST_HOLD_SECONDS, 2.0**further)

    def all_workers(self) -> Iterator[Worker]:
        """Yield all workers, ready and pending."""
        yield from [*self.ready.values(), *self.pending.values()]
