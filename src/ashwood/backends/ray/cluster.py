"""The connection to a Ray cluster, and what the driver asks of the cluster."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import ashwood
from ashwood.backends.ray.demand import Amounts, NodeResources, Shape, shape_of
from ashwood.backends.ray.node_worker import NodeFiles, node_name
from ashwood.backends.ray.transfer import unpack_directory
from ashwood.checkpoints import Storage
from ashwood.checkpoints.manifest import MANIFEST, CheckpointInfo, decode, read_manifest, verify
from ashwood.errors import CheckpointError, ClusterError
from ashwood.experiment.spec import ExperimentSpec, RayCluster

NAMESPACE = "ashwood"
LOCAL = "local"
"""Address that stands for a new cluster on this machine alone, which is started for one run."""
_REACH_SECONDS = 5.0
_PROBE_SECONDS = 1.0
_PROBES = 32
_DEATH_SECONDS = 5.0
_CLEAN_SECONDS = 15.0
_LEAVE_SECONDS = 15.0
_LOOK_AGAIN_SECONDS = 0.1
_IN_A_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
_NETWORK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"


class Cluster:
    """A Ray cluster to which this process is connected.

    Attributes:
        address: address of its head node.
        ships: whether Ray copies the work directory to the nodes.
        autoscales: whether nodes that are larger than all present ones may join.
    """

    def __init__(self, address: str, *, ships: bool, autoscales: bool) -> None:
        """Use the connection that this process has to Ray."""
        self.address = address
        self.ships = ships
        self.autoscales = autoscales

    def nodes(self) -> list[NodeResources]:
        """Return the nodes that Ray lists as alive."""
        import ray

        return [
            NodeResources(node_name(node["NodeManagerAddress"], node["NodeID"]), node["NodeID"], node["Resources"])
            for node in ray.nodes()
            if node["Alive"]
        ]

    def is_silent(self, node_id: str) -> bool:
        """Return whether Ray lists a node as alive that does not answer; Ray does so for some 15 seconds."""
        return node_id in self._silent(lambda node: bool(node["NodeID"] == node_id))

    def answering(self) -> list[NodeResources]:
        """Return the nodes that Ray lists as alive and that answer."""
        silent = self._silent(lambda _: True)
        return [node for node in self.nodes() if node.id not in silent]

    def _silent(self, checked: Callable[[Mapping[str, Any]], bool]) -> set[str]:
        """Return the ids of nodes that Ray lists as alive but that accept no connection; check only some nodes."""
        import ray

        addresses = {
            node["NodeID"]: (node["NodeManagerAddress"], node["NodeManagerPort"])
            for node in ray.nodes()
            if node["Alive"] and checked(node)
        }
        with ThreadPoolExecutor(_PROBES, "ashwood-probe") as probes:
            answers = probes.map(_answers, addresses.values())
        return {node for node, answers_ in zip(addresses, answers, strict=True) if not answers_}

    def shape_for(self, spec: ExperimentSpec) -> Shape:
        """Return the resources of a worker of an experiment on this cluster.

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
                f"{error}. Nodes in Ray's list that do not answer: {len(silent)}, for example {silent[0]}"
            ) from error

    def free(self) -> Amounts:
        """Return the unused resources of all nodes together."""
        import ray

        free: Amounts = ray.available_resources()
        return free

    def dismiss_former(self, key: str, sleep: Callable[[float], None], on_wait: Callable[[int, float], None]) -> None:
        """Wait until all workers of an earlier driver of an experiment have saved and ended, then kill the others.

        Args:
            key: key of the experiment.
            sleep: waits for a number of seconds.
            on_wait: called once, before the first wait, with the number of processes and the longest wait in seconds.
        """
        import ray

        deadline = time.monotonic() + _LEAVE_SECONDS
        announced = False
        groups = ray.util.placement_group_table()
        self._end_waiting(key)
        while names := self._former(key):
            if time.monotonic() >= deadline:
                for name in names:
                    with _ignoring_gone():
                        ray.kill(ray.get_actor(name, NAMESPACE))
            elif not announced:
                on_wait(len(names), _LEAVE_SECONDS)
                announced = True
            sleep(_LOOK_AGAIN_SECONDS)
        # A placement group is removed by its process of rank 0.  It stays if that process died with the driver.
        for group in groups.values():
            if group["name"].startswith(key):
                with _ignoring_gone():
                    ray.util.remove_placement_group(ray.util.get_placement_group(group["name"]))

    def _end_waiting(self, key: str) -> None:
        """Kill the actors that have no process yet: they have nothing to save, and may wait for resources for long."""
        import ray
        from ray._private import state  # without a dashboard, no public function lists actors with their states

        for stage in ("DEPENDENCIES_UNREADY", "PENDING_CREATION"):
            for actor in state.actors(actor_state_name=stage).values():
                # An actor with a process may train already: Ray updates its state only after `__init__` has returned.
                if actor["Name"].startswith(key) and not actor["Pid"]:
                    with _ignoring_gone():
                        ray.kill(ray.get_actor(actor["Name"], NAMESPACE))

    def _former(self, key: str) -> list[str]:
        import ray

        listed = ray.util.list_named_actors(all_namespaces=True)
        return [each["name"] for each in listed if each["namespace"] == NAMESPACE and each["name"].startswith(key)]

    def collect_checkpoints(self, key: str, storage: Storage, wanted: Callable[[str], bool]) -> Iterator[str]:
        """Receive the checkpoints that workers saved after their driver died, and yield the name of each.

        ``wanted`` is called right before a checkpoint is received.  The files on a node are deleted after all its
        wanted checkpoints were received and the caller has asked for the next name.  So a caller that records each
        name before it asks for the next one can be killed at any time without losing a checkpoint.
        """
        import ray

        for files in self._node_files(key):
            try:
                for name in filter(wanted, ray.get(files.names.remote())):
                    chunks = (ray.get(ref) for ref in files.read.options(num_returns="streaming").remote(name))
                    try:
                        receive(storage, name, chunks)
                    except CheckpointError:  # The checkpoint is damaged, so it is ignored.
                        continue
                    yield name
                ray.get(files.clear.remote())
            except ray.exceptions.RayError:  # The node was lost together with its checkpoints.
                continue
            finally:
                ray.kill(files)

    def clean(self, key: str) -> None:
        """Delete the files that workers of an experiment left on the nodes that answer."""
        import ray

        actors = self._node_files(key)
        try:
            if cleared := [files.clean.remote(_DEATH_SECONDS) for files in actors]:
                ray.wait(cleared, num_returns=len(cleared), timeout=_CLEAN_SECONDS)
        finally:
            for files in actors:
                ray.kill(files)

    def _node_files(self, key: str) -> list[Any]:
        """Start a `NodeFiles` actor for an experiment on each node that answers, and return their handles."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On

        actor = ray.remote(NodeFiles)
        return [
            actor.options(num_cpus=0, scheduling_strategy=On(node.id, soft=False)).remote(key, node.id)
            for node in self.answering()
        ]


def receive(storage: Storage, name: str, chunks: Iterator[bytes]) -> None:
    """Store a checkpoint that arrives from another machine in chunks.

    Raises:
        CheckpointError: the checkpoint is damaged.
        Exception: any error of the storage or of the transport.
    """
    about = list[CheckpointInfo]()

    def write(directory: Path) -> None:
        unpack_directory(chunks, directory)
        verify(directory)
        about.append(decode(read_manifest(directory) or b"", name).about)
        (directory / MANIFEST).unlink()

    storage.save(name, write, lambda: about[0])


@contextmanager
def connected(wanted: RayCluster, spec: ExperimentSpec) -> Iterator[Cluster]:
    """Connect to a cluster for the duration of the context, or use the connection that this process already has.

    Raises:
        ClusterError: no cluster answers, its versions differ, or the work directory can't be sent to it.
    """
    if wanted.address == LOCAL:
        # Ray reads this when it is imported.  It keeps the cluster on the loopback interface, out of reach of others.
        os.environ.setdefault(_NETWORK, "0")
    try:
        import ray
    except ImportError as error:
        raise ClusterError(
            f"backend: ray needs a package that is not installed ({error}): pip install 'ashwood[ray]'"
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
    """Return Ray's runtime environment for workers, without what the Ray job of this process already has, if any."""
    job: Mapping[str, Any] = json.loads(os.environ.get(_IN_A_JOB) or "{}").get("runtime_env") or {}
    code = code_environment(wanted, spec.workdir) if wanted.ship_code else {}
    environment = {**wanted.runtime_env, **{name: value for name, value in code.items() if not job.get(name)}}
    if "working_dir" not in environment:
        environment.pop("excludes", None)
    return environment


def code_environment(wanted: RayCluster, workdir: str) -> dict[str, Any]:
    """Return a runtime environment for Ray that contains a work directory and Ashwood itself.

    Ray and the packages that training code needs must be installed on the nodes, in the same versions.
    """
    given = wanted.runtime_env.get("excludes", ())
    return {
        "working_dir": workdir,
        "py_modules": [own_package()],
        "excludes": [*given, ".git", "/.ashwood", ".venv", "__pycache__"],
    }


def own_package() -> str:
    """Return the directory of the package ``ashwood``."""
    return str(Path(ashwood.__file__).parent)


def _address(wanted: RayCluster) -> str:
    """Return the address of the cluster, after a check that a process listens there.

    Without the check, Ray would wait for minutes for a cluster that does not exist.

    Raises:
        ClusterError: no process listens there.
    """
    address = wanted.address or os.environ.get("RAY_ADDRESS") or "auto"
    # A Ray job runs on its own cluster, even if the file names it by an address that is valid only elsewhere.
    if _IN_A_JOB in os.environ:
        address = os.environ.get("RAY_ADDRESS") or address
    if address.startswith("ray://"):
        raise ClusterError(
            f"{address} is an address of Ray Client, through which workers cannot reach this machine. Run the driver "
            "in the cluster: ashwood run FILE --submit http://HEAD:8265, or on one of its machines: ashwood run FILE "
            "--ray-address auto"
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
            f"{there}: start one with 'ray start --head', or give the address of another with --ray-address HOST:6379"
        ) from error
    return address


def _hush() -> None:
    """Make Ray print no messages about dead workers to standard output, because the search reports them as events.

    A thread of Ray prints them, and no public setting stops it.
    """
    from ray._private import worker

    if hasattr(worker, "print_to_stdstream"):
        worker.print_to_stdstream = lambda *_, **__: None


def _found() -> str | None:
    """Return the address of the cluster that runs on this machine, or None if none runs."""
    from ray._private import services  # ray.init itself uses this function

    try:
        found: str = services.canonicalize_bootstrap_address_or_die("auto")
    except ConnectionError:
        return None
    return found


def why_not(error: Exception, address: str, workdir: str) -> str:
    """Return a message about a cluster that can't be used, with the reason and what to do."""
    text = str(error).strip()
    if "ersion mismatch" in text:
        return f"the cluster at {address} and this machine run different versions: {text}"
    # The limit of Ray's dashboard, for submitted jobs, is lower than that for a driver on the cluster.
    too_large = "exceeds the maximum size" in text or "request body size" in text
    if too_large or ("package" in text.lower() and "size" in text.lower()):
        return (
            f"the work directory {workdir} is too large to send to the nodes: {text}\nAdd files that workers do not "
            "need to .gitignore or to backend.runtime_env.excludes, or set backend.ship_code: false if the directory "
            "has the same path on every node"
        )
    elsewhere = ""
    if "raylet" in text or "node_ip_address" in text:
        elsewhere = (
            "\nThe driver must run on a machine of the cluster. From another machine, submit the experiment: "
            "ashwood run FILE --submit http://HEAD:8265"
        )
    return f"can't use the Ray cluster at {address}: {text}{elsewhere}"


def _answers(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, timeout=_PROBE_SECONDS).close()
    except OSError:
        return False
    return True


def _ignoring_gone() -> AbstractContextManager[None]:
    """Return a context that ignores that a named actor or placement group has ended meanwhile."""
    return suppress(ValueError)  # what Ray raises for an unknown name
