"""Real searches on a real cluster of which parts die: nothing is lost, nothing is left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clusters import Nodes, ray_cluster
from tests.torture.clusters import ClusterPlace, after, left_on, on_cluster
from tests.torture.experiment import Outcome, Run, torture
from tests.torture.oracle import Evidence, judge
from tests.torture.scenarios import Scenario
from tests.torture.schedule import Blow, Victim

pytestmark = pytest.mark.timeout(300)

SEARCH = {"name": "adaptive_asha", "max_trials": 30}
WIDE = Scenario("adaptive, on a cluster", SEARCH, workers=6, checkpoint_period=2, step_seconds=0.02)
NARROW = Scenario("adaptive, one worker on a cluster", {**SEARCH, "max_trials": 6}, checkpoint_period=3)


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    import ray

    from ashwood.backends.ray.cluster import _hush

    with ray_cluster(2, 2, 2) as nodes:
        ray.init(address=nodes.address, log_to_driver=False, logging_level="ERROR")
        _hush()
        yield nodes
        ray.shutdown()


def undisturbed(scenario: Scenario, directory: Path) -> Evidence:
    """The same experiment on the local backend."""
    directory.mkdir()
    return torture(scenario, directory, 0, iter(())).evidence


def tortured(scenario: Scenario, directory: Path, nodes: Nodes, *blows: Blow, shared: bool = False) -> Outcome:
    directory.mkdir()
    place = ClusterPlace(directory, nodes, shared=shared)
    try:
        return Run(scenario, place, 0, iter(blows)).to_the_end()
    finally:
        place.end_all()


@pytest.mark.parametrize("shared", [False, True], ids=["no shared storage", "shared directory"])
def test_whatever_dies_nothing_is_lost_and_nothing_left(tmp_path: Path, nodes: Nodes, shared: bool) -> None:
    blows = [
        after(20, Victim.NOBODY),
        after(50, Victim.NODE),
        after(90, Victim.ACTOR),
        after(120, Victim.WORKER),
        after(140, Victim.DRIVER, haste=True),
        after(20, Victim.ACTOR),
        after(40, Victim.INTERRUPTED),
    ]
    outcome = tortured(WIDE, tmp_path / "tortured", nodes, *blows, shared=shared)
    evidence = outcome.evidence
    complaints = judge(evidence, undisturbed(WIDE, tmp_path / "local"), ordered=False).complaints
    assert [*complaints, *on_cluster(evidence, outcome.dealt)] == [], outcome.dealt
    assert len(outcome.dealt) == len(blows)
    assert left_on(nodes) == []
