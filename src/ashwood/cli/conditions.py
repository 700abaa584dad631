"""What the command line says of how trials will train, and of what workers and checkpoints cost."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from ashwood.backends.local.slots import plan, survey
from ashwood.cli import quantities
from ashwood.cli.output import format_duration, format_length
from ashwood.cli.quantities import Options
from ashwood.experiment.spec import ExperimentSpec
from ashwood.views.outlook import Prices
from ashwood.views.simulation import ANY_CONDITIONS, Conditions


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
    """

    workers: int | None = None
    unit_time: str | None = None
    unit_time_spread: str | None = None
    start_time: str | None = None
    save_time: str | None = None
    cost_per_worker_hour: str | None = None
    checkpoint_size: str | None = None


def read_conditions(known: Known, options: Options, before: Conditions | None = None) -> Conditions:
    """How trials will train: what was measured ``before``, where no option says otherwise."""
    base = before or ANY_CONDITIONS
    unit = options.read("--unit-time", known.unit_time, quantities.duration)
    spread = options.read("--unit-time-spread", known.unit_time_spread, quantities.factor)
    start = options.read("--start-time", known.start_time, quantities.duration_or_none)
    save = options.read("--save-time", known.save_time, quantities.duration_or_none)
    costs = replace(
        base.costs,
        start=base.costs.start if start is None else start,
        save=base.costs.save if save is None else save,
    )
    found = replace(base, workers=known.workers, costs=costs, spread=base.spread if spread is None else spread)
    return found if unit is None else replace(found, unit_seconds=unit, unit_error=1.0)


def read_prices(known: Known, options: Options) -> Prices:
    """What workers and checkpoints cost."""
    return Prices(
        worker_hour=options.read("--cost-per-worker-hour", known.cost_per_worker_hour, quantities.money),
        checkpoint_bytes=options.read("--checkpoint-size", known.checkpoint_size, quantities.size),
    )


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
    """How many workers `ashwood run` would use on this machine.

    Raises:
        BackendError: not even one trial fits.
    """
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
    parts = [f"{format_duration(conditions.unit_seconds)} for {format_length(1, unit)} on average", spread]
    costs = conditions.costs
    for what, seconds in (("start-up", costs.start), ("resuming", costs.restore), ("saving", costs.save)):
        if seconds:
            parts.append(f"{format_duration(seconds)} for {what}")
    return ", ".join(parts)
