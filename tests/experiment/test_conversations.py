"""Tests of the decisions of an experiment, event by event."""

from __future__ import annotations

from fractions import Fraction
from math import inf, nan

import pytest

from ashwood.errors import IllegalEvent
from ashwood.experiment.decisions import (
    Asked,
    CloseTrial,
    CompleteTrial,
    ContinueTrial,
    CreateTrial,
    DeclaredInvalid,
    EndExperiment,
    ExperimentEnded,
    GaveUp,
    LeaveExperiment,
    PauseTrial,
    Preempted,
    Recovered,
    Retried,
    StoppedItself,
    StopTrial,
    SuspendTrial,
    TrainTrial,
    Warn,
)
from ashwood.experiment.events import (
    AttemptFailed,
    DriverStarted,
    PauseRequested,
    TimeRanOut,
    TrialWarned,
    ValidationReported,
)
from ashwood.experiment.lifecycle import ExperimentState, TrialState
from ashwood.experiment.spec import Length, Unit
from ashwood.search.settings import Method
from ashwood.search.space import Const, Int, Space
from ashwood.search.vocabulary import (
    BracketFinished,
    Created,
    Dropped,
    LastChance,
    Promoted,
    ReachedEnd,
    Waits,
)
from tests.experiment.conftest import Begin
from tests.experiment.world import World, state_of


def messages(decisions: tuple[object, ...]) -> list[str]:
    return [decision.message for decision in decisions if isinstance(decision, Warn)]


# -- promotion ---------------------------------------------------------------------------------


def test_best_of_two_is_promoted(begin: Begin) -> None:
    world = begin(slots=2, max_trials=2)
    a, b = world.processes[0], world.processes[1]
    assert (a.target, b.target) == (2, 2)
    assert world.report(a, 2, loss=0.9) == (PauseTrial(0, 1, Waits(rung=0, rank=1, of=1, best=0)),)
    # It still has its process, so it continues there.
    assert world.report(b, 2, loss=0.1) == (ContinueTrial(1, 1, 4, Promoted(rung=0, rank=1, of=2, best=1)),)
    assert world.report(b, 4, loss=0.1) == (
        CompleteTrial(1, 1, ReachedEnd(4)),
        CloseTrial(0, TrialState.STOPPED, BracketFinished(0)),
    )
    assert world.experiment.over
    assert world.stop() == (EndExperiment(ExperimentState.COMPLETED, "the search is done"),)


def test_report_of_one_trial_promotes_another_paused_one(begin: Begin) -> None:
    world = begin(slots=2, max_trials=2)
    world.report(world.processes[0], 2, loss=0.1)
    assert world.report(world.processes[1], 2, loss=0.9) == (
        PauseTrial(1, 1, Waits(rung=0, rank=2, of=2, best=1)),
        TrainTrial(0, 2, 4, Promoted(rung=0, rank=1, of=2, best=1)),
    )


def test_one_worker_runs_whole_search(begin: Begin) -> None:
    world = begin(slots=1, max_trials=2)
    assert list(world.processes) == [0]
    paused, created = world.report(world.processes[0], 2, loss=0.5)
    assert paused == PauseTrial(0, 1, Waits(0, 1, 1, 0))
    assert isinstance(created, CreateTrial)
    assert created.why == Created(bracket=0, nth=1)


def test_larger_metric_is_better_if_spec_says_so(begin: Begin) -> None:
    world = begin(smaller_is_better=False)
    world.report(world.processes[0], 2, loss=0.1)
    assert isinstance(world.report(world.processes[1], 2, loss=0.9)[0], ContinueTrial)


@pytest.mark.parametrize("smaller_is_better", [True, False])
@pytest.mark.parametrize("bad", [inf, -inf, nan])
def test_infinities_rank_worst_in_both_directions(begin: Begin, bad: float, smaller_is_better: bool) -> None:
    world = begin(smaller_is_better=smaller_is_better)
    world.report(world.processes[0], 2, loss=bad)
    (decision,) = world.report(world.processes[1], 2, loss=123.0)
    assert decision == ContinueTrial(1, 1, 4, Promoted(0, 1, 2, 1))


def test_best_trial_of_small_bracket_gets_last_chance(begin: Begin) -> None:
    world = begin(slots=2, max_trials=3, divisor=Fraction(4), method=Method.ADAPTIVE_ASHA, bracket_rungs=(2,))
    for trial, loss in ((0, 3.0), (1, 1.0)):
        world.report(world.processes[trial], 1, loss=loss)
    assert world.report(world.processes[2], 1, loss=2.0) == (
        PauseTrial(2, 1, Waits(rung=0, rank=2, of=3, best=0)),
        TrainTrial(1, 2, 4, LastChance(rung=0, rank=1, of=3)),
    )


def test_stop_once_pauses_no_trial(begin: Begin) -> None:
    world = begin(slots=2, max_trials=2, stop_once=True)
    assert world.report(world.processes[0], 2, loss=0.1) == (ContinueTrial(0, 1, 4, Promoted(0, 1, 1, 1)),)
    assert world.report(world.processes[1], 2, loss=0.9) == (StopTrial(1, 1, Dropped(0, 2, 2, 1)),)
    assert world.report(world.processes[0], 4, loss=0.1) == (CompleteTrial(0, 1, ReachedEnd(4)),)
    assert world.stop()[0] == EndExperiment(ExperimentState.COMPLETED, "the search is done")


def test_sync_rung_promotes_its_best_together(begin: Begin) -> None:
    world = begin(method=Method.SYNC_HALVING, slots=4, max_trials=4, num_rungs=2)
    for trial in range(3):
        assert len(world.report(world.processes[trial], 2, loss=float(trial))) == 1
    waits, first, second = world.report(world.processes[3], 2, loss=9.0)
    assert waits == PauseTrial(3, 1, Waits(0, 4, 4, 2))
    assert first == TrainTrial(0, 2, 4, Promoted(0, 1, 4, 2))
    assert second == TrainTrial(1, 2, 4, Promoted(0, 2, 4, 2))


def test_grid_search_tries_each_point(begin: Begin) -> None:
    space = Space({"a": Int(0, 9, 2), "b": Int(1, 3, 3), "c": Const("x")})
    world = begin(method=Method.GRID, slots=99, max_trials=6, max_concurrent_trials=0, space=space)
    points = [trial.hparams for trial in world.experiment.trials.values()]
    assert points == [{"a": a, "b": b, "c": "x"} for a in (0, 9) for b in (1, 2, 3)]


# -- reports that decide nothing -------------------------------------------------------------


def test_report_below_target_decides_nothing(begin: Begin) -> None:
    world = begin(max_length=100)
    assert world.report(world.processes[0], 7, loss=0.1) == ()
    assert world.experiment.trials[0].length == 7


def test_second_report_at_one_length_causes_warning(begin: Begin) -> None:
    world = begin(max_length=100)
    process = world.processes[0]
    world.report(process, 7, loss=0.1)
    assert messages(world.report(process, 7, loss=0.2)) == ["trial 0 reported 'loss' at length 7 again"]
    # Another metric is no second report, nor is the same one from a later attempt that repeats the training.
    assert world.report(process, 7, accuracy=0.2) == ()
    world.fail(process)
    assert world.report(world.processes[0], 7, loss=0.1) == ()


def test_second_report_at_target_causes_no_second_decision(begin: Begin) -> None:
    world = begin(slots=2, stop_once=True)
    process = world.processes[0]
    assert isinstance(world.report(process, 2, loss=0.1)[0], ContinueTrial)
    assert messages(world.report(process, 2, loss=0.0)) == ["trial 0 reported 'loss' at length 2 again"]
    world.report(world.processes[1], 2, loss=0.9)
    assert messages(world.report(world.processes[1], 2, loss=0.0)) == [
        "trial 1 reported at length 2, but it is stopped"
    ]


def test_report_without_metric_causes_warning_and_can_be_corrected(begin: Begin) -> None:
    world = begin()
    assert messages(world.report(world.processes[0], 2, accuracy=0.5, f1=0.2)) == [
        "trial 0 reported accuracy, f1 at length 2, without 'loss'"
    ]
    assert messages(world.report(world.processes[0], 2)) == ["trial 0 reported nothing at length 2, without 'loss'"]
    assert isinstance(world.report(world.processes[0], 2, loss=0.5)[0], PauseTrial)


def test_report_of_training_metrics_alone_causes_no_warning(begin: Begin) -> None:
    world = begin()
    assert world.handle(ValidationReported(0, 1, 2, {"training.loss": 0.5})) == ()
    periodic = begin(min_validation_period=Length(5, Unit.EPOCHS))
    assert periodic.handle(ValidationReported(0, 1, 2, {"train_loss": 0.5})) == ()
    old = begin(rules=1)
    assert messages(old.handle(ValidationReported(0, 1, 2, {"training.loss": 0.5}))) == [
        "trial 0 reported training.loss at length 2, without 'loss'"
    ]


@pytest.mark.parametrize("rules", [2, 3])
def test_each_warning_of_training_code_is_shown_once(begin: Begin, rules: int) -> None:
    world = begin(rules=rules)
    assert messages(world.handle(TrialWarned(1, 1, "never restored"))) == ["trial 1: never restored"]
    assert world.handle(TrialWarned(0, 1, "never restored")) == ()
    # By older rules only the first warning is shown.
    assert messages(world.handle(TrialWarned(0, 1, "saves slowly"))) == ["trial 0: saves slowly"] * (rules >= 3)


def test_report_of_ended_attempt_causes_warning(begin: Begin) -> None:
    world = begin()
    dead = world.processes[0]
    world.fail(dead)
    assert messages(world.report(dead, 2, loss=0.0)) == [
        "trial 0 reported at length 2, but it is attempt 2 that counts now, not attempt 1"
    ]


# -- attempts ----------------------------------------------------------------------------------


def test_failed_trial_is_restarted_at_most_max_restarts_times(begin: Begin) -> None:
    world = begin(max_restarts=2)
    assert world.fail(world.processes[0]) == (TrainTrial(0, 2, 2, Retried(1, 2)),)
    assert world.fail(world.processes[0]) == (TrainTrial(0, 3, 2, Retried(2, 2)),)
    assert world.fail(world.processes[0]) == (CloseTrial(0, TrialState.ERRORED, GaveUp(3)),)


def test_slot_of_errored_trial_is_free_at_once(begin: Begin) -> None:
    world = begin(slots=1, max_restarts=0)
    closed, created = world.fail(world.processes[0])
    assert closed == CloseTrial(0, TrialState.ERRORED, GaveUp(1))
    assert isinstance(created, CreateTrial)


def test_attempt_that_ends_before_its_target_has_failed(begin: Begin) -> None:
    world = begin()
    world.report(world.processes[0], 1, loss=0.5)
    assert world.end(world.processes[0]) == (TrainTrial(0, 2, 2, Retried(1, 1)),)


def test_failure_of_ended_attempt_changes_nothing(begin: Begin) -> None:
    world = begin()
    dead = world.processes[0]
    world.fail(dead)
    assert messages(world.fail(dead)) == ["trial 0 failed while it released its worker; its results count: Boom"]
    assert world.end(dead) == world.reject(dead) == world.give_up(dead) == ()
    assert world.experiment.trials[0].failures == 1


@pytest.mark.parametrize(
    ("why", "words"),
    [
        (Retried(1, 1), "restarted after failure 1 (at most 1 restart)"),
        (Retried(2, 5), "restarted after failure 2 (at most 5 restarts)"),
        (GaveUp(1), "failed once"),
        (GaveUp(2), "failed twice"),
        (GaveUp(2, is_same=True), "failed twice with the same error at the same place"),
        (GaveUp(4, is_same=True), "failed 4 times, the last two times with the same error at the same place"),
    ],
)
def test_failures_are_counted_in_words(why: Retried | GaveUp, words: str) -> None:
    assert str(why) == words


def test_restarted_trial_resumes_from_latest_checkpoint(begin: Begin) -> None:
    world = begin(max_length=100)
    process = world.processes[0]
    world.report(process, 20, loss=0.5)
    assert world.save(process) == ()
    world.report(process, 30, loss=0.5)
    world.fail(process)
    trial = world.experiment.trials[0]
    assert (trial.checkpoint, trial.checkpoint_length) == ("trial-0/length-20-attempt-1", 20)


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (5, "trial 0 starts again from 0 and repeats 1 steps of training: no checkpoint of it had been saved. If"),
        (6, "trial 0 restarts from 0 because it saved no checkpoint (1 step repeated). If its code saves none, pass"),
    ],
)
def test_first_restart_without_a_checkpoint_causes_a_warning(begin: Begin, rules: int, expected: str) -> None:
    world = begin(slots=1, max_length=100, rules=rules)
    world.report(world.processes[0], 1, loss=0.5)
    world.fail(world.processes[0])
    (message,) = messages(world.begin(world.processes[0]))
    assert message.startswith(expected)


# -- workers that are lost ---------------------------------------------------------------------


def test_preempted_trial_resumes_on_other_worker_from_latest_checkpoint(begin: Begin) -> None:
    world = begin(max_length=100)
    process = world.processes[0]
    world.report(process, 20, loss=0.5)
    world.save(process)
    world.report(process, 30, loss=0.5)
    assert world.preempt(process) == (TrainTrial(0, 2, 50, Preempted("a spot instance")),)
    assert world.processes[0].length == 20


def test_preemption_does_not_count_as_failure(begin: Begin) -> None:
    world = begin(max_restarts=0, max_common_failures=1)
    for attempt in range(2, 100):
        assert world.preempt(world.processes[0]) == (TrainTrial(0, attempt, 2, Preempted("a spot instance")),)
    assert world.experiment.trials[0].failures == 0


def test_same_error_at_same_place_twice_in_a_row_fails_the_trial(begin: Begin) -> None:
    world = begin(max_restarts=5, max_trials=1, max_length=4)
    there, elsewhere = "ValueError at t.py:3, length 2", "ValueError at t.py:3, length 3"
    for failures, cause in enumerate((there, "", there, elsewhere), start=1):
        assert world.fail(world.processes[0], cause) == (TrainTrial(0, failures + 1, 4, Retried(failures, 5)),)
    decisions = world.fail(world.processes[0], elsewhere)
    assert CloseTrial(0, TrialState.ERRORED, GaveUp(5, is_same=True)) in decisions


def test_trial_keeps_its_job_when_all_trials_fail_in_the_same_way(begin: Begin) -> None:
    world = begin(slots=1, max_restarts=5, max_trials=1, max_common_failures=1)
    for _ in range(2):
        decisions = world.fail(world.processes[0], "ValueError at t.py:3, length 0")
    assert isinstance(decisions[0], LeaveExperiment)
    assert world.experiment.trials[0].state is TrialState.RUNNING


def test_trial_that_loses_workers_without_progress_fails(begin: Begin) -> None:
    world = begin(max_restarts=1, max_preemptions=2, max_trials=1, max_length=4)
    for attempt in (2, 3):
        assert world.preempt(world.processes[0]) == (TrainTrial(0, attempt, 4, Preempted("a spot instance")),)
    assert world.preempt(world.processes[0]) == (TrainTrial(0, 4, 4, Retried(1, 1)),)
    assert CloseTrial(0, TrialState.ERRORED, GaveUp(2)) in world.preempt(world.processes[0])
    (ended,) = world.stop()
    assert isinstance(ended, EndExperiment)
    assert ended.why == (
        "every trial failed, the last with: its worker was lost 4 times in a row without getting any further, "
        "the last time: a spot instance"
    )


@pytest.mark.parametrize("how", ["report", "checkpoint", "driver"])
def test_progress_resets_count_of_lost_workers(begin: Begin, how: str) -> None:
    world = begin(max_restarts=0, max_preemptions=1, max_trials=1, max_length=20)
    world.report(world.processes[0], 5, loss=0.5)
    for length in range(1, 9):
        world.preempt(world.processes[0])
        match how:
            case "report":
                world.report(world.processes[0], 5 + length, loss=0.5)
            case "checkpoint":
                world.processes[0].length = length
                world.save(world.processes[0])
            case "driver":
                world.start(1)
    assert world.experiment.trials[0].failures == 0


def test_repeated_training_is_no_progress(begin: Begin) -> None:
    world = begin(max_restarts=5, max_preemptions=1, max_trials=1, max_length=9)
    failures = []
    for _ in range(3):
        process = world.processes[0]
        world.report(process, 3, loss=0.5)
        world.save(process)
        world.preempt(process)
        failures.append(world.experiment.trials[0].failures)
    assert failures == [0, 1, 2]


def test_trials_that_lose_workers_alike_are_common_failure(begin: Begin) -> None:
    world = begin(slots=2, max_trials=2, max_preemptions=1, max_common_failures=2)
    states = []
    for trial in (0, 1, 0, 1, 0, 1):
        world.preempt(world.processes[trial])
        states.append(world.experiment.state)
    assert states == [*[ExperimentState.RUNNING] * 5, ExperimentState.PAUSING]


def test_attempt_lost_after_its_trial_paused_is_not_restarted(begin: Begin) -> None:
    world = begin(slots=2, max_trials=2)
    process = world.processes[0]
    world.report(process, 2, loss=0.9)
    assert world.preempt(process) == ()
    assert world.experiment.trials[0].state is TrialState.PAUSED


def test_preemption_while_experiment_pauses_starts_no_attempt(begin: Begin) -> None:
    world = begin(slots=2)
    world.pause()
    assert world.preempt(world.processes[0]) == ()
    world.stop()
    assert world.start(2)[0] == TrainTrial(0, 3, 2, Recovered())


def test_preemption_while_experiment_is_canceled_changes_nothing(begin: Begin) -> None:
    world = begin(slots=2)
    world.cancel()
    assert world.preempt(world.processes[0]) == ()
    assert world.experiment.trials[0].attempt == 1


# -- workers that do not react to a request to stop ---------------------------------------------


@pytest.mark.parametrize("way", ["pause", "time"])
def test_trial_whose_hung_worker_is_killed_keeps_its_job_and_its_budget_of_failures(begin: Begin, way: str) -> None:
    world = begin(slots=2, max_restarts=0, max_preemptions=0, max_time=60.0)
    process = world.processes[0]
    world.report(process, 1, loss=0.5)
    world.save(process)
    world.pause() if way == "pause" else world.handle(TimeRanOut(60.0))
    (warning,) = world.kill_hung(process)
    assert warning == Warn("the worker of trial 0 was killed: it finished no step. The trial resumes from length 1")
    world.stop()
    trial = world.experiment.trials[0]
    assert (trial.state, trial.failures, trial.preemptions) == (TrialState.RUNNING, 0, 0)
    assert world.start(2)[0] == TrainTrial(0, 3, 2, Recovered())


def test_hung_worker_of_a_canceled_experiment_is_killed_with_a_warning_only(begin: Begin) -> None:
    world = begin(slots=2)
    world.cancel()
    (warning,) = world.kill_hung(world.processes[0])
    assert warning == Warn("the worker of trial 0 was killed: it finished no step. The trial's results stand")
    assert world.experiment.trials[0].attempt == 1


def test_trial_without_checkpoint_whose_hung_worker_is_killed_starts_from_zero(begin: Begin) -> None:
    world = begin(slots=1)
    world.pause()
    (warning,) = world.kill_hung(world.processes[0])
    assert isinstance(warning, Warn)
    assert warning.message.endswith("The trial has no checkpoint, so it starts from 0 when the experiment is resumed")


# -- checkpoints -------------------------------------------------------------------------------


def test_checkpoint_can_be_saved_after_its_trial_was_promoted(begin: Begin) -> None:
    world = begin(slots=2, max_trials=2)
    first = world.processes[0]
    world.report(first, 2, loss=0.1)
    world.report(world.processes[1], 2, loss=0.9)
    assert world.experiment.trials[0].attempt == 2
    world.save(first)
    assert world.experiment.trials[0].checkpoint == "trial-0/length-2-attempt-1"
    assert world.end(first) == ()
    assert world.experiment.trials[0].state is TrialState.RUNNING


def test_shorter_checkpoint_does_not_replace_longer_one(begin: Begin) -> None:
    world = begin(max_length=100)
    first = world.processes[0]
    world.report(first, 10, loss=0.5)
    world.fail(first)
    second = world.processes[0]
    world.report(second, 20, loss=0.5)
    world.save(second)
    world.save(first)
    assert world.experiment.trials[0].checkpoint == "trial-0/length-20-attempt-2"


def test_lost_work_causes_one_warning(begin: Begin) -> None:
    world = begin(max_restarts=5)
    for trial in (0, 1, 0):
        world.report(world.processes[trial], 1, loss=0.5)
        world.fail(world.processes[trial])
    started = [world.begin(world.processes[trial]) for trial in (0, 1)]
    assert len(messages(started[0])) == 1
    assert "stop_once" in messages(started[0])[0]
    assert started[1] == ()


def test_invalid_trial_is_replaced(begin: Begin) -> None:
    world = begin(slots=1, max_trials=1, method=Method.RANDOM)
    closed, created = world.reject(world.processes[0])
    assert closed == CloseTrial(0, TrialState.INVALID, DeclaredInvalid("too wide"))
    assert isinstance(created, CreateTrial)
    assert (created.trial, created.nth) == (1, 1)


def test_too_many_invalid_trials_fail_an_experiment_of_older_rules(begin: Begin) -> None:
    world = begin(slots=2, max_trials=2, method=Method.RANDOM, rules=2)
    for _ in range(20):
        world.reject(world.processes[min(world.processes)])
    assert not world.experiment.over
    left = world.processes[max(world.processes)]
    # The 21st invalid trial is one too many: no trial replaces it, and later reports create none.
    assert len(world.reject(world.processes[min(world.processes)])) == 1
    assert world.experiment.over
    assert world.report(left, 4, loss=0.5) == (CompleteTrial(left.trial, 1, ReachedEnd(4)),)
    (ended,) = world.stop()
    assert isinstance(ended, EndExperiment)
    assert ended.state is ExperimentState.ERRORED
    assert "21 trials declared their hyperparameters invalid, more than 10 times" in ended.why
    assert "too wide" in ended.why


def test_failed_experiment_starts_no_attempt(begin: Begin) -> None:
    world = begin(slots=2, max_trials=2, method=Method.RANDOM, max_restarts=9, rules=2)
    for _ in range(21):
        world.reject(world.processes[min(world.processes)])
    (left,) = world.processes.values()
    assert world.fail(left) == ()
    assert world.start(2) == ()
    closed, ended = world.stop()
    assert closed == CloseTrial(left.trial, TrialState.STOPPED, ExperimentEnded())
    assert ended == EndExperiment(ExperimentState.ERRORED, world.experiment._final_state()[1])


def test_invalid_grid_point_is_not_replaced(begin: Begin) -> None:
    space = Space({"a": Int(0, 1, 2)})
    world = begin(slots=1, method=Method.GRID, max_trials=2, space=space)
    world.reject(world.processes[0])
    world.reject(world.processes[1])
    assert world.experiment.over
    assert world.stop() == (EndExperiment(ExperimentState.ERRORED, "every trial failed"),)


def test_trial_stopped_by_its_code_frees_its_slot(begin: Begin) -> None:
    world = begin(slots=1)
    closed, created = world.give_up(world.processes[0])
    assert closed == CloseTrial(0, TrialState.STOPPED, StoppedItself())
    assert isinstance(created, CreateTrial)


def test_an_experiment_in_which_every_trial_failed_is_errored(begin: Begin) -> None:
    world = begin(max_restarts=0)
    world.fail(world.processes[0])
    world.fail(world.processes[1])
    assert world.experiment.over
    assert world.stop() == (EndExperiment(ExperimentState.ERRORED, "every trial failed, the last with: Boom"),)


# -- drivers -----------------------------------------------------------------------------------


def test_pause_suspends_running_trials_and_starts_no_other(begin: Begin) -> None:
    world = begin(slots=2, max_trials=4, num_rungs=2)
    leave = LeaveExperiment(ExperimentState.PAUSED, Asked("paused"))
    assert world.pause() == (leave, SuspendTrial(0, 1), SuspendTrial(1, 1))
    with pytest.raises(IllegalEvent, match="isn't running: it is pausing"):
        world.pause()
    assert world.report(world.processes[0], 2, loss=0.5) == (PauseTrial(0, 1, Waits(0, 1, 1, 0)),)
    world.save(world.processes[1])
    assert world.end(world.processes[1]) == ()
    assert world.stop() == (EndExperiment(ExperimentState.PAUSED, "paused on request"),)
    recovered, created = world.start(2)
    assert recovered == TrainTrial(1, 2, 2, Recovered())
    assert isinstance(created, CreateTrial)


def test_trial_promoted_while_experiment_pauses_keeps_its_new_job(begin: Begin) -> None:
    world = begin(slots=1, stop_once=True)
    world.pause()
    assert world.report(world.processes[0], 2, loss=0.5) == (SuspendTrial(0, 1),)
    world.stop()
    assert world.start(1) == (TrainTrial(0, 2, 4, Recovered()),)


def test_failure_while_experiment_pauses_starts_no_attempt(begin: Begin) -> None:
    world = begin(slots=1)
    world.pause()
    assert world.fail(world.processes[0]) == ()
    assert world.experiment.trials[0].failures == 1
    assert [trial.id for trial in world.experiment.outstanding()] == [0]
    world.stop()
    (recovered,) = world.start(1)
    assert isinstance(recovered, TrainTrial)
    assert recovered.why == Recovered()


def test_failure_while_experiment_pauses_replays_log_of_version_1(begin: Begin) -> None:
    world = begin(slots=1)
    world.pause()
    world.fail(world.processes[0])
    world.stop()
    assert world.start(1) == (TrainTrial(0, 3, 2, Recovered()),)


def test_running_trials_resume_after_driver_crash(begin: Begin) -> None:
    world = begin(slots=2)
    world.save(world.processes[1])
    assert world.start(1) == (TrainTrial(0, 2, 2, Recovered()), TrainTrial(1, 2, 2, Recovered()))


def test_no_job_after_driver_crash_after_last_result(begin: Begin) -> None:
    world = begin(slots=1, max_trials=1, method=Method.SINGLE)
    world.report(world.processes[0], 4, loss=0.5)
    assert world.start(4) == ()
    assert world.experiment.over
    assert world.stop()[0] == EndExperiment(ExperimentState.COMPLETED, "the search is done")


def test_jobs_follow_capacity(begin: Begin) -> None:
    world = begin(slots=0, max_trials=5)
    assert world.processes == {}
    assert len(world.resize(3)) == 3
    assert world.resize(1) == ()
    assert len(world.report(world.processes[0], 2, loss=0.5)) == 1
    assert len(world.processes) == 3


def test_at_most_max_concurrent_trials_run(begin: Begin) -> None:
    assert len(begin(slots=99, max_trials=9, max_concurrent_trials=3).processes) == 3
    assert len(begin(slots=99, max_trials=9, max_concurrent_trials=0).processes) == 9


# -- illegal events ----------------------------------------------------------------------------


def illegal(world: World, event: object, telling: str) -> None:
    before = state_of(world.experiment)
    with pytest.raises(IllegalEvent, match=telling):
        world.experiment.handle(event)  # type: ignore[arg-type]
    assert state_of(world.experiment) == before


def test_event_of_unknown_trial_is_illegal(begin: Begin) -> None:
    world = begin()
    illegal(world, ValidationReported(7, 1, 2, {"loss": 0.5}), "there is no trial 7")
    illegal(world, AttemptFailed(-1, 1, "Boom"), "there is no trial -1")


def test_event_after_the_end_is_illegal(begin: Begin) -> None:
    world = begin(max_restarts=0)
    world.fail(world.processes[0])
    world.fail(world.processes[1])
    world.stop()
    for event in (DriverStarted(1), PauseRequested(), ValidationReported(0, 1, 2, {"loss": 0.5})):
        illegal(world, event, "the experiment is errored")
