"""Hyperparameters: their types, how values are drawn, and grids.

A space is a tree: maps of names to hyperparameters or to further maps.  Values have the same
shape, without the hyperparameters whose conditions are not true.  Draws have addresses (see
`ashwood.search.draw`), so the values of a hyperparameter stay the same if others are added or
removed.  Values that break a constraint are drawn again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from math import isfinite, prod
from typing import Any, Final, NamedTuple, TypeAlias, TypeGuard

from ashwood.errors import AshwoodError
from ashwood.search.conditions import Test, When, parse_test, same
from ashwood.search.constraints import Constraint, parse_constraint
from ashwood.search.decimals import EXACT, power, power_between, power_position, written
from ashwood.search.draw import unit_draw

Value: TypeAlias = Any
"""A JSON value that training code gets for a hyperparameter."""

_NEAR = 1e-6
"""Largest distance of a number from a value of a range with steps, in steps, at which it counts as this value."""

NOTHING: Mapping[str, Value] = {}


@dataclass(frozen=True, slots=True)
class Const:
    """A constant, ``val``; ``when`` is the condition under which a trial has it."""

    val: Value
    when: When | None = None

    @property
    def size(self) -> int:
        """The number of different values."""
        return 1

    @property
    def prior(self) -> None:
        """None, because it has only one value."""
        return None

    def at(self, _unit: float, /) -> Value:
        """Return the constant; the draw has no effect."""
        return self.val

    def unit_of(self, value: Value) -> float | None:
        """Return 0.5, the middle of the only share, or None if ``value`` is not the constant."""
        return 0.5 if same(self.val, value) else None

    def grid(self) -> tuple[Value, ...]:
        """Return the only value."""
        return (self.val,)


@dataclass(frozen=True, slots=True)
class Int:
    """An integer from ``minval`` to ``maxval``, both included.

    Attributes:
        minval: the smallest integer.
        maxval: the largest integer.  With a ``step``, it need not be one of the values.
        count: number of values of a grid.
        step: distance between neighbouring values, of which ``minval`` is the first; None for 1.
        log: whether draws are uniform on a logarithmic scale.  ``minval`` must be at least 1.
        when: the condition under which a trial has it, such as ``{"optimizer": "sgd"}``, or None.
        prior: a value that is probably good, or a map with ``value`` and ``confidence`` (low, medium or high), or None.
    """

    minval: int
    maxval: int
    count: int | None = None
    step: int | None = None
    log: bool = False
    when: When | None = None
    prior: Any = None  # A Prior or None in a spec; in Python code also what an experiment file can have.

    @property
    def size(self) -> int:
        """The number of different values."""
        return (self.maxval - self.minval) // (self.step or 1) + 1

    def at(self, unit: float, /) -> int:
        """Return the integer at ``unit`` in [0, 1), of which each integer has an equal share.

        On a logarithmic scale, an integer has the share of the numbers that are rounded to it, as in Optuna.
        """
        if self.log:
            return min(self.maxval, max(self.minval, round(power_between(*self._log_ends(), unit))))
        size = self.size
        return self.minval + (self.step or 1) * min(size - 1, int(unit * size))

    def unit_of(self, value: Value) -> float | None:
        """Return the middle of the share of an integer, or None if ``value`` is not one of the integers.

        On a logarithmic scale, return the position of the integer itself, which lies in its share.
        """
        if not _is_number(value) or value != int(value) or not self.minval <= value <= self.maxval:
            return None
        if self.log:
            return power_position(*self._log_ends(), Decimal(int(value)))
        index, rest = divmod(int(value) - self.minval, self.step or 1)
        return None if rest else (index + 0.5) / self.size

    def _log_ends(self) -> tuple[Decimal, Decimal]:
        half = Decimal("0.5")
        return self.minval - half, self.maxval + half

    def grid(self) -> tuple[int, ...]:
        """Return ``count`` evenly spaced integers, ends included, or all if there are fewer; of one, the middle.

        Halves are rounded away from zero, as Determined does.  On a logarithmic scale, integers that several points
        round to are returned once, so there can be fewer than ``count``.  With a ``step``, ``count`` may be None for
        all values.
        """
        if self.log:
            low, high, count = Decimal(self.minval), Decimal(self.maxval), min(_count(self.count), self.size)
            return tuple(dict.fromkeys(round(power_between(low, high, unit)) for unit in _units(count)))
        if self.step is not None:
            return tuple(self.minval + self.step * index for index in _spread(self.count, self.size))
        span = self.maxval - self.minval
        count = min(_count(self.count), span + 1)
        if count == 1:
            return (_rounded(self.minval + self.maxval, 2),)
        steps = count - 1
        return tuple(_rounded(self.minval * steps + i * span, steps) for i in range(count))

    def former_grid(self) -> tuple[int, ...]:
        """Return the grid before rules 4, in which halves were rounded up, and a single value was rounded down."""
        span = self.maxval - self.minval
        count = min(_count(self.count), span + 1)
        if count == 1:
            return (self.minval + span // 2,)
        steps = count - 1
        return tuple(self.minval + (2 * i * span + steps) // (2 * steps) for i in range(count))


@dataclass(frozen=True, slots=True)
class Double:
    """A real number from ``minval`` to ``maxval``.

    Attributes:
        minval: the smallest value.
        maxval: the largest value.  With a ``step``, it need not be one of the values.
        count: number of values of a grid.
        step: distance between neighbouring values, of which ``minval`` is the first, or None for all real numbers.
        log: whether draws are uniform on a logarithmic scale.  ``minval`` must be above 0.
        when: the condition under which a trial has it, such as ``{"optimizer": "sgd"}``, or None.
        prior: a value that is probably good, or a map with ``value`` and ``confidence`` (low, medium or high), or None.
    """

    minval: float
    maxval: float
    count: int | None = None
    step: float | None = None
    log: bool = False
    when: When | None = None
    prior: Any = None  # A Prior or None in a spec; in Python code also what an experiment file can have.

    @property
    def size(self) -> int | None:
        """The number of different values, or None if the values are continuous."""
        if self.minval == self.maxval:
            return 1
        if self.step is None:
            return None
        span = EXACT.subtract(written(self.maxval), written(self.minval))
        return int(EXACT.divide_int(span, written(self.step))) + 1

    def at(self, unit: float, /) -> float:
        """Return the value at ``unit`` in [0, 1], linearly or on the logarithmic scale.

        With a ``step``, each value has an equal share, and ``unit`` must be below 1.
        """
        if self.log:
            value = float(power_between(Decimal(self.minval), Decimal(self.maxval), unit))
            return min(self.maxval, max(self.minval, value))
        if self.step is not None and (size := self.size):
            return self._nth(min(size - 1, int(unit * size)))
        return _between(self.minval, self.maxval, unit)

    def _nth(self, index: int) -> float:
        # Floats are added as the decimals that a user writes: 0.1 and twice 0.1 is 0.3, not 0.30000000000000004.
        return float(EXACT.fma(written(self.step or 0.0), Decimal(index), written(self.minval)))

    def unit_of(self, value: Value) -> float | None:
        """Return the position of ``value`` from 0 (minval) to 1 (maxval), or None if it is outside.

        With a ``step``, return the middle of the share of the value, or None if it is not one of the values.
        """
        if not _is_number(value):
            return None
        if self.step is not None and (size := self.size):
            if not self.minval - self.step <= value <= self.maxval + self.step:
                return None
            index = round(EXACT.divide(EXACT.subtract(written(value), written(self.minval)), written(self.step)))
            # A user may have computed the value with floats, as 0.1 + 0.2.
            near = 0 <= index < size and abs(self._nth(index) - value) <= _NEAR * self.step
            return (index + 0.5) / size if near else None
        if self.log and self.minval <= value <= self.maxval:
            return power_position(Decimal(self.minval), Decimal(self.maxval), Decimal(value))
        return _position(self.minval, self.maxval, value)

    def grid(self) -> tuple[float, ...]:
        """Return ``count`` evenly spaced values, ends included.

        With a ``step``, ``count`` may be None for all values.
        """
        if self.step is not None and (size := self.size):
            return tuple(self._nth(index) for index in _spread(self.count, size))
        return tuple(self.at(unit) for unit in _units(self.count))


@dataclass(frozen=True, slots=True)
class Log:
    """A real number ``base**x`` with x uniform from ``minval`` to ``maxval``: the bounds are exponents.

    Attributes:
        minval: the smallest exponent.
        maxval: the largest exponent.
        base: the base.
        count: number of values of a grid.
        when: the condition under which a trial has it, such as ``{"optimizer": "sgd"}``, or None.
        prior: a value that is probably good, or a map with ``value`` and ``confidence`` (low, medium or high), or None.
    """

    minval: float
    maxval: float
    base: float = 10.0
    count: int | None = None
    when: When | None = None
    prior: Any = None  # A Prior or None in a spec; in Python code also what an experiment file can have.

    @property
    def size(self) -> int | None:
        """The number of different values, or None if the values are continuous."""
        return 1 if self.minval == self.maxval else None

    def at(self, unit: float, /) -> float:
        """Return the value at ``unit`` in [0, 1], linearly in the exponent."""
        exponent = _between(self.minval, self.maxval, unit)
        return power(self.base, exponent)

    def unit_of(self, value: Value) -> float | None:
        """Return the position of the exponent of ``value`` from 0 to 1, or None if it is outside."""
        if not _is_number(value) or value <= 0:
            return None
        low, high = ends_of(self)
        if not low <= value <= high:
            return None
        exponent = float(EXACT.divide(EXACT.ln(Decimal(value)), EXACT.ln(Decimal(self.base))))
        # A bound is a rounded power, so its exponent can lie outside the range by the last bit.
        return _position(self.minval, self.maxval, min(self.maxval, max(self.minval, exponent)))

    def grid(self) -> tuple[float, ...]:
        """Return ``count`` values that are evenly spaced in the exponent, ends included."""
        return tuple(self.at(unit) for unit in _units(self.count))


@dataclass(frozen=True, slots=True)
class Categorical:
    """One of ``vals``.

    Attributes:
        vals: the values.
        ordered: whether neighbouring values are similar, such as sizes from small to large.
        when: the condition under which a trial has it, such as ``{"optimizer": "sgd"}``, or None.
        prior: a value that is probably good, or a map with ``value`` and ``confidence`` (low, medium or high), or None.
    """

    vals: Sequence[Value]
    ordered: bool = False
    when: When | None = None
    prior: Any = None  # A Prior or None in a spec; in Python code also what an experiment file can have.

    @property
    def size(self) -> int:
        """The number of different values."""
        return len(self.vals)

    def at(self, unit: float, /) -> Value:
        """Return the value at ``unit`` in [0, 1), of which each value has an equal share."""
        return self.vals[int(unit * len(self.vals))]

    def unit_of(self, value: Value) -> float | None:
        """Return the middle of the share of ``value``, or None if it is not one of ``vals``."""
        found = (i for i, each in enumerate(self.vals) if same(each, value))
        return next(((i + 0.5) / len(self.vals) for i in found), None)

    def grid(self) -> tuple[Value, ...]:
        """Return all values."""
        return tuple(self.vals)


Hyperparameter: TypeAlias = Const | Int | Double | Log | Categorical
Tree: TypeAlias = Mapping[str, "Hyperparameter | Group | Tree"]
Path: TypeAlias = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """A map of hyperparameters that a trial has only if the condition ``when`` is true."""

    tree: Tree
    when: When


class Owned(NamedTuple):
    """A condition, and the path of the hyperparameter or the group that has it."""

    path: Path
    when: When


class ConditionCycle(ValueError):
    """Hyperparameters whose conditions refer to each other; ``paths`` begins and ends with the same one."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Describe a cycle, in which each hyperparameter has a condition on the one before it."""
        super().__init__(f"its conditions form a cycle: {' → '.join(map('.'.join, reversed(paths)))}")
        self.paths = paths


ABSENT: Final = object()
"""Stands for the value of a hyperparameter that a trial does not have."""


@dataclass(frozen=True)
class Space:
    """The hyperparameters of an experiment, nested to any depth.

    Attributes:
        tree: the hyperparameters.
        constraints: expressions that hold for the values of every trial; see `ashwood.search.constraints`.
    """

    tree: Tree
    constraints: tuple[str, ...] = ()

    def leaves(self) -> Iterator[tuple[Path, Hyperparameter]]:
        """Yield each hyperparameter with its path, in the order of the file."""
        return ((path, leaf) for path, leaf, _ in self._all)

    def conditional(self) -> Iterator[tuple[Path, Hyperparameter, Sequence[Owned]]]:
        """Yield each hyperparameter that has conditions, with its path and its conditions, the outermost first."""
        return ((path, leaf, conditions) for path, leaf, conditions in self._all if conditions)

    def __getstate__(self) -> dict[str, Any]:
        # The cached properties hold functions, which cannot be pickled.
        return {"tree": self.tree, "constraints": self.constraints}

    @cached_property
    def _all(self) -> Sequence[tuple[Path, Hyperparameter, Sequence[Owned]]]:
        return list(_leaves((), self.tree, ()))

    @cached_property
    def _indices(self) -> Mapping[str, int]:
        return {".".join(path): index for index, (path, _, _) in enumerate(self._all)}

    @cached_property
    def _parsed(self) -> Sequence[tuple[Constraint, Mapping[str, int]]]:
        """The constraints, each with the indices of the hyperparameters to which it refers.

        Raises:
            ValueError: a constraint is malformed, or refers to an unknown hyperparameter.
        """
        found = []
        for text in self.constraints:
            constraint = parse_constraint(text)
            if unknown := [name for name in constraint.names if name not in self._indices]:
                raise ValueError(f"there is no hyperparameter {unknown[0]!r:.60}")
            found.append((constraint, {name: self._indices[name] for name in constraint.names}))
        return found

    @cached_property
    def _tests(self) -> Sequence[tuple[int, Sequence[tuple[int, Test]]]]:
        """The hyperparameters with conditions: index, and for each condition the index of another one, with the test.

        Each hyperparameter comes after those to which its conditions refer.

        Raises:
            ValueError: a condition is malformed, or refers to an unknown hyperparameter or to its own.
        """
        indices = self._indices
        tests: dict[int, list[tuple[int, Test]]] = {}
        for index, (_, _, conditions) in enumerate(self._all):
            for _, when in conditions:
                for name, required in when.items():
                    if name not in indices:
                        raise ValueError(f"there is no hyperparameter {name!r:.60}")
                    tests.setdefault(index, []).append((indices[name], parse_test(required)))
        graph = {index: [other for other, _ in each] for index, each in tests.items()}
        try:
            order = list(TopologicalSorter(graph).static_order())
        except CycleError as error:
            raise ConditionCycle([self._all[index][0] for index in error.args[1]]) from None
        return [(index, tests[index]) for index in order if index in tests]

    @property
    def is_restricted(self) -> bool:
        """Whether there are conditions or constraints, so that not every combination of values is a setting."""
        return bool(self._tests or self.constraints)

    def check(self) -> None:
        """Check the conditions and the constraints.

        Raises:
            ValueError: one is malformed, or refers to an unknown hyperparameter, or a condition to its own.
        """
        _ = self._tests, self._parsed

    def sample(self, seed: int, bracket: int, index: int, given: Mapping[str, Value] = NOTHING) -> dict[str, Value]:
        """Return the hyperparameter values of the ``index``-th trial of a bracket.

        Without constraints, each value is a function of (seed, bracket, index, its own path) alone, unless it is
        ``given`` by dotted name.
        """
        return self.values(self.units(seed, bracket, index, given), given)

    def units(self, seed: int, bracket: int, index: int, given: Mapping[str, Value] = NOTHING) -> list[float]:
        """Return the draws in [0, 1) of the ``index``-th trial of a bracket, one for each varying hyperparameter.

        They are those of the first attempt whose values break no constraint.  If ``given`` values leave no such
        attempt among the first `MOST_ATTEMPTS_WITH_GIVEN`, they are those of the first one, because given values are
        used in any case.

        Raises:
            AshwoodError: there is no such attempt among the first `MOST_ATTEMPTS`.
        """
        for attempt in range(MOST_ATTEMPTS_WITH_GIVEN if given else MOST_ATTEMPTS):
            units = self.attempt(seed, bracket, index, attempt)
            if self.allows(units, given):
                return units
        if given:
            return self.attempt(seed, bracket, index, 0)
        raise AshwoodError(f"none of {MOST_ATTEMPTS:,} draws of the hyperparameters satisfies the constraints")

    def attempt(self, seed: int, bracket: int, index: int, attempt: int) -> list[float]:
        """Return the draws in [0, 1) of an attempt to find values that break no constraint."""
        # The first attempt has the address that all draws had before there were constraints.
        again = ("redraw", attempt) if attempt else ()
        return [
            unit_draw(seed, "hparams", bracket, index, *path, *again)
            for path, leaf in self.leaves()
            if not isinstance(leaf, Const)
        ]

    def allows(self, units: Sequence[float], given: Mapping[str, Value] = NOTHING) -> bool:
        """Return whether the values for draws in [0, 1), except those that are ``given``, break no constraint.

        A constraint on given values and constants alone does not count, because other draws cannot satisfy it.
        """
        if not self.constraints:
            return True
        return all(self._is_fixed(number, given) for number in self.broken(self.resolve(units, given)))

    def _is_fixed(self, number: int, given: Mapping[str, Value]) -> bool:
        """Return whether a constraint refers to ``given`` values and constants alone."""
        _, indices = self._parsed[number]
        return all(name in given or isinstance(self._all[index][1], Const) for name, index in indices.items())

    def broken(self, values: Sequence[Value]) -> Iterator[int]:
        """Yield the index of each constraint that values break, which are in the order of `leaves`, or `ABSENT`.

        A constraint on a hyperparameter that is absent is not broken.
        """
        for number, (constraint, indices) in enumerate(self._parsed):
            known = {name: values[index] for name, index in indices.items()}
            if not any(value is ABSENT for value in known.values()) and not constraint.holds(known):
                yield number

    def unmet(self, values: Sequence[Value]) -> list[int]:
        """Return the index of each hyperparameter that a trial cannot have, because a condition is not true.

        Args:
            values: the values that are known, in the order of `leaves`; the others are `ABSENT`.
        """
        found: list[int] = []
        for index, tests in self._tests:
            if any(
                other in found or (values[other] is not ABSENT and not test.holds(values[other]))
                for other, test in tests
            ):
                found.append(index)
        return found

    def values(self, units: Sequence[float], given: Mapping[str, Value] = NOTHING) -> dict[str, Value]:
        """Return the hyperparameter values for draws in [0, 1), except those that are ``given`` by dotted name."""
        return self._nested(self.resolve(units, given))

    def resolve(self, units: Sequence[float], given: Mapping[str, Value] = NOTHING) -> list[Value]:
        """Return the value of each hyperparameter, or `ABSENT`, in the order of `leaves`.

        Args:
            units: draws in [0, 1).
            given: values that are not drawn, by dotted name; they count for conditions.
        """
        free = iter(units)
        values = [leaf.val if isinstance(leaf, Const) else leaf.at(next(free)) for _, leaf in self.leaves()]
        for name, value in given.items():
            if (index := self._indices.get(name)) is not None:
                values[index] = value
        return self._settled(values)

    def _settled(self, values: list[Value]) -> list[Value]:
        """Replace the values whose conditions are not true by `ABSENT`, and return the list."""
        for index, tests in self._tests:
            if not all(values[other] is not ABSENT and test.holds(values[other]) for other, test in tests):
                values[index] = ABSENT
        return values

    def _nested(self, values: Sequence[Value]) -> dict[str, Value]:
        pairs = zip(self._all, values, strict=True)
        return _nest((path, value) for (path, _, _), value in pairs if value is not ABSENT)

    # -- grids ------------------------------------------------------------------------------------

    def grid_size(self) -> int:
        """Return the number of points of the grid.

        Raises:
            ValueError: there are conditions or constraints, and more than `MOST_LISTED` points.
        """
        return prod(self._grid_sizes) if self._listed is None else len(self._listed)

    def grid_point(self, index: int, *, former: bool = False) -> dict[str, Value]:
        """Return the ``index``-th point of the grid, in which the last hyperparameter varies fastest.

        If ``former``, integers are those of `Int.former_grid`.
        """
        if self._listed is not None:
            index = self._listed[index]
        values: list[Value] = []
        for (_, leaf), size in zip(reversed(list(self.leaves())), reversed(self._grid_sizes), strict=True):
            index, digit = divmod(index, size)
            values.append((leaf.former_grid() if former and isinstance(leaf, Int) else leaf.grid())[digit])
        return self._nested(self._settled(values[::-1]))

    @cached_property
    def _grid_sizes(self) -> Sequence[int]:
        return [len(leaf.grid()) for _, leaf in self.leaves()]

    @cached_property
    def _listed(self) -> Sequence[int] | None:
        """The indices of the points among all combinations, or None if every combination is a point.

        In the index of a point, the digit of a hyperparameter that the point does not have is 0.

        Raises:
            ValueError: there are more than `MOST_LISTED` points, those that break a constraint included.
        """
        if not self.is_restricted:
            return None
        return sorted(code for code, values in self.combinations() if next(self.broken(values), None) is None)

    def combinations(self) -> list[tuple[int, list[Value]]]:
        """Return the values of each point of the grid before constraints, with its index among all combinations.

        Raises:
            ValueError: there are more than `MOST_LISTED`.
        """
        grids = [leaf.grid() for _, leaf in self.leaves()]
        places = [prod(self._grid_sizes[index + 1 :]) for index in range(len(grids))]
        tests = dict(self._tests)
        # A hyperparameter is added to each partial point after those to which its conditions refer.  So the number of
        # partial points is never above that of the points, which can be much smaller than that of all combinations.
        points: list[tuple[int, list[Value]]] = [(0, [ABSENT] * len(grids))]
        for index in [index for index in range(len(grids)) if index not in tests] + list(tests):
            longer = []
            for code, values in points:
                needed = tests.get(index, ())
                if all(values[other] is not ABSENT and test.holds(values[other]) for other, test in needed):
                    for digit, value in enumerate(grids[index]):
                        longer.append((code + digit * places[index], [*values[:index], value, *values[index + 1 :]]))
                else:
                    longer.append((code, values))
                if len(longer) > MOST_LISTED:
                    raise ValueError(f"more than {MOST_LISTED:,} points")
            points = longer
        return points


MOST_LISTED = 100_000
"""Largest number of points of a grid with conditions or constraints, which are listed when the first one is needed."""
MOST_ATTEMPTS = 100_000
"""Largest number of draws for a trial until one breaks no constraint."""
MOST_ATTEMPTS_WITH_GIVEN = 10_000
"""Largest number of draws for a trial with given values, which can make it impossible to satisfy all constraints."""


def ends_of(leaf: Const | Int | Double | Log) -> tuple[float, float]:
    """Return the smallest and the largest value of a hyperparameter whose values are numbers."""
    first, last = leaf.at(0), leaf.at(1)  # With a base below 1, values fall.
    return min(first, last), max(first, last)


def values_of(leaf: Hyperparameter) -> Sequence[Value]:
    """Return all values of a hyperparameter that is not continuous, in their order."""
    match leaf:
        case Int():
            return range(leaf.minval, leaf.maxval + 1, leaf.step or 1)
        case Double():
            return replace(leaf, count=None).grid()
    return leaf.grid()


def _leaves(
    prefix: Path, tree: Tree, conditions: tuple[Owned, ...]
) -> Iterator[tuple[Path, Hyperparameter, Sequence[Owned]]]:
    for name, node in tree.items():
        path = (*prefix, name)
        if isinstance(node, Mapping):
            yield from _leaves(path, node, conditions)
        elif isinstance(node, Group):
            yield from _leaves(path, node.tree, (*conditions, Owned(path, node.when)))
        else:
            yield path, node, conditions if node.when is None else (*conditions, Owned(path, node.when))


def _nest(pairs: Iterator[tuple[Path, Value]]) -> dict[str, Value]:
    nested: dict[str, Value] = {}
    for path, value in pairs:
        level = nested
        for name in path[:-1]:
            level = level.setdefault(name, {})
        level[path[-1]] = value
    return nested


def _between(low: float, high: float, unit: float) -> float:
    # low + unit * (high - low) would miss high (0.2 to 0.9 would end at 0.8999999999999999) and overflow for a
    # wide range.  The result is clamped, because rounding can exceed a bound by the last bit.
    return min(high, max(low, low * (1 - unit) + high * unit))


def _position(low: float, high: float, value: float) -> float | None:
    """Return the position of ``value`` between two bounds, from 0 to 1, or None if it is outside."""
    # Halves are subtracted, because high - low can overflow for a wide range.
    return (value / 2 - low / 2) / (high / 2 - low / 2) if low <= value <= high else None


def _is_number(value: Value) -> TypeGuard[float]:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return isinstance(value, int) or isfinite(value)  # isfinite fails for integers too large for a float.


def _rounded(numerator: int, denominator: int) -> int:
    """Return a fraction as an integer; halves are rounded away from zero."""
    size = (2 * abs(numerator) + denominator) // (2 * denominator)
    return size if numerator >= 0 else -size


def _spread(count: int | None, size: int) -> list[int]:
    """Return ``count`` evenly spaced indices below ``size``, ends included, or all if ``count`` is None or larger."""
    n = size if count is None else min(count, size)
    return [_rounded(size - 1, 2)] if n == 1 else [_rounded(index * (size - 1), n - 1) for index in range(n)]


def _units(count: int | None) -> list[float]:
    n = _count(count)
    return [0.5] if n == 1 else [i / (n - 1) for i in range(n)]


def _count(count: int | None) -> int:
    if count is None:
        raise ValueError("a grid needs a count for every int, double and log hyperparameter")
    return count
