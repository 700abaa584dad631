"""The engine: three lines in a loop.

Every turn takes what the backend has to say, lets the experiment decide, makes events and
decisions durable with one commit, and only then acts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ashwood.backends.port import Backend
from ashwood.engine.dispatcher import Dispatcher
from ashwood.errors import BackendError
from ashwood.eventlog.port import Entry, EventLog
from ashwood.experiment.events import DriverStarted, DriverStopped, Event, PauseRequested
from ashwood.experiment.experiment import Experiment
from ashwood.experiment.lifecycle import ExperimentState

Observer = Callable[[Sequence[Entry]], None]

_SUMMARY_SECONDS = 1.0


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
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Put an experiment, folded up to the end of its log, together with its log and backend.

        Args:
            experiment: the state that ``log`` leads to.
            log: where to record.
            backend: what runs trials.
            observers: called with the entries of each turn, after they are durable.
            summarize: a summary for the store's list of experiments, at most once a second.
            clock: seconds since 1970.
        """
        self._experiment = experiment
        self._log = log
        self._backend = backend
        self._observers = observers
        self._summarize = summarize
        self._clock = clock
        self._dispatcher = Dispatcher(experiment)
        self._summary_due = 0.0
        self._pause_wanted = False
        self._abandon_wanted = False

    def run(self) -> ExperimentState:
        """Run until the experiment ends or pauses; returns its state.

        Raises:
            BackendError: no trial can run at all; the experiment is paused.
            EventLogError: the record can't be written; what was acknowledged is safe.
        """
        try:
            self._turn([DriverStarted(self._backend.slots)])
            while not self._finished():
                self._turn(self._backend.next_events(timeout=None))
                if self._pause_wanted and self._experiment.state is ExperimentState.RUNNING:
                    self._turn([PauseRequested()])
        except BackendError:
            self._stop()
            raise
        finally:
            self._backend.close()
        self._stop()
        return self._experiment.state

    def pause(self) -> None:
        """Save and let go of what runs, then return from `run`.  Safe in a signal handler or another thread."""
        self._pause_wanted = True
        self._backend.wake()

    def abandon(self) -> None:
        """Return from `run` at once; what runs loses its work since its last checkpoint.  Safe in a signal handler."""
        self._abandon_wanted = True
        self._backend.wake()

    def _finished(self) -> bool:
        if self._abandon_wanted:
            return True
        idle = not self._dispatcher.live
        return idle and (self._experiment.over or self._experiment.state is ExperimentState.PAUSING)

    def _turn(self, events: Sequence[Event]) -> None:
        if not events:
            return
        now = self._clock()
        entries = [Entry(now, event, self._experiment.handle(event)) for event in events]  # decide
        self._log.append(entries, summary=self._summary(now))  # commit
        for entry in entries:  # act
            self._dispatcher.note(entry.event)
        decisions = [decision for entry in entries for decision in entry.decisions]
        if commands := self._dispatcher.commands(decisions, self._backend.slots):
            self._backend.dispatch(commands)
        for observe in self._observers:
            observe(entries)

    def _summary(self, now: float) -> Mapping[str, Any] | None:
        if self._summarize is None or now < self._summary_due:
            return None
        self._summary_due = now + _SUMMARY_SECONDS
        return self._summarize()

    def _stop(self) -> None:
        self._summary_due = 0.0
        self._turn([DriverStopped()])
