"""One cluster for all tests that need a real one: a head and three nodes take ten seconds to start."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clusters import Nodes, ray_cluster_with_dashboard
from tests.torture.clusters import connect


@pytest.fixture(scope="package")
def head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home directory of who runs the cluster."""
    return tmp_path_factory.mktemp("head")


@pytest.fixture(scope="package")
def nodes(head: Path) -> Iterator[Nodes]:
    """The cluster, to which this process is connected."""
    with ray_cluster_with_dashboard(2, 2, 2, home=head) as nodes, connect(nodes):
        yield nodes
