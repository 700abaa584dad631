"""``ashwood check``: one short trial, with and without pauses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from ashwood.api.slots import check_room
from ashwood.config import read_experiment
from ashwood.engine.check import CheckResult, check
from ashwood.errors import AshwoodError
from ashwood.experiment.spec import ExperimentSpec, Unit
from ashwood.terminal.output import print_json, print_table
from ashwood.terminal.text import brief, say, warn
from ashwood.views.agreement import Row, Verdict
from ashwood.views.plain import plain
from ashwood.views.table import flatten
from ashwood.views.wording import format_length, format_setting, format_value

_MOST_ROWS = 24
_LONGEST_HPARAMS = 200


def check_file(file: Path, *, length: int | None, overrides: Sequence[str], share: bool, json: bool) -> bool:
    """Check the training code of an experiment file, print the result, and return whether the check passed."""
    loaded = read_experiment(file, overrides=overrides)
    spec = replace(loaded.spec, provenance={"overrides": list(overrides)})  # Training code can read the settings.
    for warning in () if json else loaded.warnings:
        warn(warning)
    if spec.search.open_ended:
        if length is None:
            raise AshwoodError(
                f"{file} has no searcher.max_length, because its training code decides how long it trains: say how "
                "long the check trains, in the lengths that the code reports, e.g. --length 4"
            )
        spec = replace(spec, search=replace(spec.search, max_length=length))
    if length is not None and not 1 <= length <= spec.search.max_length:
        raise AshwoodError(f"--length must be from 1 to max_length, which is {spec.search.max_length}, not {length}")
    check_room(loaded)
    show = (lambda _: None) if json else partial(say, err=True)
    result = check(spec, length=length, share=share, say=show, warn=warn)
    if json:
        print_json({"name": spec.name, "ok": result.ok, **plain(result)})
    else:
        for line in _lines(result, spec):
            say(line, wrap=True)
    return result.ok


def _lines(result: CheckResult, spec: ExperimentSpec) -> Iterator[str]:
    hparams = ", ".join(f"{name}={format_setting(value)}" for name, value in flatten(result.hparams).items())
    yield f"hyperparameters: {brief(hparams, _LONGEST_HPARAMS) or 'none'}"
    if result.rows:
        _print_rows(result, spec)
    yield from str(result).splitlines()


def _print_rows(result: CheckResult, spec: ExperimentSpec) -> None:
    """Print the metric of the search at each length, and the metrics that differ, up to a number of rows."""
    shown = [row for row in result.rows if row.metric == spec.metric or row.verdict is not Verdict.EQUAL]
    shown = shown or list(result.rows)
    print_table(
        ("length", "metric", "straight through", "with pauses", "another seed", ""),
        [_cells(row, spec.unit) for row in shown[:_MOST_ROWS]],
        right=("straight through", "with pauses", "another seed"),
    )
    if len(shown) > _MOST_ROWS:
        say(f"and {len(shown) - _MOST_ROWS} more; --json prints all")


def _cells(row: Row, unit: Unit) -> Sequence[str]:
    values = (row.straight, row.resumed, row.other_seed)
    return (
        format_length(row.length, unit),
        row.metric,
        *("–" if value is None else format_value(value) for value in values),
        str(row.verdict),
    )
