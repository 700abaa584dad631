"""A search as it stood at any moment: who is where on the rungs, and what every worker does.

What a film shows, without a word on how it is drawn.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from itertools import accumulate
from typing import NamedTuple

from ashwood.experiment.lifecycle import TrialState
from ashwood.search.rung import Key, ranking_key
from ashwood.search.vocabulary import TrialId
from ashwood.views.timeline import Arrival, Slot, Span, Timeline, TrialPath


class Standing(StrEnum):
    """What has become of a trial that was compared at a rung."""

    WAITS = "waits"
    WENT_ON = "went on"
    COMPLETED = "completed"
    OUT = "out"
    """It will never go on."""


class Seat(NamedTuple):
    """A trial that was compared at a rung."""

    trial: TrialId
    standing: Standing


class RungScene(NamedTuple):
    """A rung of a bracket.

    Attributes:
        length: total training length.
        seats: who was compared here, the best first.
        dropped_out: who failed, stopped itself or was ended by its user here or on the way here.
        entitled: so many of the best deserve to go on, by now; 0 at the last rung.
        complete: nobody is on the way here, and nobody who comes later is known.
    """

    length: int
    seats: Sequence[Seat]
    dropped_out: Sequence[TrialId]
    entitled: int
    complete: bool


class Climber(NamedTuple):
    """A trial that trains, or is to.

    Attributes:
        rung: the rung that it trains towards.
        slot: where it trains; None: it waits for a worker.
        progress: how far it is from the rung below, 0, to its rung, 1.
    """

    trial: TrialId
    bracket: int
    rung: int
    slot: Slot | None
    progress: float


class WorkerScene(NamedTuple):
    """A worker that is there; ``span`` is what it works on, None: nothing."""

    slot: Slot
    span: Span | None


class Scene(NamedTuple):
    """A search at one moment.

    Attributes:
        at: seconds for which drivers had run it.
        brackets: the rungs of each bracket, the shortest first.
        climbers: the trials that train or are to, by id.
        workers: those that are there, by slot.
        created: how many trials there were.
        completed: how many had trained to max_length.
        first_completed: ``at`` of the first of them; None: none has.
        idle_seconds: time of all workers together that nothing was done in.
        idle: as a share of all their time.
        over: nothing happens later.
    """

    at: float
    brackets: Sequence[Sequence[RungScene]]
    climbers: Sequence[Climber]
    workers: Sequence[WorkerScene]
    created: int
    completed: int
    first_completed: float | None
    idle_seconds: float
    idle: float
    over: bool


class Film:
    """A recorded search that can be looked at at any moment.  Time counts while a driver ran it.

    Attributes:
        timeline: the record.
        seconds: how long drivers ran it.
    """

    def __init__(self, timeline: Timeline) -> None:
        self.timeline = timeline
        self._shifts = (
            [shift for shift in timeline.shifts if shift[1] > shift[0]] or timeline.shifts[:1] or [(0.0, 0.0)]
        )
        self._before = [0.0, *accumulate(end - begin for begin, end in self._shifts)]
        self.seconds = self._before[-1]
        self._divisor = timeline.spec.search.divisor
        self._members: defaultdict[int, list[tuple[TrialId, TrialPath]]] = defaultdict(list)
        for trial, path in timeline.paths.items():
            self._members[path.bracket].append((trial, path))
        self._ranked = [
            [self._rank(bracket, rung) for rung in range(len(lengths))]
            for bracket, lengths in enumerate(timeline.lengths)
        ]
        self._last_arrivals = [
            [max((path.arrivals[rung].at for _, path in ranked), default=0.0) for rung, ranked in enumerate(rungs)]
            for rungs in self._ranked
        ]
        self._spans: defaultdict[Slot, list[Span]] = defaultdict(list)
        for span in timeline.spans:
            self._spans[span.slot].append(span)
        self._presences = sorted(timeline.presences())
        self._there = _Total((begin, end) for _, begin, end in self._presences)
        self._idle = _Total((begin, end) for _, begin, end in timeline.gaps())
        self._completions = sorted(
            path.ended
            for path in timeline.paths.values()
            if path.state is TrialState.COMPLETED and path.ended is not None
        )

    def elapsed(self, at: float) -> float:
        """For how long drivers had run it at a time of the record."""
        shift = max(0, bisect_right(self._shifts, at, key=_begin) - 1)
        begin, end = self._shifts[shift]
        return self._before[shift] + min(max(at, begin), end) - begin

    def scene(self, elapsed: float) -> Scene:
        """How it stood after drivers had run it for so many seconds; O(trials)."""
        at = self._at(elapsed)
        workers = self._workers(at)
        climbers = self._climbers(at, workers)
        lowest: dict[int, int] = {}  # rung of each bracket that somebody is on the way to
        for climber in climbers:
            lowest[climber.bracket] = min(lowest.get(climber.bracket, climber.rung), climber.rung)
        completed = bisect_right(self._completions, at)
        there, idle = self._there.until(at), self._idle.until(at)
        return Scene(
            at=min(max(elapsed, 0.0), self.seconds),
            brackets=[
                [
                    self._rung(at, bracket, rung, on_the_way=lowest.get(bracket, rung + 1) <= rung)
                    for rung in range(len(rungs))
                ]
                for bracket, rungs in enumerate(self._ranked)
            ],
            climbers=climbers,
            workers=workers,
            created=sum(path.created <= at for path in self.timeline.paths.values()),
            completed=completed,
            first_completed=self.elapsed(self._completions[0]) if completed else None,
            idle_seconds=idle,
            idle=idle / there if there else 0.0,
            over=elapsed >= self.seconds,
        )

    def _at(self, elapsed: float) -> float:
        """The time of the record at which drivers had run it for so long."""
        if elapsed >= self.seconds:
            return self._shifts[-1][1]  # the sum of all shifts, but for rounding
        shift = max(0, bisect_right(self._before, elapsed) - 1)
        begin, end = self._shifts[shift]
        return min(max(begin, begin + elapsed - self._before[shift]), end)

    # -- rungs --------------------------------------------------------------------------------

    def _rank(self, bracket: int, rung: int) -> list[tuple[TrialId, TrialPath]]:
        """Everyone who was ever compared at a rung, the best first."""

        def key(member: tuple[TrialId, TrialPath]) -> Key:
            trial, path = member
            return _result(self.timeline, trial, path.arrivals[rung])

        return sorted((member for member in self._members[bracket] if len(member[1].arrivals) > rung), key=key)

    def _rung(self, at: float, bracket: int, rung: int, *, on_the_way: bool) -> RungScene:
        lengths = self.timeline.lengths[bracket]
        seats, dropped_out = [], []
        for trial, path in self._ranked[bracket][rung]:
            if path.arrivals[rung].at <= at and not _is_invalid(path, at) and not _drops_out(path, at, rung):
                seats.append(Seat(trial, _standing(path, at, rung)))
        for trial, path in self._members[bracket]:
            if _drops_out(path, at, rung):
                dropped_out.append(trial)
        is_last = rung == len(lengths) - 1
        return RungScene(
            length=lengths[rung],
            seats=seats,
            dropped_out=dropped_out,
            entitled=0 if is_last else int((len(seats) + len(dropped_out)) / self._divisor),
            complete=bool(seats) and not on_the_way and self._last_arrivals[bracket][rung] <= at,
        )

    # -- workers ------------------------------------------------------------------------------

    def _workers(self, at: float) -> list[WorkerScene]:
        there = {slot for slot, begin, end in self._presences if begin <= at < end or at == end == self.timeline.until}
        return [WorkerScene(slot, self._span(slot, at)) for slot in sorted(there)]

    def _span(self, slot: Slot, at: float) -> Span | None:
        spans = self._spans[slot]
        index = bisect_right(spans, at, key=lambda span: span.begin) - 1
        if index < 0:
            return None
        span = spans[index]
        return span if span.end is None or at < span.end else None

    def _climbers(self, at: float, workers: Iterable[WorkerScene]) -> list[Climber]:
        working = {worker.span.trial: worker.span for worker in workers if worker.span is not None}
        climbers = []
        for trial, path in self.timeline.paths.items():
            if path.created > at:
                break
            if (path.ended is not None and path.ended <= at) or _arrived(path, at) > (rung := _promoted(path, at)):
                continue
            span = working.get(trial)
            if span is not None and span.rung != rung:
                span = None  # its last process still saves
            slot = None if span is None else span.slot
            progress = 0.0 if span is None else self._progress(span, at)
            climbers.append(Climber(trial, path.bracket, rung, slot, progress))
        return climbers

    def _progress(self, span: Span, at: float) -> float:
        lengths = self.timeline.lengths[span.bracket]
        below = lengths[span.rung - 1] if span.rung else 0
        path = self.timeline.paths[span.trial]
        if span.length >= span.target and len(path.arrivals) > span.rung:
            end, length = path.arrivals[span.rung].at, span.target
        else:
            end, length = self.timeline.until if span.end is None else span.end, span.length
        share = (at - span.begin) / (end - span.begin) if end > span.begin else 1.0
        trained = span.start + (length - span.start) * min(share, 1.0)
        return min(max((trained - below) / (span.target - below), 0.0), 1.0)


def qualities(films: Sequence[Film]) -> Mapping[TrialId, float]:
    """How good each trial turned out, from 0, the worst, to 1, the best: whoever got further was better.

    Of films of the same trials, the furthest that any of them shows of a trial counts.
    """
    furthest: dict[TrialId, tuple[int, Key]] = {}
    for film in films:
        for trial, path in film.timeline.paths.items():
            if path.arrivals:
                last = path.arrivals[-1]
                length = film.timeline.lengths[path.bracket][last.rung]
                result = (-length, _result(film.timeline, trial, last))
                furthest[trial] = min(furthest.get(trial, result), result)
    ranked = sorted(furthest, key=furthest.__getitem__)
    return {trial: 1.0 - place / max(1, len(ranked) - 1) for place, trial in enumerate(ranked)}


class _Total:
    """The total length of stretches of time, up to any moment."""

    def __init__(self, stretches: Iterable[tuple[float, float]]) -> None:
        known = list(stretches)
        self._begins = sorted(begin for begin, _ in known)
        self._ends = sorted(end for _, end in known)
        self._sum_of_begins = [0.0, *accumulate(self._begins)]
        self._sum_of_ends = [0.0, *accumulate(self._ends)]

    def until(self, at: float) -> float:
        begun, over = bisect_right(self._begins, at), bisect_right(self._ends, at)
        return (begun - over) * at - self._sum_of_begins[begun] + self._sum_of_ends[over]


def _result(timeline: Timeline, trial: TrialId, arrival: Arrival) -> Key:
    return ranking_key(trial, arrival.metric if timeline.spec.smaller_is_better else -arrival.metric)


def _begin(shift: tuple[float, float]) -> float:
    return shift[0]


def _promoted(path: TrialPath, at: float) -> int:
    return bisect_right(path.promotions, at)


def _arrived(path: TrialPath, at: float) -> int:
    return bisect_right(path.arrivals, at, key=lambda arrival: arrival.at)


def _is_invalid(path: TrialPath, at: float) -> bool:
    """Whether it was taken out of every rung."""
    return path.state is TrialState.INVALID and path.ended is not None and path.ended <= at


def _drops_out(path: TrialPath, at: float, rung: int) -> bool:
    """Whether it has dropped out, here."""
    if not path.dropped_out or path.state is TrialState.INVALID or path.ended is None or path.ended > at:
        return False
    return path.rung == rung


def _standing(path: TrialPath, at: float, rung: int) -> Standing:
    if _promoted(path, at) > rung:
        return Standing.WENT_ON
    if path.ended is None or path.ended > at:
        return Standing.WAITS
    return Standing.COMPLETED if path.state is TrialState.COMPLETED else Standing.OUT
