"""Who worked where and when, and the way of every trial through the rungs."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from ashwood.experiment.decisions import (
    AbortTrial,
    CloseTrial,
    CompleteTrial,
    ContinueTrial,
    CreateTrial,
    Decision,
    ExperimentEnded,
    PauseTrial,
    ReopenTrial,
    StopTrial,
    SuspendTrial,
    TrainTrial,
)
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
from ashwood.experiment.lifecycle import TrialState
from ashwood.experiment.spec import ExperimentSpec
from ashwood.search.plan import plan_search
from ashwood.search.vocabulary import BracketFinished, TrialId
from ashwood.views.rows import Rows, Tuples

Slot = int
"""Slots are numbered 0, 1, 2, …; they are called workers where people read it."""


class SpanEnd(StrEnum):
    """How a stretch of work ended."""

    WENT_ON = "went on"
    """It reached its rung, and the trial was promoted in the same process."""
    PAUSED = "paused"
    """It reached its rung, and the trial waits there."""
    COMPLETED = "completed"
    STOPPED = "stopped"
    FAILED = "failed"
    INVALID = "invalid"
    KILLED = "killed"
    PREEMPTED = "preempted"
    """It was let go short of its rung: the experiment paused or ended, or its worker or its driver was gone."""


@dataclass(slots=True)
class Span:
    """One stretch of work of one process, towards one rung.  A process that goes on at a rung makes another.

    Attributes:
        slot: where.
        trial: on what.
        attempt: the process.
        bracket: the trial's bracket.
        rung: the rung that it trains towards, from 0.
        start: total length that it started from.
        target: total length of the rung.
        begin: when, in seconds since 1970.
        length: the longest total length that it reported; ``start`` before it reported any.
        metric: the searcher's metric there; None: none yet.
        end: when the slot was free for other work; None: it still works.
        how: how it ended; None: it still works.
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
    """A slot, from when to when."""

    slot: Slot
    begin: float
    end: float


class Arrival(NamedTuple):
    """A trial was compared at a rung, with ``metric`` at ``length``: at the rung or past it."""

    at: float
    rung: int
    length: int
    metric: float


@dataclass(slots=True)
class TrialPath:
    """The way of a trial through the rungs of its bracket.

    Attributes:
        bracket: its bracket.
        created: when the search created it.
        arrivals: where it was compared, from rung 0 on; those that it skipped as the first one that it didn't.
        promotions: when it was sent on from each rung, from rung 0 on; from those that it skipped when it was created.
        state: where it stands.
        ended: when it was settled that it trains no more; None: it may.
        dropped_out: whether it failed, stopped itself or was ended by its user, and so counts as the worst of its rung.
    """

    bracket: int
    created: float
    arrivals: tuple[Arrival, ...] = ()
    promotions: tuple[float, ...] = ()
    state: TrialState = TrialState.RUNNING
    ended: float | None = None
    dropped_out: bool = False

    @property
    def rung(self) -> int:
        """The rung that it trains towards, or waits or ended at."""
        return len(self.promotions)


class Paths(Mapping[TrialId, TrialPath]):
    """The way of each trial, in the order in which they were created.

    Those of trials that train are objects, which the timeline changes.  Of the others there are the values alone.
    """

    def __init__(self) -> None:
        self._promotions = Tuples()
        codes = ("h", "d", Tuples(_arrival, len(Arrival._fields)), self._promotions, "", "?d", "")
        self._rows: Rows[TrialPath] = Rows(TrialPath, codes)
        self._indices: dict[TrialId, int] = {}

    def add(self, trial: TrialId, path: TrialPath) -> None:
        """Add the way of a trial that begins to train."""
        self._indices[trial] = self._rows.add(path)

    def change(self, trial: TrialId) -> TrialPath:
        """Return the way of a trial, to be changed and then settled."""
        return self._rows.change(self._indices[trial])

    def settle(self, trial: TrialId) -> None:
        """Keep the values of a trial's way, unless it trains."""
        if self[trial].state is not TrialState.RUNNING:
            self._rows.settle(self._indices[trial])

    def rung(self, trial: TrialId) -> int:
        """Return the rung that a trial trains towards, or waits or ended at."""
        index = self._indices[trial]
        path = self._rows.changing.get(index)
        return self._promotions.size(index) if path is None else path.rung

    def __getitem__(self, trial: TrialId) -> TrialPath:
        return self._rows[self._indices[trial]]

    def __iter__(self) -> Iterator[TrialId]:
        return iter(self._indices)

    def __len__(self) -> int:
        return len(self._indices)


def _arrival(at: float, rung: float, length: float, metric: float) -> Arrival:
    return Arrival(at, int(rung), int(length), metric)


_SPAN = ("q", "q", "q", "h", "h", "q", "q", "d", "q", "", "?d", "")
"""Types of the columns of spans."""


class Timeline:
    """A fold over the entries of one or several driver runs, O(1) each.

    While no driver runs nobody works and nobody is idle.  A driver that died without a word
    counts up to its last entry, as in `Spending`.

    Attributes:
        spec: of the experiment.
        lengths: the total length of every rung, by bracket.
        spans: who worked where and when, in the order in which they began.
        paths: the way of each trial, in the order in which they were created.
        until: when the last entry was made.
        slots: the most slots that there have been at once.
    """

    def __init__(self, spec: ExperimentSpec) -> None:
        self.spec = spec
        self.lengths = tuple(bracket.lengths for bracket in plan_search(spec.search).brackets)
        self.spans: Rows[Span] = Rows(Span, _SPAN)
        self.paths = Paths()
        self.until = 0.0
        self.slots = 0
        self._live: dict[TrialId, Span] = {}
        self._indices: dict[TrialId, int] = {}
        # How processes that haven't had their last word will end, as it was decided.
        self._fates: dict[tuple[TrialId, int], SpanEnd] = {}
        # Since when each slot has been there, and when those that are gone were.
        self._there: dict[Slot, float] = {}
        self._lost: list[Slot] = []
        self._were_there: list[SlotTime] = []
        # When drivers ran that are gone, and since when one runs.
        self._shifts: list[tuple[float, float]] = []
        self._shift_began: float | None = None

    def apply(self, at: float, event: Event, decisions: Sequence[Decision]) -> None:
        """Take an entry."""
        if isinstance(event, DriverStarted):
            self._leave()  # at the time of the entry before: that is how far the former driver is known to have got
        # A clock that was set back must not give time back.
        if at > self.until:
            self.until = at
        if self._shift_began is not None:
            if isinstance(event, ValidationReported):  # first, as nearly every entry is one
                self._note(event)
            else:
                self._happen(event)
        if isinstance(event, DriverStarted):
            self._shift_began = self.until
            self._resize(event.slots)
        for decision in decisions:
            self._decide(event, decision)
            if isinstance(decision, PauseTrial | CompleteTrial | StopTrial | CloseTrial | ReopenTrial):
                self.paths.settle(decision.trial)

    @property
    def shifts(self) -> list[tuple[float, float]]:
        """From when to when a driver ran; the end of the last one is when the last entry was made."""
        return [*self._shifts, *([] if self._shift_began is None else [(self._shift_began, self.until)])]

    @property
    def began(self) -> float | None:
        """When the first driver started; None: none has."""
        return self._shifts[0][0] if self._shifts else self._shift_began

    @property
    def live(self) -> Sequence[Span]:
        """What is being worked on."""
        return list(self._live.values())

    def presences(self) -> list[SlotTime]:
        """When each slot was there, worked on or not, up to the last entry."""
        return [*self._were_there, *(SlotTime(slot, since, self.until) for slot, since in self._there.items())]

    def gaps(self) -> Iterator[SlotTime]:
        """When slots had nothing to do, by slot."""
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
            case CheckpointSaved():  # the most frequent of those that change nothing
                pass
            case AttemptStarted(trial, attempt, slot, length):
                if (former := self._live.pop(trial, None)) is not None:
                    self._close(former, SpanEnd.PREEMPTED)
                self._begin(slot, trial, attempt, length)
            case AttemptEnded() | AttemptFailed() | StorageFailed() | CheckpointDamaged():
                self._end(event, SpanEnd.FAILED)
            case AttemptPreempted(trial, hung=hung):
                if not hung and (span := self._live.get(trial)) is not None:
                    self._lost.append(span.slot)
                self._end(event, SpanEnd.PREEMPTED)
            case HparamsRejected():
                self._end(event, SpanEnd.INVALID)
            case TrialStopped():
                self._end(event, SpanEnd.STOPPED)
            case CapacityChanged(slots, nodes):
                self._resize(slots, whoever=bool(nodes))
            case DriverStopped():
                self._leave()

    def _begin(self, slot: Slot, trial: TrialId, attempt: int, length: int) -> None:
        if slot not in self._there and self._there:  # another had left than was thought
            self._there[slot] = self._there.pop(self._who_left())
        path = self.paths.change(trial)
        target = self.lengths[path.bracket][path.rung]
        span = Span(slot, trial, attempt, path.bracket, path.rung, length, target, self.until, length)
        self._indices[trial] = self.spans.add(span)
        self._live[trial] = span

    def _note(self, event: ValidationReported) -> None:
        span = self._live.get(event.trial)
        if span is None or span.attempt != event.attempt:
            return
        if self._fates.get((event.trial, event.attempt), SpanEnd.PREEMPTED) is not SpanEnd.PREEMPTED:
            return  # Late: it was judged already.
        if event.length > span.length:
            span.length = event.length
            span.metric = event.metrics.get(self.spec.metric)

    def _end(self, event: LastWord, how: SpanEnd) -> None:
        decided = self._fates.pop((event.trial, event.attempt), None)
        span = self._live.get(event.trial)
        if span is None or span.attempt != event.attempt:
            return
        del self._live[event.trial]
        # Whoever was to be let go, and ended otherwise before, did so for reasons of its own.
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

    def _resize(self, slots: int, *, whoever: bool = False) -> None:
        """So many slots are there now; on a cluster ``whoever`` may have left, not those of the highest numbers."""
        surplus = max(0, len(self._there) - slots)
        last = iter(sorted(self._there, reverse=True)[:surplus])
        for _ in range(surplus):
            slot = self._who_left() if whoever else next(last)
            self._were_there.append(SlotTime(slot, self._there.pop(slot), self.until))
        for slot in [slot for slot in range(slots) if slot not in self._there][: max(0, slots - len(self._there))]:
            self._there[slot] = self.until
        self._lost.clear()
        self.slots = max(self.slots, slots)

    def _who_left(self) -> Slot:
        """The slot of a trial that has just been lost; otherwise one that nothing is known to run in."""
        while self._lost:
            if (slot := self._lost.pop()) in self._there:
                return slot
        busy = {span.slot for span in self._live.values()}
        return max(self._there.keys() - busy or self._there)

    # -- decisions ----------------------------------------------------------------------------

    def _decide(self, event: Event, decision: Decision) -> None:
        match decision:
            case CreateTrial(trial, bracket, target=target):
                skipped = self.lengths[bracket].index(target)
                self.paths.add(trial, TrialPath(bracket, self.until, promotions=(self.until,) * skipped))
            case TrainTrial(trial, _, target) | ContinueTrial(trial, _, target):
                path = self.paths.change(trial)
                path.state = TrialState.RUNNING
                self._climb(path, self.lengths[path.bracket].index(target), event)
                if isinstance(decision, ContinueTrial):
                    self._go_on(trial)
            case SuspendTrial(trial, attempt):
                if isinstance(event, ValidationReported) and trial == event.trial:
                    # Just promoted, but the experiment is pausing: its target will be told when it resumes.
                    path = self.paths.change(trial)
                    self._climb(path, bisect_right(self.lengths[path.bracket], event.length), event)
                self._fates[trial, attempt] = SpanEnd.PREEMPTED
            case PauseTrial(trial, attempt):
                path = self.paths.change(trial)
                path.state = TrialState.PAUSED
                self._arrive(path, path.rung, event)
                self._fates[trial, attempt] = SpanEnd.PAUSED
            case CompleteTrial(trial, attempt):
                path = self.paths.change(trial)
                self._climb(path, len(self.lengths[path.bracket]) - 1, event)
                self._arrive(path, path.rung, event)
                self._finish(path, TrialState.COMPLETED)
                self._fates[trial, attempt] = SpanEnd.COMPLETED
            case StopTrial(trial, attempt):
                self._drop(self.paths.change(trial), event)
                self._fates[trial, attempt] = SpanEnd.STOPPED
            case AbortTrial(trial, attempt):
                self._fates[trial, attempt] = SpanEnd.KILLED
            case CloseTrial():
                self._close_trial(decision)
            case ReopenTrial(trial, state):
                path = self.paths.change(trial)
                path.state, path.ended, path.dropped_out = state, None, False

    def _climb(self, path: TrialPath, to: int, event: Event) -> None:
        """Promote a trial to a rung, from where it trains or waits: through every rung in between."""
        while path.rung < to:
            self._arrive(path, path.rung, event)
            path.promotions += (self.until,)

    def _arrive(self, path: TrialPath, rung: int, event: Event) -> None:
        """A trial is compared at a rung, unless it has been and waits there; rungs that it skipped it passes then."""
        if isinstance(event, ValidationReported):
            for passed in range(len(path.arrivals), rung + 1):
                path.arrivals += (Arrival(self.until, passed, event.length, event.metrics[self.spec.metric]),)

    def _go_on(self, trial: TrialId) -> None:
        if (span := self._live.get(trial)) is not None:
            self._close(span, SpanEnd.WENT_ON)
            self._begin(span.slot, trial, span.attempt, span.length)

    def _drop(self, path: TrialPath, event: Event) -> None:
        """A trial stops where it reported; it counts in every rung that it had trained past."""
        passed = bisect_right(self.lengths[path.bracket], event.length) if isinstance(event, ValidationReported) else 0
        for rung in range(path.rung, passed):
            self._arrive(path, rung, event)
        self._finish(path, TrialState.STOPPED)

    def _finish(self, path: TrialPath, state: TrialState) -> None:
        path.state, path.ended = state, self.until

    def _close_trial(self, decision: CloseTrial) -> None:
        path = self.paths.change(decision.trial)
        self._finish(path, decision.state)
        path.dropped_out = not isinstance(decision.why, BracketFinished | ExperimentEnded)
        span = self._live.get(decision.trial)
        if span is None or isinstance(decision.why, BracketFinished):
            return  # What a process that still saves was told stands.
        fate = _FATES.get(decision.state)
        if fate is not None and self._fates.get((span.trial, span.attempt)) in (None, SpanEnd.PREEMPTED):
            self._fates[span.trial, span.attempt] = fate


_FATES = {
    TrialState.STOPPED: SpanEnd.STOPPED,
    TrialState.KILLED: SpanEnd.KILLED,
    TrialState.ERRORED: SpanEnd.FAILED,
    TrialState.INVALID: SpanEnd.INVALID,
}
