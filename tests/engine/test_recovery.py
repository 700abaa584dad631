"""What processes did before anybody could record it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ashwood.engine.loop import Engine
from ashwood.engine.recovery import unrecorded, unrecorded_of
from ashwood.errors import StorageUnreachable
from ashwood.experiment.events import (
    AttemptFailed,
    AttemptPreempted,
    AttemptStarted,
    CheckpointDamaged,
    CheckpointSaved,
    DriverStarted,
    Event,
    ValidationReported,
)
from ashwood.experiment.experiment import Experiment
from ashwood.experiment.lifecycle import ExperimentState, TrialState
from ashwood.experiment.spec import CheckpointPolicy
from ashwood.trial.storage import MANIFEST, Storage, open_storage

from .instant_backend import InstantBackend
from .test_loop import SPEC, new_log, objective


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return open_storage(tmp_path)


@pytest.fixture
def experiment() -> Experiment:
    """One whose only trial trains to a length of 1; its driver is about to die."""
    experiment = Experiment(SPEC)
    experiment.handle(DriverStarted(1))
    experiment.handle(AttemptStarted(0, 1, 0, 0))
    return experiment


def save(storage: Storage, name: str, **metrics: float) -> None:
    storage.save(name, lambda directory: (directory / "model").write_text("weights"), metrics)


def recovered(experiment: Experiment, storage: Storage) -> list[Event]:
    events = []
    for event in unrecorded(experiment, storage):
        experiment.handle(event)
        events.append(event)
    return events


def test_a_report_that_was_lost_comes_back_with_its_checkpoint(experiment: Experiment, storage: Storage) -> None:
    save(storage, "trial-0/length-1-attempt-1", loss=0.5)
    assert recovered(experiment, storage) == [
        ValidationReported(0, 1, 1, {"loss": 0.5}),
        CheckpointSaved(0, 1, 1, "trial-0/length-1-attempt-1", {"loss": 0.5}),
    ]
    assert experiment.trials[0].state is TrialState.PAUSED
    assert experiment.trials[0].checkpoint == "trial-0/length-1-attempt-1"
    assert recovered(experiment, storage) == []


def test_a_report_that_is_known_is_not_repeated(experiment: Experiment, storage: Storage) -> None:
    experiment.handle(ValidationReported(0, 1, 1, {"loss": 0.5}))
    save(storage, "trial-0/length-1-attempt-1", loss=0.5)
    assert recovered(experiment, storage) == [CheckpointSaved(0, 1, 1, "trial-0/length-1-attempt-1", {"loss": 0.5})]


def test_what_an_earlier_attempt_saved_is_taken_and_what_it_reported_is_not(
    experiment: Experiment, storage: Storage
) -> None:
    experiment.handle(DriverStarted(1))
    save(storage, "trial-0/length-1-attempt-1", loss=0.5)
    assert recovered(experiment, storage) == [CheckpointSaved(0, 1, 1, "trial-0/length-1-attempt-1", {"loss": 0.5})]
    assert experiment.trials[0].state is TrialState.RUNNING


@pytest.mark.parametrize("last_word", [AttemptFailed, AttemptPreempted])
def test_what_a_process_saved_just_before_it_died_is_what_its_trial_goes_on_from(
    storage: Storage, last_word: type[AttemptFailed | AttemptPreempted]
) -> None:
    class Dying(InstantBackend):
        """The first process saves at a length of 1, and dies before it can say so."""

        def _train(self, trial: int, target: int) -> None:
            if (trial, self.live[trial].attempt) == (0, 1):
                save(storage, "trial-0/length-1-attempt-1", loss=objective(self.live[trial].hparams, 1))
                del self.live[trial]
                self._events.append(last_word(0, 1, "its machine is gone"))
            else:
                super()._train(trial, target)

    experiment, backend = Experiment(SPEC), Dying(objective)
    engine = Engine(
        experiment,
        new_log(),
        backend,
        recover=lambda trial: unrecorded_of(experiment.trials[trial], experiment, storage),
    )
    assert engine.run() is ExperimentState.COMPLETED
    assert experiment.trials[0].failures == 0, "its result stands"
    assert all(start.length == 1 for start in backend.started if start.trial == 0 and start.attempt == 2)


def test_what_was_deleted_or_damaged_is_not_taken_back(storage: Storage) -> None:
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


def test_what_is_not_whole_is_left_alone(experiment: Experiment, storage: Storage, tmp_path: Path) -> None:
    save(storage, "trial-0/length-1-attempt-1", loss=0.5)
    (tmp_path / "trial-0/length-1-attempt-1" / MANIFEST).write_text("{")
    assert recovered(experiment, storage) == []


def test_a_storage_that_can_not_be_reached_is_said(experiment: Experiment, storage: Storage) -> None:
    class Away:
        def complete(self, _trial: int) -> list[object]:
            raise StorageUnreachable("it is away")

    with pytest.raises(StorageUnreachable):
        list(unrecorded(experiment, Away()))  # type: ignore[arg-type]
