"""Formats values, keys and suggestions for messages about experiment files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from math import isfinite
from typing import Any, TypeAlias

from ashwood.errors import nearest
from ashwood.views.wording import any_of

Path: TypeAlias = tuple[str | int, ...]
"""The position of a value in the file: names of keys and indices of list items."""

_LONGEST = 200
_LONGEST_SHOWN = 60
_NOT_FINITE = {"nan": ".nan", "inf": ".inf", "-inf": "-.inf"}
_EXACT = 1e15  # Floats below this represent every digit of a whole number.

MOST_WHOLE = 2**53
"""The largest whole number that all readers of YAML and JSON represent exactly."""


def shorten(text: str, longest: int = _LONGEST) -> str:
    """Return a user's text on one line, and with … in place of the rest if it has more than ``longest`` characters."""
    cut = text if len(text) <= longest else text[: longest - 1] + "…"
    return cut.replace("\n", " ")


def dotted(path: Path) -> str:
    """Return a path as users write it, shortened if it is long: ``searcher.bracket_rungs[1]``."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return shorten(text.removeprefix("."))


def shown(value: Any) -> str:
    """Return the text of a value in the syntax of the file, shortened if it is long."""
    if isinstance(value, Mapping):
        return "a map" if value else "an empty map"
    if isinstance(value, list | tuple):
        return "a list" if value else "an empty list"
    if isinstance(value, float):
        return _NOT_FINITE.get(repr(value)) or repr(value)
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        return f"a Python object of type {type(value).__module__}.{type(value).__qualname__}"
    return shorten(text, _LONGEST_SHOWN)


def number(value: float) -> str:
    """Return a number as text, without ``.0`` if it is a whole number."""
    return str(int(value)) if value % 1 == 0 and abs(value) < _EXACT else repr(value)


def counted(count: int, noun: str) -> str:
    """Return a count with its noun in singular or plural: ``1 rung``, ``3 rungs``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def not_one_of(value: Any, known: Iterable[str], what: str, instead: Mapping[str, str] | None = None) -> str:
    """Return a message that a value is not one of the known words, with advice for the value or the nearest word.

    Args:
        value: the wrong value.
        known: the words that are expected.
        what: what a known word is, for example ``a mode``.
        instead: advice for words that users know from other tools, in lower case.
    """
    words = list(known)
    if isinstance(value, str) and (advice := (instead or {}).get(value.lower().replace("-", "_"))):
        return f"{shown(value)} isn't {what} of Ashwood; {advice}"
    close = nearest(value, words) if isinstance(value, str) else None
    question = f"; did you mean {shown(close)}?" if close else ""
    return f"{shown(value)} isn't {what} ({any_of(words)}){question}"


def must_be(expected: str, value: Any) -> str:
    """Return a message that a value has the wrong type, with a correct spelling if one can be guessed."""
    return f"must be {expected}, not {shown(value)}{_fix(expected, value)}"


def _fix(expected: str, value: Any) -> str:
    if expected == "text" and isinstance(value, bool | int | float):
        return f': write "{shown(value)}" in quotes'
    if expected == "a list" and isinstance(value, str | int | float) and not isinstance(value, bool):
        return f": write [{shorten(value, _LONGEST_SHOWN) if isinstance(value, str) else shown(value)}]"
    if isinstance(value, str) and _reads_as(expected, value):
        return f": write {shorten(value, _LONGEST_SHOWN)} without quotes"
    if expected == "a whole number" and isinstance(value, float) and value.is_integer() and abs(value) <= MOST_WHOLE:
        return f": write {int(value)}"
    return ""


def _reads_as(expected: str, text: str) -> bool:
    """Return whether a text would be of the expected type if it were not in quotes."""
    if expected == "true or false":
        return text in ("true", "false")
    try:
        return expected in ("a number", "a whole number") and isfinite(
            float(text) if expected == "a number" else int(text)
        )
    except (ValueError, OverflowError):
        return False
