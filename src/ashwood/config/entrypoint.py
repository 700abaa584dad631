"""Reads ``entrypoint``: a function of a module, a function of a file, or a command with placeholders."""

from __future__ import annotations

import keyword
import shlex
from collections.abc import Sequence
from typing import Any

from ashwood.config.checking import must_be
from ashwood.config.hyperparameters import HYPERPARAMETERS, names
from ashwood.config.report import Report
from ashwood.config.wording import Path, nearest, shorten, shown
from ashwood.experiment.placeholders import OTHERS, PLACEHOLDER
from ashwood.experiment.spec import Entrypoint, EntrypointKind
from ashwood.search.space import Tree

ENTRYPOINT: Path = ("entrypoint",)

_LONGEST_TEXT = 60
_FORMS = 'module:function, path/file.py:function, or a command such as "python train.py --lr {lr}"'


def read_entrypoint(value: Any, tree: Tree, report: Report) -> Entrypoint | None:
    """Return the training code, or None if it is wrong, which is reported."""
    if isinstance(value, Entrypoint):
        entrypoint: Entrypoint | None = value
    elif value is None:
        if not report.known_bad(ENTRYPOINT):
            report.error(ENTRYPOINT, f"is missing: the training code, {_FORMS}")
        return None
    elif isinstance(value, str):
        entrypoint = _from_text(value.strip(), report)
    elif isinstance(value, list):
        entrypoint = _from_words(value, report)
    else:
        report.error(ENTRYPOINT, f"{must_be('text or a list', value)}: {_FORMS}")
        return None
    if entrypoint is not None and entrypoint.kind is EntrypointKind.COMMAND:
        _check_placeholders(entrypoint.target, tree, report)
    return entrypoint


def _from_text(text: str, report: Report) -> Entrypoint | None:
    words = text.split()
    if not words:
        report.error(ENTRYPOINT, f"must not be empty: {_FORMS}")
    elif len(words) > 1:
        _warn_of_launcher(text, report)
        return Entrypoint(EntrypointKind.COMMAND, text)
    elif ":" in text:
        return _from_reference(text, report)
    elif text.endswith(".py"):
        file = shorten(text, _LONGEST_TEXT)
        report.error(ENTRYPOINT, f"{file} is a file: write {file}:function, or the command python {file}")
    elif "/" in text or text.endswith(".sh"):
        return Entrypoint(EntrypointKind.COMMAND, text)
    else:
        module = shorten(text, _LONGEST_TEXT)
        report.error(
            ENTRYPOINT,
            f"{shown(text)} is neither a function nor a command: write {module}:function, or "
            f"a command such as python -m {module}",
        )
    return None


def _from_reference(text: str, report: Report) -> Entrypoint | None:
    """Read ``module:function`` or ``path/file.py:function``."""
    place, _, function = text.rpartition(":")
    if not _is_name(function):
        report.error(
            ENTRYPOINT,
            f"{shown(function)} can't be the name of a function: it must be at the top level of its module, as "
            f"in {shorten(place, _LONGEST_TEXT) or 'module'}:train",
        )
    elif place.endswith(".py") and (place != ".py"):
        return Entrypoint(EntrypointKind.SCRIPT, text)
    elif place and all(_is_name(part) for part in place.split(".")):
        _warn_of_trial_class(function, report)
        return Entrypoint(EntrypointKind.FUNCTION, text)
    else:
        file = f"{shorten(place, _LONGEST_TEXT)}.py:{shorten(function, _LONGEST_TEXT)}"
        fix = f"; for a file write {file}" if "/" in place else ""
        report.error(ENTRYPOINT, f"{shown(place)} can't be the name of a module{fix}")
    return None


def _from_words(words: Sequence[Any], report: Report) -> Entrypoint | None:
    if not words:
        report.error(ENTRYPOINT, f"must not be empty: {_FORMS}")
        return None
    wrong = [position for position, word in enumerate(words) if not isinstance(word, str)]
    for position in wrong:
        report.error((*ENTRYPOINT, position), must_be("text", words[position]))
    if wrong:
        return None
    command = " ".join(_quoted(word) for word in words)
    _warn_of_launcher(command, report)
    return Entrypoint(EntrypointKind.COMMAND, command)


def _quoted(word: str) -> str:
    """Quote a word for the shell, except its placeholders: each value is quoted when it is filled in."""
    if not PLACEHOLDER.search(word):
        return shlex.quote(word)
    pieces = PLACEHOLDER.split(word)  # Literals and names alternate: literal, name, literal, …, literal.
    return "".join(f"{{{piece}}}" if odd % 2 else piece and shlex.quote(piece) for odd, piece in enumerate(pieces))


def _is_name(text: str) -> bool:
    return text.isidentifier() and not keyword.iskeyword(text)


def _check_placeholders(command: str, tree: Tree, report: Report) -> None:
    known = dict.fromkeys(names(tree))
    for name in dict.fromkeys(PLACEHOLDER.findall(command)):
        if report.is_full:
            return
        if name not in known and name not in OTHERS and not report.known_bad((*HYPERPARAMETERS, *name.split("."))):
            close = nearest(name, {**known, **dict.fromkeys(OTHERS)})
            there = shorten(", ".join(known)) or "none"
            hint = f"did you mean {{{shorten(close, _LONGEST_TEXT)}}}?" if close else f"there are {there}"
            report.error(ENTRYPOINT, f"{{{shorten(name, _LONGEST_TEXT)}}} names no hyperparameter; {hint}")


def _warn_of_trial_class(function: str, report: Report) -> None:
    if function[:1].isupper() and function.endswith("Trial"):
        report.warn(
            ENTRYPOINT,
            f"Ashwood calls {shorten(function)}(trial) as a function; a Trial class of Determined must become one",
        )


def _warn_of_launcher(command: str, report: Report) -> None:
    if "determined.launch" in command:
        report.warn(
            ENTRYPOINT,
            "determined.launch is part of Determined, not of Ashwood: name the training script itself, or torchrun",
        )
