"""``ashwood plan``: a search that fits a budget, as an experiment file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from math import inf
from pathlib import Path

from ashwood.cli import quantities
from ashwood.cli.conditions import (
    Known,
    conditions_of,
    describe_conditions,
    find_out,
    prices_of,
    read_given,
)
from ashwood.cli.init import EXPERIMENT
from ashwood.cli.outlook import name_of, outlook_legend, outlook_table
from ashwood.cli.output import format_duration, format_length, make_console, print_json
from ashwood.cli.quantities import Options
from ashwood.cli.text import say
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
from ashwood.search.plan import plan_search
from ashwood.search.settings import Method, Mode, SearchSettings
from ashwood.views.plain import plain
from ashwood.views.plan import MOST_TRIALS, Budget, Plan, TooTight, is_ample, make_plan
from ashwood.views.simulation import Conditions

_HOUR = 3600.0
_MANY_IDLE = 0.7


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Options of the command line, as they were written; None: not given.

    Attributes:
        max_length: how long the best trials are to train.
        deadline: how long the search may take.
        worker_hours: how long all workers together may be kept.
        divisor: one trial in so many goes on from rung to rung.
        metric: the name of the metric.
        mode: which mode to propose.
        file: an experiment whose search is to be fitted.
        out: where to write the experiment file.
    """

    max_length: str | None
    deadline: str | None
    worker_hours: str | None
    divisor: str | None
    metric: str | None
    mode: str | None
    file: Path | None
    out: Path | None


@dataclass(frozen=True, slots=True)
class _Start:
    """The experiment before its search is fitted.

    Attributes:
        text: of its file.
        search: its search.
        unit: what lengths count.
        length: another max_length than the file's; None: the same.
        spec: the experiment; None: its training code is yet to come.
    """

    text: str
    search: SearchSettings
    unit: Unit
    length: Length | None
    spec: ExperimentSpec | None


def plan_search_for(known: Known, wanted: Wanted, *, json: bool) -> None:
    """Propose a search that fits, say why, and write it where that is wanted.

    Raises:
        AshwoodError: nothing fits, or the file can't be written.
        ConfigError: options or the file are wrong.
    """
    options = Options()
    given, budget = read_given(known, options), _read_budget(wanted, options)
    if not known.tells_unit_time:
        options.wrong(
            "--unit-time",
            "is missing: what one unit of max_length takes to train, e.g. --unit-time 40s; --like ID looks it up",
        )
    if known.workers is None:
        options.wrong("--workers", "is missing: how many trials can train at once, e.g. --workers 8")
    if known.measure and wanted.file is None:
        options.wrong("--measure", "needs training code: name its experiment file with --file FILE")
    mode = options.read("--mode", wanted.mode, _mode)
    start = _read_start(wanted, options)
    options.check()
    _check_out(wanted)
    if start is None:
        raise AssertionError("what is missing was reported")
    findings = find_out(known, start.unit, start.spec, say=not json)
    conditions = conditions_of(given, findings, start.spec)
    try:
        plan = make_plan(start.search, conditions, budget, prices_of(given, findings), mode=mode)
    except TooTight as error:
        raise AshwoodError(_too_tight(error, start, conditions, budget)) from None
    workers = conditions.workers or 0
    section = with_search(searcher_of(start.text), plan.proposal.settings, start.length)
    if wanted.metric is not None:
        section["metric"] = wanted.metric
    if wanted.out is not None:
        _write(wanted.out, replace_searcher(start.text, section))
    if json:
        print_json(
            {
                **plain(plan),
                "rungs": plan.rungs,
                "unit": start.unit,
                "conditions": plain(conditions),
                "findings": plain(findings),
                "budget": plain(budget),
                "searcher": section,
                "reasons": [*_reasons(plan, workers, budget)],
            }
        )
        return
    _print(plan, start, conditions, budget)
    if wanted.out is None:
        say("\nFor the experiment file (--out FILE writes a whole one):\n")
        say(section_text(section), nl=False)
        return
    say(f"\nWrote {wanted.out}. Next: ashwood preview-search {wanted.out}")
    if wanted.file is None:
        say("Its entrypoint, metric and hyperparameters stand for yours: change them first.")


# -- what is wanted -----------------------------------------------------------------------------


def _read_budget(wanted: Wanted, options: Options) -> Budget:
    if wanted.deadline is None and wanted.worker_hours is None:
        options.wrong(
            "--deadline", "is missing: how long the search may take, e.g. --deadline 6h, or --worker-hours 40"
        )
    return Budget(
        seconds=options.read("--deadline", wanted.deadline, quantities.duration),
        worker_hours=options.read("--worker-hours", wanted.worker_hours, quantities.amount),
    )


def _read_start(wanted: Wanted, options: Options) -> _Start | None:
    length = options.read("--max-length", wanted.max_length, parse_length)
    divisor = options.read("--divisor", wanted.divisor, _divisor)
    if wanted.file is not None:
        return _start_from(wanted.file, length, divisor)
    if length is None:
        if wanted.max_length is None:
            options.wrong("--max-length", 'is missing: how long the best trials train, e.g. --max-length "27 epochs"')
        return None
    name = "experiment" if wanted.out is None else wanted.out.stem
    text = EXPERIMENT.format(name=name).replace("experiment.yaml", f"{name}.yaml")
    search = SearchSettings(
        method=Method.ADAPTIVE_ASHA, max_length=length.count, max_trials=1, divisor=divisor or Fraction(4)
    )
    return _Start(text, search, length.unit, length, None)


def _start_from(file: Path, length: Length | None, divisor: Fraction | None) -> _Start:
    spec = read_experiment(file).spec
    if spec.search.method in (Method.GRID, Method.SINGLE):
        raise AshwoodError(
            f"{file} describes a {spec.search.method} search, whose trials are fixed: there is nothing to fit. "
            "For adaptive_asha, give its hyperparameters as int, double, log or categorical, and set searcher.name"
        )
    search = replace(
        spec.search,
        max_length=spec.search.max_length if length is None else length.count,
        divisor=spec.search.divisor if divisor is None else divisor,
    )
    unit = spec.unit if length is None else length.unit
    return _Start(spec.config_text, search, unit, length, replace(spec, search=search, unit=unit))


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


def _check_out(wanted: Wanted) -> None:
    out = wanted.out
    if out is not None and out.exists() and not (wanted.file is not None and out.samefile(wanted.file)):
        raise AshwoodError(f"{out} is there already; nothing was written. Choose another --out.")


def _write(out: Path, text: str) -> None:
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise AshwoodError(f"can't write {out}: {error.strerror}") from error


# -- what is said -------------------------------------------------------------------------------


def _too_tight(error: TooTight, start: _Start, conditions: Conditions, budget: Budget) -> str:
    workers = conditions.workers or 1
    length = format_length(start.search.max_length, start.unit)
    hours = error.seconds * workers / _HOUR
    bound = _bound(budget, workers)
    instead = (
        [f"train no longer than about {format_length(error.most_length, start.unit)}"] if error.most_length else []
    )
    if workers > 1 and bound.endswith("worker-hours"):
        instead.append("keep fewer workers")
    return (
        f"nothing fits into {bound}: a single trial trained to {length} takes {format_duration(error.seconds)} in nine "
        f"cases of ten, which is {hours:.2g} worker-hours with {format_length(workers, 'workers')}. "
        f"{', or '.join(['Allow at least that', *instead])}."
    )


def _bound(budget: Budget, workers: int) -> str:
    """The bound that decides."""
    if budget.worker_hours is None or (budget.seconds or inf) <= budget.worker_hours * _HOUR / workers:
        return f"the deadline of {format_duration(budget.seconds)}"
    return f"{budget.worker_hours:g} worker-hours"


def _print(plan: Plan, start: _Start, conditions: Conditions, budget: Budget) -> None:
    console = make_console()
    search = plan.proposal.settings
    console.print(
        f"[bold]{name_of(search)}[/bold], {format_length(search.max_trials, 'trials')} up to "
        f"{format_length(search.max_length, start.unit)}, divisor {float(search.divisor):g}"
    )
    for bracket in plan_search(search).brackets:
        console.print(
            f"  {' → '.join(map(str, bracket.lengths))} {start.unit}: {format_length(bracket.trials, 'trials')}"
        )
    workers = format_length(conditions.workers or 0, "workers")
    console.print()
    console.print(f"On {workers}, with {describe_conditions(conditions, start.unit)}:", markup=False)
    console.print()
    console.print(outlook_table(plan.proposal, plan.alternatives))
    console.print()
    console.print(outlook_legend(search, start.unit), markup=False)
    for line in _reasons(plan, conditions.workers or 0, budget):
        console.print(line, markup=False)


def _reasons(plan: Plan, workers: int, budget: Budget) -> Iterator[str]:
    proposal, search = plan.proposal, plan.proposal.settings
    if search.max_trials >= MOST_TRIALS:
        yield f"{MOST_TRIALS:,} trials are the most that a plan proposes, and there is time for them."
    else:
        yield (
            f"What bounds it is {_bound(budget, workers)}: nine in ten simulated searches with "
            f"{search.max_trials:,} trials are done within {format_duration(proposal.seconds.high)}."
        )
    yield _why(search)
    for other in plan.alternatives:
        trials = format_length(other.trials, "trials")
        if other.settings.method is Method.RANDOM:
            yield f"random: {trials}, each to the end; better where early metrics say nothing at all."
        else:
            yield f"{other.settings.mode}: {trials}; {_WHEN[other.settings.mode]}."
    if proposal.utilisation.middle < _MANY_IDLE:
        yield (
            f"The workers are busy {proposal.utilisation.middle:.0%} of the time, as few long trials are left at the "
            "end: fewer workers would take little longer."
        )


_WHEN: dict[Mode, str] = {
    Mode.AGGRESSIVE: "better where an early metric foretells a late one well, as it judges every trial early",
    Mode.STANDARD: "the middle way",
    Mode.CONSERVATIVE: "better where early metrics mislead, as it trains some trials to the end unjudged",
    Mode.AUTO: "learns while it runs which rungs to trust and where good trials are",
}
"""When a mode is the one to choose."""


def _why(search: SearchSettings) -> str:
    if search.mode is Mode.STANDARD:
        return "standard: it judges early, and keeps a bracket that judges later, should early metrics mislead."
    if search.mode is Mode.AGGRESSIVE and not is_ample(replace(search, mode=Mode.STANDARD)):
        return (
            f"{search.mode}: so few trials fit that in standard mode hardly any would be compared at the later rungs; "
            "this mode puts them all into one bracket."
        )
    return f"{search.mode}: {_WHEN[search.mode]}."
