"""Tests of the table of trials, against the experiment and against a search of the whole log."""

from __future__ import annotations

from dataclasses import astuple, replace
from math import inf, isfinite, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ashwood.experiment.decisions import DeleteCheckpoint, OverQuota, Retried, TrainTrial
from ashwood.experiment.entry import Entry, fold
from ashwood.experiment.events import (
    AttemptFailed,
    AttemptStarted,
    CheckpointDamaged,
    CheckpointSaved,
    DriverStarted,
    FinalEvent,
    HparamsInvalid,
    ValidationReported,
)
from ashwood.experiment.experiment import Experiment
from ashwood.experiment.lifecycle import ExperimentState, TrialState
from ashwood.experiment.spec import CheckpointPolicy, ExperimentSpec
from ashwood.search.settings import Method
from ashwood.views.history import History
from ashwood.views.trials import SavedCheckpoint, TrialRow, TrialTable
from tests.experiment.world import World, make_spec
from tests.views.simulate import Workers, asha, power_law, spec_of
from tests.views.streams import runs


def table_of(spec: ExperimentSpec, entries: list[Entry]) -> TrialTable:
    return fold(TrialTable(spec), entries)


@given(ran=runs())
def test_table_agrees_with_experiment(ran: Workers) -> None:
    table = table_of(ran.spec, ran.entries)
    assert list(table.rows) == list(ran.experiment.trials)
    suspended = ran.experiment.state in (ExperimentState.PAUSING, ExperimentState.PAUSED)
    for id_, trial in ran.experiment.trials.items():
        row = table.rows[id_]
        assert (row.has_job, row.length) == (trial.state is TrialState.RUNNING, trial.length)
        rests = trial.state is TrialState.RUNNING and ran.experiment.state is ExperimentState.PAUSED
        assert row.state is (TrialState.PAUSED if rests else trial.state)
        # After an attempt that dies while the experiment pauses, the next one has not started yet.
        assert row.attempt == trial.attempt or (suspended and row.attempt == trial.attempt - 1)
        assert (row.hparams, row.seed) == (trial.hparams, trial.seed)
        assert (row.bracket, row.nth) == ran.experiment.search.address(id_)
        assert suspended or row.target == trial.target
        latest = ran.experiment.checkpoints.latest(id_)
        assert (row.checkpoint and row.checkpoint.path) == (latest and latest.name)
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
        folded = fold(History(world.spec), [Entry(0.0, *entry) for entry in world.log])
        assert (folded.progress.trials.rows[0].metric_length, len(folded.details.reports.of(0))) == (length, length)
        assert folded.progress.warnings == (rules < 3)


@given(ran=runs(), damages=st.lists(st.tuples(st.integers(0, 300), st.integers(0, 9)), max_size=4))
def test_best_agrees_with_search_of_whole_log(ran: Workers, damages: list[tuple[int, int]]) -> None:
    spec = ran.spec
    entries = with_damages(ran.entries, damages)
    table, results = TrialTable(spec), Reference(spec)
    for count, entry in enumerate(entries):
        table.apply(entry)
        results.apply(entry)
        if count % 10 and count < len(entries) - 1:
            continue
        expected = results.ranked()
        assert [row.id for row in table.best(len(table.rows))] == expected
        assert [row.id for row in table.ranked()][: len(expected)] == expected
        assert (table.leader.id if table.leader else None) == (expected[0] if expected else None)
        assert (table.best_seen.id if table.best_seen else None) == results.best_seen()
        for row in table.rows.values():
            assert (row.metric, row.metric_length, row.metric_at) == (results.best.get(row.id) or (None, None, None))
            assert (row.seen, row.seen_length, row.seen_at) == (results.seen.get(row.id) or (None, None, None))


def with_damages(entries: list[Entry], damages: list[tuple[int, int]]) -> list[Entry]:
    """Return the entries with additional ones in which saved checkpoints are found damaged."""
    entries = list(entries)
    for place, which in sorted(damages, reverse=True):
        saved = [entry.event for entry in entries[:place] if isinstance(entry.event, CheckpointSaved)]
        if saved:
            found = saved[which % len(saved)]
            damage = CheckpointDamaged(found.trial, 0, found.path, "cut off")
            entries.insert(min(place, len(entries)), Entry(entries[min(place, len(entries)) - 1].at, damage, ()))
    return entries


class Reference:
    """Return the best results, from all reports and all existing checkpoints.

    Attributes:
        seen: of each trial the best report: metric, length and time.
        best: of each trial the best result, likewise.
    """

    def __init__(self, spec: ExperimentSpec) -> None:
        self.seen: dict[int, tuple[float, int, float]] = {}
        self._sign = 1 if spec.smaller_is_better else -1
        self._keeps = spec.checkpoint_policy is None or any(astuple(spec.checkpoint_policy))
        self._checkpoints: dict[str, tuple[int, float, int, float]] = {}
        self._has_saved = False
        self._experiment = Experiment(spec)

    def apply(self, entry: Entry) -> None:
        at, event, decisions = entry
        match event:
            case ValidationReported(trial, attempt, length, metrics):
                known = self._experiment.trials[trial]
                is_heard = known.state is TrialState.RUNNING and known.attempt == attempt
                if is_heard and isfinite(value := metrics["loss"]):
                    self.seen[trial] = min(
                        self.seen.get(trial, (value, length, at)), (value, length, at), key=self._loss
                    )
            case CheckpointSaved(trial, _, length, path, metrics):
                self._has_saved = True
                assert metrics is not None
                if isfinite(value := metrics.get("loss", nan)):
                    self._checkpoints[path] = (trial, value, length, at)
            case CheckpointDamaged(path=path):
                self._checkpoints.pop(path, None)
        for decision in decisions:
            if isinstance(decision, DeleteCheckpoint):
                self._checkpoints.pop(decision.path, None)
        if not isinstance(event, CheckpointDamaged):
            self._experiment.handle(event)

    @property
    def best(self) -> dict[int, tuple[float, int, float]]:
        if not (self._has_saved and self._keeps):
            return self.seen
        best = {trial: seen for trial, seen in self.seen.items() if self._is_replicate(trial)}
        for trial, *result in sorted(self._checkpoints.values(), key=lambda each: (self._sign * each[1], -each[2])):
            if not self._is_replicate(trial):  # Results of replicates are reports.
                best.setdefault(trial, (result[0], int(result[1]), result[2]))
        return best

    def ranked(self) -> list[int]:
        first = sorted(self._valid(self.best), key=lambda trial: (self._loss(self.best[trial]), trial))
        return first + [trial for trial in self._by_seen() if trial not in first]

    def best_seen(self) -> int | None:
        return next(iter(self._by_seen()), None)

    def _by_seen(self) -> list[int]:
        return sorted(self._valid(self.seen), key=lambda trial: (self._loss(self.seen[trial]), trial))

    def _valid(self, results: dict[int, tuple[float, int, float]]) -> list[int]:
        return [
            trial
            for trial in results
            if self._experiment.trials[trial].state is not TrialState.INVALID and not self._is_replicate(trial)
        ]

    def _is_replicate(self, trial: int) -> bool:
        return trial in self._experiment.search.replicates.created

    def _loss(self, result: tuple[float, int, float]) -> float:
        return self._sign * result[0]


@given(ran=runs())
def test_seconds_are_sum_of_attempts(ran: Workers) -> None:
    table = table_of(ran.spec, ran.entries)
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
            case _ if isinstance(event, FinalEvent):
                seconds[event.trial] += at - started.pop(event.trial)
        last = at
    assert {row.id: row.seconds for row in table.rows.values()} == pytest.approx(seconds)


# -- by hand ----------------------------------------------------------------------------------


def one_trial(*, smaller_is_better: bool = True) -> tuple[TrialTable, TrialRow]:
    table = TrialTable(spec_of(asha(1, method=Method.SINGLE, max_length=9), smaller_is_better=smaller_is_better))
    experiment = Experiment(spec_of(asha(1, method=Method.SINGLE, max_length=9)))
    table.apply(Entry(1.0, started := DriverStarted(1), experiment.handle(started)))
    return table, table.rows[0]


def test_nan_and_infinities_are_never_the_best() -> None:
    for smaller_is_better in (True, False):
        table, row = one_trial(smaller_is_better=smaller_is_better)
        for length, value in enumerate((nan, inf, -inf), start=1):
            table.apply(Entry(2.0, ValidationReported(0, 1, length, {"loss": value})))
        assert table.leader is None
        assert table.best(1) == []
        assert table.ranked() == [row]
        table.apply(Entry(3.0, ValidationReported(0, 1, 4, {"loss": 5.0})))
        assert table.leader is row
        assert [row.metric, row.metric_length, row.metric_at] == [5.0, 4, 3.0]


def test_best_is_the_best_checkpoint_and_not_the_lowest_report() -> None:
    spec = spec_of(asha(4, method=Method.RANDOM, max_length=64, max_concurrent_trials=4))
    experiment, table = Experiment(spec), TrialTable(spec)
    table.apply(Entry(1.0, started := DriverStarted(4), experiment.handle(started)))

    def report(trial: int, length: int, loss: float) -> None:
        table.apply(Entry(2.0, ValidationReported(trial, 1, length, {"loss": loss})))

    def save(trial: int, length: int, loss: float) -> None:
        table.apply(Entry(3.0, CheckpointSaved(trial, 1, length, f"trial-{trial}/at-{length}", {"loss": loss})))

    report(0, 14, 0.0886)
    report(2, 8, 0.0903)
    assert [(row.id, row.metric) for row in table.best(2)] == [(0, 0.0886), (2, 0.0903)]
    report(0, 64, 0.1041)
    save(0, 64, 0.1041)
    report(1, 32, 0.0963)
    save(1, 32, 0.0963)
    assert [(row.id, row.metric, row.metric_length) for row in table.best(4)] == [
        (1, 0.0963, 32),
        (0, 0.1041, 64),
        (2, None, None),
    ]
    assert [table.has_seen_better(table.rows[trial]) for trial in range(4)] == [True, False, True, False]
    assert table.best_seen is table.rows[0]
    assert (table.rows[0].seen, table.rows[0].seen_length) == (0.0886, 14)
    table.apply(Entry(4.0, CheckpointDamaged(1, 0, "trial-1/at-32", "cut off")))
    assert table.leader is table.rows[0]
    table.apply(Entry(5.0, started, (DeleteCheckpoint(0, "trial-0/at-64"),)))
    assert table.leader is table.rows[0], "without any checkpoint, trials are in the order of their reports"
    assert table.leader.metric is None


def test_result_of_checkpoint_that_was_deleted_to_keep_max_size_stays() -> None:
    table, row = one_trial()
    over = OverQuota(30, 20, 0, 7, 12, 3)
    for at, length, loss in ((1.0, 2, 0.2), (2.0, 4, 0.4), (3.0, 8, 0.1)):
        table.apply(Entry(at, ValidationReported(0, 1, length, {"loss": loss})))
        table.apply(Entry(at, CheckpointSaved(0, 1, length, f"at-{length}", {"loss": loss}, 10)))
        assert (table.checkpoints, table.checkpoint_size) == (1, 10)
        table.apply(Entry(at, AttemptStarted(0, 1, 0, 0), (DeleteCheckpoint(0, f"at-{length}", over),)))
        assert (table.checkpoints, table.checkpoint_size, row.best_checkpoint) == (0, 0, None)
        assert (row.metric, row.metric_length) == ((0.1, 8) if length == 8 else (0.2, 2))
        assert table.leader is row


def test_best_is_the_best_report_if_no_checkpoint_is_kept_when_trials_end() -> None:
    spec = replace(spec_of(asha(1, method=Method.SINGLE, max_length=9)), checkpoint_policy=CheckpointPolicy(0, 0, 0))
    experiment, table = Experiment(spec), TrialTable(spec)
    table.apply(Entry(1.0, started := DriverStarted(1), experiment.handle(started)))
    table.apply(Entry(2.0, ValidationReported(0, 1, 1, {"loss": 0.1})))
    table.apply(Entry(3.0, CheckpointSaved(0, 1, 2, "at-2", {"loss": 0.2})))
    assert (table.rows[0].metric, table.rows[0].metric_length) == (0.1, 1)


def test_larger_metric_is_best_if_spec_prefers_larger() -> None:
    table, row = one_trial(smaller_is_better=False)
    for length, value in enumerate((0.5, 0.9, 0.7), start=1):
        table.apply(Entry(float(length), ValidationReported(0, 1, length, {"loss": value})))
    assert (row.metric, row.metric_length) == (0.9, 2)
    assert row.metrics == {"loss": 0.7}


def test_report_without_metric_is_latest_but_not_best() -> None:
    table, row = one_trial()
    table.apply(Entry(2.0, ValidationReported(0, 1, 3, {"accuracy": 0.5})))
    assert (row.length, row.metrics, row.metric) == (3, {"accuracy": 0.5}, None)


def test_best_checkpoint_has_best_metric() -> None:
    table, row = one_trial()
    for length, value in ((1, 0.3), (2, 0.1), (3, 0.2), (4, 0.9)):
        table.apply(Entry(2.0, ValidationReported(0, 1, length, {"loss": value})))
        if length != 2:
            table.apply(Entry(2.0, CheckpointSaved(0, 1, length, f"at-{length}")))
    assert row.checkpoint == SavedCheckpoint("at-4", 4, 0.9, 2.0)
    assert row.best_checkpoint == SavedCheckpoint("at-3", 3, 0.2, 2.0)


def test_best_checkpoint_is_found_if_checkpoints_arrive_late() -> None:
    table, row = one_trial()
    for length, value in ((1, 0.3), (2, 0.1), (3, 0.2)):
        table.apply(Entry(2.0, ValidationReported(0, 1, length, {"loss": value})))
    for length, value in ((1, 0.3), (2, 0.1), (3, 0.2)):
        table.apply(Entry(3.0, CheckpointSaved(0, 1, length, f"at-{length}", {"loss": value})))
    assert row.checkpoint == SavedCheckpoint("at-3", 3, 0.2, 3.0)
    assert row.best_checkpoint == SavedCheckpoint("at-2", 2, 0.1, 3.0)


def test_checkpoint_can_be_saved_before_its_metric_is_reported() -> None:
    table, row = one_trial()
    for length, value in ((1, 0.1), (2, 0.9)):
        table.apply(Entry(2.0, CheckpointSaved(0, 1, length, f"at-{length}")))
        assert row.best_checkpoint is not None
        table.apply(Entry(2.0, ValidationReported(0, 1, length, {"loss": value})))
    assert row.checkpoint == SavedCheckpoint("at-2", 2, 0.9, 2.0)
    assert row.best_checkpoint == SavedCheckpoint("at-1", 1, 0.1, 2.0)


def test_late_report_of_ended_attempt_is_ignored_but_its_checkpoint_counts() -> None:
    table, row = one_trial()
    table.apply(Entry(2.0, AttemptFailed(0, 1, "boom"), (TrainTrial(0, 2, 9, Retried(1, 5)),)))
    table.apply(Entry(3.0, ValidationReported(0, 1, 3, {"loss": 0.1})))
    table.apply(Entry(3.0, CheckpointSaved(0, 1, 3, "at-3")))
    assert (row.attempt, row.length, row.metrics) == (2, 0, {})
    assert table.leader is None
    assert row.checkpoint == SavedCheckpoint("at-3", 3, None, 3.0)


def test_errors_are_stored_unchanged() -> None:
    ran = Workers(spec_of(asha(4, max_length=8), max_restarts=1), power_law(1), faults=(1.0, 0.0, 0.0))
    table = table_of(ran.spec, ran.run())
    errors = [event.error for _, event, _ in ran.entries if isinstance(event, AttemptFailed) and event.trial == 0]
    assert list(table.rows[0].errors) == errors == ["boom\nTraceback"] * 2
    assert table.rows[0].state is TrialState.ERRORED


def test_invalid_trial_is_no_longer_leader() -> None:
    spec = spec_of(asha(2, method=Method.RANDOM, max_length=8, max_concurrent_trials=2))
    experiment, table = Experiment(spec), TrialTable(spec)
    for event in (
        DriverStarted(2),
        ValidationReported(0, 1, 1, {"loss": 0.1}),
        ValidationReported(1, 1, 1, {"loss": 0.2}),
        HparamsInvalid(0, 1, "no"),
    ):
        table.apply(Entry(1.0, event, experiment.handle(event)))
    assert table.leader is table.rows[1]
    assert [row.id for row in table.ranked()] == [1, 0, 2]
