"""Training times, workers and costs, for ``preview`` and ``plan``: from options, measured, or from a log."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ashwood.api.slots import slots_here
from ashwood.cli import quantities
from ashwood.cli.options import PreviewOptions, TrainingOptions
from ashwood.cli.quantities import OptionParser
from ashwood.errors import AshwoodError, ConfigError, Problem
from ashwood.eventlog.home import open_home
from ashwood.experiment.sizes import format_size
from ashwood.experiment.spec import ExperimentSpec, Unit
from ashwood.forecast.conditions import Conditions
from ashwood.forecast.searches import Prices
from ashwood.search.plan import plan_search
from ashwood.terminal import text
from ashwood.terminal.output import format_moment
from ashwood.views.wording import format_length

if TYPE_CHECKING:
    from ashwood.engine.measure import Findings

_MOMENT = 0.0005


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedOptions:
    """Parsed options; times are in seconds, and each is None if it was not given."""

    workers: int | None
    unit_seconds: float | None
    spread: float | None
    start: float | None
    save: float | None
    prices: Prices


def parse_options(options: TrainingOptions, parser: OptionParser) -> ParsedOptions:
    """Parse the options; ``parser`` collects their problems."""
    if options.measure and options.like is not None:
        parser.wrong("--measure", "and --like both supply the training times: remove one of them")
    size = options.checkpoint_size if isinstance(options, PreviewOptions) else None
    return ParsedOptions(
        workers=options.workers,
        unit_seconds=parser.read("--unit-time", options.unit_time, quantities.duration),
        spread=parser.read("--unit-time-spread", options.unit_time_spread, quantities.factor),
        start=parser.read("--start-time", options.start_time, quantities.duration_or_none),
        save=parser.read("--save-time", options.save_time, quantities.duration_or_none),
        prices=Prices(
            worker_hour=parser.read("--cost-per-worker-hour", options.cost_per_worker_hour, quantities.money),
            checkpoint_bytes=parser.read("--checkpoint-size", size, quantities.size),
        ),
    )


def measure_or_recall(
    options: TrainingOptions, unit: Unit, spec: ExperimentSpec | None, *, say: bool
) -> Findings | None:
    """Return measured or recorded training times, or None if neither --measure nor --like is given.

    Args:
        options: the options.
        unit: unit of lengths.
        spec: the experiment, or None if there is no training code yet.
        say: whether to print the findings.

    Raises:
        AshwoodError: the times cannot be measured, or the other experiment has another unit.
    """
    if not options.measure and options.like is None:
        return None
    # Imported here, because the engine is slow to import and other previews don't need it.
    from ashwood.engine.measure import measure, recall

    if options.like is not None:
        with open_home(options.home) as home:
            if (other := home.store.spec(options.like).unit) is not unit:
                raise AshwoodError(
                    f"--like {options.like}: lengths of that experiment are in {other} and here in {unit}, so its "
                    "times do not apply: use --unit-time instead"
                )
            found = recall(home, options.like)
    elif spec is not None:
        found = measure(spec, workers=options.workers, share=options.share, warn=text.warn)
    else:
        raise AshwoodError("there is no training code to measure")
    if say:
        text.say(f"{_describe_findings(options, found, unit)}\n")
    return found


def _describe_findings(options: TrainingOptions, findings: Findings, unit: Unit) -> str:
    """Return the findings in words."""
    source = "Measured" if options.like is None else f"In experiment {options.like}"
    measured = findings.measured
    spread = "" if measured.spread is None else f", two thirds of them within a factor of {measured.spread:.2f}"
    weight = findings.checkpoint_bytes
    size = "" if weight is None else f", {format_size(round(weight))} per checkpoint"
    return (
        f"{source}: {format_length(measured.trials, 'trials')} took {format_moment(measured.unit_seconds)} for "
        f"{format_length(1, unit)} on average (which may be off by a factor of {measured.unit_error:.2f}){spread}; "
        f"{format_moment(measured.launch)} to launch workers, {format_moment(measured.start)} to start a trial, "
        f"{format_moment(measured.restore)} more to resume one, {format_moment(measured.save)} to save{size}."
    )


def conditions_of(parsed: ParsedOptions, findings: Findings | None, spec: ExperimentSpec | None) -> Conditions:
    """Return the conditions of training: from the options or, if an option is not given, from the findings."""
    workers = parsed.workers if parsed.workers is not None or spec is None else workers_here(spec)
    found = Conditions(workers=workers) if findings is None else Conditions.from_measured(findings.measured, workers)
    costs = found.costs
    costs = replace(
        costs,
        start=costs.start if parsed.start is None else parsed.start,
        restore=costs.restore if parsed.start is None else 0.0,
        save=costs.save if parsed.save is None else parsed.save,
    )
    found = replace(found, costs=costs)
    if parsed.spread is not None:
        found = replace(found, spread=parsed.spread, spread_trials=None)
    if parsed.unit_seconds is None:
        return found
    return replace(found, unit_seconds=parsed.unit_seconds + _saving(spec, costs.save), unit_trials=None)


def _saving(spec: ExperimentSpec | None, save: float) -> float:
    """Return the seconds per unit of length for the periodic checkpoints of a running trial."""
    period = None if spec is None else spec.min_checkpoint_period
    return save / period.count if spec is not None and period is not None and period.unit is spec.unit else 0.0


def prices_of(parsed: ParsedOptions, findings: Findings | None) -> Prices:
    """Return the prices from the options; the checkpoint size is that of the findings if it is not given."""
    if parsed.prices.checkpoint_bytes is not None or findings is None:
        return parsed.prices
    return replace(parsed.prices, checkpoint_bytes=findings.checkpoint_bytes)


def needs_unit_time(options: PreviewOptions) -> list[str]:
    """Return the given options that have no effect without a time per unit of training."""
    given = {
        "--unit-time-spread": options.unit_time_spread,
        "--start-time": options.start_time,
        "--save-time": options.save_time,
        "--cost-per-worker-hour": options.cost_per_worker_hour,
    }
    return [option for option, text in given.items() if text is not None]


def workers_here(spec: ExperimentSpec) -> int:
    """Return the number of workers that `ashwood run` would use, at most, on this machine or on a Ray cluster.

    Raises:
        BackendError: no trial fits this machine.
        ConfigError: the run would use all workers of a cluster, whose number is unknown here.
    """
    if spec.ray is not None:
        search = plan_search(spec.search)
        if not search.max_concurrent_trials:
            message = "is missing: the number of workers of the Ray cluster is not known here, e.g. --workers 32"
            raise ConfigError([Problem("", message, "--workers")])
        return min(search.max_concurrent_trials, sum(bracket.trials for bracket in search.brackets))
    return slots_here(spec)


def describe_conditions(conditions: Conditions, unit: str) -> str:
    """Return the assumed conditions of training in words."""
    match conditions.spread:
        case None:
            spread = "pace varies by an unknown factor (simulated: up to 2)"
        case 1.0:
            spread = "all trials at the same pace"
        case factor:
            spread = f"two thirds of the trials within a factor of {factor:.2g} of the median"
    parts = [f"{format_moment(conditions.unit_seconds)} for {format_length(1, unit)} on average", spread]
    costs = conditions.costs
    for what, seconds in (("start-up", costs.start), ("resuming", costs.restore), ("saving", costs.save)):
        if seconds >= _MOMENT:
            parts.append(f"{format_moment(seconds)} for {what}")
    return ", ".join(parts)
