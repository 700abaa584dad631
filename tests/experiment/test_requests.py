"""Tests of user requests, of limits that end an experiment early, and of failures that training code does not cause."""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from copy import deepcopy
from random import Random
from typing import Any

import pytest

from ashwood.errors import IllegalEvent
from ashwood.experiment.decisions import (
    AbortTrial,
    Asked,
    BracketReopened,
    ChangeSettings,
    CloseTrial,
    CommonFailure,
    ContinueTrial,
    CreateTrial,
    Decision,
    EndExperiment,
    ExperimentEnded,
    ExtendSearch,
    FellBack,
    GoalReached,
    KilledByUser,
    LeaveExperiment,
    NoSpace,
    NoStorage,
    PauseTrial,
    Recovered,
    ReopenTrial,
    Retried,
    StoppedByUser,
    SuspendTrial,
    TimeIsUp,
    TooManyInvalid,
    TrainTrial,
    TrialTimeIsUp,
    Warn,
)
from ashwood.experiment.events import (
    AddTrialRequested,
    AttemptFailed,
    CancelRequested,
    ExtendRequested,
    KillRequested,
    PauseRequested,
    Request,
    SettingsChanged,
    ValidationReported,
)
from ashwood.experiment.experiment import Experiment
from ashwood.experiment.lifecycle import Action, ExperimentState, TrialState, allowed_actions
from ashwood.experiment.spec import CheckpointPolicy
from ashwood.search.settings import Method
from ashwood.search.vocabulary import Created, Extended, LastChance, Promoted, RetriedOnRequest, Waits
from tests.experiment.conftest import Begin
from tests.experiment.world import SPACE, state_of

CANCELED = LeaveExperiment(ExperimentState.CANCELED, Asked("canceled"))


REQUESTS: dict[Action, Request] = {
    Action.PAUSE: PauseRequested(),
    Action.CANCEL: CancelRequested(),
    Action.KILL: KillRequested(),
    Action.SET: SettingsChanged({"max_concurrent_trials": 3}),
    Action.ADD_TRIAL: AddTrialRequested({"x": 0.5}),
    Action.EXTEND: ExtendRequested(max_length=900),
}


# -- the whole experiment ----------------------------------------------------------------------


def possible_requests(experiment: Experiment) -> set[Action]:
    """Return the actions whose requests a copy of the experiment does not refuse."""
    possible = set()
    for action, request in REQUESTS.items():
        try:
            deepcopy(experiment).handle(request)
        except IllegalEvent:
            continue
        possible.add(action)
    return possible


def test_experiment_accepts_the_requests_that_the_table_allows(begin: Begin) -> None:
    world = begin(slots=2, max_trials=4)
    seen = []
    for step in (lambda: None, world.pause, world.stop, lambda: world.start(2), world.kill, world.stop):
        step()
        experiment = world.experiment
        seen.append(experiment.state)
        allowed = allowed_actions(experiment.state) & REQUESTS.keys()
        if experiment.ends_for_good:  # It is stopping already because of a request to cancel or kill it.
            allowed -= {Action.CANCEL, Action.ADD_TRIAL, Action.EXTEND}
        assert possible_requests(experiment) == allowed, experiment.state
    assert seen == ["running", "pausing", "paused", "running", "stopping", "canceled"]
    assert (
        possible_requests(Experiment(world.experiment.spec))
        == allowed_actions(ExperimentState.CREATED) & REQUESTS.keys()
    )


def test_new_driver_can_resume_only_what_is_paused_stopped_or_interrupted() -> None:
    resumable = {state for state in ExperimentState if Action.ACTIVATE in allowed_actions(state)}
    assert resumable == {ExperimentState.CREATED, ExperimentState.PAUSED, ExperimentState.STOPPED}
    assert Action.ACTIVATE in allowed_actions(ExperimentState.RUNNING, interrupted=True)


def test_cancel_saves_running_trials_and_is_final(begin: Begin) -> None:
    world = begin(slots=2, max_trials=4, num_rungs=2)
    world.report(world.processes[0], 2, loss=0.5)
    assert world.cancel() == (CANCELED, SuspendTrial(1, 1), SuspendTrial(2, 1))
    assert world.experiment.state is ExperimentState.STOPPING
    with pytest.raises(IllegalEvent, match="already being canceled"):
        world.cancel()
    world.end(world.processes[1])
    assert world.stop() == (
        *(CloseTrial(trial, TrialState.STOPPED, ExperimentEnded()) for trial in (0, 1, 2)),
        EndExperiment(ExperimentState.CANCELED, "canceled on request"),
    )
    with pytest.raises(IllegalEvent, match="the experiment is canceled"):
        world.pause()


def test_kill_aborts_all_attempts_and_counts_no_failure(begin: Begin) -> None:
    world = begin(slots=2, max_trials=4, max_restarts=0)
    processes = list(world.processes.values())
    assert world.kill() == (
        LeaveExperiment(ExperimentState.CANCELED, Asked("killed")),
        AbortTrial(0, 1),
        AbortTrial(1, 1),
    )
    assert world.handle(AttemptFailed(0, processes[0].attempt, "killed on request")) == ()
    assert world.experiment.trials[0].failures == 0
    assert world.stop()[-1] == EndExperiment(ExperimentState.CANCELED, "killed on request")


def test_driver_of_canceled_experiment_gives_no_jobs(begin: Begin) -> None:
    world = begin(slots=2, max_trials=4)
    world.cancel()
    assert world.start(2) == ()
    assert world.stop()[-1] == EndExperiment(ExperimentState.CANCELED, "canceled on request")


def test_paused_experiment_can_be_canceled_but_not_paused(begin: Begin) -> None:
    world = begin(slots=2, max_trials=4)
    world.pause()
    world.stop()
    with pytest.raises(IllegalEvent, match="isn't running: it is paused"):
        world.pause()
    assert world.cancel() == (CANCELED,)


def test_too_many_invalid_trials_pause_an_experiment_until_the_limit_is_raised(begin: Begin) -> None:
    world = begin(slots=2, max_trials=4, num_rungs=2, max_invalid_trials=2)
    world.report(world.processes[0], 2, loss=0.5)
    assert isinstance(world.reject(world.processes[1])[-1], CreateTrial)
    why = TooManyInvalid(2, 2, "too wide")
    leave = LeaveExperiment(ExperimentState.PAUSED, why)
    assert world.reject(world.processes[2])[1:] == (leave, SuspendTrial(3, 1))
    assert str(why) == (
        "2 trials declared their hyperparameters invalid, the limit is 2 (max_invalid_trials); "
        "the latest said: too wide"
    )
    assert world.stop() == (EndExperiment(ExperimentState.PAUSED, str(why)),)
    assert world.experiment.trials[0].state is TrialState.PAUSED
    assert world.set(max_trials=40) == (ChangeSettings(16, (40,), None, None, 2),)
    assert world.experiment.too_many_invalid == why
    assert world.set(max_invalid_trials=3) == (ChangeSettings(16, (40,), None, None, 3),)
    assert world.experiment.too_many_invalid is None
    world.start(2)
    assert world.set(max_invalid_trials=1)[1] == LeaveExperiment(
        ExperimentState.PAUSED, TooManyInvalid(2, 1, "too wide")
    )


def test_limit_of_invalid_trials_is_10_times_max_trials_by_default(begin: Begin) -> None:
    world = begin(slots=1, max_trials=2, num_rungs=1)
    for _ in range(19):
        world.reject(world.processes[max(world.processes)])
    assert world.experiment.too_many_invalid is None
    world.reject(world.processes[max(world.processes)])
    assert world.experiment.too_many_invalid == TooManyInvalid(20, 20, "too wide")


def test_reason_of_pause_names_signal(begin: Begin) -> None:
    world = begin(slots=1, max_trials=1, method=Method.SINGLE)
    world.handle(PauseRequested(by="Ctrl-C"))
    assert world.stop() == (EndExperiment(ExperimentState.PAUSED, "paused by Ctrl-C"),)


def test_pause_by_older_rules_has_no_reason(begin: Begin) -> None:
    world = begin(slots=1, max_trials=1, method=Method.SINGLE, rules=2)
    assert world.pause() == (SuspendTrial(0, 1),)
    assert world.stop() == (EndExperiment(ExperimentState.PAUSED, "the driver stopped before the search was done"),)


def test_trial_without_validation_at_target_is_not_restarted(begin: Begin) -> None:
    for rules, state in ((2, TrialState.RUNNING), (3, TrialState.ERRORED)):
        world = begin(slots=1, max_trials=1, method=Method.SINGLE, rules=rules, max_restarts=5)
        world.fail(world.processes[0], cause="no validation at length 4")
        assert world.experiment.trials[0].state is state


def test_three_trials_without_validation_pause_experiment(begin: Begin) -> None:
    world = begin(slots=1, max_trials=9, method=Method.RANDOM, max_restarts=5, max_common_failures=3)
    for trial in range(3):
        world.fail(world.processes[trial], cause="no validation at length 4")
    assert world.stop() == (
        EndExperiment(ExperimentState.PAUSED, "3 trials failed in the same way before any reported anything: Boom"),
    )


# -- one trial ------------------------------------------------------------------------------------


def test_killed_trial_ranks_worst_and_frees_its_slot(begin: Begin) -> None:
    world = begin(slots=2, max_trials=4, num_rungs=2)
    process = world.processes[0]
    abort, closed, created = world.kill_trial(0)
    assert (abort, closed) == (AbortTrial(0, 1), CloseTrial(0, TrialState.KILLED, KilledByUser()))
    assert isinstance(created, CreateTrial)
    assert world.handle(AttemptFailed(0, process.attempt, "killed on request")) == ()
    # There are two results, of which the killed one is the worse, so the other trial is promoted.
    assert isinstance(world.report(world.processes[1], 2, loss=9.0)[0], ContinueTrial)
    with pytest.raises(IllegalEvent, match="trial 0 has already ended: it is killed"):
        world.stop_trial(0)


def test_paused_trial_can_be_killed(begin: Begin) -> None:
    world = begin(slots=2, max_trials=4, num_rungs=2)
    assert world.report(world.processes[0], 2, loss=0.1)[0] == PauseTrial(0, 1, Waits(0, 1, 1, 0))
    assert world.kill_trial(0) == (CloseTrial(0, TrialState.KILLED, KilledByUser()),)
    assert world.report(world.processes[1], 2, loss=0.5)[0] == ContinueTrial(1, 1, 4, Promoted(0, 1, 2, 1))


def test_stopped_trial_saves_and_its_result_counts(begin: Begin) -> None:
    world = begin(slots=1, max_trials=1, method=Method.SINGLE)
    world.report(world.processes[0], 1, loss=0.1)
    assert world.stop_trial(0) == (SuspendTrial(0, 1), CloseTrial(0, TrialState.STOPPED, StoppedByUser()))
    world.save(world.processes[0])
    assert world.stop() == (EndExperiment(ExperimentState.COMPLETED, "the search is done"),)


def test_trial_is_stopped_when_all_its_attempts_have_trained_for_max_trial_time(begin: Begin) -> None:
    world = begin(slots=2, max_trials=4, num_rungs=2, max_trial_time=10.0)
    world.report(world.processes[0], 1, loss=0.1)
    assert world.train(world.processes[0], 6.0) == ()
    world.fail(world.processes[0])
    suspended, closed, created = world.train(world.processes[0], 4.5)
    why = TrialTimeIsUp(10.5, 10.0)
    assert (suspended, closed) == (SuspendTrial(0, 2), CloseTrial(0, TrialState.STOPPED, why))
    assert str(why) == "trained for 10.5 s; the limit is 10 s (max_trial_time); its results stand"
    assert isinstance(created, CreateTrial)
    # Its process finishes the step; the results of the checkpoint that it saves count.
    assert world.report(world.processes[0], 2, loss=0.05) == ()
    assert (world.experiment.trials[0].length, world.experiment.trials[0].best_loss) == (2, 0.05)
    assert world.train(world.processes[0], 1.0) == ()
    assert world.kill_hung(world.processes[0]) == (
        Warn("the worker of trial 0 was killed: it finished no step. The trial's results stand"),
    )


def test_max_trial_time_stops_paused_trial(begin: Begin) -> None:
    world = begin(slots=2, max_trials=4, num_rungs=2, max_trial_time=10.0)
    world.report(world.processes[0], 2, loss=0.1)
    assert world.train(world.processes[0], 10.0)[0] == CloseTrial(0, TrialState.STOPPED, TrialTimeIsUp(10.0, 10.0))


def test_training_time_survives_driver_and_retry(begin: Begin) -> None:
    world = begin(slots=1, max_trials=1, method=Method.SINGLE, max_trial_time=10.0, max_restarts=0)
    world.train(world.processes[0], 6.0)
    world.start(1)
    world.fail(world.processes[0])
    world.retry()
    assert CloseTrial(0, TrialState.STOPPED, TrialTimeIsUp(10.0, 10.0)) in world.train(world.processes[0], 4.0)


def test_old_experiment_warns_about_the_last_report_of_a_stopped_trial(begin: Begin) -> None:
    for rules, warnings in ((2, 1), (3, 0)):
        world = begin(slots=1, max_trials=1, method=Method.SINGLE, rules=rules)
        world.stop_trial(0)
        assert len(world.report(world.processes[0], 1, loss=0.1)) == warnings


def test_kill_of_unknown_trial_is_refused(begin: Begin) -> None:
    world = begin(slots=1, max_trials=4)
    with pytest.raises(IllegalEvent, match="no trial 7"):
        world.kill_trial(7)


# -- settings -------------------------------------------------------------------------------------


def test_raised_max_concurrent_trials_starts_more_trials(begin: Begin) -> None:
    world = begin(slots=4, max_trials=8, max_concurrent_trials=1, method=Method.RANDOM)
    changed, *created = world.set(max_concurrent_trials=3)
    assert changed == ChangeSettings(3, (8,), None, None)
    assert [decision.why for decision in created if isinstance(decision, CreateTrial)] == [Created(0, 1), Created(0, 2)]


def test_lowered_max_trials_ends_search_sooner(begin: Begin) -> None:
    world = begin(slots=2, max_trials=8, method=Method.RANDOM)
    with pytest.raises(IllegalEvent, match="max_trials can't become 1: 2 trials were created already"):
        world.set(max_trials=1)
    assert world.set(max_trials=2) == (ChangeSettings(16, (2,), None, None),)
    for trial in (0, 1):
        world.report(world.processes[trial], 4, loss=0.1)
    assert world.experiment.over


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"divisor": 3},
            "divisor can't be changed; settings that can be changed: max_concurrent_trials, max_trials, "
            "max_invalid_trials, metric_at",
        ),
        ({"max_trials": 0}, "max_trials must be a whole number of at least 1, not 0"),
        ({"max_trials": True}, "max_trials must be a whole number"),
        ({"max_concurrent_trials": 1.5}, "max_concurrent_trials must be a whole number of at least 0, not 1.5"),
        ({"metric_at": float("nan")}, "metric_at must be a finite number"),
        ({"max_time": -1, "max_trials": 9}, "max_time must be a number of seconds above 0, not -1"),
    ],
)
def test_invalid_setting_is_refused_and_changes_nothing(
    begin: Begin, settings: dict[str, object], message: str
) -> None:
    world = begin(slots=2, max_trials=8)
    before = state_of(world.experiment)
    with pytest.raises(IllegalEvent, match=message):
        world.set(**settings)
    assert state_of(world.experiment) == before


# -- limits ---------------------------------------------------------------------------------------


def test_experiment_stops_when_it_reaches_its_goal(begin: Begin) -> None:
    world = begin(slots=2, max_trials=4, metric_at=0.98, smaller_is_better=False, method=Method.RANDOM)
    assert world.report(world.processes[0], 1, loss=0.9) == ()
    reached = LeaveExperiment(ExperimentState.STOPPED, GoalReached(1, 0.985, 0.98))
    assert world.report(world.processes[1], 2, loss=0.985) == (reached, SuspendTrial(0, 1), SuspendTrial(1, 1))
    for process in list(world.processes.values()):
        world.save(process)
        world.end(process)
    why = "trial 1 reached 0.985, the goal was 0.98"
    assert world.stop() == (EndExperiment(ExperimentState.STOPPED, why),)
    assert world.experiment.goal_reached is not None
    # With a better goal it resumes.
    world.set(metric_at=0.99)
    assert world.start(2) == (TrainTrial(0, 2, 4, Recovered()), TrainTrial(1, 2, 4, Recovered()))


def test_size_of_checkpoints_can_change_after_the_end(begin: Begin) -> None:
    world = begin(slots=1, max_trials=1, method=Method.SINGLE)
    world.report(world.processes[0], 4, loss=0.1)
    world.stop()
    (changed,) = world.set(max_size=20)
    assert isinstance(changed, ChangeSettings)
    assert (changed.max_size, world.experiment.state) == (20, ExperimentState.COMPLETED)
    with pytest.raises(IllegalEvent, match="is completed, so of its settings, only max_size can change"):
        world.set(max_concurrent_trials=2, max_size=30)
    assert world.experiment.max_size == 20


def test_report_at_goal_and_target_is_judged_first(begin: Begin) -> None:
    world = begin(slots=1, max_trials=2, metric_at=0.2)
    left, *judged = world.report(world.processes[0], 2, loss=0.1)
    assert isinstance(left, LeaveExperiment)
    assert judged == [PauseTrial(0, 1, Waits(0, 1, 1, 0))]


def test_new_goal_that_is_already_reached_stops_at_once(begin: Begin) -> None:
    world = begin(slots=1, max_trials=2, method=Method.RANDOM)
    world.report(world.processes[0], 2, loss=0.1)
    changed, left, suspended = world.set(metric_at=0.2)
    assert changed == ChangeSettings(16, (2,), 0.2, None)
    assert left == LeaveExperiment(ExperimentState.STOPPED, GoalReached(0, 0.1, 0.2))
    assert suspended == SuspendTrial(0, 1)


def test_goal_does_not_count_a_trial_that_became_invalid(begin: Begin) -> None:
    world = begin(slots=2, max_trials=2, method=Method.RANDOM)
    invalid, other = world.processes[0], world.processes[1]
    world.report(invalid, 2, loss=0.01)
    world.reject(invalid)
    world.report(other, 2, loss=0.9)
    assert world.set(metric_at=0.05) == (ChangeSettings(16, (2,), 0.05, None),)
    assert world.experiment.goal_reached is None
    left, *_ = world.report(other, 3, loss=0.04)
    assert left == LeaveExperiment(ExperimentState.STOPPED, GoalReached(1, 0.04, 0.05))


def test_goal_falls_back_to_the_best_valid_trial(begin: Begin) -> None:
    world = begin(slots=3, max_trials=3, method=Method.RANDOM)
    worse, better, invalid = (world.processes[trial] for trial in range(3))
    world.report(invalid, 1, loss=0.1)
    world.report(better, 1, loss=0.2)
    world.report(better, 2, loss=0.5)
    world.report(worse, 1, loss=0.3)
    world.reject(invalid)
    _, left, *_ = world.set(metric_at=0.4)
    assert left == LeaveExperiment(ExperimentState.STOPPED, GoalReached(1, 0.2, 0.4))


def test_rules_0_count_invalid_trials_towards_the_goal(begin: Begin) -> None:
    world = begin(slots=2, max_trials=2, method=Method.RANDOM, rules=0)
    world.report(world.processes[0], 2, loss=0.01)
    world.reject(world.processes[0])
    _, left, *_ = world.set(metric_at=0.05)
    assert left == LeaveExperiment(ExperimentState.STOPPED, GoalReached(0, 0.01, 0.05))


def test_experiment_stops_at_its_time_limit(begin: Begin) -> None:
    world = begin(slots=1, max_trials=2, max_time=60.0)
    assert world.time_is_up() == (LeaveExperiment(ExperimentState.STOPPED, TimeIsUp(60.0, 60.0)), SuspendTrial(0, 1))
    world.stop()
    assert world.experiment.state is ExperimentState.STOPPED


# -- no fault of the training code --------------------------------------------------------------------


def test_common_failure_pauses_experiment(begin: Begin) -> None:
    world = begin(slots=3, max_trials=9, num_rungs=2, max_restarts=5, max_common_failures=2)

    def fail(trial: int, line: int) -> tuple[object, ...]:
        process = world.processes.pop(trial)
        return world.handle(AttemptFailed(trial, process.attempt, f"KeyError: 'lr' (line {line})\nTraceback"))

    assert fail(0, 1) == (TrainTrial(0, 2, 2, Retried(1, 5)),)
    assert fail(1, 22) == (TrainTrial(1, 2, 2, Retried(1, 5)),)
    assert fail(0, 3) == (TrainTrial(0, 3, 2, Retried(2, 5)),)
    left, *suspended = fail(1, 4)
    assert left == LeaveExperiment(ExperimentState.PAUSED, CommonFailure(2, "KeyError: 'lr' (line 4)"))
    assert suspended == [SuspendTrial(0, 3), SuspendTrial(2, 1)]
    (ended,) = world.stop()
    assert isinstance(ended, EndExperiment)
    assert ended.state is ExperimentState.PAUSED
    assert "2 trials failed in the same way before any reported anything: KeyError" in ended.why
    # Its code may have been fixed, so counting starts again.
    world.start(3)
    assert fail(0, 1)[0] == TrainTrial(0, 5, 2, Retried(3, 5))


def test_no_common_failure_after_first_report(begin: Begin) -> None:
    world = begin(slots=3, max_trials=9, num_rungs=2, max_restarts=0, max_common_failures=1)
    world.report(world.processes[0], 1, loss=0.5)
    closed, created = world.fail(world.processes[1])
    assert isinstance(closed, CloseTrial)
    assert isinstance(created, CreateTrial)


def test_report_without_metric_does_not_rule_out_common_failure(begin: Begin) -> None:
    world = begin(slots=3, max_trials=9, num_rungs=2, max_restarts=0, max_common_failures=2)
    for trial in (0, 1):
        world.report(world.processes[trial], 1, los=0.5)
    world.fail(world.processes[0])
    assert isinstance(world.fail(world.processes[1])[0], LeaveExperiment)


def test_full_disk_pauses_experiment_and_counts_no_failure(begin: Begin) -> None:
    world = begin(slots=2, max_trials=4, num_rungs=2, max_restarts=0)
    assert world.no_space(world.processes[0]) == (
        LeaveExperiment(ExperimentState.PAUSED, NoSpace("No space left")),
        SuspendTrial(1, 1),
    )
    assert world.no_space(world.processes[1]) == (Warn("trial 1: a disk is full: No space left"),)
    assert world.stop() == (EndExperiment(ExperimentState.PAUSED, "a disk is full: No space left"),)
    assert all(trial.failures == 0 for trial in world.experiment.trials.values())
    assert world.start(2) == (TrainTrial(0, 2, 2, Recovered()), TrainTrial(1, 2, 2, Recovered()))


def test_storage_outage_pauses_experiment_and_counts_no_failure(begin: Begin) -> None:
    world = begin(slots=3, max_trials=4, num_rungs=2, max_restarts=0)
    assert world.no_storage(world.processes[0]) == (
        LeaveExperiment(ExperimentState.PAUSED, NoStorage("s3://bucket refuses access")),
        SuspendTrial(1, 1),
        SuspendTrial(2, 1),
    )
    why = "the checkpoint storage cannot be used: s3://bucket refuses access"
    assert world.no_storage(world.processes[1]) == (Warn(f"trial 1: {why}"),)
    world.save(world.processes[2])
    world.end(world.processes[2])
    assert world.stop() == (EndExperiment(ExperimentState.PAUSED, why),)
    assert all(trial.failures == 0 for trial in world.experiment.trials.values())
    assert world.start(3)[:3] == tuple(TrainTrial(trial, 2, 2, Recovered()) for trial in range(3))


def test_completed_trial_that_could_not_save_causes_warning(begin: Begin) -> None:
    world = begin(slots=1, max_trials=1, max_length=2, method=Method.RANDOM)
    process = world.processes[0]
    world.report(process, 2, loss=0.5)
    assert world.no_storage(process)[-1] == Warn(
        "trial 0 is completed, but its last checkpoint could not be saved; its latest one is at length 0"
    )
    assert world.stop()[-1] == EndExperiment(ExperimentState.COMPLETED, "the search is done")


def test_full_disk_of_event_log_pauses_with_reason(begin: Begin) -> None:
    world = begin(slots=1, max_trials=4)
    left, _ = world.handle(PauseRequested("the disk of the home"))
    assert left == LeaveExperiment(ExperimentState.PAUSED, NoSpace("the disk of the home"))


def test_trial_with_damaged_checkpoint_resumes_from_earlier_one(begin: Begin) -> None:
    world = begin(slots=1, max_length=100, max_trials=1, max_restarts=0, method=Method.SINGLE)
    process = world.processes[0]
    for length in (10, 20):
        world.report(process, length, loss=0.5)
        world.save(process)
    world.start(1)
    warned, trained = world.damaged(world.processes[0])
    assert isinstance(warned, Warn)
    assert "length-20-attempt-1 is damaged: a file is missing; trial 0 goes on from length 10" in warned.message
    assert trained == TrainTrial(0, 3, 100, FellBack(10))
    assert world.experiment.trials[0].checkpoint == "trial-0/length-10-attempt-1"
    world.damaged(world.processes[0])
    assert world.experiment.trials[0].checkpoint is None
    assert world.experiment.trials[0].state is TrialState.RUNNING


def test_damaged_source_checkpoint_counts_as_failure(begin: Begin) -> None:
    world = begin(slots=1, max_trials=2, max_restarts=0, source_checkpoint="/elsewhere/trial-1/length-3-attempt-1")
    assert isinstance(world.damaged(world.processes[0])[0], CloseTrial)
    assert world.experiment.trials[0].state is TrialState.ERRORED


# -- retrying failed trials -----------------------------------------------------------------------


def test_errored_experiment_is_retried_with_a_fresh_budget_of_failures(begin: Begin) -> None:
    world = begin(slots=2, max_trials=2, max_length=2, num_rungs=2, max_restarts=1)
    for trial in (0, 0, 1, 1):
        world.fail(world.processes[trial])
    assert world.stop() == (EndExperiment(ExperimentState.ERRORED, "every trial failed, the last with: Boom"),)
    assert world.retry() == (
        ReopenTrial(0, TrialState.PAUSED, 0, 1, RetriedOnRequest(0)),
        ReopenTrial(1, TrialState.PAUSED, 0, 1, RetriedOnRequest(0)),
        EndExperiment(ExperimentState.PAUSED, "failed trials wait to be retried"),
    )
    assert world.start(1) == (TrainTrial(0, 3, 1, RetriedOnRequest(0)),)
    assert world.fail(world.processes[0]) == (TrainTrial(0, 4, 1, Retried(1, 1)),)
    world.report(world.processes[0], 1, loss=1.0)
    world.report(world.processes[1], 1, loss=2.0)
    world.report(world.processes[0], 2, loss=1.0)
    assert world.stop()[-1] == EndExperiment(ExperimentState.COMPLETED, "the search is done")
    world.replay()


def test_retry_of_completed_search_pauses_its_stopped_trials_again(begin: Begin) -> None:
    world = begin(slots=3, max_trials=3, max_length=2, num_rungs=2, max_restarts=0)
    world.fail(world.processes[0])
    world.report(world.processes[1], 1, loss=1.0)
    world.report(world.processes[2], 1, loss=2.0)
    world.report(world.processes[1], 2, loss=1.0)
    assert world.experiment.trials[2].state is TrialState.STOPPED
    world.stop()
    assert world.retry() == (
        ReopenTrial(0, TrialState.PAUSED, 0, 1, RetriedOnRequest(0)),
        ReopenTrial(2, TrialState.PAUSED, 0, 1, BracketReopened(0)),
        EndExperiment(ExperimentState.PAUSED, "failed trials wait to be retried"),
    )
    assert world.start(3) == (TrainTrial(0, 2, 1, RetriedOnRequest(0)),)
    world.report(world.processes[0], 1, loss=3.0)
    assert world.experiment.trials[2].state is TrialState.STOPPED
    world.replay()


def test_retry_while_trials_run_waits_for_a_free_worker(begin: Begin) -> None:
    world = begin(slots=1, max_trials=3, max_length=2, num_rungs=2, max_restarts=0)
    world.fail(world.processes[0])
    assert world.retry() == (ReopenTrial(0, TrialState.PAUSED, 0, 1, RetriedOnRequest(0)),)
    assert world.report(world.processes[1], 1, loss=1.0) == (
        PauseTrial(1, 1, Waits(0, 1, 1, 0)),
        TrainTrial(0, 2, 1, RetriedOnRequest(0)),
    )


def test_retry_without_failed_trials_is_refused(begin: Begin) -> None:
    world = begin(slots=1, max_trials=1, max_length=1)
    with pytest.raises(IllegalEvent, match="no trial has failed"):
        world.retry()
    world.cancel()
    world.stop()
    with pytest.raises(IllegalEvent, match="the experiment is canceled"):
        world.retry()


def test_experiment_by_older_rules_continues_after_retry(begin: Begin) -> None:
    world = begin(slots=2, max_trials=2, num_rungs=2, rules=2)
    for _ in range(21):
        world.reject(world.processes[min(world.processes)])
    ended = world.stop()[-1]
    assert isinstance(ended, EndExperiment)
    assert ended.state is ExperimentState.ERRORED
    assert isinstance(world.retry()[0], ReopenTrial)
    assert not world.experiment.over
    world.start(2)
    world.work_to_the_end(Random(0), lambda process: float(process.trial))
    assert world.stop()[-1].state is ExperimentState.COMPLETED  # type: ignore[union-attr]
    world.replay()


# -- given hyperparameters ------------------------------------------------------------------------


def created(decisions: Iterable[Decision]) -> list[CreateTrial]:
    return [decision for decision in decisions if isinstance(decision, CreateTrial)]


def test_first_trials_of_first_bracket_start_with_given_hyperparameters(begin: Begin) -> None:
    starts = ({"x": 0.25}, {"model.act": "tanh", "n": 3})
    world = begin(slots=9, max_trials=9, method=Method.ADAPTIVE_ASHA, bracket_rungs=(3, 1), start_with=starts)
    trials = created(world.log[0][1])
    assert [(trial.bracket, trial.nth, trial.given) for trial in trials if trial.given] == [
        (0, 0, starts[0]),
        (0, 1, starts[1]),
    ]
    first, second = (trial.hparams for trial in trials if trial.given)
    assert first["x"] == 0.25
    assert (second["model"]["act"], second["n"]) == ("tanh", 3)


def test_starting_points_beyond_first_bracket_are_trials_of_second_bracket(begin: Begin) -> None:
    starts = tuple({"x": n / 10} for n in range(6))
    world = begin(slots=9, max_trials=9, method=Method.ADAPTIVE_ASHA, bracket_rungs=(2, 1), start_with=starts)
    given = {(trial.bracket, trial.nth): trial.given["x"] for trial in created(world.log[0][1]) if trial.given}
    planned = world.experiment.search.brackets[0].planned
    assert planned < 6
    assert given == {(n // planned, n % planned): n / 10 for n in range(6)}


def test_added_trial_is_next_new_trial(begin: Begin) -> None:
    world = begin(slots=1, max_trials=3, method=Method.RANDOM)
    assert world.add(x=0.5, model={"act": "relu"}) == ()
    assert world.add(x=0.75) == ()
    (second,) = created(world.report(world.processes[0], 4, loss=0.1))
    assert (second.why, second.given) == (Created(0, 1), {"x": 0.5, "model.act": "relu"})
    (third,) = created(world.report(world.processes[1], 4, loss=0.1))
    assert (third.why, third.given) == (Created(0, 2), {"x": 0.75})
    assert world.report(world.processes[2], 4, loss=0.1)[1:] == ()


def test_added_trial_starts_at_once_on_free_worker(begin: Begin) -> None:
    world = begin(slots=2, max_trials=1, method=Method.RANDOM)
    changed, new = world.add(x=0.5, extra=True)
    assert changed == ChangeSettings(16, (2,), None, None)
    assert isinstance(new, CreateTrial)
    assert new.hparams["x"] == 0.5


def test_added_trial_of_paused_experiment_is_created_when_it_resumes(begin: Begin) -> None:
    world = begin(slots=1, max_trials=2, method=Method.RANDOM)
    world.pause()
    world.stop()
    assert world.add(x=0.5) == ()
    world.start(2)
    assert world.experiment.trials[1].hparams["x"] == 0.5


def test_promotions_come_before_added_trials(begin: Begin) -> None:
    world = begin(slots=1, max_trials=4, num_rungs=2)
    world.report(world.processes[0], 2, loss=0.5)
    world.add(x=0.5)
    world.report(world.processes[1], 2, loss=0.6)
    assert world.processes[0].target == 4
    assert created(world.report(world.processes[0], 4, loss=0.5))[0].given == {"x": 0.5}


def test_invalid_trial_with_given_hyperparameters_is_replaced_by_drawn_trial(begin: Begin) -> None:
    world = begin(slots=1, max_trials=1, method=Method.RANDOM, start_with=({"x": 0.5},))
    (replacement,) = created(world.reject(world.processes[0]))
    assert (replacement.why, replacement.given) == (Created(0, 1), {})


@pytest.mark.parametrize(
    ("hparams", "message"),
    [
        ({"y": 1}, "y: unknown hyperparameter; known ones: x, model.width, model.act, n"),
        ({"model": {"widht": 1.0}}, r"model.widht: unknown hyperparameter; did you mean model.width\?"),
        ({"n": "many"}, "n: must be a whole number, not 'many'"),
        ({"x": True, "n": 1.5}, "x: must be a finite number, not True; n: must be a whole number, not 1.5"),
        ({"x": float("nan")}, "x: must be a finite number, not nan"),
        ({"model": 3}, "model: is a map of hyperparameters, so give a map, or a value for model.width"),
        ({"model": {"act": "relu"}, "model.act": "tanh"}, "model.act: is given twice: remove one of the two"),
        ({}, "it must give a value for at least one hyperparameter that is searched"),
    ],
)
def test_added_trial_with_wrong_values_is_refused(begin: Begin, hparams: dict[str, Any], message: str) -> None:
    world = begin(slots=1, max_trials=3, method=Method.RANDOM)
    before = state_of(world.experiment)
    with pytest.raises(IllegalEvent, match=f"no trial was added: {message}"):
        world.add(**hparams)
    assert state_of(world.experiment) == before


def test_values_outside_range_are_used_with_a_warning(begin: Begin) -> None:
    world = begin(slots=2, max_trials=3, method=Method.RANDOM)
    low, other = world.add(n=12, model={"act": "gelu"})
    assert low == Warn("added trial: n: 12 is outside its range, 1 to 9; it is used as given")
    assert other == Warn("added trial: model.act: 'gelu' is not one of its values; it is used as given")
    (new,) = created(world.report(world.processes[0], 4, loss=0.1))
    assert (new.hparams["n"], new.hparams["model"]["act"]) == (12, "gelu")


def test_trial_beyond_max_trials_needs_extra(begin: Begin) -> None:
    world = begin(slots=1, max_trials=2, method=Method.RANDOM)
    world.add(x=0.5)
    message = r"all 2 trials \(max_trials\) were created or have given hyperparameters; to add one on top .* --extra"
    with pytest.raises(IllegalEvent, match=message):
        world.add(x=0.6)
    assert world.add(x=0.6, extra=True) == (ChangeSettings(16, (3,), None, None),)
    with pytest.raises(IllegalEvent, match="3 trials were created already or have given hyperparameters"):
        world.set(max_trials=2)


def test_grid_and_ended_experiments_get_no_trials(begin: Begin) -> None:
    grid = begin(slots=1, method=Method.GRID, max_trials=SPACE.grid_size())
    with pytest.raises(IllegalEvent, match="a grid search tries only its grid"):
        grid.add(x=0.5)
    ended = begin(slots=1, max_trials=1, method=Method.SINGLE)
    with pytest.raises(IllegalEvent, match="a single search creates 1 trial, neither more nor fewer"):
        ended.add(x=0.5, extra=True)
    ended.report(ended.processes[0], 4, loss=0.1)
    ended.stop()
    with pytest.raises(IllegalEvent, match="the experiment is completed, so no trial can be added"):
        ended.add(x=0.5)


def test_single_trial_can_start_with_given_hyperparameters(begin: Begin) -> None:
    world = begin(slots=1, max_trials=1, method=Method.SINGLE, start_with=({"x": 0.5},))
    assert world.experiment.trials[0].hparams["x"] == 0.5


def test_pending_hyperparameters_survive_a_snapshot(begin: Begin) -> None:
    world = begin(slots=1, max_trials=3, method=Method.RANDOM, start_with=({"x": 0.1}, {"x": 0.2}))
    world.add(x=0.3)
    restored = pickle.loads(pickle.dumps(world.experiment))
    assert state_of(restored) == state_of(world.experiment)
    reported = ValidationReported(0, 1, 4, {"loss": 0.5})
    assert restored.handle(reported) == world.report(world.processes[0], 4, loss=0.5)


# -- extending the search -------------------------------------------------------------------------


def test_completed_search_gets_longer_rungs_and_promotes_from_its_top(begin: Begin) -> None:
    world = begin(slots=3, max_trials=3, max_length=2, num_rungs=2)
    for trial in range(3):
        world.report(world.processes[trial], 1, loss=float(trial))
    world.report(world.processes[0], 2, loss=0.5)
    world.save(world.processes[0])
    world.stop()
    assert [trial.state for trial in world.experiment.trials.values()] == ["completed", "stopped", "stopped"]
    assert world.extend(max_length=5) == (
        ExtendSearch(5, ((1, 2, 4, 5),), (3,)),
        ReopenTrial(0, TrialState.PAUSED, 0, 2, BracketReopened(0, extended=True)),
        ReopenTrial(1, TrialState.PAUSED, 0, 1, BracketReopened(0, extended=True)),
        ReopenTrial(2, TrialState.PAUSED, 0, 1, BracketReopened(0, extended=True)),
        EndExperiment(ExperimentState.PAUSED, "the search was extended"),
    )
    assert world.experiment.spec.search.max_length == 5
    assert world.start(3) == (TrainTrial(0, 3, 4, LastChance(1, 1, 1)),)
    assert world.processes[0].length == 2
    world.work_to_the_end(Random(0), lambda process: 0.1)
    assert world.stop()[-1] == EndExperiment(ExperimentState.COMPLETED, "the search is done")
    assert world.experiment.trials[0].length == 5
    world.replay()


def test_completed_search_gets_more_trials(begin: Begin) -> None:
    world = begin(slots=2, max_trials=2, max_length=2, num_rungs=2)
    for trial in range(2):
        world.report(world.processes[trial], 1, loss=float(trial))
    world.report(world.processes[0], 2, loss=0.5)
    world.stop()
    assert world.extend(4) == (
        ExtendSearch(2, ((1, 2),), (4,)),
        ReopenTrial(1, TrialState.PAUSED, 0, 1, BracketReopened(0, extended=True)),
        EndExperiment(ExperimentState.PAUSED, "the search was extended"),
    )
    assert [type(decision) for decision in world.start(2)] == [CreateTrial, CreateTrial]
    world.work_to_the_end(Random(0), lambda process: float(process.trial))
    assert world.experiment.trials[1].state is TrialState.COMPLETED
    world.replay()


def test_running_random_search_trains_each_trial_on(begin: Begin) -> None:
    world = begin(slots=2, max_trials=3, max_length=4, method=Method.RANDOM)
    world.report(world.processes[0], 4, loss=0.5)
    world.save(world.processes[0])
    assert world.extend(max_length=6) == (
        ExtendSearch(6, ((6,),), (3,)),
        ReopenTrial(0, TrialState.PAUSED, 0, 6, Extended(4)),
    )
    assert world.report(world.processes[1], 4, loss=0.5) == (ContinueTrial(1, 1, 6, Extended(4)),)
    world.report(world.processes[1], 6, loss=0.5)
    assert world.processes[0].length == 4
    world.work_to_the_end(Random(0), lambda process: 0.5)
    assert {trial.length for trial in world.experiment.trials.values()} == {6}
    world.replay()


def test_trial_that_had_completed_retrains_if_its_checkpoint_is_gone(begin: Begin) -> None:
    policy = CheckpointPolicy(save_trial_best=1, save_trial_latest=0)
    world = begin(slots=1, max_trials=1, max_length=4, method=Method.SINGLE, checkpoint_policy=policy)
    for length, loss in ((3, 0.1), (4, 0.5)):
        world.report(world.processes[0], length, loss=loss)
        world.save(world.processes[0])
    world.stop()
    world.extend(max_length=8)
    assert world.experiment.trials[0].checkpoint_length == 3
    world.start(1)
    assert world.processes[0].length == 3


def test_search_cannot_be_extended_after_it_failed_or_while_it_ends(begin: Begin) -> None:
    world = begin(slots=1, max_trials=1, max_length=1, max_restarts=0)
    with pytest.raises(IllegalEvent, match="max_length must be more than the present 1, not 1"):
        world.extend(max_length=1)
    world.fail(world.processes[0])
    world.stop()
    with pytest.raises(
        IllegalEvent, match="is errored: its search can't be extended; its failed trials can be retried"
    ):
        world.extend(2)
    world.retry()
    world.cancel()
    with pytest.raises(IllegalEvent, match="is being canceled: its search can't be extended"):
        world.extend(2)
