"""Formats values for people, in the same way in tables, figures and messages."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from ashwood.errors import singular
from ashwood.search.settings import NO_LENGTH, Method, SearchSettings
from ashwood.search.space import ABSENT

NULL = "null"
"""Text of the value null of a hyperparameter, in tables, filters and CSV files."""


def format_value(value: Any) -> str:
    """Return the text of a value; a float gets 6 significant digits."""
    match value:
        case None:
            return "–"
        case bool():
            return str(value).lower()
        case float():
            return f"{value:.6g}"
    return str(value)


def format_setting(value: Any) -> str:
    """Return the text of a hyperparameter's value: null is a value, and `ABSENT` means that a trial lacks it."""
    if value is None:
        return NULL
    return format_value(None if value is ABSENT else value)


def format_duration(seconds: float | None) -> str:
    """Return the text of a duration, such as 4.2 s, 3 min 05 s, 2 h 10 min or 3 d 4 h."""
    if seconds is None or not math.isfinite(seconds):
        return "–"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def describe_method(search: SearchSettings) -> str:
    """Return the search method of an experiment, with its mode if it has modes: adaptive_asha (standard)."""
    has_mode = search.method is Method.ADAPTIVE_ASHA and not search.bracket_rungs
    return f"{search.method} ({search.mode})" if has_mode else str(search.method)


def format_length(length: int, unit: str) -> str:
    """Return the text of a training length, such as 1 epoch or 4 epochs, or the end if training code decides."""
    if length == NO_LENGTH:
        return "the end"
    return f"{length} {singular(unit) if length == 1 else unit}"


def describe_created(created: int, planned: int, replicates: int) -> str:
    """Return how many trials were created, such as ``60 of 60 trials + 2 replicates``."""
    trials = f"{created:,} of {planned:,} {singular('trials') if planned == 1 else 'trials'}"
    again = singular("replicates") if replicates == 1 else "replicates"
    return f"{trials} + {replicates:,} {again}" if replicates else trials


def ordinal(number: int) -> str:
    """Return an ordinal number, such as 1st, 2nd, 3rd, 11th or 1,021st."""
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number:,}{'th' if number % 100 in (11, 12, 13) else ending}"


def known_length(length: int) -> int | None:
    """Return a training length for JSON, or None if training code decides how long it trains."""
    return None if length == NO_LENGTH else length


def up_to(max_length: int, unit: str) -> str:
    """Return how long trials train, such as "up to 16 epochs", or "of any length" if training code decides."""
    return "of any length" if max_length == NO_LENGTH else f"up to {format_length(max_length, unit)}"


def describe_seen(metric: float, length: int, unit: str, *, smaller_is_better: bool, trial: int | None = None) -> str:
    """Return a line about a report that is better than the best result but has no checkpoint."""
    which = "lowest" if smaller_is_better else "highest"
    whose = "" if trial is None else f", trial {trial}"
    return f"{which} seen: {format_value(metric)} at {format_length(length, unit)}{whose} (not saved)"


def format_capacity(slots: int, nodes: int, why: str) -> str:
    """Return the number of workers, the number of nodes if it is above 0, and the reason for a change."""
    workers = format_length(slots, "workers")
    on = f" on {format_length(nodes, 'nodes')}" if nodes else ""
    return f"{workers}{on}{': ' if why else ''}{why}"


def any_of(words: Iterable[str]) -> str:
    """Return words joined as ``a, b or c``."""
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last


def all_of(words: Iterable[str]) -> str:
    """Return words joined as ``a, b and c``."""
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last
