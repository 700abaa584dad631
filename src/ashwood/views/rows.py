"""Compact storage of rows in columns, so that 100,000 rows need little memory and are saved fast."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields
from itertools import chain, starmap
from math import isnan, nan
from operator import attrgetter
from typing import Any, Generic, TypeVar, overload

Row = TypeVar("Row")


class Tuples:
    """A column of tuples whose items are numbers, or records of numbers, in one array."""

    def __init__(self, make: Callable[..., Any] | None = None, width: int = 1) -> None:
        """Store tuples of numbers, or of records that ``make`` creates from ``width`` numbers each."""
        self._make = make
        self._width = width
        self._numbers = array("d")
        self._begins = array("q")
        self._sizes = array("H")

    def append(self, value: None) -> None:  # noqa: ARG002 - the same signature as list.append
        """Add an empty tuple."""
        self._begins.append(0)
        self._sizes.append(0)

    def __setitem__(self, index: int, value: Iterable[Any]) -> None:
        # Replaced numbers stay in the array. That wastes little memory, because a row is settled only a few times.
        self._begins[index] = begin = len(self._numbers)
        self._numbers.extend(value if self._make is None else chain.from_iterable(value))
        self._sizes[index] = len(self._numbers) - begin

    def size(self, index: int) -> int:
        """Return how many numbers a tuple has."""
        return self._sizes[index]

    def number(self, index: int, position: int) -> float | None:
        """Return the number at a position of a tuple, or None if the tuple is shorter."""
        return self._numbers[self._begins[index] + position] if position < self._sizes[index] else None

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        begin, size = self._begins[index], self._sizes[index]
        numbers = self._numbers[begin : begin + size]
        if self._make is None or not size:
            return tuple(numbers)
        return tuple(starmap(self._make, zip(*[iter(numbers)] * self._width, strict=True)))


class Rows(Sequence[Row], Generic[Row]):
    """Rows of a dataclass.  Only rows that can change are stored as objects; all others are values in columns.

    Attributes:
        changing: the rows that can change, by index.
    """

    def __init__(self, kind: Any, codes: Sequence[str | Tuples]) -> None:
        """Start without rows.

        Args:
            kind: the dataclass.
            codes: for each of its fields, the type code of an array, or ``?d`` for a float that can be None but not
                NaN, or a column of tuples, or an empty text for any other values.
        """
        self._kind = kind
        self._names = {field.name: number for number, field in enumerate(fields(kind))}
        self._values: Callable[[Row], tuple[Any, ...]] = attrgetter(*self._names)
        self._optional = [number for number, code in enumerate(codes) if code == _OPTIONAL]
        self._columns: list[Any] = [_column(code) for code in codes]
        self.changing: dict[int, Row] = {}

    def add(self, row: Row) -> int:
        """Add a row that can change until it is settled, and return its index."""
        index = len(self)
        for column in self._columns:
            column.append(0 if isinstance(column, array) else None)
        self.changing[index] = row
        return index

    def change(self, index: int) -> Row:
        """Return a row as an object that can be changed until it is settled."""
        if (row := self.changing.get(index)) is None:
            row = self.changing[index] = self[index]
        return row

    def read(self, index: int, name: str) -> Any:
        """Return one value of a row, which is faster than creating the row; None is NaN in a column of floats."""
        if (row := self.changing.get(index)) is not None:
            return getattr(row, name)
        return self._columns[self._names[name]][index]

    def settle(self, index: int) -> None:
        """Move the values of a changed row to the columns."""
        row = self.changing.pop(index)
        for column, value in zip(self._columns, self._values(row), strict=True):
            column[index] = nan if value is None and isinstance(column, array) else value

    def __len__(self) -> int:
        return len(self._columns[0])

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | Sequence[Row]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        if (row := self.changing.get(index)) is not None:
            return row
        return self._made([column[index] for column in self._columns])

    def __iter__(self) -> Iterator[Row]:
        for index, values in enumerate(zip(*self._columns, strict=True)):
            row = self.changing.get(index)
            yield self._made(list(values)) if row is None else row

    def _made(self, values: list[Any]) -> Row:
        for number in self._optional:
            if isnan(values[number]):
                values[number] = None
        made: Row = self._kind(*values)
        return made


_OPTIONAL = "?d"


def _column(code: str | Tuples) -> Any:
    if isinstance(code, Tuples):
        return code
    return array(code.removeprefix("?")) if code else []
