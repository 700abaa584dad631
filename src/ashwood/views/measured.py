"""What training takes, as a log tells it: the pace of trials, and what it costs to start, resume and save them."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, log, sqrt
from statistics import fmean, stdev
from typing import NamedTuple

from ashwood.experiment.decisions import (
    CompleteTrial,
    CreateTrial,
    Decision,
    PauseTrial,
    Retried,
    StopTrial,
    SuspendTrial,
    TrainTrial,
)
from ashwood.experiment.events import (
    AttemptEnded,
    AttemptStarted,
    CheckpointSaved,
    DriverStarted,
    Event,
    LastWord,
    ValidationReported,
)
from ashwood.search.vocabulary import TrialId
from ashwood.simulation.costs import Costs
from ashwood.views.simulation import Conditions

_KEPT = 1_000
"""Of the latest so many trials and attempts: enough for any mean, and a driver's memory stays small."""

_FEWEST_PACES = 3
_ENDS = CheckpointSaved | LastWord
UNKNOWN_SPREAD = 1.5
"""What is assumed of how paces differ while too few are known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What training takes, in seconds.

    Attributes:
        trials: how many trials it is known from.
        unit_seconds: one unit of length, on average over trials.
        unit_error: by what factor that may be off, more or less.
        spread: two thirds of the trials take between 1/spread and spread times as long as the median; None: too few.
        launch: from the start of the driver until a worker trains, on average over workers.
        start: from the moment that a trial gets a worker until its first step begins.
        restore: in addition, where it goes on from a checkpoint.
        save: from the moment that a trial is to let go with its checkpoint saved, until its worker is free.
    """

    trials: int
    unit_seconds: float
    unit_error: float
    spread: float | None
    launch: float
    start: float
    restore: float
    save: float

    def conditions(self, workers: int | None) -> Conditions:
        """That further trials will train under, on so many workers."""
        return Conditions(
            workers=workers,
            unit_seconds=self.unit_seconds,
            unit_trials=self.trials,
            spread=self.spread,
            spread_trials=self.trials,
            costs=Costs(start=self.start, restore=self.restore, save=self.save),
            launch=self.launch,
        )


@dataclass(slots=True)
class _Live:
    """A process at work: what is known of it.

    Attributes:
        delay: seconds that it took to start after it could have.
        fresh: it has reported nothing yet.
        at: when it was at ``length``.
        trained: length that it trained between reports: nothing but training.
        seconds: what that took.
        leaves_since: when it was told to let go.
        saved: it has saved since then.
    """

    attempt: int
    slot: int
    delay: float
    length: int
    at: float
    restored: bool
    fresh: bool = True
    trained: int = 0
    seconds: float = 0.0
    leaves_since: float | None = None
    saved: bool = False


class _Stretch(NamedTuple):
    """The first stretch of training of a process, the way to its first step included."""

    trial: TrialId
    length: int
    seconds: float
    restored: bool


class _Pace(NamedTuple):
    """Training of a trial between reports."""

    length: int
    seconds: float


class Measuring:
    """A fold over log entries, O(1) each."""

    def __init__(self) -> None:
        self._live: dict[TrialId, _Live] = {}
        self._assigned: dict[TrialId, float] = {}
        # When each slot was free for the next trial; those that haven't had one yet are left out.
        self._free: dict[int, float] = {}
        self._driver_started = 0.0
        # Of the present driver's workers, each from the start of the driver until it trained.
        self._launches: list[float] = []
        self._firsts: deque[_Stretch] = deque(maxlen=_KEPT)
        self._paces: dict[TrialId, _Pace] = {}
        self._saves: deque[float] = deque(maxlen=_KEPT)
        self._leaves: deque[float] = deque(maxlen=_KEPT)

    def apply(self, at: float, event: Event, decisions: Sequence[Decision]) -> None:
        """Take an entry."""
        if isinstance(event, ValidationReported):  # first, as nearly every entry is one
            live = self._live.get(event.trial)
            if live is not None and live.attempt == event.attempt and event.length > live.length:
                self._report(at, event, live)
        elif isinstance(event, AttemptStarted):
            self._start(at, event)
        elif isinstance(event, _ENDS):
            live = self._live.get(event.trial)
            if live is not None and live.attempt == event.attempt:
                self._end(at, event, live)
        elif isinstance(event, DriverStarted):
            self._live, self._free = {}, {}
            self._driver_started, self._launches = at, []
        for decision in decisions:
            match decision:
                case TrainTrial(why=Retried()):
                    pass  # it may have to wait before it is tried again
                case CreateTrial(trial) | TrainTrial(trial):
                    self._assigned[trial] = at
                case PauseTrial(trial) | CompleteTrial(trial) | StopTrial(trial) if trial in self._live:
                    self._live[trial].leaves_since = at
                case SuspendTrial(trial) if trial in self._live:  # in the middle of a step
                    self._keep(trial, self._live.pop(trial))

    def result(self) -> Measured | None:
        """What was measured so far; None: nothing."""
        start, restore = self._starts()
        paces = list(self._all_paces(start, restore).values())
        if not paces:
            return None
        # A trial that trained for no time at all was too short to measure.
        logs = [log(pace) for pace in paces if pace > 0]
        spread = exp(stdev(logs)) if len(logs) >= _FEWEST_PACES else None
        return Measured(
            trials=len(paces),
            unit_seconds=fmean(paces),
            unit_error=_error(len(paces), spread or UNKNOWN_SPREAD),
            spread=spread,
            launch=_mean(self._launches),
            # A trial that ends without a checkpoint holds its worker for a moment too.
            start=start + _mean(self._leaves),
            restore=restore,
            save=_mean(self._saves),
        )

    def paces(self) -> Mapping[TrialId, float]:
        """Seconds a unit of length, of each trial that was measured."""
        return self._all_paces(*self._starts())

    # -- entries ------------------------------------------------------------------------------

    def _start(self, at: float, event: AttemptStarted) -> None:
        assigned = self._assigned.pop(event.trial, at)
        if event.slot in self._free:
            delay = at - max(assigned, self._free[event.slot])
        else:
            delay = 0.0  # a worker's own start, which comes but once
            self._launches.append(at - max(assigned, self._driver_started))
        self._live[event.trial] = _Live(
            event.attempt, event.slot, max(0.0, delay), event.length, at, restored=event.length > 0
        )

    def _report(self, at: float, event: ValidationReported, live: _Live) -> None:
        length, seconds = event.length - live.length, at - live.at
        if live.fresh:
            live.fresh = False
            self._firsts.append(_Stretch(event.trial, length, live.delay + seconds, live.restored))
        else:
            live.trained += length
            live.seconds += seconds
        live.length, live.at = event.length, at

    def _end(self, at: float, event: CheckpointSaved | LastWord, live: _Live) -> None:
        if isinstance(event, CheckpointSaved):
            live.saved = live.leaves_since is not None
            return
        del self._live[event.trial]
        self._keep(event.trial, live)
        self._free[live.slot] = at
        if isinstance(event, AttemptEnded) and live.leaves_since is not None:
            (self._saves if live.saved else self._leaves).append(at - live.leaves_since)

    def _keep(self, trial: TrialId, live: _Live) -> None:
        """Keep what a process that is gone has trained."""
        if live.trained:
            before = self._paces.pop(trial, _Pace(0, 0.0))
            self._paces[trial] = _Pace(before.length + live.trained, before.seconds + live.seconds)  # the latest last
            if len(self._paces) > _KEPT:
                del self._paces[next(iter(self._paces))]

    # -- what it comes to -----------------------------------------------------------------------

    def _starts(self) -> tuple[float, float]:
        """Seconds until the first step, and what a checkpoint adds."""
        fresh = [each for each in self._firsts if not each.restored]
        restored = [each for each in self._firsts if each.restored]
        start = self._beyond_training(fresh)
        if not restored:
            return start, 0.0
        return start, max(0.0, self._beyond_training(restored) - start)

    def _beyond_training(self, stretches: Sequence[_Stretch]) -> float:
        """Seconds that first stretches took beyond their training, on average."""
        paces = self._pure_paces()
        known = [
            each.seconds - each.length * pace.seconds / pace.length
            for each in stretches
            if (pace := paces.get(each.trial)) is not None
        ]
        return max(0.0, fmean(known) if known else _intercept(stretches))

    def _all_paces(self, start: float, restore: float) -> dict[TrialId, float]:
        """Seconds a unit of length, of each trial."""
        pure = self._pure_paces()
        totals = dict(pure)
        for trial, length, seconds, restored in self._firsts:
            if trial not in pure:
                before = totals.get(trial, _Pace(0, 0.0))
                trained = max(0.0, seconds - start - restore * restored)
                totals[trial] = _Pace(before.length + length, before.seconds + trained)
        return {trial: pace.seconds / pace.length for trial, pace in totals.items()}

    def _pure_paces(self) -> dict[TrialId, _Pace]:
        """Training between reports, by trial."""
        paces = dict(self._paces)
        for trial, live in self._live.items():
            if live.trained:
                before = paces.get(trial, _Pace(0, 0.0))
                paces[trial] = _Pace(before.length + live.trained, before.seconds + live.seconds)
        return paces


def _intercept(stretches: Sequence[_Stretch]) -> float:
    """What stretches of no length would take: by least squares of the relative error; 0 where all have one length."""
    shares = [1 / each.length for each in stretches]
    if len(set(shares)) < 2:
        return 0.0
    paces = [each.seconds / each.length for each in stretches]
    middle, pace = fmean(shares), fmean(paces)
    covariance = sum((x - middle) * (y - pace) for x, y in zip(shares, paces, strict=True))
    return covariance / sum((x - middle) ** 2 for x in shares)


def _mean(values: Sequence[float]) -> float:
    return fmean(values) if values else 0.0


def _error(trials: int, spread: float) -> float:
    """By what factor a mean over so many trials may be off.

    Of few trials the spread itself is uncertain, so the error is larger than it seems, as
    Student's distribution is wider than the normal one.
    """
    few = trials / (trials - 1) if trials > 1 else 2.0
    return exp(log(spread) * few / sqrt(trials))
