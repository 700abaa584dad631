"""Converts rows to columns for snapshots, because pickling each row takes several times as long."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any, TypeVar

T = TypeVar("T")

Columns = list[list[Any]]
"""The values of each field, in the order of the fields."""


def pack(kind: type, rows: Collection[Any]) -> Columns:
    """Return the fields of rows as columns.  All rows are instances of the dataclass ``kind``."""
    return [list(map(attrgetter(field.name), rows)) for field in fields(kind)]


def unpack(kind: type[T], columns: Sequence[Iterable[Any]]) -> list[T]:
    """Return rows of the dataclass ``kind`` from the columns that `pack` returned."""
    return list(map(kind, *columns))
