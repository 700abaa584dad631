"""What the command line says of how trials will train, and of what workers and checkpoints cost."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ashwood.backends.local.slots import plan, survey
from ashwood.cli import quantities, text
from ashwood.cli.output import format_length, format_moment
from ashwood.cli.quantities import Options
from ashwood.errors import ConfigError, Problem
from ashwood.experiment.spec import ExperimentSpec, Unit
from ashwood.search.plan import plan_search
from ashwood.views.outlook import Prices
from ashwood.views.simulation import Conditions

if TYPE_CHECKING:
    from ashwood.engine.measure import Findings

_MOMENT = 0.0005


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """Options of the command line, as they were written; None: not given.

    Attributes:
        workers: how many trials can train at once.
        unit_time: what one unit of length takes on average.
        unit_time_spread: the factor within which two thirds of the trials differ from the median.
        start_time: what it takes to start a trial.
        save_time: what it takes to save a checkpoint.
        cost_per_worker_hour: money for an hour of a worker.
        checkpoint_size: the size of a checkpoint.
        like: an experiment whose log tells what training takes.
        measure: train a few short trials to learn it.
        share: whether these use GPUs that other drivers have reserved.
        home: where that experiment lives.
    """

    workers: int | None = None
    unit_time: str | None = None
    unit_time_spread: str | None = None
    start_time: str | None = None
    save_time: str | None = None
    cost_per_worker_hour: str | None = None
    checkpoint_size: str | None = None
    like: int | None = None
    measure: bool = False
    share: bool = False
    home: str | None = None

    @property
    def tells_unit_time(self) -> bool:
        """Whether it will be known what a unit of training takes."""
        return self.unit_time is not None or self.like is not None or self.measure


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """Options that were read; None: not given."""

    workers: int | None
    unit_seconds: float | None
    spread: float | None
    start: float | None
    save: float | None
    prices: Prices


def read_given(known: Known, options: Options) -> Given:
    """Read the options; what is wrong with them is gathered."""
    if known.measure and known.like is not None:
        options.wrong("--measure", "and --like both tell what training takes: keep one of them")
    return Given(
        workers=known.workers,
        unit_seconds=options.read("--unit-time", known.unit_time, quantities.duration),
        spread=options.read("--unit-time-spread", known.unit_time_spread, quantities.factor),
        start=options.read("--start-time", known.start_time, quantities.duration_or_none),
        save=options.read("--save-time", known.save_time, quantities.duration_or_none),
        prices=Prices(
            worker_hour=options.read("--cost-per-worker-hour", known.cost_per_worker_hour, quantities.money),
            checkpoint_bytes=options.read("--checkpoint-size", known.checkpoint_size, quantities.size),
        ),
    )


def find_out(known: Known, unit: Unit, spec: ExperimentSpec | None, *, say: bool) -> Findings | None:
    """Measure what training takes, or look it up, where that is wanted.

    Args:
        known: says what is wanted.
        unit: what lengths count.
        spec: the experiment; None: it has no training code yet.
        say: whether to print what was found.

    Raises:
        AshwoodError: it can't be measured, or the other experiment counts in another unit.
    """
    if not known.measure and known.like is None:
        return None
    # Only who asks for it waits for the engine.
    from ashwood.cli import findings

    found = findings.find_out(known, unit, spec)
    if say:
        text.say(f"{findings.describe_findings(known, found, unit)}\n")
    return found


def conditions_of(given: Given, findings: Findings | None, spec: ExperimentSpec | None) -> Conditions:
    """How trials will train: as was given, otherwise as was measured."""
    workers = given.workers if given.workers is not None or spec is None else workers_here(spec)
    found = Conditions(workers=workers) if findings is None else findings.measured.conditions(workers)
    costs = found.costs
    costs = replace(
        costs,
        start=costs.start if given.start is None else given.start,
        restore=costs.restore if given.start is None else 0.0,
        save=costs.save if given.save is None else given.save,
    )
    found = replace(found, costs=costs)
    if given.spread is not None:
        found = replace(found, spread=given.spread, spread_trials=None)
    if given.unit_seconds is None:
        return found
    return replace(found, unit_seconds=given.unit_seconds + _saving(spec, costs.save), unit_trials=None)


def _saving(spec: ExperimentSpec | None, save: float) -> float:
    """What the periodic checkpoints of a running trial take, a unit of length."""
    period = None if spec is None else spec.min_checkpoint_period
    return save / period.count if spec is not None and period is not None and period.unit is spec.unit else 0.0


def prices_of(given: Given, findings: Findings | None) -> Prices:
    """What workers and checkpoints cost: as was given, otherwise as was measured."""
    if given.prices.checkpoint_bytes is not None or findings is None:
        return given.prices
    return replace(given.prices, checkpoint_bytes=findings.checkpoint_bytes)


def needs_unit_time(known: Known) -> list[str]:
    """The options that mean nothing while it is unknown what a unit of training takes."""
    given = {
        "--unit-time-spread": known.unit_time_spread,
        "--start-time": known.start_time,
        "--save-time": known.save_time,
        "--cost-per-worker-hour": known.cost_per_worker_hour,
        "--checkpoint-size": known.checkpoint_size,
    }
    return [option for option, text in given.items() if text is not None]


def workers_here(spec: ExperimentSpec) -> int:
    """How many workers `ashwood run` would use on this machine, or at most on a Ray cluster.

    Raises:
        BackendError: not even one trial fits.
        ConfigError: it would use as many as the cluster will have, which nobody knows here.
    """
    if spec.ray is not None:
        search = plan_search(spec.search)
        if not search.max_concurrent_trials:
            message = "is missing: how many workers the Ray cluster will have isn't known here, e.g. --workers 32"
            raise ConfigError([Problem("", message, "--workers")])
        return min(search.max_concurrent_trials, sum(bracket.trials for bracket in search.brackets))
    environment = dict(os.environ)
    return len(plan(spec, survey(environment | dict(spec.environment)), None, environment))


def describe_conditions(conditions: Conditions, unit: str) -> str:
    """What was assumed of training, in words."""
    match conditions.spread:
        case None:
            spread = "trials of different pace, nobody knows how different (simulated: up to a factor of 2)"
        case 1.0:
            spread = "all trials alike"
        case factor:
            spread = f"two thirds of the trials within a factor of {factor:.2g} of the median"
    parts = [f"{format_moment(conditions.unit_seconds)} for {format_length(1, unit)} on average", spread]
    costs = conditions.costs
    for what, seconds in (("start-up", costs.start), ("resuming", costs.restore), ("saving", costs.save)):
        if seconds >= _MOMENT:
            parts.append(f"{format_moment(seconds)} for {what}")
    return ", ".join(parts)
