"""The time of the slots of an experiment, and the training that was done in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ashwood.experiment.entry import Entry
from ashwood.experiment.events import (
    AttemptEnded,
    AttemptFailed,
    AttemptPreempted,
    AttemptStarted,
    CapacityChanged,
    CheckpointDamaged,
    CheckpointSaved,
    DriverStarted,
    DriverStopped,
    FinalEvent,
    HparamsInvalid,
    StorageFailed,
    TrialStopped,
    ValidationReported,
)
from ashwood.search.vocabulary import TrialId


@dataclass(slots=True)
class LiveAttempt:
    """A running attempt.  Times are seconds since 1970.

    Attributes:
        attempt: its number.
        since: time of its start.
        length: total length that it is known to have reached.
        known_at: time at which it had reached this length.
        node: name of its machine, or empty if there is only one.
    """

    attempt: int
    since: float
    length: int
    known_at: float
    node: str = ""


class Node(NamedTuple):
    """One machine.

    Attributes:
        name: name of the machine in the backend.
        slots: number of trials that can train on it at once, or 0 if it is leaving.
        trials: trials that train on it now.
    """

    name: str
    slots: int
    trials: Sequence[TrialId]


class Spending:
    """The time and training that an experiment took, as a fold over log entries.

    Time without a driver does not count.  If a driver died, its time counts up to its last
    entry.

    Attributes:
        slots: number of slots now, or 0 if no driver runs.
        nodes: number of slots on each machine, or empty if there is only one machine.
        driver_seconds: seconds in which drivers ran, up to the last entry.
        slot_seconds: seconds of all slots while drivers ran, up to the last entry.
        busy_seconds: the part of slot_seconds in which an attempt was running.
        trained: training length beyond the former maximum of each trial.
        repeated: training length that was repeated because no checkpoint held it.
        live: the running attempt of each trial.
    """

    def __init__(self) -> None:
        self.slots = 0
        self.nodes: Mapping[str, int] = {}
        self.driver_seconds = 0.0
        self.slot_seconds = 0.0
        self.busy_seconds = 0.0
        self.trained = 0
        self.repeated = 0
        self.live: dict[TrialId, LiveAttempt] = {}
        self._furthest: dict[TrialId, int] = {}
        self._driven = False
        self._last_at = 0.0

    def apply(self, entry: Entry) -> Sequence[tuple[TrialId, float]]:
        """Apply an event.  Return the trials whose attempts ended, each with the seconds that its attempt ran."""
        at, event, _ = entry
        if isinstance(event, DriverStarted):
            ended = self._end_all()
            self._last_at = max(at, self._last_at)
            self.slots, self.nodes, self._driven = event.slots, {}, True
            return ended
        if not self._driven:  # A request was recorded while no driver ran.
            self._last_at = max(at, self._last_at)
            return ()
        self._advance(at)
        if isinstance(event, ValidationReported):  # This comes first because most entries are reports.
            self._note_length(event)
            return ()
        match event:
            case CheckpointSaved():
                self._note_length(event)
            case AttemptStarted(trial, attempt, _, length, node):
                self.live[trial] = LiveAttempt(attempt, self._last_at, length, self._last_at, node)
            case AttemptEnded():
                self._note_length(event)
                return self._end(event)
            case (
                AttemptFailed()
                | AttemptPreempted()
                | StorageFailed()
                | CheckpointDamaged()
                | HparamsInvalid()
                | TrialStopped()
            ):
                return self._end(event)
            case CapacityChanged(slots, nodes):
                self.slots, self.nodes = slots, nodes
            case DriverStopped():
                self.slots, self.nodes, self._driven = 0, {}, False
                return self._end_all()
        return ()

    def utilisation(self, now: float | None = None) -> float:
        """Return the share of the slots' time in which an attempt was running, from 0 to 1.

        If ``now`` is given, the time since the last entry counts too.  It should be given only while a driver runs.
        """
        later = max(0.0, now - self._last_at) if now is not None else 0.0
        total = self.slot_seconds + self.slots * later
        return min(1.0, (self.busy_seconds + len(self.live) * later) / total) if total > 0 else 0.0

    def driven(self, now: float) -> float:
        """Return the seconds in which drivers have run, including the time since the last entry if one runs."""
        return self.driver_seconds + (max(0.0, now - self._last_at) if self._driven else 0.0)

    def so_far(self, trial: TrialId, now: float | None = None) -> float:
        """Return the seconds that the running attempt of a trial has run until the last entry, or 0 if none runs.

        If ``now`` is given, the time since the last entry counts too.  It should be given only while a driver runs.
        """
        live = self.live.get(trial)
        return 0.0 if live is None else max(self._last_at, now or 0.0) - live.since

    def seconds_to_train(self, length: float, now: float) -> float | None:
        """Return the seconds that further training of ``length`` takes on the present slots, at the pace so far.

        Return None if no driver runs or no trial has reported.
        """
        if not self.slots or not self.trained:
            return None
        # The time since the last report of a running attempt is left out, because its training is not known yet.
        now = max(now, self._last_at)
        unknown = sum(now - attempt.known_at for attempt in self.live.values())
        spent = self.slot_seconds + self.slots * (now - self._last_at) - unknown
        return max(0.0, length * spent / self.trained - unknown) / self.slots

    def seconds_for_trials(self, left: int, ended: int, at_once: int, now: float) -> float:
        """Return the seconds until ``left`` more trials have ended, if each takes as long as the ``ended`` ones.

        Args:
            left: number of trials that have not ended, including those that are running.
            ended: number of trials that have ended, at least 1.
            at_once: largest number of trials that train at once, or 0 for one on each slot.
            now: current time.
        """
        now = max(now, self._last_at)
        elapsed = [now - attempt.since for attempt in self.live.values()]
        busy = self.busy_seconds + len(self.live) * (now - self._last_at)
        each = max(0.0, busy - sum(elapsed)) / ended
        work = left * each - sum(min(each, seconds) for seconds in elapsed)
        return max(0.0, work) / max(1, min(self.slots, at_once or self.slots, left))

    def _advance(self, at: float) -> None:
        # If the clock was set back, no time is subtracted.
        elapsed = at - self._last_at
        if elapsed <= 0.0:
            return
        self._last_at += elapsed
        self.driver_seconds += elapsed
        self.slot_seconds += self.slots * elapsed
        self.busy_seconds += len(self.live) * elapsed

    def _note_length(self, event: ValidationReported | CheckpointSaved | AttemptEnded) -> None:
        live = self.live.get(event.trial)
        if live is None or live.attempt != event.attempt or event.length <= live.length:
            return
        furthest = self._furthest.get(event.trial, 0)
        further = max(0, event.length - max(furthest, live.length))
        self.trained += further
        self.repeated += event.length - live.length - further
        self._furthest[event.trial] = max(furthest, event.length)
        live.length, live.known_at = event.length, self._last_at

    def _end(self, event: FinalEvent) -> Sequence[tuple[TrialId, float]]:
        live = self.live.get(event.trial)
        if live is None or live.attempt != event.attempt:
            return ()
        del self.live[event.trial]
        return ((event.trial, self._last_at - live.since),)

    def _end_all(self) -> Sequence[tuple[TrialId, float]]:
        ended = [(trial, self._last_at - live.since) for trial, live in self.live.items()]
        self.live = {}
        return ended


def nodes_of(spending: Spending) -> list[Node]:
    """Return the present machines and those with running trials, or an empty list if there is only one machine."""
    trials: dict[str, list[TrialId]] = {name: [] for name in spending.nodes}
    for trial in sorted(spending.live):
        if name := spending.live[trial].node:
            trials.setdefault(name, []).append(trial)
    return [Node(name, spending.nodes.get(name, 0), trials[name]) for name in sorted(trials)]
