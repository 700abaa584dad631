"""One experiment: the fold of its events.  One door in, decisions out.

Rules of this room: no clock, no files, no randomness, no logging.  The same events give
the same decisions on any machine.  An illegal event raises and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ashwood.errors import IllegalEvent
from ashwood.experiment.decisions import (
    CloseTrial,
    CompleteTrial,
    ContinueTrial,
    CreateTrial,
    Decision,
    EndExperiment,
    ExperimentEnded,
    GaveUp,
    PauseTrial,
    Recovered,
    RejectedHparams,
    Retried,
    StoppedItself,
    StopTrial,
    SuspendTrial,
    TrainTrial,
    Warn,
)
from ashwood.experiment.events import (
    AttemptEnded,
    AttemptFailed,
    AttemptStarted,
    CapacityChanged,
    CheckpointSaved,
    DriverStarted,
    DriverStopped,
    Event,
    HparamsRejected,
    PauseRequested,
    TrialStopped,
    ValidationReported,
)
from ashwood.experiment.lifecycle import ExperimentState, Step, TrialState, after
from ashwood.experiment.spec import ExperimentSpec
from ashwood.search.draw import training_seed
from ashwood.search.settings import Method
from ashwood.search.tournament import Tournament
from ashwood.search.vocabulary import Created, Exit, GoOn, Job, ReachedEnd, Reason, Stop, TrialId

INVALID_LIMIT = 10
"""An experiment fails when more than this many times max_trials declared their hyperparameters invalid."""


@dataclass(slots=True)
class Trial:
    """What the experiment knows of a trial.

    Attributes:
        attempt: the process that works on it, or is to; counts from 1.
        target: total length that its job ends at.
        length: the longest total length that a report came from.
        reported: attempt and length of the latest report of the metric.
        checkpoint: directory to go on from, None: none yet.
        checkpoint_length: total length of that checkpoint.
        failures: how many attempts failed.
    """

    id: TrialId
    hparams: Mapping[str, Any]
    seed: int
    target: int
    checkpoint: str | None = None
    state: TrialState = TrialState.RUNNING
    attempt: int = 1
    length: int = 0
    reported: tuple[int, int] = (0, 0)
    checkpoint_length: int = 0
    failures: int = 0


class Experiment:
    """An experiment's state, and the decisions that events cause.

    Attributes:
        state: where the experiment stands.
        trials: every trial, by id.
    """

    def __init__(self, spec: ExperimentSpec) -> None:
        self.spec = spec
        self.state = ExperimentState.CREATED
        self.trials: dict[TrialId, Trial] = {}
        self.search = Tournament(spec.search)
        self._concurrency = self.search.plan.max_concurrent_trials
        self._slots = 0
        self._running: set[TrialId] = set()
        self._invalid = 0
        self._warned_of_lost_work = False
        self._failure: str | None = None
        self._last_error = ""
        self._handlers: dict[type, Callable[[Any], Iterable[Decision]]] = {
            DriverStarted: self._driver_started,
            CapacityChanged: self._capacity_changed,
            AttemptStarted: self._attempt_started,
            ValidationReported: self._validation_reported,
            CheckpointSaved: self._checkpoint_saved,
            AttemptEnded: self._attempt_ended,
            AttemptFailed: self._attempt_failed,
            HparamsRejected: self._hparams_rejected,
            TrialStopped: self._trial_stopped,
            PauseRequested: self._pause_requested,
            DriverStopped: self._driver_stopped,
        }

    def handle(self, event: Event) -> tuple[Decision, ...]:
        """Take an event; returns what is to be done about it, in order.

        Raises:
            IllegalEvent: the event can't have happened; nothing has changed.
        """
        if self.state.ended:
            raise IllegalEvent(f"the experiment is {self.state}, so this can't have happened: {event}")
        trial = getattr(event, "trial", None)
        if trial is not None and trial not in self.trials:
            raise IllegalEvent(f"there is no trial {trial}, so this can't have happened: {event}")
        return tuple(self._handlers[type(event)](event))

    def outstanding(self) -> list[Trial]:
        """The trials that have a job: each is being worked on, or is to be."""
        return [self.trials[trial] for trial in sorted(self._running)]

    @property
    def over(self) -> bool:
        """No trial will get a job any more; the driver has to let go once those that train have reported."""
        return self.search.done or self._failure is not None

    # -- drivers and capacity -----------------------------------------------------------------

    def _driver_started(self, event: DriverStarted) -> Iterable[Decision]:
        self.state = ExperimentState.RUNNING
        self._slots = event.slots
        for trial in self.outstanding() if self._gives_jobs else ():
            trial.attempt += 1
            yield TrainTrial(trial.id, trial.attempt, trial.target, Recovered())
        yield from self._pull()

    def _capacity_changed(self, event: CapacityChanged) -> Iterable[Decision]:
        self._slots = event.slots
        return self._pull()

    def _pause_requested(self, _event: PauseRequested) -> Iterable[Decision]:
        if self.state is not ExperimentState.RUNNING:
            return
        self.state = ExperimentState.PAUSING
        for trial in self.outstanding():
            yield SuspendTrial(trial.id, trial.attempt)

    def _driver_stopped(self, _event: DriverStopped) -> Iterable[Decision]:
        self.state, why = self._final_state()
        for trial in self.outstanding() if self.state.ended else ():
            self._step(trial, Step.DROPPED)
            yield CloseTrial(trial.id, trial.state, ExperimentEnded())
        yield EndExperiment(self.state, why)

    def _final_state(self) -> tuple[ExperimentState, str]:
        if self._failure is not None:
            return ExperimentState.ERRORED, self._failure
        if not self.search.done:
            return ExperimentState.PAUSED, "the driver stopped before the search was done"
        if not any(trial.state in (TrialState.COMPLETED, TrialState.STOPPED) for trial in self.trials.values()):
            last = f", the last with: {self._last_error}" if self._last_error else ""
            return ExperimentState.ERRORED, f"every trial failed{last}"
        return ExperimentState.COMPLETED, "the search is done"

    # -- reports ------------------------------------------------------------------------------

    def _validation_reported(self, event: ValidationReported) -> Iterable[Decision]:
        trial = self.trials[event.trial]
        if trial.state is not TrialState.RUNNING or event.attempt != trial.attempt:
            return (Warn(f"trial {trial.id} reported at length {event.length}, but it is {_standing(trial, event)}"),)
        metric = event.metrics.get(self.spec.metric)
        trial.length = max(trial.length, event.length)
        # A later attempt may come by the same length again; one attempt may not.
        if metric is not None:
            previously, trial.reported = trial.reported, (event.attempt, event.length)
            if trial.reported == previously:
                return (Warn(f"trial {trial.id} reported {self.spec.metric!r} at length {event.length} again"),)
        if event.length < trial.target:
            return ()
        if metric is None:
            reported = ", ".join(event.metrics) or "nothing"
            return (
                Warn(f"trial {trial.id} reported {reported} at length {event.length}, without {self.spec.metric!r}"),
            )
        return self._judge(trial, event.length, metric if self.spec.smaller_is_better else -metric)

    def _judge(self, trial: Trial, length: int, loss: float) -> Iterable[Decision]:
        match self.search.report(trial.id, length, loss):
            case GoOn(target, why):
                self._step(trial, Step.GOES_ON)
                trial.target = target
                yield self._train_on(trial, why)
            case Stop(why):
                reached = isinstance(why, ReachedEnd)
                self._step(trial, Step.REACHED_END if reached else Step.DROPPED)
                yield (CompleteTrial if reached else StopTrial)(trial.id, trial.attempt, why)
                yield from self._pull()
            case verdict:
                self._step(trial, Step.WAITS)
                decisions = list(self._pull(reporting=trial))
                if trial.state is not TrialState.RUNNING:
                    yield PauseTrial(trial.id, trial.attempt, verdict.why)
                yield from decisions

    def _train_on(self, trial: Trial, why: Reason) -> Decision:
        """The answer to a trial that reported and has more to train."""
        if self.state is ExperimentState.PAUSING:
            return SuspendTrial(trial.id, trial.attempt)
        return ContinueTrial(trial.id, trial.attempt, trial.target, why)

    def _pull(self, reporting: Trial | None = None) -> Iterable[Decision]:
        """Fill free capacity with jobs, and close what will never get one.

        The trial that reports right now still has its process: if it is named, it trains on in there.
        """
        while self._gives_jobs and len(self._running) < self._limit:
            if (job := self.search.next_job()) is None:
                break
            if isinstance(job.why, Created):
                yield self._create(job, job.why)
                continue
            trial = self.trials[job.trial]
            self._step(trial, Step.PROMOTED)
            trial.target = job.target
            if trial is reporting:
                yield self._train_on(trial, job.why)
            else:
                trial.attempt += 1
                yield TrainTrial(trial.id, trial.attempt, trial.target, job.why)
        for retired in self.search.retired():
            self._step(self.trials[retired.trial], Step.CLOSED)
            yield CloseTrial(retired.trial, TrialState.STOPPED, retired.why)

    @property
    def _gives_jobs(self) -> bool:
        return self.state is ExperimentState.RUNNING and self._failure is None

    @property
    def _limit(self) -> int:
        return min(self._slots, self._concurrency) if self._concurrency else self._slots

    def _create(self, job: Job, why: Created) -> CreateTrial:
        spec = self.spec
        grid = spec.search.method is Method.GRID
        hparams = spec.space.grid_point(why.nth) if grid else spec.space.sample(spec.seed, why.bracket, why.nth)
        seed = training_seed(spec.seed, why.bracket, why.nth)
        self.trials[job.trial] = Trial(job.trial, hparams, seed, job.target, spec.source_checkpoint)
        self._running.add(job.trial)
        return CreateTrial(job.trial, why.bracket, why.nth, hparams, seed, job.target, why)

    # -- attempts -----------------------------------------------------------------------------

    def _attempt_started(self, event: AttemptStarted) -> Iterable[Decision]:
        trial = self.trials[event.trial]
        lost = trial.length - event.length
        if trial.checkpoint is None and lost > 0 and not self._warned_of_lost_work:
            self._warned_of_lost_work = True
            yield Warn(
                f"trial {trial.id} starts again from 0 and repeats {lost} {self.spec.unit} of training: no checkpoint "
                "of it had been saved. If its code saves none, pass checkpoint= to trial.report(), or set "
                "searcher.stop_once: true, which pauses no trial; min_checkpoint_period saves more often"
            )

    def _checkpoint_saved(self, event: CheckpointSaved) -> Iterable[Decision]:
        trial = self.trials[event.trial]
        # Also from an attempt that is over: a trial may be promoted while its last process still saves.
        if event.length >= trial.checkpoint_length:
            trial.checkpoint, trial.checkpoint_length = event.path, event.length
        return ()

    def _attempt_ended(self, event: AttemptEnded) -> Iterable[Decision]:
        trial = self.trials[event.trial]
        if self._works(trial, event) and self.state is ExperimentState.RUNNING:
            return self._failed(trial)
        return ()

    def _attempt_failed(self, event: AttemptFailed) -> Iterable[Decision]:
        trial = self.trials[event.trial]
        headline = event.error.partition("\n")[0]
        if self._works(trial, event):
            self._last_error = headline
            return self._failed(trial)
        return (Warn(f"trial {trial.id} failed while it was let go, its results stand: {headline}"),)

    def _failed(self, trial: Trial) -> Iterable[Decision]:
        trial.failures += 1
        if trial.failures <= self.spec.max_restarts:
            self._step(trial, Step.RETRIED)
            trial.attempt += 1
            # While the experiment pauses no process may start; the trial keeps its job for the next driver.
            if self._gives_jobs:
                why = Retried(trial.failures, self.spec.max_restarts)
                yield TrainTrial(trial.id, trial.attempt, trial.target, why)
        else:
            self.search.exited(trial.id, Exit.ERRORED)
            self._step(trial, Step.GAVE_UP)
            yield CloseTrial(trial.id, trial.state, GaveUp(trial.failures))
            yield from self._pull()

    def _hparams_rejected(self, event: HparamsRejected) -> Iterable[Decision]:
        trial = self.trials[event.trial]
        if not self._works(trial, event):
            return
        self.search.exited(trial.id, Exit.INVALID)
        self._step(trial, Step.REJECTED)
        self._invalid += 1
        if self._invalid > INVALID_LIMIT * self.spec.search.max_trials:
            self._failure = (
                f"{self._invalid} trials declared their hyperparameters invalid, more than {INVALID_LIMIT} times "
                f"max_trials ({self.spec.search.max_trials}); the latest said: {event.why}"
            )
        yield CloseTrial(trial.id, trial.state, RejectedHparams(event.why))
        yield from self._pull()

    def _trial_stopped(self, event: TrialStopped) -> Iterable[Decision]:
        trial = self.trials[event.trial]
        if not self._works(trial, event):
            return
        self.search.exited(trial.id, Exit.STOPPED)
        self._step(trial, Step.DROPPED)
        yield CloseTrial(trial.id, trial.state, StoppedItself())
        yield from self._pull()

    def _works(self, trial: Trial, event: AttemptEnded | AttemptFailed | HparamsRejected | TrialStopped) -> bool:
        """Whether the event is about the process that the trial's job was given to."""
        return trial.state is TrialState.RUNNING and event.attempt == trial.attempt

    def _step(self, trial: Trial, step: Step) -> None:
        trial.state = after(trial.state, step)
        if trial.state is TrialState.RUNNING:
            self._running.add(trial.id)
        else:
            self._running.discard(trial.id)


def _standing(trial: Trial, event: ValidationReported) -> str:
    if event.attempt != trial.attempt:
        return f"attempt {trial.attempt} that counts now, not attempt {event.attempt}"
    return str(trial.state)
