"""``hyperparameters``: the search space.

A map whose ``type`` is not itself a map describes one hyperparameter.  Any other map nests
hyperparameters; its key ``when``, if the value is a map without a type, is its condition.
Everything else is a constant.  `ashwood.config.plain` turns the classes of Python's API into
such maps.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from typing import Any, TypeAlias

from ashwood.config.kinds import ANY, FLAG, Kind, choice, list_of, number, whole
from ashwood.config.report import Report
from ashwood.config.section import Key, map_schema, read_keys
from ashwood.config.wording import MOST_WHOLE, Path, dotted, must_be, not_one_of, shorten, shown
from ashwood.config.wording import number as digits
from ashwood.errors import nearest
from ashwood.search import space
from ashwood.search.conditions import Test, parse_test
from ashwood.search.draw import LARGEST_DRAW
from ashwood.search.guides import Confidence, Prior
from ashwood.search.settings import MOST_TRIALS
from ashwood.search.space import (
    MOST_LISTED,
    Categorical,
    ConditionCycle,
    Const,
    Double,
    Group,
    Hyperparameter,
    Int,
    Log,
    Space,
    Tree,
    ends_of,
)
from ashwood.views.wording import all_of, any_of

HYPERPARAMETERS: Path = ("hyperparameters",)


@dataclass(frozen=True, slots=True)
class _Leaf:
    """A type of hyperparameter.

    Attributes:
        make: its class in the search space, whose fields have the names of the keys.
        description: what it draws.
        keys: the keys besides ``type``.
    """

    make: type[Hyperparameter]
    description: str
    keys: dict[str, Key]


def _range(kind: Kind, low: str = "The smallest value.", high: str = "The largest value.") -> dict[str, Key]:
    count = Key(whole(1), "For grid search: how many evenly spaced values to try.")
    needed = "a range needs minval and maxval"
    return {"minval": Key(kind, low, required=needed), "maxval": Key(kind, high, required=needed), "count": count}


_LOG = Key(
    FLAG, "true: draw uniformly on a logarithmic scale; minval and maxval are values, and minval is above 0.", False
)


_WHEN_KEY = "when"


def _read_when(value: Any, path: Path, report: Report) -> Mapping[str, Any] | None:
    if not isinstance(value, Mapping) or not value:
        raise ValueError(must_be('a map of names to values, such as {optimizer.name: sgd, layers: ">= 2"}', value))
    for name, required in value.items():
        try:
            parse_test(ANY.read(required, (*path, name), report))
        except ValueError as error:
            report.error((*path, name), str(error))
    return None if report.known_bad_within(path) else value


_WHEN = Key(
    Kind({"type": "object", "minProperties": 1}, _read_when),
    "The condition under which a trial has it: for each of some other hyperparameters a value, a list of values, or a "
    'comparison such as ">= 2".',
)


def _stepped(kind: Kind, step: Kind) -> dict[str, Key]:
    return _range(kind) | {"step": Key(step, "The distance between values; minval is the first."), "log": _LOG}


def _read_prior(value: Any, path: Path, report: Report) -> Prior | None:
    if not isinstance(value, Mapping):
        return Prior(ANY.read(value, path, report))
    confidence = _CONFIDENCE.read(value.get("confidence", Confidence.MEDIUM), (*path, "confidence"), report)
    if "value" not in value or not value.keys() <= {"value", "confidence"}:
        raise ValueError(must_be("a value, or a map such as {value: 0.001, confidence: high}", value))
    return Prior(ANY.read(value["value"], (*path, "value"), report), confidence)


_CONFIDENCE = choice(Confidence, "a confidence")
_PRIOR = Key(
    Kind(
        {
            "anyOf": [
                {"not": {"type": "object"}},
                {
                    "type": "object",
                    "properties": {"value": {}, "confidence": _CONFIDENCE.schema},
                    "required": ["value"],
                    "additionalProperties": False,
                },
            ]
        },
        _read_prior,
    ),
    "A value that is probably good, near which more trials are drawn as long as results agree; or a map with value and "
    "confidence: low, medium (the default) or high.",
)


def _leaf(make: type[Hyperparameter], description: str, keys: dict[str, Key]) -> _Leaf:
    return _Leaf(make, description, keys | {_WHEN_KEY: _WHEN} | ({} if make is Const else {"prior": _PRIOR}))


LEAVES = {
    "int": _leaf(
        Int, "A whole number from minval to maxval, both included.", _stepped(whole(-(2**63), 2**63 - 1), whole(1))
    ),
    "double": _leaf(Double, "A number from minval to maxval.", _stepped(number(), number(above=0))),
    "log": _leaf(
        Log,
        "A number base**x with x from minval to maxval; minval and maxval are exponents.",
        _range(number(), "The smallest exponent: -4 for 0.0001.", "The largest exponent: -1 for 0.1.")
        | {"base": Key(number(above=0), "The base of the exponents.", default=10.0)},
    ),
    "categorical": _leaf(
        Categorical,
        "One of several values.",
        {
            "vals": Key(list_of(ANY, least=1), "The values to choose from.", required="the values to choose from"),
            "ordered": Key(FLAG, "true: neighbouring values are similar, such as sizes from small to large.", False),
        },
    ),
    "const": _leaf(
        Const,
        "A constant.  A bare value without a type is also a constant.",
        {"val": Key(ANY, "The value.", required="the value of the constant")},
    ),
}
"""The types of hyperparameters, by their names in files."""

_USE = {
    "categorical": ("choice", "discrete", "enum"),
    "categorical with vals: [true, false]": ("bool", "boolean"),
    "const": ("constant",),
    "double": ("float", "number", "real", "uniform"),
    "int": ("integer", "randint"),
    "log": ("logarithmic", "loguniform", "log_uniform"),
}
_OTHER_NAMES = {name: f"use {right}" for right, names in _USE.items() for name in names}
_STAND_IN = Const(None)
"""Replaces a wrong hyperparameter, so that placeholders with its name are not reported, too."""
_PROBABLY_AN_ACTUAL_VALUE = 0.1
"""Positive bounds below this are probably values and not exponents."""
_WIDE = 100
"""Least ratio of the bounds at which they are probably values of a log scale and not exponents."""
_MOST_CHECKED = 1_000
"""Largest number of values of a hyperparameter for which a condition is checked with each value."""
_MOST_LOG_INTS = 10_000
"""Largest count of an int with a logarithmic scale, whose grid is only known when it has been computed."""
_MOST_NAMES = 10
_LONGEST_NAME = 60
_LARGEST_SHOWN = 10**18
_MOST_DIGITS = 300  # Floats end at about 1e308, and lose precision below 1e-308.


def _read_space(tree: Any, path: Path, report: Report) -> Tree | None:
    if not isinstance(tree, Mapping):
        raise ValueError(must_be("a map (key: value)", tree))
    space_tree = {name: _read(value, (*path, name), report) for name, value in tree.items()}
    seen: set[str] = set()
    for inner, _ in Space(space_tree).leaves():
        name = ".".join(map(str, inner))
        if name in seen:
            report.error((*HYPERPARAMETERS, *inner), f"there are two hyperparameters called {shorten(name)}")
        seen.add(name)
    _check_conditions(Space(space_tree), report)
    return space_tree


def _read(value: Any, path: Path, report: Report) -> Hyperparameter | Group | Tree:
    if not str(path[-1]).strip():
        report.error(path, "a hyperparameter needs a name")
    if isinstance(value, Mapping):
        if "type" in value and not isinstance(value["type"], Mapping):
            return _read_typed(value, path, report)
        if all(isinstance(value.get(bound), int | float) for bound in ("minval", "maxval")):
            report.error(path, "a range needs a type: add type: int, type: double or type: log")
            return _STAND_IN
        if isinstance(value.get("vals"), list | tuple):
            report.error(path, "a choice needs a type: add type: categorical")
            return _STAND_IN
        if value:
            return _read_map(value, path, report)
    return _constant(value, path, report)


def _read_map(value: Mapping[str, Any], path: Path, report: Report) -> Group | Tree:
    when = value.get(_WHEN_KEY)
    has_condition = isinstance(when, Mapping) and when.get("type") not in tuple(LEAVES)
    if has_condition and len(value) == 1:
        report.error(
            (*path, _WHEN_KEY), f"is a condition without hyperparameters: add those of {shorten(str(path[-1]))}"
        )
    tree = {
        name: _read(child, (*path, name), report)
        for name, child in value.items()
        if not has_condition or name != _WHEN_KEY
    }
    if not has_condition:
        return tree
    condition = _WHEN.kind.read(when, (*path, _WHEN_KEY), report)
    return tree if condition is None else Group(tree, condition)


def _read_typed(value: Mapping[str, Any], path: Path, report: Report) -> Hyperparameter:
    kind = value["type"]
    if isinstance(kind, str) and kind in LEAVES:
        return _read_leaf(kind, {key: each for key, each in value.items() if key != "type"}, path, report)
    message = not_one_of(kind, LEAVES, "a type of hyperparameter", _OTHER_NAMES)
    if "?" not in message and "use" not in message:
        name = shorten(kind, _LONGEST_NAME) if isinstance(kind, str) else shown(kind)
        message += f"; for a hyperparameter that is itself named type, write type: {{type: const, val: {name}}}"
    report.error((*path, "type"), message)
    return _STAND_IN


def _constant(value: Any, path: Path, report: Report) -> Const:
    if isinstance(value, list) and any(_is_searched(item) for item in value):
        report.error(path, "a list is passed on unchanged, so the search cannot vary what is inside: use a map instead")
    elif isinstance(value, list) and len(value) > 1 and report.is_python:
        report.warn(path, "the whole list is one constant: to search among its values, use Categorical")
    return Const(ANY.read(value, path, report))


def _is_searched(item: Any) -> bool:
    typed = isinstance(item, Mapping) and item.get("type") in tuple(LEAVES)
    return typed and any(key in item for key in ("minval", "vals", "val"))


def _read_leaf(kind: str, data: Mapping[str, Any], path: Path, report: Report) -> Hyperparameter:
    keys = LEAVES[kind].keys
    # A bound that is null in a file is missing, but the value of a constant may be null.
    values = read_keys(keys, data, path, report, lambda name, _: _report_unknown(name, keys, path, report))
    if report.known_bad_within(path):
        return _STAND_IN
    if "vals" in values:
        if any(_is_searched(item) for item in values["vals"]):
            report.error((*path, "vals"), "values are passed on unchanged, so the search cannot vary what is in them")
        _check_different(values["vals"], path, report)
        values["vals"] = tuple(values["vals"])
    leaf = LEAVES[kind].make(**values)
    if leaf.prior is not None and leaf.unit_of(leaf.prior.value) is None:
        at = (*path, "prior", "value") if isinstance(data["prior"], Mapping) else (*path, "prior")
        report.error(at, f"{shown(leaf.prior.value)} is not a value that this hyperparameter can have")
    if isinstance(leaf, Int | Double) and not (
        _in_order(leaf.minval, leaf.maxval, path, report) and _sound_scale(leaf, path, report)
    ):
        return _STAND_IN
    if isinstance(leaf, Log) and not all([_log_in_order(leaf, path, report), _sound_powers(leaf, path, report)]):
        return _STAND_IN
    return leaf


def _report_unknown(name: str, keys: Mapping[str, Key], path: Path, report: Report) -> None:
    if types := [kind for kind, leaf in LEAVES.items() if name in leaf.keys]:
        message = f"is for {any_of(types)}: remove it"
    elif close := nearest(name, sorted(keys)):
        message = f"unknown key; did you mean {close}?"
        report.excuse((*path, close))
    else:
        message = f"unknown key; here may be {any_of(sorted([*keys, 'type']))}"
    report.error((*path, name), message)


def _check_different(values: Sequence[Any], path: Path, report: Report) -> None:
    """Report a value that is given twice, because it would be drawn twice as often as the others."""
    seen: set[str] = set()
    for position, value in enumerate(values):
        text = json.dumps(value, sort_keys=True, default=str)
        if text in seen:
            report.error((*path, "vals", position), f"{shown(value)} is given twice: remove one")
            return
        seen.add(text)


def _in_order(low: float, high: float, path: Path, report: Report) -> bool:
    if low < high:
        return True
    if low == high:
        fixed = f"; for a fixed value write {shorten(str(path[-1]))}: {digits(low)}"
        report.error((*path, "maxval"), f"must be above minval, but both are {digits(low)}{fixed}")
    else:
        report.error((*path, "maxval"), f"must be above minval, but is {digits(high)} while minval is {digits(low)}")
    return False


def _sound_scale(leaf: Int | Double, path: Path, report: Report) -> bool:
    """Return whether ``step`` and ``log`` fit the bounds.  A maxval that no step meets is only a warning."""
    low, high, step = leaf.minval, leaf.maxval, leaf.step
    wrong: dict[str, str] = {}
    if leaf.log:
        if low <= 0:
            least = "at least 1" if isinstance(leaf, Int) else "above 0"
            wrong["minval"] = f"must be {least} on a logarithmic scale, not {digits(low)}"
        if step is not None and not (isinstance(leaf, Int) and step == 1):
            wrong["step"] = "cannot be combined with log: true: remove one of them"
        elif isinstance(leaf, Int) and (leaf.count or 0) > _MOST_LOG_INTS:
            wrong["count"] = f"must be at most {_MOST_LOG_INTS:,} for an int with log: true"
    elif step is not None:
        values = (Decimal(repr(high)) - Decimal(repr(low))) / Decimal(repr(step))
        if values < 1:
            wrong["step"] = f"{digits(step)} is larger than the range, so minval would be the only value"
        elif values > MOST_WHOLE:
            wrong["step"] = f"{digits(step)} is too small for the range, which may have at most 2**53 values"
        elif (last := leaf.at(1)) != high:
            reached = f"with step {digits(step)} from {digits(low)}, the largest value is {digits(last)}"
            report.warn((*path, "maxval"), f"{digits(high)} is never drawn: {reached}")
    for key, message in wrong.items():
        report.error((*path, key), message)
    return not wrong


def _log_in_order(leaf: Log, path: Path, report: Report) -> bool:
    """Return whether minval is below maxval.  If they look like values, the message explains exponents."""
    low, high, base = leaf.minval, leaf.maxval, leaf.base
    if low < high or base <= 1 or not 0 < low < 1:
        return _in_order(low, high, path, report)
    exponent = f"{math.log(low, base):.4g}"
    report.error(
        (*path, "maxval"),
        f"must be above minval, but is {digits(high)} while minval is {digits(low)}; did you write values instead of "
        f"exponents? minval and maxval of log are exponents of base {digits(base)}: for values from {digits(low)} on "
        f"write minval: {exponent}, and a maxval above that, or use type: double with log: true",
    )
    return False


def _sound_powers(leaf: Log, path: Path, report: Report) -> bool:
    if leaf.base == 1:
        report.error((*path, "base"), "must not be 1, because every power of 1 is 1; 10 and 2 are usual")
        return False
    for key, exponent in (("minval", leaf.minval), ("maxval", leaf.maxval)):
        magnitude = exponent * math.log10(leaf.base)
        if abs(magnitude) > _MOST_DIGITS:
            size = "large" if magnitude > 0 else "small"
            message = f"is an exponent, and the value {leaf.base:g}**{exponent:g} is too {size}"
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
            f"write minval: {low:.4g}, maxval: {high:.4g}, or use type: double with log: true",
        )
    return True


# -- conditions -----------------------------------------------------------------------------------


def _check_conditions(found: Space, report: Report) -> None:
    """Report conditions on unknown hyperparameters, on values that cannot occur, and on themselves."""
    leaves = {".".join(path): (path, leaf) for path, leaf in found.leaves()}
    done: set[Path] = set()
    sound = True
    for path, _, conditions in found.conditional():
        tests: dict[str, list[Test]] = {}
        for owner, when in conditions:
            for name, required in when.items():
                at = (*HYPERPARAMETERS, *owner, _WHEN_KEY, name)
                test = parse_test(required)
                tests.setdefault(name, []).append(test)
                if owner not in done and (message := _flaw_of(name, test, tests[name], leaves, report)):
                    sound = False
                    report.error(at, message)
            done.add(owner)
        sound = sound and not report.known_bad((*HYPERPARAMETERS, *path))
    if sound:
        try:
            found.check()
        except ConditionCycle as error:
            report.error((*HYPERPARAMETERS, *error.paths[0]), str(error))
        if not report.known_bad_within(HYPERPARAMETERS):
            _check_contradictions(found, {name: leaf for name, (_, leaf) in leaves.items()}, report)


_Tests: TypeAlias = Mapping[str, Sequence[Test]]
"""Tests of the values of hyperparameters, by their dotted names."""


def _check_contradictions(found: Space, leaves: Mapping[str, Hyperparameter], report: Report) -> None:
    """Report conditions that contradict those of the hyperparameters to which they refer.

    A trial has a hyperparameter only if it has all those to which its conditions refer, so their conditions hold, too.
    """
    conditional = {".".join(path): conditions for path, _, conditions in found.conditional()}
    implied: dict[str, _Tests] = {}

    def tests_of(child: str) -> _Tests:
        if child in implied:
            return implied[child]
        tests: dict[str, list[Test]] = {}
        for owner, when in conditional.get(child, ()):
            for name, required in when.items():
                tests.setdefault(name, []).append(parse_test(required))
                for other, more in tests_of(name).items():
                    tests.setdefault(other, []).extend(more)
                at = (*HYPERPARAMETERS, *owner, _WHEN_KEY, name)
                wrong = next((other for other, each in tests.items() if not _is_possible(leaves[other], each)), None)
                if wrong is not None:
                    if not report.known_bad(at):
                        why = f"no value of {wrong} satisfies all conditions that it depends on"
                        report.error(at, f"can never be true: {why}")
                    tests = {}  # So that conditions that refer to this hyperparameter are not reported, too.
                    break
        implied[child] = tests
        return tests

    for name in conditional:
        tests_of(name)


def _is_possible(leaf: Hyperparameter, tests: Sequence[Test]) -> bool:
    """Return whether a hyperparameter can have a value that passes some tests."""
    if isinstance(leaf, Categorical | Const) or (leaf.size is not None and leaf.size <= _MOST_CHECKED):
        return any(all(each.holds(value) for each in tests) for value in space.values_of(leaf))
    # Tests compare with a few numbers only, so one value in each interval between them represents all others.
    ends = sorted((float(leaf.at(0.0)), float(leaf.at(LARGEST_DRAW))))
    bounds = [value for each in tests for value in each.values if isinstance(value, int | float)]
    marks = sorted({*ends, *(value for value in bounds if ends[0] < value < ends[1])})
    if leaf.size is not None and not isinstance(leaf, Log):
        low, step = min(leaf.at(0.0), leaf.at(LARGEST_DRAW)), leaf.step or 1
        near = (low + step * (int((mark - low) / step) + more) for mark in marks for more in (-1, 0, 1))
        values = [leaf.at(unit) for value in near if (unit := leaf.unit_of(value)) is not None]
        return any(all(each.holds(value) for each in tests) for value in values)
    between = ((low + high) / 2 for low, high in pairwise(marks))
    return any(all(each.holds(value) for each in tests) for value in (*marks, *between))


def _flaw_of(
    name: str,
    test: Test,
    tests: Sequence[Test],
    leaves: Mapping[str, tuple[Sequence[str], Hyperparameter]],
    report: Report,
) -> str | None:
    """Return what is wrong with the condition on one hyperparameter, or None.

    Args:
        name: the hyperparameter.
        test: the test for its value.
        tests: the test and those of the groups around it on the same hyperparameter.
        leaves: path and range of each hyperparameter by name.
        report: the problems so far.
    """
    if name not in leaves:
        if report.known_bad_within((*HYPERPARAMETERS, *name.split("."))):
            return None
        inner = [each for each in leaves if each.startswith(f"{name}.")]
        if inner:
            return f"is a map of hyperparameters: name one of them, such as {shorten(inner[0])}"
        close = nearest(name, list(leaves))
        hint = f"did you mean {close}?" if close else "write it with dots from the root, such as optimizer.name"
        return f"is not the name of a hyperparameter; {hint}"
    path, leaf = leaves[name]
    if report.known_bad_within((*HYPERPARAMETERS, *path)):
        return None
    words = _range_words(leaf)
    if leaf.size is None and test.sign == "=":
        return f'can never be true: a number {words} is never drawn exactly; use a comparison such as "< 0.1"'
    wrong = [value for value in test.values if test.sign == "=" and not can_be(leaf, value)]
    if wrong:
        return f"{shown(wrong[0])} can never occur: {name} is {words}"
    if _is_possible(leaf, tests):
        return None
    together = " together with the conditions around it" if len(tests) > 1 else ""
    return f"can never be true{together}: {name} is {words}"


def can_be(leaf: Hyperparameter, value: Any) -> bool:
    """Return whether a hyperparameter can have a value."""
    return leaf.unit_of(value) is not None


def _range_words(leaf: Hyperparameter) -> str:
    match leaf:
        case Const():
            return f"always {shown(leaf.val)}"
        case Categorical():
            return shorten(any_of(shown(value) for value in leaf.vals))
    low, high = ends_of(leaf)
    step = f" with step {digits(leaf.step)}" if not isinstance(leaf, Log) and leaf.step is not None else ""
    return f"from {digits(low)} to {digits(high)}{step}"


# -- grid search ----------------------------------------------------------------------------------


def read_grid_size(found: Space, report: Report) -> int:
    """Return the number of points of the grid.  A missing count and a grid that is too large are reported."""
    sizes: dict[str, int] = {}
    for path, leaf in found.leaves():
        has_step = isinstance(leaf, Int | Double) and leaf.step is not None
        if isinstance(leaf, Int | Double | Log) and leaf.count is None and not has_step:
            report.error((*HYPERPARAMETERS, *path), "needs count: n, the number of values that a grid search tries")
        else:
            sizes[dotted(path)] = int(_count_values(leaf, grid=True))
    points, most, what = math.prod(sizes.values()), MOST_TRIALS, "points"
    if not report.known_bad_within(HYPERPARAMETERS) and found.is_restricted:
        most, what = MOST_LISTED, "combinations"
        if max(sizes.values(), default=1) <= MOST_LISTED:
            try:
                return found.grid_size()
            except ValueError:
                pass
    if points > most:
        largest = sorted(sizes, key=lambda name: -sizes[name])[:_MOST_NAMES]
        factors = " × ".join(f"{name} {sizes[name]:,}" for name in sizes if sizes[name] > 1 and name in largest)
        size = f"{points:,}" if points < _LARGEST_SHOWN else f"more than {_LARGEST_SHOWN:,}"
        rest = " × …" if len(sizes) > len(largest) else ""
        limit = f"{most:,}" if most == MOST_TRIALS else f"{most:,}, the limit for a grid with conditions or constraints"
        report.error(
            HYPERPARAMETERS,
            f"the grid has {size} {what} ({factors}{rest}), more than {limit}: "
            "reduce a count, or search with adaptive_asha or random",
        )
    return min(points, most)


def count_settings(found: Space) -> float:
    """Return the number of different settings of a space, which is infinite if a hyperparameter is continuous.

    Conditions can make some of them equal.
    """
    return math.prod(_count_values(leaf, grid=False) for _, leaf in found.leaves())


def _count_values(leaf: Hyperparameter, *, grid: bool) -> float:
    """Return the number of values of a hyperparameter, or of those that a grid search tries."""
    size = math.inf if leaf.size is None else leaf.size
    if not grid or isinstance(leaf, Const | Categorical):
        return size
    if isinstance(leaf, Int) and leaf.log:
        return len(leaf.grid()) if leaf.count else 1
    has_step = not isinstance(leaf, Log) and leaf.step is not None
    return min(leaf.count or (size if has_step else 1), size)


def names(tree: Mapping[str, Any], *, always: bool = False) -> list[str]:
    """Return the dotted names of all hyperparameters and of the maps that nest them.

    If ``always``, those that some trials do not have because of a condition are left out.
    """
    found = []
    for name, node in tree.items():
        if always and getattr(node, "when", None) is not None:
            continue
        inner = node.val if isinstance(node, Const) else node.tree if isinstance(node, Group) else node
        below = names(inner, always=always) if isinstance(inner, Mapping) else []
        if below or node is not inner or not isinstance(inner, Mapping) or not inner:
            found += [name, *(f"{name}.{other}" for other in below)]
    return found


def searched(found: Space) -> str:
    """Return the names of the hyperparameters that vary for a message, or "" if none does."""
    varying = [dotted(path) for path, leaf in found.leaves() if not isinstance(leaf, Const)]
    if len(varying) > _MOST_NAMES:
        varying = [*varying[:_MOST_NAMES], f"{len(varying) - _MOST_NAMES:,} others"]
    return all_of(varying) if varying else ""


SPACE = Kind({"type": "object", "additionalProperties": {"$ref": "#/$defs/Hyperparameter"}}, _read_space)


def hyperparameter_schema() -> dict[str, Any]:
    """Return the JSON schema of a hyperparameter: a map with a type, nested hyperparameters, or a constant."""
    nested = {
        "description": "Nested hyperparameters.",
        "type": "object",
        "properties": {
            "type": {"$ref": "#/$defs/Hyperparameter", "type": "object"},
            _WHEN_KEY: {"description": "The condition under which a trial has these hyperparameters."},
        },
        "additionalProperties": {"$ref": "#/$defs/Hyperparameter"},
    }
    constant = {"description": "A constant.", "type": ["number", "string", "boolean", "null", "array"]}
    typed = []
    for kind, leaf in LEAVES.items():
        named = Key(Kind({"const": kind}, ANY.read), "The type.", required="the type")
        typed.append(map_schema({"type": named, **leaf.keys}, leaf.description))
    return {"anyOf": [*typed, nested, constant]}
