"""Parsers of quantities on the command line."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ashwood.cli.quantities import OptionParser, amount, duration, duration_or_none, factor, money, size
from ashwood.errors import ConfigError


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (duration, "40s", 40.0),
        (duration, "40", 40.0),
        (duration, "250ms", 0.25),
        (duration, "1h 30min", 5400.0),
        (duration_or_none, "0", 0.0),
        (duration_or_none, "0.0s", 0.0),
        (duration_or_none, "2min", 120.0),
        (factor, "1.5x", 1.5),
        (factor, "1.5", 1.5),
        (factor, "2×", 2.0),
        (factor, "1", 1.0),
        (size, "300MB", 3e8),
        (size, "1.5 gb", 1.5e9),
        (size, "2GiB", 2.0 * 2**30),
        (size, "5M", 5e6),
        (size, "1024", 1024.0),
        (money, "2.10", 2.1),
        (money, "0", 0.0),
        (money, "$2", 2.0),
        (money, "2.10 EUR", 2.1),
        (money, "2.5€", 2.5),
        (money, "CHF 3", 3.0),
        (amount, "40", 40.0),
    ],
)
def test_parsers_accept_common_notations(parse: Callable[[str], float], text: str, value: float) -> None:
    assert parse(text) == value


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (duration, "0"),
        (duration, "-3s"),
        (duration, "soon"),
        (duration_or_none, "none"),
        (factor, "0.5x"),
        (factor, "wide"),
        (factor, "inf"),
        (factor, "nan"),
        (size, "0"),
        (size, "300 potatoes"),
        (size, "-3MB"),
        (money, "-1"),
        (money, "$2 USD"),
        (money, "$"),
        (money, "2 dollars"),
        (money, "nan"),
        (amount, "0"),
    ],
)
def test_parsers_quote_wrong_text_with_an_example(parse: Callable[[str], float], text: str) -> None:
    with pytest.raises(ValueError, match="such as") as caught:
        parse(text)
    assert repr(text) in str(caught.value)


def test_option_parser_raises_all_problems_together() -> None:
    options = OptionParser()
    assert options.read("--unit-time", None, duration) is None
    assert options.read("--unit-time", "soon", duration) is None
    assert options.read("--start-time", "3s", duration) == 3.0
    options.wrong("--workers", "are too few")
    with pytest.raises(ConfigError) as caught:
        options.check()
    assert [problem.file for problem in caught.value.problems] == ["--unit-time", "--workers"]
