"""Searches on a cluster with Ray's autoscaler.

Not in tests/on_ray: those tests share a cluster, to which their process is connected.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ashwood.experiment.events import CapacityChanged
from tests.clusters import Nodes, autoscaling_ray_cluster
from tests.torture.clusters import ClusterPlace, connect, left_on
from tests.torture.experiment import Run
from tests.torture.scenarios import Scenario

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PATIENCE = 120.0
SEARCH = Scenario(
    "on a cluster that grows",
    {"name": "random", "max_trials": 12, "max_length": 20, "max_concurrent_trials": 4},
    workers=4,
    step_seconds=0.1,
)


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    with autoscaling_ray_cluster(cpus=2, most=3) as nodes, connect(nodes):
        yield nodes


def test_cluster_grows_for_search_and_shrinks_again(tmp_path: Path, nodes: Nodes) -> None:
    assert nodes.others() == []
    place = ClusterPlace(tmp_path, nodes, shared=False)
    place.longest = PATIENCE
    place.more["backend"]["autoscales"] = True
    try:
        outcome = Run(SEARCH, place, 0, iter(())).to_the_end()
    finally:
        place.end_all()
    assert [*outcome.evidence.manual, *outcome.evidence.left] == []
    assert outcome.evidence.state == "completed"
    changes = [entry.event for entry in outcome.evidence.entries if isinstance(entry.event, CapacityChanged)]
    assert max(change.slots for change in changes) == 4
    # At most two at a time.  On a busy machine an idle node may be removed, and another one added.
    assert len(nodes.others()) >= 2
    assert left_on(nodes) == []
    deadline = time.monotonic() + PATIENCE
    while any(nodes.others()):
        assert time.monotonic() < deadline, "unused nodes are not removed"
        time.sleep(0.2)
