"""Constraints: expressions that hold for the hyperparameters of every trial, such as ``layers * width <= 4096``.

The syntax is that of Python.  A constraint is parsed to functions for the few kinds of expressions that are allowed
here, and nothing of it is executed as Python code.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from operator import add, eq, floordiv, ge, gt, le, lt, mod, mul, ne, sub, truediv
from typing import Any, Final, NamedTuple, TypeAlias

from ashwood.search import decimals

Evaluate: TypeAlias = Callable[[Mapping[str, Any]], Any]
Kinds: TypeAlias = frozenset[str]
"""The types that a value can have, of those in `ALL`."""

NUMBER, TEXT, FLAG, LIST, OTHER = "a number", "text", "true or false", "a list", "null or a map"
ALL: Final = frozenset((NUMBER, TEXT, FLAG, LIST, OTHER))

_NUMERIC = frozenset((NUMBER, FLAG))
_LONGEST, _DEEPEST = 2_000, 50
_MOST_BITS = 4_096
"""Largest power of integers; without a limit, a short expression could take hours and all memory."""
_MOST_DIGITS = 100
_ALLOWED = "names, numbers, text, lists, + - * / // % **, comparisons, in, and, or, not, abs, len, max, min and round"


class Constraint(NamedTuple):
    """A parsed constraint.

    Attributes:
        names: names with dots of the hyperparameters to which it refers.
        evaluate: computes its value from the values of these.
    """

    names: Sequence[str]
    evaluate: Evaluate

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Return whether it is true for values by name.  It is not if it cannot be computed, as in a division by 0."""
        try:
            return bool(self.evaluate(values))
        except (ArithmeticError, TypeError, ValueError):
            return False


class Names(NamedTuple):
    """What is known about the names in a constraint.

    Attributes:
        kinds_of: returns the types that the value of a hyperparameter can have; raises ValueError for an unknown name.
        can_be: returns whether a hyperparameter can have a value.
    """

    kinds_of: Callable[[str], Kinds] = lambda _: ALL
    can_be: Callable[[str, Any], bool] = lambda _name, _value: True


@lru_cache(maxsize=1_000)
def parse_constraint(text: str) -> Constraint:
    """Return a constraint from its text.

    Raises:
        ValueError: the text is not an expression that is allowed.
    """
    return check_constraint(text, Names())


def check_constraint(text: str, about: Names) -> Constraint:
    """Return a constraint from its text, after checks of its names and types.

    Raises:
        ValueError: the text is not an expression that is allowed, a name is unknown, or a value has the wrong type.
    """
    if len(text) > _LONGEST:
        raise ValueError(f"has more than {_LONGEST:,} characters")
    try:
        body = ast.parse(text.replace("\n", " ").strip(), mode="eval").body
    except SyntaxError as error:
        raise ValueError(
            f"is not an expression ({error.msg}); write ==, and, or and not as in Python, and a hyperparameter "
            'with a name such as lambda or top-k as hparams["lambda"]'
        ) from None
    except (ValueError, RecursionError, MemoryError):
        raise ValueError("is not an expression that can be parsed") from None
    parser = _Parser(about)
    evaluate, kinds = parser.parse(body)
    if FLAG not in kinds:
        raise ValueError(f"must be true or false, such as a comparison, but it is {_words(kinds)}")
    return Constraint(list(parser.names), evaluate)


class _Parser:
    """Turns nodes of a syntax tree into functions, and keeps the names that it meets."""

    def __init__(self, about: Names) -> None:
        self.names: dict[str, None] = {}
        self._about = about
        self._depth = 0

    def parse(self, node: ast.expr) -> tuple[Evaluate, Kinds]:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise ValueError("is nested too deeply")
        try:
            return self._parse(node)
        finally:
            self._depth -= 1

    def _parse(self, node: ast.expr) -> tuple[Evaluate, Kinds]:
        match node:
            case ast.Constant(value=None | bool() | int() | float() | str() as value):
                return lambda _: value, kinds_of_value(value)
            case ast.Name() | ast.Attribute() | ast.Subscript():
                name = _name(node)
                self.names[name] = None
                return lambda values: values[name], self._about.kinds_of(name)
            case ast.List(elts=items) | ast.Tuple(elts=items):
                parts = [self.parse(item)[0] for item in items]
                return lambda values: [part(values) for part in parts], frozenset((LIST,))
            case ast.BoolOp(op=op, values=items):
                return self._joined([self.parse(item)[0] for item in items], isinstance(op, ast.And))
            case ast.UnaryOp(op=ast.Not(), operand=inner):
                operand, _ = self.parse(inner)
                return lambda values: not operand(values), frozenset((FLAG,))
            case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=inner):
                operand = self._number(inner)
                is_minus = isinstance(sign, ast.USub)
                return lambda values: -operand(values) if is_minus else operand(values), frozenset((NUMBER,))
            case ast.BinOp(op=op, left=left, right=right) if type(op) in _OPERATIONS:
                return self._operation(_OPERATIONS[type(op)], left, right)
            case ast.Compare():
                return self._comparison(node)
            case ast.Call(func=ast.Name(id=called), keywords=[]) if called in _FUNCTIONS:
                return self._call(node, called)
        raise ValueError(f"{_text(node)} is not allowed here; allowed are {_ALLOWED}")

    @staticmethod
    def _joined(parts: Sequence[Evaluate], is_and: bool) -> tuple[Evaluate, Kinds]:
        both = all if is_and else any
        return lambda values: both(part(values) for part in parts), frozenset((FLAG,))

    def _number(self, node: ast.expr) -> Evaluate:
        evaluate, kinds = self.parse(node)
        _require_number(node, kinds)
        return lambda values: _checked(evaluate(values))

    def _operation(self, compute: Callable[[Any, Any], Any], left: ast.expr, right: ast.expr) -> tuple[Evaluate, Kinds]:
        one, other = self._number(left), self._number(right)
        return lambda values: compute(one(values), other(values)), frozenset((NUMBER,))

    def _comparison(self, node: ast.Compare) -> tuple[Evaluate, Kinds]:
        parts: list[tuple[Callable[[Any, Any], bool], Evaluate]] = []
        left, (first, left_kinds) = node.left, self.parse(node.left)
        for op, right in zip(node.ops, node.comparators, strict=True):
            evaluate, right_kinds = self.parse(right)
            match op:
                case ast.Lt() | ast.LtE() | ast.Gt() | ast.GtE():
                    _require_number(left, left_kinds)
                    _require_number(right, right_kinds)
                    parts.append((_ORDERS[type(op)], evaluate))
                case ast.Eq() | ast.NotEq():
                    self._check_possible(left, right)
                    self._check_possible(right, left)
                    parts.append((eq if isinstance(op, ast.Eq) else ne, evaluate))
                case ast.In() | ast.NotIn():
                    if LIST not in right_kinds:
                        raise ValueError(f"{_text(right)} is not a list: write a list after in, such as [1, 2]")
                    for item in right.elts if isinstance(right, ast.List | ast.Tuple) else ():
                        self._check_possible(left, item)
                    parts.append((_is_in if isinstance(op, ast.In) else _is_not_in, evaluate))
                case _:
                    raise ValueError(f"{_text(node)} is not allowed here; use == and != in place of is and is not")
            left, left_kinds = right, right_kinds

        def holds(values: Mapping[str, Any]) -> bool:
            before = first(values)
            for compare, evaluate in parts:
                after = evaluate(values)
                if not compare(before, after):
                    return False
                before = after
            return True

        return holds, frozenset((FLAG,))

    def _check_possible(self, name: ast.expr, value: ast.expr) -> None:
        """Raise an error if a name is compared with a constant that it can never have."""
        if not isinstance(name, ast.Name | ast.Attribute | ast.Subscript) or not isinstance(value, ast.Constant):
            return
        if not self._about.can_be(_name(name), value.value):
            raise ValueError(f"{_text(name)} can never be {value.value!r:.60}")

    def _call(self, node: ast.Call, called: str) -> tuple[Evaluate, Kinds]:
        arguments, (function, least, most) = node.args, _FUNCTIONS[called]
        if not least <= len(arguments) <= most:
            raise ValueError(
                f"{called} takes {least if least == most else f'at least {least}'} values, not {len(arguments)}"
            )
        if called == "len":
            parts = [self.parse(argument)[0] for argument in arguments]
        else:
            parts = [self._number(argument) for argument in arguments]
        return lambda values: function(*(part(values) for part in parts)), frozenset((NUMBER,))


def kinds_of_value(value: Any) -> Kinds:
    """Return the type of a value of a hyperparameter."""
    match value:
        case bool():
            return frozenset((FLAG,))
        case int() | float():
            return frozenset((NUMBER,))
        case str():
            return frozenset((TEXT,))
        case list() | tuple():
            return frozenset((LIST,))
    return frozenset((OTHER,))


def _name(node: ast.expr) -> str:
    """Return the name of a hyperparameter: ``a``, ``a.b`` or ``hparams["a"]``."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=inner, attr=name):
            return f"{_name(inner)}.{name}"
        case ast.Subscript(value=ast.Name(id="hparams"), slice=ast.Constant(value=str() as name)):
            return name
    raise ValueError(f'{_text(node)} is not a name; write optimizer.name or hparams["optimizer.name"]')


def _text(node: ast.expr) -> str:
    return f"{ast.unparse(node):.60}"


def _words(kinds: Kinds) -> str:
    return " or ".join(sorted(kinds))


def _require_number(node: ast.expr, kinds: Kinds) -> None:
    if not kinds & _NUMERIC:
        raise ValueError(f"{_text(node)} is {_words(kinds)}, not a number")


def _checked(value: Any) -> Any:
    if not isinstance(value, int | float):
        raise TypeError("not a number")
    return value


def _power(base: Any, exponent: Any) -> float:
    if isinstance(base, int) and isinstance(exponent, int) and exponent >= 0:
        if base.bit_length() * exponent > _MOST_BITS:
            raise OverflowError
        return int(base**exponent)
    return decimals.power(base, exponent)


def _round(number: float, digits: Any = 0) -> float:
    if not isinstance(digits, int) or abs(digits) > _MOST_DIGITS:
        raise ValueError
    return round(number, digits) if digits else round(number)


def _length(value: Any) -> int:
    if not isinstance(value, str | list | tuple):
        raise TypeError
    return len(value)


def _is_in(value: Any, items: Any) -> bool:
    if not isinstance(items, list | tuple):
        raise TypeError
    return value in items


def _is_not_in(value: Any, items: Any) -> bool:
    return not _is_in(value, items)


def _order(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    return lambda one, other: compare(_checked(one), _checked(other))


_ORDERS: Mapping[type, Callable[[Any, Any], bool]] = {
    ast.Lt: _order(lt),
    ast.LtE: _order(le),
    ast.Gt: _order(gt),
    ast.GtE: _order(ge),
}
_OPERATIONS: Mapping[type, Callable[[Any, Any], Any]] = {
    ast.Add: add,
    ast.Sub: sub,
    ast.Mult: mul,
    ast.Div: truediv,
    ast.FloorDiv: floordiv,
    ast.Mod: mod,
    ast.Pow: _power,
}
_FUNCTIONS: Mapping[str, tuple[Callable[..., Any], int, int]] = {
    "abs": (abs, 1, 1),
    "len": (_length, 1, 1),
    "max": (max, 2, 100),
    "min": (min, 2, 100),
    "round": (_round, 1, 2),
}
"""Functions, each with its least and its largest number of values."""
