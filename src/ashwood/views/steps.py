"""Who stands where now: the rungs of each bracket as steps, ranked, and who is on the way up."""

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
    """A trial that was compared at a rung, with the metric that it was compared by."""

    trial: TrialId
    standing: Standing
    metric: float


class Riser(NamedTuple):
    """A trial that trains, or is to.

    Attributes:
        metric: what it reported last on the way; None: nothing yet.
        progress: how far it is known to be from the step below, 0, to the one it is on its way to, 1.
        works: whether a process works on it.
    """

    trial: TrialId
    metric: float | None
    progress: float
    works: bool


class Step(NamedTuple):
    """A rung of a bracket.

    Attributes:
        length: total training length.
        stands: who was compared here, the best first.
        dropped_out: who failed, stopped itself or was ended by its user here or on the way here.
        entitled: so many of the best deserve to go on, by now; 0 at the last rung.
        risers: who is on the way here.
    """

    length: int
    stands: Sequence[Stand]
    dropped_out: Sequence[TrialId]
    entitled: int
    risers: Sequence[Riser]

    @property
    def arrived(self) -> int:
        """How many were compared here."""
        return len(self.stands)

    @property
    def went_on(self) -> int:
        """How many of them went on."""
        return sum(stand.standing is Standing.WENT_ON for stand in self.stands)


def steps(timeline: Timeline) -> list[list[Step]]:
    """The steps of each bracket, the shortest first; O(n log n) in the number of trials."""
    settings = timeline.spec.search
    sign = 1 if timeline.spec.smaller_is_better else -1
    working = {span.trial: span for span in timeline.live}
    ranked: list[list[list[Stand]]] = [[[] for _ in lengths] for lengths in timeline.lengths]
    dropped: list[list[list[TrialId]]] = [[[] for _ in lengths] for lengths in timeline.lengths]
    risers: list[list[list[Riser]]] = [[[] for _ in lengths] for lengths in timeline.lengths]
    for trial, path in timeline.paths.items():
        if path.state is TrialState.INVALID:
            continue  # It was taken out of every rung.
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
        return Riser(trial, None, 0.0, works=False)  # its last process may still save
    below = lengths[rung - 1] if rung else 0
    progress = min(max((span.length - below) / (lengths[rung] - below), 0.0), 1.0)
    return Riser(trial, span.metric, progress, works=True)
