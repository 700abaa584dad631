"""Converts views to JSON-able data, and sets values in such data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from fractions import Fraction
from typing import Any


def plain(value: Any) -> Any:
    """Return a value with dataclasses and named tuples as dictionaries, tuples as lists and fractions as numbers."""
    if hasattr(value, "__dataclass_fields__"):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if hasattr(value, "_asdict"):
        return plain(value._asdict())
    if isinstance(value, Mapping):
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, Fraction):
        return value.numerator if value.denominator == 1 else float(value)
    return value


def put(tree: dict[str, Any], path: Sequence[str], value: Any) -> Sequence[str] | None:
    """Set a value in nested dictionaries, and create those that are missing around it.

    Return None, or the path of the value on the way that is not a dictionary; then nothing is set.
    """
    level = tree
    for depth, name in enumerate(path[:-1], start=1):
        if level.get(name) is None:
            level[name] = {}
        if not isinstance(level[name], dict):
            return path[:depth]
        level = level[name]
    level[path[-1]] = value
    return None
