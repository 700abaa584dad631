"""Ray clusters of several nodes on this machine, which listen on its loopback address alone."""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

# In the environment before Ray is imported (see conftest), which would take the machine's address in the network else.
SETTINGS = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0", "RAY_DISABLE_IMPORT_WARNING": "1"}
_LOOPBACK = "127.0.0.1"
_STORE = 100 * 2**20


class Nodes:
    """A cluster whose nodes come and go.

    Attributes:
        address: of its head, which has no room for trials.
        url: of its dashboard; empty: it has none.
    """

    def __init__(self, cluster: Any) -> None:
        self._cluster = cluster
        self.address: str = cluster.address
        self.url = f"http://{cluster.head_node.webui_url}" if cluster.head_node.webui_url else ""

    def add(self, **resources: Any) -> Any:
        """Another node, with as many ``num_cpus`` as is said."""
        return self._cluster.add_node(
            object_store_memory=_STORE, node_ip_address=_LOOPBACK, **{"num_cpus": 2, **resources}
        )

    def kill(self, node: Any) -> None:
        """A node dies, without a word."""
        self._cluster.remove_node(node, allow_graceful=False)


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
        dashboard = {
            "include_dashboard": True,
            "dashboard_host": _LOOPBACK,
            "dashboard_port": 0,
            "dashboard_agent_listen_port": 0,
            "temp_dir": temporary,
        }
        with ray_cluster(*cpus, **dashboard) as nodes:
            # As `ray start` does: jobs look there for the cluster that they are of, among all of the machine.
            Path(temporary, "ray_current_cluster").write_text(nodes.address)
            yield nodes


@contextmanager
def ray_cluster(*cpus: int, **head: Any) -> Iterator[Nodes]:
    """A cluster with a node for each number of CPUs, besides the head."""
    with warnings.catch_warnings():
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
            nodes = Nodes(cluster)
            for number in cpus:
                nodes.add(num_cpus=number)
            yield nodes
        finally:
            cluster.shutdown()
