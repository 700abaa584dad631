"""The state machine of one experiment: `Experiment.handle` takes an event and returns decisions.

It uses no clock, no files, no randomness and no logging.  The same events lead to the same
decisions on any machine.  An illegal event raises an error and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from math import inf, isfinite
from typing import Any

from ashwood.errors import IllegalEvent, SearchError, singular
from ashwood.experiment import decisions as d
from ashwood.experiment import events as e
from ashwood.experiment.changes import invalid_limit, problem_of
from ashwood.experiment.checkpoints import Checkpoint, Checkpoints
from ashwood.experiment.decisions import Decision
from ashwood.experiment.events import Event
from ashwood.experiment.failures import CommonFailures, lost_too_often
from ashwood.experiment.lifecycle import ALLOWED, Action, ExperimentState, Transition, TrialState, after
from ashwood.experiment.packing import pack, unpack
from ashwood.experiment.quota import DeletionOrder
from ashwood.experiment.sizes import format_size
from ashwood.experiment.spec import CheckpointPolicy, ExperimentSpec
from ashwood.experiment.trial import TrialRecord
from ashwood.search.density import DensitySampler
from ashwood.search.given import read_given
from ashwood.search.settings import Method, Sampler
from ashwood.search.space import Path
from ashwood.search.tournament import NO_REPLICATES, Tournament
from ashwood.search.vocabulary import (
    Drawn,
    Exit,
    Job,
    New,
    Promote,
    ReachedEnd,
    Reason,
    Replicated,
    RetriedOnRequest,
    Stop,
    TrialId,
)

_AGAIN = d.Retried | d.Preempted | d.Recovered | d.FellBack
"""Reasons for another attempt at the same job."""

_NO_REPORT = "ended without a report, so it has no result"


_IMPOSSIBLE: Mapping[type, str] = {
    e.PauseRequested: "it can't be paused",
    e.CancelRequested: "it can't be canceled",
    e.KillRequested: "it can't be killed",
    e.TrialKillRequested: "its trials can't be killed",
    e.TrialStopRequested: "its trials can't be stopped",
    e.SettingsChanged: "of its settings, only max_size can change",
    e.AddTrialRequested: "no trial can be added",
}
"""Why the requests that an experiment refuses after its end are refused."""


class Experiment:
    """The state of an experiment, which events change, and which determines the decisions.

    Attributes:
        spec: the description of the experiment, with the present settings of an extended search.
        state: state of the experiment.
        trials: all trials by id.
        search: the search method, which decides which trial trains next.
        checkpoints: the checkpoints that are kept.
        best_saved: lowest loss of all checkpoints that were saved, or infinity.
        metric_at: metric at which the experiment stops if a trial reports it or a better one, or None.
        max_time: seconds that drivers may run the experiment in total before it stops, or None for no limit.
        max_invalid_trials: number of trials with invalid hyperparameters at which the experiment pauses, or None for 10
            times max_trials.
        max_size: largest total size of the checkpoints in bytes, or None for no limit.
    """

    def __init__(self, spec: ExperimentSpec) -> None:
        self.spec = spec
        self.state = ExperimentState.CREATED
        self.trials: dict[TrialId, TrialRecord] = {}
        self.search = Tournament(spec.search, spec.seed)
        self._sampler = (
            DensitySampler(spec.space, spec.seed, spec.warm_start, rules=spec.rules)
            if spec.search.sampler is Sampler.DENSITY
            else None
        )
        self.checkpoints = Checkpoints(spec.checkpoint_policy, self._has_ended, self._is_replicate, rules=spec.rules)
        self.best_saved = inf
        self._best_saver: TrialId | None = None
        self.metric_at = spec.metric_at
        self.max_time = spec.max_time
        self.max_invalid_trials = spec.max_invalid_trials
        self.max_size: int | None = None
        # Without max_size there is no order of deletion, and no trial is noted.
        self._order: DeletionOrder | None = None
        self._changed: set[TrialId] = set()
        self._limit_size(spec.max_size)
        self._sign = 1 if spec.smaller_is_better else -1
        self._best: tuple[float, TrialId] | None = None
        self._leaving: d.LeaveExperiment | None = None
        self._common_failures = CommonFailures(spec.max_common_failures, spec.max_restarts)
        self._slots = 0
        self._running: set[TrialId] = set()
        # For each trial, the latest attempt that may have saved checkpoints that are not in the log.
        self._open: dict[TrialId, int] = {}
        self._invalid = 0
        self._last_invalid = ""
        self._warned_of_lost_work = False
        self._warned_of_size = False
        self._warned_of_repeats = False
        self._passed_on: set[str] = set()
        self._failure: str | None = None
        self._last_error = ""
        # Given hyperparameters of trials that are not created yet, by bracket and index in the bracket.
        self._given: dict[tuple[int, int], Mapping[str, Any]] = {}
        for given in spec.start_with:
            with suppress(SearchError):  # There are more of them than trials.
                self._given[self.search.reserve()] = given
        self._handlers: dict[type, Callable[[Any], Iterable[Decision]]] = {
            e.DriverStarted: self._driver_started,
            e.CapacityChanged: self._capacity_changed,
            e.AttemptStarted: self._attempt_started,
            e.ValidationReported: self._validation_reported,
            e.CheckpointSaved: self._checkpoint_saved,
            e.TrialWarned: self._trial_warned,
            e.TrialTrained: self._trial_trained,
            e.AttemptEnded: self._attempt_ended,
            e.AttemptFailed: self._attempt_failed,
            e.AttemptPreempted: self._attempt_preempted,
            e.StorageFailed: self._storage_failed,
            e.CheckpointDamaged: self._checkpoint_damaged,
            e.HparamsInvalid: self._hparams_invalid,
            e.TrialStopped: self._trial_stopped,
            e.PauseRequested: self._pause_requested,
            e.CancelRequested: self._cancel_requested,
            e.KillRequested: self._kill_requested,
            e.TrialKillRequested: self._trial_kill_requested,
            e.TrialStopRequested: self._trial_stop_requested,
            e.SettingsChanged: self._settings_changed,
            e.RetryFailedRequested: self._retry_failed_requested,
            e.AddTrialRequested: self._add_trial_requested,
            e.ExtendRequested: self._extend_requested,
            e.TimeRanOut: self._time_ran_out,
            e.DriverStopped: self._driver_stopped,
        }

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "trials": pack(TrialRecord, self.trials.values())}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= {**state, "trials": {trial.id: trial for trial in unpack(TrialRecord, state["trials"])}}

    def handle(self, event: Event) -> tuple[Decision, ...]:
        """Apply an event and return the decisions to carry out, in order.

        Raises:
            IllegalEvent: the event is not possible in this state; nothing has changed.
        """
        if self.state.ended and not self._is_possible_after_end(event):
            raise IllegalEvent(f"the experiment is {self.state}, so {_IMPOSSIBLE.get(type(event), 'it has ended')}")
        trial = getattr(event, "trial", None)
        if trial is not None and trial not in self.trials:
            existing = f"trials 0 to {len(self.trials) - 1}" if self.trials else "no trials yet"
            raise IllegalEvent(f"there is no trial {trial}; the experiment has {existing}")
        if (
            isinstance(event, e.FinalEvent)
            and self._open.get(event.trial) == event.attempt
            and self._is_settled_by(event)
        ):
            del self._open[event.trial]
        decisions = tuple(self._handlers[type(event)](event))
        if self._order is None or self.max_size is None:
            return decisions
        # The end of an experiment stays the last decision.
        first = len(decisions) - isinstance(event, e.DriverStopped)
        return (*decisions[:first], *self._keep_max_size(self._order, self.max_size), *decisions[first:])

    def _is_possible_after_end(self, event: Event) -> bool:
        # The limit of the size matters for checkpoints that are kept, and if the search is extended later.
        resizes = isinstance(event, e.SettingsChanged) and event.settings.keys() == {"max_size"}
        return resizes or isinstance(event, e.RetryFailedRequested | e.ExtendRequested)

    def _is_settled_by(self, event: e.FinalEvent) -> bool:
        """Return whether the log has all checkpoints of an attempt that its trial can still use.

        An attempt that died when its trial was already paused or completed may have saved a last checkpoint that
        the driver did not find, for example because the storage was unreachable.  The next driver looks for it.
        """
        died = isinstance(event, e.AttemptFailed | e.AttemptPreempted)
        return not died or self.trials[event.trial].state not in (TrialState.PAUSED, TrialState.COMPLETED)

    def outstanding(self) -> list[TrialRecord]:
        """Return the trials that have a job, whether or not a process trains them now, sorted by id."""
        return [self.trials[trial] for trial in sorted(self._running)]

    def unsettled(self) -> list[TrialRecord]:
        """Return the trials that may have saved or reported more than the log contains, because the driver died."""
        return [self.trials[trial] for trial in sorted(self._running | self._open.keys())]

    @property
    def over(self) -> bool:
        """Whether no trial gets a job any more, so that the driver stops when the running trials have reported."""
        return self.search.done or self._failure is not None

    @property
    def useful_slots(self) -> int | None:
        """Number of trials that could train at once now with enough slots, or None for no limit."""
        running = len(self._running)
        if not self._gives_jobs or not self.search.has_job:
            return running
        most = self.search.max_concurrent_trials
        return max(running, most) if most else None

    # -- drivers and capacity -----------------------------------------------------------------

    def _driver_started(self, event: e.DriverStarted) -> Iterable[Decision]:
        self._slots = event.slots
        self._common_failures.restart()
        if not self.ends_for_good:
            self.state, self._leaving = ExperimentState.RUNNING, None
        self._open.clear()
        for trial in self.outstanding() if self._gives_jobs else ():
            trial.preemptions = 0
            yield self._train(trial, d.Recovered())
        yield from self._pull()

    def _capacity_changed(self, event: e.CapacityChanged) -> Iterable[Decision]:
        self._slots = event.slots
        return self._pull()

    def _driver_stopped(self, _event: e.DriverStopped) -> Iterable[Decision]:
        self.state, why = self._final_state()
        self._leaving = None
        for trial in self._unfinished() if self.state.ended else ():
            yield from self._close(trial, Transition.DROPPED, d.ExperimentEnded())
        yield d.EndExperiment(self.state, why)

    def _final_state(self) -> tuple[ExperimentState, str]:
        if self._failure is not None:
            return ExperimentState.ERRORED, self._failure
        if self._leaving is not None and self.ends_for_good:
            return self._leaving.state, str(self._leaving.why)
        if not self.search.done:
            if self._leaving is not None:
                return self._leaving.state, str(self._leaving.why)
            return ExperimentState.PAUSED, "the driver stopped before the search was done"
        if not any(trial.state in (TrialState.COMPLETED, TrialState.STOPPED) for trial in self.trials.values()):
            last = f", the last with: {self._last_error}" if self._last_error else ""
            return ExperimentState.ERRORED, f"every trial failed{last}"
        return ExperimentState.COMPLETED, "the search is done"

    def _unfinished(self) -> list[TrialRecord]:
        """Return the trials that must be closed when the experiment ends.

        If the experiment failed, paused trials are not among them: logs of version 1 leave them paused.
        """
        if self.state is ExperimentState.CANCELED:
            return [trial for trial in self.trials.values() if not trial.ended]
        return self.outstanding()

    # -- leaving ------------------------------------------------------------------------------

    @property
    def ends_for_good(self) -> bool:
        """Whether the experiment is being canceled, so that no trial resumes."""
        return self._leaving is not None and self._leaving.state is ExperimentState.CANCELED

    @property
    def goal_reached(self) -> d.GoalReached | None:
        """The best trial if it is as good as ``metric_at``, else None."""
        if self.metric_at is None or self._best is None or self._best[0] > self._sign * self.metric_at:
            return None
        loss, trial = self._best
        return d.GoalReached(trial, self._sign * loss, self.metric_at)

    @property
    def too_many_invalid(self) -> d.TooManyInvalid | None:
        """The reason to pause if too many trials declared their hyperparameters invalid, else None."""
        limit = invalid_limit(self.max_invalid_trials, self.search.max_trials)
        if self.spec.rules < 3 or self._invalid < limit:
            return None
        return d.TooManyInvalid(self._invalid, limit, self._last_invalid)

    def _leave(self, state: ExperimentState, why: d.WhyLeave) -> d.LeaveExperiment:
        """Stop giving jobs, and return that decision.  The caller must suspend or abort the running trials."""
        paused = state is ExperimentState.PAUSED
        self.state = ExperimentState.PAUSING if paused else ExperimentState.STOPPING
        self._leaving = d.LeaveExperiment(state, why)
        return self._leaving

    def _suspend_all(self, besides: TrialId | None = None) -> Iterable[Decision]:
        for trial in self.outstanding():
            if trial.id != besides:
                yield d.SuspendTrial(trial.id, trial.attempt)

    def _pause_requested(self, event: e.PauseRequested) -> Iterable[Decision]:
        if self.state not in ALLOWED[Action.PAUSE]:
            raise IllegalEvent(f"the experiment isn't running: it is {self.state}")
        self.state = ExperimentState.PAUSING
        if event.why:
            yield self._leave(ExperimentState.PAUSED, d.NoSpace(event.why))
        elif self.spec.rules >= 3:
            yield self._leave(ExperimentState.PAUSED, d.Asked("paused", event.by))
        yield from self._suspend_all()

    def _cancel_requested(self, _event: e.CancelRequested) -> Iterable[Decision]:
        if self.ends_for_good:
            raise IllegalEvent("the experiment is already being canceled")
        suspended = self.state is not ExperimentState.RUNNING
        yield self._leave(ExperimentState.CANCELED, d.Asked("canceled"))
        if not suspended:
            yield from self._suspend_all()

    def _kill_requested(self, _event: e.KillRequested) -> Iterable[Decision]:
        yield self._leave(ExperimentState.CANCELED, d.Asked("killed"))
        for trial in self.outstanding():
            yield d.AbortTrial(trial.id, trial.attempt)

    def _time_ran_out(self, event: e.TimeRanOut) -> Iterable[Decision]:
        if self.state is ExperimentState.RUNNING and self.max_time is not None:
            yield self._leave(ExperimentState.STOPPED, d.TimeIsUp(event.seconds, self.max_time))
            yield from self._suspend_all()

    # -- requests of users ------------------------------------------------------------------------

    def _trial_kill_requested(self, event: e.TrialKillRequested) -> Iterable[Decision]:
        trial = self._living(event.trial)
        trained = trial.state is TrialState.RUNNING
        self.search.exited(trial.id, Exit.KILLED)
        if trained:
            yield d.AbortTrial(trial.id, trial.attempt)
        yield from self._close(trial, Transition.KILLED, d.KilledByUser())
        yield from self._pull()

    def _trial_stop_requested(self, event: e.TrialStopRequested) -> Iterable[Decision]:
        return self._stop_trial(self._living(event.trial), d.StoppedByUser())

    def _stop_trial(self, trial: TrialRecord, why: d.WhyClosed) -> Iterable[Decision]:
        """Stop a trial at its current length; if it has a process, the process finishes its step and saves."""
        if trial.state is TrialState.RUNNING:
            trial.finishing = trial.attempt
            yield d.SuspendTrial(trial.id, trial.attempt)
        self.search.exited(trial.id, Exit.STOPPED)
        yield from self._close(trial, Transition.DROPPED, why)
        yield from self._pull()

    def _retry_failed_requested(self, _event: e.RetryFailedRequested) -> Iterable[Decision]:
        """Retry failed trials, and count their failures from 0 again.

        The search removes a failed trial from the rung in which it counted as the worst, and gives it a job when a
        worker is free.  If its bracket had finished, the trials that were paused then are paused again, because with
        another result other trials can be the best of a rung.  Earlier decisions are not changed.
        """
        if self.ends_for_good or self.state not in ALLOWED[Action.RETRY_FAILED]:
            raise IllegalEvent("the experiment is canceled: its failed trials can't be retried")
        failed = [trial for trial in self.trials.values() if trial.state is TrialState.ERRORED]
        # Trials that had a job when the whole experiment failed.
        cut_off = [t for t in self.trials.values() if t.state is TrialState.STOPPED and self.search.trains(t.id)]
        if not failed and not cut_off and self._failure is None:
            raise IllegalEvent("no trial has failed, so there is nothing to retry")
        self._failure = None
        if self.spec.rules < 3:
            self._invalid = 0
        for trial in cut_off:
            yield self._reopen(trial, Transition.CONTINUED, RetriedOnRequest(self._rung_of(trial)))
        waiting = [again for trial in failed for again in self.search.retry(trial.id)]
        for trial in failed:
            yield self._reopen(trial, Transition.REOPENED, RetriedOnRequest(self._rung_of(trial)))
        for again in sorted(waiting):
            bracket, _ = self.search.address(again)
            yield self._reopen(self.trials[again], Transition.REOPENED, d.BracketReopened(bracket))
        if self.state.ended:
            self.state = ExperimentState.PAUSED
            yield d.EndExperiment(self.state, "failed trials wait to be retried")
        yield from self._pull()

    def _extend_requested(self, event: e.ExtendRequested) -> Iterable[Decision]:
        """Extend the search, and reopen the trials that take part in it again."""
        if (refusal := self.refusal_to_extend) is not None:
            raise IllegalEvent(refusal)
        try:
            again = self.search.extend(event.max_trials, event.max_length, event.replicates)
        except SearchError as error:
            raise IllegalEvent(f"the search can't be extended: {error}") from None
        search = self.search.settings
        self.spec = replace(self.spec, search=search)
        yield d.ExtendSearch(search.max_length, search.bracket_lengths, search.bracket_trials, search.replicates)
        for trial in (self.trials[each] for each in again):
            number, _ = self.search.address(trial.id)
            bracket, why = self.search.brackets[number], None
            if (job := bracket.queued.get(trial.id)) is not None:
                towards, why = job
                trial.target = bracket.rungs[towards].length
            yield self._reopen(trial, Transition.REOPENED, why or d.BracketReopened(number, extended=True))
        if self.state.ended:
            self.state = ExperimentState.PAUSED
            yield d.EndExperiment(self.state, "the search was extended")
        yield from self._pull()

    @property
    def refusal_to_extend(self) -> str | None:
        """The reason for which the search cannot be extended in the present state, or None if it can."""
        if self.state in ALLOWED[Action.EXTEND] and not self.ends_for_good:
            return None
        state = "being canceled" if self.ends_for_good else self.state
        retry = "; its failed trials can be retried" if self.state is ExperimentState.ERRORED else ""
        return f"the experiment is {state}: its search can't be extended{retry}"

    def _rung_of(self, trial: TrialRecord) -> int:
        """Return the index of the rung at which the job of a trial ends."""
        bracket, _ = self.search.address(trial.id)
        # If the search was extended since the trial got its job, the rung can be longer than the target.
        return next(n for n, rung in enumerate(self.search.brackets[bracket].rungs) if rung.length >= trial.target)

    def _reopen(self, trial: TrialRecord, step: Transition, why: d.WhyReopened) -> d.ReopenTrial:
        self._step(trial, step)
        trial.failures, trial.preemptions, trial.cause = 0, 0, ""
        self._resume_from_latest(trial)  # The checkpoint from which the trial would have resumed may have been deleted.
        return d.ReopenTrial(trial.id, trial.state, self.search.address(trial.id)[0], trial.target, why)

    def _living(self, trial: TrialId) -> TrialRecord:
        found = self.trials[trial]
        if found.ended:
            raise IllegalEvent(f"trial {trial} has already ended: it is {found.state}")
        return found

    def _settings_changed(self, event: e.SettingsChanged) -> Iterable[Decision]:
        settings = event.settings
        if (problem := problem_of(settings)) is not None:
            raise IllegalEvent(problem)
        if settings.get("replicates") and self.spec.search.open_ended:
            raise IllegalEvent(f"replicates can't be set: {NO_REPLICATES}")
        if (trials := settings.get("max_trials")) is not None:
            try:
                self.search.resize(trials)
            except SearchError as error:
                raise IllegalEvent(f"max_trials can't become {trials}: {error}") from None
        if (replicates := settings.get("replicates")) is not None:
            self.search.replicate_best(replicates)
        if (concurrency := settings.get("max_concurrent_trials")) is not None:
            self.search.limit(concurrency)
        self.metric_at = settings.get("metric_at", self.metric_at)
        self.max_time = settings.get("max_time", self.max_time)
        self.max_invalid_trials = settings.get("max_invalid_trials", self.max_invalid_trials)
        if "max_size" in settings:
            self._limit_size(settings["max_size"])
        yield self._changed_settings()
        if self.state is ExperimentState.RUNNING and (goal := self.goal_reached) is not None:
            yield self._leave(ExperimentState.STOPPED, goal)
            yield from self._suspend_all()
        yield from self._pause_if_too_many_are_invalid()
        yield from self._pull()

    def _changed_settings(self) -> d.ChangeSettings:
        planned = tuple(bracket.planned for bracket in self.search.brackets)
        return d.ChangeSettings(
            self.search.max_concurrent_trials,
            planned,
            self.metric_at,
            self.max_time,
            self.max_invalid_trials,
            self.max_size,
            self.search.replicates.wanted,
        )

    def _add_trial_requested(self, event: e.AddTrialRequested) -> Iterable[Decision]:
        """Give hyperparameters to the next new trial of the first bracket that creates one.

        The search decides when it creates this trial, as for any other.
        """
        if self.ends_for_good or self.spec.search.method is Method.GRID:
            why = "the experiment is being canceled" if self.ends_for_good else "a grid search tries only its grid"
            raise IllegalEvent(f"no trial can be added: {why}")
        given = read_given(self.spec.space, event.hparams)
        if given.errors:
            raise IllegalEvent(f"no trial was added: {'; '.join(_messages(given.errors))}")
        try:
            address = self.search.reserve(extra=event.extra)
        except SearchError as error:
            advice = "" if event.extra else "; to add one on top of max_trials, use --extra (in Python extra=True)"
            raise IllegalEvent(f"no trial was added: {error}{advice}") from None
        self._given[address] = given.values
        for message in _messages(given.warnings):
            yield d.Warn(f"added trial: {message}")
        if event.extra:
            yield self._changed_settings()
        yield from self._pull()

    # -- reports ------------------------------------------------------------------------------

    def _validation_reported(self, event: e.ValidationReported) -> Iterable[Decision]:
        trial = self.trials[event.trial]
        if trial.state is not TrialState.RUNNING or event.attempt != trial.attempt:
            if self.spec.rules >= 3 and event.attempt == trial.finishing:
                self._note_last_report(trial, event)
                return ()
            return (d.Warn(f"trial {trial.id} reported at length {event.length}, but it is {_standing(trial, event)}"),)
        metric = event.metrics.get(self.spec.metric)
        if event.length > trial.length:
            trial.length, trial.preemptions = event.length, 0
        # A later attempt starts from a checkpoint, so it may report at the same length again. The same attempt may not.
        if metric is not None:
            previously, trial.reported = trial.reported, (event.attempt, event.length)
            if trial.reported == previously:
                return (d.Warn(f"trial {trial.id} reported {self.spec.metric!r} at length {event.length} again"),)
            self._common_failures.note_report()
            trial.loss = self._sign * metric
            is_best = isfinite(metric) and self._note_best(trial)
            if is_best and self.state is ExperimentState.RUNNING and (goal := self.goal_reached) is not None:
                return self._judge_last(trial, event.length, goal)
        if event.length < trial.target:
            return ()
        if metric is None:
            if self._needs_no_metric(event.metrics):
                return ()
            reported = ", ".join(event.metrics) or "nothing"
            return (
                d.Warn(f"trial {trial.id} reported {reported} at length {event.length}, without {self.spec.metric!r}"),
            )
        return self._judge(trial, event.length, trial.loss)

    def _note_last_report(self, trial: TrialRecord, event: e.ValidationReported) -> None:
        """Handle the report of the step that a process finished after its trial was stopped.  A checkpoint follows."""
        trial.length = max(trial.length, event.length)
        metric = event.metrics.get(self.spec.metric)
        if metric is not None and isfinite(metric):
            trial.loss = self._sign * metric
            self._note_best(trial)

    def _note_best(self, trial: TrialRecord) -> bool:
        """Record the finite loss of a trial's latest report, and return whether it is the best of the experiment."""
        trial.best_loss = min(trial.best_loss, trial.loss)
        if self._best is not None and trial.loss >= self._best[0]:
            return False
        self._best = (trial.loss, trial.id)
        return True

    def _needs_no_metric(self, metrics: Mapping[str, float]) -> bool:
        """Return whether a report at or past the target is accepted without the metric of the search."""
        if self.spec.rules < 2 or not metrics:
            return False
        return self.spec.min_validation_period is not None or all(name.startswith(e.TRAINING) for name in metrics)

    def _judge_last(self, trial: TrialRecord, length: int, goal: d.GoalReached) -> Iterable[Decision]:
        """Stop the experiment because of a report that reaches its goal.

        If the report is at its target, the trial is judged first.  The verdict tells its process what to do, so the
        trial is not suspended in addition.
        """
        yield self._leave(ExperimentState.STOPPED, goal)
        at_target = length >= trial.target
        if at_target:
            yield from self._judge(trial, length, trial.loss)
        yield from self._suspend_all(besides=trial.id if at_target else None)

    def _judge(self, trial: TrialRecord, length: int, loss: float) -> Iterable[Decision]:
        self._note_result(trial.id)
        match self.search.report(trial.id, length, loss):
            case Promote(target, why):
                self._step(trial, Transition.CONTINUED_AT_ONCE)
                trial.target = target
                yield self._train_on(trial, why)
            case Stop(why):
                reached = isinstance(why, ReachedEnd)
                self._step(trial, Transition.REACHED_END if reached else Transition.DROPPED)
                yield (d.CompleteTrial if reached else d.StopTrial)(trial.id, trial.attempt, why)
                yield from self._delete(self.checkpoints.ended(trial.id))
                yield from self._pull()
            case verdict:
                # The search may promote the trial at once.  So the trial pauses first and the jobs are given then: if
                # one of them is its own, it continues in its process, and no PauseTrial is decided.  Otherwise
                # PauseTrial comes before the new jobs, because it frees the slot that one of them needs.
                self._step(trial, Transition.WAITS)
                decisions = list(self._pull(reporting=trial))
                if trial.state is not TrialState.RUNNING:
                    yield d.PauseTrial(trial.id, trial.attempt, verdict.why)
                yield from decisions

    def _note_result(self, trial: TrialId) -> None:
        """Let a sampler that learns note the result of a trial.  A replicate tells nothing about new settings."""
        if self._sampler is not None and not self._is_replicate(trial):
            self._sampler.note(trial)

    def _train_on(self, trial: TrialRecord, why: Reason) -> Decision:
        """Return the decision for a trial that reported and keeps its job: continue to the new target, or suspend."""
        if self.state is not ExperimentState.RUNNING:
            return d.SuspendTrial(trial.id, trial.attempt)
        return d.ContinueTrial(trial.id, trial.attempt, trial.target, why)

    def _pull(self, reporting: TrialRecord | None = None) -> Iterable[Decision]:
        """Give jobs to free slots, and close the paused trials that will never get one.

        The trial that is just reporting still has its process.  If it gets a job, it continues in this process.
        """
        while self._gives_jobs and len(self._running) < self._limit:
            if (job := self.search.next_job()) is None:
                break
            if isinstance(job.why, New):
                yield self._create(job, job.why)
                continue
            trial = self.trials[job.trial]
            self._step(trial, Transition.PROMOTED)
            trial.target = job.target
            yield self._train_on(trial, job.why) if trial is reporting else self._train(trial, job.why)
        for retired in self.search.retired():
            yield from self._close(self.trials[retired.trial], Transition.CLOSED, retired.why)

    def _train(self, trial: TrialRecord, why: d.WhyTrained) -> d.TrainTrial:
        trial.attempt += 1
        self._open[trial.id] = trial.attempt
        # Only checkpoints of trials without a job are deleted to keep max_size. So the training is repeated by the
        # attempt that the search asks for, and not once more if that attempt fails.
        repeats = 0 if isinstance(why, _AGAIN) else max(0, trial.deleted_length - trial.checkpoint_length)
        return d.TrainTrial(trial.id, trial.attempt, trial.target, why, repeats)

    @property
    def _gives_jobs(self) -> bool:
        return self.state is ExperimentState.RUNNING and self._failure is None

    @property
    def _limit(self) -> int:
        most = self.search.max_concurrent_trials
        return min(self._slots, most) if most else self._slots

    def _create(self, job: Job, why: New) -> d.CreateTrial:
        spec = self.spec
        bracket, nth = self.search.address(job.trial)
        given: Mapping[str, Any] = {}
        if isinstance(why, Replicated):
            hparams = self.trials[why.original].hparams
        else:
            given = self._given.pop((bracket, nth), {})
            hparams = self._draw(job.trial, why, given)
        seed = self.search.training_seed(spec.seed, job.trial)
        self.trials[job.trial] = TrialRecord(job.trial, hparams, seed, job.target, spec.source_checkpoint)
        self._running.add(job.trial)
        self._open[job.trial] = 1
        return d.CreateTrial(job.trial, bracket, nth, hparams, seed, job.target, why, given)

    def _draw(self, trial: TrialId, why: Drawn, given: Mapping[str, Any]) -> Mapping[str, Any]:
        spec = self.spec
        if spec.search.method is Method.GRID:
            return spec.space.grid_point(why.nth, former=spec.rules < 4)
        if self._sampler is not None:
            good, judges = self._sampler.good(self.search), self._sampler.judges(self.search)
            return self._sampler.sample(trial, why.bracket, why.nth, good, judges, given)
        return spec.space.sample(spec.seed, why.bracket, why.nth, given)

    # -- attempts -----------------------------------------------------------------------------

    def _attempt_started(self, event: e.AttemptStarted) -> Iterable[Decision]:
        trial = self.trials[event.trial]
        lost = trial.length - event.length
        if lost > 0 and trial.deleted_length > event.length:
            if not self._warned_of_repeats:
                self._warned_of_repeats = True
                repeats = min(trial.length, trial.deleted_length) - event.length
                yield d.Warn(
                    f"trial {trial.id} repeats {repeats} {self.spec.unit} of training from {event.length} on, because "
                    "its checkpoint was deleted to keep checkpoint_storage.max_size. A larger max_size avoids that"
                )
        elif trial.checkpoint is None and lost > 0 and not self._warned_of_lost_work:
            self._warned_of_lost_work = True
            if self.spec.rules >= 6:
                training = f"{lost} {singular(self.spec.unit) if lost == 1 else self.spec.unit}"
                what = f"trial {trial.id} restarts from 0 because it saved no checkpoint ({training} repeated)."
            else:
                what = (
                    f"trial {trial.id} starts again from 0 and repeats {lost} {self.spec.unit} of training: no "
                    "checkpoint of it had been saved."
                )
            yield d.Warn(
                f"{what} If its code saves none, pass checkpoint= to trial.report(), or set "
                "searcher.stop_once: true, which pauses no trial; min_checkpoint_period saves more often"
            )

    def _trial_warned(self, event: e.TrialWarned) -> Iterable[Decision]:
        # All trials run the same code, so it is enough that one of them warns.
        about = event.message if self.spec.rules >= 3 else ""
        if about not in self._passed_on:
            self._passed_on.add(about)
            yield d.Warn(f"trial {event.trial}: {event.message}")

    def _trial_trained(self, event: e.TrialTrained) -> Iterable[Decision]:
        trial, limit = self.trials[event.trial], self.spec.max_trial_time
        trial.trained += event.seconds
        if limit is None or trial.ended or trial.trained < limit:
            return ()
        return self._stop_trial(trial, d.TrialTimeIsUp(trial.trained, limit))

    def _checkpoint_saved(self, event: e.CheckpointSaved) -> Iterable[Decision]:
        # The checkpoint may be from an earlier attempt: a trial can be promoted while its last process still saves.
        trial = self.trials[event.trial]
        loss = self._loss_at(event)
        if loss is not None and isfinite(loss) and self._may_be_best(trial.id) and loss < self.best_saved:
            self.best_saved, self._best_saver = loss, trial.id
        unneeded = self.checkpoints.add(Checkpoint(event.trial, event.path, event.length, loss, event.size))
        self._note_change(trial.id)
        before = trial.checkpoint_length
        self._resume_from_latest(trial)
        if trial.checkpoint_length > before:
            trial.preemptions = 0
        if trial.checkpoint_length >= trial.deleted_length:
            trial.deleted_length = 0
        return self._delete(unneeded)

    def _loss_at(self, event: e.CheckpointSaved) -> float | None:
        """Return the loss of a checkpoint, or None if the metric was not reported at its length."""
        if event.metrics is None:  # In logs of version 3 and older, only the latest report counts.
            trial = self.trials[event.trial]
            return trial.loss if trial.reported[1] == event.length else None
        metric = event.metrics.get(self.spec.metric)
        return None if metric is None else self._sign * metric

    def _discount_saved(self, trial: TrialRecord) -> None:
        """Find the best checkpoint again if it was one of this trial.  Invalid trials and replicates do not count.

        All checkpoints are looked at, but only if the best of all is damaged or belongs to an invalid trial.
        """
        if trial.id != self._best_saver:
            return
        losses = (
            (checkpoint.loss, checkpoint.trial)
            for checkpoint in self.checkpoints
            if checkpoint.loss is not None and isfinite(checkpoint.loss) and self._may_be_best(checkpoint.trial)
        )
        self.best_saved, self._best_saver = min(losses, default=(inf, None))

    def _checkpoint_damaged(self, event: e.CheckpointDamaged) -> Iterable[Decision]:
        trial = self.trials[event.trial]
        known = self.checkpoints.drop(trial.id, event.path)
        self._note_change(trial.id)
        self._discount_saved(trial)
        self._resume_from_latest(trial)
        headline = f"checkpoint {event.path} is damaged: {event.why}"
        if not self._works(trial, event):
            yield d.Warn(headline)
        elif not known:  # The damaged checkpoint is the source checkpoint, from which other trials start as well.
            self._last_error = headline
            yield from self._failed(trial, headline)
        else:
            yield d.Warn(f"{headline}; trial {trial.id} goes on from length {trial.checkpoint_length}")
            if self._gives_jobs:
                yield self._train(trial, d.FellBack(trial.checkpoint_length))

    def _resume_from_latest(self, trial: TrialRecord) -> None:
        latest = self.checkpoints.latest(trial.id)
        trial.checkpoint = self.spec.source_checkpoint if latest is None else latest.name
        trial.checkpoint_length = 0 if latest is None else latest.length

    def _has_ended(self, trial: TrialId) -> bool:
        return self.trials[trial].ended

    def _may_be_best(self, trial: TrialId) -> bool:
        """Return whether a checkpoint of a trial can be the best one of the experiment."""
        return self.trials[trial].state is not TrialState.INVALID and not self._is_replicate(trial)

    def _is_replicate(self, trial: TrialId) -> bool:
        return trial in self.search.replicates.created

    def _delete(self, unneeded: Sequence[Checkpoint]) -> Iterable[Decision]:
        for checkpoint in unneeded:
            self._note_change(checkpoint.trial)
        return [d.DeleteCheckpoint(checkpoint.trial, checkpoint.name) for checkpoint in unneeded]

    # -- max_size -----------------------------------------------------------------------------

    def _limit_size(self, most: int | None) -> None:
        """Set the largest total size of the checkpoints, or None to remove the limit."""
        self.max_size = most
        self._warned_of_size = False
        if (self._order is None) != (most is None):
            self._order = None if most is None else DeletionOrder(self.search, self.checkpoints, self._job_of)
            self._changed = set() if most is None else set(self.trials)

    def _note_change(self, trial: TrialId) -> None:
        """Note that the checkpoints or the state of a trial have changed, for the order of deletion."""
        if self._order is not None:
            self._changed.add(trial)

    def _keep_max_size(self, order: DeletionOrder, most: int) -> Iterable[Decision]:
        """Delete checkpoints while all together are larger than max_size."""
        order.update(self._changed, self._find_best_trial())
        self._changed.clear()
        for decision, deleted in order.delete(most):
            trial = self.trials[deleted.trial]
            trial.deleted_length = max(trial.deleted_length, deleted.length)
            self._resume_from_latest(trial)
            yield decision
        if (size := self.checkpoints.size) > most and not self._warned_of_size:
            self._warned_of_size = True
            yield d.Warn(
                f"the checkpoints take {format_size(size)}, more than checkpoint_storage.max_size "
                f"({format_size(most)}), and none can be deleted: they are the latest ones of running "
                "trials and those of the best trial. Training continues"
            )

    def _job_of(self, trial: TrialId) -> tuple[TrialState, int]:
        """Return the state of a trial, and the length of the rung at which its last job ended or will end."""
        record = self.trials[trial]
        return record.state, record.target

    def _find_best_trial(self) -> TrialId | None:
        """Return the best trial as users see it: by its best checkpoint, or by its reports if none is kept."""
        keeps = self.spec.checkpoint_policy != CheckpointPolicy(0, 0, 0)
        best = self.checkpoints.best if keeps else None
        return self._best[1] if best is None and self._best is not None else best

    def _attempt_ended(self, event: e.AttemptEnded) -> Iterable[Decision]:
        trial = self.trials[event.trial]
        if self._works(trial, event) and self.state is ExperimentState.RUNNING:
            return self._failed(trial, "its process ended before its job did")
        return ()

    def _attempt_failed(self, event: e.AttemptFailed) -> Iterable[Decision]:
        trial = self.trials[event.trial]
        headline = event.error.partition("\n")[0]
        if trial.state is TrialState.KILLED or self.ends_for_good:
            return ()  # The trial or the experiment was killed on request.
        if self._works(trial, event):
            self._last_error = headline
            return self._failed(trial, headline, event.cause)
        if self.spec.rules < 6:
            return (d.Warn(f"trial {trial.id} failed while it was let go, its results stand: {headline}"),)
        return (d.Warn(f"trial {trial.id} failed while it released its worker; its results count: {headline}"),)

    def _failed(self, trial: TrialRecord, error: str, cause: str = "") -> Iterable[Decision]:
        trial.failures += 1
        is_same, trial.cause = cause != "" and cause == trial.cause, cause
        # If training code does not validate at the target, it will not do so in the next attempt either.
        is_final = self.spec.rules >= 3 and cause.startswith(e.NO_VALIDATION)
        alike = None
        if self.state is ExperimentState.RUNNING:
            alike = self._common_failures.note(trial.id, error, is_final=is_final)
        if alike is not None:
            yield self._leave(ExperimentState.PAUSED, d.CommonFailure(alike, error))
            yield from self._suspend_all(besides=trial.id)
        # While the experiment pauses because all trials fail, each keeps its job for the corrected code.
        if trial.failures <= self.spec.max_restarts and not ((is_same or is_final) and alike is None):
            self._step(trial, Transition.RETRIED)
            # While the experiment pauses, no process may start; the trial keeps its job for the next driver.
            if self._gives_jobs:
                yield self._train(trial, d.Retried(trial.failures, self.spec.max_restarts))
            else:
                trial.attempt += 1
        else:
            self.search.exited(trial.id, Exit.ERRORED)
            yield from self._close(trial, Transition.GAVE_UP, d.GaveUp(trial.failures, is_same))
            yield from self._pull()

    def _attempt_preempted(self, event: e.AttemptPreempted) -> Iterable[Decision]:
        trial = self.trials[event.trial]
        works = self._works(trial, event) and not self.ends_for_good
        if event.hung:
            yield d.Warn(_killed_as_hung(trial, event, resumes=works))
        if not works:
            return
        trial.preemptions += not event.hung
        if not event.hung and self.spec.max_preemptions is not None and trial.preemptions > self.spec.max_preemptions:
            self._last_error = lost_too_often(trial.preemptions, event.why)
            yield from self._failed(trial, self._last_error)
            return
        self._step(trial, Transition.RETRIED)
        if self._gives_jobs:
            yield self._train(trial, d.Preempted(event.why))
        else:
            trial.attempt += 1

    def _storage_failed(self, event: e.StorageFailed) -> Iterable[Decision]:
        """Pause the experiment.  The trial keeps its job, and its next attempt starts from its latest checkpoint."""
        trial = self.trials[event.trial]
        headline = event.error.partition("\n")[0]
        why = d.NoStorage(headline) if event.cause == e.UNREACHABLE else d.NoSpace(headline)
        if self.state is ExperimentState.RUNNING:
            yield self._leave(ExperimentState.PAUSED, why)
            yield from self._suspend_all(besides=trial.id)
        else:
            yield d.Warn(f"trial {trial.id}: {why}")
        # Events in logs of version 4 and older never have this cause, so these logs replay without this warning.
        if event.cause == e.UNREACHABLE and not self._works(trial, event):
            yield d.Warn(
                f"trial {trial.id} is {trial.state}, but its last checkpoint could not be saved; its latest one is at "
                f"length {trial.checkpoint_length}"
            )

    def _hparams_invalid(self, event: e.HparamsInvalid) -> Iterable[Decision]:
        trial = self.trials[event.trial]
        if not self._works(trial, event):
            return
        self._note_result(trial.id)
        self.search.exited(trial.id, Exit.INVALID)
        self._invalid, self._last_invalid = self._invalid + 1, event.why.partition("\n")[0]
        if self.spec.rules < 3 and self._invalid > invalid_limit(None, self.search.max_trials):
            self._failure = (
                f"{self._invalid} trials declared their hyperparameters invalid, more than 10 times "
                f"max_trials ({self.search.max_trials}); the latest said: {event.why}"
            )
        if self.spec.rules >= 1:
            self._discount(trial)
        yield from self._close(trial, Transition.INVALID, d.DeclaredInvalid(event.why))
        self._discount_saved(trial)
        yield from self._pause_if_too_many_are_invalid()
        yield from self._pull()

    def _pause_if_too_many_are_invalid(self) -> Iterable[Decision]:
        if self.state is ExperimentState.RUNNING and not self.search.done and (why := self.too_many_invalid):
            yield self._leave(ExperimentState.PAUSED, why)
            yield from self._suspend_all()

    def _discount(self, trial: TrialRecord) -> None:
        """Ignore the results of a trial with invalid hyperparameters for the goal and the best checkpoints."""
        self.checkpoints.reject(trial.id)
        trial.best_loss = inf
        if self._best is not None and self._best[1] == trial.id:
            # This takes O(n) time, but only if the best of all trials is declared invalid after it has reported.
            best = min((each.best_loss, each.id) for each in self.trials.values())
            self._best = best if isfinite(best[0]) else None

    def _trial_stopped(self, event: e.TrialStopped) -> Iterable[Decision]:
        trial = self.trials[event.trial]
        if not self._works(trial, event):
            return
        if self.spec.search.open_ended:
            if trial.reported[1] < 0 and trial.length == 0 and _NO_REPORT not in self._passed_on:
                self._passed_on.add(_NO_REPORT)
                yield d.Warn(f"trial {trial.id} {_NO_REPORT}")
            yield from self._judge(trial, trial.target, trial.loss)
            return
        self.search.exited(trial.id, Exit.STOPPED)
        yield from self._close(trial, Transition.DROPPED, d.StoppedItself())
        yield from self._pull()

    def _works(self, trial: TrialRecord, event: e.FinalEvent) -> bool:
        """Return whether an event is about the current attempt of a trial that has a job."""
        return trial.state is TrialState.RUNNING and event.attempt == trial.attempt

    def _close(self, trial: TrialRecord, step: Transition, why: d.WhyClosed) -> Iterable[Decision]:
        self._step(trial, step)
        yield d.CloseTrial(trial.id, trial.state, why)
        yield from self._delete(self.checkpoints.ended(trial.id))

    def _step(self, trial: TrialRecord, step: Transition) -> None:
        trial.state = after(trial.state, step)
        self._note_change(trial.id)
        if trial.state is TrialState.RUNNING:
            self._running.add(trial.id)
        else:
            self._running.discard(trial.id)


def _killed_as_hung(trial: TrialRecord, event: e.AttemptPreempted, *, resumes: bool) -> str:
    killed = f"the worker of trial {trial.id} was killed: {event.why}"
    if not resumes:
        return f"{killed}. The trial's results stand"
    if trial.checkpoint_length == 0:
        return f"{killed}. The trial has no checkpoint, so it starts from 0 when the experiment is resumed"
    return f"{killed}. The trial resumes from length {trial.checkpoint_length}"


def _messages(problems: Iterable[tuple[Path, str]]) -> list[str]:
    return [f"{'.'.join(path)}: {message}" if path else f"it {message}" for path, message in problems]


def _standing(trial: TrialRecord, event: e.ValidationReported) -> str:
    if event.attempt != trial.attempt:
        return f"attempt {trial.attempt} that counts now, not attempt {event.attempt}"
    return str(trial.state)
