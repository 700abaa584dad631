"""Forecast of the time, cost and disk space of a search on given workers, and of alternative searches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import NamedTuple

from ashwood.experiment.checkpoints import Checkpoint, Checkpoints
from ashwood.experiment.lifecycle import TrialState
from ashwood.experiment.quota import DeletionOrder
from ashwood.experiment.spec import CheckpointPolicy
from ashwood.forecast.conditions import Conditions, affordable, simulate
from ashwood.forecast.play import Course
from ashwood.search.plan import plan_search
from ashwood.search.settings import AUTO_DEFAULTS, DEFAULTS, Method, Mode, SearchSettings
from ashwood.search.tournament import Tournament
from ashwood.search.vocabulary import TrialId

_HOUR = 3600.0
# A range from 10 to 90 % leaves one in ten simulations below it, and one in ten above.
_STEP = 10
_SIMULATED_TRIALS = 5_000
_MOST_TRIALS = 5_000


class Range(NamedTuple):
    """The forecast range of a quantity.

    Attributes:
        low: 10 % of the simulated searches were below it.
        middle: median of the simulated searches.
        high: 10 % of the simulated searches were above it.
    """

    low: float
    middle: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """The costs of workers and checkpoints.

    Attributes:
        worker_hour: price of one worker for one hour, busy or idle, or None if unknown.
        checkpoint_bytes: size of a checkpoint in bytes, or None if unknown.
        policy: which checkpoints are kept, or None to keep all.
        max_size: largest total size of all checkpoints in bytes, or None for no limit.
    """

    worker_hour: float | None = None
    checkpoint_bytes: float | None = None
    policy: CheckpointPolicy | None = None
    max_size: int | None = None

    @property
    def is_limited(self) -> bool:
        """Whether max_size is set and the size of a checkpoint is known."""
        return self.max_size is not None and self.checkpoint_bytes is not None


@dataclass(frozen=True, slots=True)
class SearchForecast:
    """The forecast for a search on given workers, if no trial fails.

    Attributes:
        settings: settings of the search.
        simulations: number of simulated searches.
        trials: number of trials that it creates.
        full_length: number of trials that train to max_length.
        seconds: time from its start until its last worker is free.
        worker_hours: hours of all workers until the end, busy or idle.
        cost: price of the worker hours, or None if unknown.
        utilisation: share of the worker hours in which a worker trains a trial.
        tail_seconds: time at the end of the search in which some workers are idle.
        first_end_seconds: time from the start until the first trial has trained to max_length.
        paused: largest number of trials that are paused at the same time, each with a checkpoint.
        checkpoints: largest number of checkpoints that are kept at the same time, or None if not counted.
        disk_bytes: size of these checkpoints, or None if unknown.
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


@dataclass(frozen=True, slots=True)
class StorageForecast:
    """The forecast of the checkpoints of a search.

    Attributes:
        checkpoints: largest number of checkpoints that are kept at the same time without max_size.
        bytes: size of these checkpoints, or None if unknown.
        max_size: largest total size of all checkpoints in bytes, or None for no limit.
        limited: largest number of checkpoints that are kept at the same time with max_size, or None if unknown.
        limited_bytes: size of these checkpoints, or None if unknown.
        repeated: training length that is repeated because checkpoints are deleted, or None if unknown.
    """

    checkpoints: Range
    bytes: Range | None
    max_size: int | None
    limited: Range | None
    limited_bytes: Range | None
    repeated: Range | None


def forecast_storage(
    settings: SearchSettings, conditions: Conditions, prices: Prices, kept: Range | None = None
) -> StorageForecast:
    """Return the forecast of the checkpoints of a search.

    Args:
        settings: settings of the search.
        conditions: known conditions of training.
        prices: size of a checkpoint, and what is kept.
        kept: largest number of checkpoints that are kept without max_size, or None to simulate it.
    """
    size = prices.checkpoint_bytes
    if kept is None:
        kept = _range(simulate_checkpoints(settings, conditions, prices.policy))
    limited = repeated = None
    if prices.is_limited:
        counters = [CheckpointCounter(prices) for _ in range(_count(settings))]
        for number, counter in enumerate(counters):
            simulate(settings, number=number, conditions=conditions, witness=counter)
        limited = _range([counter.most for counter in counters])
        repeated = _range([counter.repeated for counter in counters])
    return StorageForecast(
        checkpoints=kept,
        bytes=None if size is None else _times(kept, size),
        max_size=prices.max_size,
        limited=limited,
        limited_bytes=None if size is None or limited is None else _times(limited, size),
        repeated=repeated,
    )


def forecast_search(
    settings: SearchSettings,
    conditions: Conditions,
    prices: Prices,
    courses: Sequence[Course],
    checkpoints: Sequence[int] = (),
) -> SearchForecast:
    """Return the forecast for a search from simulations.

    Args:
        settings: settings of the search.
        conditions: conditions of the simulations, with a number of workers.
        prices: costs of workers and checkpoints.
        courses: results of the simulations.
        checkpoints: largest numbers of checkpoints that were kept at once in some simulations.

    Raises:
        ValueError: the number of workers is unknown.
    """
    workers = conditions.workers
    if workers is None:
        raise ValueError("a forecast needs the number of workers")

    def range_of(quantity: Callable[[Course], float]) -> Range:
        return _range([quantity(course) for course in courses])

    seconds = range_of(lambda course: course.seconds)
    hours = _times(seconds, workers / _HOUR)
    kept = _range(checkpoints) if checkpoints else None
    price, size = prices.worker_hour, prices.checkpoint_bytes
    return SearchForecast(
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


def forecast_alternatives(settings: SearchSettings, conditions: Conditions, prices: Prices) -> Iterator[SearchForecast]:
    """Yield forecasts for the alternatives to a search, each from fewer simulations."""
    for other in alternatives(settings):
        count = _count(other)
        courses = [simulate(other, number=number, conditions=conditions) for number in range(count)]
        yield forecast_search(other, conditions, prices, courses)


def simulate_checkpoints(
    settings: SearchSettings, conditions: Conditions, policy: CheckpointPolicy | None
) -> list[int]:
    """Return the largest number of checkpoints that are kept at once, for each of a few simulated searches."""
    counters = [CheckpointCounter(Prices(policy=policy)) for _ in range(_count(settings))]
    for number, counter in enumerate(counters):
        simulate(settings, number=number, conditions=conditions, witness=counter)
    return [counter.most for counter in counters]


def _count(settings: SearchSettings) -> int:
    """Return the number of simulations for an alternative; it is 1 for a large search, which gives no range."""
    trials = settings.max_trials
    return 1 if trials > _MOST_TRIALS else affordable(trials, step=_STEP, budget=_SIMULATED_TRIALS)


def alternatives(settings: SearchSettings) -> Iterator[SearchSettings]:
    """Yield other searches with as many trials: other modes, synchronous halving, and no early stopping."""
    if settings.method in (Method.GRID, Method.SINGLE):
        return  # Grid search and single have a fixed number of trials, so there are no alternatives.
    seen = [(settings.sampler, plan_search(settings).brackets)]
    for mode in Mode:
        other = in_mode(settings, mode)
        if (looks := (other.sampler, plan_search(other).brackets)) not in seen:
            seen.append(looks)
            yield other
    plain = in_mode(settings, Mode.STANDARD)
    for method, num_rungs in ((Method.SYNC_HALVING, plain.max_rungs), (Method.RANDOM, None)):
        if settings.method is not method:
            yield replace(plain, method=method, num_rungs=num_rungs, audit=Fraction(0))


def in_mode(settings: SearchSettings, mode: Mode) -> SearchSettings:
    """Return the same search as adaptive ASHA in another mode.

    Settings that are the defaults of the old mode become the defaults of the new one.
    """
    auto = settings.method is Method.ADAPTIVE_ASHA and settings.mode is Mode.AUTO and not settings.bracket_rungs
    before, after = (AUTO_DEFAULTS if each else DEFAULTS for each in (auto, mode is Mode.AUTO))
    rungs = settings.num_rungs or settings.max_rungs
    return replace(
        settings,
        method=Method.ADAPTIVE_ASHA,
        mode=mode,
        divisor=after.divisor if settings.divisor == before.divisor else settings.divisor,
        max_rungs=after.max_rungs if rungs == before.max_rungs else rungs,
        sampler=after.sampler if settings.sampler is before.sampler else settings.sampler,
        audit=after.audit if settings.audit == before.audit else settings.audit,
        bracket_rungs=(),
        num_rungs=None,
    )


def full_trainings(settings: SearchSettings, conditions: Conditions, seconds: float) -> int:
    """Return how many trials train to max_length within some seconds if none is stopped early, as in random search."""
    costs, workers = conditions.costs, conditions.workers or 1
    at_once = min(workers, plan_search(settings).max_concurrent_trials or workers)
    each = costs.start + conditions.unit_seconds * settings.max_length + costs.save
    return at_once * int(max(0.0, seconds - conditions.launch) / each) if each else 0


class CheckpointCounter:
    """Counts the checkpoints that are kept, as if a longer training always had a better metric.

    Attributes:
        most: largest number of checkpoints that existed at once.
        repeated: training length that was repeated because checkpoints were missing or were deleted to keep max_size.
    """

    def __init__(self, prices: Prices) -> None:
        """Count the checkpoints under the policy of ``prices``, and with its max_size if `Prices.is_limited`."""
        self.most = 0
        self.repeated = 0
        self._size = round(prices.checkpoint_bytes or 0)
        self._max_size = prices.max_size if prices.is_limited else None
        self._states: dict[TrialId, tuple[TrialState, int]] = {}
        self._search: Tournament | None = None
        self._kept = Checkpoints(prices.policy, lambda trial: self._states[trial][0].ended, self._is_replicate)
        self._now = 0
        self._order: DeletionOrder | None = None

    def watch(self, search: Tournament) -> None:
        """Begin to observe a search."""
        self._search = search
        if self._max_size is not None:
            self._order = DeletionOrder(search, self._kept, self._states.__getitem__)
            self._order.update(self._states, self._kept.best)

    def begin(self, trials: Mapping[TrialId, tuple[TrialState, int]], kept: Iterable[Checkpoint]) -> None:
        """Set the trials and checkpoints of a search that has begun, before it is observed.

        Args:
            trials: state of each trial, and the length of the rung at which its last job ended or will end.
            kept: the checkpoints that exist.
        """
        self._states |= trials
        for each in kept:
            self._now += 1 - len(self._kept.add(each._replace(loss=float(-each.length))))

    def saved(self, trial: TrialId, length: int) -> None:
        """Count a checkpoint that a trial has saved at a total length."""
        state, _ = self._states.get(trial, (TrialState.PAUSED, 0))
        state = state if not state.ended else TrialState.COMPLETED
        self._states[trial] = (TrialState.PAUSED if state is TrialState.RUNNING else state, length)
        self._now += 1
        # Older checkpoints are deleted only after the new one is saved, so all of them exist for a moment.
        self.most = max(self.most, self._now)
        self._now -= len(self._kept.add(Checkpoint(trial, str(length), length, float(-length), self._size)))
        self._keep_max_size(trial)

    def resumes(self, trial: TrialId, length: int) -> int:
        """Return the length of the checkpoint from which a promoted trial resumes."""
        self._states[trial] = (TrialState.RUNNING, length)
        self._keep_max_size(trial)
        latest = self._kept.latest(trial)
        start = 0 if latest is None else latest.length
        self.repeated += max(0, length - start)
        return start

    def ended(self, trial: TrialId) -> None:
        """Record that a trial will not train again."""
        self._states[trial] = (TrialState.STOPPED, 0)
        self._now -= len(self._kept.ended(trial))
        self._keep_max_size(trial)

    def _is_replicate(self, trial: TrialId) -> bool:
        return self._search is not None and trial in self._search.replicates.created

    def _keep_max_size(self, changed: TrialId) -> None:
        """Delete checkpoints while all together are larger than max_size."""
        if self._order is not None and self._max_size is not None:
            self._order.update((changed,), self._kept.best)
            self._now -= len(list(self._order.delete(self._max_size)))


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 1.0


def _range(values: Sequence[float]) -> Range:
    ranked = sorted(values)
    outside = max(1, (len(ranked) + 1) // _STEP)
    return Range(ranked[outside - 1], ranked[len(ranked) // 2], ranked[-outside])


def _times(quantity: Range, factor: float) -> Range:
    return Range(*(value * factor for value in quantity))
