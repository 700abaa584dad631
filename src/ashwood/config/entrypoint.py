"""``entrypoint``: a function of a module, a function of a file, or a command with placeholders."""

from __future__ import annotations

import keyword
import re
import shlex
from typing import Any

from ashwood.config.hyperparameters import HYPERPARAMETERS, names
from ashwood.config.kinds import Kind, list_of, text
from ashwood.config.report import Report
from ashwood.config.wording import Path, must_be, shorten, shown
from ashwood.errors import nearest
from ashwood.experiment.placeholders import OTHERS, PLACEHOLDER
from ashwood.experiment.spec import Entrypoint, EntrypointKind
from ashwood.search.space import Tree

ENTRYPOINT_FORMS = 'module:function, path/file.py:function, or a command such as "python train.py --lr {lr}"'

_LONGEST = 60
_OTHER_LAUNCHER = re.compile(r"determined\.launch\.(?!torch_distributed\b|wrap_rank\b)(\w+)")
_WORDS = list_of(text(empty=True), least=1)


def _parse(value: Any) -> Entrypoint:
    """Return the entry point that a text describes; see `Kind` for errors."""
    if not isinstance(value, str):
        raise ValueError(f"{must_be('text or a list', value)}: {ENTRYPOINT_FORMS}")
    words, name = value.strip(), shorten(value.strip(), _LONGEST)
    if not words:
        raise ValueError(f"must not be empty: {ENTRYPOINT_FORMS}")
    if len(words.split()) > 1:
        return Entrypoint(EntrypointKind.COMMAND, words)
    if ":" in words:
        return _parse_reference(words)
    if words.endswith(".py") and not words.startswith("./"):
        raise ValueError(f"{name} is a file: write {name}:function, or the command python {name}")
    if "/" in words or words.endswith(".sh"):
        return Entrypoint(EntrypointKind.COMMAND, words)
    forms = f"write {name}:function, or a command such as python -m {name}"
    raise ValueError(f"{shown(words)} is neither a function nor a command: {forms}")


def _parse_reference(words: str) -> Entrypoint:
    """Return the entry point ``module:function`` or ``path/file.py:function``."""
    place, _, function = words.rpartition(":")
    if not _is_name(function):
        example = f"{shorten(place, _LONGEST) or 'module'}:train"
        where = f"it must be at the top level of its module, as in {example}"
        raise ValueError(f"{shown(function)} can't be the name of a function: {where}")
    if place.endswith(".py") and place != ".py":
        return Entrypoint(EntrypointKind.SCRIPT, words)
    if all(_is_name(part) for part in place.split(".")):
        return Entrypoint(EntrypointKind.FUNCTION, words)
    file = f"{shorten(place, _LONGEST)}.py:{shorten(function, _LONGEST)}"
    raise ValueError(f"{shown(place)} can't be the name of a module{f'; for a file write {file}' * ('/' in place)}")


def _is_name(text: str) -> bool:
    return text.isidentifier() and not keyword.iskeyword(text)


def _read(value: Any, path: Path, report: Report) -> Any:
    if isinstance(value, Entrypoint):
        return value
    if not isinstance(value, list) or not value:
        return _parse("" if value == [] else value)
    words = _WORDS.read(value, path, report)
    return None if words is None else Entrypoint(EntrypointKind.COMMAND, " ".join(_quoted(word) for word in words))


ENTRYPOINT = Kind({"anyOf": [{"type": "string"}, _WORDS.schema]}, _read)


def _quoted(word: str) -> str:
    """Quote a word for the shell, except its placeholders: each value is quoted when it is filled in."""
    if not PLACEHOLDER.search(word):
        return shlex.quote(word)
    pieces = PLACEHOLDER.split(word)  # Literals and names alternate: literal, name, literal, …, literal.
    return "".join(f"{{{piece}}}" if odd % 2 else piece and shlex.quote(piece) for odd, piece in enumerate(pieces))


def check_entrypoint(entrypoint: Entrypoint, tree: Tree, report: Report) -> None:
    """Report placeholders that are not hyperparameters of every trial, and warn of code for Determined."""
    target, path = entrypoint.target, ("entrypoint",)
    if entrypoint.kind is not EntrypointKind.COMMAND:
        return
    for launcher in _OTHER_LAUNCHER.findall(target):
        instead = "use determined.launch.torch_distributed or torchrun"
        report.warn(path, f"determined.launch.{launcher} is part of Determined, not of Ashwood: {instead}")
    known = dict.fromkeys(names(tree))
    always = set(names(tree, always=True))
    for name in dict.fromkeys(PLACEHOLDER.findall(target)):
        if report.is_full:
            return
        if name not in known and name not in OTHERS and not report.known_bad((*HYPERPARAMETERS, *name.split("."))):
            close = nearest(name, [*known, *OTHERS])
            there = shorten(", ".join(known)) or "none"
            hint = f"did you mean {{{shorten(close, _LONGEST)}}}?" if close else f"the hyperparameters are: {there}"
            report.error(path, f"{{{shorten(name, _LONGEST)}}} is not the name of a hyperparameter; {hint}")
        elif name in known and name not in always:
            words = f"{{{shorten(name, _LONGEST)}}} has no value in trials for which its condition is not true"
            report.error(path, f"{words}: use {{args}}, or read trial.hparams")
