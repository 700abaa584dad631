"""Values of hyperparameters that a user gives for one trial; all others are drawn.

They can be nested like the hyperparameters, or have dotted names, such as ``optimizer.lr``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, TypeAlias

from ashwood.errors import nearest
from ashwood.search.constraints import parse_constraint
from ashwood.search.space import (
    ABSENT,
    MOST_ATTEMPTS_WITH_GIVEN,
    Categorical,
    Const,
    Hyperparameter,
    Int,
    Log,
    Path,
    Space,
    Value,
    ends_of,
)

Settings: TypeAlias = Mapping[str, Any]
"""Values by the names of hyperparameters, nested or dotted."""

_MOST_NAMES = 10
_LONGEST = 60


@dataclass(frozen=True, slots=True)
class Given:
    """Given values, and what is wrong with them.

    Attributes:
        values: value of each hyperparameter, by its dotted name.
        errors: keys of wrong values, as the user wrote them, each with a message.
        warnings: keys of values that break a range, a step, a condition or a constraint, each with a message.
        unused: names of hyperparameters that the trial cannot have, because their condition is not true.
        conflicts: names of the hyperparameters of a constraint that given values break, each with its warning.
    """

    values: dict[str, Value] = field(default_factory=dict)
    errors: list[tuple[Path, str]] = field(default_factory=list)
    warnings: list[tuple[Path, str]] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    conflicts: list[tuple[Sequence[str], str]] = field(default_factory=list)


def read_given(space: Space, settings: Settings) -> Given:
    """Return the values that a user gives for a trial.

    Values get the types of drawn ones.  Equal values of constants are left out.
    """
    given = Given()
    leaves = {".".join(path): leaf for path, leaf in space.leaves()}
    _read("", (), settings, leaves, given)
    if not given.values and not given.errors:
        given.errors.append(((), "must give a value for at least one hyperparameter that is searched"))
    if not given.errors and space.is_restricted:
        _find_conflicts(space, leaves, given)
    return given


def position_of(leaf: Hyperparameter, value: Value) -> float | None:
    """Return the position of a given value in the range of a hyperparameter, from 0 to 1.

    A number outside the range is at the nearest end.  Return None if the value has no position.
    """
    if isinstance(leaf, Const | Categorical):
        return None if isinstance(leaf, Const) else leaf.unit_of(value)
    if (unit := leaf.unit_of(value)) is not None:
        return unit
    first, last = leaf.at(0), leaf.at(1)
    if min(first, last) < value < max(first, last):
        return None
    return 0.0 if (value <= first) == (first <= last) else 1.0


def _find_conflicts(space: Space, leaves: Mapping[str, Hyperparameter], given: Given) -> None:
    """Warn of given values that break conditions or constraints."""
    constants = {name: leaf.val for name, leaf in leaves.items() if isinstance(leaf, Const)}
    known = [given.values.get(name, constants.get(name, ABSENT)) for name in leaves]
    names = list(leaves)
    for index in space.unmet(known):
        known[index] = ABSENT
        if (name := names[index]) in given.values:
            given.unused.append(name)
            given.warnings.append((tuple(name.split(".")), "is not used, because its condition is not true"))
    broken = list(space.broken(known))
    for number in broken:
        _add_conflict(given, space.constraints[number], "breaks the constraint {}; it is used as given")
    # The other values are drawn again until the constraints hold, unless the given ones make that impossible.
    if not broken and (worst := _unsatisfied(space, given.values)) is not None:
        _add_conflict(given, worst, "allows hardly any draws that satisfy the constraint {}; it is used as given")


def _add_conflict(given: Given, constraint: str, message: str) -> None:
    names = [name for name in parse_constraint(constraint).names if name in given.values]
    given.warnings.append(((), message.format(constraint)))
    given.conflicts.append((names, message.format(constraint)))


def _unsatisfied(space: Space, values: Mapping[str, Value]) -> str | None:
    """Return the constraint that is broken most often with given values, or None if some draws break none."""
    broken: Counter[int] = Counter()
    for index in range(MOST_ATTEMPTS_WITH_GIVEN):
        units = space.attempt(0, 0, index, 0)
        if space.allows(units, values):
            return None
        broken.update(space.broken(space.resolve(units, values)))
    return space.constraints[broken.most_common(1)[0][0]]


def _read(prefix: str, path: Path, settings: Settings, leaves: Mapping[str, Hyperparameter], given: Given) -> None:
    for key, value in settings.items():
        name, at = f"{prefix}{key}", (*path, key)
        if (leaf := leaves.get(name)) is not None:
            _read_value(name, at, value, leaf, given)
            continue
        inside = [other for other in leaves if other.startswith(f"{name}.")]
        if not inside:
            given.errors.append((at, _unknown(name, list(leaves))))
        elif isinstance(value, Mapping):
            _read(f"{name}.", at, value, leaves, given)
        else:
            given.errors.append((at, f"is a map of hyperparameters, so give a map, or a value for {inside[0]}"))


def _read_value(name: str, at: Path, value: Value, leaf: Hyperparameter, given: Given) -> None:
    if name in given.values:
        given.errors.append((at, "is given twice: remove one of the two"))
    elif isinstance(leaf, Const):
        if leaf.unit_of(value) is None:
            given.errors.append(
                (at, f"is a constant of the experiment, {_shown(leaf.val)}, so it cannot have another value")
            )
    elif isinstance(leaf, Categorical):
        unit = leaf.unit_of(value)
        given.values[name] = value if unit is None else leaf.at(unit)
        if unit is None:
            given.warnings.append((at, f"{_shown(value)} is not one of its values; it is used as given"))
    elif (number := _number(leaf, value)) is None:
        expected = "a whole number" if isinstance(leaf, Int) else "a finite number"
        given.errors.append((at, f"must be {expected}, not {_shown(value)}"))
    else:
        given.values[name] = number
        if leaf.unit_of(number) is None:
            low, high = ends_of(leaf)
            where = f"outside its range, {low:.6g} to {high:.6g}"
            if low < number < high and not isinstance(leaf, Log):
                where = f"between two of its values, which have a step of {leaf.step:.6g}"
            given.warnings.append((at, f"{number} is {where}; it is used as given"))


def _number(leaf: Hyperparameter, value: Value) -> float | None:
    """Return a value as a number of the type that the hyperparameter draws, or None if it is no such number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        if not isfinite(value):
            return None
        if not isinstance(leaf, Int):
            return float(value)
    except OverflowError:  # The integer is too large for a float.
        return None
    return int(value) if value == int(value) else None


def _unknown(name: str, known: list[str]) -> str:
    if (close := nearest(name, known)) is not None:
        return f"unknown hyperparameter; did you mean {close}?"
    more = f" and {len(known) - _MOST_NAMES:,} more" if len(known) > _MOST_NAMES else ""
    there = f"{', '.join(known[:_MOST_NAMES])}{more}" if known else "none"
    return f"unknown hyperparameter; known ones: {there}"


def _shown(value: Value) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
