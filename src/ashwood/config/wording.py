"""Formats values, keys and suggestions for messages."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, TypeAlias

Path: TypeAlias = tuple[str | int, ...]
"""The position of a value in the file: names of keys and indices of list items."""

_LONGEST = 200
_LONGEST_SHOWN = 60
_NOT_FINITE = {"nan": ".nan", "inf": ".inf", "-inf": "-.inf"}
_EXACT = 1e15  # Floats below this represent every digit of a whole number.
_SHORT = 4  # Words up to this length need less similarity: one wrong letter is a large part of lgo (log).
_TELLING = 3  # Least length of a beginning or end that can mean a longer word: min means minval.


def shorten(text: str, longest: int = _LONGEST) -> str:
    """Return a user's text on one line, and with … in place of the rest if it has more than ``longest`` characters."""
    cut = text if len(text) <= longest else text[: longest - 1] + "…"
    return cut.replace("\n", " ")


def dotted(path: Path) -> str:
    """Return a path as users write it, shortened if it is long: ``searcher.bracket_rungs[1]``."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return shorten(text.removeprefix("."))


def shown(value: Any) -> str:
    """Return a value as it is written in a file, shortened if it is long."""
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


def any_of(words: Iterable[str]) -> str:
    """Return words joined as ``a, b or c``."""
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last


def all_of(words: Iterable[str]) -> str:
    """Return words joined as ``a, b and c``."""
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that the user most likely meant, or None if no word is similar."""
    by_plain_form = {_plain(name): name for name in known}
    plain = _plain(word)
    if close := get_close_matches(plain, by_plain_form, n=1, cutoff=0.6 if len(plain) <= _SHORT else 0.7):
        return by_plain_form[close[0]]
    longer = [
        name
        for form, name in by_plain_form.items()
        if len(plain) >= _TELLING and plain in (form[: len(plain)], form[-len(plain) :])
    ]
    return longer[0] if len(longer) == 1 else None


def not_one_of(value: Any, known: Sequence[str], what: str) -> str:
    """Return a message that a value is not one of the known words, with the word that was probably meant."""
    close = nearest(value, known) if isinstance(value, str) else None
    question = f"; did you mean {shown(close)}?" if close else ""
    return f"{shown(value)} isn't {what} ({any_of(known)}){question}"


def _plain(word: str) -> str:
    """Return a name in lower case with underscores, so that maxTrials and MAX-TRIALS equal max_trials."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", word).lower().replace("-", "_").replace(" ", "_")
