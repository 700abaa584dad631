"""Checkpoints that stay on nodes when a driver dies, and that the next driver collects."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ashwood.backends.ray import cluster as module
from ashwood.backends.ray import node_worker
from ashwood.backends.ray.demand import NodeResources
from ashwood.checkpoints import CheckpointInfo, open_storage
from ashwood.engine import Home, Session, open_home, worker_hosts
from ashwood.engine.control import ask
from ashwood.errors import ClusterError, EventLogError
from ashwood.eventlog.sql import SqlLog
from ashwood.experiment.entry import Entry
from ashwood.experiment.events import (
    AttemptPreempted,
    AttemptStarted,
    CheckpointDamaged,
    CheckpointSaved,
    DriverStarted,
    Event,
    HparamsInvalid,
    PauseRequested,
    ValidationReported,
)
from ashwood.experiment.experiment import Experiment
from ashwood.experiment.lifecycle import ExperimentState, TrialState
from ashwood.experiment.spec import RayCluster
from tests.engine.instant_backend import InstantBackend, Quiet
from tests.engine.test_loop import SPEC, objective
from tests.engine.test_session import Closing

from .fakes import FakeCluster

SAVED = "trial-0/length-1-attempt-1"
DELETED = "trial-1/length-1-attempt-1"
INVALID = "trial-2/length-1-attempt-1"
RAY_SPEC = replace(SPEC, ray=RayCluster("127.0.0.1:1"))


class _LocalActor:
    """A `NodeFiles` in this process, with the interface of a Ray actor."""

    def __init__(self, files: node_worker.NodeFiles) -> None:
        for name in ("names", "read", "clear"):
            method = getattr(files, name)
            call = SimpleNamespace(remote=method, options=lambda method=method, **_: SimpleNamespace(remote=method))
            setattr(self, name, call)


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of a dead worker's checkpoints on the only node of a cluster."""

    def start(key: str, node_id: str) -> _LocalActor:
        return _LocalActor(node_worker.NodeFiles(key, node_id))

    @contextmanager
    def connected(*_: Any) -> Iterator[FakeCluster]:
        yield FakeCluster()

    there = tmp_path / "node"
    monkeypatch.setattr("ray.remote", lambda _: SimpleNamespace(options=lambda **_: SimpleNamespace(remote=start)))
    monkeypatch.setattr("ray.get", lambda value: value)
    monkeypatch.setattr("ray.kill", lambda _actor: None)
    monkeypatch.setattr(FakeCluster, "nodes", lambda _: [NodeResources("node", "1f" * 28, {"CPU": 4.0})])
    monkeypatch.setattr(FakeCluster, "dismiss_former", lambda *_: None, raising=False)
    monkeypatch.setattr(module, "connected", connected)
    monkeypatch.setattr(node_worker, "_home_of", lambda _key, _node: there)
    return there / "0-0-1" / "checkpoints"


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> InstantBackend:
    backend = InstantBackend(objective)
    monkeypatch.setattr(worker_hosts.RayHost, "backend", lambda *_: Closing(backend))
    return backend


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with open_home(tmp_path / "home", create=True) as opened:
        yield opened


@pytest.fixture
def interrupted(home: Home) -> int:
    """An experiment whose driver died: trial 0 is paused, and its worker was lost before it sent its checkpoint.

    The checkpoint of trial 1 is damaged, and trial 2 has ended.
    """
    experiment = home.store.create(RAY_SPEC, at=0.0)
    folded = Experiment(RAY_SPEC)
    events: list[Event] = [
        DriverStarted(3),
        *(AttemptStarted(trial, 1, 0, 0) for trial in range(3)),
        ValidationReported(0, 1, 1, {"loss": 0.5}),
        AttemptPreempted(0, 1, "its worker was lost"),
        CheckpointSaved(1, 1, 1, DELETED),
        CheckpointDamaged(1, 1, DELETED, "a file is missing"),
        HparamsInvalid(2, 1, "it does not fit"),
    ]
    home.store.log(experiment).append([Entry(0.0, event, folded.handle(event)) for event in events])
    assert folded.trials[0].state is TrialState.PAUSED
    assert folded.trials[2].state is TrialState.INVALID
    return experiment


def test_key_of_experiment_does_not_depend_on_path_of_home(home: Home, tmp_path: Path) -> None:
    experiment = home.create(RAY_SPEC, at=0.0)
    (tmp_path / "link").symlink_to(home.path)
    with open_home(tmp_path / "link") as same, open_home(tmp_path / "other", create=True) as other:
        other.create(RAY_SPEC, at=0.0, identity=home.store.spec(experiment).identity)
        keys = [worker_hosts.RayHost(each, experiment, RAY_SPEC, FakeCluster())._key for each in (home, same, other)]
    assert keys[0] == keys[1] != keys[2]


def test_driver_cleans_nodes_when_experiment_has_ended(
    home: Home, interrupted: int, node: Path, backend: InstantBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    cleaned: list[str] = []
    monkeypatch.setattr(FakeCluster, "clean", lambda _, key: cleaned.append(key))
    assert Session(home, interrupted).run(Quiet()) is ExperimentState.COMPLETED
    assert cleaned == [worker_hosts.RayHost(home, interrupted, RAY_SPEC, FakeCluster())._key]


def test_resume_without_nodes_raises_before_any_wait(
    home: Home, interrupted: int, monkeypatch: pytest.MonkeyPatch, node: Path, backend: InstantBackend
) -> None:
    monkeypatch.setattr(FakeCluster, "answering", lambda _: [])
    monkeypatch.setattr(FakeCluster, "dismiss_former", lambda *_: pytest.fail("it waited"), raising=False)
    with pytest.raises(ClusterError, match=r"the cluster has no nodes.* that do not answer: 1, for example node"):
        Session(home, interrupted).run(Quiet())


def leave_on(node: Path, *names: str) -> None:
    for name in names:
        open_storage(node).save(
            name, lambda directory: (directory / "model").write_text("weights"), lambda: CheckpointInfo({"loss": 0.5})
        )


def saved(home: Home, experiment: int) -> list[CheckpointSaved]:
    """Checkpoints that were recorded before the second driver started trials."""
    events = [entry.event for _, entry in home.store.log(experiment).read()]
    starts = [at for at, event in enumerate(events) if isinstance(event, DriverStarted)]
    return [event for event in itertools.islice(events, starts[1]) if isinstance(event, CheckpointSaved)]


@pytest.mark.parametrize("request_", [None, PauseRequested()], ids=["interrupted", "paused"])
def test_catch_up_records_collected_checkpoint_of_paused_trial(
    home: Home, interrupted: int, node: Path, backend: InstantBackend, request_: PauseRequested | None
) -> None:
    leave_on(node, SAVED)
    if request_ is not None:
        ask(home, interrupted, request_)  # no driver lives, so the experiment is paused at once
        assert home.store.record(interrupted).state is ExperimentState.PAUSED
    assert Session(home, interrupted).run(Quiet()) is ExperimentState.COMPLETED
    assert saved(home, interrupted)[1:] == [CheckpointSaved(0, 1, 1, SAVED, {"loss": 0.5}, 7)]
    (second,) = [start for start in backend.started if start.trial == 0 and start.attempt == 2]
    assert second.length == 1
    assert not node.exists()


def test_driver_collects_no_deleted_checkpoints_or_those_of_ended_trials(
    home: Home, interrupted: int, node: Path, backend: InstantBackend
) -> None:
    leave_on(node, SAVED, DELETED, INVALID)
    received: list[str] = []
    receive: Callable[..., None] = module.receive

    def note(storage: Any, name: str, chunks: Any) -> None:
        received.append(name)
        receive(storage, name, chunks)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "receive", note)
        Session(home, interrupted).run(Quiet())
    assert received == [SAVED]
    assert not node.exists()


def test_collected_checkpoint_stays_on_its_node_until_it_is_recorded(
    home: Home, interrupted: int, node: Path, backend: InstantBackend
) -> None:
    def fail(*_: Any, **__: Any) -> int:
        raise EventLogError("the driver dies here")

    leave_on(node, SAVED)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SqlLog, "append", fail)
        with pytest.raises(EventLogError, match="dies here"):
            Session(home, interrupted).run(Quiet())
    assert node.exists()
    assert Session(home, interrupted).run(Quiet()) is ExperimentState.COMPLETED
    assert saved(home, interrupted)[1:] == [CheckpointSaved(0, 1, 1, SAVED, {"loss": 0.5}, 7)]
