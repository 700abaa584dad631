"""Parsers of the durations, factors, sizes and amounts of money on the command line."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import TypeVar

from ashwood.config import parse_duration, parse_size
from ashwood.errors import ConfigError, Problem

Value = TypeVar("Value")


class OptionParser:
    """A parser of options that collects all problems, so that the user sees them in one error."""

    def __init__(self) -> None:
        self._problems: list[Problem] = []

    def read(self, option: str, text: str | None, parse: Callable[[str], Value]) -> Value | None:
        """Return the value of an option, or None if it was not given or is wrong."""
        if text is None:
            return None
        try:
            return parse(text)
        except ValueError as error:
            self.wrong(option, str(error))
            return None

    def wrong(self, option: str, message: str) -> None:
        """Add a problem of an option."""
        self._problems.append(Problem("", message, option))

    def check(self) -> None:
        """Raise an error if there is a problem.

        Raises:
            ConfigError: with all problems.
        """
        if self._problems:
            raise ConfigError(self._problems)


def _parser(
    parse: Callable[[str], float | None], is_allowed: Callable[[float], bool], expected: str
) -> Callable[[str], float]:
    """Return a parser of texts that ``parse`` turns into allowed numbers; other texts raise a ValueError."""

    def read(text: str) -> float:
        value = parse(text)
        if value is None or not math.isfinite(value) or not is_allowed(value):
            raise ValueError(f"must be {expected}, not {text!r}")
        return value

    return read


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _duration_or_zero(text: str) -> float | None:
    return 0.0 if re.fullmatch(r"\s*0+(\.0+)?\s*(ms|s|min|h|d)?\s*", text) else parse_duration(text)


def _factor(text: str) -> float | None:
    return _number(text.strip().lower().removesuffix("x").removesuffix("×"))


_CURRENCY = r"[A-Z]{3}|[^\w\s.,+-]"
_MONEY = re.compile(rf"\s*(?P<before>{_CURRENCY})?\s*(?P<number>[0-9][^\sA-Z]*?)\s*(?P<after>{_CURRENCY})?\s*")


def _without_currency(text: str) -> float | None:
    found = _MONEY.fullmatch(text)
    return None if found is None or (found["before"] and found["after"]) else _number(found["number"])


def currency(text: str | None) -> str:
    """Return the code or the symbol of the currency of an amount, or an empty text if it has none."""
    found = _MONEY.fullmatch(text or "")
    return "" if found is None else found["before"] or found["after"] or ""


duration = _parser(parse_duration, lambda value: value > 0, "a duration above 0, such as 40s, 250ms, 15min or 1.5h")
"""Parse a duration above 0 to seconds."""

duration_or_none = _parser(_duration_or_zero, lambda value: value >= 0, "a duration, such as 5s, 250ms, 2min or 0")
"""Parse a duration of at least 0 to seconds."""

factor = _parser(
    _factor,
    lambda value: value >= 1,
    "a factor of at least 1, such as 1.5x (two thirds of the trials take between 1/1.5 and 1.5 times as long as the "
    "median)",
)
"""Parse a factor of at least 1; the text may end in x."""

size = _parser(parse_size, lambda value: value > 0, "a size above 0, such as 300MB, 1.5GB or 2GiB")
"""Parse a size above 0 to bytes."""

money = _parser(_without_currency, lambda value: value >= 0, "an amount of at least 0, such as 2.10 or 2.10 EUR")
"""Parse an amount of money of at least 0, in any currency."""

amount = _parser(_number, lambda value: value > 0, "a number above 0, such as 40")
"""Parse a number above 0."""
