"""The work of each slot over time, and the path of each trial through the rungs."""

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
from ashwood.experiment.spec import ExperimentSpec
from ashwood.search.plan import plan_search
from ashwood.search.vocabulary import BracketFinished, TrialId
from ashwood.views.rows import Rows, Tuples

Slot = int
"""Slots are numbered 0, 1, 2, …; texts for users call them workers."""


class SpanEnd(StrEnum):
    """How a span of work ended."""

    WENT_ON = "went on"
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


class Arrival(NamedTuple):
    """The comparison of a trial at a rung, with its ``metric`` at ``length``, which is at least that of the rung."""

    at: float
    rung: int
    length: int
    metric: float


@dataclass(slots=True)
class TrialPath:
    """The path of a trial through the rungs of its bracket.  Times are seconds since 1970.

    Attributes:
        bracket: index of its bracket.
        created: time at which the search created it.
        arrivals: its comparisons, from rung 0 on.  Rungs that it skipped have the comparison at its first rung.
        promotions: time of its promotion from each rung, from rung 0 on.  For rungs that it skipped, this is the time
            of its creation.
        state: its state.
        ended: time at which it ended, or None if it has not.
        dropped_out: whether it failed, or was ended by its code or a user, and so counts as the worst of its rung.
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
        """Index of the rung towards which it trains, or at which it is paused or ended."""
        return len(self.promotions)


class Paths(Mapping[TrialId, TrialPath]):
    """The path of each trial, in the order in which the trials were created.

    The paths of training trials are objects that can change; all others are stored as values only.
    """

    def __init__(self) -> None:
        self._promotions = Tuples()
        codes = ("h", "d", Tuples(_arrival, len(Arrival._fields)), self._promotions, "", "?d", "")
        self._rows: Rows[TrialPath] = Rows(TrialPath, codes)
        self._indices: dict[TrialId, int] = {}

    def add(self, trial: TrialId, path: TrialPath) -> None:
        """Add the path of a new trial."""
        self._indices[trial] = self._rows.add(path)

    def change(self, trial: TrialId) -> TrialPath:
        """Return the path of a trial as an object that can be changed until it is settled."""
        return self._rows.change(self._indices[trial])

    def settle(self, trial: TrialId) -> None:
        """Store only the values of a path, unless its trial trains."""
        if self[trial].state is not TrialState.RUNNING:
            self._rows.settle(self._indices[trial])

    def rung(self, trial: TrialId) -> int:
        """Return the rung towards which a trial trains, or at which it is paused or ended."""
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
    """The work of each slot and the path of each trial, as a fold over log entries that takes O(1) time for each.

    Time without a driver is neither work nor idle time.  If a driver died, its time counts up to
    its last entry, as in `Spending`.

    Attributes:
        spec: the description of the experiment.
        lengths: total lengths of the rungs of each bracket.
        spans: the spans of work, in the order in which they began.
        paths: the path of each trial, in the order in which the trials were created.
        until: time of the last entry, in seconds since 1970.
        slots: largest number of slots so far.
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
        # How attempts will end by decision, until the event of their end arrives.
        self._fates: dict[tuple[TrialId, int], SpanEnd] = {}
        # Since when each present slot exists; slots that were just lost; and the times of slots that no longer exist.
        self._there: dict[Slot, float] = {}
        self._lost: list[Slot] = []
        self._were_there: list[SlotTime] = []
        # Begin and end of each former driver, and the begin of the current one.
        self._shifts: list[tuple[float, float]] = []
        self._shift_began: float | None = None

    def apply(self, entry: Entry) -> None:
        """Apply an entry of the log."""
        at, event, decisions = entry
        if isinstance(event, DriverStarted):
            self._leave()  # The former driver is known to have run until the entry before, which is still in `until`.
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
            self._decide(event, decision)
            if isinstance(decision, PauseTrial | CompleteTrial | StopTrial | CloseTrial | ReopenTrial):
                self.paths.settle(decision.trial)

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
            case CheckpointSaved():  # This changes nothing; it comes first because it is frequent.
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
            case HparamsInvalid():
                self._end(event, SpanEnd.INVALID)
            case TrialStopped():
                self._end(event, SpanEnd.STOPPED)
            case CapacityChanged(slots, nodes):
                self._resize(slots, is_cluster=bool(nodes))
            case DriverStopped():
                self._leave()

    def _begin(self, slot: Slot, trial: TrialId, attempt: int, length: int) -> None:
        if slot not in self._there and self._there:  # Another slot had left than was assumed.
            self._there[slot] = self._there.pop(self._slot_that_left())
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
        # An attempt that fails before it reacts to a request to save and leave has the end that its event says.
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
        """Note a new number of slots.  In a cluster any slots may have left, else those with the highest numbers."""
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
                    # The trial was promoted while the experiment pauses; its target is decided when it resumes.
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
        """Promote a trial from its current rung to a higher one, through all rungs in between."""
        while path.rung < to:
            self._arrive(path, path.rung, event)
            path.promotions += (self.until,)

    def _arrive(self, path: TrialPath, rung: int, event: Event) -> None:
        """Add the comparison of a trial at a rung and at skipped ones below it, unless it is already there."""
        if isinstance(event, ValidationReported):
            for passed in range(len(path.arrivals), rung + 1):
                path.arrivals += (Arrival(self.until, passed, event.length, event.metrics[self.spec.metric]),)

    def _go_on(self, trial: TrialId) -> None:
        if (span := self._live.get(trial)) is not None:
            self._close(span, SpanEnd.WENT_ON)
            self._begin(span.slot, trial, span.attempt, span.length)

    def _drop(self, path: TrialPath, event: Event) -> None:
        """Stop a trial at the length of its report.  It counts in all rungs up to this length."""
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
            return  # How a process ends that still saves is already decided.
        fate = _FATES.get(decision.state)
        if fate is not None and self._fates.get((span.trial, span.attempt)) in (None, SpanEnd.PREEMPTED):
            self._fates[span.trial, span.attempt] = fate


_FATES = {
    TrialState.STOPPED: SpanEnd.STOPPED,
    TrialState.KILLED: SpanEnd.KILLED,
    TrialState.ERRORED: SpanEnd.FAILED,
    TrialState.INVALID: SpanEnd.INVALID,
}
