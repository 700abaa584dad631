"""Real searches on a real cluster whose processes and nodes are killed: no result is lost, and no file is left."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest

from ashwood.backends.ray.cluster import connected
from ashwood.backends.ray.node_worker import _home_of
from ashwood.engine import open_home
from ashwood.experiment.events import AttemptPreempted, AttemptStarted, CapacityChanged
from ashwood.experiment.spec import RayCluster
from ashwood.testing.backend import PATIENCE, toy_spec
from tests.clusters import Nodes
from tests.s3 import S3, serve_s3
from tests.torture.clusters import ClusterPlace, after, folders_of, left_on, on_cluster
from tests.torture.driver import IDLE
from tests.torture.experiment import Outcome, Run, torture
from tests.torture.oracle import Evidence, judge
from tests.torture.scenarios import Scenario
from tests.torture.schedule import Blow, Victim
from tests.torture.sessions import Session

pytestmark = pytest.mark.timeout(300)

WIDE = Scenario(
    "adaptive, on a cluster",
    {"name": "adaptive_asha", "max_trials": 30},
    workers=6,
    checkpoint_period=2,
    step_seconds=0.05,
)
NARROW = Scenario("adaptive, one worker on a cluster", {"name": "adaptive_asha", "max_trials": 6}, checkpoint_period=3)


def undisturbed(scenario: Scenario, directory: Path) -> Evidence:
    """Run the experiment on the local backend without failures."""
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


@pytest.fixture
def s3() -> Iterator[S3]:
    with serve_s3() as server:
        yield server


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    """Evidence of the experiment NARROW on the local backend, without failures."""
    return undisturbed(NARROW, tmp_path_factory.mktemp("narrow") / "local")


@pytest.mark.slow
def test_search_decides_as_on_one_machine(tmp_path: Path, nodes: Nodes, local: Evidence) -> None:
    outcome = tortured(NARROW, tmp_path / "cluster", nodes)
    assert judge(outcome.evidence, local, ordered=True).complaints == []


def test_checkpoint_saved_after_driver_died_is_collected(tmp_path: Path, nodes: Nodes, local: Evidence) -> None:
    slow = replace(NARROW, checkpoint_period=None, step_seconds=0.05)
    outcome = tortured(slow, tmp_path / "cluster", nodes, after(12, Victim.DRIVER, haste=True))
    judged = judge(outcome.evidence, local, ordered=True)
    assert judged.complaints == [], outcome.dealt
    # Only the workers themselves saved, after the driver had died.
    assert judged.repeated == 0
    assert left_on(nodes) == []


@pytest.mark.slow
def test_search_uses_fewer_workers_and_more_again(tmp_path: Path, nodes: Nodes) -> None:
    endless = replace(
        WIDE,
        searcher={"name": "random", "max_trials": 40, "max_length": 100, "max_concurrent_trials": 4},
        step_seconds=0.05,
    )
    place = ClusterPlace(tmp_path, nodes, shared=False)
    run = Run(endless, place, 0, iter(()))

    def set_workers(number: int) -> None:
        subprocess.run(
            [
                *(sys.executable, "-m", "tests.torture.driver"),
                *("set", "1", f"max_concurrent_trials={number}", "--home", place.home),
            ],
            env=place.environment(),
            check=True,
            capture_output=True,
        )

    def has_slots(session: Session, number: int) -> bool:
        changes = [each["event"]["slots"] for each in session.acknowledged if each["event"]["is"] == "CapacityChanged"]
        return changes[-1:] == [number]

    try:
        with place.session(*run.arguments(None), more={IDLE: "0.5"}) as session:
            for number in (4, 1, 3):
                if number != 4:
                    set_workers(number)
                session.hear_until(partial(has_slots, session, number))
            session.interrupt()
            session.hear()
            assert session.returncode == 3, session.errors
        assert place.wait_until_empty(PATIENCE) == []
        assert left_on(nodes) == []
    finally:
        place.end_all()


def driven(place: ClusterPlace, scenario: Scenario = NARROW) -> str:
    """Return the error output of a driver that cannot run the experiment."""
    run = Run(scenario, place, 0, iter(()))
    with place.session(*run.arguments(None)) as session:
        session.hear()
        assert session.returncode not in (0, None)
        assert place.wait_until_empty(PATIENCE) == []
        assert left_on(place.nodes) == []
        return session.errors


def test_error_for_trial_that_fits_on_no_node_names_largest_node(tmp_path: Path, nodes: Nodes) -> None:
    place = ClusterPlace(tmp_path, nodes, shared=False)
    place.more["resources"] = {"cpus_per_trial": 64}
    errors = driven(place)
    assert "64 CPU" in errors
    assert "has 2 CPU" in errors


@pytest.mark.slow
def test_import_error_on_node_ends_driver_with_name_of_node(tmp_path: Path, nodes: Nodes) -> None:
    place = ClusterPlace(tmp_path, nodes, shared=False)
    place.more["entrypoint"] = "nowhere_to_be_found:train"
    errors = driven(place)
    assert "nowhere_to_be_found" in errors
    assert "node 127.0.0.1" in errors


def test_error_for_address_without_cluster(tmp_path: Path, nodes: Nodes) -> None:
    place = ClusterPlace(tmp_path, nodes, shared=False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    place.more["backend"]["address"] = f"127.0.0.1:{port}"
    assert f"no Ray cluster answers at 127.0.0.1:{port}" in driven(place)


@pytest.mark.slow
def test_checkpoints_are_saved_to_bucket(tmp_path: Path, nodes: Nodes, s3: S3) -> None:
    place = ClusterPlace(tmp_path, nodes, shared=False)
    place.more["checkpoint_storage"] = s3.new_place()
    place.more["backend"]["runtime_env"] = {"env_vars": s3.environment}
    outcome = Run(replace(NARROW, workers=2), place, 0, iter([after(20, Victim.ACTOR)])).to_the_end()
    assert [*outcome.evidence.manual, *outcome.evidence.left] == []
    assert outcome.evidence.state == "completed"
    with open_home(place.home) as home:
        storage = home.storage(1, home.store.spec(1))
        assert {each.length for each in storage.complete()} >= {16}
    assert left_on(nodes) == []


FIRST = [
    after(20, Victim.NOBODY),
    after(50, Victim.ACTOR),
    after(80, Victim.WORKER),
    after(110, Victim.DRIVER, haste=True),
]
LAST = after(12, Victim.NODE)
"""The node is killed last: a driver that starts after it would wait until Ray notices that the node is dead."""


@pytest.mark.parametrize(
    ("shared", "between"),
    [
        pytest.param(False, [], id="no shared storage", marks=pytest.mark.slow),
        pytest.param(
            True,
            [after(15, Victim.ACTOR), after(25, Victim.INTERRUPTED)],
            id="shared directory",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_kills_lose_no_result_and_leave_no_files(
    tmp_path: Path, nodes: Nodes, shared: bool, between: list[Blow]
) -> None:
    local = undisturbed(WIDE, tmp_path / "local")
    blows = [*FIRST, *between, LAST]
    outcome = tortured(WIDE, tmp_path / "tortured", nodes, *blows, shared=shared)
    complaints = judge(outcome.evidence, local, ordered=False).complaints
    assert [*complaints, *on_cluster(outcome.evidence, outcome.dealt)] == [], outcome.dealt
    assert len(outcome.dealt) == len(blows)
    events = [entry.event for entry in outcome.evidence.entries]
    assert any("was lost" in event.why for event in events if isinstance(event, CapacityChanged))
    # Some blows may hit idle workers, and preempt nothing.
    assert sum(isinstance(event, AttemptPreempted) for event in events) >= len(between)
    assert nodes.names[-1] in {event.node for event in events if isinstance(event, AttemptStarted)}
    assert left_on(nodes) == []
    assert folders_of(tmp_path / "tortured" / "home") == []


def test_clean_deletes_files_of_experiment_on_all_nodes(
    tmp_path: Path, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a busy machine, the actors that delete the files need longer to start than `clean` waits for them.
    monkeypatch.setattr("ashwood.backends.ray.cluster._CLEAN_SECONDS", 100.0)
    key = f"ashwood-{uuid4().hex}"
    ids = [node.node_id for node in nodes.there]
    for node_id in (*ids, "of a node that is gone"):
        Path(_home_of(key, node_id), "0-0-dead", "logs").mkdir(parents=True)
    with connected(RayCluster(nodes.address, ship_code=False), toy_spec(tmp_path)) as cluster:
        cluster.clean(key)
    assert not _home_of(key, ids[0]).parent.exists()


def test_dead_node_is_silent_while_ray_lists_it_as_alive(tmp_path: Path, nodes: Nodes) -> None:
    with connected(RayCluster(nodes.address, ship_code=False), toy_spec(tmp_path)) as cluster:
        node = nodes.add(num_cpus=1)
        assert not cluster.is_silent(node.node_id)
        # Killed directly, because `nodes.kill` would tell Ray.
        raylet = node.all_processes["raylet"][0].process
        raylet.kill()
        raylet.wait()
        assert cluster.is_silent(node.node_id)
        assert node.node_id in {each.id for each in cluster.nodes()}
        assert {each.id for each in cluster.answering()} == {each.id for each in cluster.nodes()} - {node.node_id}
        nodes.kill(node)
        assert not cluster.is_silent("a node that never was")
