"""Logs of every codec version can be read, and replay decides what was recorded."""

from __future__ import annotations

import shutil
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import pytest

from ashwood.eventlog.codec import VERSION
from ashwood.eventlog.fold_cache import fold
from ashwood.eventlog.sqlite import SqliteStore
from ashwood.experiment.decisions import (
    CloseTrial,
    ContinueTrial,
    DeclaredInvalid,
    ReopenTrial,
    TrainTrial,
    TrialTimeIsUp,
    Warn,
)
from ashwood.experiment.events import (
    UNREACHABLE,
    AttemptPreempted,
    AttemptStarted,
    CapacityChanged,
    CheckpointSaved,
    HparamsInvalid,
    StorageFailed,
    TrialTrained,
    TrialWarned,
)
from ashwood.experiment.lifecycle import ExperimentState as State
from ashwood.experiment.lifecycle import TrialState
from ashwood.search.vocabulary import Audited

LOGS = Path(__file__).with_name("logs")
STATES = {
    1: [State.COMPLETED, State.PAUSED, State.RUNNING],
    2: [State.COMPLETED, State.STOPPED, State.CANCELED, State.RUNNING],
    3: [State.COMPLETED, State.STOPPED, State.CANCELED, State.RUNNING],  # make_log.py wrote this and all later logs.
    4: [State.COMPLETED, State.STOPPED, State.CANCELED, State.RUNNING],
    5: [State.COMPLETED, State.STOPPED, State.CANCELED, State.RUNNING, State.COMPLETED],
    6: [State.COMPLETED, State.STOPPED, State.CANCELED, State.RUNNING, State.COMPLETED],
    7: [State.COMPLETED, State.STOPPED, State.CANCELED, State.RUNNING, State.COMPLETED],
    8: [State.COMPLETED, State.STOPPED, State.CANCELED, State.RUNNING, State.COMPLETED],
    9: [State.COMPLETED, State.STOPPED, State.CANCELED, State.RUNNING, State.COMPLETED],
    10: [State.COMPLETED, State.STOPPED, State.CANCELED, State.RUNNING, State.COMPLETED],
}


def test_each_version_has_a_log() -> None:
    assert sorted(STATES) == list(range(1, VERSION + 1))
    assert {path.name for path in LOGS.iterdir()} == {f"version-{version}.db" for version in STATES}


@pytest.mark.parametrize("version", STATES)
def test_old_log_replays_to_recorded_decisions_and_states(tmp_path: Path, version: int) -> None:
    path = tmp_path / "ashwood.db"
    shutil.copy(LOGS / f"version-{version}.db", path)
    with closing(SqliteStore(path)) as store:
        records = store.experiments()
        assert [record.state for record in records] == STATES[version]
        for record in records:
            spec, log = store.spec(record.id), store.log(record.id)
            experiment = fold(spec, log).experiment
            assert experiment.state is record.state
            folded = fold(spec, log)
            assert folded.progress.state is record.state
            assert folded.progress.trials.rows.keys() == experiment.trials.keys()
            rests = record.state in (State.PAUSED, State.STOPPED)
            assert [row.state for row in folded.progress.trials.rows.values()] == [
                TrialState.PAUSED if rests and trial.state is TrialState.RUNNING else trial.state
                for trial in experiment.trials.values()
            ]


def test_log_of_version_3_has_nodes_and_preemptions(tmp_path: Path) -> None:
    path = tmp_path / "ashwood.db"
    shutil.copy(LOGS / "version-3.db", path)
    with closing(SqliteStore(path)) as store:
        events = [entry.event for record in store.experiments() for _, entry in store.log(record.id).read()]
    assert any(isinstance(event, AttemptPreempted) for event in events)
    assert any(isinstance(event, CapacityChanged) and len(event.nodes) > 1 for event in events)
    assert all(event.node for event in events if isinstance(event, AttemptStarted))


def test_log_of_version_5_has_storage_failure_and_retried_trials(tmp_path: Path) -> None:
    path = tmp_path / "ashwood.db"
    shutil.copy(LOGS / "version-5.db", path)
    with closing(SqliteStore(path)) as store:
        entries = [entry for _, entry in store.log(5).read()]
    assert any(isinstance(entry.event, StorageFailed) and entry.event.cause == UNREACHABLE for entry in entries)
    assert any(isinstance(decision, ReopenTrial) for entry in entries for decision in entry.decisions)


@pytest.mark.parametrize("version", STATES)
def test_logs_from_version_4_on_have_checkpoint_metrics_and_rules(tmp_path: Path, version: int) -> None:
    path = tmp_path / "ashwood.db"
    shutil.copy(LOGS / f"version-{version}.db", path)
    with closing(SqliteStore(path)) as store:
        numbers = [record.id for record in store.experiments()]
        assert {store.spec(number).rules for number in numbers} == {
            {1: 0, 2: 0, 3: 0, 4: 1, 5: 1, 6: 2, 7: 3, 8: 3, 9: 4}.get(version, 5)
        }
        events = [entry.event for number in numbers for _, entry in store.log(number).read()]
    saved = [event for event in events if isinstance(event, CheckpointSaved)]
    assert saved
    assert all((event.metrics is None) == (version < 4) for event in saved)


def test_log_of_version_6_has_warning_of_training_code(tmp_path: Path) -> None:
    path = tmp_path / "ashwood.db"
    shutil.copy(LOGS / "version-6.db", path)
    with closing(SqliteStore(path)) as store:
        entries = [entry for _, entry in store.log(2).read()]
    warned = [entry for entry in entries if isinstance(entry.event, TrialWarned)]
    assert [entry.decisions for entry in warned] == [(Warn("trial 0: it never reads trial.checkpoint"),)]


def test_log_of_version_8_has_trials_with_invalid_hyperparameters(tmp_path: Path) -> None:
    path = tmp_path / "ashwood.db"
    shutil.copy(LOGS / "version-8.db", path)
    with closing(SqliteStore(path)) as store:
        entries = [entry for number in range(1, 6) for _, entry in store.log(number).read()]
    invalid = [(entry.event.trial, entry.decisions) for entry in entries if isinstance(entry.event, HparamsInvalid)]
    assert invalid
    for trial, decisions in invalid:
        assert CloseTrial(trial, TrialState.INVALID, DeclaredInvalid("too wide")) in decisions


def test_log_of_version_7_has_trial_stopped_by_max_trial_time(tmp_path: Path) -> None:
    path = tmp_path / "ashwood.db"
    shutil.copy(LOGS / "version-7.db", path)
    with closing(SqliteStore(path)) as store:
        entries = [entry for _, entry in store.log(2).read()]
    (trained,) = [entry for entry in entries if isinstance(entry.event, TrialTrained)]
    assert CloseTrial(1, TrialState.STOPPED, TrialTimeIsUp(2.5, 2.0)) in trained.decisions


def test_log_of_version_10_has_audits(tmp_path: Path) -> None:
    path = tmp_path / "ashwood.db"
    shutil.copy(LOGS / "version-10.db", path)
    with closing(SqliteStore(path)) as store:
        assert [store.spec(number).search.audit for number in (3, 4)] == [Fraction("0.03"), Fraction("0.4")]
        decisions = [each for _, entry in store.log(4).read() for each in entry.decisions]
    whys = [each.why for each in decisions if isinstance(each, TrainTrial | ContinueTrial)]
    assert any(isinstance(why, Audited) for why in whys)
