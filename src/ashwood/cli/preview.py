"""``ashwood preview``: what a search will do, and its time and cost, before it runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from rich.markup import escape

from ashwood.cli.forecast import forecast_lines, print_forecasts
from ashwood.cli.options import PreviewOptions
from ashwood.cli.quantities import OptionParser, currency
from ashwood.cli.training_times import (
    conditions_of,
    describe_conditions,
    measure_or_recall,
    needs_unit_time,
    parse_options,
    prices_of,
)
from ashwood.config import read_experiment
from ashwood.engine.past import with_past_trials
from ashwood.errors import ConfigError, NotFound, Problem
from ashwood.eventlog.home import open_home
from ashwood.experiment.sizes import format_size
from ashwood.experiment.spec import ExperimentSpec, Unit
from ashwood.forecast.conditions import Conditions
from ashwood.forecast.preview import Estimate, Preview, preview
from ashwood.forecast.searches import Range, StorageForecast, forecast_storage
from ashwood.search.settings import Method, SearchSettings
from ashwood.terminal.messages import LONGEST_NAME
from ashwood.terminal.output import make_console, print_json, print_table
from ashwood.terminal.text import brief, say, warn
from ashwood.views.descriptions import describe_guides
from ashwood.views.plain import plain
from ashwood.views.wording import format_length, up_to

_LONG_SIMULATION = 200_000
"""Number of trials from which on a preview announces that it takes long."""


def preview_file(file: Path, options: PreviewOptions, *, overrides: Sequence[str], json: bool) -> None:
    """Print the preview of a file's search, with time and cost if the options give the time of a unit of training."""
    parser = OptionParser()
    parsed = parse_options(options, parser)
    if not options.has_unit_time:
        for option in needs_unit_time(options):
            parser.wrong(
                option,
                "has no effect without the time of one unit of training: add --unit-time 40s, --like ID or --measure",
            )
    parser.check()
    loaded = read_experiment(file, overrides=overrides, search_only=not options.measure)
    spec = _with_past_trials(loaded.spec, options.home) if loaded.spec.warm_start else loaded.spec
    if spec.search.open_ended and (options.measure or options.like is not None):
        option = "--measure" if options.measure else "--like"
        why = "the training code decides how long a trial trains: give the time of a whole trial with --unit-time"
        raise ConfigError([Problem("", f"has no effect without searcher.max_length, because {why}", option)])
    for warning in () if json else loaded.warnings:
        warn(warning)
    if spec.search.max_trials >= _LONG_SIMULATION and not json:
        say(f"simulating {_count(spec.search.max_trials, 'trial')}, which can take minutes", err=True)
    findings = measure_or_recall(options, spec.unit, spec, say=not json)
    if options.has_unit_time:
        conditions = conditions_of(parsed, findings, spec)
        prices = replace(prices_of(parsed, findings), policy=spec.checkpoint_policy, max_size=spec.max_size)
        shown = preview(spec.search, conditions=conditions, prices=prices)
    else:
        conditions = Conditions(workers=parsed.workers)
        prices = replace(parsed.prices, policy=spec.checkpoint_policy, max_size=spec.max_size)
        shown = preview(spec.search, conditions=conditions)
    if not spec.search.open_ended and (spec.max_size is not None or prices.checkpoint_bytes is not None):
        kept = None if shown.forecast is None else shown.forecast.checkpoints
        shown = replace(shown, storage=forecast_storage(spec.search, conditions, prices, kept))
    unit = "trials" if spec.search.open_ended else spec.unit
    if json:
        assumed = {} if shown.forecast is None else {"conditions": plain(conditions), "findings": plain(findings)}
        guides = {
            "start_with": len(spec.start_with),
            "warm_start": {past.source: len(past.good) + len(past.others) for past in spec.warm_start},
        }
        print_json({"name": spec.name, "unit": unit, **guides, **shown.to_json(), **assumed})
        return
    _print(shown, spec, conditions, options)


def _with_past_trials(spec: ExperimentSpec, home: str | None) -> ExperimentSpec:
    try:
        with open_home(home) as opened:
            return with_past_trials(opened, spec)
    except NotFound:
        return with_past_trials(None, spec)


def _print(shown: Preview, spec: ExperimentSpec, conditions: Conditions, options: PreviewOptions) -> None:
    console = make_console()
    console.print(f"[bold]{escape(brief(spec.name, LONGEST_NAME))}[/bold]: {escape(_headline(spec))}")
    for line in _settings(spec, shown):
        say(f"  {line}", wrap=True)
    if spec.search.open_ended:
        console.print("  The training code decides how long each trial trains: a trial ends when its code returns.")
    else:
        _print_rungs(shown, spec)
    if shown.forecast is not None:
        _print_forecast(shown, spec, conditions, options)
    if shown.storage is not None:
        for line in _storage(shown.storage, spec.unit):
            make_console().print(line, markup=False)


def _print_rungs(shown: Preview, spec: ExperimentSpec) -> None:
    console = make_console()
    console.print()
    print_table(
        ("bracket", f"rungs ({spec.unit})", "trials", "share of slots"),
        [(b.number, " → ".join(map(str, b.lengths)), b.trials, b.share) for b in shown.brackets],
        right=("bracket", "trials", "share of slots"),
    )
    if shown.dropped:
        rungs = ", ".join(map(str, shown.dropped))
        console.print(f"Brackets of {rungs} rungs are left out, because max_trials is too small for them.")
    console.print()
    console.print("Trials at each length:")
    _print_lengths(shown, spec.unit)
    console.print()
    for line in _totals(shown, spec.unit):
        console.print(line, markup=False)
    if (period := spec.min_validation_period) is not None and len(shown.lengths) > 1:
        console.print(
            f"If a trial reports no {brief(spec.metric, LONGEST_NAME)} at a rung, it trains until its next report, "
            f"at most {format_length(period.count, period.unit)} longer and never past "
            f"{format_length(spec.search.max_length, spec.unit)}.",
            markup=False,
        )


def _print_forecast(shown: Preview, spec: ExperimentSpec, conditions: Conditions, options: PreviewOptions) -> None:
    if shown.forecast is not None:
        here = f" ({_whose_workers(spec)}; change it with --workers)" if options.workers is None else ""
        say()
        workers = _count(conditions.workers or 0, "worker")
        unit = "trials" if spec.search.open_ended else spec.unit
        say(f"On {workers}{here}, with {describe_conditions(conditions, unit)}:", wrap=True)
        say()
        print_forecasts(shown.forecast, shown.beside, currency(options.cost_per_worker_hour))
        say()
        for line in forecast_lines(shown, spec):
            say(line, wrap=True)


def _storage(storage: StorageForecast, unit: Unit) -> Iterator[str]:
    """Yield sentences about the disk space of checkpoints, with and without max_size."""
    yield f"Without max_size, {_at_once(storage.checkpoints, storage.bytes)}."
    if storage.max_size is None:
        return
    limit = f"max_size ({format_size(storage.max_size)})"
    if storage.limited is None or storage.repeated is None:
        yield f"To see the effect of {limit}, add the size of a checkpoint: --checkpoint-size 300MB"
        return
    repeated = storage.repeated
    yield (
        f"With {limit}, {_at_once(storage.limited, storage.limited_bytes)}; {_number(repeated.middle)} {unit} "
        f"({_number(repeated.low)}–{_number(repeated.high)}) of training are repeated."
    )


def _at_once(checkpoints: Range, size: Range | None) -> str:
    taken = "" if size is None else f", {format_size(round(size.middle))}"
    return f"at most {_count(round(checkpoints.middle), 'checkpoint')} at once{taken}"


def _whose_workers(spec: ExperimentSpec) -> str:
    if spec.ray is None:
        return "as many as fit this machine"
    return "as many as can train at once, if the Ray cluster has enough slots"


def _headline(spec: ExperimentSpec) -> str:
    better = "smaller" if spec.smaller_is_better else "larger"
    return f"{spec.search.method} on {brief(spec.metric, LONGEST_NAME)} ({better} is better)"


def _settings(spec: ExperimentSpec, shown: Preview) -> Iterator[str]:
    search = spec.search
    at_once = f"{shown.max_concurrent_trials} at once" if shown.max_concurrent_trials else "as many at once as fit"
    yield f"{_count(shown.total_trials, 'trial')}, each {up_to(search.max_length, spec.unit)}, {at_once}"
    if search.method in (Method.ADAPTIVE_ASHA, Method.ASYNC_HALVING, Method.SYNC_HALVING):
        yield ", ".join(_halving(search))
    yield from describe_guides(spec)
    if shown.max_concurrent_trials > search.max_concurrent_trials > 0:
        yield f"max_concurrent_trials {search.max_concurrent_trials} is raised: every bracket needs one"


def _halving(search: SearchSettings) -> Iterator[str]:
    if search.method is Method.ADAPTIVE_ASHA and not search.bracket_rungs:
        yield f"mode {search.mode}"
        yield f"max_rungs {search.max_rungs}"
    elif search.bracket_rungs:
        yield f"bracket_rungs {list(search.bracket_rungs)}"
    yield f"divisor {float(search.divisor):g}"
    if search.method is not Method.SYNC_HALVING:
        yield "stop_once: stopped trials never resume" if search.stop_once else "trials pause and may be promoted later"
    if search.share_audited:
        yield f"audit {float(search.audit):g}"


def _print_lengths(shown: Preview, unit: Unit) -> None:
    if shown.exact:
        rows = [(row.length, _number(row.end.middle), _number(row.reach.middle)) for row in shown.lengths]
        columns = [f"length ({unit})", "stop here", "reach it"]
        print_table(columns, rows, right=columns)
        return
    ranges = [
        (
            row.length,
            _number(row.end.middle),
            _range(row.end),
            _number(row.reach.middle),
            _range(row.reach),
            _number(row.reach.least or 0),
        )
        for row in shown.lengths
    ]
    # Names of columns must differ, so the second range has a space more.
    columns = [f"length ({unit})", "stop here", "5–95 %", "reach it", "5–95 % ", "at least"]
    print_table(columns, ranges, right=columns)


def _totals(shown: Preview, unit: Unit) -> Iterator[str]:
    total, share, full = shown.total_length, shown.share, shown.full_length
    everything = f"of training all {_count(shown.total_trials, 'trial')} to full length"
    if shown.exact:
        yield f"Total training: {_number(total.middle)} {unit}, {share.middle:.0%} {everything}."
        yield f"{_count(round(full.middle), 'trial')} will reach {shown.settings.max_length} {unit}."
        yield from _replicates(shown, unit)
        yield "These numbers are exact, assuming no failures."
        return
    yield f"Total training: {_number(total.middle)} {unit} ({_range(total)}), {share.middle:.0%} {everything}."
    yield (
        f"{_count(round(full.middle), 'trial')} ({_range(full)}) will reach {shown.settings.max_length} {unit}, "
        f"at least {_number(full.least or 0)}."
    )
    if (audits := shown.audits) is not None:
        training, part = audits.length, audits.length.middle / total.middle
        yield (
            f"Expected audits: {_number(audits.promotions.middle)} ({_range(audits.promotions)}). Each promotes a "
            f"trial that is drawn at random; together they train {_number(training.middle)} {unit} "
            f"({_range(training)}), {part:.1%} of the total."
        )
    yield from _replicates(shown, unit)
    workers = "any number of workers" if shown.workers is None else _count(shown.workers, "worker")
    why = (
        "a trial is compared with those that reported before it"
        if shown.settings.stop_once
        else "ASHA promotes the first trials while a rung is still small"
    )
    simulated = f"Median and 5–95 % range of {shown.simulations} simulated searches"
    if shown.simulations == 1:
        simulated = "Numbers of one simulated search, because with this many trials the range is narrow"
    yield (
        f"{simulated} on {workers}, assuming no failures. They vary, because {why}, so the order in which results "
        "arrive decides how many train long."
    )


def _replicates(shown: Preview, unit: Unit) -> Iterator[str]:
    if replicates := shown.settings.replicates:
        low, high = round(shown.replicates.low), round(shown.replicates.high)
        number = f"{low:,}" if low == high else f"{low:,}–{high:,}"
        longest = format_length(shown.settings.max_length, unit)
        why = "" if low == high == replicates else f", one for each of the best {replicates} that reach the end"
        yield f"Replicates: {number} {'training' if high == 1 else 'trainings'} to {longest}{why}."


def _number(value: float) -> str:
    return f"{value:,.0f}"


def _range(estimate: Estimate) -> str:
    return f"{_number(estimate.low)}–{_number(estimate.high)}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
