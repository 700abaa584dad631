"""What is known of training before it runs, and searches simulated under it.

How a search goes depends on what nobody knows beforehand: in which order trials finish,
how much their paces differ, how well an early metric foretells a late one.  So each
simulation draws what isn't given.  Metrics are exchangeable: no trial is favoured by when
it was created.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import exp, log, sqrt

from ashwood.search.draw import unit_draw
from ashwood.search.settings import Sampler, SearchSettings
from ashwood.search.tournament import Tournament
from ashwood.simulation.costs import NO_COSTS, Costs, normal_draw
from ashwood.simulation.play import Course, Witness, play
from ashwood.simulation.training import Exchangeable, log_spread

_SEED = 0
_WIDEST_SPREAD = 2.0
_MOST_LEARNING = 6.0
_LAUNCH_ERROR = 1.2
"""By what factor the time that workers take to launch changes from run to run, more or less."""
_MOST_STEPS = 10
_LEAST_CHI = 0.3
_MOST_SIGMA = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What is known of how trials will train.

    Attributes:
        workers: how many there are; None: each simulation draws a number.
        unit_seconds: what one unit of length takes, on average over trials.
        unit_trials: from how many trials that is known; None: it is certain.
        spread: two thirds of the trials take between 1/spread and spread times as long as the median; None: each
            simulation draws one.
        spread_trials: from how many trials that is known; None: it is certain.
        costs: what else takes time.
        launch: seconds until the workers begin to train, once.
    """

    workers: int | None = None
    unit_seconds: float = 1.0
    unit_trials: int | None = None
    spread: float | None = None
    spread_trials: int | None = None
    costs: Costs = NO_COSTS
    launch: float = 0.0


ANY_CONDITIONS = Conditions()
"""Nothing is known."""


def simulate(
    settings: SearchSettings,
    *,
    number: int,
    conditions: Conditions = ANY_CONDITIONS,
    witness: Witness | None = None,
) -> Course:
    """Play simulation ``number`` through: the same course every time.

    Args:
        settings: of the search.
        number: which simulation; each has its own draws, and the same ones in searches with other settings.
        conditions: what is known.  An unknown number of workers is drawn log-uniformly from 1 to
            max_concurrent_trials, to max_trials where that is unbounded.
        witness: is told of checkpoints.
    """
    search = Tournament(settings)
    training = draw_training(settings, conditions, number)
    bound = search.plan.max_concurrent_trials or settings.max_trials
    workers = conditions.workers or int((bound + 1) ** unit_draw(_SEED, number, "workers"))
    course = play(search, training, workers, costs=conditions.costs, seed=number, witness=witness)
    launch = conditions.launch * _LAUNCH_ERROR ** normal_draw(_SEED, number, "launch") if conditions.launch else 0.0
    return _later(course, launch) if launch else course


def _later(course: Course, seconds: float) -> Course:
    """The same, after some time in which nothing happened."""
    return replace(
        course,
        seconds=course.seconds + seconds,
        first_end=None if course.first_end is None else course.first_end + seconds,
        full_until=course.full_until + seconds,
        last_full=course.last_full + seconds,
    )


def draw_training(settings: SearchSettings, conditions: Conditions, number: int) -> Exchangeable:
    """Training as it may be: simulation ``number``'s draw of what isn't known."""
    sigma = _draw_sigma(conditions, number)
    unit = conditions.unit_seconds
    if conditions.unit_trials is not None:
        unit *= exp(sigma * normal_draw(_SEED, number, "unit") / sqrt(conditions.unit_trials))
    return Exchangeable(
        unit_seconds=unit,
        spread=exp(sigma),
        # The correlation between a trial's metrics at two rungs is 1 - noise**2: spread from none to all,
        # but far more often strong than weak, as it is along learning curves.
        noise=unit_draw(_SEED, number, "noise") ** 2,
        learning=_MOST_LEARNING * unit_draw(_SEED, number, "learning") if settings.sampler is Sampler.DENSITY else 0.0,
    )


def _draw_sigma(conditions: Conditions, number: int) -> float:
    """Standard deviation of the logarithm of the trials' paces."""
    if conditions.spread is None:
        return log(_WIDEST_SPREAD) * unit_draw(_SEED, number, "spread")
    sigma, trials = min(_MOST_SIGMA, log_spread(conditions.spread)), conditions.spread_trials
    if trials is None:
        return sigma
    # That of a sample of normal variables varies as chi-square does (by Wilson and Hilferty's approximation).
    freedom = max(1, trials - 1)
    draw = 1 - 2 / (9 * freedom) + normal_draw(_SEED, number, "sigma") * sqrt(2 / (9 * freedom))
    return min(_MOST_SIGMA, float(sigma / max(draw, _LEAST_CHI) ** 1.5))


def affordable(trials: int, *, step: int, budget: int) -> int:
    """How many searches of so many trials to simulate for an honest range, within a budget of simulated trials.

    With ``step * k - 1`` simulations, one more search falls between the k-th from below and the k-th from above with
    a probability of ``1 - 2 / step``, whatever the distribution.
    """
    return step * min(_MOST_STEPS, max(1, budget // (step * max(1, trials)))) - 1
