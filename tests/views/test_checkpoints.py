from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from ashwood.experiment.decisions import CloseTrial, Decision, DeclaredInvalid, DeleteCheckpoint
from ashwood.experiment.entry import Entry
from ashwood.experiment.events import CheckpointDamaged, CheckpointSaved, Event, HparamsInvalid, ValidationReported
from ashwood.experiment.lifecycle import TrialState
from ashwood.experiment.spec import CheckpointPolicy, ExperimentSpec
from ashwood.testing.backend import toy_spec
from ashwood.views.checkpoints import CheckpointTable


@pytest.fixture
def spec(tmp_path: Path) -> ExperimentSpec:
    return replace(toy_spec(tmp_path), checkpoint_policy=CheckpointPolicy(1, 1, 1))


def name(trial: int, length: int) -> str:
    return f"trial-{trial}/length-{length}-attempt-1"


def saves(trial: int, length: int, loss: float | None) -> list[Event]:
    report = [] if loss is None else [ValidationReported(trial, 1, length, {"loss": loss})]
    return [*report, CheckpointSaved(trial, 1, length, name(trial, length))]


def fold(spec: ExperimentSpec, events: list[Event], decisions: tuple[Decision, ...] = ()) -> CheckpointTable:
    table = CheckpointTable(spec)
    for at, event in enumerate(events):
        table.apply(Entry(float(at), event, decisions if at == len(events) - 1 else ()))
    return table


def test_checkpoint_of_old_log_has_metric_reported_at_its_length(spec: ExperimentSpec) -> None:
    late: list[Event] = [ValidationReported(0, 1, 8, {"loss": 0.1}), CheckpointSaved(0, 1, 4, name(0, 4))]
    table = fold(spec, saves(0, 2, 0.5) + late + saves(1, 2, math.nan) + saves(2, 2, None))
    assert {row.name: row.metric for row in table.rows.values()} == {
        name(0, 2): 0.5,
        name(0, 4): None,
        name(1, 2): None,
        name(2, 2): None,
    }
    assert table.rows[name(0, 2)].saved_at == 1.0


def test_checkpoint_has_metric_of_its_event(spec: ExperimentSpec) -> None:
    late = CheckpointSaved(0, 1, 4, name(0, 4), {"loss": 0.3})
    unreported = CheckpointSaved(0, 1, 8, name(0, 8), {})
    table = fold(spec, [ValidationReported(0, 1, 8, {"loss": 0.1}), late, unreported])
    assert {row.name: row.metric for row in table.rows.values()} == {name(0, 4): 0.3, name(0, 8): None}


def test_checkpoint_of_invalid_trial_is_not_best_of_experiment(spec: ExperimentSpec) -> None:
    events = [*saves(1, 2, 0.5), *saves(0, 2, 0.1), HparamsInvalid(0, 1, "too large")]
    closed = CloseTrial(0, TrialState.INVALID, DeclaredInvalid("too large"))
    kept = fold(spec, events, (closed,)).kept_as()
    assert [each for each, why in kept.items() if "best of experiment" in why] == [name(1, 2)]


def test_deleted_and_damaged_checkpoints_are_left_out(spec: ExperimentSpec) -> None:
    events: list[Event] = [
        *saves(0, 1, 0.5),
        *saves(0, 2, 0.4),
        *saves(0, 3, 0.3),
        CheckpointDamaged(0, 2, name(0, 3), "it is damaged"),
    ]
    table = fold(spec, events, (DeleteCheckpoint(0, name(0, 1)),))
    assert list(table.rows) == [name(0, 2)]


def test_checkpoints_of_trial_are_sorted_best_first(spec: ExperimentSpec) -> None:
    events = saves(0, 1, 0.5) + saves(0, 2, None) + saves(0, 3, 0.2) + saves(0, 4, None) + saves(1, 1, 0.0)
    assert [row.length for row in fold(spec, events).of(0)] == [3, 1, 4, 2]
    larger = replace(spec, smaller_is_better=False)
    assert [row.length for row in fold(larger, events).of(0)] == [1, 3, 4, 2]


def test_kept_as_names_reasons(spec: ExperimentSpec) -> None:
    events = saves(0, 1, 0.1) + saves(0, 2, 0.5) + saves(1, 1, 0.3) + saves(2, 4, None)
    kept = fold(spec, events).kept_as()
    assert kept == {
        name(0, 1): ("best of trial", "best of experiment"),
        name(0, 2): ("latest",),
        name(1, 1): ("latest", "best of trial"),
        name(2, 4): ("latest",),
    }
    for trial in range(4):
        of_it = {row.name for row in fold(spec, events).of(trial)}
        assert fold(spec, events).kept_as(trial) == {name: why for name, why in kept.items() if name in of_it}
    assert set(fold(replace(spec, checkpoint_policy=None), events).kept_as().values()) == {("all are kept",)}
