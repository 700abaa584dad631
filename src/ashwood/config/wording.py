"""How values, keys and suggestions are put in words, the same in every message."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, TypeAlias

Path: TypeAlias = tuple[str | int, ...]
"""Where something is in the file: names of keys and positions in lists."""

_LONGEST = 200
_LONGEST_SHOWN = 60
_NOT_FINITE = {"nan": ".nan", "inf": ".inf", "-inf": "-.inf"}
_EXACT = 1e15  # floats below this show every digit of a whole number
_SHORT = 4  # one slip in a short word is much of it: lgo is log
_TELLING = 3  # so many letters say which word is meant: min is minval, seed is experiment_seed


def shorten(text: str, longest: int = _LONGEST) -> str:
    """A user's text for a message: on one line, and at most ``longest`` characters with … in place of the rest."""
    cut = text if len(text) <= longest else text[: longest - 1] + "…"
    return cut.replace("\n", " ")


def dotted(path: Path) -> str:
    """A path as people write it, cut if it is long: ``searcher.bracket_rungs[1]``."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return shorten(text.removeprefix("."))


def shown(value: Any) -> str:
    """A value as it would stand in the file, cut if it is long."""
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
    """A number without the ``.0`` that reading gave it."""
    return str(int(value)) if value % 1 == 0 and abs(value) < _EXACT else repr(value)


def counted(count: int, noun: str) -> str:
    """``1 rung``, ``3 rungs``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def any_of(words: Iterable[str]) -> str:
    """``a, b or c``."""
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last


def all_of(words: Iterable[str]) -> str:
    """``a, b and c``."""
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was most likely meant; None where none is close."""
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
    """That a value is none of the known words, and which was probably meant."""
    close = nearest(value, known) if isinstance(value, str) else None
    question = f"; did you mean {shown(close)}?" if close else ""
    return f"{shown(value)} isn't {what} ({any_of(known)}){question}"


def _plain(word: str) -> str:
    """So that maxTrials, max-trials and MAX_TRIALS are all close to max_trials."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", word).lower().replace("-", "_").replace(" ", "_")
