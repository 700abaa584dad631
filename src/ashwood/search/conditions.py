"""Conditions under which a trial has a hyperparameter: ``when: {optimizer.name: sgd, layers: ">= 2"}``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from operator import ge, gt, le, lt
from typing import Any, NamedTuple, TypeAlias

When: TypeAlias = Mapping[str, Any]
"""A condition: for each of some other hyperparameters, named from the root with dots, which values it must have.

It is a value, a list of values, or a comparison such as ``"> 2"``.  All of them must hold.
"""

_COMPARISON = re.compile(r"\s*(<=|>=|!=|<|>)(.*)", re.DOTALL)
_ORDERS: Mapping[str, Callable[[float, float], bool]] = {"<": lt, "<=": le, ">": gt, ">=": ge}
_WORDS = {"true": True, "false": False, "null": None}


class Test(NamedTuple):
    """What a condition requires of the value of one hyperparameter.

    Attributes:
        sign: ``=`` (one of the values), ``!=`` (none of the values), or an order, for which there is one number.
        values: the values.
    """

    sign: str
    values: tuple[Any, ...]

    def holds(self, value: Any) -> bool:
        """Return whether a value passes."""
        if self.sign in _ORDERS:
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            return is_number and _ORDERS[self.sign](value, self.values[0])
        return any(same(each, value) for each in self.values) == (self.sign == "=")


def parse_test(required: Any) -> Test:
    """Return the test that a value of a condition describes.

    Raises:
        ValueError: it is an empty list, or a comparison by size with something that is not a number.
    """
    if isinstance(required, list | tuple):
        if not required:
            raise ValueError("must contain at least one value, but the list is empty")
        return Test("=", tuple(required))
    match = _COMPARISON.fullmatch(required) if isinstance(required, str) else None
    if match is None:
        return Test("=", (required,))
    sign, word = match[1], match[2].strip()
    number = _number(word)
    if sign in _ORDERS and number is None:
        raise ValueError(
            f"{sign} compares numbers, and {word!r:.60} is not a number; for this text write [{required!r:.60}]"
        )
    return Test(sign, (_WORDS.get(word, word) if number is None else number,))


def same(one: Any, other: Any) -> bool:
    """Return whether two values of a hyperparameter are equal."""
    # True equals 1 and 1 equals 1.0, but as hyperparameters True and 1 are different values.
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _number(word: str) -> float | None:
    for number in (int, float):
        try:
            value = number(word)
        except ValueError:
            continue
        return value if value == value else None
    return None
