"""Whole experiments in virtual time, with faults of all kinds."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import replace
from math import inf
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ashwood.backends.simulated import SimulatedBackend
from ashwood.engine.loop import Engine
from ashwood.engine.simulate import simulate
from ashwood.errors import BackendError
from ashwood.eventlog.fold_cache import fold
from ashwood.experiment.decisions import CreateTrial, Preempted, Recovered, Retried, TrainTrial
from ashwood.experiment.entry import Entry
from ashwood.experiment.events import (
    AttemptFailed,
    AttemptPreempted,
    AttemptStarted,
    CapacityChanged,
    CheckpointSaved,
    DriverStarted,
    FinalEvent,
    TimeRanOut,
    ValidationReported,
)
from ashwood.experiment.experiment import Experiment
from ashwood.experiment.lifecycle import ExperimentState, TrialState
from ashwood.experiment.spec import ExperimentSpec
from ashwood.forecast.costs import NO_COSTS, NO_FAULTS, Costs, Faults, Workers
from ashwood.forecast.training import PowerLaw
from ashwood.search.settings import Method, SearchSettings
from ashwood.search.space import Double, Space
from ashwood.testing.search_method import search_settings
from tests.eventlog.memory_store import MemoryLog

from .test_loop import SPEC, entries, new_log

TRAINING = PowerLaw(max_length=64, spread=1.5)
ASHA = replace(SPEC, search=SearchSettings(method=Method.ADAPTIVE_ASHA, max_length=64, max_trials=60))


def simulated(
    spec: ExperimentSpec = ASHA, workers: Workers | int = 8, *, log: MemoryLog | None = None, **options: Any
) -> tuple[Experiment, SimulatedBackend, list[Entry]]:
    """Run an experiment; return it, its backend and its log."""
    log = new_log(spec) if log is None else log
    experiment = fold(spec, log).experiment
    backend = SimulatedBackend(spec, TRAINING, workers, **options)
    simulate(experiment, backend, log=log)
    return experiment, backend, entries(log)


def test_simulated_experiment_ends_and_its_log_replays() -> None:
    experiment, backend, log = simulated()
    assert experiment.state is ExperimentState.COMPLETED
    assert len(experiment.trials) == 60
    times = [entry.at for entry in log]
    assert times == sorted(times)
    assert times[-1] == backend.clock()


def test_simulation_needs_no_log() -> None:
    recorded, backend, _ = simulated()
    experiment = Experiment(ASHA)
    again = SimulatedBackend(ASHA, TRAINING, 8)
    assert simulate(experiment, again) is experiment
    assert again.clock() == backend.clock()
    assert experiment.search.snapshot() == recorded.search.snapshot()


schedules = st.lists(st.integers(0, 6), max_size=4).map(
    # There must be workers at the end, whatever happens before.
    lambda numbers: Workers(tuple((50.0 * i, number) for i, number in enumerate([*numbers, 3])))
)
conditions = st.fixed_dictionaries(
    {
        "workers": schedules,
        "costs": st.sampled_from([NO_COSTS, Costs(start=3.0, restore=2.0, save=4.0, straggling=0.5)]),
        "faults": st.sampled_from([NO_FAULTS, Faults(crashes=1e-3), Faults(crashes=1e-3, preemptions=0.02)]),
        "period": st.sampled_from([None, 1, 5]),
    }
)


@settings(max_examples=25)
@given(search=search_settings(max_trials=20), options=conditions)
def test_simulation_with_faults_is_deterministic_and_ends(search: SearchSettings, options: Any) -> None:
    spec = replace(SPEC, space=Space({"x": Double(0.0, 1.0, count=search.max_trials)}), search=search, max_restarts=3)
    experiment, _, log = simulated(spec, **options)
    assert experiment.state in (ExperimentState.COMPLETED, ExperimentState.ERRORED)
    assert simulated(spec, **options)[2] == log
    check_slots(log)
    check_checkpoints(log, options["period"])
    failures = dict.fromkeys(experiment.trials, 0)
    for entry in log:
        if isinstance(entry.event, AttemptFailed):
            failures[entry.event.trial] += 1
    for trial in experiment.trials.values():
        assert trial.failures <= failures[trial.id]
        assert (trial.state is TrialState.ERRORED) == (trial.failures > 3)


def check_slots(log: Sequence[Entry]) -> None:
    """Check that no slot runs two attempts at once, that all slots exist, and that each attempt ends once."""
    slots, live = 0, dict[tuple[int, int], int]()
    for entry in log:
        match entry.event:
            case DriverStarted(number) | CapacityChanged(number):
                slots = number
            case AttemptStarted(trial, attempt, slot):
                assert slot < slots
                assert slot not in live.values()
                live[trial, attempt] = slot
            case event if isinstance(event, FinalEvent):
                del live[event.trial, event.attempt]
    assert not live


def check_checkpoints(log: Sequence[Entry], period: int | None) -> None:
    """Check that every attempt resumes from the latest checkpoint, and loses at most the training since then."""
    saved, reached = dict[int, int](), dict[int, int]()
    for entry in log:
        match entry.event:
            case AttemptStarted(trial, _, _, length):
                assert length == saved.get(trial, 0)
            case ValidationReported(trial, _, length):
                reached[trial] = length
            case CheckpointSaved(trial, _, length):
                saved[trial] = length
            case AttemptPreempted(trial) if period is not None:
                assert reached.get(trial, 0) - saved.get(trial, 0) <= period


def test_trials_are_the_same_with_any_workers() -> None:
    few, many = simulated(workers=1)[2], simulated(workers=16)[2]
    assert created(few) == created(many)
    assert simulated(workers=16)[1].clock() < simulated(workers=1)[1].clock() / 4


def created(log: Sequence[Entry]) -> set[tuple[int, int, int]]:
    return {
        (decision.bracket, decision.nth, decision.seed)
        for entry in log
        for decision in entry.decisions
        if isinstance(decision, CreateTrial)
    }


def test_preemptions_cost_time_but_no_restarts() -> None:
    spec = replace(ASHA, max_restarts=0)
    undisturbed = simulated(spec, period=1)[1].clock()
    experiment, backend, log = simulated(spec, faults=Faults(preemptions=0.05), period=1)
    assert reasons(log, Preempted) > 50
    assert experiment.state is ExperimentState.COMPLETED
    assert {trial.failures for trial in experiment.trials.values()} == {0}
    assert undisturbed < backend.clock() < 2 * undisturbed


def test_crashed_attempts_are_retried_with_growing_delay() -> None:
    experiment, _, log = simulated(faults=Faults(crashes=0.02), period=1)
    assert reasons(log, Retried) > 20
    assert experiment.state is ExperimentState.COMPLETED


def reasons(log: Sequence[Entry], kind: type) -> int:
    """Return how many attempts were started for a reason."""
    return sum(isinstance(d, TrainTrial) and isinstance(d.why, kind) for entry in log for d in entry.decisions)


def test_paused_simulation_resumes_from_its_log_on_other_workers() -> None:
    log, experiment = new_log(ASHA), Experiment(ASHA)
    backend = SimulatedBackend(ASHA, TRAINING, 8, costs=Costs(save=2.0))
    turns = iter(range(10**6))

    def watch(engine: Engine) -> None:
        running.append(engine)

    def pause(_: Sequence[Entry]) -> None:
        if next(turns) == 100:
            running[0].pause()

    running: list[Engine] = []
    simulate(experiment, backend, log=log, observers=[pause], watch=watch)
    assert experiment.state is ExperimentState.PAUSED
    reached = {trial.id: trial.length for trial in experiment.trials.values()}
    resumed, _, history = simulated(log=log, workers=3)
    assert resumed.state is ExperimentState.COMPLETED
    assert reasons(history, Recovered) > 0
    check_checkpoints(history, None)
    starts = [entry.event for entry in history if isinstance(entry.event, AttemptStarted)]
    assert all(start.length >= reached.get(start.trial, 0) for start in starts[-20:])


def test_time_limit_is_exact_without_events() -> None:
    experiment, backend, log = simulated(replace(ASHA, max_time=77.7), workers=2, costs=Costs(start=1e3))
    assert experiment.state is ExperimentState.STOPPED
    assert backend.clock() == 77.7
    assert [entry.event for entry in log if isinstance(entry.event, TimeRanOut)] == [TimeRanOut(77.7)]


@pytest.mark.parametrize(
    ("workers", "faults", "why"),
    [
        (Workers(((0.0, 2), (50.0, 0))), NO_FAULTS, "standstill"),
        (4, Faults(preemptions=inf), "makes no progress"),
    ],
)
def test_experiment_without_progress_is_paused_with_error(workers: Workers | int, faults: Faults, why: str) -> None:
    log, experiment = new_log(ASHA), Experiment(ASHA)
    backend = SimulatedBackend(ASHA, TRAINING, workers, faults=faults)
    with pytest.raises(BackendError, match=why):
        simulate(experiment, backend, log=log)
    assert gc.isenabled()
    assert experiment.state is ExperimentState.PAUSED
    assert fold(ASHA, log).experiment.state is ExperimentState.PAUSED
