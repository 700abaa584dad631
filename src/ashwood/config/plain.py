"""Converts Python data to the plain data that a file would give."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ashwood.config.report import Report
from ashwood.config.wording import Path, shorten, shown
from ashwood.experiment.spec import Entrypoint
from ashwood.search.space import Categorical, Const, Hyperparameter

_DEEPEST = 100


def plain(value: Any, report: Report, path: Path = ()) -> Any:
    """Return a value with maps as dicts, tuples as lists and NumPy's numbers as Python's.

    Values that a file can't contain are reported and become None.
    """
    if value is None or isinstance(value, bool | int | float | str | Entrypoint):
        return value
    if len(path) > _DEEPEST:
        report.error((), f"nested more than {_DEEPEST} levels deep, or inside itself")
    elif isinstance(value, Hyperparameter):
        return _plain_leaf(value, report, path)
    elif isinstance(value, Mapping):
        return _plain_map(value, report, path)
    elif isinstance(value, list | tuple):
        return [plain(item, report, (*path, position)) for position, item in enumerate(value)]
    elif isinstance(value, os.PathLike):
        return os.fspath(value)
    elif getattr(value, "shape", None) == () and hasattr(value, "item"):  # A scalar of NumPy, PyTorch and others.
        return value.item()
    else:
        report.error(path, f"must be text, a number, true or false, a list or a map, not {shown(value)}")
    return None


def _plain_map(value: Mapping[Any, Any], report: Report, path: Path) -> dict[str, Any]:
    result = {}
    for key, child in value.items():
        if not isinstance(key, str):
            report.error((*path, str(key)), f"the key {shorten(repr(key))} must be text, not {type(key).__name__}")
        result[str(key)] = plain(child, report, (*path, str(key)))
    return result


def _plain_leaf(leaf: Hyperparameter, report: Report, path: Path) -> Hyperparameter:
    match leaf:
        case Const():
            return Const(plain(leaf.val, report, (*path, "val")))
        case Categorical():
            if not isinstance(leaf.vals, list | tuple):
                # A set has another order in each process, so draws would differ; a text would become its letters.
                report.error((*path, "vals"), f"must be a list of choices, not {type(leaf.vals).__name__}")
                return Const(None)
            return Categorical(tuple(plain(list(leaf.vals), report, (*path, "vals"))))
        case _:
            numbers = {"minval": plain(leaf.minval, report, path), "maxval": plain(leaf.maxval, report, path)}
            return replace(leaf, **numbers)


def report_not_finite(value: Any, report: Report, path: Path = ()) -> None:
    """Report NaN and infinities, which JSON can't represent, unless their path already has a problem."""
    match value:
        case float() if not math.isfinite(value) and not report.known_bad(path):
            report.error(path, f"must be a finite number, not {shown(value)}; for text write it in quotes")
        case Mapping():
            for key, child in value.items():
                report_not_finite(child, report, (*path, str(key)))
        case list() | tuple():
            for position, child in enumerate(value):
                report_not_finite(child, report, (*path, position))
        case Const():
            report_not_finite(value.val, report, (*path, "val"))
        case Categorical():
            report_not_finite(value.vals, report, (*path, "vals"))
