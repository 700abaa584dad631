"""The table of trials that users can filter and sort."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from math import isnan
from operator import ge, gt, itemgetter, le, lt
from typing import Any, NamedTuple, TypeAlias

from ashwood.errors import AshwoodError, did_you_mean
from ashwood.experiment.spec import ExperimentSpec
from ashwood.search.settings import NO_LENGTH
from ashwood.search.space import ABSENT, Const, Space
from ashwood.views.failures import headline
from ashwood.views.spending import Spending
from ashwood.views.trials import TrialRow, TrialTable, has_diverged
from ashwood.views.wording import NULL, format_value

Record: TypeAlias = dict[str, Any]


def trial_records(
    table: TrialTable, spec: ExperimentSpec, locate: Callable[[str], str], now: float | None = None
) -> Iterator[Record]:
    """Yield a flat record for each trial.

    Args:
        table: the trials.
        spec: the description of the experiment.
        locate: returns the location of a checkpoint from its name.
        now: current time if a driver runs, or None; without it, running attempts count up to the last entry of the log.
    """
    for row in table.rows.values():
        yield trial_record(row, table.spending, spec.metric, locate, now=now)


def trial_columns(records: Iterable[Record], space: Space) -> list[str]:
    """Return the columns of records of trials, with all hyperparameters in the order of the experiment file."""
    names = list(dict.fromkeys(chain.from_iterable(records)))
    blank = blank_hparams(space)
    if not names or not blank:
        return names
    end = names.index("given")
    return [*(name for name in names[:end] if name not in blank), *blank, *(n for n in names[end:] if n not in blank)]


def csv_record(record: Record) -> Record:
    """Return a record for a CSV file, in which null is text, and a hyperparameter that is absent is empty."""
    return {name: NULL if _is_null(name, value) else value for name, value in record.items()}


def _is_null(column: str, value: Any) -> bool:
    """Return whether the value of a column is null, which only hyperparameters can be."""
    return value is None and column.startswith(_HPARAMS)


def setting_of(record: Record, column: str) -> Any:
    """Return the value of a column for a table of text: null as text, and None if the trial has no value."""
    value = record.get(column)
    return NULL if column in record and _is_null(column, value) else value


def blank_hparams(space: Space) -> Record:
    """Return the columns of all hyperparameters without values if some trials lack some of them, or no columns."""
    blank: Record = {}
    if any(space.conditional()):
        for path, leaf in space.leaves():
            blank |= dict.fromkeys(flatten({".".join(path): leaf.val if isinstance(leaf, Const) else None}, "hparams."))
    return blank


def trial_record(
    row: TrialRow,
    spending: Spending | None,
    metric: str,
    locate: Callable[[str], str],
    blank: Record | None = None,
    now: float | None = None,
) -> Record:
    """Return a flat record of a trial: state, lengths, times, metrics, and ``hparams.NAME`` for each hyperparameter.

    A hyperparameter that the trial does not have is left out; None is its value null.
    ``best.NAME`` is the metric of the best result, and ``checkpoint`` is its checkpoint.  ``seen.NAME`` is the metric
    of the best report, and ``last.NAME`` is the last report of each metric.  ``given`` names the hyperparameters that a
    user gave for the trial.  ``audits`` is the number of its promotions that were audits.  ``replicate_of`` is the
    trial of which it is a replicate.  ``error`` is the first line of its last error, and ``diverged`` is true if its
    latest report has a metric that is NaN or infinite.

    Args:
        row: the trial.
        spending: has the running attempts, or None if they do not matter.
        metric: name of the metric that the search compares.
        locate: returns the location of a checkpoint from its name.
        blank: values of hyperparameters that the trial lacks, to get all columns: `blank_hparams`.
        now: current time if a driver runs, or None.
    """
    live = None if spending is None else spending.live.get(row.id)
    checkpoint = row.best_checkpoint
    return {
        "trial": row.id,
        "state": str(row.state),
        "bracket": row.bracket,
        "length": row.length,
        f"best.{metric}": row.metric,
        "best_length": row.metric_length,
        f"seen.{metric}": row.seen,
        "seen_length": row.seen_length,
        **{f"last.{name}": value for name, value in row.metrics.items()},
        **(blank or {}),
        **flatten(row.hparams, "hparams."),
        "given": ", ".join(row.given) or None,
        "replicate_of": row.original,
        "seed": row.seed,
        "audits": row.audits,
        "attempts": row.attempt,
        "failures": len(row.errors),
        "error": headline(row.errors[-1])[:_LONGEST_ERROR] if row.errors else None,
        "diverged": True if has_diverged(row, metric) else None,
        "preempted": row.preempted,
        "node": None if live is None else live.node or None,
        "seconds": row.seconds + (0.0 if spending is None else spending.so_far(row.id, now)),
        "created_at": row.created_at,
        "ended_at": row.ended_at,
        "checkpoint": None if checkpoint is None else locate(checkpoint.path),
        "checkpoint_length": None if checkpoint is None else checkpoint.length,
    }


def heading(column: str, columns: Collection[str]) -> str:
    """Return the heading of a column, such as ``best loss``, or ``lr`` for ``hparams.lr`` if that is unambiguous."""
    kind, _, name = column.partition(".")
    if kind in _HEADINGS and name:
        return f"{_HEADINGS[kind]} {name}"
    name = column.removeprefix("hparams.")
    return column if name != column and name in columns else name


_MOST_NAMES = 50
_LONGEST_ERROR = 200
_MOST_VALUES = 12
_HPARAMS = "hparams."
"""Prefix of the columns of hyperparameters."""
_HEADINGS = {"best": "best", "last": "last", "seen": "best seen", "result": "result"}
"""First words of the headings of metric columns, by the prefixes of the column names."""
_METRIC_PREFIXES = tuple(f"{kind}." for kind in _HEADINGS)
_SPELLED = re.compile(r"(best seen|best|last|result)[ _](?=.)")
"""Spellings of these prefixes in a name that a user writes: as in a heading, or with an underscore."""
TRIAL_COLUMNS = ("trial", "state", "bracket", "length", "audits", "failures", "preempted", "node", "seconds")
"""Columns that all records have and that tables show."""


class Known(NamedTuple):
    """The values that a column of a table has.

    Attributes:
        key: the column, as the user wrote it.
        values: texts of its first values if they are not numbers.
        least: the smallest finite number, or None if there are no numbers.
        most: the largest finite number, or None if there are no numbers.
    """

    key: str
    values: Sequence[str]
    least: float | None
    most: float | None


def select(
    records: list[Record], where: Sequence[str], sort: str, columns: Collection[str] | None = None
) -> list[Record]:
    """Return the records that satisfy all conditions, sorted by a column.

    Args:
        records: the records.
        where: conditions such as ``KEY=VALUE``, or with ``!=``, ``<``, ``<=``, ``>`` or ``>=``.  ``KEY=A,B`` means one
            of several values, ``null`` is the value null of a hyperparameter, and ``KEY=`` finds records without a
            value.  These satisfy no other conditions except those with ``!=``.
        sort: name of a column; after ``-``, the largest value comes first; empty to keep the order.  Records without a
            value always come last.
        columns: names of all columns, if they are already known.

    Raises:
        AshwoodError: a condition is malformed, or there is no such column.
    """
    for condition in where:
        found = _CONDITION.fullmatch(condition)
        if found is None:
            raise AshwoodError(f"filter {condition!r}: expected KEY=VALUE or KEY<NUMBER, for example state=completed")
        key, sign, value = found.groups()
        column = _column(records, key, columns)
        fits = _test(condition, sign, value)
        records = [record for record in records if fits(_value(record, column))]
    if records and sort:
        column = _column(records, sort.removeprefix("-"), columns)
        return _in_order(records, column, largest_first=sort.startswith("-"))
    return records


def explain_no_match(records: Sequence[Record], where: Sequence[str]) -> str:
    """Return which conditions no record satisfies, with the values that there are.

    Raises:
        AshwoodError: a condition is malformed, or there is no such column.
    """
    for condition in where:
        found = _CONDITION.fullmatch(condition)
        if found is None or select(list(records), [condition], ""):
            continue
        column = _column(records, found[1], None)
        values = [value for record in records if (value := setting_of(record, column)) is not None]
        if not values:
            return f"{condition}: no trial has a value of {column}"
        if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
            known = [value for value in values if math.isfinite(value)] or values
            return f"{condition}: {column} is from {format_value(min(known))} to {format_value(max(known))}"
        texts = list(dict.fromkeys(map(format_value, values)))
        hint = did_you_mean(found[3], texts)
        more = ", …" if len(texts) > _MOST_VALUES else ""
        return f"{condition}{hint}: values of {column} are {', '.join(sorted(texts[:_MOST_VALUES]))}{more}"
    return "each condition alone is satisfied by some trials, but no trial satisfies all of them"


def best_first(records: Sequence[Record], sort: str, metric: str, *, smaller_is_better: bool) -> str:
    """Return the order for `select`; by the searcher's metric, the best value comes first, not the smallest.

    Raises:
        AshwoodError: there is no such column.
    """
    key = sort.removeprefix("-")
    if smaller_is_better or not records or not key:
        return sort
    if _column(records, key, None) not in {f"{kind}.{metric}" for kind in _HEADINGS}:
        return sort
    return key if sort.startswith("-") else f"-{key}"


def near_misses(records: Sequence[Record], where: Sequence[str], columns: Collection[str]) -> dict[str, Known]:
    """Return the known values of the columns of conditions that no record satisfies, by condition.

    Raises:
        AshwoodError: a condition is malformed, or there is no such column.
    """
    misses: dict[str, Known] = {}
    for condition in where:
        found = _CONDITION.fullmatch(condition)
        if found is not None and not select([*records], [condition], "", columns):
            column = _column(records, found[1], columns)
            misses[condition] = _known(found[1], [setting_of(record, column) for record in records])
    return misses


def _known(key: str, values: Sequence[Any]) -> Known:
    numbers = [value for value in values if _is_number(value) and math.isfinite(value)]
    texts = dict.fromkeys(format_value(value) for value in values if value is not None and not _is_number(value))
    several = list(texts)[: _MOST_VALUES if not numbers else 0]
    return Known(key, several, min(numbers, default=None), max(numbers, default=None))


def columns_in(where: Iterable[str], sort: str, columns: Record) -> set[str]:
    """Return the names of the columns to which conditions and a sort order for `select` refer.

    Raises:
        AshwoodError: there is no such column.
    """
    keys = [found[1] for condition in where if (found := _CONDITION.fullmatch(condition))]
    return {_column([columns], key, columns) for key in (*keys, sort.removeprefix("-")) if key}


def _column(records: Sequence[Record], key: str, columns: Collection[str] | None) -> str:
    """Return the column to which a user refers.

    It can be written as its full name; as ``best`` or ``last`` for the metric of the search; as the name of a
    hyperparameter without its prefix; or as the name of a metric, which means the best result for the metric of the
    search and the last report for other metrics.

    Raises:
        AshwoodError: there is no such column, or more than one.
    """
    if columns is None:
        # Many records have equal lists of columns, so each different list is processed only once.
        columns = list(dict.fromkeys(chain.from_iterable(dict.fromkeys(map(tuple, records)))))
    if key in columns:
        return key
    metric = next((column.removeprefix("best.") for column in columns if column.startswith("best.")), "")
    spelled = _SPELLED.match(key)
    kinds = {words: kind for kind, words in _HEADINGS.items()}
    named = [f"best.{key}", f"last.{key}"]
    if key in _HEADINGS:
        named = [f"{key}.{metric}"]
    elif spelled:
        named.insert(0, f"{kinds[spelled[1]]}.{key[spelled.end() :]}")
    of_metric = [column for column in named if column in columns][:1]
    found = [column for column in (f"hparams.{key}", *of_metric) if column in columns]
    if len(found) > 1:
        raise AshwoodError(f"{key[:200]!r} is a hyperparameter and a metric: write {' or '.join(found)}")
    if found:
        return found[0]
    if not records:
        return key
    names = [column.removeprefix("hparams.") for column in columns]
    # A metric has up to three columns, so its name alone is the first guess: validation_loss for loss.
    plain = [name.partition(".")[2] if name.startswith(_METRIC_PREFIXES) else name for name in names]
    hint = did_you_mean(key, dict.fromkeys(plain)) or did_you_mean(key, names)
    more = f" and {len(names) - _MOST_NAMES:,} more" if len(names) > _MOST_NAMES else ""
    there = f"there is no column {key[:200]!r}{hint}"
    if hint:
        raise AshwoodError(there)
    raise AshwoodError(f"{there}; there are: {', '.join(names[:_MOST_NAMES])}{more}")


_CONDITION = re.compile(r"([^=<>!]+)(<=|>=|!=|=|<|>)(.*)", re.DOTALL)
_COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {"<": lt, "<=": le, ">": gt, ">=": ge}


def _value(record: Record, column: str) -> Any:
    """Return the value of a record, or `ABSENT` if it has none."""
    value = record.get(column, ABSENT)
    return ABSENT if value is None and not _is_null(column, value) else value


def _test(condition: str, sign: str, wanted: str) -> Callable[[Any], bool]:
    if sign in ("=", "!="):
        return _matches(wanted, is_equal=sign == "=")
    try:
        bound = float(wanted)
    except ValueError:
        raise AshwoodError(f"filter {condition!r}: {wanted!r} is not a number, but {sign} compares numbers") from None
    compare = _COMPARISONS[sign]
    return lambda value: _is_number(value) and compare(value, bound)


def _matches(wanted: str, *, is_equal: bool) -> Callable[[Any], bool]:
    """Return a test whether a value is one of those in a text, which are separated by commas, or none of them."""
    texts = {wanted.lower(), *wanted.lower().split(",")}
    numbers = {number for text in texts if (number := _to_number(text)) is not None}
    has_nan = any(map(isnan, numbers))

    def matches(value: Any) -> bool:
        if value is ABSENT:
            found = "" in texts
        elif _is_number(value):
            found = value in numbers or (has_nan and isnan(value))
        else:
            found = (NULL if value is None else str(value).lower()) in texts
        return found is is_equal

    return matches


def _to_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _in_order(records: Sequence[Record], column: str, *, largest_first: bool) -> list[Record]:
    """Return the records with numbers by size, then other values by text, or reversed; missing values come last."""
    numbers, others, missing = list[Record](), list[Record](), list[Record]()
    for record in records:
        value = record.get(column)
        if value is None or value != value:  # NaN is the only number that is not equal to itself.
            missing.append(record)
        elif _is_number(value):
            numbers.append(record)
        else:
            others.append(record)
    numbers.sort(key=itemgetter(column), reverse=largest_first)
    others.sort(key=lambda record: str(record[column]), reverse=largest_first)
    return [*others, *numbers, *missing] if largest_first else [*numbers, *others, *missing]


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested hyperparameters as a flat dictionary with dotted names."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def to_json(data: Any) -> Any:
    """Return data that JSON can hold: NaN and infinities become null, and unknown types become text.

    `NO_LENGTH` becomes null, too: it stands for a length that training code decides.
    """
    match data:
        case int() if data == NO_LENGTH:
            return None
        case float():
            return data if math.isfinite(data) else None
        case Mapping():
            return {str(key): to_json(value) for key, value in data.items()}
        case str() | int() | None:
            return data
        case Iterable():
            return [to_json(value) for value in data]
    return str(data)
