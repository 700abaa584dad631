"""Requests are carried out by the driver, or at once if no driver runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from ashwood.engine import Home, open_home
from ashwood.engine.control import ask
from ashwood.engine.loop import Engine
from ashwood.errors import AshwoodError, NotFound, RequestRefused
from ashwood.eventlog.lease import take_lease
from ashwood.experiment.decisions import CreateTrial
from ashwood.experiment.entry import Entry
from ashwood.experiment.events import (
    AddTrialRequested,
    AttemptFailed,
    CancelRequested,
    CheckpointSaved,
    DriverStarted,
    DriverStopped,
    Event,
    KillRequested,
    PauseRequested,
    SettingsChanged,
    TrialKillRequested,
)
from ashwood.experiment.experiment import Experiment
from ashwood.experiment.lifecycle import ExperimentState, TrialState
from ashwood.experiment.spec import CheckpointPolicy

from .instant_backend import InstantBackend
from .test_loop import SPEC, objective


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with open_home(tmp_path, create=True) as opened:
        yield opened


def paused(home: Home) -> int:
    """Return an experiment that was paused early."""
    experiment = home.store.create(SPEC, at=0.0)
    backend = InstantBackend(objective)
    log = home.store.log(experiment)
    engine = Engine(Experiment(SPEC), log, backend, observers=[lambda _: engine.pause()])
    assert engine.run() is ExperimentState.PAUSED
    return experiment


def fold(home: Home, experiment: int) -> Experiment:
    folded = Experiment(home.store.spec(experiment))
    for _, entry in home.store.log(experiment).read():
        folded.handle(entry.event)
    return folded


def test_paused_experiment_is_canceled(home: Home) -> None:
    experiment = paused(home)
    ask(home, experiment, CancelRequested())
    assert home.store.record(experiment).state is ExperimentState.CANCELED
    assert home.store.lease(experiment) is None
    assert all(trial.ended for trial in fold(home, experiment).trials.values())
    with pytest.raises(RequestRefused, match="is canceled"):
        ask(home, experiment, KillRequested())


def test_request_without_driver_deletes_unneeded_checkpoints(home: Home) -> None:
    name, spec = "trial-0/length-1-attempt-1", replace(SPEC, checkpoint_policy=CheckpointPolicy(0, 0, 0))
    experiment = home.store.create(spec, at=0.0)
    storage, folded = home.storage(experiment, spec), Experiment(spec)
    storage.save(name, lambda directory: (directory / "model").write_text("weights"))
    events: list[Event] = [DriverStarted(1), CheckpointSaved(0, 1, 1, name), PauseRequested(), DriverStopped()]
    home.store.log(experiment).append([Entry(0.0, event, folded.handle(event)) for event in events])
    ask(home, experiment, TrialKillRequested(0))
    assert storage.complete() == []


def test_impossible_request_is_refused(home: Home) -> None:
    experiment = paused(home)
    with pytest.raises(RequestRefused, match="isn't running: it is paused"):
        ask(home, experiment, PauseRequested())
    with pytest.raises(RequestRefused, match="no trial 99"):
        ask(home, experiment, TrialKillRequested(99))
    with pytest.raises(NotFound):
        ask(home, 99, PauseRequested())
    assert home.store.record(experiment).state is ExperimentState.PAUSED


def test_experiment_that_never_ran_can_be_changed_and_canceled(home: Home) -> None:
    experiment = home.store.create(SPEC, at=0.0)
    ask(home, experiment, SettingsChanged({"max_trials": 5}))
    assert fold(home, experiment).search.max_trials == 5
    ask(home, experiment, CancelRequested())
    assert home.store.record(experiment).state is ExperimentState.CANCELED


def test_pause_after_driver_death_runs_no_trial(home: Home) -> None:
    experiment = home.store.create(SPEC, at=0.0)
    log = home.store.log(experiment)

    class Dead(Exception):
        pass

    def die(_entries: object) -> None:
        raise Dead

    with pytest.raises(Dead):
        Engine(Experiment(SPEC), log, InstantBackend(objective), observers=[die]).run()
    assert home.is_interrupted(home.store.record(experiment))
    ask(home, experiment, TrialKillRequested(0))
    assert fold(home, experiment).trials[0].state is TrialState.KILLED
    ask(home, experiment, PauseRequested())
    assert home.store.record(experiment).state is ExperimentState.PAUSED


@pytest.mark.parametrize("entries", [1, 5, 9])
def test_added_trials_survive_death_of_driver_after_any_entry(home: Home, entries: int) -> None:
    spec = replace(SPEC, start_with=({"x": 0.125},))
    experiment = home.store.create(spec, at=0.0)

    class Dead(Exception):
        pass

    def drive(lifetime: int) -> None:
        left = lifetime

        def count(recorded: Sequence[Entry]) -> None:
            nonlocal left
            left -= len(recorded)
            if left <= 0:
                raise Dead

        Engine(fold(home, experiment), home.store.log(experiment), InstantBackend(objective), observers=[count]).run()

    with pytest.raises(Dead):
        drive(1)
    ask(home, experiment, AddTrialRequested({"x": 0.25}))
    ask(home, experiment, AddTrialRequested({"x": 0.375}, extra=True))
    with pytest.raises(Dead):
        drive(entries)
    drive(10_000)
    table = Experiment(spec)
    created = [
        decision
        for _, entry in home.store.log(experiment).read()
        for decision in table.handle(entry.event)
        if isinstance(decision, CreateTrial)
    ]
    assert [(new.bracket, new.nth, new.given["x"]) for new in created if new.given] == [
        (0, 0, 0.125),
        (0, 2, 0.25),
        (0, 3, 0.375),
    ]
    assert len(created) == spec.search.max_trials + 1
    assert home.store.record(experiment).state is ExperimentState.COMPLETED


def test_killing_last_trials_completes_paused_experiment(home: Home) -> None:
    spec = replace(SPEC, search=replace(SPEC.search, max_trials=1, num_rungs=1))
    experiment = home.store.create(spec, at=0.0)
    engine = Engine(Experiment(spec), home.store.log(experiment), InstantBackend(objective))
    engine.pause()
    engine.run()
    if home.store.record(experiment).state is ExperimentState.PAUSED:
        ask(home, experiment, TrialKillRequested(0))
        assert home.store.record(experiment).state is ExperimentState.ERRORED


class Idle(InstantBackend):
    """A backend without any events, except that attempts end when they are asked to."""

    def __init__(self, got_on: threading.Event) -> None:
        super().__init__(objective)
        self._got_on = got_on

    def next_events(self, timeout: float | None) -> Sequence[Event]:
        self._got_on.set()
        return [event for event in super().next_events(timeout) if isinstance(event, AttemptFailed)]


def test_running_driver_answers_requests(home: Home, tmp_path: Path) -> None:
    experiment = home.store.create(SPEC, at=0.0)
    got_on = threading.Event()

    def drive() -> None:
        with open_home(tmp_path) as mine, take_lease(mine.store, experiment) as lease:
            Engine(
                Experiment(SPEC),
                mine.store.log(experiment, lease.token),
                Idle(got_on),
                requests=lambda: mine.store.pending(experiment),
                beat=lease.beat,
            ).run()

    driver = threading.Thread(target=drive)
    driver.start()
    assert got_on.wait(30)
    ask(home, experiment, SettingsChanged({"max_trials": 25}), wait=30)
    with pytest.raises(RequestRefused, match="no trial 99"):
        ask(home, experiment, TrialKillRequested(99), wait=30)
    assert home.is_driven(experiment)
    ask(home, experiment, KillRequested(), wait=30)
    driver.join(30)
    assert not driver.is_alive()
    assert fold(home, experiment).search.max_trials == 25
    assert home.store.record(experiment).state is ExperimentState.CANCELED


def test_request_fails_if_driver_does_not_answer(home: Home) -> None:
    experiment = paused(home)
    with take_lease(home.store, experiment), pytest.raises(AshwoodError, match=r"has not answered for 0\.05 s"):
        ask(home, experiment, CancelRequested(), wait=0.05)
    # It stays recorded, and is done at the next occasion.
    with pytest.raises(RequestRefused):
        ask(home, experiment, CancelRequested())
    assert home.store.record(experiment).state is ExperimentState.CANCELED
