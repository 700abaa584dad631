"""Reads ``hyperparameters`` to a search space.

A map whose ``type`` is not itself a map describes one hyperparameter.  Any other map nests
hyperparameters.  Everything else is a constant.  In Python, instances of the classes in
`ashwood.search.space` can replace the maps.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from ashwood.config import shape
from ashwood.config.checking import checked_leaf
from ashwood.config.report import Report
from ashwood.config.shape import LEAVES, LeafType
from ashwood.config.wording import Path, all_of, dotted, not_one_of, number, shorten, shown
from ashwood.search import space
from ashwood.search.settings import MOST_TRIALS
from ashwood.search.space import Categorical, Const, Double, Hyperparameter, Int, Log, Tree

HYPERPARAMETERS: Path = ("hyperparameters",)

_OBJECTS = {
    Int: LeafType.INT,
    Double: LeafType.DOUBLE,
    Log: LeafType.LOG,
    Categorical: LeafType.CATEGORICAL,
    Const: LeafType.CONST,
}
_OTHER_NAMES = {
    "bool": "categorical with vals: [true, false]",
    "boolean": "categorical with vals: [true, false]",
    "choice": "categorical",
    "constant": "const",
    "discrete": "categorical",
    "enum": "categorical",
    "float": "double",
    "integer": "int",
    "logarithmic": "log",
    "loguniform": "log",
    "log_uniform": "log",
    "number": "double",
    "randint": "int",
    "real": "double",
    "uniform": "double",
}
_STAND_IN = Const(None)
"""Replaces a wrong hyperparameter, so that placeholders with its name are not reported, too."""
_PROBABLY_AN_ACTUAL_VALUE = 0.1
"""Positive bounds below this are probably values and not exponents."""
_WIDE = 100
"""Least ratio of the bounds at which they are probably values of a log scale and not exponents."""
_MOST_NAMES = 10
_LONGEST_NAME = 60
_LARGEST_SHOWN = 10**18
_MOST_DIGITS = 300  # Floats end at about 1e308, and lose precision below 1e-308.


def read_space(tree: Mapping[str, Any], report: Report) -> Tree:
    """Return the search space that a map describes; problems are reported."""
    space_tree = {name: _read(value, (*HYPERPARAMETERS, name), report) for name, value in tree.items()}
    seen: set[str] = set()
    for path, _ in space.Space(space_tree).leaves():
        name = ".".join(map(str, path))
        if name in seen:
            report.error((*HYPERPARAMETERS, *path), f"there are two hyperparameters called {shorten(name)}")
        seen.add(name)
    return space_tree


def _read(value: Any, path: Path, report: Report) -> Hyperparameter | Tree:
    if not str(path[-1]).strip():
        report.error(path, "a hyperparameter needs a name")
    if isinstance(value, Hyperparameter):
        return _read_leaf(_OBJECTS[type(value)], _as_map(value), path, report)
    if isinstance(value, Mapping):
        if "type" in value and not isinstance(value["type"], Mapping | Hyperparameter):
            return _read_typed(value, path, report)
        if all(isinstance(value.get(bound), int | float) for bound in ("minval", "maxval")):
            report.error(path, "a range needs a type: add type: int, type: double or type: log")
            return _STAND_IN
        if isinstance(value.get("vals"), list | tuple):
            report.error(path, "a choice needs a type: add type: categorical")
            return _STAND_IN
        if value:
            return {name: _read(child, (*path, name), report) for name, child in value.items()}
    return _constant(value, path, report)


def _as_map(leaf: Hyperparameter) -> dict[str, Any]:
    values = {each.name: getattr(leaf, each.name) for each in fields(leaf)}
    return {"type": _OBJECTS[type(leaf)].value} | {
        name: list(value) if isinstance(value, tuple) else value for name, value in values.items()
    }


def _read_typed(value: Mapping[str, Any], path: Path, report: Report) -> Hyperparameter:
    kind = value["type"]
    if isinstance(kind, str) and kind in LEAVES:
        return _read_leaf(LeafType(kind), dict(value), path, report)
    if isinstance(kind, str) and (right := _OTHER_NAMES.get(kind.lower().replace("-", "_"))):
        message = f"{shown(kind)} isn't a type of hyperparameter; use {right}"
    else:
        message = not_one_of(kind, list(LEAVES), "a type of hyperparameter")
        name = shorten(kind, _LONGEST_NAME) if isinstance(kind, str) else shown(kind)
        if "?" not in message:
            message += f"; for a hyperparameter that is itself named type, write type: {{type: const, val: {name}}}"
    report.error((*path, "type"), message)
    return _STAND_IN


def _constant(value: Any, path: Path, report: Report) -> Const:
    if isinstance(value, list) and any(_is_searched(item) for item in value):
        report.error(path, "a list is handed over as it is, so nothing inside can be searched: use a map instead")
    elif isinstance(value, list) and len(value) > 1 and report.is_python:
        report.warn(path, "is a constant, the whole list: to search among its values, use Categorical")
    return Const(value)


def _is_searched(item: Any) -> bool:
    if isinstance(item, Mapping):
        return item.get("type") in tuple(LEAVES) and any(key in item for key in ("minval", "vals", "val"))
    return isinstance(item, Hyperparameter)


def _read_leaf(kind: LeafType, value: dict[str, Any], path: Path, report: Report) -> Hyperparameter:
    leaf = checked_leaf(LEAVES[kind], value, path, report)
    match leaf:
        case shape.IntLeaf():
            ok = _in_order(leaf.minval, leaf.maxval, path, report)
            return Int(leaf.minval, leaf.maxval, leaf.count) if ok else _STAND_IN
        case shape.DoubleLeaf():
            ok = _in_order(leaf.minval, leaf.maxval, path, report)
            return Double(leaf.minval, leaf.maxval, leaf.count) if ok else _STAND_IN
        case shape.LogLeaf():
            ok = _log_in_order(leaf, path, report)
            ok = _sound_powers(leaf, path, report) and ok
            return Log(leaf.minval, leaf.maxval, leaf.base, leaf.count) if ok else _STAND_IN
        case shape.CategoricalLeaf():
            if any(_is_searched(item) for item in leaf.vals):
                message = "values are handed over as they are, so none of them can be searched itself"
                report.error((*path, "vals"), message)
            _check_different(leaf.vals, path, report)
            return Categorical(tuple(leaf.vals))
        case shape.ConstLeaf():
            return Const(leaf.val)
        case _:
            return _STAND_IN


def _check_different(values: Sequence[Any], path: Path, report: Report) -> None:
    """Report a value that is given twice, because it would be drawn twice as often as the others."""
    seen: set[str] = set()
    for position, value in enumerate(values):
        text = json.dumps(value, sort_keys=True, default=str)
        if text in seen:
            report.error((*path, "vals", position), f"{shown(value)} is given twice: leave one out")
            return
        seen.add(text)


def _in_order(low: float, high: float, path: Path, report: Report) -> bool:
    if low < high:
        return True
    if low == high:
        fixed = f"; for a fixed value write {shorten(str(path[-1]))}: {number(low)}"
        report.error((*path, "maxval"), f"must be above minval, but both are {number(low)}{fixed}")
    else:
        report.error((*path, "maxval"), f"must be above minval, but is {number(high)} while minval is {number(low)}")
    return False


def _log_in_order(leaf: shape.LogLeaf, path: Path, report: Report) -> bool:
    """Return whether minval is below maxval.  If they look like values, the message explains exponents."""
    low, high, base = leaf.minval, leaf.maxval, leaf.base
    if low < high or base <= 1 or not 0 < low < 1:
        return _in_order(low, high, path, report)
    exponent = f"{math.log(low, base):.4g}"
    report.error(
        (*path, "maxval"),
        f"must be above minval, but is {number(high)} while minval is {number(low)}; did you write values instead of "
        f"exponents? minval and maxval of log are exponents of base {number(base)}: for values from {number(low)} on "
        f"write minval: {exponent}, and a maxval above that",
    )
    return False


def _sound_powers(leaf: shape.LogLeaf, path: Path, report: Report) -> bool:
    if leaf.base == 1:
        report.error((*path, "base"), "must not be 1, since every power of 1 is 1; 10 and 2 are usual")
        return False
    for key, exponent in (("minval", leaf.minval), ("maxval", leaf.maxval)):
        magnitude = exponent * math.log10(leaf.base)
        if abs(magnitude) > _MOST_DIGITS:
            size = "large" if magnitude > 0 else "small"
            message = f"is an exponent, and {leaf.base:g}**{exponent:g} is too {size} a number"
            report.error((*path, key), message)
            return False
    below, wide = leaf.minval < _PROBABLY_AN_ACTUAL_VALUE, leaf.maxval >= _WIDE * leaf.minval
    if leaf.base > 1 and 0 < leaf.minval < leaf.maxval and below and (wide or leaf.maxval <= 1):
        low, high = (math.log(bound, leaf.base) for bound in (leaf.minval, leaf.maxval))
        # In a file this is only a warning, because Determined accepts the same bounds.
        add = report.error if report.is_python and wide else report.warn
        add(
            path,
            f"minval and maxval of log are exponents, so values run from {leaf.base**leaf.minval:.4g} to "
            f"{leaf.base**leaf.maxval:.4g}; for {leaf.minval:g} to {leaf.maxval:g} "
            f"write minval: {low:.4g}, maxval: {high:.4g}",
        )
    return True


# -- grid search ----------------------------------------------------------------------------------


def read_grid_size(tree: Tree, report: Report) -> int:
    """Return the number of points of the grid.  A missing count and a grid that is too large are reported."""
    sizes: dict[str, int] = {}
    for path, leaf in space.Space(tree).leaves():
        at = (*HYPERPARAMETERS, *path)
        if isinstance(leaf, Int | Double | Log) and leaf.count is None:
            report.error(at, "needs count: n, how many values a grid search tries of it")
        else:
            sizes[dotted(path)] = _grid_size(leaf)
    points = math.prod(sizes.values())
    if points > MOST_TRIALS:
        largest = sorted(sizes.items(), key=lambda size: -size[1])[:_MOST_NAMES]
        factors = " × ".join(f"{name} {size:,}" for name, size in sizes.items() if size > 1 and (name, size) in largest)
        size = f"{points:,}" if points < _LARGEST_SHOWN else f"more than {_LARGEST_SHOWN:,}"
        rest = " × …" if len(sizes) > len(largest) else ""
        report.error(
            HYPERPARAMETERS,
            f"the grid has {size} points ({factors}{rest}), more than {MOST_TRIALS:,}: "
            "lower some count, or search with adaptive_asha or random",
        )
    return min(points, MOST_TRIALS)


def _grid_size(leaf: Hyperparameter) -> int:
    """Return the number of values of ``leaf.grid()`` without creating them."""
    match leaf:
        case Const():
            return 1
        case Categorical():
            return len(leaf.vals)
        case Int():
            return min(leaf.count or 1, leaf.maxval - leaf.minval + 1)
        case _:
            return leaf.count or 1


def count_settings(tree: Tree) -> float:
    """Return the number of different settings of a space, which is infinite if a hyperparameter is continuous."""
    return math.prod(
        math.inf
        if isinstance(leaf, Double | Log)
        else leaf.maxval - leaf.minval + 1
        if isinstance(leaf, Int)
        else _grid_size(leaf)
        for _, leaf in space.Space(tree).leaves()
    )


def names(tree: Mapping[str, Any]) -> list[str]:
    """Return the dotted names of all hyperparameters and of the maps that nest them."""
    found = []
    for name, node in tree.items():
        found.append(name)
        inner = node.val if isinstance(node, Const) else node
        if isinstance(inner, Mapping):
            found += [f"{name}.{other}" for other in names(inner)]
    return found


def searched(tree: Tree) -> str:
    """Return the names of the hyperparameters that vary for a message, or "" if none does."""
    varying = [dotted(path) for path, leaf in space.Space(tree).leaves() if not isinstance(leaf, Const)]
    if len(varying) > _MOST_NAMES:
        varying = [*varying[:_MOST_NAMES], f"{len(varying) - _MOST_NAMES:,} others"]
    return all_of(varying) if varying else ""
