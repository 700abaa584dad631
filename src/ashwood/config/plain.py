"""Converts Python data to the plain data that a file would give."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from ashwood.config.hyperparameters import LEAVES
from ashwood.config.report import Report, Source
from ashwood.config.wording import Path, shorten, shown
from ashwood.experiment.spec import Entrypoint
from ashwood.search.space import Hyperparameter

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
        kind = next(name for name, leaf in LEAVES.items() if leaf.make is type(value))
        return {"type": kind} | {
            each.name: plain(getattr(value, each.name), report, (*path, each.name)) for each in fields(value)
        }
    elif isinstance(value, set | frozenset):
        # A set has another order in each process, so draws would differ.
        report.error(path, f"must be a list, whose order is fixed, not a {type(value).__name__}")
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


def plain_hparams(hparams: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of hyperparameters that are given in Python, as plain data.

    Raises:
        ConfigError: a file can't contain a value; the error lists all problems.
    """
    report = Report(Source())
    data = _plain_map(hparams, report, ())
    report.check()
    return data


def _plain_map(value: Mapping[Any, Any], report: Report, path: Path) -> dict[str, Any]:
    result = {}
    for key, child in value.items():
        if not isinstance(key, str):
            report.error((*path, str(key)), f"the key {shorten(repr(key))} must be text, not {type(key).__name__}")
        result[str(key)] = plain(child, report, (*path, str(key)))
    return result
