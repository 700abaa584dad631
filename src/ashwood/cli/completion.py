"""Values that the shell completes: experiments, trials, columns, and keys of settings.

The shell calls these functions while the user types, so each imports what it needs, and errors complete nothing.
"""

from collections.abc import Iterable
from contextlib import suppress
from typing import Any, TypeAlias

import typer

from ashwood.cli.where import Omitted, fill_in
from ashwood.errors import AshwoodError

_MOST = 500
ARGUMENTS = "ashwood.arguments"
"""Key in the metadata of the context for the words of the command line after the command."""

Words: TypeAlias = list[tuple[str, str]]
"""Values, each with a description that some shells show."""


def complete_experiments(ctx: typer.Context, incomplete: str) -> Words:
    """Return the numbers and names of experiments, the newest first."""
    from ashwood.eventlog.home import open_home

    words = complete_settings() if ctx.info_name == "set" else []
    params: dict[str, Any] = {"home": ctx.params.get("home"), "json": True}
    with suppress(AshwoodError, OSError):
        fill_in(params, makes_home=False, needs_file=False)
    with suppress(AshwoodError, OSError), open_home(params["home"]) as home:
        for record in reversed(home.store.experiments()[-_MOST:]):
            words.append((str(record.id), f"{record.name}, {record.state}"))
            if incomplete and not incomplete.isdecimal():
                words.append((record.name, f"experiment {record.id}, {record.state}"))
    return words


def complete_trials(ctx: typer.Context) -> Words:
    """Return the numbers of the trials of the experiment, each with its state and result."""
    from ashwood.eventlog.fold_cache import read_progress
    from ashwood.eventlog.home import open_home
    from ashwood.views.wording import format_value

    with suppress(AshwoodError, OSError):
        target = _target(ctx)
        with open_home(target["home"]) as home:
            progress = read_progress(home, target["experiment"])
        rows = list(progress.trials.rows.values())[-_MOST:]
        return [(str(row.id), f"{row.state}, {progress.spec.metric} {format_value(row.metric)}") for row in rows]
    return []


def complete_columns(ctx: typer.Context, incomplete: str) -> Words:
    """Return the columns of the trials of the experiment; after a ``-``, in reverse order."""
    sign = "-" if incomplete.startswith("-") else ""
    return [(f"{sign}{name}", "") for name in _columns(ctx)]


def complete_conditions(ctx: typer.Context) -> Words:
    """Return the beginnings of conditions for the trials of the experiment."""
    return [(f"{name}=", "") for name in _columns(ctx)]


def complete_settings() -> Words:
    """Return the settings of an experiment that can change."""
    from ashwood.cli.control import SETTINGS

    return [(f"{name}=", "") for name in SETTINGS]


def complete_keys() -> Words:
    """Return the keys of experiment files."""
    from ashwood.config import experiment_schema

    return [(f"{key}=", description) for key, description in _keys(experiment_schema(), ())]


def _columns(ctx: typer.Context) -> Iterable[str]:
    from ashwood.api.tables import read_trials
    from ashwood.eventlog.home import open_home
    from ashwood.views.table import trial_records

    with suppress(AshwoodError, OSError):
        target = _target(ctx)
        with open_home(target["home"]) as home:
            spec, table = read_trials(home, target["experiment"])
        names = (name for record in trial_records(table, spec, str) for name in record)
        return [name.removeprefix("hparams.") for name in dict.fromkeys(names)]
    return []


def _target(ctx: typer.Context) -> dict[str, Any]:
    """Return the home and the experiment of the command line so far."""
    # The parser stops at an option without a value, and then the experiment is only among the words.
    words = (word for word in ctx.meta.get(ARGUMENTS, ()) if not word.startswith("-"))
    experiment = ctx.params.get("experiment") or next(words, Omitted.NEWEST)
    params = {"home": ctx.params.get("home"), "json": True, "experiment": experiment}
    fill_in(params, makes_home=False, needs_file=False)
    return params


def _keys(schema: Any, path: tuple[str, ...]) -> Iterable[tuple[str, str]]:
    for name, value in schema.get("properties", {}).items() if isinstance(schema, dict) else ():
        described = value.get("description", "") if isinstance(value, dict) else ""
        yield from list(_keys(value, (*path, name))) or [
            (".".join((*path, name)), " ".join(described.partition(". ")[0].split()))
        ]
