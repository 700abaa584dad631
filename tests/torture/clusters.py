"""Torture on a Ray cluster: nodes, workers' actors and training processes die too, and nodes join."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ashwood.engine import open_home
from ashwood.engine.worker_hosts import RayHost
from ashwood.experiment.events import AttemptFailed
from ashwood.experiment.spec import RayCluster
from tests.clusters import Nodes
from tests.torture.oracle import Evidence
from tests.torture.points import kill
from tests.torture.schedule import Blow, Victim
from tests.torture.sessions import Place, Session

_FEWEST = 2
"""Nodes that there are at least."""
_MOST = 5


class ClusterPlace(Place):
    """An experiment whose trials run on a cluster.

    Attributes:
        nodes: the cluster.
    """

    def __init__(self, path: Path, nodes: Nodes, *, shared: bool) -> None:
        """``shared``: checkpoints are in a directory that the nodes have as well; otherwise they are in the home."""
        super().__init__(path)
        self.nodes = nodes
        self._growing: threading.Thread | None = None
        self.more = {"backend": {"type": "ray", "address": nodes.address, "ship_code": False}}
        if not shared:
            self.storage = Path(self.home, "experiments", "1")
            self.more["checkpoint_storage"] = None

    def grow(self) -> None:
        """Another node, while the driver goes on."""
        self.settle()
        if len(self.nodes.there) < _MOST:
            self._growing = threading.Thread(target=self.nodes.add)
            self._growing.start()

    def settle(self) -> None:
        """Wait for a node that is on its way."""
        if self._growing is not None:
            self._growing.join()
            self._growing = None

    def session(self, *arguments: str, more: Mapping[str, str] | None = None) -> Session:
        """Run a driver on the cluster."""
        return ClusterSession(self, *arguments, more=more)

    def processes(self) -> list[int]:
        """The drivers, and all that is on the cluster for an experiment."""
        return [*super().processes(), *self.nodes.processes()]


class ClusterSession(Session):
    """A driver of trials on a cluster."""

    _place: ClusterPlace

    def _strike(self, victim: Victim) -> bool:
        nodes = self._place.nodes
        match victim:
            case Victim.NOBODY:
                self._place.grow()
                return True
            case Victim.NODE:
                self._place.settle()
                if len(nodes.there) <= _FEWEST:
                    nodes.add()
                nodes.kill(nodes.there[0])
                return True
            case Victim.ACTOR:
                return self._kill_one_of(nodes.actors())
            case Victim.WORKER:
                return self._kill_one_of(nodes.trainers())
        return super()._strike(victim)

    def _kill_one_of(self, processes: Sequence[int]) -> bool:
        return bool(processes) and kill(sorted(processes)[len(self.acknowledged) % len(processes)])


def on_cluster(evidence: Evidence, dealt: Sequence[str]) -> Iterator[str]:
    """What must be true besides: only who killed training itself made trials fail."""
    killed = sum(f": {Victim.WORKER} " in blow for blow in dealt)
    failed = [entry.event for entry in evidence.entries if isinstance(entry.event, AttemptFailed)]
    if len(failed) > killed:
        yield f"{len(failed)} attempts failed, {killed} training processes were killed: {failed}"


@contextmanager
def connect(nodes: Nodes) -> Iterator[None]:
    """Be connected to the cluster, to look at it."""
    import ray

    from ashwood.backends.ray.cluster import _hush

    ray.init(address=nodes.address, log_to_driver=False, logging_level="ERROR")
    _hush()
    try:
        yield
    finally:
        ray.shutdown()


def left_on(nodes: Nodes) -> list[Any]:
    """The actors that are left; this process is connected to the cluster."""
    import ray

    assert ray.is_initialized(), nodes
    left: list[Any] = ray.util.list_named_actors(all_namespaces=True)
    return left


def folders_of(home: str | Path) -> list[Path]:
    """Return what workers of the first experiment of a home have left on this machine."""
    from ashwood.backends.ray.cluster import connected
    from ashwood.backends.ray.node_worker import _base

    with open_home(home) as opened, connected(RayCluster("auto"), opened.store.spec(1)) as cluster:
        host = RayHost(opened, 1, opened.store.spec(1), cluster)
    return sorted((_base() / host._key).rglob("*"))


def after(lines: int, victim: Victim, *, haste: bool = False) -> Blow:
    """A blow once the driver has acknowledged so many entries."""
    return Blow(victim, lines, 0.0, haste=haste)
