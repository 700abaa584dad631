"""``ashwood extend``: more trials or longer training for a search that has begun or ended."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from ashwood.cli import quantities
from ashwood.cli.options import RunOptions
from ashwood.cli.quantities import OptionParser
from ashwood.cli.run import resume_experiment
from ashwood.config import parse_max_length
from ashwood.engine import Home, open_home
from ashwood.engine.control import ask
from ashwood.engine.extension import preview_extension
from ashwood.experiment.events import ExtendRequested
from ashwood.experiment.sizes import format_size
from ashwood.experiment.spec import ExperimentSpec
from ashwood.forecast.extension import ExtensionForecast
from ashwood.terminal.text import say, warn
from ashwood.views.wording import format_duration, format_length, up_to

_MOST_NAMED = 5


def extend_experiment(
    experiment: int,
    options: RunOptions,
    max_trials: int | None,
    max_length: str | None,
    replicates: int | None,
    cost_per_worker_hour: str | None,
    *,
    dry_run: bool,
    run: bool,
) -> int:
    """Run ``ashwood extend``, and return the exit code."""
    with open_home(options.home) as home:
        spec, parser = home.store.spec(experiment), OptionParser()
        length = parser.read("--max-length", max_length, lambda text: parse_max_length(text, spec.unit))
        price = parser.read("--cost-per-worker-hour", cost_per_worker_hour, quantities.money)
        if max_trials is None and max_length is None and replicates is None:
            parser.wrong("extend", "give --max-trials, --max-length or --replicates")
        parser.check()
        forecast = preview_extension(
            home,
            experiment,
            max_trials=max_trials,
            max_length=length,
            replicates=replicates,
            workers=options.workers,
        )
        currency = quantities.currency(cost_per_worker_hour)
        is_json = options.json and dry_run
        _show(forecast, spec, experiment, price, currency, is_json=is_json, is_longer=length is not None)
        if dry_run:
            return 0
        ask(home, experiment, ExtendRequested(max_trials, length, replicates))
        if not run or home.is_driven(experiment):
            say(_next(home, experiment), wrap=True)
            return 0
        say(f"experiment {experiment} is extended", err=True)  # The driver may refuse to run the rest.
    return resume_experiment(experiment, options, workdir=None, retry_failed=False)


def _next(home: Home, experiment: int) -> str:
    if home.is_driven(experiment):
        return f"experiment {experiment} is running: its driver continues with the extended search"
    return f"experiment {experiment} is extended. To run the rest: ashwood resume {experiment}"


def _show(
    forecast: ExtensionForecast,
    spec: ExperimentSpec,
    experiment: int,
    price: float | None,
    currency: str,
    *,
    is_json: bool,
    is_longer: bool,
) -> None:
    if is_json:
        say(json.dumps(_data(forecast, price)))
        return
    for line in _lines(forecast, spec, experiment, price, currency):
        say(line, err=True)
    if is_longer and not spec.search.open_ended:
        warn(
            f"schedules that are tied to the former max_length ({format_length(forecast.former_length, spec.unit)}), "
            "such as learning rate schedules, end there"
        )


def _data(forecast: ExtensionForecast, price: float | None) -> dict[str, Any]:
    hours = forecast.worker_hours
    return {
        "max_trials": forecast.settings.max_trials,
        "max_length": forecast.settings.max_length,
        "rungs": forecast.settings.bracket_lengths,
        "trials_created": forecast.created,
        "trials_continued": round(forecast.continued, 1),
        "replicates": round(forecast.replicates, 1),
        "length": round(forecast.length),
        "length_repeated": round(forecast.repeated),
        "length_repeated_for_max_size": round(forecast.repeated_for_size),
        "workers": forecast.workers,
        "seconds": None if forecast.seconds is None else forecast.seconds.middle,
        "worker_hours": hours,
        "cost": None if hours is None or price is None else hours * price,
        "lost": [{"trial": each.trial, "trained": each.trained, "saved": each.saved} for each in forecast.lost],
    }


def _lines(
    forecast: ExtensionForecast, spec: ExperimentSpec, experiment: int, price: float | None, currency: str
) -> Iterator[str]:
    settings, unit = forecast.settings, spec.unit
    yield (
        f"experiment {experiment}, extended: {format_length(settings.max_trials, 'trials')} "
        f"{up_to(settings.max_length, unit)}"
    )
    created = format_length(forecast.created, "trials")
    if settings.open_ended:
        yield f"{created} will be created"
        return
    continued, training = round(forecast.continued), format_length(round(forecast.length), unit)
    parts = [f"{created} will be created"] if forecast.created else []
    replicates = round(forecast.replicates)
    if continued or not (parts or replicates):
        parts.append(f"about {format_length(continued, 'trials')} of those that exist will train on")
    if replicates:
        longest = format_length(settings.max_length, unit)
        parts.append(f"{format_length(replicates, 'replicates')} will train to {longest}")
    yield f"{', and '.join(parts)}: about {training} of training"
    if settings.method.is_halving:
        lengths = sorted({length for bracket in settings.bracket_lengths for length in bracket})
        yield f"rungs at {', '.join(f'{length:,}' for length in lengths)} {unit}"
    if settings.stop_once:
        yield "trials that the search has stopped stay stopped (stop_once): only those at the last rung can train on"
    if (seconds := forecast.seconds) is not None and (hours := forecast.worker_hours) is not None:
        cost = "" if price is None else f", a cost of about {f'{hours * price:,.2f} {currency}'.rstrip()}"
        yield (
            f"about {format_duration(seconds.middle)} ({format_duration(seconds.low)} to "
            f"{format_duration(seconds.high)}) with {format_length(forecast.workers, 'workers')}, "
            f"{hours:.2g} worker-hours{cost}"
        )
    if forecast.lost:
        named = [
            f"trial {each.trial} resumes from {format_length(each.saved, unit)} of {each.trained:,}"
            for each in forecast.lost[:_MOST_NAMED]
        ]
        more = len(forecast.lost) - len(named)
        yield (
            f"{format_length(len(forecast.lost), 'trials')} may train on without a checkpoint of all training, which "
            f"repeats about {format_length(round(forecast.repeated), unit)}: {'; '.join(named)}"
            f"{f'; and {more} more' if more else ''}"
        )
    if (repeats := round(forecast.repeated_for_size)) and forecast.max_size is not None:
        yield (
            f"about {format_length(repeats, unit)} of training will be repeated, because checkpoints will be deleted "
            f"to keep max_size ({format_size(forecast.max_size)}). To avoid that, raise or remove it first: "
            f"ashwood set {experiment} max_size=none"
        )
