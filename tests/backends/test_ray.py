"""The Ray backend keeps the contract of backends, on a real cluster."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ashwood.backends.port import Backend
from ashwood.backends.ray import RayBackend
from ashwood.backends.ray.cluster import Cluster, connected
from ashwood.experiment.spec import ExperimentSpec, RayCluster
from ashwood.testing.backend import PATIENCE, BackendContract, toy_spec
from ashwood.testing.process_backend import ProcessBackendContract
from tests.clusters import ray_cluster

_keys = map("test-{}".format, itertools.count())


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with ray_cluster(2, 2) as nodes:
        where = RayCluster(nodes.address, ship_code=False)
        with connected(where, toy_spec(tmp_path_factory.mktemp("work"))) as cluster:
            yield cluster


def two_workers(spec: ExperimentSpec, cluster: Cluster, directory: Path, *, shared: bool) -> Backend:
    backend = RayBackend(
        spec,
        cluster,
        key=next(_keys),
        checkpoints=directory / "checkpoints",
        shared=shared,
        logs=directory / "logs",
        workers=2,
    )
    backend.expect(2)
    deadline = time.monotonic() + PATIENCE
    while backend.slots < 2:
        assert time.monotonic() < deadline, "the workers don't come"
        backend.next_events(timeout=1.0)
    return backend


class TestOnASharedFileSystem(ProcessBackendContract):
    @pytest.fixture(autouse=True)
    def _on(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def make(self, spec: ExperimentSpec, directory: Path) -> Backend:
        return two_workers(spec, self.cluster, directory, shared=True)


class TestWithoutOne(BackendContract):
    @pytest.fixture(autouse=True)
    def _on(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def make(self, spec: ExperimentSpec, directory: Path) -> Backend:
        return two_workers(spec, self.cluster, directory, shared=False)
