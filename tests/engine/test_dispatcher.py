"""The dispatcher sends commands in the right order and at the right time."""

from __future__ import annotations

from dataclasses import replace
from math import inf, nan

import pytest

from ashwood.backends.port import Abort, Finish, NoteBest, StartAttempt, Suspend
from ashwood.engine.dispatcher import Dispatcher, retry_delay
from ashwood.experiment.events import (
    AttemptEnded,
    AttemptFailed,
    CheckpointDamaged,
    CheckpointSaved,
    DriverStarted,
    KillRequested,
    PauseRequested,
    TrialKillRequested,
    TrialStopRequested,
    ValidationReported,
)
from ashwood.experiment.experiment import Experiment
from ashwood.experiment.spec import SaveOn

from .test_loop import SPEC


def started(slots: int = 1) -> tuple[Experiment, Dispatcher]:
    experiment = Experiment(replace(SPEC, max_restarts=5))
    dispatcher = Dispatcher(experiment)
    commands = dispatcher.commands(experiment.handle(DriverStarted(slots)), slots, now=100.0)
    assert [type(command) for command in commands] == [StartAttempt] * slots
    return experiment, dispatcher


def test_retry_delay_doubles() -> None:
    assert [retry_delay(failure) for failure in range(1, 6)] == [0.0, 0.5, 1.0, 2.0, 4.0]
    assert retry_delay(1000) == 60.0


def test_failed_trial_starts_after_its_retry_delay() -> None:
    experiment, dispatcher = started()

    def fail(attempt: int, now: float) -> list[object]:
        event = AttemptFailed(0, attempt, "boom")
        dispatcher.note(event)
        return list(dispatcher.commands(experiment.handle(event), 1, now))

    (first,) = fail(1, 100.0)
    assert isinstance(first, StartAttempt)
    assert dispatcher.next_due == inf
    assert fail(2, 101.0) == []
    assert dispatcher.next_due == 101.5
    assert dispatcher.commands((), 1, 101.4) == []
    (second,) = dispatcher.commands((), 1, 101.5)
    assert isinstance(second, StartAttempt)
    assert (second.trial, second.attempt) == (0, 3)


def test_workers_are_notified_of_better_checkpoints_only() -> None:
    experiment, dispatcher = started(slots=2)

    def save(trial: int, length: int, loss: float) -> list[object]:
        event = CheckpointSaved(trial, 1, length, f"trial-{trial}/length-{length}-attempt-1", {"loss": loss})
        return list(dispatcher.commands(experiment.handle(event), 2, 100.0))

    assert save(0, 1, 0.5) == [NoteBest(0, 1, 0.5), NoteBest(1, 1, 0.5)]
    assert save(1, 1, 0.7) == []
    assert save(1, 2, nan) == []
    dispatcher.note(failed := AttemptFailed(1, 1, "boom"))
    (again,) = dispatcher.commands(experiment.handle(failed), 2, 100.0)
    assert isinstance(again, StartAttempt)
    assert again.best == 0.5
    damaged = CheckpointDamaged(0, 1, "trial-0/length-1-attempt-1", "a file is missing")
    dispatcher.note(damaged)
    assert NoteBest(1, 2, 0.7) in dispatcher.commands(experiment.handle(damaged), 2, 100.0)


def test_workers_are_not_notified_without_save_on_best() -> None:
    experiment = Experiment(replace(SPEC, save_on=SaveOn.NONE))
    dispatcher = Dispatcher(experiment)
    dispatcher.commands(experiment.handle(DriverStarted(1)), 1, now=100.0)
    saved = CheckpointSaved(0, 1, 1, "trial-0/length-1-attempt-1", {"loss": 0.5})
    assert dispatcher.commands(experiment.handle(saved), 1, now=100.0) == []


def test_next_due_ignores_attempts_that_cannot_start() -> None:
    experiment, dispatcher = started(2)
    for attempt in (1, 2):
        event = AttemptFailed(0, attempt, "boom")
        dispatcher.note(event)
        dispatcher.commands(experiment.handle(event), 2, 100.0)
    assert dispatcher.next_due == 100.5
    experiment.handle(PauseRequested())
    assert dispatcher.next_due == inf, "while trial 1 saves, nothing starts"


@pytest.mark.parametrize(("request_", "command"), [(TrialKillRequested(0), Abort), (TrialStopRequested(0), Suspend)])
def test_killed_trial_is_aborted_and_its_slot_reused_afterwards(
    request_: TrialKillRequested | TrialStopRequested, command: type[Abort | Suspend]
) -> None:
    experiment, dispatcher = started()
    assert dispatcher.commands(experiment.handle(request_), 1, 0.0) == [command(0, 1)]
    event = AttemptFailed(0, 1, "killed on request")
    dispatcher.note(event)
    (start,) = dispatcher.commands(experiment.handle(event), 1, 0.0)
    assert isinstance(start, StartAttempt)
    assert start.trial == 1


def test_trial_never_starts_from_a_checkpoint_at_max_length() -> None:
    experiment = Experiment(replace(SPEC, search=replace(SPEC.search, num_rungs=1)))
    dispatcher = Dispatcher(experiment)
    decisions = list(experiment.handle(DriverStarted(1)))
    for length in (5, 9):  # The process dies before it reports at length 9.
        decisions += experiment.handle(CheckpointSaved(0, 1, length, f"trial-0/length-{length}-attempt-1"))
    died = AttemptFailed(0, 1, "boom")
    *_, start = [*dispatcher.commands(decisions, 1, 0.0), *dispatcher.commands(experiment.handle(died), 1, 0.0)]
    assert isinstance(start, StartAttempt)
    assert (start.target, start.length, start.checkpoint) == (9, 5, "trial-0/length-5-attempt-1")


def test_process_that_still_saves_is_suspended_once_the_experiment_pauses() -> None:
    experiment, dispatcher = started(2)
    finish, *_ = dispatcher.commands(experiment.handle(ValidationReported(0, 1, 1, {"loss": 1.0})), 2, now=101.0)
    assert finish == Finish(0, 1, save=True)
    suspended = dispatcher.commands(experiment.handle(PauseRequested()), 2, now=102.0)
    assert suspended == [Suspend(1, 1), Suspend(0, 1)]
    assert dispatcher.commands((), 2, now=103.0) == []
    for trial in (0, 1):
        dispatcher.note(AttemptEnded(trial, 1, 1))
    assert not dispatcher.live


def test_killed_processes_are_not_suspended_as_well() -> None:
    experiment, dispatcher = started(2)
    assert dispatcher.commands(experiment.handle(KillRequested()), 2, now=101.0) == [Abort(0, 1), Abort(1, 1)]
