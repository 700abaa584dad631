"""The states of a recorded search over time, for animations: its rungs, and the work of each worker."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

from ashwood.experiment.lifecycle import TrialState
from ashwood.search.rung import Key, ranking_key
from ashwood.search.vocabulary import TrialId
from ashwood.views.ladder import Arrival, Ladder, RungRanking
from ashwood.views.progress import Progress
from ashwood.views.timeline import Slot, SlotTime, Span


class TrainingTrial(NamedTuple):
    """A trial that trains.

    Attributes:
        trial: the trial.
        bracket: index of its bracket.
        rung: index of the rung towards which it trains.
        slot: its slot.
        progress: progress from the rung below (0) to its rung (1).
    """

    trial: TrialId
    bracket: int
    rung: int
    slot: Slot
    progress: float


class Moment(NamedTuple):
    """A search at one moment.

    Attributes:
        at: seconds that drivers had run it.
        brackets: rungs of each bracket, the shortest first.
        training: trials that train, sorted by id.
        workers: the span of work of each slot that exists, or None if it is idle.
        completed: number of trials that have trained to max_length.
        first_completed: ``at`` when the first trial had trained to max_length, or None if none has.
        idle: share of the time of all slots in which they were idle, from 0 to 1.
        is_last: whether this is the end of the log.
    """

    at: float
    brackets: Sequence[Sequence[RungRanking]]
    training: Sequence[TrainingTrial]
    workers: Mapping[Slot, Span | None]
    completed: int
    first_completed: float | None
    idle: float
    is_last: bool


class Playback:
    """A recorded search of which each moment can be shown.  Only time in which a driver ran counts.

    Attributes:
        ladder: the rungs of the search.
        timeline: the work of its slots.
        seconds: total seconds in which drivers ran.
    """

    def __init__(self, progress: Progress) -> None:
        self.ladder, self.timeline = progress.ladder, progress.timeline
        shifts = self.timeline.shifts
        self._shifts = [shift for shift in shifts if shift[1] > shift[0]] or shifts[:1] or [(0.0, 0.0)]
        self._before = [0.0, *accumulate(end - begin for begin, end in self._shifts)]
        self.seconds = self._before[-1]
        self._spans: defaultdict[Slot, list[Span]] = defaultdict(list)
        for span in self.timeline.spans:
            self._spans[span.slot].append(span)
        self._presences = sorted(self.timeline.presences())
        self._gaps = list(self.timeline.gaps())
        self._completions = sorted(
            path.ended for path in self.ladder.paths if path.state is TrialState.COMPLETED and path.ended is not None
        )

    def elapsed(self, at: float) -> float:
        """Return the seconds that drivers had run at a time of the log."""
        shift = max(0, bisect_right(self._shifts, at, key=_begin) - 1)
        begin, end = self._shifts[shift]
        return self._before[shift] + min(max(at, begin), end) - begin

    def at(self, elapsed: float) -> Moment:
        """Return the state of the search after drivers had run for ``elapsed`` seconds."""
        at = self._time(elapsed)
        brackets, workers = self.ladder.at(at), self._workers(at)
        completed = bisect_right(self._completions, at)
        there, idle = _duration(self._presences, at), _duration(self._gaps, at)
        return Moment(
            at=min(max(elapsed, 0.0), self.seconds),
            brackets=brackets,
            training=self._training(at, brackets, workers),
            workers=workers,
            completed=completed,
            first_completed=self.elapsed(self._completions[0]) if completed else None,
            idle=idle / there if there else 0.0,
            is_last=elapsed >= self.seconds,
        )

    def _time(self, elapsed: float) -> float:
        """Return the time of the log at which drivers had run for ``elapsed`` seconds."""
        if elapsed >= self.seconds:
            return self._shifts[-1][1]  # A sum of all shifts could differ from it by a rounding error.
        shift = max(0, bisect_right(self._before, elapsed) - 1)
        begin, end = self._shifts[shift]
        return min(max(begin, begin + elapsed - self._before[shift]), end)

    def _workers(self, at: float) -> dict[Slot, Span | None]:
        there = {slot for slot, begin, end in self._presences if begin <= at < end or at == end == self.timeline.until}
        return {slot: self._span(slot, at) for slot in sorted(there)}

    def _span(self, slot: Slot, at: float) -> Span | None:
        spans = self._spans[slot]
        index = bisect_right(spans, at, key=lambda span: span.begin) - 1
        if index < 0:
            return None
        span = spans[index]
        return span if span.end is None or at < span.end else None

    def _training(
        self, at: float, brackets: Sequence[Sequence[RungRanking]], workers: Mapping[Slot, Span | None]
    ) -> list[TrainingTrial]:
        towards = {trial: rung for rungs in brackets for rung, each in enumerate(rungs) for trial in each.training}
        return sorted(
            TrainingTrial(span.trial, span.bracket, span.rung, span.slot, self._progress(span, at))
            for span in workers.values()
            # A process that still saves after its trial was paused or promoted does not train.
            if span is not None and towards.get(span.trial) == span.rung
        )

    def _progress(self, span: Span, at: float) -> float:
        below = self.ladder.brackets[span.bracket].lengths[span.rung - 1] if span.rung else 0
        arrivals = self.ladder.paths[span.trial].arrivals
        if span.length >= span.target and len(arrivals) > span.rung:
            end, length = arrivals[span.rung].at, span.target
        else:
            end, length = self.timeline.until if span.end is None else span.end, span.length
        share = (at - span.begin) / (end - span.begin) if end > span.begin else 1.0
        trained = span.start + (length - span.start) * min(share, 1.0)
        return min(max((trained - below) / (span.target - below), 0.0), 1.0)


class Part(NamedTuple):
    """A search that an animation shows beside others, with a short title and a line of details."""

    playback: Playback
    title: str
    subtitle: str


def qualities(ladders: Sequence[Ladder]) -> Mapping[TrialId, float]:
    """Return the quality of each trial, from 0 (worst) to 1 (best); a trial at a higher rung is better.

    If several searches have the same trials, the longest result of each trial counts.
    """
    furthest: dict[TrialId, tuple[int, Key]] = {}
    for ladder in ladders:
        for trial, path in enumerate(ladder.paths):
            if path.arrivals:
                last = path.arrivals[-1]
                result = (-ladder.brackets[path.bracket].lengths[last.rung], _key(ladder, trial, last))
                furthest[trial] = min(furthest.get(trial, result), result)
    ranked = sorted(furthest, key=furthest.__getitem__)
    return {trial: 1.0 - place / max(1, len(ranked) - 1) for place, trial in enumerate(ranked)}


def _duration(spans: Iterable[SlotTime], until: float) -> float:
    """Return the total duration of the parts of all spans before a time."""
    return sum(min(end, until) - begin for _, begin, end in spans if begin < until)


def _key(ladder: Ladder, trial: TrialId, arrival: Arrival) -> Key:
    return ranking_key(trial, arrival.metric if ladder.spec.smaller_is_better else -arrival.metric)


def _begin(shift: tuple[float, float]) -> float:
    return shift[0]
