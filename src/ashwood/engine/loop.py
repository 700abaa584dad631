"""The engine: three lines in a loop.

Every turn takes what the backend has to say, lets the experiment decide, makes events and
decisions durable with one commit, and only then acts.  Between turns, a few times a second,
it sees to what people ask for, to the time that the experiment may take, and to its lease.
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
from ashwood.eventlog.port import Entry, EventLog, PendingRequest, RequestId
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
_CARE_SECONDS = 0.2
_WAIT_SECONDS = 3.0
"""Seconds after which the user is told which trials the end of the run waits for."""
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
        """Put an experiment, folded up to the end of its log, together with its log and backend.

        Args:
            experiment: the state that ``log`` leads to.
            log: where to record.
            backend: what runs trials.
            observers: called with the entries of each turn, after they are durable.
            summarize: a summary for the store's list of experiments, at most once a second.
            clock: what time it is; None: the machine's.
            requests: what people have asked for since, called a few times a second.
            beat: a sign of life for the lease, called as often; raises when the lease is lost.
            make_room: frees what was kept for the case that the disk is full.
            recovery: adds what an attempt that died had saved; without it nothing is looked up.
            ran_before: seconds for which earlier drivers ran the experiment.
            say: shows a message about what the end of the run waits for.
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
        self._care_due = inf if requests is None and beat is None else 0.0
        self._began = self._clock.elapsed() - ran_before
        self._expected: int | None = 0
        self._say = say
        self._leaving_since: float | None = None
        self._listed: tuple[TrialId, ...] = ()
        self._pause_wanted: str | None = None
        self._abandon_wanted = False

    def run(self) -> ExperimentState:
        """Run until the experiment ends or pauses; returns its state.

        Raises:
            BackendError: no trial can run at all; the experiment is paused.
            LeaseLost: another driver has taken it over.
            EventLogError: the record can't be written; what was acknowledged is safe.
        """
        try:
            self._turn([DriverStarted(self._backend.slots)])
            while not self._finished():
                self._turn(self._backend.next_events(timeout=self._patience()))
                self._take_care()
        except BackendError:
            self._stop()
            raise
        finally:
            self._backend.close()
        self._stop()
        return self._experiment.state

    def pause(self, by: str = "") -> None:
        """Save and let go of what runs, then return from `run`.  Safe in a signal handler or another thread.

        ``by`` is the signal that asks for it, as people call it; empty: none.
        """
        self._pause_wanted = by
        self._backend.wake()

    def abandon(self) -> None:
        """Return from `run` at once; what runs loses its work since its last checkpoint.  Safe in a signal handler."""
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
        # Observers first: what is durable is so whether the backend can do anything about it or not.
        for observe in self._observers if entries else ():
            observe(entries)
        appetite = self._experiment.appetite
        # Once the driver has stopped the backend is closed.
        if appetite != self._expected and self._experiment.state.active:
            self._expected = appetite
            self._backend.expect(appetite)
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
            with suppress(EventLogError):  # it can be rebuilt from the log
                self._recorder.summarize(self._summarize())

    # -- between turns ------------------------------------------------------------------------

    def _patience(self) -> float | None:
        """Return how many seconds to wait for the backend before something else is due, or None if nothing is."""
        recovered_at = inf if self._recovery is None else self._recovery.next_due
        due = min(self._dispatcher.next_due, self._time_is_up_at, self._care_due, recovered_at)
        return None if due == inf else max(0.0, due - self._clock.elapsed())

    @property
    def _time_is_up_at(self) -> float:
        limit = self._experiment.max_seconds
        runs = self._experiment.state is ExperimentState.RUNNING
        return self._began + limit if runs and limit is not None else inf

    def _take_care(self) -> None:
        running = self._experiment.state is ExperimentState.RUNNING
        if running and self._pause_wanted is not None:
            self._turn([PauseRequested(by=self._pause_wanted)])
        elif running and self._recorder.ran_out_of_room is not None:
            self._turn([PauseRequested(self._recorder.ran_out_of_room)])
        if (now := self._clock.elapsed()) >= self._time_is_up_at:
            self._turn([TimeRanOut(now - self._began)])
        if now < self._care_due:
            return
        if self._beat is not None:
            try:
                self._beat()
            except DiskFull as error:
                self._recorder.make_room(error)
        if self._requests is not None and (requests := self._requests()):
            self._act(self._recorder.answer(requests))
        self._tell_what_it_waits_for(now)
        self._care_due = self._clock.elapsed() + _CARE_SECONDS

    def _tell_what_it_waits_for(self, now: float) -> None:
        """Keep the summary true while the experiment pauses or stops, and say what it waits for if that takes long.

        While trials hang nothing happens that would update the summary.
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
