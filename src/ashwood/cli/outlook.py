"""What searches take, side by side, for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.table import Table

from ashwood.cli.output import format_duration, format_size, make_table
from ashwood.experiment.spec import ExperimentSpec
from ashwood.search.settings import Method, SearchSettings
from ashwood.views.outlook import Outlook, Range
from ashwood.views.preview import Preview

_UNITS = (("days", 86_400.0), ("hours", 3_600.0), ("minutes", 60.0), ("seconds", 1.0))
_FEWEST_FOR_A_RANGE = 9


def outlook_table(outlook: Outlook, beside: Sequence[Outlook]) -> Table:
    """One row a search, the first that of the user; all times in one unit, so that they compare at a glance."""
    unit, seconds = _unit_for(outlook.seconds.middle)
    priced = outlook.cost is not None
    columns = [
        "search",
        unit,
        "10–90 %",
        "worker-hours",
        *["cost"] * priced,
        "busy",
        f"tail ({unit[0]})",
        f"first end ({unit[0]})",
        "paused",
        "trials",
        "to the end",
    ]
    rows = [
        [
            name_of(each.settings),
            _few_digits(each.seconds.middle / seconds),
            _range(each.seconds, seconds) if each.simulations >= _FEWEST_FOR_A_RANGE else None,
            _few_digits(each.worker_hours.middle),
            *[_few_digits(each.cost.middle) for _ in range(priced) if each.cost is not None],
            f"{each.utilisation.middle:.0%}",
            _few_digits(each.tail_seconds.middle / seconds),
            _few_digits(each.first_end_seconds.middle / seconds),
            f"{each.paused.middle:,.0f}",
            f"{each.trials:,}",
            f"{each.full_length.middle:,.0f}",
        ]
        for each in (outlook, *beside)
    ]
    return make_table(columns, rows, right=columns[1:])


def outlook_lines(shown: Preview, spec: ExperimentSpec) -> Iterator[str]:
    """What the table doesn't say."""
    outlook, search = shown.outlook, spec.search
    if outlook is None:
        return
    yield (
        "Busy: the share of the workers' time that goes into trials; tail: how long before the end workers begin to "
        f"idle for good; first end: when the first trial has trained {search.max_length} {spec.unit}; paused: the most "
        "trials that wait at once."
    )
    at_once = shown.max_concurrent_trials
    if shown.workers is not None and 0 < at_once < shown.workers:
        yield f"max_concurrent_trials lets only {at_once} of the {shown.workers} workers train at once."
    if search.method is not Method.RANDOM and shown.full_trainings is not None:
        ours = f"{outlook.full_length.low:,.0f}–{outlook.full_length.high:,.0f}"
        yield (
            f"In the same {format_duration(outlook.seconds.middle)} random search would train {shown.full_trainings:,} "
            f"trials, each to the end; this search tries {outlook.trials:,} and trains {ours} to the end."
        )
    if outlook.checkpoints is not None:
        size = "" if outlook.disk_bytes is None else f", {format_size(round(outlook.disk_bytes.middle))}"
        kept = outlook.checkpoints.middle - outlook.paused.middle
        yield (
            f"At most {outlook.checkpoints.middle:,.0f} checkpoints at once{size}: those of trials that wait, and "
            "those of trials that have ended and are kept (checkpoint_storage)."
            if kept > 0
            else f"At most {outlook.checkpoints.middle:,.0f} checkpoints at once{size}."
        )
    fewest = min((each.simulations for each in shown.beside), default=0)
    others = f", the others of {fewest}" if shown.beside else ""
    yield f"The first row is of {outlook.simulations} simulated searches{others}, failures aside."


def name_of(search: SearchSettings) -> str:
    """A search method as people call it."""
    if search.method is not Method.ADAPTIVE_ASHA:
        return str(search.method)
    return f"{search.method} {'bracket_rungs' if search.bracket_rungs else search.mode}"


def _unit_for(seconds: float) -> tuple[str, float]:
    return next(((name, size) for name, size in _UNITS if seconds >= 2 * size), _UNITS[-1])


def _range(quantity: Range, unit: float) -> str:
    return f"{_few_digits(quantity.low / unit)}–{_few_digits(quantity.high / unit)}"


def _few_digits(value: float) -> str:
    """As many digits as an estimate deserves."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 or value == 0 else f"{value:.2g}" if value < 1 else f"{value:.1f}"
