"""Reads training lengths and checks that they can be converted into each other."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ashwood.config.checking import must_be
from ashwood.config.report import Report
from ashwood.config.shape import MOST_WHOLE, UNITS, Searcher
from ashwood.config.stop_when import instead_of_max_time
from ashwood.config.wording import Path, any_of, dotted, nearest, shorten, shown
from ashwood.experiment.spec import Length, Unit
from ashwood.search.space import Categorical, Const, Hyperparameter, Int, Tree

BATCH_SIZE = "global_batch_size"
_MAX_LENGTH: Path = ("searcher", "max_length")
_AMOUNT = re.compile(rf"\s*(\d+)\s*({'|'.join(UNITS)})\s*")
_FORMS = "{epochs: n}, {records: n}, {batches: n} or a bare number"


def read_length(value: Any, path: Path, report: Report, *, minimum: int) -> Length | None:
    """Return a length, or None if it is wrong, which is reported."""
    if not isinstance(value, Mapping):
        count = _count(value, path, report, minimum, f"a length: {_FORMS}")
        return None if count is None else Length(count, Unit.STEPS)
    if len(value) != 1:
        report.error(path, f"must hold exactly one unit, {any_of(UNITS)}, not {len(value)}")
        return None
    [(unit, amount)] = value.items()
    if unit not in UNITS:
        close = nearest(str(unit), UNITS)
        report.error((*path, unit), f"unknown unit; {f'did you mean {close}?' if close else f'it is {any_of(UNITS)}'}")
        return None
    count = _count(amount, (*path, unit), report, minimum, "a whole number")
    return None if count is None else Length(count, Unit(unit))


def _count(value: Any, path: Path, report: Report, minimum: int, expected: str) -> int | None:
    if isinstance(value, float) and not value.is_integer():
        finer = {"epochs": " (count records or batches for less than an epoch)"}.get(str(path[-1]), "")
        report.error(path, f"must be a whole number, not {shown(value)}{finer}")
    elif isinstance(value, str) and (words := _AMOUNT.fullmatch(value)):
        report.error(path, f"must be a length, not {shown(value)}: write {{{words[2]}: {shorten(words[1], 20)}}}")
    elif isinstance(value, bool) or not isinstance(value, int):
        report.error(path, must_be("a whole number" if isinstance(value, float | str) else expected, value))
    elif not minimum <= value <= MOST_WHOLE:
        bound = f"at least {minimum}" if value < minimum else f"at most {MOST_WHOLE}"
        report.error(path, f"must be {bound}, not {shown(value)}")
    else:
        return value
    return None


def read_max_length(searcher: Searcher, report: Report) -> Length | None:
    """Return ``max_length``, or ``max_time`` with ``time_metric``, or None if it is wrong, which is reported."""
    later = searcher.max_time is not None or searcher.time_metric is not None
    if searcher.max_length is not None:
        if later:
            key = "max_time" if searcher.max_time is not None else "time_metric"
            clock = "" if searcher.time_metric is not None else f"; {instead_of_max_time(searcher.max_time)}"
            report.error(("searcher", key), f"says the same as max_length: keep one of them{clock}")
        return read_length(searcher.max_length, _MAX_LENGTH, report, minimum=1)
    if later or report.known_bad(("searcher", "max_time")) or report.known_bad(("searcher", "time_metric")):
        return _read_max_time(searcher, report)
    if not report.known_bad(_MAX_LENGTH):
        report.error(_MAX_LENGTH, f"is missing: how long to train a trial at most, {_FORMS}")
    return None


def _read_max_time(searcher: Searcher, report: Report) -> Length | None:
    metric, time = searcher.time_metric, searcher.max_time
    if metric is None and not report.known_bad(("searcher", "time_metric")):
        report.error(
            ("searcher", "time_metric"),
            f"is missing: max_time needs time_metric, for example epochs; or write max_length: {{epochs: {time}}}; "
            f"{instead_of_max_time(time)}",
        )
    if time is None and not report.known_bad(("searcher", "max_time")):
        unit = metric if metric in UNITS else None
        other = f"{{{unit}: n}}" if unit else "n"
        report.error(("searcher", "max_time"), f"is missing: time_metric needs max_time; or write max_length: {other}")
    if metric is None or time is None:
        return None
    if metric in UNITS:
        return Length(time, Unit(metric))
    close = nearest(metric, UNITS)
    meant = f"; if you mean {close}, write {close}" if close else ""
    report.warn(
        ("searcher", "time_metric"),
        f"{shown(metric)} is no unit of Ashwood, so max_time is a bare number, counted as training code counts{meant}",
    )
    return Length(time, Unit.STEPS)


def check_conversions(
    longest: Length, periods: Mapping[str, Length | None], records_per_epoch: int | None, tree: Tree, report: Report
) -> None:
    """Report each period that can't be converted to the unit of max_length."""
    for key, period in periods.items():
        if period is None or period.unit is longest.unit:
            continue
        units = {period.unit, longest.unit}
        mixed = f"counts {period.unit.value}, max_length {longest.unit.value}"
        if Unit.STEPS in units:
            bare = "a bare number"
            mixed = mixed.replace("counts steps", f"is {bare}").replace("length steps", f"length is {bare}")
            report.error((key,), f"{mixed}, and these can't be converted: give both in the same unit")
            continue
        needs = []
        if Unit.EPOCHS in units and records_per_epoch is None and not report.known_bad(("records_per_epoch",)):
            needs.append("records_per_epoch: n")
        if Unit.BATCHES in units and (lack := _lack_of_batch_size(tree, report)):
            needs.append(lack)
        if needs:
            report.error((key,), f"{mixed}: to convert, add {' and '.join(needs)}; or give both in the same unit")


def warn_of_unfair_batches(longest: Length, tree: Tree, report: Report) -> None:
    """Warn if lengths count batches and the batch size varies, because trials then see different amounts of data."""
    sizes = tree.get(BATCH_SIZE)
    varies = isinstance(sizes, Int) or (isinstance(sizes, Categorical) and len(sizes.vals) > 1)
    if longest.unit is Unit.BATCHES and varies:
        report.warn(
            _MAX_LENGTH,
            f"{BATCH_SIZE} differs between trials, so as many batches are not as much data: "
            "records or epochs compare trials fairly",
        )


def _lack_of_batch_size(tree: Tree, report: Report) -> str | None:
    """Return what to add to the file so that batches can be converted, or None if nothing is missing."""
    path: Path = ("hyperparameters", BATCH_SIZE)
    if report.known_bad_within(path):
        return None
    leaf = tree.get(BATCH_SIZE)
    if leaf is None:
        return f"the hyperparameter {BATCH_SIZE}: n"
    if isinstance(leaf, Mapping) or not all(type(size) is int and size >= 1 for size in _extremes(leaf)):
        report.error(path, f"must be whole numbers of at least 1 (const, int or categorical), so that {_why()}")
    return None


def _why() -> str:
    return f"lengths in batches can be converted; {dotted(_MAX_LENGTH)} and another length differ in unit"


def _extremes(leaf: Hyperparameter) -> tuple[Any, ...]:
    match leaf:
        case Const():
            return (leaf.val,)
        case Int():
            return (leaf.minval, leaf.maxval)
        case Categorical():
            return tuple(leaf.vals)
        case _:
            return (None,)
