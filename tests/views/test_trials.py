"""The table of trials: against the experiment itself, and against going through the whole log again."""

from __future__ import annotations

from math import inf, isfinite, nan

import pytest
from hypothesis import given

from ashwood.experiment.decisions import Retried, TrainTrial
from ashwood.experiment.events import (
    AttemptFailed,
    AttemptStarted,
    CheckpointSaved,
    DriverStarted,
    HparamsRejected,
    LastWord,
    ValidationReported,
)
from ashwood.experiment.experiment import Experiment
from ashwood.experiment.lifecycle import ExperimentState, TrialState
from ashwood.experiment.spec import ExperimentSpec
from ashwood.search.settings import Method
from ashwood.views.chronicle import chronicle
from ashwood.views.trials import Checkpoint, TrialRow, TrialTable
from tests.experiment.world import World, make_spec
from tests.views.simulate import Entry, Workers, asha, power_law, spec_of
from tests.views.streams import runs


def table_of(spec: ExperimentSpec, entries: list[Entry]) -> TrialTable:
    table = TrialTable(spec)
    for entry in entries:
        table.apply(*entry)
    return table


@given(ran=runs())
def test_the_table_agrees_with_the_experiment(ran: Workers) -> None:
    table = table_of(ran.experiment.spec, ran.entries)
    assert list(table.rows) == list(ran.experiment.trials)
    suspended = ran.experiment.state in (ExperimentState.PAUSING, ExperimentState.PAUSED)
    for id_, trial in ran.experiment.trials.items():
        row = table.rows[id_]
        assert (row.has_job, row.length) == (trial.state is TrialState.RUNNING, trial.length)
        rests = trial.state is TrialState.RUNNING and ran.experiment.state is ExperimentState.PAUSED
        assert row.state is (TrialState.PAUSED if rests else trial.state)
        # An attempt that dies while the experiment pauses has a successor that nobody has started yet.
        assert row.attempt == trial.attempt or (suspended and row.attempt == trial.attempt - 1)
        assert (row.hparams, row.seed) == (trial.hparams, trial.seed)
        assert (row.bracket, row.nth) == ran.experiment.search.address(id_)
        assert suspended or row.target == trial.target
        assert (row.checkpoint and row.checkpoint.path) == trial.checkpoint
        assert (row.ended_at is not None) == (row.state not in (TrialState.RUNNING, TrialState.PAUSED))
    for state in TrialState:
        assert table.states[state] == sum(row.state is state for row in table.rows.values())


def test_last_report_of_a_stopped_trial_counts() -> None:
    for rules, length in ((2, 1), (3, 2)):
        world = World(make_spec(Method.SINGLE, max_trials=1, rules=rules))
        world.start(1)
        world.report(world.processes[0], 1, loss=0.5)
        world.stop_trial(0)
        world.report(world.processes[0], 2, loss=0.25)
        told = chronicle(world.spec, [(0.0, *entry) for entry in world.log])
        assert (told.progress.trials.rows[0].metric_length, len(told.history.reports.of(0))) == (length, length)
        assert told.progress.warnings == (rules < 3)


@given(ran=runs())
def test_the_best_is_what_a_search_of_the_whole_log_finds(ran: Workers) -> None:
    spec = ran.experiment.spec
    sign = 1 if spec.smaller_is_better else -1
    told = chronicle(spec, ran.entries)
    table = told.progress.trials
    best: dict[int, float] = {}
    replayed = Experiment(spec)
    for _, event, _ in ran.entries:
        if isinstance(event, ValidationReported):
            trial = replayed.trials[event.trial]
            value = event.metrics["loss"]
            if trial.state is TrialState.RUNNING and trial.attempt == event.attempt and isfinite(value):
                best[trial.id] = min(best.get(trial.id, inf), sign * value)
        replayed.handle(event)
    for row in table.rows.values():
        assert row.metric == (sign * best[row.id] if row.id in best else None)
        if row.metric is not None:
            first = next(report for report in told.history.reports.of(row.id) if report.metrics["loss"] == row.metric)
            assert (row.metric_length, row.metric_at) == (first.length, first.at)
    valid = [trial for trial in best if table.rows[trial].state is not TrialState.INVALID]
    expected = sorted(valid, key=lambda trial: (best[trial], trial))
    assert [row.id for row in table.best(len(table.rows))] == expected
    assert [row.id for row in table.ranked()][: len(expected)] == expected
    assert len(table.ranked()) == len(table.rows)
    assert (table.leader.id if table.leader else None) == (expected[0] if expected else None)


@given(ran=runs())
def test_seconds_are_the_sum_of_what_processes_worked(ran: Workers) -> None:
    table = table_of(ran.experiment.spec, ran.entries)
    seconds = dict.fromkeys(table.rows, 0.0)
    started: dict[int, float] = {}
    last = 0.0
    for at, event, _ in ran.entries:
        match event:
            case DriverStarted():
                for trial, since in started.items():
                    seconds[trial] += last - since
                started.clear()
            case AttemptStarted(trial):
                started[trial] = at
            case _ if isinstance(event, LastWord):
                seconds[event.trial] += at - started.pop(event.trial)
        last = at
    assert {row.id: row.seconds for row in table.rows.values()} == pytest.approx(seconds)


# -- by hand ----------------------------------------------------------------------------------


def one_trial(*, smaller_is_better: bool = True) -> tuple[TrialTable, TrialRow]:
    table = TrialTable(spec_of(asha(1, method=Method.SINGLE, max_length=9), smaller_is_better=smaller_is_better))
    experiment = Experiment(spec_of(asha(1, method=Method.SINGLE, max_length=9)))
    table.apply(1.0, started := DriverStarted(1), experiment.handle(started))
    return table, table.rows[0]


def test_nan_and_infinities_are_never_the_best() -> None:
    for smaller_is_better in (True, False):
        table, row = one_trial(smaller_is_better=smaller_is_better)
        for length, value in enumerate((nan, inf, -inf), start=1):
            table.apply(2.0, ValidationReported(0, 1, length, {"loss": value}), ())
        assert table.leader is None
        assert table.best(1) == []
        assert table.ranked() == [row]
        table.apply(3.0, ValidationReported(0, 1, 4, {"loss": 5.0}), ())
        assert table.leader is row
        assert [row.metric, row.metric_length, row.metric_at] == [5.0, 4, 3.0]


def test_bigger_is_better_where_the_spec_says_so() -> None:
    table, row = one_trial(smaller_is_better=False)
    for length, value in enumerate((0.5, 0.9, 0.7), start=1):
        table.apply(float(length), ValidationReported(0, 1, length, {"loss": value}), ())
    assert (row.metric, row.metric_length) == (0.9, 2)
    assert row.metrics == {"loss": 0.7}


def test_a_report_without_the_metric_is_the_latest_but_not_the_best() -> None:
    table, row = one_trial()
    table.apply(2.0, ValidationReported(0, 1, 3, {"accuracy": 0.5}), ())
    assert (row.length, row.metrics, row.metric) == (3, {"accuracy": 0.5}, None)


def test_the_best_checkpoint_is_the_one_where_the_metric_was_best() -> None:
    table, row = one_trial()
    for length, value in ((1, 0.3), (2, 0.1), (3, 0.2), (4, 0.9)):
        table.apply(2.0, ValidationReported(0, 1, length, {"loss": value}), ())
        if length != 2:
            table.apply(2.0, CheckpointSaved(0, 1, length, f"at-{length}"), ())
    assert row.checkpoint == Checkpoint("at-4", 4, 0.9)
    assert row.best_checkpoint == Checkpoint("at-3", 3, 0.2)


def test_best_checkpoint_is_known_although_checkpoints_arrive_late() -> None:
    table, row = one_trial()
    for length, value in ((1, 0.3), (2, 0.1), (3, 0.2)):
        table.apply(2.0, ValidationReported(0, 1, length, {"loss": value}), ())
    for length, value in ((1, 0.3), (2, 0.1), (3, 0.2)):
        table.apply(3.0, CheckpointSaved(0, 1, length, f"at-{length}", {"loss": value}), ())
    assert row.checkpoint == Checkpoint("at-3", 3, 0.2)
    assert row.best_checkpoint == Checkpoint("at-2", 2, 0.1)


def test_a_checkpoint_may_be_saved_before_its_metric_is_known() -> None:
    table, row = one_trial()
    for length, value in ((1, 0.1), (2, 0.9)):
        table.apply(2.0, CheckpointSaved(0, 1, length, f"at-{length}"), ())
        assert row.best_checkpoint is not None
        table.apply(2.0, ValidationReported(0, 1, length, {"loss": value}), ())
    assert row.checkpoint == Checkpoint("at-2", 2, 0.9)
    assert row.best_checkpoint == Checkpoint("at-1", 1, 0.1)


def test_what_a_dead_attempt_says_late_changes_nothing_but_its_checkpoint() -> None:
    table, row = one_trial()
    table.apply(2.0, AttemptFailed(0, 1, "boom"), (TrainTrial(0, 2, 9, Retried(1, 5)),))
    table.apply(3.0, ValidationReported(0, 1, 3, {"loss": 0.1}), ())
    table.apply(3.0, CheckpointSaved(0, 1, 3, "at-3"), ())
    assert (row.attempt, row.length, row.metrics) == (2, 0, {})
    assert table.leader is None
    assert row.checkpoint == Checkpoint("at-3", 3, None)


def test_errors_are_kept_word_for_word() -> None:
    ran = Workers(spec_of(asha(4, max_length=8), max_restarts=1), power_law(1), faults=(1.0, 0.0, 0.0))
    table = table_of(ran.experiment.spec, ran.run())
    errors = [event.error for _, event, _ in ran.entries if isinstance(event, AttemptFailed) and event.trial == 0]
    assert list(table.rows[0].errors) == errors == ["boom\nTraceback"] * 2
    assert table.rows[0].state is TrialState.ERRORED


def test_a_trial_that_turns_out_invalid_hands_the_lead_on() -> None:
    spec = spec_of(asha(2, method=Method.RANDOM, max_length=8, max_concurrent_trials=2))
    experiment, table = Experiment(spec), TrialTable(spec)
    for event in (
        DriverStarted(2),
        ValidationReported(0, 1, 1, {"loss": 0.1}),
        ValidationReported(1, 1, 1, {"loss": 0.2}),
        HparamsRejected(0, 1, "no"),
    ):
        table.apply(1.0, event, experiment.handle(event))
    assert table.leader is table.rows[1]
    assert [row.id for row in table.ranked()] == [1, 0, 2]
