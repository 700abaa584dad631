"""The backend contract for the Ray backend, on a real cluster."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ashwood.backends.port import Abort, Backend, Command, ContinueAttempt, Suspend
from ashwood.backends.ray.backend import RayBackend, _lost_with_node
from ashwood.backends.ray.cluster import Cluster, connected
from ashwood.experiment.events import (
    AttemptEnded,
    AttemptFailed,
    AttemptPreempted,
    CheckpointSaved,
    ValidationReported,
)
from ashwood.experiment.spec import Entrypoint, EntrypointKind, ExperimentSpec, RayCluster
from ashwood.testing.backend import PATIENCE, BackendContract, drive, events_of, finish, job, toy_spec
from ashwood.testing.process_backend import ProcessBackendContract
from tests.clusters import Nodes

pytestmark = pytest.mark.timeout(300)

_keys = map("test-{}".format, itertools.count())


@pytest.fixture(scope="module")
def cluster(nodes: Nodes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with connected(RayCluster(nodes.address, ship_code=False), toy_spec(tmp_path_factory.mktemp("work"))) as cluster:
        yield cluster


def workers(spec: ExperimentSpec, cluster: Cluster, directory: Path, *, shared: bool, number: int = 2) -> Backend:
    backend = RayBackend(
        spec,
        cluster,
        key=next(_keys),
        checkpoints=directory / "checkpoints",
        shared=shared,
        logs=directory / "logs",
        workers=number,
    )
    backend.expect(number)
    wait_for_slots(backend, number)
    return backend


def wait_for_slots(backend: Backend, number: int) -> None:
    deadline = time.monotonic() + 4 * PATIENCE  # Ray starts a process for each, which takes long on a busy machine.
    while backend.slots < number:
        assert time.monotonic() < deadline, "the workers do not connect"
        backend.next_events(timeout=1.0)


def lent(backend: Backend, place: Path, directory: Path) -> Iterator[Backend]:
    """Lend a backend to a test, and abort its attempts afterwards, so that tests can share workers."""
    (directory / "checkpoints").symlink_to(place / "checkpoints")
    yield backend
    assert isinstance(backend, RayBackend)
    backend.dispatch([Abort(*attempt) for attempt in backend._live])
    deadline = time.monotonic() + PATIENCE
    while backend._live:
        assert time.monotonic() < deadline, f"these attempts do not end: {list(backend._live)}"
        backend.next_events(timeout=1.0)


@pytest.fixture(scope="class")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("place")


@pytest.fixture(scope="class")
def two(cluster: Cluster, place: Path) -> Iterator[Backend]:
    with closing(workers(toy_spec(place), cluster, place, shared=False)) as backend:
        yield backend


@pytest.fixture(scope="class")
def two_that_share(cluster: Cluster, place: Path) -> Iterator[Backend]:
    with closing(workers(toy_spec(place), cluster, place, shared=True)) as backend:
        yield backend


@pytest.fixture(scope="class")
def team(cluster: Cluster, place: Path) -> Iterator[Backend]:
    (place / "teamwork.py").write_text(TEAMWORK)
    entrypoint = Entrypoint(EntrypointKind.FUNCTION, "teamwork:train")
    spec = toy_spec(place, entrypoint=entrypoint, slots_per_trial=4, data={"out": str(place)})
    with closing(workers(spec, cluster, place, shared=False, number=1)) as backend:
        yield backend


class TestOnASharedFileSystem:
    @pytest.fixture
    def backend(self, two_that_share: Backend, place: Path, tmp_path: Path) -> Iterator[Backend]:
        yield from lent(two_that_share, place, tmp_path)

    # Only the handling of checkpoints is different there.
    test_later_attempt_starts_from_checkpoint = BackendContract.test_later_attempt_starts_from_checkpoint
    test_suspended_attempt_saves_and_ends = BackendContract.test_suspended_attempt_saves_and_ends
    test_checkpoint_is_complete_when_it_is_reported = (
        ProcessBackendContract.test_checkpoint_is_complete_when_it_is_reported
    )


class TestCoreOfTheContract:
    """The part that also runs without the slow tests: start, report, continue, suspend, resume, abort, fail."""

    @pytest.fixture
    def backend(self, two: Backend, place: Path, tmp_path: Path) -> Iterator[Backend]:
        yield from lent(two, place, tmp_path)

    test_attempt_reports_up_to_its_target_saves_and_ends = (
        BackendContract.test_attempt_reports_up_to_its_target_saves_and_ends
    )
    test_new_target_continues_the_same_attempt = BackendContract.test_new_target_continues_the_same_attempt
    test_two_trials_run_in_two_slots = BackendContract.test_two_trials_run_in_two_slots
    test_suspended_attempt_saves_and_ends = BackendContract.test_suspended_attempt_saves_and_ends
    test_later_attempt_starts_from_checkpoint = BackendContract.test_later_attempt_starts_from_checkpoint
    test_aborted_attempt_ends_before_its_target = BackendContract.test_aborted_attempt_ends_before_its_target
    test_crash_ends_its_attempt_only = ProcessBackendContract.test_crash_ends_its_attempt_only
    test_invalid_hyperparameters_and_stop = ProcessBackendContract.test_invalid_hyperparameters_and_stop

    @pytest.mark.slow
    def test_large_checkpoint_is_sent_to_driver_and_back(self, cluster: Cluster, tmp_path: Path) -> None:
        (tmp_path / "large.py").write_text(LARGE)
        spec = toy_spec(tmp_path, entrypoint=Entrypoint(EntrypointKind.FUNCTION, "large:train"))
        backend = workers(spec, cluster, tmp_path, shared=False)
        try:
            *_, saved, _ = drive(backend, [job()])
            assert isinstance(saved, CheckpointSaved)
            again = drive(backend, [job(target=2, attempt=2, length=1, checkpoint=saved.path)])
        finally:
            backend.close()
        assert AttemptEnded(0, 2, 2) in again
        assert (tmp_path / "checkpoints" / saved.path / "a" / "weights").stat().st_size == 20_000_000


@pytest.mark.slow
class TestWithoutOne(ProcessBackendContract):
    NEED_THEIR_OWN = (
        "test_attempts_end_exactly_once_under_random_kills",
        "test_close_may_be_repeated",
        "test_close_ends_attempts_and_their_children",
    )
    """Tests that close the backend, or need workers that have just started."""

    @pytest.fixture(autouse=True)
    def _on(self, cluster: Cluster) -> None:
        self.cluster = cluster

    @pytest.fixture
    def backend(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
        if request.node.originalname in self.NEED_THEIR_OWN:
            with closing(self.make(toy_spec(tmp_path), tmp_path)) as backend:
                yield backend
        else:
            yield from lent(request.getfixturevalue("two"), request.getfixturevalue("place"), tmp_path)

    def make(self, spec: ExperimentSpec, directory: Path) -> Backend:
        return workers(spec, self.cluster, directory, shared=False)


LARGE = """
def save(directory):
    (directory / "a").mkdir()
    (directory / "a" / "weights").write_bytes(bytes(range(200)) * 100_000)

def train(trial):
    if trial.checkpoint:
        assert (trial.checkpoint / "a" / "weights").read_bytes() == bytes(range(200)) * 100_000
    for epoch in trial.epochs():
        trial.report(loss=1.0, checkpoint=save)
"""

TEAMWORK = '''
import os, socket, time
from pathlib import Path

def meet(trial):
    """Sum a number over all processes, at the rendezvous."""
    host, port = trial.rendezvous.split(":")
    if trial.rank == 0:
        with socket.create_server((host, int(port))) as server:
            peers = [server.accept()[0] for _ in range(trial.world_size - 1)]
    else:
        while True:
            try:
                peers = [socket.create_connection((host, int(port)))]
                break
            except ConnectionRefusedError:
                time.sleep(0.01)
    def add(number):
        if trial.rank == 0:
            total = number + sum(int(peer.recv(64)) for peer in peers)
            for peer in peers:
                peer.sendall(str(total).encode())
            return total
        peers[0].sendall(str(number).encode())
        return int(peers[0].recv(64) or b"-1")
    return add

def train(trial):
    out = Path(trial.data["out"])
    names = ("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE")
    (out / f"rank-{trial.rank}").write_text(" ".join([trial.rendezvous, *(os.environ[name] for name in names)]))
    add = meet(trial)
    start = int((trial.checkpoint / "total").read_text()) if trial.checkpoint else 0
    for epoch in trial.epochs():
        total = add(trial.rank + 1)
        if trial.hparams.get("fails") == trial.rank and epoch == 1:
            raise ValueError("this rank fails")
        if trial.rank == 0:
            start += total
            trial.report(loss=float(start), checkpoint=lambda d: (d / "total").write_text(str(start)))
    (out / f"left-{trial.rank}-{trial.attempt}").touch()
'''


class TestOverSeveralNodes:
    """Trials that take more slots than a node has, and are trained by several processes together."""

    @pytest.fixture
    def backend(self, team: Backend, place: Path, tmp_path: Path) -> Iterator[Backend]:
        yield from lent(team, place, tmp_path)

    def test_processes_train_together_and_resume_from_checkpoint_of_rank_0(self, backend: Backend, place: Path) -> None:
        def answer(report: ValidationReported) -> Command:
            return ContinueAttempt(report.trial, report.attempt, 3) if report.length == 2 else finish(report)

        events = drive(backend, [job(target=2)], answer)
        losses = [event.metrics["loss"] for event in events if isinstance(event, ValidationReported)]
        assert losses == [3.0, 6.0, 9.0]
        assert events[-1] == AttemptEnded(0, 1, 3)
        assert (place / "left-0-1").exists()
        assert (place / "left-1-1").exists()
        seen = [(place / f"rank-{rank}").read_text().split() for rank in (0, 1)]
        assert [(rank, size) for *_, rank, size in seen] == [("0", "2"), ("1", "2")]
        assert {(meeting, f"{host}:{port}") for meeting, host, port, *_ in seen} == {(seen[0][0], seen[0][0])}

        again = drive(backend, [job(target=4, attempt=2, length=3, checkpoint="trial-0/length-3-attempt-1")])
        assert [event.metrics["loss"] for event in again if isinstance(event, ValidationReported)] == [12.0]

    def test_suspended_trial_saves_and_frees_its_worker(self, backend: Backend) -> None:
        start = job(target=1_000_000)
        *_, saved, ended = drive(backend, [start], on_the_way=lambda report: Suspend(0, 1))
        assert isinstance(saved, CheckpointSaved)
        assert ended == AttemptEnded(0, 1, saved.length)
        assert AttemptEnded(1, 1, 1) in drive(backend, [job(trial=1)])

    @pytest.mark.parametrize("rank", [0, 1])
    def test_attempt_fails_if_any_rank_fails(self, backend: Backend, rank: int) -> None:
        *_, failed = drive(backend, [job(target=5, hparams={"fails": rank})])
        assert isinstance(failed, AttemptFailed)
        assert "ValueError: this rank fails" in failed.error
        assert AttemptEnded(1, 1, 1) in drive(backend, [job(trial=1)])

    @pytest.mark.slow
    def test_attempt_is_preempted_if_rank_1_is_lost(self, backend: Backend) -> None:
        backend.dispatch([job(target=1_000_000)])
        lost = False
        for event in events_of(backend):
            if isinstance(event, ValidationReported) and not lost:
                lost = True
                kill_actor_of(backend, rank=1)
            if isinstance(event, AttemptPreempted):
                break
        assert isinstance(event, AttemptPreempted)
        assert "was lost" in event.why
        wait_for_slots(backend, 1)
        assert AttemptEnded(1, 1, 1) in drive(backend, [job(trial=1)])


def kill_actor_of(backend: Backend, rank: int) -> None:
    assert isinstance(backend, RayBackend)
    (worker,) = backend._fleet.ready.values()
    about = worker.processes[rank].about
    assert about is not None
    os.kill(about.pid, signal.SIGKILL)


def test_actor_on_dead_node_does_not_count_as_failed_start() -> None:
    import ray

    died = "The actor died because its node has died. Node Id: 7c92"
    assert _lost_with_node(ray.exceptions.ActorDiedError(None)) is False
    assert _lost_with_node(ray.exceptions.RayActorError(error_msg=died))
    assert not _lost_with_node(None)
