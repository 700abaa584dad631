"""Reads ``stop_when``, the metric and the time at which a search stops, and durations."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from ashwood.config.report import Report
from ashwood.config.shape import Searcher
from ashwood.config.wording import Path, any_of, nearest, number, shorten, shown
from ashwood.errors import ConfigError, Problem

_STOP_WHEN: Path = ("searcher", "stop_when")
_MAX_TIME: Path = ("searcher", "max_time")
_KEYS = ("metric_at", "max_time")
_SECONDS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)\s*")
_FORMS = "a number of seconds, or text such as 90s, 15min, 2h, 1.5h or 3d"
_LONGEST_TIME = 40
_NONE = ("none", "null")


def read_stop_when(searcher: Searcher, report: Report) -> tuple[float | None, float | None]:
    """Return the metric to stop at and the largest run time in seconds.

    Each is None if the file gives no such bound, or if it is wrong, which is reported.
    """
    section = searcher.stop_when
    if "stop_when" in searcher.model_fields_set and not section.model_fields_set:
        if not report.known_bad_within(_STOP_WHEN):
            report.error(_STOP_WHEN, f"must hold {any_of(_KEYS)}, or both")
        return None, None
    return section.metric_at, read_duration(section.max_time, (*_STOP_WHEN, "max_time"), report)


def read_duration(value: Any, path: Path, report: Report) -> float | None:
    """Return the seconds of a duration, or None if there is none or it is wrong, which is reported."""
    seconds = None
    if value is not None and (seconds := parse_duration(value)) is None:
        report.error(path, _not_a_duration(value))
    return seconds


def take_out_misplaced_time(tree: dict[str, Any], report: Report) -> None:
    """Remove a ``searcher.max_time`` that is a duration and not a length, and report where durations belong."""
    searcher = tree.get("searcher")
    text = searcher.get("max_time") if isinstance(searcher, dict) else None
    if isinstance(searcher, dict) and isinstance(text, str) and parse_duration(text) is not None:
        del searcher["max_time"]
        report.error(_MAX_TIME, f"is a length that time_metric counts; {instead_of_max_time(text)}")


def instead_of_max_time(value: Any) -> str:
    """Return advice on how to limit the time of a search, for a user who tries it with ``searcher.max_time``."""
    time = shorten(str(value), _LONGEST_TIME)
    return f"to stop the search after {time if isinstance(value, str) else f'{time} seconds'}, write " + (
        f"stop_when: {{max_time: {time}}}"
    )


def parse_duration(value: Any) -> float | None:
    """Return the seconds of a duration, or None if the value is not a duration above 0."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        seconds = float(value)
    except OverflowError:
        return None
    except ValueError:
        seconds = _sum_of_parts(str(value).strip().lower())
    return seconds if 0 < seconds < math.inf else None


def parse_stop_when(texts: Sequence[str], *, option: str = "--stop-when") -> dict[str, float | None]:
    """Return the bounds given on the command line, by the names of the spec's fields.

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
            match key:
                case "metric_at":
                    bounds["stop_at"] = parse_metric(value)
                case "max_time":
                    bounds["max_seconds"] = parse_max_time(value)
                case _:
                    close = nearest(key, _KEYS)
                    hint = f"did you mean {close}?" if close else f"it is {any_of(_KEYS)}"
                    raise ValueError(f"{shown(key)} is nothing to stop at; {hint}")
        except ValueError as error:
            problems.append(Problem("", str(error), option))
    if problems:
        raise ConfigError(problems)
    return bounds


def parse_metric(text: str) -> float | None:
    """Return the metric to stop at, or None for ``none``.

    Raises:
        ValueError: the text is neither a number nor ``none``.
    """
    if text.lower() in _NONE:
        return None
    try:
        metric = float(text)
    except ValueError:
        metric = math.nan
    if not math.isfinite(metric):
        raise ValueError(f"the metric to stop at must be a number such as 0.98, or none, not {shown(text)}")
    return metric


def parse_max_time(text: str) -> float | None:
    """Return the largest run time in seconds, or None for ``none``.

    Raises:
        ValueError: the text is neither a duration nor ``none``.
    """
    if text.lower() in _NONE:
        return None
    seconds = parse_duration(text)
    if seconds is None:
        raise ValueError(f"max_time {_not_a_duration(text)}")
    return seconds


def bound_overrides(bounds: dict[str, float | None]) -> list[str]:
    """Return bounds as ``KEY=VALUE`` texts that override those of a file."""
    keys = {"stop_at": "metric_at", "max_seconds": "max_time"}
    return [
        f"searcher.stop_when.{keys[name]}={'null' if value is None else number(value)}"
        for name, value in bounds.items()
    ]


def _sum_of_parts(text: str) -> float:
    position, total = 0, 0.0
    while part := _PART.match(text, position):
        if part[2] not in _SECONDS:
            return math.nan
        total += float(part[1]) * _SECONDS[part[2]]
        position = part.end()
    return total if position == len(text) else math.nan


def _not_a_duration(value: Any) -> str:
    return f"must be a duration above 0: {_FORMS}, not {shown(value)}"
