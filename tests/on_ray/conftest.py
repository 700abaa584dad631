"""One cluster for all tests that need a real one, because a head and three nodes take ten seconds to start."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.clusters import Nodes, ray_cluster
from tests.torture.clusters import connect


@pytest.fixture(scope="package")
def nodes() -> Iterator[Nodes]:
    """The nodes of a cluster to which this process is connected."""
    with ray_cluster(2, 2, 2) as nodes, connect(nodes):
        yield nodes
