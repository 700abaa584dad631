"""Arithmetic with decimals, whose results are the same on any machine.

C libraries differ in the last bit of pow(), exp() and log().  A recorded search must replay to the same values on any
machine, so these functions are computed with decimals.
"""

from __future__ import annotations

from decimal import Context, Decimal
from functools import lru_cache

EXACT = Context(prec=24)


def power(base: float, exponent: float) -> float:
    """Return ``base**exponent``.

    Raises:
        ArithmeticError: the power is not a real number, or too large.
    """
    return float(EXACT.power(Decimal(base), Decimal(exponent)))


def power_between(low: Decimal, high: Decimal, unit: float) -> Decimal:
    """Return the number at ``unit`` in [0, 1] between two bounds above 0, on a logarithmic scale."""
    begin = _ln(low)
    return EXACT.exp(EXACT.fma(Decimal(unit), EXACT.subtract(_ln(high), begin), begin))


def power_position(low: Decimal, high: Decimal, value: Decimal) -> float:
    """Return the position of ``value`` between two bounds above 0, from 0 to 1, on a logarithmic scale."""
    begin = _ln(low)
    span = EXACT.subtract(_ln(high), begin)
    return float(EXACT.divide(EXACT.subtract(EXACT.ln(value), begin), span))


@lru_cache(maxsize=1_000)
def _ln(bound: Decimal) -> Decimal:
    return EXACT.ln(bound)


def written(value: float) -> Decimal:
    """Return the decimal number that a user writes for a float: 0.1, and not the nearest binary fraction."""
    return Decimal(repr(float(value)))
