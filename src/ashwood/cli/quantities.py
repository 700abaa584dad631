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


def duration(text: str) -> float:
    """Return a duration above 0 in seconds.

    Raises:
        ValueError: the text is not such a duration.
    """
    seconds = parse_duration(text)
    if seconds is None:
        raise ValueError(f"must be a duration above 0, such as 40s, 250ms, 15min or 1.5h, not {text!r}")
    return seconds


def duration_or_none(text: str) -> float:
    """Return a duration of at least 0 in seconds.

    Raises:
        ValueError: the text is not a duration.
    """
    if re.fullmatch(r"\s*0+(\.0+)?\s*(ms|s|min|h|d)?\s*", text):
        return 0.0
    seconds = parse_duration(text)
    if seconds is None:
        raise ValueError(f"must be a duration, such as 5s, 250ms, 2min or 0, not {text!r}")
    return seconds


def factor(text: str) -> float:
    """Return a factor of at least 1; the text may end in x.

    Raises:
        ValueError: the text is not such a factor.
    """
    value = _number(text.strip().lower().removesuffix("x").removesuffix("×"))
    if value < 1 or not math.isfinite(value):
        raise ValueError(
            f"must be a factor of at least 1, such as 1.5x (two thirds of the trials take between 1/1.5 and 1.5 times "
            f"as long as the median), not {text!r}"
        )
    return value


def size(text: str) -> float:
    """Return a size above 0 in bytes.

    Raises:
        ValueError: the text is not such a size.
    """
    value = parse_size(text)
    if value is None:
        raise ValueError(f"must be a size above 0, such as 300MB, 1.5GB or 2GiB, not {text!r}")
    return value


def money(text: str) -> float:
    """Return an amount of money of at least 0, in any currency.

    Raises:
        ValueError: the text is not such an amount.
    """
    value = _number(text.strip())
    if value < 0 or not math.isfinite(value):
        raise ValueError(f"must be an amount of at least 0, such as 2.10, without a currency, not {text!r}")
    return value


def amount(text: str) -> float:
    """Return a number above 0.

    Raises:
        ValueError: the text is not such a number.
    """
    value = _number(text.strip())
    if value <= 0 or not math.isfinite(value):
        raise ValueError(f"must be a number above 0, such as 40, not {text!r}")
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
