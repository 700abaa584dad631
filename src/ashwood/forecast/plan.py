"""Finds a search that fits a budget: its number of trials, its mode and its rungs.

A search fits if nine of ten simulated searches end in time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

from ashwood.forecast.conditions import Conditions, affordable, simulate
from ashwood.forecast.searches import Prices, SearchForecast, forecast_search, in_mode
from ashwood.search.plan import plan_search
from ashwood.search.settings import Method, Mode, SearchSettings

MOST_TRIALS = 10_000
"""Largest number of trials that is proposed."""

_HOUR = 3600.0
# A range from 10 to 90 % leaves one in ten simulations below it, and one in ten above.
_STEP = 10
_ROUGH = 4_000
_CLOSER = 12_000
_FIRST_GUESS = 50
_CLOSE = 0.05
_MOST_GUESSES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """The limits of a search; None means no limit.

    Attributes:
        seconds: largest time from start to end.
        worker_hours: largest number of hours of all workers, busy or idle.
    """

    seconds: float | None = None
    worker_hours: float | None = None

    def most_seconds(self, workers: int) -> float:
        """Return the largest time of a search on a number of workers, in seconds.

        Raises:
            ValueError: there is no limit.
        """
        bounds = [self.seconds, None if self.worker_hours is None else self.worker_hours * _HOUR / workers]
        return min(bound for bound in bounds if bound is not None)


class TooTight(Exception):
    """No search fits: not even a single trial can train to the end in time.

    Attributes:
        seconds: upper limit of the time that a single trial takes in nine of ten simulations.
        most_length: largest max_length that would fit, or 0 if none would.
    """

    def __init__(self, seconds: float, most_length: int) -> None:
        super().__init__(f"a single trial takes {seconds:.0f} s")
        self.seconds = seconds
        self.most_length = most_length


@dataclass(frozen=True, slots=True)
class Plan:
    """A proposed search, and other searches that fit.

    Attributes:
        proposal: the proposed search.
        alternatives: other modes and random search, each with as many trials as fit.
        most_seconds: largest time of each search in seconds.
    """

    proposal: SearchForecast
    alternatives: tuple[SearchForecast, ...]
    most_seconds: float

    @property
    def rungs(self) -> tuple[tuple[int, ...], ...]:
        """The lengths of the rungs of each bracket of the proposal."""
        return tuple(bracket.lengths for bracket in plan_search(self.proposal.settings).brackets)


def make_plan(
    search: SearchSettings, conditions: Conditions, budget: Budget, prices: Prices, *, mode: Mode | None = None
) -> Plan:
    """Return a search that fits a budget, with as many trials as possible.

    Args:
        search: settings of the search; its number of trials is ignored.
        conditions: conditions of training, with a number of workers.
        budget: limits of the search.
        prices: costs of workers and checkpoints.
        mode: mode to propose, or None for standard mode, or aggressive mode if few trials fit.

    Raises:
        TooTight: no search fits.
        ValueError: there is no limit, or the number of workers is unknown.
    """
    if conditions.workers is None:
        raise ValueError("a plan needs the number of workers")
    most_seconds = budget.most_seconds(conditions.workers)
    fittings = [_Fitting(form, conditions, prices, most_seconds) for form in _forms(search, conditions.workers)]
    found = [fitting.rough() for fitting in fittings]
    modes = {
        forecast.settings.mode: number
        for number, forecast in enumerate(found)
        if forecast.settings.method is Method.ADAPTIVE_ASHA
    }
    if mode is None:
        ample = is_ample(found[modes[Mode.STANDARD]].settings)
        mode = Mode.STANDARD if ample else Mode.AGGRESSIVE
    chosen = modes[mode]
    others = [forecast for number, forecast in enumerate(found) if number != chosen]
    return Plan(fittings[chosen].closer(found[chosen]), tuple(others), most_seconds)


def _forms(search: SearchSettings, workers: int) -> Iterator[SearchSettings]:
    """Yield the searches to compare: adaptive ASHA in each mode, and random search."""
    # A limit below the number of workers would keep some of them idle.
    most = search.max_concurrent_trials
    base = replace(search, max_concurrent_trials=max(most, workers) if most else 0)
    for mode in Mode:
        yield in_mode(base, mode)
    yield replace(in_mode(base, Mode.STANDARD), method=Method.RANDOM, audit=Fraction(0))


def is_ample(search: SearchSettings) -> bool:
    """Return whether at least two trials of the bracket with the most rungs can be promoted to the last one."""
    first = plan_search(search).brackets[0]
    return first.trials >= 2 * search.divisor ** (len(first.lengths) - 1)


class _Fitting:
    """Finds the number of trials with which a search fits."""

    def __init__(self, form: SearchSettings, conditions: Conditions, prices: Prices, most_seconds: float) -> None:
        self._form = form
        self._conditions = conditions
        self._prices = prices
        self._most_seconds = most_seconds
        workers = conditions.workers or 1
        self._at_once = min(workers, form.max_concurrent_trials or workers)

    def rough(self) -> SearchForecast:
        """Return a rough forecast, from few simulations, for a search with about as many trials as fit."""
        least = self._look(1, _ROUGH)
        if least.seconds.high > self._most_seconds:
            raise TooTight(least.seconds.high, self._most_length(least.seconds.high))
        fits, too_many, guess = least, None, _FIRST_GUESS
        for _ in range(_MOST_GUESSES):
            most = MOST_TRIALS + 1 if too_many is None else too_many.trials
            if not fits.trials < guess < most:
                guess = _nice((fits.trials + min(most, 2 * fits.trials)) // 2)
            if not fits.trials < guess < most:
                break
            seen = self._look(guess, _ROUGH)
            if seen.seconds.high <= self._most_seconds:
                fits = seen
            else:
                too_many = seen
            guess = self._guess(seen) if too_many is None else self._between(fits, too_many)
            if seen is fits and guess <= seen.trials * (1 + _CLOSE):
                break
        return fits

    def closer(self, found: SearchForecast) -> SearchForecast:
        """Return the forecast from more simulations, with a corrected number of trials."""
        seen = self._look(found.trials, _CLOSER)
        more = self._guess(seen)
        for trials in (more, _nice((seen.trials + more) // 2)):
            if trials > seen.trials * (1 + _CLOSE):
                larger = self._look(trials, _CLOSER)
                if larger.seconds.high <= self._most_seconds:
                    return larger
        while seen.seconds.high > self._most_seconds and seen.trials > 1:
            seen = self._look(min(seen.trials - 1, self._guess(seen)), _CLOSER)
        return seen

    def _guess(self, seen: SearchForecast) -> int:
        """Return a better guess of the number of trials that fit, from the forecast for another number."""
        more = (self._most_seconds - seen.seconds.high) / self._pace(seen)
        return max(1, min(MOST_TRIALS, _nice(int(seen.trials + more))))

    def _between(self, fits: SearchForecast, too_many: SearchForecast) -> int:
        """Return a better guess of the number of trials that fit, between one that fits and one that does not.

        The time of a search in mode ``auto`` grows faster than its number of trials, because it learns to skip rungs.
        So its pace with few trials says little about many.
        """
        share = (self._most_seconds - fits.seconds.high) / (too_many.seconds.high - fits.seconds.high)
        return _nice(int(fits.trials + share * (too_many.trials - fits.trials)))

    def _pace(self, seen: SearchForecast) -> float:
        """Return the additional seconds for one more trial while all workers are busy."""
        busy = seen.utilisation.middle * seen.worker_hours.middle * _HOUR
        return max(busy / seen.trials / self._at_once, 1e-9)

    def _most_length(self, least: float) -> int:
        """Return an estimate of the largest length that a single trial could train in time."""
        besides = self._conditions.launch + self._conditions.costs.start + self._conditions.costs.save
        share = (self._most_seconds - besides) / max(least - besides, 1e-9)
        return max(0, int(self._form.max_length * share))

    def _look(self, trials: int, budget: int) -> SearchForecast:
        settings = replace(self._form, max_trials=trials)
        count = affordable(trials, step=_STEP, budget=budget)
        courses = [simulate(settings, number=number, conditions=self._conditions) for number in range(count)]
        return forecast_search(settings, self._conditions, self._prices, courses)


def _nice(number: int) -> int:
    """Round a number down to two significant digits, because a proposal of 1,237 trials looks more exact than it is."""
    step: int = 10 ** max(0, len(str(number)) - 2)
    return number // step * step
