"""Recovery of checkpoints and reports that were saved before a process or its driver died."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import wait
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from ashwood.checkpoints import MANIFEST, ONCE, CheckpointInfo, Storage, Stored, open_storage
from ashwood.checkpoints.remote import RemoteStorage
from ashwood.engine import Home, Session, loop, open_home, session, worker_hosts
from ashwood.engine.control import ask
from ashwood.engine.loop import Engine
from ashwood.engine.recovery import Recovery, delete_unneeded, owner, set_aside_foreign, unrecorded
from ashwood.engine.removal import remove_experiment
from ashwood.errors import CheckpointError, RequestRefused, StorageUnreachable
from ashwood.eventlog.lease import Lease
from ashwood.experiment.entry import Entry
from ashwood.experiment.events import (
    AttemptEnded,
    AttemptFailed,
    AttemptPreempted,
    AttemptStarted,
    CheckpointDamaged,
    CheckpointSaved,
    DriverStarted,
    DriverStopped,
    Event,
    PauseRequested,
    SettingsChanged,
    TrialKillRequested,
    ValidationReported,
)
from ashwood.experiment.experiment import Experiment
from ashwood.experiment.lifecycle import ExperimentState, TrialState
from ashwood.experiment.spec import CheckpointPolicy, ExperimentSpec
from ashwood.testing.backend import PATIENCE

from .instant_backend import InstantBackend, Quiet
from .test_loop import SPEC, new_log, objective
from .test_session import Closing


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return open_storage(tmp_path)


@pytest.fixture
def experiment() -> Experiment:
    """An experiment whose only trial trains to length 1; its driver is about to die."""
    experiment = Experiment(SPEC)
    experiment.handle(DriverStarted(1))
    experiment.handle(AttemptStarted(0, 1, 0, 0))
    return experiment


def save(storage: Storage, name: str, **metrics: float) -> None:
    storage.save(name, lambda directory: (directory / "model").write_text("weights"), lambda: CheckpointInfo(metrics))


def recovered(experiment: Experiment, storage: Storage) -> list[Event]:
    events = []
    for event in unrecorded(experiment, storage, experiment.unsettled()):
        experiment.handle(event)
        events.append(event)
    return events


def test_lost_report_is_recovered_with_its_checkpoint(experiment: Experiment, storage: Storage) -> None:
    save(storage, "trial-0/length-1-attempt-1", loss=0.5)
    assert recovered(experiment, storage) == [
        ValidationReported(0, 1, 1, {"loss": 0.5}),
        CheckpointSaved(0, 1, 1, "trial-0/length-1-attempt-1", {"loss": 0.5}, 7),
    ]
    assert experiment.trials[0].state is TrialState.PAUSED
    assert experiment.trials[0].checkpoint == "trial-0/length-1-attempt-1"
    assert recovered(experiment, storage) == []


def test_recorded_report_is_not_recovered_again(experiment: Experiment, storage: Storage) -> None:
    experiment.handle(ValidationReported(0, 1, 1, {"loss": 0.5}))
    save(storage, "trial-0/length-1-attempt-1", loss=0.5)
    assert recovered(experiment, storage) == [CheckpointSaved(0, 1, 1, "trial-0/length-1-attempt-1", {"loss": 0.5}, 7)]


def mine(state: Experiment, **changes: Any) -> CheckpointInfo:
    """Return the identity in the manifest of a checkpoint of the only trial."""
    return owner(state.trials[0], state)._replace(metrics={"loss": 0.5}, **changes)


def write(directory: Path) -> None:
    (directory / "model").write_text("weights")


def test_reports_since_previous_checkpoint_are_recovered(storage: Storage) -> None:
    # One trial that trains to a length of 9; its worker outlived the driver by three reports.
    experiment = Experiment(replace(SPEC, search=replace(SPEC.search, num_rungs=1)))
    for event in (DriverStarted(1), AttemptStarted(0, 1, 0, 0), ValidationReported(0, 1, 2, {"loss": 0.8})):
        experiment.handle(event)
    name = "trial-0/length-4-attempt-1"
    about = mine(experiment, reports=[(1, {"loss": 0.9}), (2, {"loss": 0.8}), (3, {"loss": 0.6})])
    storage.save(name, write, lambda: about)
    assert recovered(experiment, storage) == [
        ValidationReported(0, 1, 3, {"loss": 0.6}),
        ValidationReported(0, 1, 4, {"loss": 0.5}),
        CheckpointSaved(0, 1, 4, name, {"loss": 0.5}, 7),
    ]


@pytest.mark.parametrize("foreign", [{"experiment": "another"}, {"draw": "other hyperparameters"}])
def test_checkpoint_of_other_experiment_or_draw_is_set_aside(
    storage: Storage, tmp_path: Path, foreign: dict[str, str]
) -> None:
    experiment = Experiment(replace(SPEC, identity="this one"))
    experiment.handle(DriverStarted(1))
    experiment.handle(AttemptStarted(0, 1, 0, 0))
    name = "trial-0/length-1-attempt-1"
    storage.save(name, write, lambda: mine(experiment, **foreign))
    assert recovered(experiment, storage) == []
    with pytest.raises(CheckpointError, match="so it is not used"), storage.fetch(name, mine(experiment)):
        pass
    [(moved, place)] = set_aside_foreign(experiment, storage)
    assert moved == name
    assert (Path(place) / "model").read_text() == "weights"
    assert storage.complete() == []
    assert storage.leftovers() == []
    storage.save(name, write, lambda: mine(experiment))
    assert set_aside_foreign(experiment, storage) == []
    assert len(recovered(experiment, storage)) == 2


def test_checkpoints_newer_than_restored_log_are_set_aside(experiment: Experiment, storage: Storage) -> None:
    for name in ("trial-0/length-1-attempt-2", "trial-1/length-1-attempt-1", "trial-0/length-1-attempt-1"):
        save(storage, name, loss=0.5)
    moved = [name for name, _ in set_aside_foreign(experiment, storage)]
    assert moved == ["trial-0/length-1-attempt-2", "trial-1/length-1-attempt-1"]
    assert [stored.name for stored in storage.complete()] == ["trial-0/length-1-attempt-1"], "its manifest is unmarked"


def test_report_of_earlier_attempt_counts_for_attempt_that_has_not_begun(
    experiment: Experiment, storage: Storage
) -> None:
    experiment.handle(DriverStarted(1))
    save(storage, "trial-0/length-1-attempt-1", loss=0.5)
    assert recovered(experiment, storage) == [
        ValidationReported(0, 2, 1, {"loss": 0.5}),
        CheckpointSaved(0, 1, 1, "trial-0/length-1-attempt-1", {"loss": 0.5}, 7),
    ]
    assert experiment.trials[0].state is TrialState.PAUSED


def test_checkpoint_at_target_without_report_is_not_recovered(experiment: Experiment, storage: Storage) -> None:
    save(storage, "trial-0/length-1-attempt-1")
    assert recovered(experiment, storage) == []
    # The trial waits at a rung, and this checkpoint was saved after a promotion that the log does not know.
    experiment.handle(ValidationReported(0, 1, 1, {"loss": 0.5}))
    save(storage, "trial-0/length-9-attempt-1", loss=0.1)
    assert recovered(experiment, storage) == [CheckpointSaved(0, 1, 1, "trial-0/length-1-attempt-1", {}, 7)]


def test_checkpoint_beyond_unrecorded_decision_is_not_recovered(experiment: Experiment, storage: Storage) -> None:
    about = mine(experiment, reports=[(1, {"loss": 0.9}), (2, {"loss": 0.8})])
    storage.save("trial-0/length-3-attempt-1", write, lambda: about)
    assert recovered(experiment, storage) == []


def test_reports_past_target_without_search_metric_are_recovered(experiment: Experiment, storage: Storage) -> None:
    about = mine(experiment, reports=[(1, {"training.loss": 0.9}), (2, {"training.loss": 0.8})])
    storage.save("trial-0/length-3-attempt-1", write, lambda: about)
    assert recovered(experiment, storage)[2:] == [
        ValidationReported(0, 1, 3, {"loss": 0.5}),
        CheckpointSaved(0, 1, 3, "trial-0/length-3-attempt-1", {"loss": 0.5}, 7),
    ]
    assert experiment.trials[0].state is TrialState.PAUSED


@pytest.mark.parametrize("remote", [False, True])
@pytest.mark.parametrize("final_event", [AttemptFailed, AttemptPreempted])
def test_trial_resumes_from_checkpoint_saved_just_before_its_process_died(
    storage: Storage, final_event: type[AttemptFailed | AttemptPreempted], *, remote: bool
) -> None:
    class Dying(InstantBackend):
        """Start a backend whose first process saves at length 1 and dies before it reports that."""

        def _train(self, trial: int, target: int) -> None:
            if trial in self.live and (trial, self.live[trial].attempt) == (0, 1):
                save(storage, "trial-0/length-1-attempt-1", loss=objective(self.live[trial].hparams, 1))
                del self.live[trial]
                self._events.append(final_event(0, 1, "its machine is gone"))
            else:
                super()._train(trial, target)

    experiment, backend = Experiment(SPEC), Dying(objective)
    engine = Engine(
        experiment,
        new_log(),
        backend,
        recovery=Recovery(experiment, storage, remote=remote),
    )
    assert engine.run() is ExperimentState.COMPLETED
    if not remote:  # otherwise it may be promoted before the storage has answered
        assert experiment.trials[0].failures == 0, "its result stands"
    assert any(start.trial == 0 and start.attempt == 2 for start in backend.started)
    assert all(start.length == 1 for start in backend.started if start.trial == 0 and start.attempt == 2)


@pytest.mark.parametrize("final_event", [AttemptFailed, AttemptPreempted])
@pytest.mark.parametrize("length", [1, 9])
def test_next_driver_recovers_checkpoint_of_unreachable_storage(
    storage: Storage, final_event: type[AttemptFailed | AttemptPreempted], length: int
) -> None:
    # The trial waits at a rung, or has completed and saved its result.
    spec = replace(SPEC, search=replace(SPEC.search, num_rungs=3 if length == 1 else 1))
    experiment, name = Experiment(spec), f"trial-0/length-{length}-attempt-1"
    for event in (DriverStarted(1), AttemptStarted(0, 1, 0, 0), ValidationReported(0, 1, length, {"loss": 0.5})):
        experiment.handle(event)
    save(storage, name, loss=0.5)
    experiment.handle(final_event(0, 1, "the storage was unreachable"))
    assert experiment.trials[0].state is (TrialState.PAUSED if length == 1 else TrialState.COMPLETED)
    assert recovered(experiment, storage) == [CheckpointSaved(0, 1, length, name, {"loss": 0.5}, 7)]


def test_attempt_that_ended_or_whose_trial_failed_is_settled(experiment: Experiment) -> None:
    experiment.handle(ValidationReported(0, 1, 1, {"loss": 0.5}))
    experiment.handle(AttemptEnded(0, 1, 1))
    experiment.handle(AttemptStarted(1, 1, 0, 0))
    experiment.handle(TrialKillRequested(1))
    assert [trial.id for trial in experiment.unsettled()] == [1, 2]
    experiment.handle(AttemptFailed(1, 1, "killed on request"))
    assert [trial.id for trial in experiment.unsettled()] == [2]


def test_deleted_or_damaged_checkpoint_is_not_recovered(storage: Storage) -> None:
    experiment = Experiment(replace(SPEC, checkpoint_policy=CheckpointPolicy(0, 0, 1)))
    experiment.handle(DriverStarted(1))
    for batch in (110, 120, 130):  # several positions of a loop may have one length
        name = f"trial-0/length-1-attempt-1-batches-{batch}"
        save(storage, name)
        experiment.handle(CheckpointSaved(0, 1, 1, name))
    experiment.handle(CheckpointDamaged(0, 1, "trial-0/length-1-attempt-1-batches-130", "a file is missing"))
    # The storage still holds all of them.
    assert len(storage.complete(0)) == 3
    assert recovered(experiment, storage) == []
    assert experiment.trials[0].checkpoint is None


def test_incomplete_checkpoint_is_not_recovered(experiment: Experiment, storage: Storage, tmp_path: Path) -> None:
    save(storage, "trial-0/length-1-attempt-1", loss=0.5)
    (tmp_path / "trial-0/length-1-attempt-1" / MANIFEST).write_text("{")
    assert recovered(experiment, storage) == []


def test_unreachable_storage_raises(experiment: Experiment, storage: Storage) -> None:
    class Away:
        def complete(self, _trial: int) -> list[object]:
            raise StorageUnreachable("it is away")

    with pytest.raises(StorageUnreachable):
        list(unrecorded(experiment, Away(), experiment.unsettled()))  # type: ignore[arg-type]


class Silent:
    """Makes every listing of fsspec's memory wait until `answer` is set.

    Attributes:
        asked: set when the first listing waits.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked, self.answer = threading.Event(), threading.Event()
        find = MemoryFileSystem.find

        def wait_and_find(fs: MemoryFileSystem, *arguments: Any, **options: Any) -> Any:
            self.asked.set()
            if not self.answer.wait(PATIENCE):
                raise OSError("no answer")
            return find(fs, *arguments, **options)

        monkeypatch.setattr(MemoryFileSystem, "find", wait_and_find)
        monkeypatch.setattr(session, "Patience", lambda: ONCE)

    @property
    def waits(self) -> bool:
        """Return whether a listing waits."""
        return self.asked.is_set() and not self.answer.is_set()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home(tmp_path / "home", create=True)


REMOTE_SPEC = replace(SPEC, checkpoint_policy=CheckpointPolicy(1, 1, 1))


def test_driver_renews_lease_and_answers_requests_while_storage_does_not_answer(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    class AllFail(InstantBackend):
        """The first processes of two trials fail in one turn."""

        def next_events(self, timeout: float | None) -> Sequence[Event]:
            return [*super().next_events(timeout), *super().next_events(timeout), *super().next_events(timeout)]

    silent, beats, request = Silent(monkeypatch), list[int](), list[int]()
    experiment = home.store.create(replace(REMOTE_SPEC, checkpoint_storage=f"memory://{uuid.uuid4()}"), at=0.0)

    def beat(_lease: Lease) -> None:
        if not silent.waits:
            return
        if not request:
            request.append(home.store.post(experiment, SettingsChanged({"max_trials": 21}), at=0.0))
        beats.append(1)
        if len(beats) > 50 and home.store.answer(request[0]) is not None:
            silent.answer.set()

    monkeypatch.setattr(Lease, "beat", beat)
    monkeypatch.setattr(loop, "_HOUSEKEEPING_SECONDS", 0.0)
    backend = AllFail(objective, crash=lambda trial, attempt: trial in (0, 1) and attempt == 1)
    monkeypatch.setattr(worker_hosts, "LocalBackend", lambda _spec, **_: Closing(backend))
    assert Session(home, experiment).run(Quiet()) is ExperimentState.COMPLETED
    assert silent.answer.is_set(), f"{len(beats)} beats while the storage was silent"


def test_starting_driver_renews_lease_while_storage_hangs(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"memory://{uuid.uuid4()}"
    experiment = home.store.create(replace(REMOTE_SPEC, checkpoint_storage=url), at=0.0)
    folded = Experiment(REMOTE_SPEC)
    events: list[Event] = [DriverStarted(1), AttemptStarted(0, 1, 0, 0)]
    home.store.log(experiment).append([Entry(0.0, event, folded.handle(event)) for event in events])
    save(open_storage(url), "trial-0/length-1-attempt-1", loss=0.5)
    silent = Silent(monkeypatch)

    def beat(_lease: Lease) -> None:
        if silent.waits:
            silent.answer.set()

    monkeypatch.setattr(Lease, "beat", beat)
    backend = InstantBackend(objective)
    monkeypatch.setattr(worker_hosts, "LocalBackend", lambda _spec, **_: Closing(backend))
    assert Session(home, experiment).run(Quiet()) is ExperimentState.COMPLETED
    assert silent.answer.is_set(), "no beat while the storage was silent"
    events = [entry.event for _, entry in home.store.log(experiment).read()]
    assert CheckpointSaved(0, 1, 1, "trial-0/length-1-attempt-1", {"loss": 0.5}, 7) in events


def interrupted(home: Home, spec: ExperimentSpec) -> int:
    """An experiment whose driver died while a trial trained."""
    experiment, folded = home.store.create(spec, at=0.0), Experiment(spec)
    events: list[Event] = [DriverStarted(1), AttemptStarted(0, 1, 0, 0)]
    home.store.log(experiment).append([Entry(0.0, event, folded.handle(event)) for event in events])
    return experiment


def test_starting_driver_aborts_for_request_while_storage_does_not_answer(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = interrupted(home, replace(REMOTE_SPEC, checkpoint_storage=f"memory://{uuid.uuid4()}"))
    silent = Silent(monkeypatch)
    monkeypatch.setattr(Lease, "beat", lambda _: home.store.post(experiment, PauseRequested(), at=0.0))
    with pytest.raises(RequestRefused, match="was not started: it was asked to pause"):
        Session(home, experiment).run(Quiet())
    silent.answer.set()
    monkeypatch.undo()
    ask(home, experiment, SettingsChanged({"max_trials": 21}), wait=PATIENCE)
    assert home.store.record(experiment).state is ExperimentState.PAUSED


def test_resume_says_that_the_storage_is_still_unreachable_and_records_nothing(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError("the token has expired")

    experiment = interrupted(home, replace(REMOTE_SPEC, checkpoint_storage=f"memory://{uuid.uuid4()}"))
    log = home.store.log(experiment)
    before = list(log.read())
    monkeypatch.setattr(MemoryFileSystem, "pipe_file", refuse)
    with pytest.raises(StorageUnreachable, match="the token has expired"):
        Session(home, experiment).run(Quiet())
    assert list(log.read()) == before
    assert home.store.lease(experiment) is None


def test_resume_aborts_unfinished_uploads(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    aborted = list[str]()
    monkeypatch.setattr(RemoteStorage, "abort_uploads", lambda storage: aborted.append(storage.locate("")))
    spec = replace(REMOTE_SPEC, checkpoint_storage=f"memory://{uuid.uuid4()}")
    for experiment in (home.store.create(spec, at=0.0), interrupted(home, spec)):
        backend = InstantBackend(objective)
        monkeypatch.setattr(worker_hosts, "LocalBackend", lambda _spec, _backend=backend, **_: Closing(_backend))
        Session(home, experiment).run(Quiet())
    assert aborted == [f"{spec.checkpoint_storage}/"]


def test_deletion_renews_lease_while_storage_does_not_answer(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"memory://{uuid.uuid4()}"
    experiment = home.store.create(replace(REMOTE_SPEC, checkpoint_storage=url), at=0.0)
    save(open_storage(url), "trial-0/length-1-attempt-1")
    silent = Silent(monkeypatch)
    monkeypatch.setattr(Lease, "beat", lambda _: silent.answer.set())
    remove_experiment(home, experiment)
    assert open_storage(url).complete() == []


def test_catch_up_deletes_unneeded_checkpoints(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = replace(SPEC, checkpoint_policy=CheckpointPolicy(0, 0, 1), search=replace(SPEC.search, num_rungs=1))
    experiment, folded = home.store.create(spec, at=0.0), Experiment(spec)
    storage = home.storage(experiment, spec)
    older, newer = (f"trial-0/length-1-attempt-1-batches-{batch}" for batch in (10, 20))
    save(storage, older)
    save(storage, newer)
    events: list[Event] = [DriverStarted(1), AttemptStarted(0, 1, 0, 0), CheckpointSaved(0, 1, 1, older)]
    home.store.log(experiment).append([Entry(0.0, event, folded.handle(event)) for event in events])

    def begin(*_: Any, **__: Any) -> None:
        assert [stored.name for stored in storage.complete()] == [newer]
        raise StopTheTest

    class StopTheTest(Exception): ...

    monkeypatch.setattr(worker_hosts, "LocalBackend", begin)
    with pytest.raises(StopTheTest):
        Session(home, experiment).run(Quiet())


class Remote:
    """A storage that cannot be reached, or does not answer.

    Attributes:
        listings: how often it was asked for a listing.
    """

    def __init__(self, answer: Callable[[], list[Stored]]) -> None:
        self.listings = 0
        self._answer = answer

    def complete(self, _trial: int) -> list[Stored]:
        self.listings += 1
        return self._answer()


@pytest.fixture
def silent() -> Iterator[Remote]:
    """A storage that does not answer before the test ends."""
    answer = threading.Event()

    def wait_for_end() -> list[Stored]:
        answer.wait(PATIENCE)
        return []

    yield Remote(wait_for_end)
    answer.set()


def unreachable() -> list[Stored]:
    raise StorageUnreachable("it is away")


FAILED = [AttemptFailed(trial, 1, "no checkpoint could be saved") for trial in range(4)]


@pytest.fixture
def four_trials() -> Experiment:
    experiment = Experiment(SPEC)
    experiment.handle(DriverStarted(4))
    return experiment


def settled(recovery: Recovery) -> list[Event]:
    """Return the events of a recovery after the storage has answered; its experiment handles each of them."""
    assert recovery._answer is not None
    wait([recovery._answer])
    assert recovery.ready
    events = []
    for event in recovery.complete([]):
        recovery._experiment.handle(event)
        events.append(event)
    return events


def test_recovery_holds_back_only_end_of_died_attempt(four_trials: Experiment, storage: Storage) -> None:
    save(storage, "trial-1/length-1-attempt-1", loss=0.5)
    recovery = Recovery(four_trials, storage, remote=True)
    report = ValidationReported(2, 1, 1, {"loss": 0.1})
    assert list(recovery.complete([FAILED[1], report])) == [report]
    assert settled(recovery) == [
        ValidationReported(1, 1, 1, {"loss": 0.5}),
        CheckpointSaved(1, 1, 1, "trial-1/length-1-attempt-1", {"loss": 0.5}, 7),
        FAILED[1],
    ]
    assert not recovery.ready


def test_recovery_reads_unreachable_storage_once_a_minute(four_trials: Experiment) -> None:
    now, storage = 0.0, Remote(unreachable)
    recovery = Recovery(four_trials, storage, remote=True, clock=lambda: now)  # type: ignore[arg-type]
    assert list(recovery.complete(FAILED[:2])) == []
    assert settled(recovery) == FAILED[:2]
    now = 59.0
    assert list(recovery.complete([FAILED[2]])) == []
    assert recovery.ready
    assert list(recovery.complete([])) == [FAILED[2]]
    assert storage.listings == 1
    now = 61.0
    assert list(recovery.complete([FAILED[3]])) == []
    assert settled(recovery) == [FAILED[3]]
    assert storage.listings == 2


def test_recovery_gives_up_storage_that_does_not_answer(four_trials: Experiment, silent: Remote) -> None:
    now = 0.0
    recovery = Recovery(four_trials, silent, remote=True, clock=lambda: now)  # type: ignore[arg-type]
    assert list(recovery.complete(FAILED[:3])) == []
    now = 59.0
    assert not recovery.ready
    now = 61.0
    assert recovery.ready
    assert list(recovery.complete([])) == FAILED[:3]
    assert not recovery.ready


def test_recovery_waits_less_for_a_storage_if_the_experiment_pauses(four_trials: Experiment, silent: Remote) -> None:
    now = 0.0
    recovery = Recovery(four_trials, silent, remote=True, clock=lambda: now)  # type: ignore[arg-type]
    assert list(recovery.complete(FAILED[:3])) == []
    now = 6.0
    assert not recovery.ready
    four_trials.handle(PauseRequested())
    assert recovery.ready
    assert list(recovery.complete([])) == FAILED[:3]


def test_recovery_yields_nothing_after_the_driver_stopped(four_trials: Experiment) -> None:
    recovery = Recovery(four_trials, Remote(list), remote=True)  # type: ignore[arg-type]
    assert list(recovery.complete([FAILED[0], DriverStopped()])) == [DriverStopped()]


def test_next_driver_deletes_what_the_last_one_did_not_delete(storage: Storage) -> None:
    experiment = Experiment(replace(SPEC, checkpoint_policy=CheckpointPolicy()))
    experiment.handle(DriverStarted(1))
    names = [f"trial-0/length-{length}-attempt-1" for length in range(1, 6)]
    for length, name in enumerate(names, start=1):
        save(storage, name, loss=1 / length)
        if length < 5:  # The last one is not recorded yet.
            experiment.handle(CheckpointSaved(0, 1, length, name, {"loss": 1 / length}, 7))
        if length == 2:
            experiment.handle(CheckpointDamaged(0, 0, name, "its file system was not mounted"))
    delete_unneeded(experiment, storage)
    assert [stored.name for stored in storage.complete()] == [names[1], names[3], names[4]]
