"""Known conditions of training, and simulations of searches under these conditions.

The course of a search depends on things that are unknown beforehand: the order in which trials
finish, how much their paces differ, and how well an early metric predicts a late one.  So each
simulation draws the unknown conditions at random.  Metrics are exchangeable: it makes no
difference when a trial is created.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import exp, log, sqrt

from ashwood.forecast.costs import NO_COSTS, Costs, normal_draw
from ashwood.forecast.play import Course, Witness, play
from ashwood.forecast.training import Exchangeable, log_spread
from ashwood.search.draw import unit_draw
from ashwood.search.settings import Sampler, SearchSettings
from ashwood.search.tournament import Tournament
from ashwood.views.measured import Measured

_SEED = 0
_WIDEST_SPREAD = 2.0
_MOST_LEARNING = 6.0
_LAUNCH_ERROR = 1.2
"""Factor by which the launch time of workers typically changes from run to run, up or down."""
_MOST_STEPS = 10
_LEAST_CHI = 0.3
_MOST_SIGMA = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """The known conditions under which trials train.

    Attributes:
        workers: number of workers, or None to draw a number in each simulation.
        unit_seconds: seconds for one unit of length, as a mean over trials.
        unit_trials: number of trials from which unit_seconds was measured, or None if it is exact.
        spread: two thirds of the trials take between 1/spread and spread times as long as the median; None to draw a
            value in each simulation.
        spread_trials: number of trials from which spread was measured, or None if it is exact.
        costs: times for starting, restoring and saving a trial.
        launch: seconds from the start of the driver until the workers train.
    """

    workers: int | None = None
    unit_seconds: float = 1.0
    unit_trials: int | None = None
    spread: float | None = None
    spread_trials: int | None = None
    costs: Costs = NO_COSTS
    launch: float = 0.0

    @classmethod
    def from_measured(cls, measured: Measured, workers: int | None) -> Conditions:
        """Return the conditions of further trials, with a number of workers or None if that is unknown."""
        return cls(
            workers=workers,
            unit_seconds=measured.unit_seconds,
            unit_trials=measured.trials,
            spread=measured.spread,
            spread_trials=measured.trials,
            costs=Costs(start=measured.start, restore=measured.restore, save=measured.save),
            launch=measured.launch,
        )


ANY_CONDITIONS = Conditions()
"""No condition is known."""


def simulate(
    settings: SearchSettings,
    *,
    number: int,
    conditions: Conditions = ANY_CONDITIONS,
    witness: Witness | None = None,
) -> Course:
    """Return the course of one simulated search, which is always the same for the same arguments.

    Args:
        settings: settings of the search.
        number: number of the simulation, which determines its random draws.  Simulations of other settings with the
            same number have the same draws.
        conditions: known conditions.  An unknown number of workers is drawn log-uniformly from 1 to
            max_concurrent_trials, or to max_trials if there is no limit.
        witness: observer of the checkpoints of the simulated trials, or None.
    """
    search = Tournament(settings, number)
    training = draw_training(settings, conditions, number)
    bound = search.plan.max_concurrent_trials or settings.max_trials
    workers = conditions.workers or int((bound + 1) ** unit_draw(_SEED, number, "workers"))
    course = play(search, training, workers, costs=conditions.costs, seed=number, witness=witness)
    launch = conditions.launch * _LAUNCH_ERROR ** normal_draw(_SEED, number, "launch") if conditions.launch else 0.0
    return _later(course, launch) if launch else course


def _later(course: Course, seconds: float) -> Course:
    """Return a course delayed by some seconds at its start in which no worker trains."""
    return replace(
        course,
        seconds=course.seconds + seconds,
        first_end=None if course.first_end is None else course.first_end + seconds,
        full_until=course.full_until + seconds,
        last_full=course.last_full + seconds,
    )


def draw_training(settings: SearchSettings, conditions: Conditions, number: int) -> Exchangeable:
    """Return simulated training with the unknown conditions that simulation ``number`` draws."""
    sigma = _draw_sigma(conditions, number)
    unit = conditions.unit_seconds
    if conditions.unit_trials is not None:
        unit *= exp(sigma * normal_draw(_SEED, number, "unit") / sqrt(conditions.unit_trials))
    return Exchangeable(
        unit_seconds=unit,
        spread=exp(sigma),
        # The correlation between the metrics of a trial at two rungs is 1 - noise**2.  It can have any value from 0
        # to 1, but is strong far more often than weak, as in real learning curves.
        noise=unit_draw(_SEED, number, "noise") ** 2,
        learning=_MOST_LEARNING * unit_draw(_SEED, number, "learning") if settings.sampler is Sampler.DENSITY else 0.0,
    )


def _draw_sigma(conditions: Conditions, number: int) -> float:
    """Return the standard deviation of the logarithms of the paces of trials."""
    if conditions.spread is None:
        return log(_WIDEST_SPREAD) * unit_draw(_SEED, number, "spread")
    sigma, trials = min(_MOST_SIGMA, log_spread(conditions.spread)), conditions.spread_trials
    if trials is None:
        return sigma
    # The variance of a normal sample has a chi-square distribution (here in the approximation of Wilson and Hilferty).
    freedom = max(1, trials - 1)
    draw = 1 - 2 / (9 * freedom) + normal_draw(_SEED, number, "sigma") * sqrt(2 / (9 * freedom))
    return min(_MOST_SIGMA, float(sigma / max(draw, _LEAST_CHI) ** 1.5))


def affordable(trials: int, *, step: int, budget: int) -> int:
    """Return the number of searches to simulate for a range, within a budget of simulated trials.

    Args:
        trials: number of trials of each search.
        step: one in ``step`` simulations should be below the range, and one above.
        budget: number of trials of all simulations; the result may be above it if one range needs more.

    With ``step * k - 1`` simulations, one more search falls between the k-th from below and the k-th from above with
    a probability of ``1 - 2 / step``, whatever the distribution.
    """
    return step * min(_MOST_STEPS, max(1, budget // (step * max(1, trials)))) - 1
