"""Tests with random events at any moment; a `World` checks its invariants after each event."""

from __future__ import annotations

import sys
from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from ashwood.errors import IllegalEvent
from ashwood.experiment.decisions import CreateTrial, EndExperiment, ExtendSearch, ReopenTrial
from ashwood.experiment.events import AttemptFailed, CheckpointSaved, DriverStarted, TrialStopped
from ashwood.experiment.lifecycle import ExperimentState, TrialState
from ashwood.experiment.spec import CheckpointPolicy
from ashwood.search.settings import SearchSettings
from ashwood.search.vocabulary import TrialId
from ashwood.testing.search_method import losses, search_settings
from tests.experiment.world import Process, World, spec_of, state_of

picks = st.integers(0, 1_000)
ends = ["end", "fail", "preempt", "reject", "give_up"]


class ExperimentMachine(RuleBasedStateMachine):
    world: World

    @initialize(
        search=search_settings(max_trials=14, replicates=3),
        max_restarts=st.integers(0, 2),
        smaller_is_better=st.booleans(),
        slots=st.integers(0, 5),
        max_common_failures=st.sampled_from([0, 0, 2]),
        max_preemptions=st.sampled_from([None, 0, 1, 3]),
        policy=st.none() | st.builds(CheckpointPolicy, *[st.integers(0, 2)] * 3),
        max_size=st.sampled_from([None, None, 1, 25, 70]),
        final_messages=st.sampled_from(["work", "work", "cancel", "kill"]),
    )
    def a_driver_starts_it(
        self,
        search: SearchSettings,
        max_restarts: int,
        smaller_is_better: bool,
        slots: int,
        max_common_failures: int,
        max_preemptions: int | None,
        policy: CheckpointPolicy | None,
        max_size: int | None,
        final_messages: str,
    ) -> None:
        spec = spec_of(
            search,
            max_restarts=max_restarts,
            smaller_is_better=smaller_is_better,
            max_common_failures=max_common_failures,
            max_preemptions=max_preemptions,
            checkpoint_policy=policy,
            max_size=max_size,
        )
        self.world = World(spec)
        self.final_messages = final_messages
        self.added: list[float] = []
        self.world.start(slots)

    @property
    def has_driver(self) -> bool:
        return self.world.experiment.state.active

    def training(self) -> list[Process]:
        return [process for process in self.world.processes.values() if process.order != "release"]

    # -- work ---------------------------------------------------------------------------------

    @rule(work=st.lists(st.tuples(picks, losses(), st.sampled_from([0, 0, 0, 1, 30])), min_size=1, max_size=8))
    def processes_reach_their_targets(self, work: list[tuple[int, float, int]]) -> None:
        for pick, loss, further in work:
            if training := self.training():
                process = training[pick % len(training)]
                self.world.report(process, process.target + further, loss=loss)

    @precondition(lambda self: self.training())
    @rule(pick=picks, loss=losses(), metric=st.sampled_from(["loss", "accuracy"]))
    def one_reports_on_the_way_or_without_the_metric(self, pick: int, loss: float, metric: str) -> None:
        process = _pick(self.training(), pick)
        length = process.target if metric == "accuracy" else process.target - 1
        standing = self.world.experiment.search.snapshot()
        self.world.report(process, length, **{metric: loss})
        assert self.world.experiment.search.snapshot() == standing

    @precondition(lambda self: self.world.processes)
    @rule(pick=picks)
    def one_starts_or_saves(self, pick: int) -> None:
        process = _pick(list(self.world.processes.values()), pick)
        self.world.begin(process)
        self.world.save(process)

    @precondition(lambda self: self.world.processes)
    @rule(pick=picks, how=st.sampled_from([*ends, "fail", "damaged", "no_space", "no_storage"]))
    def one_is_gone(self, pick: int, how: str) -> None:
        getattr(self.world, how)(_pick(list(self.world.processes.values()), pick))

    @precondition(lambda self: self.world.dead and self.has_driver)
    @rule(pick=picks, loss=losses(), how=st.sampled_from([*ends, "report", "save"]))
    def a_dead_attempt_speaks(self, pick: int, loss: float, how: str) -> None:
        process = _pick(self.world.dead, pick)
        trial = self.world.experiment.trials[process.trial]
        if trial.attempt == process.attempt and trial.state is TrialState.RUNNING:
            return  # Its driver has died, and a new driver starts a new attempt.
        standing, state = self.world.experiment.search.snapshot(), trial.state
        if how == "report":
            self.world.report(process, process.target, loss=loss)
        else:
            getattr(self.world, how)(process)
        assert (self.world.experiment.search.snapshot(), trial.state) == (standing, state)

    # -- drivers ------------------------------------------------------------------------------

    @rule(slots=st.integers(0, 6))
    def capacity_changes(self, slots: int) -> None:
        if self.has_driver:
            self.world.resize(slots)

    @rule()
    def somebody_wants_a_pause(self) -> None:
        if self.world.experiment.state is ExperimentState.RUNNING:
            self.world.pause()
        with pytest.raises(IllegalEvent, match="isn't running"):
            self.world.pause()

    @precondition(lambda self: not self.world.experiment.over)
    @rule()
    def the_driver_stops(self) -> None:
        if self.has_driver:
            (ended,) = self.world.stop()
            assert isinstance(ended, EndExperiment)
            assert ended.state in (ExperimentState.PAUSED, ExperimentState.STOPPED)

    @rule(slots=st.integers(0, 6))
    def a_driver_takes_over(self, slots: int) -> None:
        self.world.start(slots)

    # -- users ----------------------------------------------------------------------------------

    @precondition(lambda self: self.living())
    @rule(pick=picks, how=st.sampled_from(["kill_trial", "stop_trial"]))
    def somebody_ends_a_trial(self, pick: int, how: str) -> None:
        trial = self.living()[pick % len(self.living())]
        getattr(self.world, how)(trial)
        assert self.world.experiment.trials[trial].ended
        with pytest.raises(IllegalEvent, match=f"trial {trial} has already ended"):
            getattr(self.world, how)(trial)

    @rule()
    def somebody_retries_failed_trials(self) -> None:
        experiment = self.world.experiment
        failed = {trial.id for trial in experiment.trials.values() if trial.state is TrialState.ERRORED}
        before = state_of(experiment)
        try:
            decisions = self.world.retry()
        except IllegalEvent:
            assert state_of(experiment) == before
            assert not failed
        else:
            reopened = {decision.trial for decision in decisions if isinstance(decision, ReopenTrial)}
            assert failed <= reopened
            assert all(experiment.trials[trial].failures == 0 for trial in failed)
            assert experiment.state is before[0]

    @rule(
        trials=st.integers(1, 30), concurrency=st.none() | st.integers(0, 6), replicates=st.none() | st.integers(0, 4)
    )
    def somebody_changes_settings(self, trials: int, concurrency: int | None, replicates: int | None) -> None:
        before = state_of(self.world.experiment)
        try:
            self.world.set(max_trials=trials, max_concurrent_trials=concurrency, replicates=replicates)
        except IllegalEvent:
            assert state_of(self.world.experiment) == before
        else:
            assert self.world.experiment.search.max_trials == trials

    @rule(x=st.floats(-1, 2), extra=st.booleans())
    def somebody_adds_a_trial(self, x: float, extra: bool) -> None:
        search, before = self.world.experiment.search, state_of(self.world.experiment)
        planned = search.max_trials
        try:
            self.world.add(x=x, extra=extra)
        except IllegalEvent:
            assert state_of(self.world.experiment) == before
        else:
            assert search.max_trials == planned + extra
            self.added.append(x)

    @rule(
        more=st.none() | st.integers(-1, 9),
        longer=st.none() | st.integers(0, 400),
        replicates=st.none() | st.integers(0, 4),
    )
    def somebody_extends_the_search(self, more: int | None, longer: int | None, replicates: int | None) -> None:
        experiment = self.world.experiment
        search, before = experiment.search, state_of(experiment)
        trials = None if more is None else search.max_trials + more
        length = None if longer is None else search.settings.max_length + longer
        try:
            decisions = self.world.extend(trials, length, replicates)
        except IllegalEvent:
            assert state_of(experiment) == before
        else:
            assert isinstance(decisions[0], ExtendSearch)
            assert (experiment.search.max_trials, search.settings.max_length) == (
                search.max_trials if trials is None else trials,
                decisions[0].max_length,
            )
            assert experiment.state is before[0]

    @rule(goal=st.sampled_from([None, -1.0, 0.0, 1.0]))
    def somebody_sets_a_goal(self, goal: float | None) -> None:
        self.world.set(metric_at=goal)
        experiment = self.world.experiment
        assert not (experiment.state is ExperimentState.RUNNING and experiment.goal_reached)

    @rule(size=st.sampled_from([None, 1, 25, 70]))
    def somebody_limits_the_size_of_checkpoints(self, size: int | None) -> None:
        self.world.set(max_size=size)

    @precondition(lambda self: self.has_driver)
    @rule()
    def time_runs_out(self) -> None:
        self.world.set(max_time=60.0)
        self.world.time_is_up()
        assert self.world.experiment.state is not ExperimentState.RUNNING
        self.world.set(max_time=None)

    def living(self) -> list[TrialId]:
        return [trial.id for trial in self.world.experiment.trials.values() if not trial.ended]

    # -- nonsense -----------------------------------------------------------------------------

    @rule(beyond=picks)
    def somebody_speaks_of_an_unknown_trial(self, beyond: int) -> None:
        unknown = len(self.world.experiment.trials) + beyond
        before = state_of(self.world.experiment)
        for event in (
            AttemptFailed(unknown, 1, "Boom"),
            TrialStopped(unknown, 1),
            CheckpointSaved(unknown, 1, 1, "nowhere"),
        ):
            with pytest.raises(IllegalEvent, match=f"no trial {unknown}"):
                self.world.experiment.handle(event)
        assert state_of(self.world.experiment) == before

    # -- the end ------------------------------------------------------------------------------

    def teardown(self) -> None:
        """Every experiment ends, and its log replays."""
        if sys.exc_info()[0] is not None or not hasattr(self, "world"):
            return
        self.world.set(metric_at=None)
        self.world.start(3)
        if self.final_messages != "work":
            getattr(self.world, self.final_messages)()
            assert self.world.stop()[-1].state is ExperimentState.CANCELED  # type: ignore[union-attr]
            assert not self.living()
            self.world.replay()
            return
        self.world.work_to_the_end(Random(len(self.world.log)), lambda process: float(process.trial % 4))
        (ended,) = self.world.stop()
        assert isinstance(ended, EndExperiment)
        created = [decision for _, decisions in self.world.log for decision in decisions]
        given = [decision.given["x"] for decision in created if isinstance(decision, CreateTrial) and decision.given]
        assert sorted(given) == sorted(self.added)
        ids: set[TrialId] = set(self.world.experiment.trials)
        assert ids == set(range(len(ids)))
        fine = {TrialState.COMPLETED, TrialState.STOPPED}
        alive = any(trial.state in fine for trial in self.world.experiment.trials.values())
        assert ended.state is (ExperimentState.COMPLETED if alive else ExperimentState.ERRORED) or (
            self.world.invalid > 10 * self.world.experiment.search.max_trials
        )
        with pytest.raises(IllegalEvent, match="the experiment is"):
            self.world.experiment.handle(DriverStarted(1))
        self.world.replay()
        self._retry_after_the_end()
        self._extend_after_the_end()

    def _retry_after_the_end(self) -> None:
        """An experiment with failed trials goes on after its end, and then all of them have a result."""
        experiment = self.world.experiment
        before = {trial.id: trial.state for trial in experiment.trials.values()}
        try:
            self.world.retry()
        except IllegalEvent:
            assert TrialState.ERRORED not in before.values()
            return
        assert experiment.state is ExperimentState.PAUSED
        self.world.start(3)
        self.world.work_to_the_end(Random(len(self.world.log)), lambda process: float(process.trial % 4))
        (ended,) = self.world.stop()
        assert isinstance(ended, EndExperiment)
        assert ended.state.ended
        after = {trial.id: trial.state for trial in experiment.trials.values()}
        assert TrialState.ERRORED not in after.values()
        kept = {TrialState.COMPLETED, TrialState.INVALID, TrialState.KILLED}
        assert all(after[trial] is state for trial, state in before.items() if state in kept)
        self.world.replay()

    def _extend_after_the_end(self) -> None:
        """A search that has ended can be extended, and each of its brackets then trains a trial to the new end."""
        experiment = self.world.experiment
        if experiment.state is not ExperimentState.COMPLETED or experiment.spec.search.open_ended:
            return
        length = experiment.spec.search.max_length + 7
        former = set(experiment.search.replicates.created)  # Replicates do not train on.
        decisions = self.world.extend(max_length=length)
        assert decisions[-1] == EndExperiment(ExperimentState.PAUSED, "the search was extended")
        self.world.start(3)
        self.world.work_to_the_end(Random(len(self.world.log)), lambda process: float(process.trial % 4))
        (ended,) = self.world.stop()
        assert isinstance(ended, EndExperiment)
        assert ended.state.ended
        completed = [
            trial
            for trial in experiment.trials.values()
            if trial.state is TrialState.COMPLETED and trial.id not in former
        ]
        assert all(trial.length >= length for trial in completed) or experiment.spec.search.stop_once
        self.world.replay()


def _pick(processes: list[Process], pick: int) -> Process:
    return processes[pick % len(processes)]


ExperimentMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestExperiment = ExperimentMachine.TestCase
