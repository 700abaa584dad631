"""What an experiment costs: the time of its slots, and the training done in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
    Event,
    HparamsRejected,
    LastWord,
    StorageFailed,
    TrialStopped,
    ValidationReported,
)
from ashwood.search.vocabulary import TrialId


@dataclass(slots=True)
class LiveAttempt:
    """A process that works on a trial.

    Attributes:
        attempt: its number.
        since: when it began.
        length: the total length that it is known to have reached.
        known_at: when that was known.
        node: the machine that it runs on; empty where there is one.
    """

    attempt: int
    since: float
    length: int
    known_at: float
    node: str = ""


class Spending:
    """A fold over the entries of one or several driver runs.

    While no driver runs nothing is spent.  A driver that died without a word counts up to
    its last entry.

    Attributes:
        slots: how many trials can train at once now; 0 while no driver runs.
        nodes: on which machines, where there are several.
        driver_seconds: how long drivers ran the experiment, up to the last entry.
        slot_seconds: time of all slots while a driver ran, up to the last entry.
        busy_seconds: of these, with a process at work on a trial.
        trained: training length that took a trial further than it had ever been.
        repeated: training length done again, because no checkpoint held it.
        live: the processes at work, by trial.
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

    def apply(self, at: float, event: Event) -> Sequence[tuple[TrialId, float]]:
        """Take an event; returns the trials that processes let go of, with the seconds they worked on each."""
        if isinstance(event, DriverStarted):
            ended = self._end_all()
            self._last_at = max(at, self._last_at)
            self.slots, self.nodes, self._driven = event.slots, {}, True
            return ended
        if not self._driven:  # what people ask for while no driver runs
            self._last_at = max(at, self._last_at)
            return ()
        self._advance(at)
        if isinstance(event, ValidationReported):  # first, as nearly every entry is one
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
                | HparamsRejected()
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
        """The share of the slots' time in which a process was at work, from 0 to 1; ``now``: while a driver runs."""
        later = max(0.0, now - self._last_at) if now is not None else 0.0
        total = self.slot_seconds + self.slots * later
        return min(1.0, (self.busy_seconds + len(self.live) * later) / total) if total > 0 else 0.0

    def driven(self, now: float) -> float:
        """How long drivers have run the experiment until now, while one does."""
        return self.driver_seconds + (max(0.0, now - self._last_at) if self._driven else 0.0)

    def seconds_to_train(self, length: float, now: float) -> float | None:
        """How long ``length`` more of training will take on the slots there are, at the pace so far.

        None while no driver runs and before anything was reported.
        """
        if not self.slots or not self.trained:
            return None
        # What live processes did since their last report took time, but nobody knows yet how far it led.
        now = max(now, self._last_at)
        unknown = sum(now - attempt.known_at for attempt in self.live.values())
        spent = self.slot_seconds + self.slots * (now - self._last_at) - unknown
        return max(0.0, length * spent / self.trained - unknown) / self.slots

    def _advance(self, at: float) -> None:
        # A clock that was set back must not give time back.
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

    def _end(self, event: LastWord) -> Sequence[tuple[TrialId, float]]:
        live = self.live.get(event.trial)
        if live is None or live.attempt != event.attempt:
            return ()
        del self.live[event.trial]
        return ((event.trial, self._last_at - live.since),)

    def _end_all(self) -> Sequence[tuple[TrialId, float]]:
        ended = [(trial, self._last_at - live.since) for trial, live in self.live.items()]
        self.live = {}
        return ended
