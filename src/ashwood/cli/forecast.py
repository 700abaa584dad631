"""Estimates of time and cost of searches, as a table and sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ashwood.experiment.sizes import format_size
from ashwood.experiment.spec import ExperimentSpec, Unit
from ashwood.forecast.preview import Preview
from ashwood.forecast.searches import Range, SearchForecast
from ashwood.search.settings import Method, SearchSettings
from ashwood.terminal.output import print_table
from ashwood.views.wording import format_duration

_UNITS = (("days", 86_400.0), ("hours", 3_600.0), ("minutes", 60.0), ("seconds", 1.0))
_FEWEST_FOR_A_RANGE = 9


def print_forecasts(forecast: SearchForecast, beside: Sequence[SearchForecast]) -> None:
    """Print a table with one row per search, the user's first, and all times in the same unit."""
    unit, seconds = _unit_for(forecast.seconds.middle)
    rows = [_row(each, seconds) for each in (forecast, *beside)]
    is_same = len({row["trials"] for row in rows}) == 1
    names = [name for name in rows[0] if not (name == "trials" and is_same) and (name != "cost" or forecast.cost)]
    columns = [unit if name == "time" else name for name in names]
    print_table(columns, [[row[name] for name in names] for row in rows], right=columns[1:])


def _row(forecast: SearchForecast, seconds: float) -> dict[str, str | None]:
    cost = forecast.cost
    return {
        "search": name_of(forecast.settings).removeprefix(f"{Method.ADAPTIVE_ASHA} "),
        "time": _few_digits(forecast.seconds.middle / seconds),
        "10–90 %": _range(forecast.seconds, seconds) if forecast.simulations >= _FEWEST_FOR_A_RANGE else None,
        "worker-h": _few_digits(forecast.worker_hours.middle),
        "cost": None if cost is None else _few_digits(cost.middle),
        "busy": f"{forecast.utilisation.middle:.0%}",
        "tail": _few_digits(forecast.tail_seconds.middle / seconds),
        "first": _few_digits(forecast.first_end_seconds.middle / seconds),
        "paused": f"{forecast.paused.middle:,.0f}",
        "trials": f"{forecast.trials:,}",
        "full": f"{forecast.full_length.middle:,.0f}",
    }


def forecast_legend(forecast: SearchForecast, unit: Unit) -> str:
    """Return the legend of the table whose first row is ``forecast``."""
    full = f"{forecast.settings.max_length} {unit}"
    times, _ = _unit_for(forecast.seconds.middle)
    return (
        "busy: share of the workers' time that is spent on trials; "
        f"tail: {times} at the end in which workers are idle because no trials are left; "
        f"first: {times} until a trial has trained {full}; paused: most trials that are paused at the same time; "
        f"full: trials that train {full}."
    )


def _legend_of_trials(forecast: SearchForecast) -> str:
    """Return the legend of the table for a search whose training code decides how long it trains."""
    times, _ = _unit_for(forecast.seconds.middle)
    return (
        "busy: share of the workers' time that is spent on trials; "
        f"tail: {times} at the end in which workers are idle because no trials are left; "
        f"first: {times} until a trial has ended."
    )


def forecast_lines(shown: Preview, spec: ExperimentSpec) -> Iterator[str]:
    """Yield sentences about what the table doesn't show."""
    forecast, search = shown.forecast, spec.search
    if forecast is None:
        return
    yield _legend_of_trials(forecast) if search.open_ended else forecast_legend(forecast, spec.unit)
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


def _unit_for(seconds: float) -> tuple[str, float]:
    return next(((name, size) for name, size in _UNITS if seconds >= 2 * size), _UNITS[-1])


def _range(quantity: Range, unit: float) -> str:
    return f"{_few_digits(quantity.low / unit)}–{_few_digits(quantity.high / unit)}"


def _few_digits(value: float) -> str:
    """Return a number with two or three digits, since it is an estimate."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 or value == 0 else f"{value:.2g}" if value < 1 else f"{value:.1f}"
