"""Values as people read them, the same in tables, figures and messages."""

from __future__ import annotations

import math
from typing import Any


def format_value(value: Any) -> str:
    """A value in a table's cell: numbers with as many digits as a person compares."""
    match value:
        case None:
            return "–"
        case bool():
            return str(value).lower()
        case float():
            return f"{value:.6g}"
    return str(value)


def format_duration(seconds: float | None) -> str:
    """Seconds as people say them: 4.2 s, 3 min 05 s, 2 h 10 min, 3 d 4 h."""
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


def format_length(length: int, unit: str) -> str:
    """A training length as people say it: 1 epoch, 4 epochs."""
    return f"{length} {unit.removesuffix('s') if length == 1 else unit}"


def describe_seen(metric: float, length: int, unit: str, *, smaller_is_better: bool, trial: int | None = None) -> str:
    """Return the line beside the best result about a better report that has no checkpoint."""
    which = "lowest" if smaller_is_better else "highest"
    whose = "" if trial is None else f", trial {trial}"
    return f"{which} seen: {format_value(metric)} at {format_length(length, unit)}{whose} (not saved)"


def format_capacity(slots: int, nodes: int, why: str) -> str:
    """How many workers there are, where there are several nodes also on how many, and what changed that."""
    workers = format_length(slots, "workers")
    on = f" on {format_length(nodes, 'nodes')}" if nodes else ""
    return f"{workers}{on}{': ' if why else ''}{why}"


def format_size(size: int) -> str:
    """Bytes as people say them: 512 B, 3.2 MB."""
    value, unit = float(size), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
