"""Measures the pace of trials, and the time to start, restore and save them, from the log."""

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
    PauseTrial,
    Retried,
    StopTrial,
    SuspendTrial,
    TrainTrial,
)
from ashwood.experiment.entry import Entry
from ashwood.experiment.events import (
    AttemptEnded,
    AttemptStarted,
    CheckpointSaved,
    DriverStarted,
    FinalEvent,
    ValidationReported,
)
from ashwood.search.vocabulary import TrialId

_KEPT = 1_000
"""Number of the latest trials and attempts that are kept: enough for a mean, and a driver needs little memory."""

_FEWEST_PACES = 3
_ENDS = CheckpointSaved | FinalEvent
UNKNOWN_SPREAD = 1.5
"""Assumed spread of paces while too few are known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Measured times of training, in seconds.

    Attributes:
        trials: number of trials that were measured.
        unit_seconds: time for one unit of length, as a mean over trials.
        unit_error: factor by which this mean can be wrong, up or down (one standard error).
        spread: factor by which two thirds of the trials differ from the median at most, or None for too few trials.
        launch: time from the start of the driver until a worker trains, as a mean over workers.
        start: time from the moment when a trial gets a worker until its first step begins.
        restore: additional time if the trial resumes from a checkpoint.
        save: time from the decision that a trial releases its worker until the worker is free with a checkpoint saved.
    """

    trials: int
    unit_seconds: float
    unit_error: float
    spread: float | None
    launch: float
    start: float
    restore: float
    save: float


@dataclass(slots=True)
class _Live:
    """A running attempt.

    Attributes:
        attempt: its number.
        slot: its slot.
        delay: seconds from the moment when it could have started until it did.
        length: total length of its latest report, or from which it started.
        at: time of its latest report, or of its start.
        restored: whether it started from a checkpoint.
        fresh: whether it has reported nothing yet.
        trained: length that it trained between its reports, so without its start.
        seconds: time that this training took.
        leaves_since: time of the decision that it releases its worker, or None.
        saved: whether it has saved since then.
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
    """The training of an attempt up to its first report, including its start."""

    trial: TrialId
    length: int
    seconds: float
    restored: bool


class _Pace(NamedTuple):
    """Training of a trial between reports: its length and its seconds."""

    length: int
    seconds: float


class Measuring:
    """Measures times of training, as a fold over log entries that takes O(1) time for each."""

    def __init__(self) -> None:
        self._live: dict[TrialId, _Live] = {}
        self._assigned: dict[TrialId, float] = {}
        # When each slot became free for the next trial.  Slots that have not had a trial yet are left out.
        self._free: dict[int, float] = {}
        self._driver_started = 0.0
        # Seconds from the start of the current driver until each worker trained.
        self._launches: list[float] = []
        self._firsts: deque[_Stretch] = deque(maxlen=_KEPT)
        self._paces: dict[TrialId, _Pace] = {}
        self._saves: deque[float] = deque(maxlen=_KEPT)
        self._leaves: deque[float] = deque(maxlen=_KEPT)

    def apply(self, entry: Entry) -> None:
        """Apply an entry of the log."""
        at, event, decisions = entry
        if isinstance(event, ValidationReported):  # This comes first because most entries are reports.
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
                    pass  # A restart can be delayed, which must not count as start-up time.
                case CreateTrial(trial) | TrainTrial(trial):
                    self._assigned[trial] = at
                case PauseTrial(trial) | CompleteTrial(trial) | StopTrial(trial) if trial in self._live:
                    self._live[trial].leaves_since = at
                case SuspendTrial(trial) if trial in self._live:  # The rest of its step is not measured.
                    self._keep(trial, self._live.pop(trial))

    def result(self) -> Measured | None:
        """Return what was measured so far, or None if nothing was."""
        start, restore = self._starts()
        paces = list(self._all_paces(start, restore).values())
        if not paces:
            return None
        # A pace of 0 means that the training was too short to measure.
        logs = [log(pace) for pace in paces if pace > 0]
        spread = exp(stdev(logs)) if len(logs) >= _FEWEST_PACES else None
        return Measured(
            trials=len(paces),
            unit_seconds=fmean(paces),
            unit_error=_error(len(paces), spread or UNKNOWN_SPREAD),
            spread=spread,
            launch=_mean(self._launches),
            # A trial that ends without a checkpoint also keeps its worker for a moment.
            start=start + _mean(self._leaves),
            restore=restore,
            save=_mean(self._saves),
        )

    def paces(self) -> Mapping[TrialId, float]:
        """Return the seconds per unit of length of each measured trial."""
        return self._all_paces(*self._starts())

    # -- entries ------------------------------------------------------------------------------

    def _start(self, at: float, event: AttemptStarted) -> None:
        assigned = self._assigned.pop(event.trial, at)
        if event.slot in self._free:
            delay = at - max(assigned, self._free[event.slot])
        else:
            delay = 0.0  # The time includes the start of the worker, which happens only once.
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

    def _end(self, at: float, event: CheckpointSaved | FinalEvent, live: _Live) -> None:
        if isinstance(event, CheckpointSaved):
            live.saved = live.leaves_since is not None
            return
        del self._live[event.trial]
        self._keep(event.trial, live)
        self._free[live.slot] = at
        if isinstance(event, AttemptEnded) and live.leaves_since is not None:
            (self._saves if live.saved else self._leaves).append(at - live.leaves_since)

    def _keep(self, trial: TrialId, live: _Live) -> None:
        """Add the training of an ended attempt to the pace of its trial."""
        if live.trained:
            before = self._paces.pop(trial, _Pace(0, 0.0))
            self._paces[trial] = _Pace(before.length + live.trained, before.seconds + live.seconds)
            # The latest trial was inserted last, so the first one is the oldest.
            if len(self._paces) > _KEPT:
                del self._paces[next(iter(self._paces))]

    # -- results --------------------------------------------------------------------------------

    def _starts(self) -> tuple[float, float]:
        """Return the seconds until the first step, and the additional seconds if a checkpoint is restored."""
        fresh = [each for each in self._firsts if not each.restored]
        restored = [each for each in self._firsts if each.restored]
        start = self._beyond_training(fresh)
        if not restored:
            return start, 0.0
        return start, max(0.0, self._beyond_training(restored) - start)

    def _beyond_training(self, stretches: Sequence[_Stretch]) -> float:
        """Return the mean seconds that first stretches took in addition to their training."""
        paces = self._pure_paces()
        known = [
            each.seconds - each.length * pace.seconds / pace.length
            for each in stretches
            if (pace := paces.get(each.trial)) is not None
        ]
        return max(0.0, fmean(known) if known else _intercept(stretches))

    def _all_paces(self, start: float, restore: float) -> dict[TrialId, float]:
        """Return the seconds that each trial takes for one unit of length."""
        pure = self._pure_paces()
        totals = dict(pure)
        for trial, length, seconds, restored in self._firsts:
            if trial not in pure:
                before = totals.get(trial, _Pace(0, 0.0))
                trained = max(0.0, seconds - start - restore * restored)
                totals[trial] = _Pace(before.length + length, before.seconds + trained)
        return {trial: pace.seconds / pace.length for trial, pace in totals.items()}

    def _pure_paces(self) -> dict[TrialId, _Pace]:
        """Return the training between reports of each trial."""
        paces = dict(self._paces)
        for trial, live in self._live.items():
            if live.trained:
                before = paces.get(trial, _Pace(0, 0.0))
                paces[trial] = _Pace(before.length + live.trained, before.seconds + live.seconds)
        return paces


def _intercept(stretches: Sequence[_Stretch]) -> float:
    """Return the seconds of a stretch of length 0 by least squares of relative errors; 0 if all lengths are equal."""
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
    """Return the factor by which a mean over trials can be wrong, from their number and spread.

    With few trials the spread itself is uncertain, so the factor is larger, as Student's
    distribution is wider than the normal one.
    """
    few = trials / (trials - 1) if trials > 1 else 2.0
    return exp(log(spread) * few / sqrt(trials))
