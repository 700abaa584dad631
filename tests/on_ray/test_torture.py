"""Real searches on a real cluster of which parts die: nothing is lost, nothing is left."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.clusters import Nodes, ray_cluster
from tests.torture.clusters import ClusterPlace, after, left_on, on_cluster
from tests.torture.experiment import Outcome, Run, torture
from tests.torture.oracle import Evidence, judge
from tests.torture.scenarios import Scenario
from tests.torture.schedule import Blow, Victim

pytestmark = pytest.mark.timeout(300)

WIDE = Scenario(
    "adaptive, on a cluster",
    {"name": "adaptive_asha", "max_trials": 30},
    workers=6,
    checkpoint_period=2,
    step_seconds=0.05,
)
NARROW = Scenario("adaptive, one worker on a cluster", {"name": "adaptive_asha", "max_trials": 6}, checkpoint_period=3)


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
        place.settle()
        place.end_all()


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    """The wide one undisturbed, on the local backend."""
    return undisturbed(WIDE, tmp_path_factory.mktemp("wide") / "local")


@pytest.mark.parametrize("shared", [False, True], ids=["no shared storage", "shared directory"])
def test_whatever_dies_nothing_is_lost_and_nothing_left(
    tmp_path: Path, nodes: Nodes, local: Evidence, shared: bool
) -> None:
    blows = [
        after(20, Victim.NOBODY),
        after(50, Victim.NODE),
        after(80, Victim.ACTOR),
        after(110, Victim.WORKER),
        after(140, Victim.DRIVER, haste=True),
        after(15, Victim.ACTOR),
        after(25, Victim.INTERRUPTED),
    ]
    outcome = tortured(WIDE, tmp_path / "tortured", nodes, *blows, shared=shared)
    complaints = judge(outcome.evidence, local, ordered=False).complaints
    assert [*complaints, *on_cluster(outcome.evidence, outcome.dealt)] == [], outcome.dealt
    assert len(outcome.dealt) == len(blows)
    assert left_on(nodes) == []


def test_a_search_takes_the_way_that_it_takes_on_one_machine(tmp_path: Path, nodes: Nodes) -> None:
    local = undisturbed(NARROW, tmp_path / "local")
    outcome = tortured(NARROW, tmp_path / "cluster", nodes)
    assert judge(outcome.evidence, local, ordered=True).complaints == []


def test_what_a_worker_saved_when_its_driver_died_is_taken_over(tmp_path: Path, nodes: Nodes) -> None:
    slow = replace(NARROW, checkpoint_period=None, step_seconds=0.1)
    local = undisturbed(NARROW, tmp_path / "local")
    outcome = tortured(slow, tmp_path / "cluster", nodes, after(12, Victim.DRIVER), after(8, Victim.DRIVER, haste=True))
    judged = judge(outcome.evidence, local, ordered=True)
    assert judged.complaints == [], outcome.dealt
    # Only the workers themselves saved, and no driver was there to hear of it.
    assert judged.repeated == 0
    assert left_on(nodes) == []
