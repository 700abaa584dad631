"""Rows as columns: what snapshots hold of many rows, because pickling each row takes several times as long."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any, TypeVar

T = TypeVar("T")

Columns = list[list[Any]]
"""The values of each field, in the order of the fields."""


def pack(kind: type, rows: Collection[Any]) -> Columns:
    """Return the fields of rows, which are instances of the dataclass ``kind``, as columns."""
    return [list(map(attrgetter(field.name), rows)) for field in fields(kind)]


def unpack(kind: type[T], columns: Sequence[Iterable[Any]]) -> list[T]:
    """Return the rows that `pack` made columns of."""
    return list(map(kind, *columns))
