"""The engine, which runs one experiment on one backend.

It works in turns.  A turn takes events of the backend, lets the experiment decide, makes events and decisions
durable with one commit, and only then acts.  Between turns, a few times a second, the engine answers requests,
checks the time limit of the experiment, and renews the lease.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from math import inf
from typing import Any

from ashwood.backends.port import Backend
from ashwood.engine.clock import Clock, WallClock
from ashwood.engine.dispatcher import Dispatcher
from ashwood.engine.recorder import Observer, Recorder
from ashwood.engine.recovery import Recovery
from ashwood.errors import BackendError, DiskFull, EventLogError
from ashwood.eventlog.port import EventLog, PendingRequest, RequestId
from ashwood.experiment.entry import Entry
from ashwood.experiment.events import (
    DriverStarted,
    DriverStopped,
    Event,
    PauseRequested,
    TimeRanOut,
)
from ashwood.experiment.experiment import Experiment
from ashwood.experiment.lifecycle import ExperimentState
from ashwood.search.vocabulary import TrialId

_SUMMARY_SECONDS = 1.0
_HOUSEKEEPING_SECONDS = 0.2
_WAIT_SECONDS = 3.0
"""Seconds after which a pausing or stopping engine says which trials it waits for."""
_MOST_NAMED = 10


class Engine:
    """Drives one experiment on one backend until it ends or is asked to pause."""

    def __init__(
        self,
        experiment: Experiment,
        log: EventLog,
        backend: Backend,
        *,
        observers: Sequence[Observer] = (),
        summarize: Callable[[], Mapping[str, Any]] | None = None,
        clock: Clock | None = None,
        requests: Callable[[], Sequence[tuple[RequestId, PendingRequest]]] | None = None,
        beat: Callable[[], None] | None = None,
        make_room: Callable[[], None] | None = None,
        recovery: Recovery | None = None,
        ran_before: float = 0.0,
        say: Callable[[str], None] | None = None,
    ) -> None:
        """Create an engine; `run` runs it.

        Args:
            experiment: the state at the end of ``log``.
            log: the event log.
            backend: runs the trials.
            observers: called with the new entries of each turn, when they are durable.
            summarize: returns a summary for lists of experiments; called at most once a second.
            clock: the time; by default, that of the machine.
            requests: returns new requests; called a few times a second.
            beat: renews the lease; called a few times a second.  It raises `LeaseLost` if the lease is lost.
            make_room: deletes the reserve file when the disk is full.
            recovery: finds checkpoints that attempts saved before they died; by default, they are not looked for.
            ran_before: seconds for which earlier drivers ran the experiment.
            say: shows a message about the trials that the end of the run waits for.
        """
        self._experiment = experiment
        self._backend = backend
        self._observers = observers
        self._summarize = summarize
        self._clock = clock or WallClock()
        self._recorder = Recorder(experiment, log, self._clock, make_room=make_room)
        self._requests = requests
        self._beat = beat
        self._recovery = recovery
        self._dispatcher = Dispatcher(experiment)
        self._summary_due = 0.0
        self._housekeeping_due = inf if requests is None and beat is None else 0.0
        self._began = self._clock.elapsed() - ran_before
        self._expected: int | None = 0
        self._say = say
        self._leaving_since: float | None = None
        self._listed: tuple[TrialId, ...] = ()
        self._pause_wanted: str | None = None
        self._abandon_wanted = False

    def run(self) -> ExperimentState:
        """Run until the experiment ends or is paused, and return its state.

        Raises:
            BackendError: no trial can run at all; the experiment is paused.
            LeaseLost: another driver owns the experiment now.
            EventLogError: the event log cannot be written; earlier entries are safe.
        """
        try:
            self._turn([DriverStarted(self._backend.slots)])
            while not self._finished():
                self._turn(self._backend.next_events(timeout=self._timeout()))
                self._do_housekeeping()
        except BackendError:
            self._stop()
            raise
        finally:
            self._backend.close()
        self._stop()
        return self._experiment.state

    def pause(self, by: str = "") -> None:
        """Pause the experiment: running trials save a checkpoint, then `run` returns.

        It may be called in a signal handler or another thread.

        Args:
            by: name of the signal that is the reason, for example ``Ctrl-C``, or an empty string.
        """
        self._pause_wanted = by
        self._backend.wake()

    def abandon(self) -> None:
        """Let `run` return at once; running trials lose all training since their latest checkpoints.

        It may be called in a signal handler or another thread.
        """
        self._abandon_wanted = True
        self._backend.wake()

    def _finished(self) -> bool:
        if self._abandon_wanted:
            return True
        idle = not self._dispatcher.live
        return idle and (self._experiment.over or self._experiment.state is not ExperimentState.RUNNING)

    # -- a turn -------------------------------------------------------------------------------

    def _turn(self, events: Sequence[Event]) -> None:
        recovery = self._recovery
        if events or (recovery is not None and recovery.ready):
            completed = events if recovery is None else recovery.complete(events)
            self._act(self._recorder.take(completed, self._summary()))
        elif self._dispatcher.next_due <= self._clock.elapsed():
            self._act(())

    def _act(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self._dispatcher.note(entry.event)
        # Observers are called before the backend, because the entries are durable even if the backend fails.
        for observe in self._observers if entries else ():
            observe(entries)
        useful_slots = self._experiment.useful_slots
        # After `DriverStopped` the backend is closed, so it must not be called.
        if useful_slots != self._expected and self._experiment.state.active:
            self._expected = useful_slots
            self._backend.expect(useful_slots)
        decisions = [decision for entry in entries for decision in entry.decisions]
        if commands := self._dispatcher.commands(decisions, self._backend.slots, self._clock.elapsed()):
            self._backend.dispatch(commands)

    def _summary(self) -> Mapping[str, Any] | None:
        if self._summarize is None or self._clock.elapsed() < self._summary_due:
            return None
        self._summary_due = self._clock.elapsed() + _SUMMARY_SECONDS
        return self._summarize()

    def _stop(self) -> None:
        self._turn([DriverStopped()])
        if self._summarize is not None:
            with suppress(EventLogError):  # The summary can be rebuilt from the event log.
                self._recorder.summarize(self._summarize())

    # -- between turns ------------------------------------------------------------------------

    def _timeout(self) -> float | None:
        """Return the maximum number of seconds to wait for the backend, or None for no limit."""
        recovered_at = inf if self._recovery is None else self._recovery.next_due
        due = min(self._dispatcher.next_due, self._time_is_up_at, self._housekeeping_due, recovered_at)
        return None if due == inf else max(0.0, due - self._clock.elapsed())

    @property
    def _time_is_up_at(self) -> float:
        limit = self._experiment.max_time
        runs = self._experiment.state is ExperimentState.RUNNING
        return self._began + limit if runs and limit is not None else inf

    def _do_housekeeping(self) -> None:
        running = self._experiment.state is ExperimentState.RUNNING
        if running and self._pause_wanted is not None:
            self._turn([PauseRequested(by=self._pause_wanted)])
        elif running and self._recorder.ran_out_of_room is not None:
            self._turn([PauseRequested(self._recorder.ran_out_of_room)])
        if (now := self._clock.elapsed()) >= self._time_is_up_at:
            self._turn([TimeRanOut(now - self._began)])
        if now < self._housekeeping_due:
            return
        if self._beat is not None:
            try:
                self._beat()
            except DiskFull as error:
                self._recorder.make_room(error)
        if self._requests is not None and (requests := self._requests()):
            self._act(self._recorder.answer(requests))
        self._report_waiting(now)
        self._housekeeping_due = self._clock.elapsed() + _HOUSEKEEPING_SECONDS

    def _report_waiting(self, now: float) -> None:
        """Update the summary while the experiment pauses or stops, and say what it waits for if that takes long.

        Without this, the summary would not change while trials hang, because there are no events.
        """
        leaves = self._experiment.state in (ExperimentState.PAUSING, ExperimentState.STOPPING)
        trials = tuple(sorted(self._dispatcher.live)) if leaves else ()
        if not trials:
            self._leaving_since, self._listed = None, ()
            return
        if trials != self._listed and self._summarize is not None and now >= self._summary_due:
            self._listed = trials
            self._summary_due = now + _SUMMARY_SECONDS
            self._recorder.summarize(self._summarize())
        if self._leaving_since is None:
            self._leaving_since = now
        elif now >= self._leaving_since + _WAIT_SECONDS and self._say is not None:
            resumes = not self._experiment.ends_for_good
            self._say(_waiting(trials, self._experiment.spec.grace_period, resumes=resumes))
            self._leaving_since = inf


def _waiting(trials: Sequence[TrialId], grace: float | None, *, resumes: bool) -> str:
    named = ", ".join(map(str, trials[:_MOST_NAMED])) + (", …" if len(trials) > _MOST_NAMED else "")
    limit = "10 s, or for twice its longest step," if grace is None else f"{grace:g} s"
    return (
        f"waiting for trial{'' if len(trials) == 1 else 's'} {named} to finish a step and save. A worker that "
        f"finishes no step or save for {limit} is killed"
        f"{'; its trial resumes from its latest checkpoint' if resumes else ''}"
    )
