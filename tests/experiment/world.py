"""Simulated workers that carry out the decisions of an experiment at once.

A `World` has a log like the engine, and a process for each running trial like a backend.  After
each event it checks its invariants.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from math import inf, isfinite
from random import Random
from typing import Any

from ashwood.experiment.decisions import (
    AbortTrial,
    CloseTrial,
    CompleteTrial,
    ContinueTrial,
    CreateTrial,
    Decision,
    DeleteCheckpoint,
    EndExperiment,
    FellBack,
    PauseTrial,
    Preempted,
    Recovered,
    ReopenTrial,
    Retried,
    StopTrial,
    SuspendTrial,
    TrainTrial,
)
from ashwood.experiment.events import (
    UNREACHABLE,
    AddTrialRequested,
    AttemptEnded,
    AttemptFailed,
    AttemptPreempted,
    AttemptStarted,
    CancelRequested,
    CapacityChanged,
    CheckpointDamaged,
    CheckpointSaved,
    DriverStarted,
    DriverStopped,
    Event,
    ExtendRequested,
    HparamsInvalid,
    KillRequested,
    PauseRequested,
    RetryFailedRequested,
    SettingsChanged,
    StorageFailed,
    TimeRanOut,
    TrialKillRequested,
    TrialStopped,
    TrialStopRequested,
    TrialTrained,
    ValidationReported,
)
from ashwood.experiment.experiment import Experiment
from ashwood.experiment.lifecycle import ExperimentState, TrialState
from ashwood.experiment.spec import Entrypoint, EntrypointKind, ExperimentSpec, Unit
from ashwood.search.draw import training_seed
from ashwood.search.settings import Method, SearchSettings
from ashwood.search.space import Categorical, Double, Int, Log, Space
from ashwood.search.tournament import Tournament
from ashwood.search.vocabulary import Replicated

LIVE = (TrialState.RUNNING, TrialState.PAUSED)
SPACE = Space(
    {
        "x": Double(0, 1, count=4),
        "model": {"width": Log(0, 3, count=4), "act": Categorical(("relu", "tanh"))},
        "n": Int(1, 9, count=2),
    }
)


_OF_THE_EXPERIMENT = {
    "checkpoint_policy",
    "max_common_failures",
    "max_preemptions",
    "max_size",
    "max_time",
    "max_invalid_trials",
    "max_trial_time",
    "min_validation_period",
    "rules",
    "metric_at",
    "source_checkpoint",
    "start_with",
}


def make_spec(
    method: Method = Method.ASYNC_HALVING,
    *,
    max_restarts: int = 1,
    seed: int = 0,
    smaller_is_better: bool = True,
    space: Space = SPACE,
    **search: Any,
) -> ExperimentSpec:
    """Return a spec; all other arguments are settings of the search."""
    fields = {name: search.pop(name) for name in _OF_THE_EXPERIMENT & search.keys()}
    search = {"max_length": 4, "max_trials": 2, "divisor": Fraction(2), **search}
    return spec_of(
        SearchSettings(method=method, **search),
        **fields,
        max_restarts=max_restarts,
        seed=seed,
        smaller_is_better=smaller_is_better,
        space=space,
    )


def spec_of(settings: SearchSettings, *, space: Space = SPACE, seed: int = 0, **rest: Any) -> ExperimentSpec:
    """Return a spec for a search."""
    return ExperimentSpec(
        name="made up",
        space=space,
        search=settings,
        metric="loss",
        unit=Unit.STEPS,
        entrypoint=Entrypoint(EntrypointKind.FUNCTION, "nowhere:train"),
        workdir="nowhere",
        seed=seed,
        **rest,
    )


@dataclass
class Process:
    """One attempt.

    Attributes:
        order: its latest instruction: "train", "release" or "suspend".
        length: total length that it has trained.
        metrics: the metrics that it has reported at this length.
    """

    trial: int
    attempt: int
    target: int
    order: str = "train"
    length: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)


class World:
    """An experiment, its log, and processes that carry out its decisions."""

    def __init__(self, spec: ExperimentSpec) -> None:
        self.spec = spec
        self.experiment = Experiment(spec)
        self.log: list[tuple[Event, tuple[Decision, ...]]] = []
        self.processes: dict[int, Process] = {}
        self.dead: list[Process] = []
        self.slots = 0
        self.replicates = 0
        self.stored: dict[str, int] = {}
        # The number of workers that each trial lost in a row, and its greatest lengths by reports and by checkpoints.
        self._lost: Counter[int] = Counter()
        self._furthest: dict[int, tuple[int, int]] = {}

    # -- events -------------------------------------------------------------------------------

    def start(self, slots: int) -> tuple[Decision, ...]:
        """Start a driver after all processes of an earlier one have ended."""
        self._everyone_dies()
        self.slots = slots
        return self.handle(DriverStarted(slots))

    def stop(self) -> tuple[Decision, ...]:
        self._everyone_dies()
        return self.handle(DriverStopped())

    def pause(self) -> tuple[Decision, ...]:
        return self.handle(PauseRequested())

    def resize(self, slots: int) -> tuple[Decision, ...]:
        self.slots = slots
        return self.handle(CapacityChanged(slots))

    def begin(self, process: Process) -> tuple[Decision, ...]:
        return self.handle(AttemptStarted(process.trial, process.attempt, 0, process.length))

    def report(self, process: Process, length: int, **metrics: float) -> tuple[Decision, ...]:
        if length >= process.length:
            process.length, process.metrics = length, metrics
        return self.handle(ValidationReported(process.trial, process.attempt, length, metrics))

    def save(self, process: Process, size: int | None = 10) -> tuple[Decision, ...]:
        path = f"trial-{process.trial}/length-{process.length}-attempt-{process.attempt}"
        self.stored[path] = process.trial
        return self.handle(CheckpointSaved(process.trial, process.attempt, process.length, path, process.metrics, size))

    def end(self, process: Process) -> tuple[Decision, ...]:
        return self._dies(process, AttemptEnded(process.trial, process.attempt, process.length))

    def fail(self, process: Process, cause: str = "") -> tuple[Decision, ...]:
        return self._dies(process, AttemptFailed(process.trial, process.attempt, "Boom\nTraceback …", cause))

    def train(self, process: Process, seconds: float) -> tuple[Decision, ...]:
        return self.handle(TrialTrained(process.trial, process.attempt, seconds))

    def preempt(self, process: Process) -> tuple[Decision, ...]:
        trial, most = self.experiment.trials[process.trial], self.spec.max_preemptions
        failures, cancels = trial.failures, self.experiment.state is ExperimentState.STOPPING
        works = trial.state is TrialState.RUNNING and process.attempt == trial.attempt
        decisions = self._dies(process, AttemptPreempted(process.trial, process.attempt, "a spot instance"))
        if works and not cancels:
            self._lost[trial.id] += 1
            too_often = most is not None and self._lost[trial.id] > most
            assert trial.failures == failures + too_often
        return decisions

    def kill_hung(self, process: Process) -> tuple[Decision, ...]:
        return self._dies(process, AttemptPreempted(process.trial, process.attempt, "it finished no step", hung=True))

    def _note_progress(self) -> None:
        for trial in self.experiment.trials.values():
            reported, saved = self._furthest.get(trial.id, (0, 0))
            if trial.length > reported or trial.checkpoint_length > saved:
                self._lost[trial.id] = 0
            # A damaged checkpoint makes the length shorter again.
            self._furthest[trial.id] = (trial.length, trial.checkpoint_length)

    def reject(self, process: Process) -> tuple[Decision, ...]:
        return self._dies(process, HparamsInvalid(process.trial, process.attempt, "too wide"))

    def give_up(self, process: Process) -> tuple[Decision, ...]:
        return self._dies(process, TrialStopped(process.trial, process.attempt))

    def damaged(self, process: Process) -> tuple[Decision, ...]:
        path = self.experiment.trials[process.trial].checkpoint or "the source"
        return self._dies(process, CheckpointDamaged(process.trial, process.attempt, path, "a file is missing"))

    def no_space(self, process: Process) -> tuple[Decision, ...]:
        return self._dies(process, StorageFailed(process.trial, process.attempt, "No space left\nTraceback …"))

    def no_storage(self, process: Process) -> tuple[Decision, ...]:
        error = "s3://bucket refuses access\nTraceback …"
        return self._dies(process, StorageFailed(process.trial, process.attempt, error, UNREACHABLE))

    # -- requests of users ------------------------------------------------------------------------

    def cancel(self) -> tuple[Decision, ...]:
        return self.handle(CancelRequested())

    def kill(self) -> tuple[Decision, ...]:
        return self.handle(KillRequested())

    def kill_trial(self, trial: int) -> tuple[Decision, ...]:
        return self.handle(TrialKillRequested(trial))

    def stop_trial(self, trial: int) -> tuple[Decision, ...]:
        return self.handle(TrialStopRequested(trial))

    def set(self, **settings: Any) -> tuple[Decision, ...]:
        return self.handle(SettingsChanged(settings))

    def retry(self) -> tuple[Decision, ...]:
        return self.handle(RetryFailedRequested())

    def add(self, *, extra: bool = False, **hparams: Any) -> tuple[Decision, ...]:
        return self.handle(AddTrialRequested(hparams, extra))

    def extend(
        self, max_trials: int | None = None, max_length: int | None = None, replicates: int | None = None
    ) -> tuple[Decision, ...]:
        return self.handle(ExtendRequested(max_trials, max_length, replicates))

    def time_is_up(self) -> tuple[Decision, ...]:
        return self.handle(TimeRanOut(60.0))

    def _dies(self, process: Process, event: Event) -> tuple[Decision, ...]:
        if self.processes.get(process.trial) is process:
            del self.processes[process.trial]
            self.dead.append(process)
        return self.handle(event)

    def _everyone_dies(self) -> None:
        self.dead += self.processes.values()
        self.processes.clear()

    # -- decisions ----------------------------------------------------------------------------

    def handle(self, event: Event) -> tuple[Decision, ...]:
        """Decide, commit, act, check."""
        states = {trial.id: trial.state for trial in self.experiment.trials.values()}
        decisions = self.experiment.handle(event)
        self.log.append((event, decisions))
        for decision in decisions:
            self._act(decision)
        self._note_progress()
        if isinstance(event, DriverStarted):
            self._lost.clear()
        self._check(event, decisions, states)
        return decisions

    def _act(self, decision: Decision) -> None:
        match decision:
            case CreateTrial(trial, bracket, nth, hparams, seed, target, Replicated(original, number)):
                assert (bracket, nth) == self.experiment.search.address(original)
                assert hparams == self.experiment.trials[original].hparams
                assert self.experiment.trials[original].state is TrialState.COMPLETED
                assert target == self.experiment.search.settings.max_length
                assert seed == training_seed(self.spec.seed, bracket, nth, number)
                assert seed != self.experiment.trials[original].seed
                self.processes[trial] = Process(trial, 1, target)
                self.replicates += 1
            case CreateTrial(trial, bracket, nth, hparams, seed, target, given=given):
                assert trial not in self.processes
                grid = self.spec.search.method is Method.GRID
                space = self.spec.space
                assert hparams == (space.grid_point(nth) if grid else space.sample(self.spec.seed, bracket, nth, given))
                assert seed == training_seed(self.spec.seed, bracket, nth)
                self.processes[trial] = Process(trial, 1, target)
            case TrainTrial(trial, attempt, target):
                # A process that releases its slot may still save; its other events no longer count.
                if (old := self.processes.pop(trial, None)) is not None:
                    assert old.order == "release", f"{decision}, but a process trains {old}"
                    self.dead.append(old)
                assert all(attempt > process.attempt for process in self.dead if process.trial == trial)
                length = self.experiment.trials[trial].checkpoint_length
                self.processes[trial] = Process(trial, attempt, target, length=length)
            case ContinueTrial(trial, attempt, target):
                process = self._working(trial, attempt)
                assert target > process.target
                process.target = target
            case PauseTrial(trial, attempt) | CompleteTrial(trial, attempt) | StopTrial(trial, attempt):
                self._working(trial, attempt).order = "release"
            case SuspendTrial(trial, attempt) if self._has_process(trial):
                self._working(trial, attempt).order = "suspend"
            case AbortTrial(trial, attempt) if self._has_process(trial):
                self.dead.append(self._working(trial, attempt))
                del self.processes[trial]
            case CloseTrial(trial):
                assert trial not in self.processes or self.processes[trial].order != "train"
            case DeleteCheckpoint(trial, path):
                assert self.stored.pop(path) == trial
            case EndExperiment():
                self._everyone_dies()

    def _has_process(self, trial: int) -> bool:
        """Return whether a trial has a process, which each outstanding trial must have while jobs are given."""
        assert trial in self.processes or self.experiment.state is not ExperimentState.RUNNING
        return trial in self.processes

    def _working(self, trial: int, attempt: int) -> Process:
        process = self.processes[trial]
        assert process.attempt == attempt
        assert process.order != "release", f"trial {trial} has already released its slot"
        return process

    # -- invariants ---------------------------------------------------------------------------

    def _check(self, event: Event, decisions: tuple[Decision, ...], before: Mapping[int, TrialState]) -> None:
        experiment = self.experiment
        running = {trial.id for trial in experiment.trials.values() if trial.state is TrialState.RUNNING}
        assert [trial.id for trial in experiment.outstanding()] == sorted(running)
        given = [d for d in decisions if isinstance(d, CreateTrial | TrainTrial)]
        pulled = [d for d in given if not isinstance(d.why, Retried | Preempted | Recovered | FellBack)]
        if pulled:
            assert len(running) <= self.limit, f"{len(running)} run after {pulled}"
        if given:
            assert experiment.state is ExperimentState.RUNNING
        reopened = {decision.trial for decision in decisions if isinstance(decision, ReopenTrial)}
        for trial, state in before.items():
            if state not in LIVE and trial not in reopened:
                assert experiment.trials[trial].state is state, f"trial {trial} had ended"
        before = {trial: state for trial, state in before.items() if trial not in reopened}
        named = [getattr(d, "trial", None) for d in decisions if not isinstance(d, DeleteCheckpoint)]
        assert all(before.get(trial, TrialState.RUNNING) in LIVE for trial in named if trial is not None)
        assert len(experiment.trials) <= experiment.search.max_trials + self.invalid + self.replicates
        assert {checkpoint.name for checkpoint in experiment.checkpoints} <= self.stored.keys()
        for each in experiment.trials.values():
            if not each.ended and each.checkpoint not in (None, self.spec.source_checkpoint):
                assert self.stored[each.checkpoint] == each.id, "the checkpoint from which a trial resumes was deleted"
        self._check_size()
        if experiment.state is ExperimentState.RUNNING and len(running) < self.limit and not experiment.over:
            twin = Tournament(experiment.spec.search, experiment.spec.seed)
            twin.restore(experiment.search.snapshot())
            assert twin.next_job() is None, f"a worker idles after {event}"
        self._check_appetite(len(running))
        if experiment.search.done:
            assert not any(trial.state in LIVE for trial in experiment.trials.values())

    def _check_size(self) -> None:
        """Check that checkpoints fit into max_size, unless only those are left that are never deleted."""
        experiment, kept = self.experiment, list(self.experiment.checkpoints)
        assert experiment.checkpoints.size == sum(checkpoint.size or 0 for checkpoint in kept)
        if experiment.max_size is None or experiment.checkpoints.size <= experiment.max_size:
            return
        finite = [c for c in kept if c.loss is not None and isfinite(c.loss)]
        best = min(
            (
                c
                for c in finite
                if experiment.trials[c.trial].state is not TrialState.INVALID
                and c.trial not in experiment.search.replicates.created
            ),
            key=lambda c: (c.loss, c.trial),
            default=None,
        )
        for checkpoint in kept:
            trial = experiment.trials[checkpoint.trial]
            is_of_best = trial.best_loss < inf if best is None else checkpoint.trial == best.trial
            search = experiment.search
            is_retried = trial.id in search.replicates.queued or any(trial.id in b.queued for b in search.brackets)
            resumes = trial.checkpoint == checkpoint.name and (trial.state is TrialState.RUNNING or is_retried)
            assert is_of_best or resumes, f"{checkpoint} should be deleted"

    def _check_appetite(self, running: int) -> None:
        experiment = self.experiment
        useful_slots, most = experiment.useful_slots, experiment.search.max_concurrent_trials
        assert useful_slots is not None or not most, "the number of trials at once is limited"
        assert useful_slots is None or running <= useful_slots <= max(running, most)
        twin = Tournament(experiment.spec.search, experiment.spec.seed)
        twin.restore(experiment.search.snapshot())
        gives_jobs = experiment.state is ExperimentState.RUNNING and not experiment.over
        more = gives_jobs and (not most or running < most) and twin.next_job() is not None
        assert more == (useful_slots is None or useful_slots > running), (
            "useful_slots does not say whether another worker would get a job"
        )

    @property
    def limit(self) -> int:
        concurrency = self.experiment.search.max_concurrent_trials
        return min(self.slots, concurrency) if concurrency else self.slots

    @property
    def invalid(self) -> int:
        return sum(trial.state is TrialState.INVALID for trial in self.experiment.trials.values())

    def replay(self) -> None:
        """Assert that a new experiment makes the same decisions from the same events."""
        fresh = Experiment(self.spec)
        for event, decisions in self.log:
            assert fresh.handle(event) == decisions, f"replay diverges at {event}"
        assert state_of(fresh) == state_of(self.experiment)

    # -- a whole search -----------------------------------------------------------------------

    def work_to_the_end(self, luck: Random, loss: Callable[[Process], float]) -> None:
        """Train all processes in random order until the search is done."""
        while self.processes and not self.experiment.over:
            process = luck.choice(list(self.processes.values()))
            if process.order == "train":
                self.report(process, process.target, loss=loss(process))
            else:
                self.end(process)
        assert self.experiment.over


def state_of(experiment: Experiment) -> Any:
    """Return the whole visible state of an experiment."""
    trials = {trial.id: repr(trial) for trial in experiment.trials.values()}
    return experiment.state, trials, experiment.search.snapshot(), experiment.over
