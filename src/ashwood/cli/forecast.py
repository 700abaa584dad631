"""Estimates of time and cost of searches, as a table and sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ashwood.experiment.sizes import format_size
from ashwood.experiment.spec import ExperimentSpec, Unit
from ashwood.forecast.preview import Preview
from ashwood.forecast.searches import Range, SearchForecast
from ashwood.search.settings import Method, SearchSettings
from ashwood.terminal.output import print_table
from ashwood.terminal.text import say
from ashwood.views.wording import format_duration

_UNITS = (("d", 86_400.0), ("h", 3_600.0), ("min", 60.0), ("s", 1.0))
_FEWEST_FOR_A_RANGE = 9


def print_forecasts(forecast: SearchForecast, beside: Sequence[SearchForecast], currency: str = "") -> None:
    """Print a table with one row per search, the user's first; each column has one unit.

    If the table is wider than the terminal, the last columns are left out.
    """
    searches = (forecast, *beside)
    units = tuple(map(_unit_for, zip(*map(_times, searches), strict=True)))
    rows = [_row(each, units) for each in searches]
    is_same = len({row["trials"] for row in rows}) == 1
    names = [name for name in rows[0] if not (name == "trials" and is_same) and (name != "cost" or forecast.cost)]
    columns = [f"cost ({currency})" if name == "cost" and currency else name for name in names]
    cells = [[row[name] for name in names] for row in rows]
    if narrow := print_table(columns, cells, right=columns[1:], least=names.index("full") + 1):
        say(f"{', '.join(names[-narrow:])}: on a wider terminal, or with --json")


def _times(forecast: SearchForecast) -> tuple[float, float, float]:
    return forecast.seconds.middle, forecast.first_end_seconds.middle, forecast.tail_seconds.middle


def _row(forecast: SearchForecast, units: Sequence[tuple[str, float]]) -> dict[str, str | None]:
    """Return the cells of a search; ``units`` are those of its time, of its first full training and of its tail."""
    cost = forecast.cost
    time, first, tail = (_time(each, unit) for each, unit in zip(_times(forecast), units, strict=True))
    return {
        "search": name_of(forecast.settings).removeprefix(f"{Method.ADAPTIVE_ASHA} "),
        "time": time,
        "10–90 %": _range(forecast.seconds, units[0]) if forecast.simulations >= _FEWEST_FOR_A_RANGE else None,
        "worker-h": _few_digits(forecast.worker_hours.middle),
        "cost": None if cost is None else f"{cost.middle:,.2f}" if cost.middle < 100 else f"{cost.middle:,.0f}",
        "trials": f"{forecast.trials:,}",
        "full": f"{forecast.full_length.middle:,.0f}",
        "busy": f"{forecast.utilisation.middle:.0%}",
        "first": first,
        "tail": tail,
        "paused": f"{forecast.paused.middle:,.0f}",
    }


def forecast_legend(forecast: SearchForecast, unit: Unit) -> str:
    """Return the legend of the table whose first row is ``forecast``."""
    full = f"{forecast.settings.max_length} {unit}"
    return (
        f"full: trials that train {full}; busy: share of the workers' time that is spent on trials; "
        f"first: time until a trial has trained {full}; "
        "tail: time at the end in which workers are idle because no trials are left; "
        "paused: most trials that are paused at the same time."
    )


_LEGEND_OF_TRIALS = (
    "busy: share of the workers' time that is spent on trials; first: time until a trial has ended; "
    "tail: time at the end in which workers are idle because no trials are left."
)
"""The legend of the table for a search whose training code decides how long it trains."""


def forecast_lines(shown: Preview, spec: ExperimentSpec) -> Iterator[str]:
    """Yield sentences about what the table doesn't show."""
    forecast, search = shown.forecast, spec.search
    if forecast is None:
        return
    yield _LEGEND_OF_TRIALS if search.open_ended else forecast_legend(forecast, spec.unit)
    at_once = shown.max_concurrent_trials
    if shown.workers is not None and 0 < at_once < shown.workers:
        yield f"max_concurrent_trials lets only {at_once} of the {shown.workers} workers train at once."
    if search.method is not Method.RANDOM and not search.open_ended and shown.full_trainings is not None:
        ours = f"{forecast.full_length.low:,.0f}–{forecast.full_length.high:,.0f}"
        yield (
            f"In the same {format_duration(forecast.seconds.middle)} random search would train "
            f"{shown.full_trainings:,} trials, each to full length; this search creates {forecast.trials:,} and trains "
            f"{ours} to full length."
        )
    if forecast.checkpoints is not None and shown.storage is None:
        size = "" if forecast.disk_bytes is None else f", {format_size(round(forecast.disk_bytes.middle))}"
        kept = forecast.checkpoints.middle - forecast.paused.middle
        yield (
            f"At most {forecast.checkpoints.middle:,.0f} checkpoints at once{size}: those of paused trials, and those "
            "of ended trials that are kept (checkpoint_storage)."
            if kept > 0
            else f"At most {forecast.checkpoints.middle:,.0f} checkpoints at once{size}."
        )
    fewest = min((each.simulations for each in shown.beside), default=0)
    others = f", the other rows from {fewest}" if shown.beside else ""
    yield f"The first row is from {forecast.simulations} simulated searches{others}, assuming no failures."


def name_of(search: SearchSettings) -> str:
    """Return the name of a search method, with the mode of adaptive ASHA."""
    if search.method is not Method.ADAPTIVE_ASHA:
        return str(search.method)
    return f"{search.method} {'bracket_rungs' if search.bracket_rungs else search.mode}"


def _unit_for(times: Sequence[float]) -> tuple[str, float]:
    """Return the unit of a column of times: the one in which people would read the first time."""
    seconds = times[0] or max(times)
    return next(((name, size) for name, size in _UNITS if seconds >= 2 * size), _UNITS[-1])


def _time(seconds: float, unit: tuple[str, float]) -> str:
    name, size = unit
    return f"{_digits_of_time(seconds / size)} {name}"


def _digits_of_time(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else _few_digits(value)


def _range(quantity: Range, unit: tuple[str, float]) -> str:
    _, size = unit
    return f"{_digits_of_time(quantity.low / size)}–{_digits_of_time(quantity.high / size)}"


def _few_digits(value: float) -> str:
    """Return a number with two or three digits, since it is an estimate."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 or value == 0 else f"{value:.2g}" if value < 1 else f"{value:.1f}"
