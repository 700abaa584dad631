"""The current state of the rungs of each bracket: their ranked trials, and the trials that train towards them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ashwood.experiment.lifecycle import TrialState
from ashwood.search.rung import ranking_key
from ashwood.search.settings import Method, SearchSettings
from ashwood.search.vocabulary import TrialId
from ashwood.views.scene import Standing
from ashwood.views.timeline import Span, Timeline, TrialPath


class Stand(NamedTuple):
    """A trial at a rung, with the metric with which it was compared there."""

    trial: TrialId
    standing: Standing
    metric: float


class Riser(NamedTuple):
    """A trial that has a job.

    Attributes:
        trial: the trial.
        metric: metric of its latest report on the way to its rung, or None.
        progress: known progress from the rung below (0) to its rung (1).
        works: whether an attempt is running.
    """

    trial: TrialId
    metric: float | None
    progress: float
    works: bool


class Step(NamedTuple):
    """A rung of a bracket.

    Attributes:
        length: total training length.
        stands: the trials that were compared at this rung, the best first.
        dropped_out: the trials that failed, or were ended by their code or a user, at this rung or on the way to it.
        entitled: number of the best trials that may be promoted by now, or 0 at the last rung.
        risers: the trials that train towards this rung.
    """

    length: int
    stands: Sequence[Stand]
    dropped_out: Sequence[TrialId]
    entitled: int
    risers: Sequence[Riser]

    @property
    def arrived(self) -> int:
        """Number of trials that were compared at this rung."""
        return len(self.stands)

    @property
    def went_on(self) -> int:
        """Number of trials that were promoted from this rung."""
        return sum(stand.standing is Standing.WENT_ON for stand in self.stands)


def steps(timeline: Timeline) -> list[list[Step]]:
    """Return the rungs of each bracket, the shortest first, in O(n log n) time for n trials."""
    settings = timeline.spec.search
    sign = 1 if timeline.spec.smaller_is_better else -1
    working = {span.trial: span for span in timeline.live}
    ranked: list[list[list[Stand]]] = [[[] for _ in lengths] for lengths in timeline.lengths]
    dropped: list[list[list[TrialId]]] = [[[] for _ in lengths] for lengths in timeline.lengths]
    risers: list[list[list[Riser]]] = [[[] for _ in lengths] for lengths in timeline.lengths]
    for trial, path in timeline.paths.items():
        if path.state is TrialState.INVALID:
            continue  # It was removed from all rungs.
        here = path.rung
        if path.dropped_out:
            dropped[path.bracket][here].append(trial)
        elif path.ended is None and len(path.arrivals) <= here:
            risers[path.bracket][here].append(_riser(timeline.lengths[path.bracket], trial, path, working.get(trial)))
        for standing, rung, metric in _stands(path):
            ranked[path.bracket][rung].append(Stand(trial, standing, metric))
    for rungs in ranked:
        for stands in rungs:
            stands.sort(key=lambda stand: ranking_key(stand.trial, sign * stand.metric))
    return [
        [
            Step(
                length,
                ranked[number][rung],
                dropped[number][rung],
                _entitled(
                    settings, len(ranked[number][rung]) + len(dropped[number][rung]), last=rung == len(lengths) - 1
                ),
                risers[number][rung],
            )
            for rung, length in enumerate(lengths)
        ]
        for number, lengths in enumerate(timeline.lengths)
    ]


def _stands(path: TrialPath) -> Iterator[tuple[Standing, int, float]]:
    here = path.rung
    for _, rung, _, metric in path.arrivals:
        if rung < here:
            yield Standing.WENT_ON, rung, metric
        elif not path.dropped_out:
            if path.ended is None:
                yield Standing.WAITS, rung, metric
            else:
                yield Standing.COMPLETED if path.state is TrialState.COMPLETED else Standing.OUT, rung, metric


def _entitled(settings: SearchSettings, results: int, *, last: bool) -> int:
    if last or not results:
        return 0
    least = 1 if settings.stop_once or settings.method is Method.SYNC_HALVING else 0
    return max(least, int(results / settings.divisor))


def _riser(lengths: Sequence[int], trial: TrialId, path: TrialPath, span: Span | None) -> Riser:
    rung = path.rung
    if span is None or span.rung != rung:
        return Riser(trial, None, 0.0, works=False)  # Its last process may still save.
    below = lengths[rung - 1] if rung else 0
    progress = min(max((span.length - below) / (lengths[rung] - below), 0.0), 1.0)
    return Riser(trial, span.metric, progress, works=True)
