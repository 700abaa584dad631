"""What is known of a cluster's nodes; in a module of its own, for a process has one connection to Ray at a time."""

from __future__ import annotations

from pathlib import Path

from ashwood.backends.ray.cluster import connected
from ashwood.experiment.spec import RayCluster
from ashwood.testing.backend import toy_spec
from tests.clusters import ray_cluster


def test_a_node_that_has_died_is_known_before_ray_knows(tmp_path: Path) -> None:
    with ray_cluster(1) as nodes:
        where = RayCluster(nodes.address, ship_code=False)
        with connected(where, toy_spec(tmp_path)) as cluster:
            node = nodes.add(num_cpus=1)
            assert not cluster.is_silent(node.node_id)
            # Not by the cluster, which would tell Ray.
            raylet = node.all_processes["raylet"][0].process
            raylet.kill()
            raylet.wait()
            assert cluster.is_silent(node.node_id)
            nodes.kill(node)
            assert not cluster.is_silent("a node that never was")
