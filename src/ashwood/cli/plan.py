"""``ashwood plan``: a search that fits a budget, as an experiment file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from math import inf
from pathlib import Path

from ashwood.cli import quantities
from ashwood.cli.forecast import forecast_legend, name_of, print_forecasts
from ashwood.cli.init import EXPERIMENT
from ashwood.cli.options import PlanOptions, TrainingOptions
from ashwood.cli.quantities import OptionParser
from ashwood.cli.training_times import (
    conditions_of,
    describe_conditions,
    measure_or_recall,
    parse_options,
    prices_of,
)
from ashwood.config import (
    parse_length,
    read_experiment,
    replace_searcher,
    searcher_of,
    section_text,
    with_search,
)
from ashwood.errors import AshwoodError
from ashwood.experiment.spec import ExperimentSpec, Length, Unit
from ashwood.forecast.conditions import Conditions
from ashwood.forecast.plan import MOST_TRIALS, Budget, Plan, TooTight, is_ample, make_plan
from ashwood.search.plan import plan_search
from ashwood.search.settings import Method, Mode, SearchSettings
from ashwood.terminal.output import make_console, print_json, writing
from ashwood.terminal.text import say
from ashwood.views.plain import plain
from ashwood.views.wording import format_duration, format_length

_HOUR = 3600.0
_MANY_IDLE = 0.7


@dataclass(frozen=True, slots=True)
class _Base:
    """The experiment before its search is fitted.

    Attributes:
        text: text of its file.
        search: its search.
        unit: unit of lengths.
        length: max_length that replaces that of the file, or None.
        spec: its spec, or None if there is no training code yet.
    """

    text: str
    search: SearchSettings
    unit: Unit
    length: Length | None
    spec: ExperimentSpec | None


def plan_search_for(options: TrainingOptions, plan_options: PlanOptions, *, json: bool) -> None:
    """Propose a search that fits the budget, print the reasons, and write its file if ``out`` is given.

    Raises:
        AshwoodError: no search fits, or the file cannot be written.
        ConfigError: options or the experiment file are wrong.
    """
    parser = OptionParser()
    parsed, budget = parse_options(options, parser), _read_budget(plan_options, parser)
    if not options.has_unit_time:
        parser.wrong(
            "--unit-time",
            "is missing: the time to train one unit of max_length, e.g. --unit-time 40s, or --like ID",
        )
    if options.workers is None:
        parser.wrong("--workers", "is missing: the number of trials that can train at once, e.g. --workers 8")
    if options.measure and plan_options.file is None:
        parser.wrong("--measure", "needs training code: add --file FILE with its experiment file")
    mode = parser.read("--mode", plan_options.mode, _mode)
    base = _read_base(plan_options, parser)
    parser.check()
    _check_out(plan_options)
    if base is None:
        raise AssertionError("parser.check() reports a missing --max-length")
    findings = measure_or_recall(options, base.unit, base.spec, say=not json)
    conditions = conditions_of(parsed, findings, base.spec)
    try:
        plan = make_plan(base.search, conditions, budget, prices_of(parsed, findings), mode=mode)
    except TooTight as error:
        raise AshwoodError(_too_tight(error, base, conditions, budget)) from None
    workers = conditions.workers or 0
    section = with_search(searcher_of(base.text), plan.proposal.settings, base.length)
    if plan_options.metric is not None:
        section["metric"] = plan_options.metric
    if plan_options.out is not None:
        with writing(plan_options.out):
            plan_options.out.write_text(replace_searcher(base.text, section), encoding="utf-8")
    if json:
        print_json(
            {
                **plain(plan),
                "rungs": plan.rungs,
                "unit": base.unit,
                "conditions": plain(conditions),
                "findings": plain(findings),
                "budget": plain(budget),
                "searcher": section,
                "reasons": [*_reasons(plan, workers, budget)],
            }
        )
        return
    _print(plan, base, conditions, budget, quantities.currency(options.cost_per_worker_hour))
    if plan_options.out is None:
        say("\nFor your experiment file (--out FILE writes a complete one):\n")
        say(section_text(section), nl=False)
        return
    say(f"\nWrote {plan_options.out}. Next: ashwood preview {plan_options.out}", wrap=True)
    if plan_options.file is None:
        say("Its entrypoint, metric and hyperparameters are examples: replace them first.", wrap=True)


# -- options ------------------------------------------------------------------------------------


def _read_budget(plan_options: PlanOptions, parser: OptionParser) -> Budget:
    if plan_options.deadline is None and plan_options.worker_hours is None:
        parser.wrong("--deadline", "is missing: the time limit of the search, e.g. --deadline 6h, or --worker-hours 40")
    return Budget(
        seconds=parser.read("--deadline", plan_options.deadline, quantities.duration),
        worker_hours=parser.read("--worker-hours", plan_options.worker_hours, quantities.amount),
    )


def _read_base(plan_options: PlanOptions, parser: OptionParser) -> _Base | None:
    length = parser.read("--max-length", plan_options.max_length, parse_length)
    divisor = parser.read("--divisor", plan_options.divisor, _divisor)
    if plan_options.file is not None:
        return _base_from(plan_options.file, length, divisor)
    if length is None:
        if plan_options.max_length is None:
            parser.wrong("--max-length", 'is missing: the length of the best trials, e.g. --max-length "27 epochs"')
        return None
    name = "experiment" if plan_options.out is None else plan_options.out.stem
    text = EXPERIMENT.format(name=name).replace("experiment.yaml", f"{name}.yaml")
    search = SearchSettings(
        method=Method.ADAPTIVE_ASHA, max_length=length.count, max_trials=1, divisor=divisor or Fraction(4)
    )
    return _Base(text, search, length.unit, length, None)


def _base_from(file: Path, length: Length | None, divisor: Fraction | None) -> _Base:
    spec = read_experiment(file).spec
    if spec.search.method in (Method.GRID, Method.SINGLE):
        raise AshwoodError(
            f"{file} describes a {spec.search.method} search, whose trials are fixed: there is nothing to plan. "
            "For adaptive_asha, give its hyperparameters as int, double, log or categorical, and set searcher.name"
        )
    if spec.search.open_ended and length is None:
        raise AshwoodError(
            f"{file} has no searcher.max_length, because its training code decides how long a trial trains, and a "
            'search that stops trials early needs a length: give --max-length, e.g. --max-length "27 epochs"'
        )
    search = replace(
        spec.search,
        max_length=spec.search.max_length if length is None else length.count,
        divisor=spec.search.divisor if divisor is None else divisor,
    )
    unit = spec.unit if length is None else length.unit
    return _Base(spec.config_text, search, unit, length, replace(spec, search=search, unit=unit))


def _divisor(text: str) -> Fraction:
    try:
        divisor = Fraction(text)
    except (ValueError, ZeroDivisionError):
        divisor = Fraction(0)
    if not Fraction(11, 10) <= divisor <= 1_000:
        raise ValueError(f"must be a number from 1.1 to 1000, such as 4, not {text!r}")
    return divisor


def _mode(text: str) -> Mode:
    try:
        return Mode(text.lower())
    except ValueError:
        raise ValueError(f"must be a mode, one of {', '.join(Mode)}, not {text!r}") from None


def _check_out(plan_options: PlanOptions) -> None:
    out = plan_options.out
    if out is not None and out.exists() and not (plan_options.file is not None and out.samefile(plan_options.file)):
        raise AshwoodError(f"{out} already exists; nothing was written. Choose another --out.")


# -- output -------------------------------------------------------------------------------------


def _too_tight(error: TooTight, base: _Base, conditions: Conditions, budget: Budget) -> str:
    workers = conditions.workers or 1
    length = format_length(base.search.max_length, base.unit)
    hours = error.seconds * workers / _HOUR
    bound = _bound(budget, workers)
    instead = [f"train at most about {format_length(error.most_length, base.unit)}"] if error.most_length else []
    if workers > 1 and bound.endswith("worker-hours"):
        instead.append("use fewer workers")
    return (
        f"no search fits {bound}: in nine of ten cases a single trial of {length} takes up to "
        f"{format_duration(error.seconds)}, or {hours:.2g} worker-hours with {format_length(workers, 'workers')}. "
        f"{', or '.join(['Allow at least that', *instead])}."
    )


def _bound(budget: Budget, workers: int) -> str:
    """Return the limit that is reached first, in words."""
    if budget.worker_hours is None or (budget.seconds or inf) <= budget.worker_hours * _HOUR / workers:
        return f"the deadline of {format_duration(budget.seconds)}"
    return f"{budget.worker_hours:g} worker-hours"


def _print(plan: Plan, base: _Base, conditions: Conditions, budget: Budget, currency: str) -> None:
    console = make_console()
    search = plan.proposal.settings
    console.print(
        f"[bold]{name_of(search)}[/bold], {format_length(search.max_trials, 'trials')} up to "
        f"{format_length(search.max_length, base.unit)}, divisor {float(search.divisor):g}"
    )
    for bracket in plan_search(search).brackets:
        console.print(
            f"  {' → '.join(map(str, bracket.lengths))} {base.unit}: {format_length(bracket.trials, 'trials')}"
        )
    workers = format_length(conditions.workers or 0, "workers")
    say()
    say(f"On {workers}, with {describe_conditions(conditions, base.unit)}:", wrap=True)
    say()
    print_forecasts(plan.proposal, plan.alternatives, currency)
    say()
    say(forecast_legend(plan.proposal, base.unit), wrap=True)
    for line in _reasons(plan, conditions.workers or 0, budget):
        say(line, wrap=True)


def _reasons(plan: Plan, workers: int, budget: Budget) -> Iterator[str]:
    proposal, search = plan.proposal, plan.proposal.settings
    if search.max_trials >= MOST_TRIALS:
        yield f"A plan proposes at most {MOST_TRIALS:,} trials, and there is time for them."
    else:
        yield (
            f"The limit is {_bound(budget, workers)}: nine in ten simulated searches with "
            f"{search.max_trials:,} trials end within {format_duration(proposal.seconds.high)}."
        )
    yield _why(search)
    for other in plan.alternatives:
        trials = format_length(other.trials, "trials")
        if other.settings.method is Method.RANDOM:
            yield f"random: {trials}, each to full length; better when early results predict nothing."
        else:
            yield f"{other.settings.mode}: {trials}; {_WHEN[other.settings.mode]}."
    if proposal.utilisation.middle < _MANY_IDLE:
        yield (
            f"The workers are busy {proposal.utilisation.middle:.0%} of the time, because only a few long trials train "
            "at the end. Fewer workers would take little longer."
        )


_WHEN: dict[Mode, str] = {
    Mode.AGGRESSIVE: "better when early results predict final results, because it judges every trial early",
    Mode.STANDARD: "a compromise",
    Mode.CONSERVATIVE: "better when early results mislead, because it trains some trials to full length unjudged",
    Mode.AUTO: "learns during the search which rungs to trust and where good trials are",
}
"""For each mode, when to choose it."""


def _why(search: SearchSettings) -> str:
    if search.mode is Mode.STANDARD:
        return "standard: it judges trials early, but one bracket judges later, in case early results mislead."
    if search.mode is Mode.AGGRESSIVE and not is_ample(replace(search, mode=Mode.STANDARD)):
        return (
            f"{search.mode}: only a few trials fit, and in standard mode hardly any would be compared at later rungs; "
            "this mode puts all of them into one bracket."
        )
    return f"{search.mode}: {_WHEN[search.mode]}."
