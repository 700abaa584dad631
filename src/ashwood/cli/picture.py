"""Parts of the terminal display of an experiment: its progress bar and its best trials."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ashwood.cli.output import flatten, format_capacity, format_duration, format_length, format_value
from ashwood.cli.progress import no_best, time_left
from ashwood.cli.text import brief
from ashwood.experiment.lifecycle import ExperimentState, TrialState
from ashwood.forecast.time_left import Forecaster
from ashwood.search.space import Const
from ashwood.views.progress import Progress
from ashwood.views.trials import TrialRow

_BAR_WIDTH = 30
_NARROW_BAR_WIDTH = 12
_GAP = 2
_LONGEST_NAME = 40
_MOST_HPARAMS = 30
NARROW = 100
"""Columns of a terminal below which optional words are left out."""


def render_bar(forecaster: Forecaster, now: float | None, width: int) -> RenderableType:
    """Return the progress of an experiment, on one line if it fits; ``now`` is None if no driver is running."""
    progress, forecast = forecaster.progress, forecaster.forecast(now)
    states = progress.trials.states
    spending = progress.trials.spending
    runs = now is not None and progress.state.active
    driven = spending.driver_seconds if now is None else spending.driven(now)
    left = f", {time_left(forecast)}" if runs and progress.state is ExperimentState.RUNNING else ""
    time = Text.assemble((f"{forecast.fraction:4.0%}", "bold"), f"  {format_duration(driven)}{left}")
    failed = states[TrialState.ERRORED]
    facts = Text("  ·  ").join(
        [
            Text(f"{states.total()} trials, {progress.reports} reports"),
            *([Text(f"{failed} failed", style="red")] if failed else []),
            Text(_workers(progress, now) if runs else f"workers were {progress.utilisation():.0%} busy"),
        ]
    )
    fits = _BAR_WIDTH + time.cell_len + facts.cell_len + 8 <= width
    roomy = _BAR_WIDTH + time.cell_len + 2 <= width
    bar = ProgressBar(total=1.0, completed=forecast.fraction, width=_BAR_WIDTH if roomy else _NARROW_BAR_WIDTH)
    row = Table.grid(padding=(0, 1))
    if fits:
        row.add_row(bar, Text.assemble(time, "  ·  ", facts))
        return row
    time.no_wrap, time.overflow = True, "ellipsis"
    row.add_row(bar, time)
    facts.no_wrap, facts.overflow = True, "ellipsis"
    return Group(row, facts)


def _workers(progress: Progress, now: float | None) -> str:
    spending = progress.trials.spending
    there = format_capacity(spending.slots, len(spending.nodes), "")
    return f"{len(spending.live)} of {there} busy, {progress.utilisation(now):.0%} so far"


def render_best(progress: Progress) -> Text:
    """Return the best trial so far with its hyperparameters."""
    best, spec, seen = progress.best, progress.spec, progress.describe_seen()
    if best is None:
        return Text(no_best(progress), style="dim")
    hparams = list(flatten(progress.trials.rows[best.trial].hparams).items())[:_MOST_HPARAMS]
    metric = brief(spec.metric, _LONGEST_NAME)
    values = (f"{brief(name, _LONGEST_NAME)}={brief(format_value(value), _LONGEST_NAME)}" for name, value in hparams)
    return Text.assemble(
        "best: ",
        (f"{metric} {format_value(best.metric)}", "green bold"),
        f" at {format_length(best.length, spec.unit)}, trial {best.trial}\n",
        *([(f"{seen}\n", "dim")] if seen is not None else []),
        ("  ".join(values), "dim"),
    )


def render_trials(progress: Progress, n: int, width: int) -> RenderableType:
    """Return the best ``n`` trials, one line each, with their state and as many hyperparameters as fit.

    If a better metric was reported than the best result, one more line shows it.
    """
    spec = progress.spec
    rows = progress.trials.best(n)
    if not rows:
        none = (
            "no trial yet"
            if not progress.trials.rows
            else f"no trial has reported {brief(spec.metric, _LONGEST_NAME)} yet"
        )
        return Text(none, style="dim", no_wrap=True, overflow="ellipsis")
    columns = [
        ("trial", [str(row.id) for row in rows]),
        (brief(f"best {spec.metric}", _LONGEST_NAME), [format_value(row.metric) for row in rows]),
        ("state", [_state(row, progress, brief=width < NARROW) for row in rows]),
        *_hparams(rows, progress),
    ]
    shown = _those_that_fit(columns, width)
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for place, (name, values) in enumerate(shown):
        right = all(_is_number(value) for value in values)
        style = "green bold" if place == 1 else "dim" if place > 2 else ""
        table.add_column(name, justify="right" if right else "left", style=style, no_wrap=True, overflow="ellipsis")
    if more := len(columns) - len(shown):
        table.columns[-1].header = f"{shown[-1][0]}  … {more} more"
    for place in range(len(rows)):
        table.add_row(*(Text(values[place]) for _, values in shown))
    if (seen := progress.describe_seen()) is None:
        return table
    return Group(table, Text(seen, style="dim", no_wrap=True, overflow="ellipsis"))


def _hparams(rows: Sequence[TrialRow], progress: Progress) -> list[tuple[str, list[str]]]:
    """Return one column per hyperparameter that is not constant."""
    fixed = {".".join(path) for path, leaf in progress.spec.space.leaves() if isinstance(leaf, Const)}
    flat = [flatten(row.hparams) for row in rows]
    names = [
        name
        for name in dict.fromkeys(name for each in flat for name in each)
        if not any(name == path or name.startswith(f"{path}.") for path in fixed)
    ]
    return [
        (brief(name, _LONGEST_NAME), [brief(format_value(each.get(name)), _LONGEST_NAME) for each in flat])
        for name in names
    ]


def _those_that_fit(columns: Sequence[tuple[str, list[str]]], width: int) -> Sequence[tuple[str, list[str]]]:
    """Return the first columns that fit, with room for the number of those that are left out; at least three."""
    taken = 0
    for count, (name, values) in enumerate(columns):
        more = len(f"  … {len(columns) - count - 1} more") if count + 1 < len(columns) else 0
        needed = max(max(map(_cells, values)), _cells(name) + more)
        if count >= 3 and taken + needed > width:
            return columns[:count]
        taken += max(_cells(name), *map(_cells, values)) + _GAP
    return columns


def _cells(text: str) -> int:
    return Text(text).cell_len


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text == "–"
    return True


def _state(row: TrialRow, progress: Progress, *, brief: bool) -> str:
    bracket = f" #{row.bracket}" if brief else f", bracket {row.bracket}"
    bracket = bracket if len(progress.ladder.brackets) > 1 else ""
    length, target = (
        str(each) if brief else format_length(each, progress.spec.unit) for each in (row.length, row.target)
    )
    match row.state:
        case _ if row.has_job:
            verb = "training" if row.id in progress.trials.spending.live else "waiting to train"
            return f"{verb} to {target}{bracket}"
        case TrialState.PAUSED:
            return f"paused at {length}{bracket}"
        case TrialState.COMPLETED:
            return f"completed{bracket}"
    return f"{row.state} at {length}{bracket}"
