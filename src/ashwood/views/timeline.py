"""The work of each slot over time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from ashwood.experiment.decisions import (
    AbortTrial,
    CloseTrial,
    CompleteTrial,
    ContinueTrial,
    CreateTrial,
    Decision,
    PauseTrial,
    StopTrial,
    SuspendTrial,
    TrainTrial,
)
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
    Event,
    FinalEvent,
    HparamsInvalid,
    StorageFailed,
    TrialStopped,
    ValidationReported,
)
from ashwood.experiment.lifecycle import TrialState
from ashwood.search.vocabulary import BracketFinished, TrialId
from ashwood.views.ladder import Ladder
from ashwood.views.rows import Rows

Slot = int
"""Slots are numbered 0, 1, 2, …; texts for users call them workers."""


class SpanEnd(StrEnum):
    """How a span of work ended."""

    PROMOTED = "promoted"
    """The trial reached its rung and was promoted at once, so it continues in the same process."""
    PAUSED = "paused"
    """The trial reached its rung and is paused there."""
    COMPLETED = "completed"
    STOPPED = "stopped"
    FAILED = "failed"
    INVALID = "invalid"
    KILLED = "killed"
    PREEMPTED = "preempted"
    """The trial did not reach its rung: the experiment paused or ended, or the worker or the driver died."""


@dataclass(slots=True)
class Span:
    """The work of one attempt towards one rung.  If its trial is promoted at once, a new span begins.

    Attributes:
        slot: slot of the attempt.
        trial: its trial.
        attempt: number of the attempt.
        bracket: index of the trial's bracket.
        rung: index of the rung towards which it trains.
        start: total length from which it started.
        target: total length of the rung.
        begin: time of its begin, in seconds since 1970.
        length: longest total length that it reported, or ``start`` before its first report.
        metric: metric of the search at this length, or None.
        end: time at which the slot was free for other work, or None if the span has not ended.
        how: how the span ended, or None if it has not.
    """

    slot: Slot
    trial: TrialId
    attempt: int
    bracket: int
    rung: int
    start: int
    target: int
    begin: float
    length: int
    metric: float | None = None
    end: float | None = None
    how: SpanEnd | None = None


class SlotTime(NamedTuple):
    """A slot and a span of time, in seconds since 1970."""

    slot: Slot
    begin: float
    end: float


_SPAN = ("q", "q", "q", "h", "h", "q", "q", "d", "q", "", "?d", "")
"""Types of the columns of spans."""


class Timeline:
    """The work of each slot, as a fold over log entries that takes O(1) time for each.

    Entries must be applied to the ladder first.

    Time without a driver is neither work nor idle time.  If a driver died, its time counts up to
    its last entry, as in `Spending`.

    Attributes:
        spec: the description of the experiment.
        ladder: the rungs of the trials; it is not part of the saved state.
        spans: the spans of work, in the order in which they began.
        until: time of the last entry, in seconds since 1970.
        slots: largest number of slots so far.
    """

    def __init__(self, ladder: Ladder) -> None:
        self.spec = ladder.spec
        self.ladder = ladder
        self.spans: Rows[Span] = Rows(Span, _SPAN)
        self.until = 0.0
        self.slots = 0
        self._live: dict[TrialId, Span] = {}
        self._indices: dict[TrialId, int] = {}
        # Length at which the job of each trial ends whose attempt is to start.  It can be shorter than the trial's rung
        # if the search was extended since the trial got its job.
        self._targets: dict[TrialId, int] = {}
        # How each attempt will end according to a decision, until the event of its end arrives.
        self._fates: dict[tuple[TrialId, int], SpanEnd] = {}
        # Time since which each present slot has existed; slots that were just lost; and the times of slots that no
        # longer exist.
        self._there: dict[Slot, float] = {}
        self._lost: list[Slot] = []
        self._were_there: list[SlotTime] = []
        # Begin and end of each former driver, and the begin of the current one.
        self._shifts: list[tuple[float, float]] = []
        self._shift_began: float | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "ladder"}

    def apply(self, entry: Entry) -> None:
        """Apply an entry of the log."""
        at, event, decisions = entry
        if isinstance(event, DriverStarted):
            self._leave()  # The former driver ran at least until the previous entry, whose time is still in `until`.
        # If the clock was set back, no time is subtracted.
        if at > self.until:
            self.until = at
        if self._shift_began is not None:
            if isinstance(event, ValidationReported):  # This comes first because most entries are reports.
                self._note(event)
            else:
                self._happen(event)
        if isinstance(event, DriverStarted):
            self._shift_began = self.until
            self._resize(event.slots)
        for decision in decisions:
            self._decide(decision)

    @property
    def shifts(self) -> list[tuple[float, float]]:
        """Begin and end of each driver; if one runs, its end is the time of the last entry."""
        return [*self._shifts, *([] if self._shift_began is None else [(self._shift_began, self.until)])]

    @property
    def began(self) -> float | None:
        """Time at which the first driver started, or None if none has."""
        return self._shifts[0][0] if self._shifts else self._shift_began

    @property
    def live(self) -> Sequence[Span]:
        """The spans that have not ended."""
        return list(self._live.values())

    def presences(self) -> list[SlotTime]:
        """Return the times in which each slot existed, busy or idle, up to the last entry."""
        return [*self._were_there, *(SlotTime(slot, since, self.until) for slot, since in self._there.items())]

    def gaps(self) -> Iterator[SlotTime]:
        """Yield the times in which slots were idle, sorted by slot."""
        ahead: defaultdict[Slot, list[Span]] = defaultdict(list)
        for span in reversed(self.spans):
            ahead[span.slot].append(span)
        free: defaultdict[Slot, float] = defaultdict(float)
        for slot, begin, end in sorted(self.presences()):
            spans = ahead[slot]
            since = max(begin, free[slot])
            while spans and spans[-1].begin < end:
                span = spans.pop()
                if span.begin > since:
                    yield SlotTime(slot, since, span.begin)
                since = max(since, self.until if span.end is None else span.end)
            if since < end:
                yield SlotTime(slot, since, end)
            free[slot] = since

    # -- events -------------------------------------------------------------------------------

    def _happen(self, event: Event) -> None:
        match event:
            case CheckpointSaved():  # This entry changes nothing.  It is checked first because it is frequent.
                pass
            case AttemptStarted(trial, attempt, slot, length):
                if (former := self._live.pop(trial, None)) is not None:
                    self._close(former, SpanEnd.PREEMPTED)
                self._begin(slot, trial, attempt, length, self._targets.pop(trial, None))
            case AttemptEnded() | AttemptFailed() | StorageFailed() | CheckpointDamaged():
                self._end(event, SpanEnd.FAILED)
            case AttemptPreempted(trial, hung=hung):
                if not hung and (span := self._live.get(trial)) is not None:
                    self._lost.append(span.slot)
                self._end(event, SpanEnd.PREEMPTED)
            case HparamsInvalid():
                self._end(event, SpanEnd.INVALID)
            case TrialStopped():
                # If training code decides how long it trains, its end completes the trial.
                self._end(event, SpanEnd.COMPLETED if self.spec.search.open_ended else SpanEnd.STOPPED)
            case CapacityChanged(slots, nodes):
                self._resize(slots, is_cluster=bool(nodes))
            case DriverStopped():
                self._leave()

    def _begin(self, slot: Slot, trial: TrialId, attempt: int, length: int, target: int | None = None) -> None:
        if slot not in self._there and self._there:  # A different slot had left than was assumed earlier.
            self._there[slot] = self._there.pop(self._slot_that_left())
        path = self.ladder.paths[trial]
        target = target or self.ladder.brackets[path.bracket].lengths[path.rung]
        span = Span(slot, trial, attempt, path.bracket, path.rung, length, target, self.until, length)
        self._indices[trial] = self.spans.add(span)
        self._live[trial] = span

    def _note(self, event: ValidationReported) -> None:
        span = self._live.get(event.trial)
        if span is None or span.attempt != event.attempt:
            return
        if self._fates.get((event.trial, event.attempt), SpanEnd.PREEMPTED) is not SpanEnd.PREEMPTED:
            return  # The report came too late: the trial was already judged.
        if event.length > span.length:
            span.length = event.length
            span.metric = event.metrics.get(self.spec.metric)

    def _end(self, event: FinalEvent, how: SpanEnd) -> None:
        decided = self._fates.pop((event.trial, event.attempt), None)
        span = self._live.get(event.trial)
        if span is None or span.attempt != event.attempt:
            return
        del self._live[event.trial]
        # If an attempt fails before it reacts to a request to save and leave, its event determines how it ended.
        is_forestalled = decided is SpanEnd.PREEMPTED and not isinstance(event, AttemptEnded)
        self._close(span, how if decided is None or is_forestalled else decided)

    def _close(self, span: Span, how: SpanEnd) -> None:
        span.end, span.how = self.until, how
        self.spans.settle(self._indices.pop(span.trial))

    def _leave(self) -> None:
        for span in self._live.values():
            self._close(span, self._fates.get((span.trial, span.attempt), SpanEnd.PREEMPTED))
        self._live.clear()
        self._fates.clear()
        self._resize(0)
        if self._shift_began is not None:
            self._shifts.append((self._shift_began, self.until))
            self._shift_began = None

    def _resize(self, slots: int, *, is_cluster: bool = False) -> None:
        """Record a new number of slots.  On a cluster any slots may leave, otherwise those with the highest numbers."""
        surplus = max(0, len(self._there) - slots)
        last = iter(sorted(self._there, reverse=True)[:surplus])
        for _ in range(surplus):
            slot = self._slot_that_left() if is_cluster else next(last)
            self._were_there.append(SlotTime(slot, self._there.pop(slot), self.until))
        for slot in [slot for slot in range(slots) if slot not in self._there][: max(0, slots - len(self._there))]:
            self._there[slot] = self.until
        self._lost.clear()
        self.slots = max(self.slots, slots)

    def _slot_that_left(self) -> Slot:
        """Return the slot of an attempt that has just lost its worker, or else an idle slot if there is one."""
        while self._lost:
            if (slot := self._lost.pop()) in self._there:
                return slot
        busy = {span.slot for span in self._live.values()}
        return max(self._there.keys() - busy or self._there)

    # -- decisions ----------------------------------------------------------------------------

    def _decide(self, decision: Decision) -> None:
        match decision:
            case CreateTrial(trial=trial, target=target) | TrainTrial(trial=trial, target=target):
                self._targets[trial] = target
            case ContinueTrial(trial, _, target):
                if (span := self._live.get(trial)) is not None:
                    self._close(span, SpanEnd.PROMOTED)
                    self._begin(span.slot, trial, span.attempt, span.length, target)
            case SuspendTrial() | PauseTrial() | CompleteTrial() | StopTrial() | AbortTrial():
                if not (isinstance(decision, CompleteTrial) and self.spec.search.open_ended):  # It has ended already.
                    self._fates[decision.trial, decision.attempt] = _FATES_BY_DECISION[type(decision)]
            case CloseTrial():
                self._close_trial(decision)

    def _close_trial(self, decision: CloseTrial) -> None:
        span = self._live.get(decision.trial)
        if span is None or isinstance(decision.why, BracketFinished):
            return  # If the trial's process still saves, how it ends was decided before.
        fate = _FATES_BY_STATE.get(decision.state)
        if fate is not None and self._fates.get((span.trial, span.attempt)) in (None, SpanEnd.PREEMPTED):
            self._fates[span.trial, span.attempt] = fate


_FATES_BY_DECISION: Mapping[type, SpanEnd] = {
    SuspendTrial: SpanEnd.PREEMPTED,
    PauseTrial: SpanEnd.PAUSED,
    CompleteTrial: SpanEnd.COMPLETED,
    StopTrial: SpanEnd.STOPPED,
    AbortTrial: SpanEnd.KILLED,
}
_FATES_BY_STATE = {
    TrialState.STOPPED: SpanEnd.STOPPED,
    TrialState.KILLED: SpanEnd.KILLED,
    TrialState.ERRORED: SpanEnd.FAILED,
    TrialState.INVALID: SpanEnd.INVALID,
}
