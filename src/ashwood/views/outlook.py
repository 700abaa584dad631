"""What a search takes on given workers: time, money and disk, beside what others would take."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import NamedTuple

from ashwood.experiment.checkpoints import Checkpoint, Checkpoints
from ashwood.experiment.spec import CheckpointPolicy
from ashwood.search.plan import plan_search
from ashwood.search.settings import AUTO_DIVISOR, AUTO_MAX_RUNGS, Method, Mode, Sampler, SearchSettings
from ashwood.search.vocabulary import TrialId
from ashwood.simulation.play import Course
from ashwood.views.simulation import Conditions, affordable, simulate

_HOUR = 3600.0
# For ranges from 10 to 90 %.
_STEP = 10
_SIMULATED_TRIALS = 5_000
_MOST_TRIALS = 5_000


class Range(NamedTuple):
    """What a quantity will be.

    Attributes:
        low: 10 % of the simulated searches had less.
        middle: the median of the simulated searches.
        high: 10 % of the simulated searches had more.
    """

    low: float
    middle: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """What workers and checkpoints cost.

    Attributes:
        worker_hour: money for a worker and an hour, at work or idle; None: unknown.
        checkpoint_bytes: the size of a checkpoint; None: unknown.
        policy: which checkpoints are kept; None: all.
    """

    worker_hour: float | None = None
    checkpoint_bytes: float | None = None
    policy: CheckpointPolicy | None = None


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a search takes on given workers, failures aside.

    Attributes:
        settings: of the search.
        simulations: how many searches were simulated.
        trials: how many trials it creates.
        full_length: how many of them train to max_length.
        seconds: from its start until its last worker is free.
        worker_hours: of all workers until the end, idle or not: what a rented worker costs.
        cost: of them; None: unknown.
        utilisation: the share of them in which a worker was at work on a trial.
        tail_seconds: how long before the end workers begin to idle for good.
        first_end_seconds: when the first trial has trained to max_length.
        paused: the most trials that wait at once, each with its checkpoint.
        checkpoints: the most checkpoints that are kept at once, those of trials that have ended included; None: not
            counted.
        disk_bytes: what they take; None: unknown.
    """

    settings: SearchSettings
    simulations: int
    trials: int
    full_length: Range
    seconds: Range
    worker_hours: Range
    cost: Range | None
    utilisation: Range
    tail_seconds: Range
    first_end_seconds: Range
    paused: Range
    checkpoints: Range | None
    disk_bytes: Range | None


def look_ahead(
    settings: SearchSettings,
    conditions: Conditions,
    prices: Prices,
    courses: Sequence[Course],
    checkpoints: Sequence[int] = (),
) -> Outlook:
    """What a search takes.

    Args:
        settings: of the search.
        conditions: that it was simulated under; they tell the number of workers.
        prices: of workers and checkpoints.
        courses: how simulated searches went.
        checkpoints: of some of them, how many checkpoints were kept at once at most.

    Raises:
        ValueError: the number of workers is unknown.
    """
    workers = conditions.workers
    if workers is None:
        raise ValueError("what a search takes depends on the number of workers")

    def range_of(quantity: Callable[[Course], float]) -> Range:
        return _range([quantity(course) for course in courses])

    seconds = range_of(lambda course: course.seconds)
    hours = _times(seconds, workers / _HOUR)
    kept = _range(checkpoints) if checkpoints else None
    price, size = prices.worker_hour, prices.checkpoint_bytes
    return Outlook(
        settings=settings,
        simulations=len(courses),
        trials=sum(bracket.trials for bracket in plan_search(settings).brackets),
        full_length=range_of(lambda course: sum(counts[-1] for counts in course.arrivals)),
        seconds=seconds,
        worker_hours=hours,
        cost=None if price is None else _times(hours, price),
        utilisation=range_of(lambda course: _share(course.busy, workers * course.seconds)),
        tail_seconds=range_of(lambda course: course.seconds - course.last_full),
        first_end_seconds=range_of(lambda course: course.first_end or course.seconds),
        paused=range_of(lambda course: course.most_waiting),
        checkpoints=kept,
        disk_bytes=None if kept is None or size is None else _times(kept, size),
    )


def look_beside(settings: SearchSettings, conditions: Conditions, prices: Prices) -> Iterator[Outlook]:
    """The same for what one might do instead, from fewer simulations each."""
    for other in alternatives(settings):
        count = _count(other)
        courses = [simulate(other, number=number, conditions=conditions) for number in range(count)]
        yield look_ahead(other, conditions, prices, courses)


def simulate_checkpoints(
    settings: SearchSettings, conditions: Conditions, policy: CheckpointPolicy | None
) -> list[int]:
    """How many checkpoints are kept at once at most, of a few simulated searches."""
    shelves = [_Shelf(policy) for _ in range(_count(settings))]
    for number, shelf in enumerate(shelves):
        simulate(settings, number=number, conditions=conditions, witness=shelf)
    return [shelf.most for shelf in shelves]


def _count(settings: SearchSettings) -> int:
    """How many searches to simulate for a row of a comparison: of large ones too few for a range."""
    trials = settings.max_trials
    return 1 if trials > _MOST_TRIALS else affordable(trials, step=_STEP, budget=_SIMULATED_TRIALS)


def alternatives(settings: SearchSettings) -> Iterator[SearchSettings]:
    """What one might do instead with as many trials: other modes, synchronous halving, no early stopping at all."""
    if settings.method in (Method.GRID, Method.SINGLE):
        return  # they fix their trials
    seen = [(settings.sampler, plan_search(settings).brackets)]
    for mode in Mode:
        other = in_mode(settings, mode)
        if (looks := (other.sampler, plan_search(other).brackets)) not in seen:
            seen.append(looks)
            yield other
    plain = in_mode(settings, Mode.STANDARD)
    for method, num_rungs in ((Method.SYNC_HALVING, plain.max_rungs), (Method.RANDOM, None)):
        if settings.method is not method:
            yield replace(plain, method=method, num_rungs=num_rungs)


def in_mode(settings: SearchSettings, mode: Mode) -> SearchSettings:
    """The same search as adaptive ASHA in a mode, with that mode's defaults where the settings have those of theirs."""
    auto = settings.method is Method.ADAPTIVE_ASHA and settings.mode is Mode.AUTO and not settings.bracket_rungs
    before, after = (AUTO if each else DOCUMENTED for each in (auto, mode is Mode.AUTO))
    rungs = settings.num_rungs or settings.max_rungs
    return replace(
        settings,
        method=Method.ADAPTIVE_ASHA,
        mode=mode,
        divisor=after.divisor if settings.divisor == before.divisor else settings.divisor,
        max_rungs=after.max_rungs if rungs == before.max_rungs else rungs,
        sampler=after.sampler if settings.sampler is before.sampler else settings.sampler,
        bracket_rungs=(),
        num_rungs=None,
    )


class Defaults(NamedTuple):
    """What a mode takes where the user says nothing."""

    divisor: Fraction
    max_rungs: int
    sampler: Sampler


DOCUMENTED = Defaults(Fraction(4), 5, Sampler.RANDOM)
AUTO = Defaults(AUTO_DIVISOR, AUTO_MAX_RUNGS, Sampler.DENSITY)


def full_trainings(settings: SearchSettings, conditions: Conditions, seconds: float) -> int:
    """How many trials the workers train to the end in so many seconds if none is stopped early: random search."""
    costs, workers = conditions.costs, conditions.workers or 1
    at_once = min(workers, plan_search(settings).max_concurrent_trials or workers)
    each = costs.start + conditions.unit_seconds * settings.max_length + costs.save
    return at_once * int(max(0.0, seconds - conditions.launch) / each) if each else 0


class _Shelf:
    """Counts the checkpoints that a policy keeps, on the assumption that a longer training has the better one."""

    def __init__(self, policy: CheckpointPolicy | None) -> None:
        self._ended: set[TrialId] = set()
        self._kept = Checkpoints(policy, self._ended.__contains__)
        self._now = 0
        self.most = 0

    def saved(self, trial: TrialId, length: int) -> None:
        """A trial has saved a checkpoint at a total length."""
        self._now += 1
        # What it makes superfluous is deleted once it is safe.
        self.most = max(self.most, self._now)
        self._now -= len(self._kept.add(Checkpoint(trial, str(length), length, float(-length))))

    def ended(self, trial: TrialId) -> None:
        """A trial will never train again."""
        self._ended.add(trial)
        self._now -= len(self._kept.ended(trial))


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 1.0


def _range(values: Sequence[float]) -> Range:
    ranked = sorted(values)
    outside = max(1, (len(ranked) + 1) // _STEP)
    return Range(ranked[outside - 1], ranked[len(ranked) // 2], ranked[-outside])


def _times(quantity: Range, factor: float) -> Range:
    return Range(*(value * factor for value in quantity))
