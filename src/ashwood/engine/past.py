"""Reads what past searches found, for ``warm_start``.

An experiment keeps the settings in its spec, so that it never needs the past experiments again.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

from ashwood.errors import AshwoodError, ConfigError, NotFound, Problem
from ashwood.eventlog.fold_cache import fold
from ashwood.eventlog.home import Home
from ashwood.experiment.lifecycle import TrialState
from ashwood.experiment.spec import ExperimentSpec
from ashwood.search.given import read_given
from ashwood.search.guides import PastTrials
from ashwood.search.space import ABSENT, Categorical
from ashwood.views.hparams import Varied, varied
from ashwood.views.wording import NULL

_MOST_GOOD = 24
_GOOD_SHARE = 4
_MOST_OTHERS = 96
_STARTS = 2
"""Number of settings of each past search that are tried first."""
_LEAST_PER_START = 10
"""Number of trials of the search for each setting that is tried first, so that most trials remain for new settings."""
_PREFIXES = ("", "hparams.", "params_", "config/")
"""Prefixes of the columns of hyperparameters, as Ashwood (``export``), Optuna and Ray Tune write them."""
_METRICS = ("{}", "best.{}", "seen.{}", "value")
"""Names of the column of the metric, as Ashwood and Optuna write them."""


class _Result(NamedTuple):
    """A past trial: how long it trained, its loss, and its values by the dotted name of the hyperparameter."""

    length: float
    loss: float
    setting: Mapping[str, Any]


def with_past_trials(home: Home | None, spec: ExperimentSpec) -> ExperimentSpec:
    """Return the spec with the settings of the past searches that ``warm_start`` names.

    The best of them become starting points, after those of the user.  Without a home, past searches can only be files.

    Raises:
        ConfigError: a past search cannot be read, has no results, or has no hyperparameter in common.
    """
    past = tuple(_read(home, spec, each.source) for each in spec.warm_start)
    starts = list(spec.start_with)
    best = (each.good[rank] for rank in range(_STARTS) for each in past if rank < len(each.good))
    for setting in islice(best, spec.search.max_trials // _LEAST_PER_START):
        given = read_given(spec.space, setting) if setting else None
        # Values that the trial cannot have are left out of it and do no harm; any other warning is a reason to skip it.
        is_sound = given is not None and not given.errors and len(given.warnings) == len(given.unused)
        if given is not None and is_sound and given.values not in starts:
            starts.append(given.values)
    return replace(spec, warm_start=past, start_with=tuple(starts))


def _read(home: Home | None, spec: ExperimentSpec, source: str) -> PastTrials:
    try:
        results = _of_experiment(home, spec, int(source)) if source.isdigit() else _of_file(spec, Path(source))
        ranked = sorted(results, key=lambda result: (-result.length, result.loss))
        if not any(result.setting for result in ranked):
            raise AshwoodError("no trial has a result" if not ranked else "it has no hyperparameter of this experiment")
    except (AshwoodError, OSError, UnicodeDecodeError, csv.Error) as error:
        kind = "experiment " if source.isdigit() else ""
        why = "there is no such file" if isinstance(error, FileNotFoundError) else str(error)
        raise ConfigError([Problem("searcher.warm_start", f"{kind}{source} cannot be used: {why}")]) from error
    good = max(2, min(_MOST_GOOD, -(-len(ranked) // _GOOD_SHARE)))
    others = ranked[good:]
    # If there are too many, every n-th is used, so that they represent all ranks.
    sample = others[:: -(-len(others) // _MOST_OTHERS) or 1]
    return PastTrials(source, tuple(r.setting for r in ranked[:good]), tuple(r.setting for r in sample))


def _of_experiment(home: Home | None, spec: ExperimentSpec, number: int) -> Iterator[_Result]:
    if home is None:
        raise NotFound("there is no experiment in this home; choose another one with --home or ASHWOOD_HOME")
    experiment = fold(home.store.spec(number), home.store.log(number), home.snapshot(number)).experiment
    hparams = varied(spec.space)
    for trial in experiment.trials.values():
        if isfinite(trial.loss) and trial.state is not TrialState.INVALID:
            values = ((each, each.value(trial.hparams)) for each in hparams)
            yield _Result(trial.length, trial.loss, _known(values))


def _of_file(spec: ExperimentSpec, path: Path) -> Iterator[_Result]:
    """Yield the rows of a table with a column for each hyperparameter and for the metric, and perhaps for length."""
    hparams, sign = varied(spec.space), 1 if spec.smaller_is_better else -1
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        columns = rows.fieldnames or ()
        metric = next((name for each in _METRICS if (name := each.format(spec.metric)) in columns), None)
        if not columns:
            raise AshwoodError("it is empty")
        if metric is None:
            raise AshwoodError(f"it has no column {spec.metric}; its columns: {', '.join(columns)}")
        for row in rows:
            loss = _number(row[metric])
            if loss is not None and isfinite(loss):
                values = ((each, _value(each, row)) for each in hparams)
                yield _Result(_number(row.get("length")) or 0.0, sign * loss, _known(values))


def _known(values: Iterable[tuple[Varied, Any]]) -> Mapping[str, Any]:
    """Return the values that the hyperparameters of the space can have."""
    there = ((each, value) for each, value in values if value is not ABSENT)
    return {each.name: value for each, value in there if each.kind.unit_of(value) is not None}


def _value(varied: Varied, row: Mapping[str, str | None]) -> Any:
    """Return the value of a hyperparameter in a row of text, or `ABSENT` if the row has none."""
    text = next((text for prefix in _PREFIXES if (text := row.get(f"{prefix}{varied.name}"))), None)
    if isinstance(varied.kind, Categorical):
        return next((value for value in varied.kind.vals if text in _spellings(value)), ABSENT)
    return _number(text)


def _spellings(value: Any) -> tuple[str, ...]:
    return (NULL, "None") if value is None else (str(value), str(value).lower())


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
