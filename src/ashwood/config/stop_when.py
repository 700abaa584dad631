"""Parse the bounds at which a search stops from the command line."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from ashwood.config.kinds import duration
from ashwood.config.wording import number, shown
from ashwood.errors import ConfigError, Problem, nearest
from ashwood.views.wording import any_of

NONE = ("none", "null")
"""Texts that remove a limit."""


def parse_stop_when(texts: Sequence[str], *, option: str = "--stop-when") -> dict[str, float | None]:
    """Return the bounds given on the command line, by their keys.

    Args:
        texts: each ``metric_at=0.98``, ``0.98`` for short, or ``max_time=2h``; ``none`` removes a bound.
        option: the command line option, for messages.

    Raises:
        ConfigError: some texts are wrong; the error lists all problems.
    """
    bounds: dict[str, float | None] = {}
    problems: list[Problem] = []
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            key, value = "metric_at", text
        key, value = key.strip(), value.strip()
        try:
            if key not in BOUNDS:
                close = nearest(key, BOUNDS)
                hint = f"did you mean {close}?" if close else f"it is {any_of(BOUNDS)}"
                raise ValueError(f"{shown(key)} is not a bound; {hint}")
            bounds[key] = BOUNDS[key](value)
        except ValueError as error:
            problems.append(Problem("", str(error), option))
    if problems:
        raise ConfigError(problems)
    return bounds


def _metric(text: str) -> float | None:
    """Return the metric to stop at, or None for ``none``.

    Raises:
        ValueError: the text is neither a number nor ``none``.
    """
    if text.lower() in NONE:
        return None
    try:
        metric = float(text)
    except ValueError:
        metric = math.nan
    if not math.isfinite(metric):
        raise ValueError(f"the metric to stop at must be a number such as 0.98, or none, not {shown(text)}")
    return metric


def _max_time(text: str) -> float | None:
    """Return the largest run time in seconds, or None for ``none``.

    Raises:
        ValueError: the text is neither a duration nor ``none``.
    """
    if text.lower() in NONE:
        return None
    try:
        return duration(text)
    except ValueError as error:
        raise ValueError(f"max_time {error}") from None


BOUNDS: Mapping[str, Callable[[str], float | None]] = {"metric_at": _metric, "max_time": _max_time}
"""The keys of ``stop_when``, each with the parser of its value."""


def bound_overrides(bounds: Mapping[str, float | None]) -> list[str]:
    """Return bounds as ``KEY=VALUE`` texts that override those of a file."""
    return [f"searcher.stop_when.{key}={'null' if bound is None else number(bound)}" for key, bound in bounds.items()]
