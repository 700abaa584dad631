"""Kinds of values in an experiment file: each has a JSON schema and a function that reads such values."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import isfinite
from typing import Any

from ashwood.config import determined
from ashwood.config.report import Report
from ashwood.config.wording import MOST_WHOLE, Path, must_be, not_one_of, shorten, shown
from ashwood.config.wording import number as digits
from ashwood.errors import nearest, singular
from ashwood.experiment.spec import Length, Unit
from ashwood.views.wording import any_of

UNITS = ("batches", "records", "epochs")
LENGTH_FORMS = "{epochs: n}, {records: n}, {batches: n} or a bare number"

_DURATION_FORMS = "a number of seconds, or text such as 90s, 15min, 2h, 1.5h or 3d"
_SECONDS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)\s*")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?i?b?)", re.IGNORECASE)
_PREFIXES = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_MAPPED = re.compile(r"\s*\{\s*([a-z]+)\s*:\s*(\d+)\s*\}\s*", re.IGNORECASE)
_AMOUNT = re.compile(r"\s*(\d+)\s*([a-z]*)\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Kind:
    """The kind of a value.

    Attributes:
        schema: its JSON schema.
        parse: function of a value, its path and the report, which returns the value as the program uses it.  If the
            value is wrong, it raises ValueError with the message, or reports a part of the value and returns None.
        model: function that returns the value if the file has none, for the kind of a section.
    """

    schema: dict[str, Any]
    parse: Callable[[Any, Path, Report], Any]
    model: Callable[[], Any] | None = None

    def read(self, value: Any, path: Path, report: Report) -> Any:
        """Return the value as the program uses it, or None if it is wrong, which is reported."""
        try:
            return self.parse(value, path, report)
        except ValueError as error:
            report.error(path, str(error))
            return None


def single(schema: dict[str, Any], parse: Callable[[Any], Any]) -> Kind:
    """Return a kind of values without parts, whose path does not matter."""
    return Kind(schema, lambda value, _path, _report: parse(value))


def _any(value: Any, path: Path, report: Report) -> Any:
    match value:
        case float() if not isfinite(value):  # JSON can't represent it.
            report.error(path, f"must be a finite number, not {shown(value)}; for text write it in quotes")
        case Mapping():
            for name, each in value.items():
                _any(each, (*path, str(name)), report)
        case list() | tuple():
            for position, each in enumerate(value):
                _any(each, (*path, position), report)
    return value


ANY = Kind({}, _any)


def whole(least: int | None = 0, most: int = MOST_WHOLE) -> Kind:
    """Return the kind of whole numbers with the given bounds, both included."""

    def parse(value: Any) -> int:
        too_large = isinstance(value, float) and value.is_integer() and value > most  # YAML reads 1e9 as a float.
        if not too_large and (isinstance(value, bool) or not isinstance(value, int)):
            raise ValueError(must_be("a whole number", value))
        return int(_bounded(value, least, most))

    return single({"type": "integer"} | ({} if least is None else {"minimum": least}) | {"maximum": most}, parse)


def number(
    *, least: float | None = None, above: float | None = None, most: float | None = None, below: float | None = None
) -> Kind:
    """Return the kind of finite numbers with the given bounds; ``above`` and ``below`` themselves are not included."""
    bounds = {"minimum": least, "exclusiveMinimum": above, "maximum": most, "exclusiveMaximum": below}

    def parse(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(must_be("a number", value))
        if not abs(value) <= sys.float_info.max:
            raise ValueError(f"must be a finite number, not {shown(value)}")
        if above is not None and value <= above:
            raise ValueError(f"must be above {digits(above)}, not {shown(value)}")
        if below is not None and value >= below:
            raise ValueError(f"must be below {digits(below)}, not {shown(value)}")
        return float(_bounded(value, least, most))

    return single({"type": "number"} | {name: bound for name, bound in bounds.items() if bound is not None}, parse)


def _bounded(value: float, least: float | None, most: float | None) -> float:
    if least is not None and value < least:
        raise ValueError(f"must be at least {digits(least)}, not {shown(value)}")
    if most is not None and value > most:
        raise ValueError(f"must be at most {digits(most)}, not {shown(value)}")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(must_be("true or false", value))
    return value


FLAG = single({"type": "boolean"}, _flag)


def text(expected: str = "text", *, empty: bool = False) -> Kind:
    """Return the kind of texts; ``expected`` says what the text is, for messages."""

    def parse(value: Any) -> str:
        if not isinstance(value, str):
            raise ValueError(must_be(expected, value))
        if not value and not empty:
            raise ValueError("must not be empty")
        return value

    return single({"type": "string"} | ({} if empty else {"minLength": 1}), parse)


def choice(words: type[StrEnum] | Iterable[str], what: str, instead: Mapping[str, str] | None = None) -> Kind:
    """Return the kind of texts that are one of some words, or a member of an enumeration; see `not_one_of`."""
    known = {str(word): word for word in words}

    def parse(value: Any) -> str:
        if not isinstance(value, str) or value not in known:
            raise ValueError(not_one_of(value, known, what, instead))
        return known[value]

    return single({"enum": list(known)}, parse)


def list_of(item: Kind, *, least: int = 0, most: int | None = None) -> Kind:
    """Return the kind of lists with the given number of items."""

    def read(value: Any, path: Path, report: Report) -> list[Any] | None:
        if not isinstance(value, list | tuple):
            raise ValueError(must_be("a list", value))
        if len(value) < least:
            raise ValueError("must contain at least one value, but the list is empty")
        if most is not None and len(value) > most:
            raise ValueError(f"must contain at most {most} values, not {len(value):,}")
        items = [item.read(each, (*path, position), report) for position, each in enumerate(value)]
        return items if item is ANY or None not in items else None

    bounds = ({"minItems": least} if least else {}) | ({} if most is None else {"maxItems": most})
    return Kind({"type": "array", "items": item.schema} | bounds, read)


def map_of(item: Kind, expected: str = "a map (key: value)", at: Path = ()) -> Kind:
    """Return the kind of maps whose keys a user chooses, except those that are refused at the path ``at``."""

    def read(value: Any, path: Path, report: Report) -> dict[str, Any] | None:
        if not isinstance(value, Mapping):
            raise ValueError(must_be(expected, value))
        values = {}
        for name, each in value.items():
            if at and (message := determined.refusal(at, name, each)):
                report.error((*path, name), message)
            else:
                values[name] = item.read(each, (*path, name), report)
        return values if item is ANY or None not in values.values() else None

    refused = {"properties": dict.fromkeys(determined.REFUSED[at], False)} if at else {}
    return Kind({"type": "object", **refused, "additionalProperties": item.schema}, read)


# -- quantities with units ------------------------------------------------------------------------


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
    return seconds if 0 < seconds <= sys.float_info.max else None


def _sum_of_parts(words: str) -> float:
    position, total = 0, 0.0
    while part := _PART.match(words, position):
        total += float(part[1]) * _SECONDS.get(part[2], float("nan"))
        position = part.end()
    return total if position == len(words) else float("nan")


def duration(value: Any) -> float:
    """Return the seconds of a duration.

    Raises:
        ValueError: the value is not a duration above 0.
    """
    seconds = parse_duration(value)
    if seconds is None:
        raise ValueError(f"must be a duration above 0: {_DURATION_FORMS}, not {shown(value)}")
    return seconds


def _quantity(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "string", "pattern": r"^\s*\d"}]}


DURATION = single(_quantity({"type": "number", "exclusiveMinimum": 0}), duration)


def parse_size(value: Any) -> int | None:
    """Return the bytes of a size such as ``300MB``, ``1.5GB``, ``2GiB`` or 300, or None if it is not a size above 0."""
    if isinstance(value, str):
        match = _SIZE.fullmatch(value.strip())
        if match is None:
            return None
        unit = match[2].lower()
        value = float(match[1]) * (1024 if "i" in unit else 1000) ** _PREFIXES[unit.rstrip("b").rstrip("i")] // 1
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if 1 <= value <= MOST_WHOLE and value == value // 1 else None


def size(expected: str, least: int = 1, *, zero: bool = False) -> Kind:
    """Return the kind of sizes in bytes.

    Args:
        expected: what the size is, for messages.
        least: the least size in bytes.
        zero: whether 0 is allowed, too.
    """

    def parse(value: Any) -> int:
        if zero and ((value == 0 and not isinstance(value, bool)) or _is_zero(value)):
            return 0
        found = parse_size(value)
        if found is None:
            raise ValueError(f"must be {expected}, not {shown(value)}")
        if found < least:
            raise ValueError(f"must be at least {least // 1000} kB{', or 0 for no limit' * zero}, not {shown(value)}")
        return found

    return single(_quantity({"type": "integer", "minimum": 0 if zero else 1}), parse)


def _is_zero(value: Any) -> bool:
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    return match is not None and float(match[1]) == 0


def length(least: int) -> Kind:
    """Return the kind of training lengths: a map with one unit, or a bare number."""
    bare, counted = _count(least, f"a length: {LENGTH_FORMS}"), _count(least, "a whole number")

    def parse(value: Any, path: Path, report: Report) -> Length | None:
        unit, amount = "steps", value
        if not isinstance(value, Mapping):
            amount = bare.read(value, path, report)
        elif len(value) != 1:
            raise ValueError(f"must contain exactly one unit, {any_of(UNITS)}, not {len(value)}")
        else:
            [(unit, amount)] = value.items()
            amount = (counted if unit in UNITS else _UNKNOWN_UNIT).read(amount, (*path, unit), report)
        return None if amount is None else Length(amount, Unit(unit))

    units = {unit: {**counted.schema, "description": f"Number of {unit}."} for unit in UNITS}
    mapped = {"properties": units, "additionalProperties": False, "minProperties": 1, "maxProperties": 1}
    return Kind({"anyOf": [{"type": "object", **mapped}, bare.schema]}, parse)


def _count(least: int, expected: str) -> Kind:
    """Return the kind of the number in a length."""
    number = whole(least)

    def parse(value: Any, path: Path, report: Report) -> Any:
        if path[-1] == "epochs" and isinstance(value, float) and not value.is_integer():
            finer = "count records or batches for less than an epoch"
            raise ValueError(f"must be a whole number, not {shown(value)} ({finer})")
        if isinstance(value, str) and (words := _AMOUNT.fullmatch(value)) and words[2] in UNITS:
            raise ValueError(f"must be a length, not {shown(value)}: write {{{words[2]}: {shorten(words[1], 20)}}}")
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError(must_be(expected, value))
        return number.parse(value, path, report)

    return Kind(number.schema, parse)


def _unknown_unit(_value: Any, path: Path, _report: Report) -> None:
    close = nearest(str(path[-1]), UNITS)
    raise ValueError(f"unknown unit; {f'did you mean {close}?' if close else f'it is {any_of(UNITS)}'}")


_UNKNOWN_UNIT = Kind({}, _unknown_unit)


def parse_length(words: str) -> Length:
    """Return a length written on the command line: ``27 epochs``, ``{epochs: 27}``, or a bare number.

    Raises:
        ValueError: the text is not a length.
    """
    if (mapped := _MAPPED.fullmatch(words)) is not None:
        words = f"{mapped[2]} {mapped[1]}"
    match = _AMOUNT.fullmatch(words)
    forms = {form: unit for unit in Unit for form in (unit.value, singular(unit))} | {"": Unit.STEPS}
    unit = None if match is None else forms.get(match[2].lower())
    count = 0 if match is None or len(match[1]) > len(str(MOST_WHOLE)) else int(match[1])
    if unit is None or not 1 <= count <= MOST_WHOLE:
        expected = f'a length of at least 1 and at most {MOST_WHOLE}, such as 27, "27 epochs" or "5000 batches"'
        raise ValueError(f"must be {expected}, not {shown(words)}")
    return Length(count, unit)


def parse_max_length(given: int | str | Mapping[Any, int], unit: Unit) -> int:
    """Return the number of a length that has a given unit, or none.

    Raises:
        ValueError: it is not a length, or has another unit.
    """
    words = ", ".join(f"{{{name}: {count}}}" for name, count in given.items()) if isinstance(given, Mapping) else given
    length = parse_length(str(words))
    if length.unit is not unit and not str(words).strip().isdigit():
        raise ValueError(f"must be in {unit}, the unit of the experiment, not {shown(str(words))}")
    return length.count
