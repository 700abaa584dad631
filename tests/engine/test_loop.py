from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest

from ashwood.engine.loop import Engine
from ashwood.errors import BackendError, EventLogError, ReplayDivergence
from ashwood.eventlog.fold_cache import fold
from ashwood.eventlog.port import Answer, RequestId, Seq
from ashwood.experiment.decisions import CompleteTrial, PauseTrial, TrainTrial
from ashwood.experiment.entry import Entry
from ashwood.experiment.events import AttemptEnded, DriverStopped, Event, ValidationReported
from ashwood.experiment.experiment import Experiment
from ashwood.experiment.lifecycle import ExperimentState, TrialState
from ashwood.experiment.spec import Entrypoint, EntrypointKind, ExperimentSpec, Unit
from ashwood.search.settings import Method, SearchSettings
from ashwood.search.space import Double, Space
from tests.eventlog.memory_store import MemoryLog, MemoryStore

from .instant_backend import InstantBackend

SPEC = ExperimentSpec(
    name="toy",
    space=Space({"x": Double(0.0, 1.0)}),
    search=SearchSettings(method=Method.ASYNC_HALVING, max_length=9, max_trials=20, divisor=Fraction(3), num_rungs=3),
    metric="loss",
    unit=Unit.STEPS,
    entrypoint=Entrypoint(EntrypointKind.FUNCTION, "toy:train"),
    workdir=".",
    seed=1,
)


def objective(hparams: Mapping[str, Any], length: int) -> float:
    return float(hparams["x"]) + 1 / length


def new_log(spec: ExperimentSpec = SPEC) -> MemoryLog:
    store = MemoryStore()
    return store.log(store.create(spec, at=0.0))


def entries(log: MemoryLog) -> list[Entry]:
    return [entry for _, entry in log.read()]


def test_engine_runs_experiment_to_its_end() -> None:
    log, experiment = new_log(), Experiment(SPEC)
    assert Engine(experiment, log, InstantBackend(objective)).run() is ExperimentState.COMPLETED
    best = min(experiment.trials.values(), key=lambda trial: trial.hparams["x"])
    assert best.state is TrialState.COMPLETED
    assert best.checkpoint == f"/checkpoints/{best.id}/9"
    assert {trial.state for trial in experiment.trials.values()} == {TrialState.COMPLETED, TrialState.STOPPED}


def test_decisions_are_durable_before_commands_are_sent() -> None:
    class Watchful(InstantBackend):
        def dispatch(self, commands: Sequence[Any]) -> None:
            decided = {
                (getattr(decision, "trial", None), getattr(decision, "attempt", 1))
                for entry in entries(log)
                for decision in entry.decisions
            }
            assert {(command.trial, command.attempt) for command in commands} <= decided
            super().dispatch(commands)

    log = new_log()
    Engine(Experiment(SPEC), log, Watchful(objective)).run()


def test_promoted_trial_starts_from_its_last_checkpoint() -> None:
    backend = InstantBackend(objective)
    Engine(Experiment(SPEC), new_log(), backend).run()
    resumed = [start for start in backend.started if start.attempt > 1]
    assert resumed
    assert all(start.checkpoint == f"/checkpoints/{start.trial}/{start.length}" for start in resumed)
    assert all(0 < start.length < start.target for start in resumed)


def test_search_is_the_same_with_any_number_of_slots() -> None:
    def trials(slots: int) -> set[tuple[float, int]]:
        experiment = Experiment(SPEC)
        Engine(experiment, new_log(), InstantBackend(objective, slots=slots)).run()
        return {(trial.hparams["x"], trial.seed) for trial in experiment.trials.values()}

    assert trials(1) == trials(3) == trials(50)


def test_backend_is_notified_when_possible_attempts_change() -> None:
    spec = replace(SPEC, search=replace(SPEC.search, max_concurrent_trials=7))
    backend = InstantBackend(objective)
    Engine(Experiment(spec), new_log(spec), backend).run()
    assert backend.expected[0] == 7
    assert backend.expected[-1] == 0
    assert all(one != other for one, other in pairwise(backend.expected))

    spec = replace(SPEC, search=replace(SPEC.search, max_concurrent_trials=0))
    backend = InstantBackend(objective)
    Engine(Experiment(spec), new_log(spec), backend).run()
    assert backend.expected[0] is None


def test_backend_is_notified_before_first_dispatch() -> None:
    class Watchful(InstantBackend):
        def dispatch(self, commands: Sequence[Any]) -> None:
            assert self.expected
            super().dispatch(commands)

    Engine(Experiment(SPEC), new_log(), Watchful(objective)).run()


def test_failing_trial_is_retried_then_fails() -> None:
    spec = replace(SPEC, max_restarts=2)
    experiment, log = Experiment(spec), new_log(spec)
    backend = InstantBackend(objective, crash=lambda trial, attempt: trial == 3)
    assert Engine(experiment, log, backend).run() is ExperimentState.COMPLETED
    assert [start.attempt for start in backend.started if start.trial == 3] == [1, 2, 3]
    assert experiment.trials[3].state is TrialState.ERRORED


def test_experiment_fails_if_all_trials_fail() -> None:
    spec = replace(SPEC, max_restarts=0)
    engine = Engine(Experiment(spec), new_log(spec), InstantBackend(objective, crash=lambda trial, attempt: True))
    assert engine.run() is ExperimentState.ERRORED


def test_resume_continues_from_checkpoints_of_pause() -> None:
    log, experiment = new_log(), Experiment(SPEC)
    first = InstantBackend(objective)

    def pause_early(entries_of_turn: Sequence[Entry]) -> None:
        if any(isinstance(entry.event, ValidationReported) for entry in entries_of_turn):
            engine.pause()

    engine = Engine(experiment, log, first, observers=[pause_early])
    assert engine.run() is ExperimentState.PAUSED
    assert first.woken
    assert not first.live
    left = {trial.id for trial in experiment.outstanding()}
    assert left

    resumed = fold(SPEC, log).experiment
    assert resumed.state is ExperimentState.PAUSED
    second = InstantBackend(objective)
    assert Engine(resumed, log, second).run() is ExperimentState.COMPLETED
    went_on = [start for start in second.started if start.trial in left]
    assert went_on
    assert all(start.length > 0 and start.checkpoint for start in went_on if start.trial in first_trials(first))
    reports = [(e.event.trial, e.event.length) for e in entries(log) if isinstance(e.event, ValidationReported)]
    assert len(reports) == len(set(reports)), "something was trained twice"


def first_trials(backend: InstantBackend) -> set[int]:
    return {start.trial for start in backend.started}


def test_abandon_returns_at_once() -> None:
    log, experiment = new_log(), Experiment(SPEC)
    backend = InstantBackend(objective)
    engine = Engine(experiment, log, backend, observers=[lambda _: engine.abandon()])
    assert engine.run() is ExperimentState.PAUSED
    assert backend.closed
    assert Engine(fold(SPEC, log).experiment, log, InstantBackend(objective)).run() is ExperimentState.COMPLETED


def test_next_driver_continues_after_driver_death_at_any_entry() -> None:
    whole = new_log()
    Engine(Experiment(SPEC), whole, InstantBackend(objective)).run()
    for cut in range(1, len(entries(whole))):
        log = new_log()
        log.append(entries(whole)[:cut])
        experiment = fold(SPEC, log).experiment
        if experiment.state.ended:
            break
        assert Engine(experiment, log, InstantBackend(objective)).run() is ExperimentState.COMPLETED
        assert len(experiment.trials) == SPEC.search.max_trials


def test_experiment_is_paused_if_no_trial_can_run() -> None:
    class Broken(InstantBackend):
        def next_events(self, timeout: float | None) -> Sequence[Event]:
            raise BackendError("can't import train")

    log, backend = new_log(), Broken(objective)
    with pytest.raises(BackendError, match="can't import"):
        Engine(Experiment(SPEC), log, backend).run()
    assert backend.closed
    assert isinstance(entries(log)[-1].event, DriverStopped)
    assert fold(SPEC, log).experiment.state is ExperimentState.PAUSED


def test_engine_stops_if_log_cannot_be_written() -> None:
    class Full(MemoryLog):
        def append(
            self,
            entries: Sequence[Entry],
            *,
            summary: Mapping[str, Any] | None = None,
            answers: Mapping[RequestId, Answer] | None = None,
        ) -> Seq:
            raise EventLogError("disk full")

    store = MemoryStore()
    store.create(SPEC, at=0.0)
    backend = InstantBackend(objective)
    with pytest.raises(EventLogError, match="disk full"):
        Engine(Experiment(SPEC), Full(store, 1), backend).run()
    assert not backend.started
    assert backend.closed


def test_replay_names_diverging_entry() -> None:
    log = new_log()
    Engine(Experiment(SPEC), log, InstantBackend(objective)).run()
    whole = entries(log)
    at = next(i for i, entry in enumerate(whole) if any(isinstance(d, PauseTrial) for d in entry.decisions))
    tampered = new_log()
    tampered.append([*whole[:at], whole[at]._replace(decisions=()), *whole[at + 1 :]])
    with pytest.raises(ReplayDivergence, match=f"entry {at + 1} "):
        fold(SPEC, tampered)
    impossible = new_log()
    impossible.append([*whole[:1], Entry(0.0, AttemptEnded(99, 1, 0), ())])
    with pytest.raises(ReplayDivergence, match="entry 2 "):
        fold(SPEC, impossible)


def test_engine_records_summaries() -> None:
    store = MemoryStore()
    experiment = store.create(SPEC, at=0.0)
    Engine(Experiment(SPEC), store.log(experiment), InstantBackend(objective), summarize=lambda: {"best": 1}).run()
    assert store.record(experiment).summary == {"best": 1}
    assert store.record(experiment).state is ExperimentState.COMPLETED


def test_observers_get_durable_entries_only() -> None:
    log = new_log()
    seen: list[Entry] = []

    def observe(turn: Sequence[Entry]) -> None:
        seen.extend(turn)
        assert entries(log) == seen

    Engine(Experiment(SPEC), log, InstantBackend(objective), observers=[observe]).run()
    kinds = {type(decision) for entry in seen for decision in entry.decisions}
    assert {CompleteTrial, TrainTrial, PauseTrial} <= kinds
