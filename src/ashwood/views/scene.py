"""The state of a search at any moment: the trials at each rung, and the work of each worker.

Animations show these states; how they are drawn is in `ashwood.figures`.
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
    """The state of a trial at a rung at which it was compared."""

    WAITS = "waits"
    WENT_ON = "went on"
    COMPLETED = "completed"
    OUT = "out"
    """It will never be promoted."""


class Seat(NamedTuple):
    """A trial that was compared at a rung."""

    trial: TrialId
    standing: Standing


class RungScene(NamedTuple):
    """A rung of a bracket.

    Attributes:
        length: total training length.
        seats: the trials that were compared at this rung, the best first.
        dropped_out: the trials that failed, or were ended by their code or a user, at this rung or on the way to it.
        entitled: number of the best trials that may be promoted by now, or 0 at the last rung.
        complete: whether no trial trains towards this rung, and none reaches it later.
    """

    length: int
    seats: Sequence[Seat]
    dropped_out: Sequence[TrialId]
    entitled: int
    complete: bool


class Climber(NamedTuple):
    """A trial that has a job.

    Attributes:
        trial: the trial.
        bracket: index of its bracket.
        rung: index of the rung towards which it trains.
        slot: its slot, or None if it waits for one.
        progress: progress from the rung below (0) to its rung (1).
    """

    trial: TrialId
    bracket: int
    rung: int
    slot: Slot | None
    progress: float


class WorkerScene(NamedTuple):
    """A slot that exists at this moment, and its span of work, or None if it is idle."""

    slot: Slot
    span: Span | None


class Scene(NamedTuple):
    """A search at one moment.

    Attributes:
        at: seconds that drivers had run it.
        brackets: rungs of each bracket, the shortest first.
        climbers: trials that have a job, sorted by id.
        workers: slots that exist, sorted by number.
        created: number of trials so far.
        completed: number of trials that have trained to max_length.
        first_completed: ``at`` when the first trial had trained to max_length, or None if none has.
        idle_seconds: seconds in which slots were idle, added up.
        idle: share of the time of all slots in which they were idle, from 0 to 1.
        over: whether this is the end of the log.
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
    """A recorded search of which each moment can be shown.  Only time in which a driver ran counts.

    Attributes:
        timeline: the timeline of the search.
        seconds: total seconds in which drivers ran.
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
        """Return the seconds that drivers had run at a time of the log."""
        shift = max(0, bisect_right(self._shifts, at, key=_begin) - 1)
        begin, end = self._shifts[shift]
        return self._before[shift] + min(max(at, begin), end) - begin

    def scene(self, elapsed: float) -> Scene:
        """Return the state of the search after drivers had run for ``elapsed`` seconds, in O(n) time for n trials."""
        at = self._at(elapsed)
        workers = self._workers(at)
        climbers = self._climbers(at, workers)
        lowest: dict[int, int] = {}  # The lowest rung of each bracket towards which a trial trains.
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
        """Return the time of the log at which drivers had run for ``elapsed`` seconds."""
        if elapsed >= self.seconds:
            return self._shifts[-1][1]  # A sum of all shifts could differ from it by a rounding error.
        shift = max(0, bisect_right(self._before, elapsed) - 1)
        begin, end = self._shifts[shift]
        return min(max(begin, begin + elapsed - self._before[shift]), end)

    # -- rungs --------------------------------------------------------------------------------

    def _rank(self, bracket: int, rung: int) -> list[tuple[TrialId, TrialPath]]:
        """Return all trials that were ever compared at a rung, the best first."""

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
                span = None  # Its last process still saves.
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
    """Return the quality of each trial, from 0 (worst) to 1 (best); a trial at a higher rung is better.

    If several films show the same trials, the longest result of each trial counts.
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
    """Computes the total duration of spans of time up to any moment."""

    def __init__(self, stretches: Iterable[tuple[float, float]]) -> None:
        known = list(stretches)
        self._begins = sorted(begin for begin, _ in known)
        self._ends = sorted(end for _, end in known)
        self._sum_of_begins = [0.0, *accumulate(self._begins)]
        self._sum_of_ends = [0.0, *accumulate(self._ends)]

    def until(self, at: float) -> float:
        """Return the total duration of the parts of all spans before ``at``."""
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
    """Return whether the trial was invalid by now, and so removed from all rungs."""
    return path.state is TrialState.INVALID and path.ended is not None and path.ended <= at


def _drops_out(path: TrialPath, at: float, rung: int) -> bool:
    """Return whether the trial had failed or was ended by now, on its way to this rung or at it."""
    if not path.dropped_out or path.state is TrialState.INVALID or path.ended is None or path.ended > at:
        return False
    return path.rung == rung


def _standing(path: TrialPath, at: float, rung: int) -> Standing:
    if _promoted(path, at) > rung:
        return Standing.WENT_ON
    if path.ended is None or path.ended > at:
        return Standing.WAITS
    return Standing.COMPLETED if path.state is TrialState.COMPLETED else Standing.OUT
