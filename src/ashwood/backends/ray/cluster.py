"""The connection to a Ray cluster: found, refused with a reason, looked at, left."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ashwood
from ashwood.backends.ray.demand import Amounts, Node, Shape, shape_of
from ashwood.backends.ray.freight import unload
from ashwood.backends.ray.outpost import Salvage, node_name
from ashwood.errors import CheckpointError, ClusterError
from ashwood.experiment.spec import ExperimentSpec, RayCluster
from ashwood.trial.storage import Storage
from ashwood.trial.storage.manifest import MANIFEST, About, decode, read_manifest, verify

NAMESPACE = "ashwood"
LOCAL = "local"
"""The address of a cluster of this machine alone, which is started for one run."""
_REACH_SECONDS = 5.0
_KNOCK_SECONDS = 1.0
_KNOCKERS = 32
_DEATH_SECONDS = 5.0
_CLEAN_SECONDS = 15.0
_LEAVE_SECONDS = 15.0
_LOOK_AGAIN_SECONDS = 0.1
_IN_A_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
_NETWORK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"


class Cluster:
    """A cluster that this process is connected to.

    Attributes:
        address: of its head.
        ships: whether Ray has taken the work directory to the nodes.
        autoscales: whether larger nodes may come.
    """

    def __init__(self, address: str, *, ships: bool, autoscales: bool) -> None:
        """Take over a connection."""
        self.address = address
        self.ships = ships
        self.autoscales = autoscales

    def nodes(self) -> list[Node]:
        """The nodes that live."""
        import ray

        return [
            Node(node_name(node["NodeManagerAddress"], node["NodeID"]), node["NodeID"], node["Resources"])
            for node in ray.nodes()
            if node["Alive"]
        ]

    def is_silent(self, node_id: str) -> bool:
        """Whether a node is dead that Ray takes for alive, as it does for some 15 seconds."""
        return node_id in self._silent(lambda node: bool(node["NodeID"] == node_id))

    def answering(self) -> list[Node]:
        """Return the nodes that live, without those that are dead and that Ray takes for alive."""
        silent = self._silent(lambda _: True)
        return [node for node in self.nodes() if node.id not in silent]

    def _silent(self, asked: Callable[[Mapping[str, Any]], bool]) -> set[str]:
        import ray

        places = {
            node["NodeID"]: (node["NodeManagerAddress"], node["NodeManagerPort"])
            for node in ray.nodes()
            if node["Alive"] and asked(node)
        }
        with ThreadPoolExecutor(_KNOCKERS, "ashwood-knock") as knockers:
            answers = knockers.map(_answers, places.values())
        return {node for node, answers_ in zip(places, answers, strict=True) if not answers_}

    def shape_for(self, spec: ExperimentSpec) -> Shape:
        """Return how a worker of an experiment is made on this cluster.

        Raises:
            ClusterError: no trial fits on any node that answers.
        """
        nodes = self.answering()
        try:
            return shape_of(spec, nodes, autoscales=self.autoscales)
        except ClusterError as error:
            silent = [node.name for node in self.nodes() if node not in nodes]
            if not silent:
                raise
            raise ClusterError(
                f"{error}. {len(silent)} more, such as {silent[0]}, are in Ray's list of nodes, but do not answer"
            ) from error

    def free(self) -> Amounts:
        """What nobody uses, of all nodes together."""
        import ray

        free: Amounts = ray.available_resources()
        return free

    def dismiss_former(self, key: str, sleep: Callable[[float], None], on_wait: Callable[[int, float], None]) -> None:
        """Wait until no worker of a former driver of an experiment is left: they save what they train, and leave."""
        import ray

        deadline = time.monotonic() + _LEAVE_SECONDS
        told = False
        groups = ray.util.placement_group_table()
        self._end_waiting(key)
        while names := self._former(key):
            if time.monotonic() >= deadline:
                for name in names:
                    with _gone_meanwhile():
                        ray.kill(ray.get_actor(name, NAMESPACE))
            elif not told:
                on_wait(len(names), _LEAVE_SECONDS)
                told = True
            sleep(_LOOK_AGAIN_SECONDS)
        for group in groups.values():  # whose first worker died with the driver
            if group["name"].startswith(key):
                with _gone_meanwhile():
                    ray.util.remove_placement_group(ray.util.get_placement_group(group["name"]))

    def _end_waiting(self, key: str) -> None:
        """Kill the actors that have no process yet: they have nothing to save, and would wait for a place."""
        import ray
        from ray._private import state  # no public list of actors has their states, without a dashboard

        for stage in ("DEPENDENCIES_UNREADY", "PENDING_CREATION"):
            for actor in state.actors(actor_state_name=stage).values():
                # One with a process may train already: Ray learns only later that it has been created.
                if actor["Name"].startswith(key) and not actor["Pid"]:
                    with _gone_meanwhile():
                        ray.kill(ray.get_actor(actor["Name"], NAMESPACE))

    def _former(self, key: str) -> list[str]:
        import ray

        listed = ray.util.list_named_actors(all_namespaces=True)
        return [each["name"] for each in listed if each["namespace"] == NAMESPACE and each["name"].startswith(key)]

    def salvage(self, key: str, storage: Storage, wanted: Callable[[str], bool]) -> Iterator[str]:
        """Receive what workers saved on their nodes when their driver was gone, and yield the name of each checkpoint.

        ``wanted`` is asked right before a checkpoint is received.  What a node holds is removed from it after all
        that is wanted was received from it and the caller has asked for the next name.
        """
        import ray

        for salvage in self._salvages(key):
            try:
                for name in filter(wanted, ray.get(salvage.names.remote())):
                    chunks = (ray.get(ref) for ref in salvage.read.options(num_returns="streaming").remote(name))
                    try:
                        receive(storage, name, chunks)
                    except CheckpointError:  # it is damaged, and as good as none
                        continue
                    yield name
                ray.get(salvage.clear.remote())
            except ray.exceptions.RayError:  # the node is gone, and what was on it
                continue
            finally:
                ray.kill(salvage)

    def clean(self, key: str) -> None:
        """Remove what workers of an experiment left on the nodes that answer."""
        import ray

        there = self._salvages(key)
        try:
            if cleared := [salvage.clean.remote(_DEATH_SECONDS) for salvage in there]:
                ray.wait(cleared, num_returns=len(cleared), timeout=_CLEAN_SECONDS)
        finally:
            for salvage in there:
                ray.kill(salvage)

    def _salvages(self, key: str) -> list[Any]:
        """Start an actor on each node that answers, which has access to what workers of an experiment left there."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On

        actor = ray.remote(Salvage)
        return [
            actor.options(num_cpus=0, scheduling_strategy=On(node.id, soft=False)).remote(key, node.id)
            for node in self.answering()
        ]


def receive(storage: Storage, name: str, chunks: Iterator[bytes]) -> None:
    """Keep a checkpoint that comes from another machine.

    Raises:
        CheckpointError: it is damaged.
        Exception: whatever the disk or the transport has against it.
    """
    about = list[About]()

    def write(directory: Path) -> None:
        unload(chunks, directory)
        verify(directory)
        about.append(decode(read_manifest(directory) or b"", name).about)
        (directory / MANIFEST).unlink()

    storage.save(name, write, lambda: about[0])


@contextmanager
def connected(wanted: RayCluster, spec: ExperimentSpec) -> Iterator[Cluster]:
    """A connection to a cluster, for as long as the context lasts; one that this process has already is used.

    Raises:
        ClusterError: there is none, it is of another version, or the work directory can't be sent.
    """
    if wanted.address == LOCAL:  # Ray reads this when it is imported: nobody else is to reach that cluster
        os.environ.setdefault(_NETWORK, "0")
    try:
        import ray
    except ImportError as error:
        raise ClusterError(
            f"backend: ray needs a package that isn't installed ({error}): pip install 'ashwood[ray]'"
        ) from error
    if ray.is_initialized():
        context = ray.get_runtime_context()
        ships = bool(context.runtime_env.get("working_dir"))
        yield Cluster(context.gcs_address, ships=ships, autoscales=wanted.autoscales)
        return
    address = _address(wanted)
    try:
        context = ray.init(
            address=address,
            namespace=NAMESPACE,
            runtime_env=_environment(wanted, spec) or None,
            log_to_driver=False,
            logging_level="ERROR",
            **({"include_dashboard": False} if address == LOCAL else {}),
        )
    except Exception as error:
        raise ClusterError(why_not(error, address, spec.workdir)) from error
    _hush()
    try:
        yield Cluster(context.address_info["gcs_address"], ships=wanted.ship_code, autoscales=wanted.autoscales)
    finally:
        ray.shutdown()


def _environment(wanted: RayCluster, spec: ExperimentSpec) -> dict[str, Any]:
    """What workers are to have, besides what came with the job that this process is."""
    job: Mapping[str, Any] = json.loads(os.environ.get(_IN_A_JOB) or "{}").get("runtime_env") or {}
    code = code_environment(wanted, spec.workdir) if wanted.ship_code else {}
    environment = {**wanted.runtime_env, **{name: value for name, value in code.items() if not job.get(name)}}
    if "working_dir" not in environment:
        environment.pop("excludes", None)
    return environment


def code_environment(wanted: RayCluster, workdir: str) -> dict[str, Any]:
    """Ray's runtime environment that brings a work directory, and Ashwood.

    Nodes need Ray and what training code needs, and the versions are the same.
    """
    given = wanted.runtime_env.get("excludes", ())
    return {
        "working_dir": workdir,
        "py_modules": [own_package()],
        "excludes": [*given, ".git", "/.ashwood", ".venv", "__pycache__"],
    }


def own_package() -> str:
    """The directory of Ashwood itself."""
    return str(Path(ashwood.__file__).parent)


def _address(wanted: RayCluster) -> str:
    """Where the cluster is; somebody has to listen there, for Ray itself would wait for minutes.

    Raises:
        ClusterError: nobody does.
    """
    address = wanted.address or os.environ.get("RAY_ADDRESS") or "auto"
    if _IN_A_JOB in os.environ:  # which is of this cluster, by whatever name it is known elsewhere
        address = os.environ.get("RAY_ADDRESS") or address
    if address.startswith("ray://"):
        raise ClusterError(
            f"{address} is for Ray's client, through which workers can't reach this machine: run the driver in the "
            "cluster, by ashwood run FILE --submit http://HEAD:8265, or on one of its machines with --ray-address auto"
        )
    if address == LOCAL:
        return address
    if address == "auto":
        address = _found() or ""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_REACH_SECONDS).close()
    except (OSError, ValueError) as error:
        there = f"no Ray cluster answers at {address} ({error})" if address else "no Ray cluster runs on this machine"
        raise ClusterError(
            f"{there}: start one with 'ray start --head', or name another with --ray-address HOST:6379"
        ) from error
    return address


def _hush() -> None:
    """Keep Ray's words about dead workers, of which it has a thread tell, off standard output: they are told as events.

    No public setting does that.
    """
    from ray._private import worker

    if hasattr(worker, "print_to_stdstream"):
        worker.print_to_stdstream = lambda *_, **__: None


def _found() -> str | None:
    """The cluster that runs on this machine."""
    from ray._private import services  # what ray.init itself asks

    try:
        found: str = services.canonicalize_bootstrap_address_or_die("auto")
    except ConnectionError:
        return None
    return found


def why_not(error: Exception, address: str, workdir: str) -> str:
    """Why a cluster can't be used, for people."""
    text = str(error).strip()
    if "ersion mismatch" in text:
        return f"the cluster at {address} runs other versions than this machine: {text}"
    # A dashboard takes less than a driver on the cluster can send.
    too_large = "exceeds the maximum size" in text or "request body size" in text
    if too_large or ("package" in text.lower() and "size" in text.lower()):
        return (
            f"the work directory {workdir} is too large to be sent to the nodes: {text}\nName what workers don't "
            "need in .gitignore or in backend.runtime_env.excludes, or set backend.ship_code: false if it is in the "
            "same place on every node"
        )
    elsewhere = ""
    if "raylet" in text or "node_ip_address" in text:
        elsewhere = (
            "\nThe driver has to run on a machine of the cluster; from elsewhere, submit it: ashwood run FILE --submit "
            "http://HEAD:8265"
        )
    return f"can't use the Ray cluster at {address}: {text}{elsewhere}"


def _answers(place: tuple[str, int]) -> bool:
    try:
        socket.create_connection(place, timeout=_KNOCK_SECONDS).close()
    except OSError:
        return False
    return True


@contextmanager
def _gone_meanwhile() -> Iterator[None]:
    try:
        yield
    except ValueError:  # there is no actor of that name any more
        return
