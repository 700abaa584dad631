"""Ray clusters of several nodes on this machine, which listen on its loopback address alone."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import tempfile
import threading
import time
import uuid
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

# In the environment before Ray is imported (see conftest), which would take the machine's address in the network else.
SETTINGS = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0", "RAY_DISABLE_IMPORT_WARNING": "1"}
_ROOT = Path(__file__).parents[1]
_MARK = "ASHWOOD_TEST_CLUSTER"
_LOOPBACK = "127.0.0.1"
_STORE = 100 * 2**20
_KINDS = (b"ray::NodeWorker", b"backends.local", b"backends/local", b"tests.torture")


class Nodes:
    """A cluster whose nodes come and go.

    Attributes:
        address: of its head, which has no room for trials.
        url: of its dashboard; empty: it has none.
        there: the nodes that have, in the order in which they came.
        names: of all nodes that have ever been there, as Ashwood calls them.
    """

    def __init__(self, cluster: Any, mark: str) -> None:
        """``mark`` is in the environment of all processes that ever run on it."""
        self.there: list[Any] = []
        self.names: list[str] = []
        self._cluster = cluster
        self._mark = mark
        self.address: str = cluster.address
        self.url = f"http://{cluster.head_node.webui_url}" if cluster.head_node.webui_url else ""

    def add(self, **resources: Any) -> Any:
        """Another node, with as many ``num_cpus`` as is said; may be called in a thread."""
        # Ray would set signal handlers; without them, the node goes when the head has gone.
        self._cluster._shutdown_at_exit = threading.current_thread() is threading.main_thread()
        node = self._cluster.add_node(
            object_store_memory=_STORE, node_ip_address=_LOOPBACK, **{"num_cpus": 2, **resources}
        )
        self.there.append(node)
        self.names.append(f"{_LOOPBACK}/{node.node_id[:6]}")
        return node

    def kill(self, node: Any) -> None:
        """A node dies, without a word."""
        self.there.remove(node)
        self._cluster.remove_node(node, allow_graceful=False)

    def actors(self) -> list[int]:
        """Processes of workers, one each."""
        return [process for process, command in self._ours() if command.startswith(b"ray::NodeWorker")]

    def trainers(self) -> list[int]:
        """Processes that run training code."""
        return [process for process, command in self._ours() if b"backends.local.worker" in command]

    def processes(self) -> list[int]:
        """All processes that are here for experiments."""
        return [process for process, command in self._ours() if any(kind in command for kind in _KINDS)]

    def others(self) -> list[bool]:
        """The nodes that there have ever been besides the head: whether Ray takes them for alive."""
        table = self._cluster.global_state.node_table()
        return [node["Alive"] for node in table if node["NodeID"] != self._cluster.head_node.node_id]

    def end_others(self) -> None:
        """End the nodes that somebody else has added; they take along who works for them."""
        head = self._cluster.head_node.all_processes["raylet"][0].process.pid
        raylets = [pid for pid, command in self._ours() if command.split(b"\0")[0].endswith(b"/raylet") and pid != head]
        for raylet in raylets:
            os.kill(raylet, signal.SIGTERM)
        deadline = time.monotonic() + 20
        while any(Path(f"/proc/{raylet}/cmdline").exists() for raylet in raylets) and time.monotonic() < deadline:
            time.sleep(0.05)

    def _ours(self) -> Iterator[tuple[int, bytes]]:
        mark = f"{_MARK}={self._mark}".encode()
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if mark in (entry / "environ").read_bytes():
                        yield int(entry.name), (entry / "cmdline").read_bytes()
                except OSError:  # gone, or another user's
                    continue


@contextmanager
def ray_cluster_with_dashboard(*cpus: int, home: Path) -> Iterator[Nodes]:
    """The same with a dashboard, so that it takes jobs.

    Args:
        cpus: of each node.
        home: the home directory of who runs it.
    """
    # Sockets lie in it, so its path has to be short; who is leaving may still write to it when it is removed.
    with (
        tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as temporary,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("HOME", str(home))
        patch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
        # Jobs look there for the cluster that they are of, among all of the machine.
        patch.setenv("RAY_TMPDIR", temporary)
        dashboard = {
            "include_dashboard": True,
            "dashboard_host": _LOOPBACK,
            "dashboard_port": 0,
            "dashboard_agent_listen_port": 0,
        }
        with ray_cluster(*cpus, **dashboard) as nodes:
            yield nodes


@contextmanager
def ray_cluster(*cpus: int, **head: Any) -> Iterator[Nodes]:
    """A cluster with a node for each number of CPUs, besides the head."""
    mark = str(uuid.uuid4())
    # Nodes have the code that the tests have.
    search = os.pathsep.join(filter(None, (str(_ROOT), str(_ROOT / "src"), os.environ.get("PYTHONPATH"))))
    with _environment({**SETTINGS, _MARK: mark, "PYTHONPATH": search}), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ray.cluster_utils import Cluster

        cluster = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 0,
                "object_store_memory": _STORE,
                "node_ip_address": _LOOPBACK,
                "include_dashboard": False,
                **head,
            },
        )
        try:
            nodes = Nodes(cluster, mark)
            for number in cpus:
                nodes.add(num_cpus=number)
            yield nodes
        finally:
            cluster.shutdown()


@contextmanager
def autoscaling_ray_cluster(*, cpus: int, most: int) -> Iterator[Nodes]:
    """A head to which Ray's autoscaler adds nodes when somebody waits for room, and takes idle ones away again.

    Ray's own class for that ends all of Ray that runs on the machine first.

    Args:
        cpus: of each node.
        most: how many nodes there are at most.
    """
    from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID, FAKE_HEAD_NODE_TYPE

    with socket.create_server((_LOOPBACK, 0)) as server:
        port = server.getsockname()[1]
    added = {"resources": {"CPU": cpus, "object_store_memory": _STORE}, "node_config": {}, "max_workers": most}
    config = {
        "cluster_name": "ashwood",
        "max_workers": most,
        "idle_timeout_minutes": 0.05,
        "provider": {
            "type": "fake_multinode",
            "head_node_id": FAKE_HEAD_NODE_ID,
            "gcs_address": f"{_LOOPBACK}:{port}",
            "launch_multiple": True,
            "disable_node_updaters": True,
            "use_node_id_as_ip": True,
        },
        "head_node_type": FAKE_HEAD_NODE_TYPE,
        "available_node_types": {
            FAKE_HEAD_NODE_TYPE: {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "added": added,
        },
        "upscaling_speed": 10.0,
        # What a real provider would need.
        **{name: {} for name in ("auth", "docker", "file_mounts")},
        **{name: [] for name in ("cluster_synced_files", "initialization_commands", "setup_commands")},
        **{f"{node}_{what}": [] for node in ("head", "worker") for what in ("setup_commands", "start_ray_commands")},
    }
    variables = {
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_FAKE_CLUSTER": "1",
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID,
    }
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file, _environment(variables):
        json.dump(config, file)
        file.flush()
        with ray_cluster(autoscaling_config=file.name, gcs_server_port=port) as nodes:
            try:
                yield nodes
            finally:
                nodes.end_others()


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        yield
